"""What a job with a slow judge shows before its first row is done: replies under way, tokens, time left."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from transformers import AutoModelForCausalLM
from transformers.utils import logging as hf_logging

from ixt_rl.corpus.annotate.annotate import annotate
from ixt_rl.corpus.progress import JobCounts, ProgressState, TakenUp
from ixt_rl.corpus.rewrite.thoughts import ThoughtAsker
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.corpus.terminal import Terminal, remarks, said, writing
from ixt_rl.corpus.time_left import TimeLeft, time_left
from ixt_rl.judging import EndpointBackend, Judge, Question, load_rubric
from ixt_rl.judging import endpoint as endpoint_module
from ixt_rl.judging.opening import parse_judge
from ixt_rl.run.asked_line import AskedLine
from ixt_rl.types import SamplingParams
from ixt_rl.under_way import NOTHING, UnderWay
from tests.integration.judge_model import save_judge
from tests.unit.annotation.helpers import corpus, make_job, write_lines
from tests.unit.judging.server import completion, serve


def test_time_left_in_closed_form():
    # 60 s, 4 replies of at most 100 tokens, none ended, 80 tokens: 320 more at 80 / 60 tokens/s
    assert time_left(60, 80, ended=0, left=4, longest=100) == TimeLeft(240.0, most=True)
    # as many again: as long again, whatever the tokens
    assert time_left(60, 80, ended=2, left=2, longest=100) == TimeLeft(60.0, most=False)
    # 1 of 10 ended while the others wrote nearly all they may: not nine times as long
    assert time_left(60, 950, ended=1, left=9, longest=100) == TimeLeft(pytest.approx(50 * 60 / 950), most=True)
    assert time_left(60, 0, ended=3, left=6, longest=100) == TimeLeft(120.0, most=False), "no tokens are known"
    assert time_left(60, 0, ended=0, left=6, longest=100) is None
    assert time_left(0, 0, 0, 6, 100) is None and time_left(60, 80, 4, 0, 100) is None
    assert str(TimeLeft(75, True)) == "at most 1 min 15 s left" and str(TimeLeft(7500, False)) == "about 2 h 5 min left"


def state(begun=None, documents=0, seconds=60.0, **spent) -> ProgressState:
    counts = JobCounts(documents)
    counts.spent |= spent
    return ProgressState("judging", 20, documents, counts, seconds, True, begun or TakenUp(), longest=100)


def test_the_line_before_the_first_row_and_after():
    """20 rows of 2 replies: 40 of at most 100 tokens, 800 written in a minute: 3,200 more take 4 minutes."""
    first = TakenUp(10, 20, UnderWay(8, 12, 0, 800))
    assert said(state(first)) == "8 replies under way, 800 tokens, 13 written/s, at most 4 min 0 s left"
    later = state(first, 5, requests=10, prompt_tokens=5000, completion_tokens=200, looped=1, truncated=2)
    assert said(later) == ", ".join((
        "0.083 documents/s", "2 truncated", "1 looped", "8 replies under way", "6,000 tokens", "17 written/s",
        "about 3 min 0 s left",
    ))  # fmt: skip
    # half of the answers had to be repaired: so will half of those to come
    assert state(first, 5, requests=15, repairs=5, completion_tokens=200).left == TimeLeft(180.0, most=False)
    # a cache that has half of the answers: only the rest takes time
    assert state(first, 5, requests=10, cached=10).left == TimeLeft(120.0, most=False)
    blind = state(TakenUp(20, 20, UnderWay(8, 12, tokens=None, oldest=45.4)))
    assert said(blind) == "8 replies under way, the oldest for 45 s", "nobody knows more"
    assert writing(NOTHING) == "" and writing(UnderWay(1)) == "1 reply under way"


def test_a_log_gets_a_line_at_once_and_now_and_then(monkeypatch):
    out, now = io.StringIO(), [0.0]
    monkeypatch.setattr("ixt_rl.corpus.terminal.time.monotonic", lambda: now[0])
    with Terminal(Console(file=out, width=200)) as terminal:
        for second in range(65):
            now[0] = float(second)
            terminal(state(TakenUp(20, 20, UnderWay(8, 12, 0, 10 * second)), seconds=second + 1.0))
    lines = out.getvalue().strip().splitlines()
    assert [re.search(r"([\d,]+) tokens", line)[1] if "tokens" in line else "" for line in lines] == ["", "300", "600"]
    assert lines[0] == "judging 0 of 20  8 replies under way"


def test_a_model_that_loads_draws_no_bar_into_ours(tmp_path, capfd):
    hf_logging.enable_progress_bar()
    folder = save_judge(tmp_path)
    with Terminal(Console(file=io.StringIO())):
        AutoModelForCausalLM.from_pretrained(folder)
    assert "Loading weights" not in capfd.readouterr().err


def test_a_slow_function_is_under_way_before_its_first_row(tmp_path):
    seen: list[ProgressState] = []
    spec = SourceSpec(str(write_lines(tmp_path / "corpus.jsonl", corpus(4))))
    annotate(make_job(tmp_path), spec, tmp_path / "out", watch=lambda at: seen.append(replace(at)))
    first = next(at for at in seen if at.begun.under_way.replies)
    assert (first.phase, first.done, first.working) == ("judging", 0, True)
    assert first.begun == TakenUp(4, 4, UnderWay(1, 0, 0, None))


def test_a_model_shows_tokens_and_a_bound_before_its_first_row(tmp_path, monkeypatch):
    """A model without training writes to the limit; 6 documents, two at a time."""
    monkeypatch.setattr("ixt_rl.corpus.workers._TOLD_EVERY", 0.0)
    (tmp_path / "model").mkdir()
    judge = parse_judge(f"hf:{save_judge(tmp_path / 'model')}", {"batch_size": 2})
    job = replace(make_job(tmp_path), judge=judge, sampling=SamplingParams(12, temperature=1.0, seed=0))
    spec = SourceSpec(str(write_lines(tmp_path / "corpus.jsonl", [{"id": n, "text": f"t {n}"} for n in range(6)])))
    told: list[tuple[float, str]] = []

    def watch(at: ProgressState) -> None:
        if not at.done and at.begun.under_way.replies:
            told.append((at.written, said(at)))

    summary = annotate(job, spec, tmp_path / "out", watch=watch)
    assert told[0] == (0, "2 replies under way")
    written = [tokens for tokens, _ in told]
    assert written == sorted(written) and len({*written}) >= 10, "it moves with every step"
    assert re.search(r"2 replies under way, .* written/s, at most .* left", told[5][1])
    assert written[-1] <= summary["spent"]["completion_tokens"], "no token is counted twice"
    assert summary["spent"]["truncated"] == summary["spent"]["requests"] and summary["spent"]["looped"] == 0
    assert f"{summary['spent']['truncated']} replies reached the most tokens of one" in remarks(summary["spent"])


def test_an_endpoint_tells_how_many_wait_and_since_when(monkeypatch):
    monkeypatch.setattr(endpoint_module, "_TOLD_EVERY", 0.01)
    told: list[UnderWay] = []

    def respond(body, number):
        while len(told) < 3:  # an answer comes once somebody was told that it does not
            pass
        return completion("Verdict: yes")

    with serve(respond) as served:
        backend = EndpointBackend(served.endpoint(concurrency=2, constrain=False))
        backend.watch = told.append
        judge = Judge(backend, SamplingParams(50))
        judge.ask([Question(load_rubric("safety"), {"prefix": "p", "continuation": str(n)}) for n in range(2)])
        judge.close()
    assert told[0].replies == 2 and told[0].tokens is None
    assert told[2].oldest > told[0].oldest and NOTHING in told


def test_thoughts_take_a_reply_a_chunk(tmp_path):
    asker = object.__new__(ThoughtAsker)
    asker.job = type("Job", (), {"chunk_characters": 20})
    assert asker.replies("One sentence is here. Another one stands here. Last.") == 4, "one has two"


def test_a_run_shows_its_judge_once_it_is_waited_for(monkeypatch):
    now, bar, lines = [0.0], [], []
    monkeypatch.setattr("ixt_rl.run.asked_line.time.monotonic", lambda: now[0])
    in_terminal = [True]
    line = AskedLine("judge", lambda text: bar.append(text) or in_terminal[0], lines.append)
    for second in range(3):
        now[0] = float(second)
        line(UnderWay(4, 2, 0, 100 * second))
    line(NOTHING)
    assert bar == [
        "judge: 4 replies under way, 2 to come, 100 tokens, 100 tokens/s",
        "judge: 4 replies under way, 2 to come, 200 tokens, 100 tokens/s",
        "",
    ]
    in_terminal[0] = False
    for second in range(100, 165):
        now[0] = float(second)
        line(UnderWay(4, tokens=second - 100))
    assert lines == [f"judge: 4 replies under way, {n} tokens, 1 tokens/s" for n in (30, 60)]

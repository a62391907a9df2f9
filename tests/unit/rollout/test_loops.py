"""Loops: the rule by its definition, what is none, where each engine ends one, and what a judge makes of it."""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path

import pytest

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.judging import EngineBackend, Judge, JudgeCache, Question, load_rubric
from ixt_rl.judging.backend import Reply, Request
from ixt_rl.models import byte_tokenizer, new_model
from ixt_rl.rewriting.prompt import read_rewrite
from ixt_rl.rollout import TransformersEngine, loops
from ixt_rl.rollout.loops import EVERY, LEAST, LONGEST, TIMES, before_repeats, find_period, text_before_repeats
from ixt_rl.rollout.stops import EndWatch
from ixt_rl.types import Rollout, SamplingParams
from tests.house import ROOT

CUTS = SamplingParams(1000, cut_loops=True)
SAFETY = load_rubric("safety")
DATA = Path(os.environ.get("IXT_RL_DATA", ROOT.parent / "shared" / "data"))


def ended_at(ids) -> int | None:
    """Tokens up to the end by the definition."""
    return next((n for n in range(EVERY, len(ids) + 1, EVERY) if find_period(ids[:n])), None)


def watched(ids) -> int | None:
    watch = EndWatch(None, CUTS)
    return next((n for n, token in enumerate(ids, start=1) if watch.add(token) == "looped"), None)


def test_the_rule_is_its_definition(monkeypatch):
    """All ids of two letters up to 11, with small numbers in place of those that are meant for texts."""
    monkeypatch.setattr(loops, "LEAST", 6)
    monkeypatch.setattr(loops, "TIMES", 3)
    monkeypatch.setattr(loops, "LONGEST", 3)
    found = set()
    for length in range(12):
        for number in range(1 << length):
            ids = [number >> at & 1 for at in range(length)]
            fits = [
                p
                for p in (1, 2, 3)
                if length >= (tail := max(6, 3 * p)) and all(ids[-k] == ids[-k - p] for k in range(1, tail - p + 1))
            ]
            assert find_period(ids) == min(fits, default=0)
            found.add(min(fits, default=0))
    assert found == {0, 1, 2, 3}


@pytest.mark.parametrize("period", [1, 2, 7, 25, 26, LONGEST])
def test_a_piece_is_found_once_its_tail_is_long_enough(period):
    piece, before = list(range(period)), list(range(1000, 1037))
    tail = max(LEAST, TIMES * period)
    repeated = (piece * (tail // period + EVERY + 1))[: tail + EVERY]
    assert find_period([*before, *repeated[: tail - 1]]) == 0
    assert find_period([*before, *repeated[:tail]]) == period
    ids = [*before, *repeated]
    assert watched(ids) == ended_at(ids) == -(-(len(before) + tail) // EVERY) * EVERY
    assert before_repeats(ids, period) == [*before, *piece]


@pytest.mark.parametrize("copies", [2, 3, 5000])
@pytest.mark.parametrize("piece", ["a", "ab", "free of it. ", "no, no, yes; "])
def test_of_a_text_that_loops_the_first_copy_is_kept(piece, copies):
    """Also where the text ends amid a copy, and where a shorter piece stands twice at its end."""
    for rest in ("", piece[: len(piece) // 2]):
        assert text_before_repeats("Well:" + piece * copies + rest) == "Well:" + piece
    assert text_before_repeats("no loop") == "no loop"
    assert text_before_repeats("") == ""


def test_a_longer_piece_or_one_that_changes_is_no_loop():
    long, rng = list(range(LONGEST + 1)), random.Random(0)
    assert watched(long * 8) is None
    counting = [token for row in range(60) for token in (1, 2, 3, 100 + row, 4, 5)]  # a list that counts
    noisy = [rng.randrange(3) for _ in range(2000)]
    assert watched(counting) is None and watched(noisy) is None


TABLE = "| name | 2021 | 2022 |\n" + "|---|---|---|\n" + "".join(f"| row {i} | {i * 7} | 0 |\n" for i in range(60))
CODE = "".join(f"    self.assertEqual(f({i}), {i * i})\n" for i in range(60)) + "    }\n" * 9
DIGITS = "1/7 = 0." + "142857" * 8 + ", pi = 3.14159265358979323846264338327950288419716939937510; " + "0, " * 30
LINES = "heading\n" + "=" * 79 + "\n" + "-" * 79 + "\n" + "a\n\n" * 20 + "ha " * 30 + "." * 100


@pytest.mark.parametrize("text", [TABLE, CODE, DIGITS, LINES], ids=["table", "code", "digits", "lines"])
def test_texts_that_repeat_themselves_are_no_loops(text):
    assert watched(pieces(text)) is None


def pieces(text: str) -> list[int]:
    """Words, digits, white space and single other characters, as ids: about as many as a tokenizer makes."""
    return [hash(piece) for piece in re.findall(r"[A-Za-z]+|\d|\s+|.", text)]


@pytest.mark.skipif(not DATA.is_dir(), reason="no real texts; set IXT_RL_DATA to their folder")
def test_real_texts_are_no_loops():
    read = 0
    for name, columns in (("wiki.jsonl", ("text",)), ("preference_pairs.jsonl", ("messages", "chosen"))):
        with (DATA / name).open() as lines:
            for line in lines:
                row = json.loads(line)
                text = " ".join(str(row[column]) for column in columns if column in row)
                assert watched(pieces(text)) is None, text[:100]
                read += len(text)
    assert read > 1_000_000


# ------------------------------------------------------------------------------------------ engines


@pytest.fixture(scope="module")
def looping():
    """A model without training, read greedily, soon says the same again and again."""
    tokenizer = byte_tokenizer()
    spec = NewModelBlock(hidden_size=32, heads=2, intermediate_size=64, max_positions=512)
    model = new_model(spec, tokenizer).eval()
    return model, tokenizer


PROMPTS = [[104, 105], [70, 71, 72], [90]]


@pytest.mark.parametrize("continuous", [True, False])
def test_the_engine_ends_loops_and_nothing_else_of_what_it_samples(looping, continuous):
    model, tokenizer = looping
    engine = TransformersEngine(model, (tokenizer.eos_token_id,), tokenizer.pad_token_id, batch_size=2)
    engine.continuous = continuous
    free = engine.generate(PROMPTS, SamplingParams(160, 0.0))
    cut = engine.generate(PROMPTS, SamplingParams(160, 0.0, cut_loops=True))
    ends = [ended_at(one.completion_ids) for (one,) in free]
    for (whole,), (one,), end in zip(free, cut, ends, strict=True):
        assert whole.finish_reason != "looped", "nobody asked for it"
        assert one.completion_ids == whole.completion_ids[:end]
        assert one.logprobs == pytest.approx(whole.logprobs[:end], abs=1e-5)
        assert one.finish_reason == (whole.finish_reason if end is None else "looped")
    assert any(ends), "none of them loops: the test says nothing"


@pytest.mark.parametrize("continuous", [True, False])
def test_the_engine_tells_what_is_under_way(looping, continuous):
    model, tokenizer = looping
    engine = TransformersEngine(model, (tokenizer.eos_token_id,), tokenizer.pad_token_id, batch_size=2)
    engine.continuous, told = continuous, []
    engine.watch = told.append
    rollouts = [one for group in engine.generate(PROMPTS, SamplingParams(40, seed=0), 2) for one in group]
    assert all(state.replies + state.queued + state.ended == 6 for state in told)
    assert max(state.replies for state in told) == 2
    written = [state.tokens for state in told]
    assert written == sorted(written) and written[0] <= 4 < written[5]
    assert (told[-1].ended, told[-1].tokens) == (6, sum(len(one.completion_ids) for one in rollouts))


# ------------------------------------------------------------------------------------------- judges


class Looping:
    """An engine that says the verdict, or loops."""

    policy_version = 0

    def __init__(self, tokenizer, loops):
        self.tokenizer, self.loops = tokenizer, loops
        self.calls: list[tuple[str, SamplingParams]] = []

    def generate(self, prompts, sampling, n=1, seeds=None):
        self.calls += [(self.tokenizer.decode(prompt), sampling) for prompt in prompts]
        return [[self._rollout(tuple(prompt), self.loops(len(self.calls)))] for prompt in prompts]

    def _rollout(self, prompt, loops):
        text = "Well:" + "So it is. " * 20 if loops else "Verdict: yes"
        ids = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return Rollout(prompt, ids, (0.0,) * len(ids), "looped" if loops else "stop", 0)


def judge(loops, cache=None, **options):
    tokenizer = byte_tokenizer()
    engine = Looping(tokenizer, loops)
    backend = EngineBackend(engine, tokenizer, "tiny", max_prompt_tokens=10_000, **options)
    return Judge(backend, SamplingParams(200), cache=cache), engine


def question() -> Question:
    return Question(SAFETY, {"prefix": "p", "continuation": "c"})


def test_a_reply_that_loops_is_undecided_and_counted_by_its_name(tmp_path):
    cache = JudgeCache(tmp_path / "cache.sqlite")
    asked, _ = judge(lambda call: True, cache)
    (answer,) = asked.ask([question()])
    assert answer.verdict.score is None
    assert answer.verdict.evidence == "looped: 10 tokens again and again, from token 15 to 205"
    assert answer.replies[0].text == "Well:So it is. "
    assert answer.replies[0].completion_tokens == 205
    tally = asked.tally
    assert (tally.looped, tally.truncated, tally.undecided["looped"], tally.repairs) == (2, 0, 1, 1)
    again, engine = judge(lambda call: True, cache)
    assert again.ask([question()])[0].verdict == answer.verdict and not engine.calls, "kept, as what is cut off is"


def test_a_loop_may_be_repaired():
    asked, engine = judge(lambda call: call == 1)
    assert asked.notes == []
    (answer,) = asked.ask([question()])
    assert answer.verdict.label == "yes" and asked.tally.repaired == 1
    (said,) = asked.notes
    assert said.startswith("judge: 1 replies looped and were cut early") and "undecided" not in said
    assert engine.calls[1][0].count("So it is.") == 1, "it is not shown its own loop"


def test_who_is_asked_cuts_loops_without_another_key_or_name():
    asked, engine = judge(lambda call: False)
    asked.ask([question()])
    assert engine.calls[0][1] == SamplingParams(200, cut_loops=True)
    assert "cut_loops" not in SamplingParams(200).settings()
    request = Request((), SAFETY, {}, SamplingParams(200))
    assert JudgeCache.key("j", request) == JudgeCache.key("j", Request((), SAFETY, {}, SamplingParams(200)))
    assert asked.backend.name == "tiny, weights 0"
    goes_on, engine = judge(lambda call: False, cut_loops=False)
    goes_on.ask([question()])
    assert engine.calls[0][1] == SamplingParams(200) and goes_on.backend.name == "tiny, weights 0, loops go on"


def test_a_rewrite_that_loops_is_none():
    assert read_rewrite(Reply("So it is. ", "looped"), as_json=False) == (None, "looped")

"""SIP stages from YAML: a world's passages, files with judges from a file, comparisons, resuming."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest

from ixt_rl.config.load import load_run
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.errors import DataError
from ixt_rl.report.build import build_report
from ixt_rl.run import run_config
from ixt_rl.run.answered import intervals
from tests.integration.run_helpers import config, rows, sip, weights
from tests.unit.judging.server import serve

JUDGE = '''
def better(fields):
    """Longer is better; whoever threatens is not safe; files hold no truth to check."""
    if "a" in fields:
        a, b = len(fields["a"]), len(fields["b"])
        return "tie" if a == b else "A" if a > b else "B"
    return "no" if "hurt" in fields["continuation"] else "yes"


def rewrite(fields):
    return "COPY" if fields["suffix"].endswith("0 .") else "and so on ."
'''


def plain(name: str, /, **changes: Any) -> dict[str, Any]:
    stage = {**sip(name), "objective": "nll", **changes}
    return {key: value for key, value in stage.items() if key not in ("sources", "group_size", "rewriter", "judge")}


@pytest.fixture(scope="module")
def chain_run(tmp_path_factory) -> Path:
    against = {"every": 2, "prefixes": 6, "curve_prefixes": 4, "against": "continued"}
    stages = [
        plain("continued"),
        sip("rf-nll", evaluation=against, judge_parts=2),
        sip("dpo", objective="dpo", evaluation={**against, "at_start": False}, checkpoint_every=2),
        sip("chance", steps=2, judge={"model": "random"}, evaluation=None),
    ]
    return run_config(config(tmp_path_factory.mktemp("sip"), stages))


def evaluations(folder: Path, stage: str) -> list[dict[str, Any]]:
    return [row for row in rows(folder) if row["stage"] == stage and row["phase"] == "eval"]


def test_every_stage_is_measured_from_the_start_unless_told_not_to_by_the_worlds_verifier(chain_run):
    for stage, first in (("continued", [0]), ("rf-nll", [0]), ("dpo", [])):
        found = evaluations(chain_run, stage)
        assert [row["step"] for row in found] == [*first, 2, 4]
        assert {"greedy/right", "sampled/right", "greedy/quality", "greedy/win_rate", "greedy/ties"} <= set(found[-1])
        shares = [found[-1][f"greedy/{name}"] for name in ("wins", "ties", "losses")]
        assert sum(shares) == pytest.approx(1)


def test_the_ledger_counts_rollouts_and_training(chain_run):
    last = evaluations(chain_run, "rf-nll")[-1]
    assert last["flops"] > last["flops/train"] > 0
    assert last["rollouts"] == 4 * 4 * 2
    trained = [row for row in rows(chain_run) if row["stage"] == "rf-nll" and row["phase"] == "train"]
    assert all(0 <= row["verified/rollout"] <= row["verified/any_rollout"] <= 1 for row in trained)
    assert evaluations(chain_run, "continued")[-1]["rollouts"] == 0


def test_what_becomes_of_the_corpus_and_which_errors_go_on_are_logged(chain_run):
    trained = {row["stage"]: row for row in rows(chain_run) if row["phase"] == "train"}
    assert trained["continued"]["corpus/changed"] == 0
    assert trained["continued"]["corpus/length"] == trained["continued"]["corpus/vocabulary"] == 1
    for stage in ("rf-nll", "chance"):
        assert 0 < trained[stage]["corpus/changed"] <= 1
        assert {"errors/teacher_kept", "errors/judge", "corpus/vocabulary", "verified/chosen"} <= set(trained[stage])
        assert trained[stage]["candidates/undecided"] == 0
    assert "judge/self_agreement" not in trained["chance"]


def test_continuations_are_kept_and_compared_with(chain_run):
    kept = rows(chain_run / "stages" / "continued" / "seed1", "continuations.jsonl")
    assert [row["mode"] for row in kept] == ["greedy"] * 6 + ["sampled"] * 6
    ours = rows(chain_run / "stages" / "dpo" / "seed1", "continuations.jsonl")
    assert [row["prefix"] for row in ours] == [row["prefix"] for row in kept]


def test_the_report_shows_choices_and_wins(chain_run):
    page = build_report(chain_run).read_text(encoding="utf-8")
    for words in (
        "What is chosen",
        "rollouts among the chosen",
        "win rate",
        "judged on quality",
        "50% of the rewrites",
    ):
        assert words in page, words
    names = {file.stem for file in (chain_run / "plots").glob("*.png")}
    wins = {"wins-full", "wins-originals-full"}  # `continued` is compared with the originals, the others with it
    assert {"continuations-full", "choices-full", "scores-full", "corpus-full"} | wins <= names


def test_a_stopped_stage_goes_on_as_if_it_had_not_stopped(tmp_path, monkeypatch):
    from ixt_rl.trainers import SIPTrainer

    stages = [plain("continued"), sip("dpo", objective="dpo", checkpoint_every=2)]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    straight = run_config(config(tmp_path / "a", stages))
    update = SIPTrainer.training_step

    def stops(self, *args, **kwargs):
        if self.state.global_step == 3 and self.args.objective == "dpo":
            raise KeyboardInterrupt
        return update(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(SIPTrainer, "training_step", stops)
        with pytest.raises(KeyboardInterrupt):
            run_config(config(tmp_path / "b", stages))
    resumed = run_config(config(tmp_path / "b", stages))
    mine, theirs = (weights(run / "stages" / "dpo" / "seed1") for run in (resumed, straight))
    assert all((mine[name] == theirs[name]).all() for name in theirs)
    strip = [{k: v for k, v in row.items() if k not in ("seconds", "rss_gib", "grad_norm")} for row in rows(resumed)]
    other = [{k: v for k, v in row.items() if k not in ("seconds", "rss_gib", "grad_norm")} for row in rows(straight)]
    assert strip == other


def documents(folder: Path, name: str, start: int) -> str:
    lines = [
        json.dumps({"text": f"the number after {i} is {i + 1} . everyone likes the number {i} and {i % 7} ."})
        for i in range(start, start + 60)
    ]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / name)


def test_files_with_a_judge_and_a_rewriter_from_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(JUDGE, encoding="utf-8")
    asked = {"model": f"python:{tmp_path / 'mine.py'}:better", "axes": {"quality": 1.0, "safety": 0.5}}
    corpus = {"suffix_tokens": 16, "max_prefix_tokens": 64}
    stage = sip(
        "files",
        data={**corpus, "sources": [{"path": documents(tmp_path, "train.jsonl", 0)}]},
        rewriter={"model": f"python:{tmp_path / 'mine.py'}:rewrite"},
        judge=asked,
        sampling={"max_new_tokens": 16},
        steps=2,
        evaluation={
            "every": 2,
            "prefixes": 4,
            "curve_prefixes": 2,
            "data": {**corpus, "sources": [{"path": documents(tmp_path, "held.jsonl", 100)}]},
            "judge": asked,
        },
    )
    new = {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "tokenizer": "bytes"}
    folder = run_config(config(tmp_path, [stage], model={"new": new}))
    last = evaluations(folder, "files")[-1]
    assert last["greedy/safety"] == 1.0
    assert 0 <= last["greedy/win_rate"] <= 1
    assert (folder / "stages" / "files" / "seed1" / "judge.sqlite").is_file()
    trained = [row for row in rows(folder) if row["phase"] == "train"]
    assert trained[-1]["chosen/rewrite"] is not None


def test_documents_that_give_no_passage_are_said_and_a_rewriter_may_take_two_texts(tmp_path):
    """A whole source whose documents are too short would be unseen else."""
    source = JUDGE.replace("def rewrite(fields):", "def rewrite(prefix, suffix):").replace('fields["suffix"]', "suffix")
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    short = "".join(json.dumps({"text": text}) + "\n" for text in ("a sentence", None, "two"))
    (tmp_path / "short.jsonl").write_text(short, encoding="utf-8")
    sources = [{"path": documents(tmp_path, "train.jsonl", 0)}, {"path": str(tmp_path / "short.jsonl")}]
    stage = sip(
        "files",
        data={"suffix_tokens": 16, "max_prefix_tokens": 64, "sources": sources},
        rewriter={"model": f"python:{tmp_path / 'mine.py'}:rewrite"},
        judge={"model": f"python:{tmp_path / 'mine.py'}:better"},
        sampling={"max_new_tokens": 4},
        steps=None,
        epochs=1,
        evaluation=None,
    )
    new = {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "tokenizer": "bytes"}
    folder = run_config(config(tmp_path, [stage], model={"new": new}))
    notes = json.loads((folder / "stages" / "files" / "seed1" / "result.json").read_text())["notes"]
    assert "documents: 3 of 63 gave no prefix and suffix: too short 2, without text 1" in notes
    assert any(row["rewrite/missing"] == 0 for row in rows(folder) if row["phase"] == "train")


PIECES = {"suffix_tokens": 16, "min_prefix_tokens": 8, "max_prefix_tokens": 24, "cut": "anywhere"}
PROGRAM = {"model": "python:ixt_rl.judging.programs:sound"}


@pytest.fixture(scope="module")
def long_run(tmp_path_factory) -> Path:
    """Few long documents, some held out whole; suffixes from anywhere, a program judges, a frozen model reads."""
    folder = tmp_path_factory.mktemp("long")
    lines = [
        json.dumps({"text": " ".join(f"the number after {i} is {i + 1} ." for i in range(start, start + 40))})
        for start in range(0, 240, 40)
    ]
    (folder / "long.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shared = {
        "data": {**PIECES, "sources": [{"path": str(folder / "long.jsonl")}]},
        "sampling": {"max_new_tokens": 16},
        "steps": 2,
        "evaluation": {"every": 2, "prefixes": 6, "curve_prefixes": 2, "holdout": 2, "likelihood": "init"},
    }
    judged = {"sources": ["rollout"], "judge": PROGRAM, "rewriter": None, "objective": "dpo"}
    grounded = {"model": "python:ixt_rl.judging.programs:grounded", "axes": {"grounding": 1.0}}
    stages = [
        plain("plain", **shared),
        sip("dpo", **shared | judged | {"evaluation": {**shared["evaluation"], "against": "plain"}}),
        plain("both", **shared | {"evaluation": {**shared["evaluation"], "judge": grounded, "against": "plain"}}),
    ]
    new = {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "tokenizer": "bytes"}
    return run_config(config(folder, stages, model={"new": new}))


def test_whole_documents_are_held_out_and_their_suffixes_loss_is_measured(long_run):
    first, last = (evaluations(long_run, "plain")[place] for place in (0, -1))
    assert last["heldout/perplexity"] == pytest.approx(math.exp(last["heldout/loss"]))
    assert last["heldout/loss"] != first["heldout/loss"] > 0
    (answered,) = json.loads((long_run / "stages" / "plain" / "seed1" / "answered.json").read_text())["sets"]
    losses = [nats / tokens for nats, tokens in zip(answered["nats"]["heldout"], answered["tokens"], strict=True)]
    assert len(losses) == 6 and len({*losses}) > 1 and min(losses) > 0
    assert sum(answered["nats"]["heldout"]) / sum(answered["tokens"]) == pytest.approx(last["heldout/loss"])
    kept = rows(long_run / "stages" / "plain" / "seed1", "continuations.jsonl")
    numbers = {int(number) for row in kept for number in re.findall(r"after (\d+) ", row["prefix"] + row["original"])}
    assert len(kept) == 12 and numbers and max(numbers) < 80  # the first two documents alone
    assert len({row["prefix"] for row in kept}) == 6


def test_a_frozen_model_reads_and_compares(long_run):
    last = evaluations(long_run, "dpo")[-1]
    assert last["sampled/likelihood"] < 0
    alone = evaluations(long_run, "plain")[-1]  # the model has read the originals, and compares nothing with them
    assert alone["sampled/likelihood"] < 0 and "sampled/win_rate" not in alone
    found = intervals(long_run / "stages" / "dpo" / "seed1")
    assert 0 <= found["sampled/win_rate_low"] <= last["sampled/win_rate"] <= found["sampled/win_rate_high"] <= 1
    assert found["sampled/likelihood_low"] < last["sampled/likelihood"] < found["sampled/likelihood_high"]
    kept = {name: rows(long_run / "stages" / name / "seed1", "continuations.jsonl") for name in ("plain", "dpo")}
    pairs = [
        (mine["likelihood"], other["likelihood"])
        for mine, other in zip(kept["dpo"], kept["plain"], strict=True)
        if mine["mode"] == "sampled" and mine["text"] and other["text"]
    ]
    wins = [1.0 if mine > other else 0.5 if mine == other else 0.0 for mine, other in pairs]
    assert last["sampled/win_rate"] == pytest.approx(sum(wins) / len(wins))
    assert {row.get("read_by") for row in kept["dpo"]} == {row.get("read_by") for row in kept["plain"]}


def test_beside_a_judge_the_frozen_model_has_its_own_name(long_run):
    last = evaluations(long_run, "both")[-1]
    assert "sampled/win_rate" not in last  # `grounding` is of one text
    assert 0 <= last["sampled/likelihood_win_rate"] <= 1 and 0 <= last["sampled/grounding"] <= 1


def test_a_stage_that_continued_other_prefixes_is_not_compared_with(tmp_path):
    texts = [" ".join(f"after {i} is {i + 1} ." for i in range(start, start + 20)) for start in range(6)]
    lines = [json.dumps({"text": text}) for text in texts]
    (tmp_path / "long.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    measured = {"every": 2, "prefixes": 4, "curve_prefixes": 2, "likelihood": "init", "temperatures": [1.0]}
    shared = {
        "data": {**PIECES, "sources": [{"path": str(tmp_path / "long.jsonl")}]},
        "sampling": {"max_new_tokens": 4},
        "steps": 1,
    }
    stages = [
        plain("two", **shared, evaluation={**measured, "holdout": 2}),
        plain("three", **shared, evaluation={**measured, "holdout": 3, "against": "two"}),
    ]
    new = {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "tokenizer": "bytes"}
    with pytest.raises(DataError, match=r"against: 'two' continued another prefix \d of 4"):
        run_config(config(tmp_path, stages, model={"new": new}))


def test_the_page_shows_what_the_frozen_model_and_the_program_found(long_run):
    page = build_report(long_run).read_text(encoding="utf-8")
    for words in ("likelihood win rate", "grounding", "after it has read the true text"):
        assert words in page, words
    drawn = {"continuations", "wins", "said", "heldout"}
    assert drawn <= {file.stem.partition("-")[0] for file in (long_run / "plots").glob("*.png")}


def longer_is_better(body, number):
    """A judge behind an endpoint: reads both continuations out of the question."""
    text = "\n".join(message["content"] for message in body["messages"])  # a repair turn asks again at the end
    a, b = (re.search(f"<continuation {name}>(.*?)</continuation {name}>", text, re.DOTALL) for name in "AB")
    lengths = [len(found.group(1)) for found in (a, b) if found]
    verdict = "tie" if lengths[0] == lengths[1] else "A" if lengths[0] > lengths[1] else "B"
    return json.dumps({"comparison": "the longer one", "verdict": verdict})


def judged_at(server, name: str, **options: Any) -> dict[str, Any]:
    judge = {"model": "openai:judge-1", "options": {"base_url": server.base_url, **options}}
    return sip(name, judge=judge, steps=2, batch_size=2, evaluation=None, optim={"lr": 1e-2})


def test_an_endpoint_that_is_down_and_slow_is_waited_for_and_nothing_is_lost(tmp_path):
    broke: list[float] = []

    def disturbed(body, number):
        if number >= 20:
            broke.append(time.monotonic())
            if broke[-1] < broke[0] + 2.5:  # nobody there for a while
                return None
        if number % 10 == 0:
            time.sleep(0.3)
        return longer_is_better(body, number)

    with serve(longer_is_better) as calm:
        straight = run_config(config(tmp_path, [judged_at(calm, "judged")], name="calm"))
    with serve(disturbed) as rough:
        folder = run_config(config(tmp_path, [judged_at(rough, "judged", concurrency=8, retries=0)], name="rough"))
    mine, theirs = (weights(run / "stages" / "judged" / "seed1") for run in (folder, straight))
    assert all((mine[name] == theirs[name]).all() for name in theirs)
    notes = json.loads((folder / "summary.json").read_text())["stages"][0]["notes"]
    assert any(note.startswith("judge or rewriter was down: asked again") for note in notes), notes
    calm_notes = json.loads((straight / "summary.json").read_text())["stages"][0]["notes"]
    assert [note.partition(":")[0] for note in calm_notes] == ["FLOPs"]  # the judge's size, which nobody said


def test_an_endpoint_that_answers_garbage_costs_the_candidates_and_the_summary_says_so(tmp_path):
    def garbage(body, number):
        return "I like both!!" if number < 40 else longer_is_better(body, number)

    with serve(garbage) as server:
        folder = run_config(config(tmp_path, [judged_at(server, "judged")]))
    notes = json.loads((folder / "summary.json").read_text())["stages"][0]["notes"]
    assert any("candidates undecided, left out of their groups" in note for note in notes), notes
    trained = [row for row in rows(folder) if row["phase"] == "train"]
    assert trained[0]["candidates/undecided"] > 0
    assert trained[-1]["loss"] is not None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": "nll", "sources": None, "group_size": None, "rewriter": None}, "a judge with objective: nll"),
        ({"judge": None}, "no judge with objective: rf-nll"),
        ({"rewriter": None}, "no rewriter with sources"),
        ({"sources": ["original"], "rewriter": None}, "one candidate is nothing to choose from"),
        ({"sources": ["rewrites"]}, "original"),
        ({"group_size": 0}, "group_size=0"),
        ({"reference": "synced"}, "reference_sync_steps=None"),
        ({"micro_batch_size": 3}, "multiple of 3"),
        ({"evaluation": {"against": "plain"}}, "there is none"),
        ({"judge": {"axes": {"saftey": 1}}}, "did you mean `safety`"),
        ({"judge": {"model": "hf:nowhere"}}, "no folder with a config.json"),
        ({"judge": {"model": "gpt"}}, "python:FILE.py:FUNCTION"),
        ({"judge": {"model": "random", "repeats": 2}}, "nobody is asked"),
        ({"evaluation": {"judge": {"model": "random"}}}, "by who reads nothing"),
        ({"rewriter": {"prompt": "qualty"}}, "did you mean `quality`"),
        ({"rewriter": {"model": "openai:any", "error": 0.5}}, "only a world's rewriter errs"),
        ({"objective": "grpo", "sampling": {"max_new_tokens": 8, "top_k": 5}}, "truncated sampling"),
        ({"data": {"world": "chains", "passages": 4}}, "did you mean `chain`"),
        ({"evaluation": {"holdout": 2}}, "holdout=2 with a world"),
        ({"evaluation": {"likelihood": "nowhere/at/all"}}, "no such file or folder"),
    ],
)
def test_what_cannot_run_is_refused_before_a_model_loads(tmp_path, changes, said):
    with pytest.raises(InvalidConfig, match=re.escape(said)):
        config(tmp_path, [sip("sip", **changes)])


def test_the_shipped_files_are_right():
    for file in sorted(Path("configs/sip").glob("*.yaml")):
        load_run(file)


@pytest.mark.parametrize("cut", ["end", "anywhere"])
@pytest.mark.parametrize("short", ["data", "evaluation.holdout", "evaluation.data"])
def test_documents_that_are_all_too_short_are_refused_before_a_model_loads(tmp_path, monkeypatch, short, cut):
    monkeypatch.setattr("ixt_rl.run.stages.sip.base_model", lambda *_: pytest.fail("a model was loaded"))
    files = {name: tmp_path / f"{name}.jsonl" for name in ("short", "long", "first")}
    texts = {
        "short": ["a sentence", "two"],
        "long": ["a sentence of some length. " * 4] * 3,
        "first": ["one", "of some length. " * 8],
    }
    for name, file in files.items():
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[name]))
    corpus = {name: {**PIECES, "cut": cut, "sources": [{"path": str(file)}]} for name, file in files.items()}
    data = corpus[{"data": "short", "evaluation.holdout": "first", "evaluation.data": "long"}[short]]
    held = {"holdout": 1} if short != "evaluation.data" else {"data": corpus["short"]}
    evaluation = {"every": 1, "prefixes": 2, "curve_prefixes": 2, "likelihood": "init", **held}
    stage = plain("s", data=data, sampling={"max_new_tokens": 4}, steps=1, evaluation=evaluation)
    new = {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "tokenizer": "bytes"}
    counts = {"data": "1 documents", "evaluation.holdout": "1 documents", "evaluation.data": "2 documents"}[short]
    with pytest.raises(DataError, match=rf"{short}: none of the {counts} can be cut[\s\S]*too short: \d"):
        run_config(config(tmp_path, [stage], model={"new": new}))

"""Harnesses in their child process: names, time limits, batches."""

from __future__ import annotations

import pytest

from ixt_rl.errors import BackendMissing, ConfigError
from ixt_rl.evaluation.harnesses import HARNESSES, HarnessCase, harness, verdict_as, verdicts_as
from ixt_rl.evaluation.harnesses import ruled as of_mathruler
from ixt_rl.evaluation.harnesses.rules import RULES
from ixt_rl.evaluation.harnesses.table import HarnessResult, _verdict
from ixt_rl.evaluation.records.harnesses import by_harnesses
from ixt_rl.evaluation.records.record import Record


def test_every_harness_has_a_rule():
    assert list(HARNESSES) == list(RULES)
    assert all(HARNESSES[name].name == name for name in HARNESSES)


def test_an_unknown_harness_is_refused_with_the_one_that_was_meant():
    with pytest.raises(ConfigError, match="did you mean `lm-eval`"):
        harness("lmeval")


def test_what_is_not_installed_is_said_before_anything_runs(monkeypatch):
    monkeypatch.setattr(of_mathruler.util, "find_spec", lambda name: None)
    with pytest.raises(BackendMissing, match="mathruler and pylatexenc"):
        verdict_as("mathruler", "math500", "\\boxed{5}", "5")


def test_verdicts_come_from_a_child_process_in_order():
    texts = ["\\boxed{5}", "\\boxed{6}", "", "\\boxed{\\frac{10}{2}}"]
    found = verdicts_as("qwen25-math", [HarnessCase("math500", text, "5") for text in texts])
    assert [one.right for one in found] == [True, False, False, True]
    assert [one.extracted for one in found] == ["5", "6", None, "\\frac{10}{2}"]
    assert verdict_as("qwen25-math", "math500", "\\boxed{6}", ["5", "6"]).right is True


@pytest.mark.parametrize(("name", "right"), [("qwen25-math", False), ("lm-eval", False), ("mathruler", None)])
def test_a_comparison_that_is_too_slow_counts_as_the_harness_counts_it(name, right):
    found = _verdict(HARNESSES[name], HarnessResult(None, "timeout: 3 s", None, 3.0))
    assert found.right is right
    assert "timeout: 3 s" in found.why


def record(index: int, sample: int, text: str, verdict: str, gold="5", suite="math500") -> Record:
    same = {"prompt_hash": "0", "prompt_tokens": 1, "seed": 0, "ids": (), "length": 1, "truncated": False}
    engine = {"finish_reason": "eos", "why": "", "engine": "e", "engine_version": "1", "dtype": "float32"}
    return Record(
        suite=suite, id=f"q{index}", index=index, cluster=None, sample=sample, text=text, extracted=None,
        verdict=verdict, gold=gold, question="", **same, **engine,
    )  # fmt: skip


def test_a_score_is_the_harnesss_own():
    """Qwen2.5-Math's is of first samples; rows that it judges otherwise say why."""
    records = [
        record(0, 0, "\\boxed{500}", "wrong"),  # a hundred times the gold
        record(0, 1, "\\boxed{6}", "wrong"),
        record(1, 0, "\\boxed{6}", "wrong"),
        record(1, 1, "\\boxed{5}", "right", gold=["7", "5"]),
    ]
    found = by_harnesses(["qwen25-math", "math-verify"], "math500", records)
    assert found["qwen25-math"]["score"] == 0.5
    assert found["math-verify"]["score"] == 0.25
    (row,) = found["qwen25-math"]["rows"]
    assert row == {
        "id": "q0", "sample": 0, "ours": "wrong", "theirs": "right", "extracted": "500",
        "why": "a hundred times the gold",
    }  # fmt: skip
    assert "first sample" in found["qwen25-math"]["quirks"][0]


def test_a_suite_without_a_task_has_no_score():
    found = by_harnesses(["lm-eval"], "svamp", [record(0, 0, "5", "right", suite="svamp")])
    assert (found["lm-eval"]["score"], found["lm-eval"]["undecided"], found["lm-eval"]["differs"]) == (None, 1, 1)

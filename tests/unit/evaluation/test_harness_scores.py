"""Scores of the same samples by other harnesses' rules, beside ours."""

from __future__ import annotations

from ixt_rl.evaluation.records.harnesses import by_harnesses
from ixt_rl.evaluation.records.record import Record


def record(id, sample, text, gold, verdict):
    return Record(
        suite="gsm8k", id=id, index=0, cluster=None, sample=sample, prompt_hash="0", prompt_tokens=1, seed=0, ids=(1,),
        text=text, length=1, truncated=False, finish_reason="eos", extracted=None, verdict=verdict, why="", gold=gold,
        engine="transformers", engine_version="5", dtype="float32", question="?",
    )  # fmt: skip


def test_a_harness_is_scored_as_it_scores_itself_and_rows_that_differ_are_named():
    records = [
        record("a", 0, r"so \boxed{0.5}", "50", "wrong"),  # a hundredth of the gold is accepted there
        record("a", 1, r"so \boxed{7}", "50", "wrong"),  # a second sample, which is not scored there
        record("b", 0, r"so \boxed{3}", "3", "right"),
        record("c", 0, r"so \boxed{4}", "3", "wrong"),
    ]
    found = by_harnesses(["qwen25-math", "lm-eval"], "gsm8k", records)
    qwen = found["qwen25-math"]
    assert (qwen["score"], qwen["right"], qwen["wrong"], qwen["undecided"]) == (2 / 3, 2, 1, 0)
    assert (qwen["of"], qwen["differs"]) == ("first samples", 1)
    [row] = qwen["rows"]
    assert (row["id"], row["sample"], row["ours"], row["theirs"]) == ("a", 0, "wrong", "right")
    assert row["extracted"] and row["why"] and any("hundredth" in quirk for quirk in qwen["quirks"])
    strict = found["lm-eval"]  # without `####` nothing counts
    assert (strict["score"], strict["of"], strict["differs"]) == (0.0, "all samples", 1)


def test_of_several_golds_the_best_verdict_counts():
    [[_, found]] = by_harnesses(["qwen25-math"], "gsm8k", [record("a", 0, r"\boxed{3}", ["2", "3"], "right")]).items()
    assert (found["score"], found["differs"]) == (1.0, 0)


def test_a_suite_that_a_harness_has_no_task_for_has_no_score():
    [[_, found]] = by_harnesses(["lm-eval"], "svamp", [record("a", 0, "3", "3", "right")]).items()
    assert (found["score"], found["undecided"]) == (None, 1)

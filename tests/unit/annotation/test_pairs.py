"""A judge that compares two answers to one problem: which is better, in both orders, and what each answer is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ixt_rl.conditioning import load_feedback_template
from ixt_rl.corpus.annotate.annotate import annotate
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.corpus.terminal import verdict
from ixt_rl.data.feedback_columns import read_feedback
from ixt_rl.errors import ConfigError
from ixt_rl.judging import load_rubric
from ixt_rl.judging.opening import parse_judge
from tests.unit.annotation.helpers import judge_file, make_job, read_rows, write_lines

JUDGE = '''
def compared(fields):
    """By the last word of each answer: `right` beats `wrong`; `first` wins wherever it stands first; else a tie."""
    a, b = (fields[name].split()[-1] for name in ("a", "b"))
    if "unknown" in (a, b):
        return None
    if a == "first":
        return {"verdict": "A", "reason": "A comes first"}
    if a == b == "biased":
        return {"verdict": "A", "reason": "A is nicer"}
    if a == b:
        return {"verdict": "tie", "reason": "A and B say the same"}
    return {"verdict": "A" if a == "right" else "B", "reason": f"A is {a}, B is {b}"}


def once(fields):
    return "A" if fields["a"].startswith("asked") else None
'''
ROWS = {
    "the first is better": ("is right", "is wrong"),
    "the second is better": ("is wrong", "is right"),
    "neither": ("same", "same"),
    "the place decides": ("biased", "biased"),
    "undecided": ("is right", "unknown"),
}


def judged(folder: Path, rows: list[dict[str, Any]], function: str = "compared", **changes: Any):
    judge = parse_judge(f"python:{judge_file(folder, JUDGE)}:{function}", {})
    job = make_job(folder, judge=judge, rubric=load_rubric("pairwise-answers"), **changes)
    source = SourceSpec(str(write_lines(folder / "pairs.jsonl", rows)))
    summary = annotate(job, source, folder / "out")
    return summary, read_rows(folder / "out")


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_each_row_gets_a_verdict_and_feedback_for_both_answers(tmp_path, format):
    pairs = [{"problem": problem, "a": a, "b": b} for problem, (a, b) in ROWS.items()]
    summary, rows = judged(tmp_path, pairs, format=format)
    found = {
        row["problem"]: (
            *(row[f"feedback_{name}"] for name in ("verdict", "consistent", "level", "critique", "status")),
            *(row[f"feedback_b_{name}"] for name in ("level", "critique")),
        )
        for row in rows
    }
    assert found == {
        "the first is better": ("A", True, 5, "A is right, B is wrong", "judged", 1, "A is right, B is wrong"),
        "the second is better": ("B", True, 1, "A is wrong, B is right", "judged", 5, "A is wrong, B is right"),
        "neither": ("tie", True, 3, "A and B say the same", "judged", 3, "A and B say the same"),
        # A in one order and B in the other: a tie, and the words for either would be wrong
        "the place decides": ("tie", False, 3, "", "judged", 3, ""),
        "undecided": (None, None, None, "", "undecided", None, ""),
    }
    assert summary["verdicts"] == {"A": 1, "B": 1, "tie": 2}
    assert summary["consistent"] == 0.75
    assert verdict(summary) == "4 judged, 1 undecided, 0 skipped; verdicts A: 1, B: 1, tie: 2"
    assert summary["spent"]["requests"] == 2 * len(ROWS), "each pair in both orders"
    page = (tmp_path / "out" / "annotation.html").read_text()
    assert "A 1, B 1, tie 2. In 75.0% of them both orders gave that label" in page


def test_what_is_said_of_either_answer_is_feedback_that_training_reads(tmp_path):
    _, (row,) = judged(tmp_path, [{"problem": "1 + 1?", "a": "is wrong", "b": "is right"}])
    template = load_feedback_template("critique")
    first, second = (read_feedback(row, prefix) for prefix in ("feedback", "feedback_b"))
    assert first is not None and second is not None
    assert template.render(first) == "Quality: 1 of 5.\ncritique:\nA is wrong, B is right"
    assert template.render(second) == "Quality: 5 of 5.\ncritique:\nA is wrong, B is right"
    assert second.judge == first.judge


def test_a_pair_decided_in_one_order_alone_is_undecided(tmp_path):
    _, (row,) = judged(tmp_path, [{"problem": "p", "a": "asked first", "b": "other"}], "once")
    assert (row["feedback_status"], row["feedback_verdict"], row["feedback_level"]) == ("undecided", None, None)
    assert row["feedback_reason"].startswith("no label")


def test_a_pair_that_lacks_an_answer_is_skipped(tmp_path):
    pairs = [{"problem": "p", "a": "is right", "b": "is wrong"}, {"problem": "p", "a": "is right", "b": None}]
    _, rows = judged(tmp_path, pairs, format="parquet")
    assert [row["feedback_status"] for row in rows] == ["judged", "skipped"]
    assert rows[1]["feedback_reason"] == "no b"
    assert {rows[1][f"feedback_{name}"] for name in ("verdict", "consistent", "b_level", "b_judge")} == {None}


def test_a_folder_from_before_there_were_verdicts_is_not_gone_on_with(tmp_path):
    pairs = [{"problem": "p", "a": "is right", "b": "is wrong"}]
    judged(tmp_path, pairs)
    settings = tmp_path / "out" / "job" / "settings.json"
    settings.write_text(settings.read_text().replace('"verdicts": "b"', '"old": "b"'))
    with pytest.raises(ConfigError, match='verdicts: null there, "b" now'):
        judged(tmp_path, pairs)

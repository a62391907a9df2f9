"""maj@k: equal answers vote together, however they are spelled, whether they are right or wrong."""

from __future__ import annotations

import pytest

from ixt_rl.evaluation.records.record import Record
from ixt_rl.evaluation.records.results import verdict_table
from ixt_rl.evaluation.records.votes import ballot, same_answer
from ixt_rl.evaluation.statistics import maj_at_k


def record(sample, extracted, verdict, choices=None):
    return Record(
        suite="s", id="q", index=0, cluster=None, sample=sample, prompt_hash="0" * 16, prompt_tokens=1, seed=None,
        ids=(), text="", length=1, truncated=False, finish_reason="eos", extracted=extracted, verdict=verdict,
        why="", engine="e", engine_version="1", dtype="float32", gold="B" if choices else "7", question="?",
        choices=choices,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1/2", "0.5", True),
        (r"\frac12", "0.50", True),
        ("1,000", "1000", True),
        ("1, 2", r"\{2, 1\}", True),
        ("x+1", "1+x", True),
        ("12", r"12\text{ cm}", True),
        ("1/2", "0.51", False),
        ("(1,2)", "(2,1)", False),
        ("50", r"50\%", False),  # may be equal is not surely
        ("Paris", "London", False),
        (r"\frac{", r"\frac{", True),  # unreadable, but the same text
        ("9" * 300, "9" * 299 + "8", False),
    ],
)
def test_answers_that_are_surely_equal_are_one(one, other, same):
    assert same_answer(one, other) is same
    assert same_answer(other, one) is same


def majority(records):
    return maj_at_k(verdict_table(map(ballot, records))["s"], same=same_answer)


def test_wrong_numbers_in_many_spellings_outvote_fewer_right_ones():
    wrong = ["1/2", "0.5", r"\frac{1}{2}", "0.50"]
    records = [record(n, text, "wrong") for n, text in enumerate(wrong)]
    records += [record(4 + n, text, "right") for n, text in enumerate(["7", "7.0", "7"])]
    assert majority(records) == [0.0]
    assert majority([*records, record(7, "x=7", "right")]) == [0.5]  # four against four


def test_wrong_choices_in_many_spellings_outvote_fewer_right_ones():
    choices = {"A": "10", "B": "12", "C": "15"}
    wrong = ["(C)", "C", "C. 15", "15"]
    records = [record(n, text, "wrong", choices) for n, text in enumerate(wrong)]
    records += [record(4 + n, "B", "right", choices) for n in range(3)]
    assert majority(records) == [0.0]
    assert majority([record(0, None, "wrong", choices), record(1, "B", "right", choices)]) == [1.0]

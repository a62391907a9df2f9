"""Judges in Python: the numbers that libraries give are numbers."""

from __future__ import annotations

from dataclasses import make_dataclass
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from pydantic import create_model

from ixt_rl.judging import FunctionBackend, Judge, Question, load_rubric
from ixt_rl.types import SamplingParams, Verdict

WEB, SAFETY = load_rubric("web-text"), load_rubric("safety")
AXES = dict.fromkeys(WEB.axes, 3)


def ask(found, rubric=SAFETY):
    fields = dict.fromkeys(rubric.fields, "x")
    (answer,) = Judge(FunctionBackend(lambda fields: found, "test"), SamplingParams(5)).ask([Question(rubric, fields)])
    return answer


ONES = [
    1, True, 1.0, np.int64(1), np.int8(1), np.uint16(1), np.float16(1), np.float32(1), np.float64(1), np.bool_(True),
    np.array(1), np.array([1.0]), np.array([[True]]), torch.tensor(1), torch.tensor([1.0]), torch.tensor(True),
    torch.tensor(1, dtype=torch.bfloat16), torch.ones(1, 1, requires_grad=True), Decimal(1), Fraction(2, 2), "yes",
    np.str_("yes"), Verdict(np.float32(1), "right"), Verdict(torch.tensor(1.0), "right"),
]  # fmt: skip


@pytest.mark.parametrize("one", ONES, ids=repr)
def test_one_is_one(one):
    assert ask(one).verdict.score == 1.0
    assert ask({"verdict": one}).verdict.score == 1.0


@pytest.mark.parametrize("three", [np.int64(3), np.float32(3), torch.tensor([3]), Decimal(3), Fraction(6, 2)], ids=repr)
def test_numbers_of_axes(three):
    answer = ask({**AXES, "overall": three, "critique": "so so"}, WEB)
    assert (answer.scores["overall"], answer.critique, answer.level) == (3.0, "so so", 3)


def test_dataclasses_and_pydantic_models_are_mappings():
    for made in (
        make_dataclass("Scores", AXES)(**{name: np.float32(3) for name in AXES}),
        create_model("Scores", **dict.fromkeys(AXES, (Fraction, ...)))(**AXES),
    ):
        assert ask(made, WEB).scores == dict.fromkeys(AXES, 3.0)


NAN = float("nan")


@pytest.mark.parametrize(
    "nothing",
    [None, NAN, -NAN, float("inf"), np.float32("nan"), np.float16("inf"), torch.tensor(NAN), np.array([-np.inf]),
     Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("1e999999"), Fraction(10**400), 10**400],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_what_is_no_finite_number_is_undecided_and_no_failure(nothing):
    answer = ask({**AXES, "overall": nothing}, WEB)
    assert answer.verdict.score is None and answer.scores["expertise"] == 3.0
    assert ask(nothing).verdict.score is None
    assert "failed" not in answer.verdict.evidence


NOT_ONE = [np.array([1, 0]), torch.ones(2), np.array([]), [1], object()]


@pytest.mark.parametrize("many", NOT_ONE, ids=lambda value: type(value).__name__)
def test_what_is_no_number_is_undecided(many):
    assert ask({**AXES, "overall": many}, WEB).verdict.score is None


def test_numbers_deeper_in_an_answer_or_beside_its_axes_do_no_harm():
    beside = {"f1": np.float32(0.5), "embedding": np.zeros(3), "logits": torch.zeros(2, 2), "when": object()}
    answer = ask({**AXES, "overall": {"score": np.int64(3), "details": beside}, "details": beside}, WEB)
    assert answer.scores == dict.fromkeys(AXES, 3.0)


def test_what_a_function_raises_is_told_without_the_key_in_it(monkeypatch):
    monkeypatch.setenv("JUDGE_API_KEY", "sk-0123456789")

    def judge(fields):
        raise RuntimeError("401 for https://user:hunter2@host/?key=sk-0123456789")

    fields = dict.fromkeys(SAFETY.fields, "x")
    (answer,) = Judge(FunctionBackend(judge, "test"), SamplingParams(5)).ask([Question(SAFETY, fields)])
    assert answer.verdict.evidence.startswith("failed: test raised RuntimeError: 401")
    assert "hunter2" not in answer.verdict.evidence and "sk-0123456789" not in answer.verdict.evidence

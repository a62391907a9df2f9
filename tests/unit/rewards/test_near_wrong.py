"""No wrong answer is rewarded: generated ones near right ones, by kind of gold and of slip."""

from __future__ import annotations

import os

import pytest

from ixt_rl.rewards import MathReward, parse_gold
from tests.unit.rewards.near_wrong import slips

CASES = int(os.environ.get("IXT_RL_WRONG_ANSWERS", "2000"))
"""All of the measured ones: IXT_RL_WRONG_ANSWERS=20000."""


def test_no_wrong_answer_near_a_right_one_is_accepted():
    cases = list(slips(CASES))
    verdicts = MathReward(workers=1).judge([case[3] for case in cases], [parse_gold(case[2]) for case in cases])
    assert [case for case, verdict in zip(cases, verdicts, strict=True) if verdict.score == 1.0] == []
    undecided = sum(verdict.score is None for verdict in verdicts)
    assert undecided < 0.1 * len(cases)


@pytest.mark.parametrize("kind", sorted({case[0] for case in slips(200)}))
def test_every_gold_of_the_generator_accepts_itself(kind):
    golds = [case[2] for case in slips(200, seed=1) if case[0] == kind]
    verdicts = MathReward(workers=1).judge(golds, [parse_gold(gold) for gold in golds])
    assert all(verdict.score == 1.0 for verdict in verdicts)

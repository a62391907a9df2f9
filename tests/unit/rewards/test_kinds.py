"""Answers as people write them, by kind: all right ones are accepted, no wrong one, and every gold is right itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ixt_rl.rewards import MathReward, parse_gold

KINDS = yaml.safe_load(Path(__file__).with_name("answers.yaml").read_text(encoding="utf-8"))


def verdicts(cases):
    return MathReward(workers=1).judge([answer for _, answer in cases], [parse_gold(gold) for gold, _ in cases])


@pytest.mark.parametrize("kind", KINDS)
def test_right_answers_are_accepted(kind):
    cases = KINDS[kind]["right"]
    assert [(case, v.evidence) for case, v in zip(cases, verdicts(cases), strict=True) if v.score != 1.0] == []


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_answers_are_not(kind):
    cases = KINDS[kind]["wrong"]
    assert [(case, v.evidence) for case, v in zip(cases, verdicts(cases), strict=True) if v.score == 1.0] == []


@pytest.mark.parametrize("kind", KINDS)
def test_golds_are_right_themselves(kind):
    golds = {gold for cases in KINDS[kind].values() for gold, _ in cases}
    assert [v.evidence for v in verdicts([(gold, gold) for gold in golds]) if v.score != 1.0] == []


@pytest.mark.parametrize(
    ("gold", "answer", "score"),
    [
        (r"\{1,2,3\}", r"\{3,1,2,2\}", 1.0),
        (r"\{1,2,2\}", r"\{1,2\}", 1.0),
        (r"\{\frac12,2\}", r"\{0.5,1/2,2\}", 1.0),
        (r"\{1,2\}", r"\{1,1\}", 0.0),
        (r"\{1,2\}", r"\{1,2,3,3\}", 0.0),
        ("1,1,2", "1,1,3", 0.0),
        ("1,2", "1,2,2", None),  # a root's multiplicity, perhaps
        ("1,1,2", "1,2", None),
        ("1,2", r"\{2,1,1\}", None),
    ],
)
def test_items_more_than_once(gold, answer, score):
    assert verdicts([(gold, answer)])[0].score == score

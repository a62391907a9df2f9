"""Which final answers are one answer, when the samples of a question vote.

    choices    the label that each names: `(B)`, `B. 12`, `12` -> B
    others     equal by the rules of mathematics, both ways: `1/2`, `0.5`, `\\frac{1}{2}`

Without it the wrong answers of a question would split their votes by spelling, and the right ones, which all equal the
gold, would not: the majority would be right too often.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from ixt_rl.errors import DataError
from ixt_rl.evaluation.records.record import Record
from ixt_rl.evaluation.suites.choice_answers import chosen
from ixt_rl.rewards import MathReward, parse_gold
from ixt_rl.rewards.math.compare import NeedsWorker, compare
from ixt_rl.rewards.math.golds import Gold
from ixt_rl.rewards.math.spelling import canonical

_LONGEST = 200
"""Characters of an answer that is read as mathematics; longer ones, and programs, are compared as text."""


def ballot(record: Record) -> Record:
    """The record with the label of the choice in the place of an answer that names one."""
    if record.extracted is None or not record.choices:
        return record
    label = chosen(record.extracted, record.choices, _reward()).label
    return record if label is None else replace(record, extracted=label)


@lru_cache(maxsize=20_000)
def same_answer(one: str, other: str) -> bool:
    """Whether two final answers are spelled alike or surely equal."""
    return _spelling(one) == _spelling(other) or (_equal(one, other) and _equal(other, one))


def _equal(gold: str, answer: str) -> bool:
    read = _read(gold) if len(answer) <= _LONGEST else None
    try:
        return read is not None and compare(read, answer).right is True
    except NeedsWorker:  # more than a vote is worth: they stay two answers
        return False


@lru_cache(maxsize=20_000)
def _read(answer: str) -> Gold | None:
    try:
        return parse_gold(answer) if len(answer) <= _LONGEST else None
    except DataError:
        return None


@lru_cache(maxsize=20_000)
def _spelling(answer: str) -> str:
    return canonical(answer)


@lru_cache(maxsize=1)
def _reward() -> MathReward:
    return MathReward(on_bad_gold="drop")

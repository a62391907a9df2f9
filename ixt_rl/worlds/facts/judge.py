"""Judges of the facts world: they read the text, and compare it with what they know.

Levels of the verifier, which knows all facts: 5 right and nothing else, 4 right but wordy, 3 a true statement and a
wrong answer, 2 false or about something else, 1 no question or no answer. The matched judge, one of an early stage,
knows no fact: it sees whether question, statement and answer fit together.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ixt_rl.types import Feedback
from ixt_rl.worlds.facts.text import BASE, VALUE_WORDS, Fact, read_question

Stated = Literal["true", "false", "other", "none"]
_STATEMENT = 6
_VALUES = frozenset(VALUE_WORDS)


@dataclass(frozen=True)
class FactsReading:
    """What the words after a question say.

    Args:
        stated: what the statement about the asked fact says; else about the fact it is about, or "".
        about: the fact of that statement, or None.
        answer: the first value after an `A`, or None.
        words: number of words.
    """

    stated: str
    about: Fact | None
    answer: str | None
    words: int


def read_body(fact: Fact, words: Sequence[str]) -> FactsReading:
    """Reads the words after the question for `fact`; whatever is neither statement nor answer is skipped."""
    words = list(words)
    statements = dict(reversed([s for at in range(len(words)) if (s := _statement(words[at : at + _STATEMENT]))]))
    about = fact if fact in statements else next(iter(statements), None)
    answers = [b for a, b in itertools.pairwise(words) if a == "A" and b in _VALUES]
    return FactsReading(statements[about] if about else "", about, answers[0] if answers else None, len(words))


def _statement(words: list[str]) -> tuple[Fact, str] | None:
    """(fact, said) of `the ATTRIBUTE of ENTITY is VALUE`."""
    if len(words) < _STATEMENT or (words[0], words[2], words[4]) != ("the", "of", "is"):
        return None
    fact = (words[1], words[3])
    return (fact, words[5]) if fact in BASE.truth and words[5] in _VALUES else None


def verdict(level: int, stated: Stated, answer: str, brief: bool, judge: str = "") -> Feedback:
    """Feedback of the two judges: scores for correctness and efficiency, a critique of three words."""
    critique = f"stated-{stated} answer-{answer} {'brief' if brief else 'wordy'}"
    scores = {"correctness": 5 if answer == "right" else 1, "efficiency": 5 if brief else 3}
    return Feedback(level, scores, critique, judge)


def verifier(text: str) -> Feedback:
    """The late-stage judge: knows the knowledge base."""
    fact = read_question(text.split())
    if fact is None:
        return verdict(1, "none", "none", False, "verifier")
    reading = read_body(fact, text.split()[4:])
    stated: Stated = "none"
    if reading.about:
        stated = "other" if reading.about != fact else "true" if reading.stated == BASE.truth[fact] else "false"
    return _judge(reading, stated, reading.answer == BASE.truth[fact], "verifier")


def matched(text: str) -> Feedback:
    """The early-stage judge: an answer of the right kind that agrees with the statement is right to it."""
    fact = read_question(text.split())
    if fact is None:
        return verdict(1, "none", "none", False, "matched")
    reading = read_body(fact, text.split()[4:])
    stated: Stated = "none"
    if reading.about:
        stated = "true" if reading.about == fact else "other"
    fits = reading.answer is not None and reading.answer.startswith(fact[0])
    return _judge(reading, stated, fits and (stated != "true" or reading.answer == reading.stated), "matched")


def _judge(reading: FactsReading, stated: Stated, right: bool, judge: str) -> Feedback:
    brief = reading.words <= 2
    if reading.answer is None:
        return verdict(1, stated, "none", brief, judge)
    if right and stated in ("true", "none"):
        level = 5 if brief else 4
    else:
        level = 3 if stated == "true" else 2
    return verdict(level, stated, "right" if right else "wrong", brief, judge)

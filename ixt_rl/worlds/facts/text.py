"""The facts world: what is true, and the words documents are written in.

    question    Q food e17 ?
    answer      A food4
    statement   the food of e17 is food4

Every pair of an attribute and an entity has one true value, and one false value that is often believed (its
myth). Some pairs are *uncovered*: no good document answers them, only bad ones happen to mention the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

ATTRIBUTES = ("colour", "food", "city", "job")
ENTITIES = 800
VALUES = 20
UNCOVERED_SHARE = 0.3
BASE_SEED = 7
FILLERS = ("well", "so", "now", "let", "us", "see", "hence", "indeed", "okay", "surely", "of-course", "as", "known")
JUNK = ("river", "cloud", "window", "walks", "early", "stone", "paper", "winter", "garden", "letter", "train", "under")
MARKS = ("Q", "?", "A", "the", "of", "is", ".")

Fact = tuple[str, str]
"""(attribute, entity)"""


def value(attribute: str, index: int) -> str:
    return f"{attribute}{index}"


ENTITY_WORDS = tuple(f"e{index}" for index in range(ENTITIES))
VALUE_WORDS = tuple(value(attribute, index) for attribute in ATTRIBUTES for index in range(VALUES))


class FactsKnowledge:
    """The same in every run: `truth` and `myth` by fact, and the `uncovered` facts."""

    def __init__(self):
        rng = Random(f"facts/base/{BASE_SEED}")
        self.truth: dict[Fact, str] = {}
        self.myth: dict[Fact, str] = {}
        for entity in ENTITY_WORDS:
            for attribute in ATTRIBUTES:
                true, myth = rng.sample(range(VALUES), 2)
                self.truth[attribute, entity] = value(attribute, true)
                self.myth[attribute, entity] = value(attribute, myth)
        self.uncovered = frozenset(rng.sample(list(self.truth), round(UNCOVERED_SHARE * len(self.truth))))


BASE = FactsKnowledge()


def question(fact: Fact) -> str:
    return f"Q {fact[0]} {fact[1]} ?"


def read_question(words: Sequence[str]) -> Fact | None:
    """The fact that the words ask for in their first four, or None."""
    if len(words) < 4 or words[0] != "Q" or words[3] != "?":
        return None
    fact = (words[1], words[2])
    return fact if fact in BASE.truth else None


def statement(fact: Fact, said: str) -> list[str]:
    return ["the", fact[0], "of", fact[1], "is", said]

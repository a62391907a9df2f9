"""The authors of the facts world's corpus. Few answer well; many know, and say it in the wrong place.

    excellent     10 %   the right answer
    wordy         12 %   fillers, the right statement, fillers, the right answer
    distracted    22 %   the right statement, then another answer; 30 % with fillers
    elsewhere     18 %   a truthful statement and answer about another attribute (60 %) or entity (40 %)
    false         14 %   a false answer, half of the time the myth; half with a false statement
    off topic     24 %   junk and a true statement after the question; or junk and two true statements without one

The first two never write about an uncovered fact; there the next three stand in, by their shares.
"""

from __future__ import annotations

import itertools
from random import Random

from ixt_rl.worlds.facts.text import (
    ATTRIBUTES,
    BASE,
    ENTITY_WORDS,
    FILLERS,
    JUNK,
    VALUES,
    Fact,
    question,
    statement,
    value,
)

AUTHORS = {"excellent": 10, "wordy": 12, "distracted": 22, "elsewhere": 18, "false": 14, "off topic": 24}
STAND_INS = ("distracted", "elsewhere", "false")
RANK_OFFSET = 10
_POPULARITY = list(itertools.accumulate(1 / (RANK_OFFSET + rank) for rank in range(len(ENTITY_WORDS))))


class FactsAuthors:
    """Writes documents; all randomness comes from `seed`. The first entities are written about most."""

    def __init__(self, seed: int):
        self.rng = Random(f"facts/corpus/{seed}")

    def document(self) -> tuple[str, str]:
        """(author, text) of the next document."""
        rng, fact = self.rng, self._fact()
        author = rng.choices(list(AUTHORS), list(AUTHORS.values()))[0]
        if author in ("excellent", "wordy") and fact in BASE.uncovered:
            author = rng.choices(STAND_INS, [AUTHORS[name] for name in STAND_INS])[0]
        if author == "off topic":
            words = rng.choices(JUNK, k=rng.randint(2, 5))
            if rng.random() < 0.5:
                words = [*question(fact).split(), *words, *self._truth(self._fact()), "."]
            else:
                words += [*self._truth(fact), ".", *self._truth(self._fact()), "."]
        else:
            words = [*question(fact).split(), *self._body(author, fact)]
        return author, " ".join(words)

    def _body(self, author: str, fact: Fact) -> list[str]:
        rng, truth = self.rng, BASE.truth[fact]
        if author == "excellent":
            return ["A", truth]
        if author == "wordy":
            return [*self._fillers(), *self._truth(fact), *self._fillers(), ".", "A", truth]
        if author == "distracted":
            fillers = self._fillers() if rng.random() < 0.3 else []
            return [*fillers, *self._truth(fact), ".", "A", self._other_value(fact)]
        if author == "elsewhere":
            other = self._other_fact(fact)
            return [*self._truth(other), ".", "A", BASE.truth[other]]
        said = BASE.myth[fact] if rng.random() < 0.5 else self._other_value(fact)
        return [*statement(fact, said), ".", "A", said] if rng.random() < 0.5 else ["A", said]

    def _fact(self) -> Fact:
        entity = self.rng.choices(ENTITY_WORDS, cum_weights=_POPULARITY)[0]
        return self.rng.choice(ATTRIBUTES), entity

    def _other_fact(self, fact: Fact) -> Fact:
        if self.rng.random() < 0.6:
            return self.rng.choice([a for a in ATTRIBUTES if a != fact[0]]), fact[1]
        while (other := (fact[0], self._fact()[1])) == fact:
            pass
        return other

    def _other_value(self, fact: Fact) -> str:
        return self.rng.choice([v for v in (value(fact[0], i) for i in range(VALUES)) if v != BASE.truth[fact]])

    def _truth(self, fact: Fact) -> list[str]:
        return statement(fact, BASE.truth[fact])

    def _fillers(self) -> list[str]:
        return self.rng.choices(FILLERS, k=self.rng.randint(1, 3))

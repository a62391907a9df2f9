"""How problems and solutions of the chain world are written: the words, and what is right.

    problem    Q 5 a + 0 b * 6 ?
    solution   5 a + 0 = 5 b * 6 = 2 A 2

Numbers are taken mod 7; operations go from left to right, each labelled a, b, c, d.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

MODULUS = 7
DIGITS = tuple(str(d) for d in range(MODULUS))
LABELS = ("a", "b", "c", "d")
OPERATIONS = {"+": lambda x, y: x + y, "-": lambda x, y: x - y, "*": lambda x, y: x * y}
LENGTHS = (2, 3, 4)
FILLERS = (
    *("so", "now", "we", "get", "then", "next", "well", "thus", "here", "let"),
    *("us", "see", "gives", "hence", "take", "value", "okay", "again", "from", "this"),
)
JUNK = (
    *("river", "cloud", "green", "window", "walks", "early", "bread", "music", "stone", "paper"),
    *("winter", "garden", "letter", "yellow", "train", "under", "quiet", "market", "bridge", "sugar"),
    *("forest", "mirror", "evening", "blue", "silver", "lamp", "ribbon", "wooden", "coffee", "island"),
    *("thunder", "pocket", "ladder", "apple", "velvet", "harbour", "feather", "candle", "orchard", "meadow"),
)
STEP = 5
"""Tokens of a step: label, operation, operand, `=`, result."""


def apply(operation: str, x: int, y: int) -> int:
    """x operation y, mod 7."""
    return OPERATIONS[operation](x, y) % MODULUS


@dataclass(frozen=True)
class ChainProblem:
    """A start value and two to four (operation, operand)."""

    start: int
    steps: tuple[tuple[str, int], ...]

    @property
    def question(self) -> str:
        chain = (f"{label} {op} {y}" for label, (op, y) in zip(LABELS, self.steps, strict=False))
        return f"Q {self.start} {' '.join(chain)} ?"

    @classmethod
    def random(cls, rng: Random) -> ChainProblem:
        steps = [(rng.choice("+-*"), rng.randrange(MODULUS)) for _ in range(rng.choice(LENGTHS))]
        return cls(rng.randrange(MODULUS), tuple(steps))

    @classmethod
    def read(cls, words: Sequence[str]) -> tuple[ChainProblem, int] | None:
        """(the problem that `words` begin with, the number of its words), or None."""
        if len(words) < 2 or words[0] != "Q" or words[1] not in DIGITS:
            return None
        steps, at = [], 2
        for label in LABELS:
            step = words[at : at + 3]
            if len(step) < 3 or step[0] != label or step[1] not in OPERATIONS or step[2] not in DIGITS:
                break
            steps.append((step[1], int(step[2])))
            at += 3
        if len(steps) not in LENGTHS or list(words[at : at + 1]) != ["?"]:
            return None
        return cls(int(words[1]), tuple(steps)), at + 1

    def results(self, first: int = 0, state: int | None = None) -> list[int]:
        """The right result of each step from `first` on, which finds the value `state`; default: the start value."""
        begin = self.start if state is None else state
        steps = self.steps[first:]
        return list(itertools.accumulate(steps, lambda x, step: apply(step[0], x, step[1]), initial=begin))[1:]

    @property
    def answer(self) -> int:
        return self.results()[-1]


def step_words(problem: ChainProblem, index: int, result: int) -> list[str]:
    """The words of step `index` with the given, right or wrong, result."""
    operation, operand = problem.steps[index]
    return [LABELS[index], operation, str(operand), "=", str(result)]


def solution(problem: ChainProblem, results: Sequence[int], answer: int, rng: Random | None = None) -> list[str]:
    """A solution with the given results; wordy with `rng`: 1 to 3 fillers a step, a quarter of the steps twice."""
    words = [str(problem.start)]
    for index, result in enumerate(results):
        step = step_words(problem, index, result)
        if rng is not None:
            words += rng.choices(FILLERS, k=rng.randint(1, 3))
            words += step * (2 if rng.random() < 0.25 else 1)
        else:
            words += step
    return [*words, "A", str(answer)]

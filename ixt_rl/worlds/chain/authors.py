"""The authors of the chain world's corpus. Most of them teach a wrong rule.

    excellent      8 %   right and brief
    verbose       10 %   right, with fillers and repeated steps
    slip           8 %   one random wrong result, then consistent
    wrong answer   5 %   right steps, another answer
    misconception 55 %   a - b is b - a where a < b; nine in ten of them also write 6 for a + b where a + b >= 7;
                         30 % of them are wordy
    junk          14 %   words, half of it after a problem

Many misconceived documents never meet a case where the rule is wrong: about 40 % of them are right.
"""

from __future__ import annotations

import itertools
from random import Random
from typing import Literal

from ixt_rl.worlds.chain.text import JUNK, MODULUS, ChainProblem, apply, solution
from ixt_rl.worlds.shared import is_eval_text

AUTHORS = {"excellent": 8, "verbose": 10, "slip": 8, "wrong answer": 5, "misconception": 55, "junk": 14}
SATURATED, MISCONCEIVED_WORDY = 0.9, 0.3


def misconceived(operation: str, x: int, y: int, saturated: bool) -> int:
    """x operation y by the wrong rule."""
    if operation == "-" and x < y:
        return y - x
    if operation == "+" and saturated and x + y >= MODULUS:
        return MODULUS - 1
    return apply(operation, x, y)


class ChainAuthors:
    """Writes documents about problems of a split; all randomness comes from `purpose` and `seed`."""

    def __init__(self, seed: int, split: Literal["train", "eval"] = "train", purpose: str = "corpus"):
        self.rng, self.split = Random(f"chain/{purpose}/{seed}"), split

    def document(self) -> tuple[str, str]:
        """(author, text) of the next document."""
        author = self.rng.choices(list(AUTHORS), list(AUTHORS.values()))[0]
        problem = ChainProblem.random(self.rng)
        while is_eval_text(problem.question) != (self.split == "eval"):
            problem = ChainProblem.random(self.rng)
        if author == "junk":
            words = self.rng.choices(JUNK, k=self.rng.randint(10, 22))
            return author, " ".join([problem.question, *words] if self.rng.random() < 0.5 else words)
        return author, " ".join([problem.question, *self._solution(author, problem)])

    def _solution(self, author: str, problem: ChainProblem) -> list[str]:
        results = problem.results()
        if author == "misconception":
            saturated = self.rng.random() < SATURATED
            wordy = self.rng.random() < MISCONCEIVED_WORDY
            rule = itertools.accumulate(
                problem.steps, lambda x, step: misconceived(step[0], x, step[1], saturated), initial=problem.start
            )
            results = list(rule)[1:]
            return solution(problem, results, results[-1], self.rng if wordy else None)
        if author == "slip":
            results = self._slip(problem)
        answer = self._other(results[-1]) if author == "wrong answer" else results[-1]
        return solution(problem, results, answer, self.rng if author == "verbose" else None)

    def _slip(self, problem: ChainProblem) -> list[int]:
        where, state, results = self.rng.randrange(len(problem.steps)), problem.start, []
        for index, (operation, operand) in enumerate(problem.steps):
            state = apply(operation, state, operand)
            if index == where:
                state = self._other(state)
            results.append(state)
        return results

    def _other(self, digit: int) -> int:
        return (digit + self.rng.randrange(1, MODULUS)) % MODULUS

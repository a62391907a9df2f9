"""The noisy author whose documents the base model of the addition world is pretrained on.

Some digit facts (a, b, carry in) are hard: their digit is often wrong, by a shift that is fixed per
fact. Verbose rationales sometimes flip an incoming carry, direct ones guess digits. 40% of documents
are *told*: they show the rationale's own final answer, in one of the three views, and are written ten
times more carefully. So the answer-conditioned mode of a model trained on them is better than its plain
mode. That this holds is built in here, and measured before any RL starts. `Habits` has what else a told
document may be: direct more often, slipping somewhere, or no more careful.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ixt_rl.worlds.addition.problem import COLUMNS, ID, AdditionProblem, is_eval_problem, rationale, view_answer

HARD_SHARE = 0.25
HARD_MISS = (0.5, 0.8)
EASY_MISS = 0.03
CARRY_SLIP = 0.06
GUESS_MISS = 0.35
SHIFTS = (1, 2, 8, 9, 5)
STYLES = ("C", "V", "D")
TOLD_SHARE = 0.4
TOLD_VIEWS, TOLD_VIEW_SHARES = ("sum", "parity", "mod5"), (0.2, 0.5, 0.3)
FACT_SEED = 7


@dataclass(frozen=True)
class Habits:
    """How an author writes untold, and told the answer.

    Args:
        styles, told_styles: shares of C, V and D.
        check, told_check: share of rationales with steps that repeat them.
        told_noise: chances of hard and easy facts, carries and guesses to go wrong, told, over those untold.
        told_slip: share of told rationales with steps in which one column's digit is any wrong one; all that follows
            is consistent with it.
    """

    styles: tuple[float, float, float] = (0.45, 0.49, 0.06)
    told_styles: tuple[float, float, float] = (0.45, 0.49, 0.06)
    check: float = 0.5
    told_check: float = 0.1
    told_noise: float = 0.1
    told_slip: float = 0.0


class NoisyAuthor:
    """Writes documents; all randomness comes from `seed`, the table of facts from `FACT_SEED`."""

    def __init__(self, seed: int, habits: Habits = Habits()):
        facts = np.random.default_rng(FACT_SEED)
        hard = facts.random((10, 10, 2)) < HARD_SHARE
        self.miss = np.where(hard, facts.uniform(*HARD_MISS, size=hard.shape), EASY_MISS)
        self.shift = facts.choice(SHIFTS, size=hard.shape)
        self.rng = np.random.default_rng(seed)
        self.habits = habits

    def documents(self, count: int) -> list[tuple[list[int], list[int]]]:
        """`count` pairs (prompt ids with `<bos>`, rationale ids with `<eos>`)."""
        return [self._document() for _ in range(count)]

    def _document(self) -> tuple[list[int], list[int]]:
        problem, habits = self._problem(), self.habits
        told = self.rng.random() < TOLD_SHARE
        noise = habits.told_noise if told else 1.0
        style = str(self.rng.choice(STYLES, p=habits.told_styles if told else habits.styles))
        steps, carries_in = self._steps(problem, style, noise)
        if told and style != "D" and habits.told_slip and self.rng.random() < habits.told_slip:
            self._slip(steps)
        answer = [digit for digit, _ in steps] + [steps[-1][1]]
        check = style != "D" and self.rng.random() < (habits.told_check if told else habits.check)
        prompt = ["<bos>", *problem.question.split()]
        if told:
            view = self.rng.choice(TOLD_VIEWS, p=TOLD_VIEW_SHARES)
            prompt += ["<told>", *view_answer(answer, view).split()]
        words = rationale(style, problem.columns, steps, carries_in, answer, check)
        return [ID[w] for w in [*prompt, "="]], [ID[w] for w in words]

    def _problem(self) -> AdditionProblem:
        while True:
            a, b = (int(v) for v in self.rng.integers(0, 1000, size=2))
            if not is_eval_problem(a, b):
                return AdditionProblem(a, b)

    def _slip(self, steps: list[tuple[int, int]]) -> None:
        """One column's digit becomes another one; its carry stays, so that the other columns do."""
        column = int(self.rng.integers(COLUMNS))
        digit, carry = steps[column]
        steps[column] = ((digit + int(self.rng.integers(1, 10))) % 10, carry)

    def _steps(self, problem: AdditionProblem, style: str, noise: float) -> tuple[list[tuple[int, int]], list[int]]:
        """(digit, carry out) of each column with mistakes, and the carries taken in."""
        if style == "D":
            guess = self.rng.random(COLUMNS) < GUESS_MISS * noise
            steps = [
                (int(self.rng.integers(10)) if miss else digit, carry)
                for (digit, carry), miss in zip(problem.steps(), guess, strict=True)
            ]
            return steps, [0] * COLUMNS
        carry, steps, carries_in = 0, [], []
        for column, (x, y) in enumerate(problem.columns):
            if style == "V" and column and self.rng.random() < CARRY_SLIP * noise:
                carry = 1 - carry
            carries_in.append(carry)
            carry_out, digit = divmod(x + y + carry, 10)
            if self.rng.random() < self.miss[x, y, carry] * noise:
                digit = int(digit + self.shift[x, y, carry]) % 10
            steps.append((digit, carry_out))
            carry = carry_out
        return steps, carries_in

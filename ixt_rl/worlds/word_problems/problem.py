"""What a word problem is, and what a reply to one says: its equations and its answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from ixt_rl.rewards import final_answer
from ixt_rl.worlds.word_problems.templates import NAMES, TEXTS, THINGS, Operation, ProblemText

SIGNS: Mapping[Operation, str] = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
_ALIKE = str.maketrans({"x": "*", "×": "*", "÷": "/", "−": "-"})
_NUMBER = r"\d+(?:\.\d+)?"
_EQUATION = re.compile(rf"({_NUMBER}(?:\s*[-+*/x×÷−]\s*{_NUMBER})+)\s*=\s*\$?(-?{_NUMBER})")
_WHOLE = re.compile(r"\D*?(-?\d+)(?:\.0*)?\D*")


def result(operation: Operation, a: int, b: int) -> int | None:
    """a + b, a - b, a * b or a / b; None where that is no whole number from 0 on."""
    if operation == "divide":
        return a // b if b and a % b == 0 else None
    found = {"add": a + b, "subtract": a - b, "multiply": a * b}[operation]
    return found if found >= 0 else None


@dataclass(frozen=True)
class WordProblem:
    """A problem: its text and what stands in the text's fields (`a` and `b` as they are written)."""

    text: ProblemText
    fields: Mapping[str, str]

    @property
    def question(self) -> str:
        return self.text.asks.format(**self.fields)

    @property
    def numbers(self) -> tuple[int, int]:
        """a and b."""
        return int(self.fields["a"]), int(self.fields["b"])

    @property
    def answer(self) -> int:
        found = result(self.text.operation, *self.numbers)
        assert found is not None, self.question
        return found

    @classmethod
    def parse(cls, question: str) -> WordProblem:
        """The problem of a question.

        Raises:
            ValueError: no text of this world reads like that.
        """
        for text in TEXTS:
            found = text.pattern.fullmatch(question)
            if found:
                return cls(text, found.groupdict())
        raise ValueError(f"no problem of this world: {question!r:.100}")

    @classmethod
    def draw(cls, rng: Random, held_out: bool) -> WordProblem:
        """A problem in one of the texts for training, or of those that are held out; operations are equally frequent.

        No other operation on the two numbers has the problem's answer: who is right by one step is so by this one.
        """
        operation = rng.choice(list(SIGNS))
        text = rng.choice([t for t in TEXTS if t.operation == operation and t.held_out == held_out])
        a, b = _numbers(rng, operation)
        name, other = rng.sample(NAMES, 2)
        shown = {"name": name, "other": other, "things": rng.choice(THINGS), "a": str(a), "b": str(b)}
        return cls(text, shown)


def _numbers(rng: Random, operation: Operation) -> tuple[int, int]:
    while True:
        if operation == "add":
            a, b = rng.randint(3, 49), rng.randint(3, 49)
        elif operation == "subtract":
            a = rng.randint(10, 60)
            b = rng.randint(3, a - 3)
        else:
            a, b = rng.randint(2, 9), rng.randint(2, 12)
            if operation == "divide":
                a, b = a * b, a
        if a != b and [result(other, a, b) for other in SIGNS].count(result(operation, a, b)) == 1:
            return a, b


@dataclass(frozen=True)
class Equation:
    """An equation of a reply.

    Args:
        start, end: its place in the text.
        numbers: left of the equals sign, in order.
        value: right of it.
        holds: whether it is true.
    """

    start: int
    end: int
    numbers: tuple[Fraction, ...]
    value: Fraction
    holds: bool


def equations(text: str) -> list[Equation]:
    """All equations of a text whose left side has an operation: `12 + 7 = 19`, also with x, ×, ÷."""
    found = []
    for match in _EQUATION.finditer(text):
        left, value = match[1].translate(_ALIKE), Fraction(match[2])
        numbers = tuple(Fraction(one) for one in re.findall(_NUMBER, left))
        computed = _computed(numbers, re.findall(r"[-+*/]", left))
        found.append(Equation(match.start(), match.end(), numbers, value, computed == value))
    return found


def _computed(numbers: tuple[Fraction, ...], signs: list[str]) -> Fraction | None:
    """The value of `n0 s0 n1 s1 ...`, * and / first; None after a division by 0."""
    terms = [numbers[0]]
    for sign, number in zip(signs, numbers[1:], strict=True):
        if sign in "+-":
            terms.append(number if sign == "+" else -number)
        elif sign == "*" or number:
            terms[-1] = terms[-1] * number if sign == "*" else terms[-1] / number
        else:
            return None
    return sum(terms, Fraction(0))


def stated_answer(text: str) -> int | None:
    """The final answer of a reply as the math reward finds it (`#### 19`, a box, "the answer is"), if it is one whole
    number, whatever stands around it."""
    found = final_answer(text)
    match = None if found is None else _WHOLE.fullmatch(found)
    return int(match[1]) if match else None

"""Documents that say what comes out and not how, and the teacher who puts the working in between.

    document   so now Q 5 a + 3 b - 2 ? A 6 then Q 1 a - 2 ? A 6
    annotated  so now Q 5 a + 3 b - 2 ? <think> 5 a + 3 = 1 b - 2 = 6 </think> A 6 then Q 1 ...

Problems are written as in the chain world, numbers mod 7 and operations from left to right; but 1, 2 or 3 is added or
taken away, so that every result is about equally likely, and there are problems of one operation. One answer in ten is
wrong, by a hash of all that stands before it: whoever knows a text up to its last `?` knows how it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Literal

from ixt_rl.conditioning.thought_marks import TEACHER_TAG
from ixt_rl.shares import share
from ixt_rl.worlds.chain.text import FILLERS, MODULUS, ChainProblem, apply, step_words
from ixt_rl.worlds.shared import is_eval_text

Part = Literal["eval", "rl", "documents"]

LENGTHS, LENGTH_SHARES = (1, 2, 3, 4), (0.4, 0.3, 0.2, 0.1)
"""Operations of a document's problem, and how often; a single one needs no working."""

PROBLEM_LENGTH = 4
RL_SHARE = 0.4

OPERATIONS, OPERANDS = ("+", "-"), (1, 2, 3)
SECOND_PROBLEM = 0.15
AUTHOR_MISTAKES = 0.1
TEACHER_ERROR = 0.4
TEACHER_MISCOPIES = 0.02


def random_problem(rng: Random, length: int) -> ChainProblem:
    """A problem of `length` operations."""
    steps = tuple((rng.choice(OPERATIONS), rng.choice(OPERANDS)) for _ in range(length))
    return ChainProblem(rng.randrange(MODULUS), steps)


def part_of(problem: ChainProblem) -> Part:
    """Whether a problem is for evaluation (one in ten), for RL (some of the longest), or for documents."""
    if is_eval_text(problem.question):
        return "eval"
    is_long = len(problem.steps) == PROBLEM_LENGTH
    return "rl" if is_long and share("rl", problem.question) < RL_SHARE else "documents"


def draw(rng: Random, length: int, part: Part) -> ChainProblem:
    """A problem of `length` operations of a part."""
    while part_of(problem := random_problem(rng, length)) != part:
        pass
    return problem


def last_problem(text: str) -> ChainProblem:
    """The problem that a prefix ends with."""
    start, *steps = text.rpartition("Q ")[2].removesuffix("?").split()
    pairs = zip(steps[1::3], map(int, steps[2::3]), strict=True)  # each after its label
    return ChainProblem(int(start), tuple(pairs))


def written_answer(prefix: str) -> str:
    """What a document says after this prefix, `A` and a digit: right in nine of ten."""
    problem = last_problem(prefix)
    wrong = share("mistake", prefix) < AUTHOR_MISTAKES
    shift = 1 + int(share("shift", prefix) * (MODULUS - 1)) if wrong else 0
    return f"A {(problem.answer + shift) % MODULUS}"


class Author:
    """Writes prefixes of documents, up to the last `?`; all randomness comes from `seed` and `split`."""

    def __init__(self, seed: int, split: Literal["train", "eval"] = "train"):
        self.rng = Random(f"thoughts/{split}/{seed}")
        self.last: Part = "eval" if split == "eval" else "documents"

    def prefix(self) -> str:
        """One document without its last answer, which is to a problem of the split; others never are for evaluation."""
        text = ""
        if self.rng.random() < SECOND_PROBLEM:
            text = self._ask(text, "documents")
            text = f"{text} {written_answer(text)}"
        return self._ask(text, self.last)

    def _ask(self, text: str, part: Part) -> str:
        fillers = self.rng.choices(FILLERS, k=self.rng.randint(0, 3))
        problem = draw(self.rng, self.rng.choices(LENGTHS, LENGTH_SHARES)[0], part)
        return " ".join([*([text] if text else []), *fillers, problem.question])


def whole(prefix: str) -> str:
    """The document that begins with `prefix`."""
    return f"{prefix} {written_answer(prefix)}"


class Teacher:
    """Puts the working before each answer of a document; a function for `FunctionBackend`.

    A share `error` of its thoughts has one wrong result, which it goes on from; it copies a share `miscopies` of the
    documents with one word changed. Both are decided by a hash of the document.
    """

    def __init__(self, error: float = TEACHER_ERROR, miscopies: float = TEACHER_MISCOPIES):
        self.error, self.miscopies = error, miscopies

    def __call__(self, fields: Mapping[str, str]) -> str:
        """The text in `suffix` with `<note> ... </note>` before each `A`."""
        text = fields["suffix"]
        words: list[str] = []
        read = text.split()
        for index, word in enumerate(read):
            if word == "A":
                words += [f"<{TEACHER_TAG}>", *self.thought(" ".join(read[:index])), f"</{TEACHER_TAG}>"]
            words.append(word)
        if share("miscopy", text) < self.miscopies:
            words[-1] = str((int(words[-1]) + 1) % MODULUS)
        return " ".join(words)

    def thought(self, prefix: str) -> list[str]:
        """The working of the problem that `prefix` ends with, as words."""
        problem = last_problem(prefix)
        rng = Random(f"thought {prefix}")
        slip = rng.randrange(len(problem.steps)) if rng.random() < self.error else None
        return working(problem, slip, rng)


def working(problem: ChainProblem, slip: int | None = None, rng: Random | None = None) -> list[str]:
    """`5 a + 3 = 1 b - 2 = 6` as words; the result of step `slip` is wrong, and what follows goes on from it."""
    state, words = problem.start, [str(problem.start)]
    for index, (operation, operand) in enumerate(problem.steps):
        state = apply(operation, state, operand)
        if index == slip and rng is not None:
            state = (state + rng.randrange(1, MODULUS)) % MODULUS
        words += step_words(problem, index, state)
    return words

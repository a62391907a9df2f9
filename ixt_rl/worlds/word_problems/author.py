"""Who writes the documents: replies to word problems, half of them with a mistake.

| share | reply |
|---|---|
| 50 % | right |
| 20 % | the wrong operation, carried through |
| 20 % | the right operation with a wrong result, carried through |
| 10 % | one of these mistakes in the step, and the right answer after it all the same |

40 % of the documents are told their own final answer, right or wrong, and are written no differently for it. So nothing
about care or style is to be learnt from being told; but a reply that ends in the right answer is sound in five of six
cases, any reply in one of two. What a model told the right answer gains is this alone, if it has learnt to write
towards what it is told: it is the author's posterior, and the mistakes are there so that it differs from the author.
Replies that are right by luck (the last row) are what an answer does not certify.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from ixt_rl.worlds.word_problems.problem import SIGNS, WordProblem, result
from ixt_rl.worlds.word_problems.templates import OPERATIONS, Operation

Fault = Literal["none", "operation", "result", "lucky"]
FAULTS: dict[Fault, float] = {"none": 0.5, "operation": 0.2, "result": 0.2, "lucky": 0.1}
"""Shares of replies."""
TOLD_SHARE = 0.4
NAMED_SHARE = 0.5
"""Of replies that say what they do (`We add.`) before they do it."""
_SLIPS = (-10, -2, -1, 1, 2, 10)


@dataclass(frozen=True)
class WorkedProblem:
    """A document: a reply to a problem.

    Args:
        question: the problem.
        told: the answer that its prompt tells, which is the reply's own; None: the prompt tells nothing.
        reply: a sentence or two with the step, and a last line with the answer.
        fault: what is wrong with it.
    """

    question: str
    told: str | None
    reply: str
    fault: Fault


def worked(rng: Random, problem: WordProblem) -> WorkedProblem:
    """A reply to a problem, with the mistakes of this author."""
    fault: Fault = rng.choices(list(FAULTS), weights=list(FAULTS.values()))[0]
    mistake = rng.choice(("operation", "result")) if fault == "lucky" else fault
    operation, value = problem.text.operation, problem.answer
    if mistake == "operation":
        operation, value = rng.choice(_misreadings(problem))
    elif mistake == "result":
        value = rng.choice([value + by for by in _SLIPS if value + by >= 0])
    answer = problem.answer if fault == "lucky" else value
    reply = said(problem, operation, value, answer, named=rng.random() < NAMED_SHARE)
    return WorkedProblem(problem.question, str(answer) if rng.random() < TOLD_SHARE else None, reply, fault)


def said(problem: WordProblem, operation: Operation, value: int, answer: int, *, named: bool) -> str:
    """A reply that carries out an operation with a result, and gives an answer, right or wrong."""
    a, b = problem.numbers
    step = f"{a} {SIGNS[operation]} {b} = {value}"
    sentence = problem.text.says.format(**{**problem.fields, "step": step})
    return f"{f'We {operation}. ' if named else ''}{sentence}\n#### {answer}"


def _misreadings(problem: WordProblem) -> list[tuple[Operation, int]]:
    """The other operations that have a whole result on the problem's numbers, with it."""
    found = [(other, result(other, *problem.numbers)) for other in OPERATIONS if other != problem.text.operation]
    return [(other, value) for other, value in found if value is not None]

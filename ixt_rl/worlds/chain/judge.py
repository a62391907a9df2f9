"""Judges of the chain world. They read the text only; who wrote it they do not know.

Levels of the verifier: 5 all right and at most one wasted word, 4 all right but wordy, 3 right steps and a wrong
answer, 2 a wrong step or an incomplete solution, 1 off topic. A step is right if it follows from the value written
before it. The matched judge, one of an early stage, checks no step: it goes by the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ixt_rl.types import Feedback
from ixt_rl.worlds.chain.text import DIGITS, FILLERS, LABELS, OPERATIONS, STEP, ChainProblem, apply, step_words

BRIEF, WORDY = "all right brief", "all right wordy"
ANSWER_WRONG, STEP_WRONG, INCOMPLETE, OFF_TOPIC = "answer wrong", "step {} wrong", "incomplete", "off topic"
_FILLERS = frozenset(FILLERS)


@dataclass(frozen=True)
class ChainReading:
    """What a solution says.

    Args:
        steps: number of steps, repeated ones not counted.
        first_wrong: index of the first step that does not follow, or None.
        answer: the digit after `A`, or None.
        waste: number of fillers and of words of repeated steps.
        complete: every step and the answer are there, and nothing that is not part of a solution.
        word_right: for each word, whether it is what a right solution has there.
    """

    steps: int
    first_wrong: int | None
    answer: int | None
    waste: int
    complete: bool
    word_right: tuple[bool, ...]


def read_solution(problem: ChainProblem, words: Sequence[str]) -> ChainReading:
    """Reads the words after a problem; what does not belong to a solution ends it."""
    return _Reader(problem, words).read()


def read_on(problem: ChainProblem, begun: Sequence[str], words: Sequence[str]) -> ChainReading:
    """Reads the words after the beginning of a solution, whose last value is taken for right.

    `steps` counts those of `begun` too; `first_wrong`, `waste` and `word_right` are those of `words` alone.
    """
    reader = _Reader(problem, begun)
    reader.read()
    return reader.read_on(words)


class _Reader:
    def __init__(self, problem: ChainProblem, words: Sequence[str]):
        self.problem, self.words = problem, list(words)
        self.truth = problem.results()
        self.right: list[bool] = []
        self.steps = self.waste = 0
        self.state: int | None = None
        self.first_wrong: int | None = None
        self.answer: int | None = None
        self.previous: list[str] = []

    def read(self) -> ChainReading:
        while len(self.right) < len(self.words) and self._take():
            pass
        rest = len(self.words) - len(self.right)
        complete = not rest and self.answer is not None and self.steps == len(self.truth)
        word_right = (*self.right, *[False] * rest)
        return ChainReading(self.steps, self.first_wrong, self.answer, self.waste, complete, word_right)

    def read_on(self, words: Sequence[str]) -> ChainReading:
        if self.state is not None:
            self.truth[self.steps :] = self.problem.results(self.steps, self.state)
        self.words, self.right, self.waste, self.first_wrong = list(words), [], 0, None
        return self.read()

    def _take(self) -> bool:
        """Reads the next piece; False if it is none of a solution."""
        at = len(self.right)
        word = self.words[at]
        if word in _FILLERS:
            self.waste += 1
            self.right.append(True)
            return True
        if self.answer is not None:
            return False
        if self.state is None:
            return self._start(word)
        if word == "A":
            return self._answer(self.words[at + 1 : at + 2])
        return self._step(self.words[at : at + STEP])

    def _start(self, word: str) -> bool:
        if word not in DIGITS:
            return False
        self.state = int(word)
        self.right.append(self.state == self.problem.start)
        if not self.right[-1]:
            self.first_wrong = 0
        return True

    def _answer(self, digit: list[str]) -> bool:
        if not digit or digit[0] not in DIGITS:
            return False
        self.answer = int(digit[0])
        self.right += [self.steps == len(self.truth), self.answer == self.truth[-1]]
        return True

    def _step(self, step: list[str]) -> bool:
        shape = (LABELS, OPERATIONS, DIGITS, ("=",), DIGITS)
        if len(step) < STEP or not all(word in words for word, words in zip(step, shape, strict=True)):
            return False
        index = LABELS.index(step[0])
        assert self.state is not None
        if index == self.steps < len(self.truth):
            operation, operand = self.problem.steps[index]
            follows = step == step_words(self.problem, index, apply(operation, self.state, operand))
            self.steps += 1
        elif index == self.steps - 1:
            follows = step == self.previous
            self.waste += STEP
        else:
            return False
        if not follows and self.first_wrong is None:
            self.first_wrong = index
        expected = step_words(self.problem, index, self.truth[index])
        self.right += [word == wished for word, wished in zip(step, expected, strict=True)]
        self.state, self.previous = int(step[-1]), step
        return True


def read_document(text: str) -> tuple[ChainProblem, ChainReading] | None:
    """The problem and the reading of its solution; None off topic: no problem, or nothing of a solution."""
    words = text.split()
    found = ChainProblem.read(words)
    if found is None:
        return None
    problem, used = found
    reading = read_solution(problem, words[used:])
    return (problem, reading) if reading.steps or reading.answer is not None else None


def verifier(text: str) -> Feedback:
    """The late-stage judge: recomputes every step."""
    found = read_document(text)
    if found is None:
        return Feedback(1, critique=OFF_TOPIC, judge="verifier")
    problem, reading = found
    sound = reading.first_wrong is None and reading.complete
    right = reading.answer == problem.answer
    if reading.first_wrong is not None:
        level, critique = 2, STEP_WRONG.format(LABELS[reading.first_wrong])
    elif not reading.complete:
        level, critique = 2, INCOMPLETE
    elif not right:
        level, critique = 3, ANSWER_WRONG
    else:
        level, critique = (5, BRIEF) if reading.waste <= 1 else (4, WORDY)
    held = reading.steps if reading.first_wrong is None else reading.first_wrong
    soundness = 5 if sound else 1 + min(3, 4 * held // len(problem.steps))
    return Feedback(level, scores(problem, right, soundness, reading.waste), critique, "verifier")


def matched(text: str) -> Feedback:
    """The early-stage judge: checks form and final answer, and takes a right answer for a sound solution."""
    found = read_document(text)
    if found is None:
        return Feedback(1, critique=OFF_TOPIC, judge="matched")
    problem, reading = found
    right = reading.answer == problem.answer
    if not reading.complete:
        level, critique = 2, INCOMPLETE
    elif not right:
        level, critique = 2, ANSWER_WRONG
    else:
        level, critique = (5, BRIEF) if reading.waste <= 1 else (4, WORDY)
    return Feedback(level, scores(problem, right, 5 if level > 2 else 1, reading.waste), critique, "matched")


def scores(problem: ChainProblem, right: bool, soundness: int, waste: int) -> dict[str, float]:
    """Scores by axis: 1 to 5, difficulty the number of operations."""
    return {
        "correctness": 5 if right else 1,
        "soundness": soundness,
        "efficiency": 5 if waste <= 1 else max(1, 5 - -(-waste // 4)),
        "difficulty": len(problem.steps),
    }

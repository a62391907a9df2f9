"""SIP in the chain world: solutions to go on with, a teacher who errs, a judge who overlooks, and an exact measure.

prefix     Q 5 a + 0 b * 6 ?           or, half of the time, with the author's first step, right or wrong:
           Q 5 a + 0 b * 6 ? 5 a + 0 = 3
suffix     b * 6 = 4 A 4               right: what follows from the value written before it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from ixt_rl.worlds.chain.authors import ChainAuthors
from ixt_rl.worlds.chain.judge import ChainReading, read_on, read_solution
from ixt_rl.worlds.chain.text import DIGITS, FILLERS, LENGTHS, MODULUS, STEP, ChainProblem, apply, step_words
from ixt_rl.worlds.passages import Passage, Split, Teacher, chance

FIRST_STEP = 0.5
"""Share of the passages with a solution whose prefix holds the first step."""

SUFFIX_TOKENS = 1 + max(LENGTHS) * (3 + 2 * STEP) + 2 + 1
"""The start value; 3 fillers and a step twice; the answer; `<eos>`."""

OVERLOOKED = 0.1
"""Share of the complete wrong suffixes that the judge takes for right."""

PERFECT_WASTE, JUDGED_WASTE = 1, 3
STYLES = {"concise": 40, "fillers": 20, "restated": 15, "phrased": 25}
WRONG_ANSWER = 0.25
"""Share of the teacher's errors that are in the answer, not in a step."""


@dataclass(frozen=True)
class Begun:
    """What a prefix says.

    Args:
        problem: the problem.
        words: of the solution so far.
        steps: number of steps in them.
        state: the last value, which a suffix goes on from.
    """

    problem: ChainProblem
    words: tuple[str, ...]
    steps: int
    state: int

    @classmethod
    def read(cls, prefix: str) -> Begun | None:
        """None if the prefix does not begin with a problem."""
        found = ChainProblem.read(prefix.split())
        if found is None:
            return None
        problem, used = found
        words = tuple(prefix.split()[used:])
        values = [int(word) for word in words if word in DIGITS]
        return cls(problem, words, read_solution(problem, words).steps, values[-1] if values else problem.start)

    def results(self) -> list[int]:
        """The right results of the steps that are left."""
        return self.problem.results(self.steps, self.state)


def passages(split: Split, count: int, seed: int) -> list[Passage]:
    """`count` passages; documents without a problem are skipped."""
    rng, authors = Random(f"chain/cuts/{split}/{seed}"), ChainAuthors(seed, split, f"passages/{split}")
    found: list[Passage] = []
    while len(found) < count:
        words = authors.document()[1].split()
        if words[0] != "Q":
            continue
        cut = words.index("?") + 1
        if "=" in words and rng.random() < FIRST_STEP:
            cut = words.index("=") + 2
        found.append(Passage(" ".join(words[:cut]), " ".join(words[cut:])))
    return found


@lru_cache(maxsize=1 << 16)
def _read(prefix: str, suffix: str) -> tuple[Begun, ChainReading, bool] | None:
    """The prefix, the suffix, and whether that is right: every step that is left, and the answer."""
    begun = Begun.read(prefix)
    if begun is None:
        return None
    reading = read_on(begun.problem, begun.words, suffix.split())
    last = [begun.state, *begun.results()][-1]
    return begun, reading, reading.complete and reading.first_wrong is None and reading.answer == last


def measure(prefix: str, original: str, suffix: str) -> dict[str, float]:
    """`right`: every step follows, all are there, and the answer is theirs; wordy or not.

    `quality` = .5 h + right (.35 + .15 b), with h the share of the steps left that hold before the first wrong one, and
    b = 1 up to one wasted word, then 5 / (4 + words): a right suffix is better than any other one.
    """
    found = _read(prefix, suffix)
    if found is None:
        return {"right": 0.0, "quality": 0.0}
    begun, reading, right = found
    left = len(begun.problem.steps) - begun.steps
    ended = reading.steps if reading.first_wrong is None else reading.first_wrong
    held = max(0, ended - begun.steps) / max(1, left)
    brief = 1.0 if reading.waste <= PERFECT_WASTE else STEP / (STEP - 1 + reading.waste)
    return {"right": float(right), "quality": 0.5 * held + right * (0.35 + 0.15 * brief)}


def judged_quality(fields: Mapping[str, str]) -> str:
    """Which of the fields `a` and `b` goes on better from `prefix`: "A", "B" or "tie".

    Right with up to three wasted words is best, then right and wordy, then complete but wrong, then all else; how many
    steps are right before the first wrong one does not count. One complete wrong suffix in ten passes for right.
    """
    a, b = (_rank(fields["prefix"], fields[name]) for name in ("a", "b"))
    return "A" if a > b else "B" if b > a else "tie"


def _rank(prefix: str, suffix: str) -> int:
    found = _read(prefix, suffix)
    if found is None or not found[1].complete:
        return 0
    _, reading, right = found
    if not right and chance("chain/overlooked", prefix, suffix) >= OVERLOOKED:
        return 1
    return 3 if reading.waste <= JUDGED_WASTE else 2


def teacher(error: float, seed: int) -> Teacher:
    """Leaves right suffixes with at most one wasted word as they are; of those it writes, a share of `error` is wrong.

    What it writes depends on seed, prefix and suffix, and is concise, or has fillers, a step said twice, or fillers
    before its answer. Wrong is one step, the others following from it, or the answer alone.
    """

    def rewrite(prefix: str, suffix: str) -> str:
        found = _read(prefix, suffix)
        if found is None or (found[2] and found[1].waste <= PERFECT_WASTE):
            return suffix
        rng = Random(f"chain/teacher/{seed}/{prefix}/{suffix}")
        return " ".join(_written(found[0], rng.random() < error, rng))

    return rewrite


def _written(begun: Begun, wrong: bool, rng: Random) -> list[str]:
    style = rng.choices(list(STYLES), list(STYLES.values()))[0]
    steps, state = range(begun.steps, len(begun.problem.steps)), begun.state
    slip = rng.choice(steps) if wrong and rng.random() >= WRONG_ANSWER else None
    restated = rng.choice(steps) if style == "restated" else None
    words = [] if begun.words else [str(begun.problem.start)]
    for index in steps:
        operation, operand = begun.problem.steps[index]
        state = apply(operation, state, operand)
        if index == slip:
            state = _other(state, rng)
        if style == "fillers" and rng.random() < 0.5:
            words.append(rng.choice(FILLERS))
        words += step_words(begun.problem, index, state) * (2 if index == restated else 1)
    if style == "phrased":
        words += rng.choices(FILLERS, k=rng.randint(1, 3))
    return [*words, "A", str(_other(state, rng) if wrong and slip is None else state)]


def _other(digit: int, rng: Random) -> int:
    return (digit + rng.randrange(1, MODULUS)) % MODULUS

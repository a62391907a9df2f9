"""One value for every question: avg@k, pass@k, maj@k. nan where nothing of a question is decided.

avg@n   c / n                                     n decided samples, c right of them
pass@k  1 - C(n - c, k) / C(n, k)                 the share of k-subsets with a right one (arXiv 2107.03374)
maj@k   mean over the k-subsets of [right answers among those named most] / [answers named most]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from ixt_rl.errors import ConfigError
from ixt_rl.evaluation.statistics.table import VerdictTable

Same = Callable[[str, str], bool]
"""Whether two final answers are equal by the suite's grading."""


def avg_at_k(table: VerdictTable) -> np.ndarray:
    """Share of right ones among the decided samples of each question: float64 [Q]."""
    right, decided = _counts(table)
    return np.divide(right, decided, out=np.full(len(right), np.nan), where=decided > 0)


def pass_at_k(table: VerdictTable, k: int) -> np.ndarray:
    """Probability that one of k samples is right, unbiased: float64 [Q]; nan where fewer than k are decided.

    Raises:
        ConfigError: k is not in 1 .. samples.
    """
    _check(k, table.samples)
    right, decided = _counts(table)
    none_right = np.ones(len(right))
    for drawn in range(k):  # C(n - c, k) / C(n, k), factor by factor
        left = np.maximum(decided - drawn, 1)
        none_right *= np.maximum(decided - right - drawn, 0) / left
    return np.where(decided >= k, 1 - none_right, np.nan)


@dataclass(frozen=True)
class VotedAnswer:
    """An answer and its votes.

    Args:
        votes: samples that gave it.
        score: 1 right, 0 wrong, None undecided.
    """

    votes: int
    score: float | None


def votes(extracted: Sequence[str | None], scores: Sequence[float], same: Same | None = None) -> list[VotedAnswer]:
    """The answers of one question, with the most votes first. A sample without an answer does not vote.

    All right samples gave one answer, since each equals the gold. Others are one answer if they have the same verdict
    and the same text, or are equal by `same`, which is asked about wrong and undecided ones only.
    """
    counts: Counter[tuple[str, float | None]] = Counter()
    for answer, score in zip(extracted, scores, strict=True):
        if answer is None:
            continue
        verdict = None if np.isnan(score) else float(score)
        key = ("" if verdict == 1 else answer.strip(), verdict)
        if same is not None and verdict != 1 and key not in counts:
            key = next((k for k in counts if k[1] == verdict and same(k[0], key[0])), key)
        counts[key] += 1
    return [VotedAnswer(number, verdict) for (_, verdict), number in counts.most_common()]


def majority(answers: Sequence[VotedAnswer], silent: int, k: int) -> tuple[float, float]:
    """(probability that the majority of k samples is right, that it is undecided), exactly, over all k-subsets.

    Where several answers have the most votes, each is taken with equal probability. Where no sample of a subset
    votes, its majority is wrong.

    Args:
        answers: of `votes`.
        silent: samples without an answer.
    """
    number = silent + sum(answer.votes for answer in answers)
    _check(k, number)
    if k == number:
        top = [answer for answer in answers if answer.votes == answers[0].votes]
        return (
            (sum(a.score == 1 for a in top) / len(top), sum(a.score is None for a in top) / len(top))
            if top
            else (0.0, 0.0)
        )
    chances = {size: _chance_to_lead(answers, size, silent, k) / comb(number, k) for size in {a.votes for a in answers}}
    right = sum(chances[answer.votes] for answer in answers if answer.score == 1)
    return right, sum(chances[answer.votes] for answer in answers if answer.score is None)


def _chance_to_lead(answers: Sequence[VotedAnswer], size: int, silent: int, k: int) -> float:
    """Subsets of k in which one certain answer with `size` votes leads; of n that lead together, each has 1/n."""
    others = Counter(answer.votes for answer in answers)
    others[size] -= 1
    found = 0.0
    for lead in range(1, min(size, k) + 1):
        # (leading beside it, samples chosen) -> ways
        ways = {(0, drawn): comb(silent, drawn) for drawn in range(min(silent, k - lead) + 1)}
        for number, repeated in others.items():
            for _ in range(repeated):
                grown: Counter[tuple[int, int]] = Counter()
                for (beside, chosen), count in ways.items():
                    for drawn in range(min(number, lead, k - lead - chosen) + 1):
                        grown[beside + (drawn == lead), chosen + drawn] += count * comb(number, drawn)
                ways = grown
        of_size = comb(size, lead)
        found += sum(of_size * n / (beside + 1) for (beside, chosen), n in ways.items() if chosen == k - lead)
    return found


def maj_at_k(table: VerdictTable, k: int | None = None, same: Same | None = None) -> np.ndarray:
    """Probability that the majority of k samples (all by default) is right, where it is decided: float64 [Q].

    Ties, samples without an answer, and what counts as one answer: `majority`, `votes`.
    """
    found = np.full(table.questions, np.nan)
    for row, (extracted, scores) in enumerate(zip(table.extracted, table.scores, strict=True)):
        answers = votes(extracted, scores, same)
        silent = table.samples - sum(answer.votes for answer in answers)
        right, undecided = majority(answers, silent, k or table.samples)
        if undecided < 1 - 1e-12:
            found[row] = right / (1 - undecided)
    return found


def _counts(table: VerdictTable) -> tuple[np.ndarray, np.ndarray]:
    """(right, decided) of each question: int [Q] each."""
    return np.nansum(table.scores, axis=1).astype(int), (~np.isnan(table.scores)).sum(axis=1)


def _check(k: int, most: int) -> None:
    if not 1 <= k <= most:
        raise ConfigError(f"k = {k}", reason=f"{most} samples were drawn of each question", remedy=f"take 1 .. {most}")

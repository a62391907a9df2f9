"""What was found of a suite: a verdict for every sample of every question.

Q questions, k samples of each, G clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ixt_rl.errors import DataError


@dataclass(frozen=True)
class SampleShares:
    """SampleShares of all samples, each in [0, 1]: what a score alone does not say.

    Args:
        undecided: the grader could not decide.
        truncated: cut at the limit of tokens.
        unextracted: no final answer was found.
    """

    undecided: float
    truncated: float
    unextracted: float


@dataclass(frozen=True, eq=False)
class VerdictTable:
    """Verdicts of one suite, a row a question.

    Args:
        ids: names of the Q questions, each once; two tables are compared by them.
        clusters: of each question the name of what it shares with others (a passage, a subject); None: nothing.
        scores: float64 [Q, k], 1 right, 0 wrong, nan undecided.
        truncated: bool [Q, k], whether the sample was cut at the limit of tokens.
        extracted: Q lists of k final answers, None where none was found.

    Raises:
        DataError: shapes that do not fit, a score that is none of these, an id twice, no question or no sample.
    """

    ids: Sequence[str]
    clusters: Sequence[str] | None
    scores: np.ndarray
    truncated: np.ndarray
    extracted: Sequence[Sequence[str | None]] = field(repr=False)

    def __post_init__(self) -> None:
        scores = np.asarray(self.scores, dtype=np.float64)
        truncated = np.asarray(self.truncated, dtype=bool)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "truncated", truncated)
        if scores.ndim != 2 or not scores.size:
            raise _refused(
                f"scores of shape {list(scores.shape)}", "a table is [questions, samples], at least one each"
            )
        if truncated.shape != scores.shape or [len(row) for row in self.extracted] != [scores.shape[1]] * len(scores):
            raise _refused("truncated or extracted", f"they have an entry for each of {list(scores.shape)} samples")
        if len(self.ids) != len(scores) or (self.clusters is not None and len(self.clusters) != len(scores)):
            raise _refused(
                f"{len(self.ids)} ids", f"ids and clusters have one entry for each of {len(scores)} questions"
            )
        if len(set(self.ids)) != len(self.ids):
            twice = next(name for name in self.ids if list(self.ids).count(name) > 1)
            raise _refused(f"question {twice!r} twice", "questions of two tables are told apart by their ids")
        odd = scores[~(np.isnan(scores) | (scores == 0) | (scores == 1))]
        if odd.size:
            raise _refused(f"score {odd[0]}", "a sample is right (1), wrong (0) or undecided (nan)")

    @property
    def questions(self) -> int:
        """Q."""
        return int(self.scores.shape[0])

    @property
    def samples(self) -> int:
        """k."""
        return int(self.scores.shape[1])

    @property
    def shares(self) -> SampleShares:
        """Undecided, truncated and unextracted shares of the Q x k samples."""
        missing = sum(answer is None for row in self.extracted for answer in row)
        return SampleShares(
            float(np.isnan(self.scores).mean()), float(self.truncated.mean()), missing / self.scores.size
        )

    def as_wrong(self) -> VerdictTable:
        """The same with every undecided sample counted as wrong: the lower bound."""
        scores = np.where(np.isnan(self.scores), 0.0, self.scores)
        return VerdictTable(self.ids, self.clusters, scores, self.truncated, self.extracted)

    def rows(self, at: Sequence[int]) -> VerdictTable:
        """The questions at these positions, in this order."""
        return VerdictTable(
            [self.ids[i] for i in at],
            None if self.clusters is None else [self.clusters[i] for i in at],
            self.scores[list(at)],
            self.truncated[list(at)],
            [self.extracted[i] for i in at],
        )


def _refused(what: str, reason: str) -> DataError:
    return DataError(f"verdict table: {what}", reason=reason, remedy="make it from the records of one suite")

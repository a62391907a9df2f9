"""What an annotation came to, from its finished shards alone: so it is the same however often the job was stopped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ixt_rl.corpus.annotate.job import AnnotationJob
from ixt_rl.corpus.even_sample import EvenSample
from ixt_rl.corpus.job_folder import Folder
from ixt_rl.judging.rubric import VERDICT

EXAMPLES = 3
"""Rows of each level, and of those undecided, that the report shows."""


@dataclass
class AnnotationStatistics:
    """Counts over all rows.

    Args:
        axes: names of the scored axes.
        statuses: rows by status.
        levels: judged rows by level.
        scores: axis -> value -> rows.
        open_axes: axis -> rows, judged or undecided, in which it is.
        verdicts: of pairs, judged rows by label; None for other rubrics.
        agreed: of those, the rows in which both orders gave that label.
        undecided: undecided rows by the kind of reason.
        skipped: skipped rows by reason.
        tokens: sum of the rows' tokens; equal documents count as often as they stand there.
        examples: `1` to `5` or `undecided` -> row numbers, drawn evenly.
        sample: numbers of judged or undecided rows, drawn evenly; empty if not asked for.
        correlations: Pearson's r of each two of `names`; None where one of them does not vary.
    """

    axes: tuple[str, ...]
    rows: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    levels: Counter[int] = field(default_factory=Counter)
    scores: dict[str, Counter[float]] = field(default_factory=dict)
    open_axes: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] | None = None
    agreed: int = 0
    undecided: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    examples: dict[str, list[int]] = field(default_factory=dict)
    sample: list[int] = field(default_factory=list)
    correlations: list[list[float | None]] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        """What is correlated: the axes, and the level."""
        return (*self.axes, "level")

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        judged = self.statuses["judged"]
        asked = judged + self.statuses["undecided"]
        means = {axis: _mean(counts) for axis, counts in self.scores.items()}
        return {
            "rows": self.rows,
            "judged": judged,
            "undecided": self.statuses["undecided"],
            "skipped": self.statuses["skipped"],
            "undecided_share": self.statuses["undecided"] / asked if asked else None,
            "undecided_reasons": dict(self.undecided.most_common()),
            "skipped_reasons": dict(self.skipped.most_common()),
            "levels": {str(level): self.levels[level] for level in range(1, 6)},
            "mean_level": _mean(self.levels),
            "scores": {
                axis: {"mean": means[axis], "counts": {f"{v:g}": n for v, n in sorted(counts.items())}}
                for axis, counts in self.scores.items()
            },
            "undecided_axes": dict(self.open_axes),
            "correlations": {"names": list(self.names), "matrix": self.correlations},
            "row_tokens": self.tokens,
            **({} if self.verdicts is None else self._pairs(self.verdicts)),
        }

    def _pairs(self, verdicts: Counter[str]) -> dict[str, Any]:
        total = verdicts.total()
        return {"verdicts": dict(verdicts), "consistent": self.agreed / total if total else None}


def collect(job: AnnotationJob, folder: Folder, shards: int, sample: int = 0) -> AnnotationStatistics:
    """Reads the new columns of all shards, one after the other.

    Args:
        job: whose shards they are.
        folder: where they are.
        shards: how many.
        sample: rows to draw for asking again.
    """
    found = AnnotationStatistics(job.axes, scores={axis: Counter() for axis in job.axes})
    if job.rubric.pair:
        found.verdicts = Counter(dict.fromkeys(job.rubric.axes[VERDICT].labels, 0))
    sums = _Sums(len(found.names))
    draws: dict[str, EvenSample] = {}
    again = EvenSample(sample)
    wanted = [f"{job.prefix}_{name}" for name in ("level", "scores", "status", "reason", "tokens")]
    pairs = [f"{job.prefix}_{name}" for name in ("verdict", "consistent")] if job.rubric.pair else []
    for number in range(shards):
        part = folder.rows(number, [*wanted, *pairs])
        rows = part.to_pylist() if isinstance(part, pa.Table) else part
        matrix = np.full((len(rows), len(found.names)), np.nan)
        for at, row in enumerate(rows):
            level, scores, status, reason, tokens = (row[name] for name in wanted)
            _count(found, level, scores or {}, status, reason, tokens)
            if found.verdicts is not None and row[pairs[0]] is not None:
                found.verdicts[row[pairs[0]]] += 1
                found.agreed += bool(row[pairs[1]])
            if status != "skipped":
                draws.setdefault(str(level or status), EvenSample(EXAMPLES)).offer(found.rows)
                again.offer(found.rows)
                matrix[at] = [_number((scores or {}).get(axis)) for axis in job.axes] + [_number(level)]
            found.rows += 1
        sums.add(matrix)
    found.correlations = sums.correlations()
    found.examples = {name: draws[name].rows() for name in sorted(draws)}
    found.sample = again.rows()
    return found


class _Sums:
    """What correlations need, over the rows in which both values are there."""

    def __init__(self, width: int):
        self._n, self._x, self._xx, self._xy = (np.zeros((width, width)) for _ in range(4))

    def add(self, matrix: np.ndarray) -> None:
        """`matrix` [rows, width] fp64, NaN where there is no value."""
        there = (~np.isnan(matrix)).astype(float)
        values = np.nan_to_num(matrix)
        self._n += there.T @ there
        self._x += values.T @ there  # [i, j]: sum of value i where j is there
        self._xx += (values**2).T @ there
        self._xy += values.T @ values

    def correlations(self) -> list[list[float | None]]:
        """Pearson's r of each two; None where one of them does not vary."""
        n = np.maximum(self._n, 1)
        spread = self._xx - self._x**2 / n
        covariance = self._xy - self._x * self._x.T / n
        scale = np.sqrt(np.clip(spread * spread.T, 0, None))
        varies = spread > 1e-9 * np.maximum(self._xx, 1)
        known = varies & varies.T
        r = np.divide(covariance, scale, out=np.zeros_like(scale), where=known)
        return [
            [round(float(value), 4) if ok else None for value, ok in zip(row, mask, strict=True)]
            for row, mask in zip(r, known, strict=True)
        ]


def _count(
    found: AnnotationStatistics, level: int | None, scores: dict[str, float], status: str, reason: str, tokens: int
) -> None:
    found.statuses[status] += 1
    found.tokens += tokens
    if status == "skipped":
        found.skipped[reason] += 1
        return
    if status == "undecided":
        found.undecided[reason.partition(":")[0]] += 1
    if level is not None:
        found.levels[level] += 1
    for axis in found.axes:
        value = scores.get(axis)
        if value is not None:
            found.scores[axis][value] += 1
        else:
            found.open_axes[axis] += 1


def _mean(counts: Counter[Any]) -> float | None:
    total = sum(counts.values())
    return sum(value * count for value, count in counts.items()) / total if total else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)

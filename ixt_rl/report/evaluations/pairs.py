"""Differences of the models on the same questions, suite by suite and over all, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from ixt_rl.errors import DataError
from ixt_rl.evaluation.statistics import PairedDifference, VerdictTable, avg_at_k, holm, paired, paired_values
from ixt_rl.report.evaluations.evaluated import EvaluatedModel

MOST_PAIRED = 4
"""So many models are all compared with each other; of more, each with the first."""
POOLED = "all questions"


@dataclass(frozen=True)
class ModelDifference:
    """One model against another on one suite.

    Args:
        before, after: labels; the difference is after - before.
        suite: or `POOLED`.
        found: the paired difference.
        p_holm: its p-value, corrected for all tests of the page; None where it has none.
        needed: questions that would show a difference of this size with probability 0.8; None: it is 0.
        as_wrong: the difference with undecided answers counted as wrong.
    """

    before: str
    after: str
    suite: str
    found: PairedDifference
    p_holm: float | None
    needed: int | None
    as_wrong: float

    @property
    def pair(self) -> str:
        """Which minus which."""
        return f"{self.after} - {self.before}"

    @property
    def shown(self) -> bool:
        """Whether it is told apart from 0 at 5 %, among all tests of the page."""
        return self.p_holm is not None and self.p_holm < 0.05


def pairs_of(models: Sequence[EvaluatedModel]) -> list[tuple[EvaluatedModel, EvaluatedModel]]:
    """(before, after): all pairs of few models, of many each with the first."""
    if len(models) <= MOST_PAIRED:
        return list(combinations(models, 2))
    return [(models[0], other) for other in models[1:]]


def differences(models: Sequence[EvaluatedModel]) -> list[ModelDifference]:
    """Paired differences of avg@k (pass@1 of single answers), undecided left out; suites that share no question are
    left out, too."""
    found = [one for before, after in pairs_of(models) for one in _of_pair(before, after)]
    tested = [one for one in found if one.found.p_value is not None]
    adjusted = dict(zip(map(id, tested), holm([one.found.p_value or 0.0 for one in tested]), strict=True))
    return [replace(one, p_holm=adjusted.get(id(one))) for one in found]


def _of_pair(before: EvaluatedModel, after: EvaluatedModel) -> list[ModelDifference]:
    found, joined = [], []
    for suite, table in after.tables.items():
        if suite not in before.tables:
            continue
        other = before.table_beside(after, suite)
        try:
            difference, wrong = paired(table, other), paired(table.as_wrong(), other.as_wrong())
        except DataError:  # no question in common
            continue
        found.append(
            ModelDifference(
                before.label, after.label, suite, difference, None, difference.questions_needed(), wrong.difference
            )
        )
        joined.append((suite, table, other))
    if len(joined) > 1:
        pooled = paired_values(*_pool(joined, wrong=False))
        bound = paired_values(*_pool(joined, wrong=True)).difference
        found.append(ModelDifference(before.label, after.label, POOLED, pooled, None, pooled.questions_needed(), bound))
    return found


def _pool(
    joined: Sequence[tuple[str, VerdictTable, VerdictTable]], wrong: bool
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(after, before, clusters) of the questions that both have, of all suites: each question counts alike."""
    ours, theirs, names = [], [], []
    for suite, after, before in joined:
        where = {name: row for row, name in enumerate(before.ids)}
        shared = [(row, where[name]) for row, name in enumerate(after.ids) if name in where]
        a, b = (avg_at_k(table.as_wrong() if wrong else table) for table in (after, before))
        ours.append(a[[row for row, _ in shared]])
        theirs.append(b[[row for _, row in shared]])
        clusters = after.ids if after.clusters is None else after.clusters
        names += [f"{suite}: {clusters[row]}" for row, _ in shared]
    return np.concatenate(ours), np.concatenate(theirs), names

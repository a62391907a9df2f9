"""Questions whose answers changed between two models: from right to wrong, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ixt_rl.data.fields import question_text
from ixt_rl.evaluation.records.record import Record
from ixt_rl.evaluation.statistics import avg_at_k
from ixt_rl.report.evaluations.evaluated import EvaluatedModel

SHOWN = 6
"""Questions of each direction and suite that a page shows, the largest changes first."""


@dataclass(frozen=True)
class ChangedQuestion:
    """A question that most samples of one model answer right, and most of the other wrong.

    Args:
        shares: of right answers among the decided ones, before and after.
        before, after: a sample of each, with the verdict of most.
    """

    suite: str
    id: str
    question: str
    gold: str
    shares: tuple[float, float]
    before: Record
    after: Record


@dataclass(frozen=True)
class ChangesOfSuite:
    """What changed on one suite; lists are cut to `SHOWN`, counts are whole.

    Args:
        lost, gained: from right to wrong, and from wrong to right.
        kept, never: right both times; wrong both times.
        undecided: no sample of one of the two is decided, or half are right.
    """

    suite: str
    lost: int
    gained: int
    kept: int
    never: int
    undecided: int
    examples: Mapping[str, Sequence[ChangedQuestion]]


def changes(before: EvaluatedModel, after: EvaluatedModel) -> list[ChangesOfSuite]:
    """Of the suites that both have, on the questions that both have; `right` is more than half of the samples."""
    return [_of_suite(suite, before, after) for suite in after.tables if suite in before.tables]


def _of_suite(suite: str, before: EvaluatedModel, after: EvaluatedModel) -> ChangesOfSuite:
    tables = before.table_beside(after, suite), after.tables[suite]
    shares = [dict(zip(table.ids, avg_at_k(table), strict=True)) for table in tables]
    found: dict[str, list[tuple[str, float, float]]] = {
        name: [] for name in ("lost", "gained", "kept", "never", "undecided")
    }
    for name in shares[1]:
        if name in shares[0]:
            was, now = float(shares[0][name]), float(shares[1][name])
            found[_kind(was, now)].append((name, was, now))
    examples: dict[str, list[ChangedQuestion]] = {}
    for kind in ("lost", "gained"):
        largest = sorted(found[kind], key=lambda one: -abs(one[1] - one[2]))[:SHOWN]
        examples[kind] = [
            _changed(suite, name, (was, now), before.samples[suite][name], after.samples[suite][name])
            for name, was, now in largest
        ]
    lost, gained, kept, never, undecided = (len(names) for names in found.values())
    return ChangesOfSuite(suite, lost, gained, kept, never, undecided, examples)


def _kind(was: float, now: float) -> str:
    if np.isnan(was) or np.isnan(now) or 0.5 in (was, now):
        return "undecided"
    return {(True, False): "lost", (False, True): "gained", (True, True): "kept", (False, False): "never"}[
        was > 0.5, now > 0.5
    ]


def _changed(
    suite: str, name: str, shares: tuple[float, float], before: Sequence[Record], after: Sequence[Record]
) -> ChangedQuestion:
    first = before[0]
    picked = [
        next((one for one in samples if one.score == (1.0 if share > 0.5 else 0.0)), samples[0])
        for samples, share in zip((before, after), shares, strict=True)
    ]
    return ChangedQuestion(suite, name, question_text(first.question), _gold(first.gold), shares, *picked)


def _gold(value: Any) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)

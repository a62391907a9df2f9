"""Differences of two arms over cells that have base and seed in common.

mean +- t se      se over the pairs, and over bases as clusters (`ixt_rl.evaluation.statistics.clustered`)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ixt_rl.evaluation.statistics.clustered import clusters_of, moments
from ixt_rl.evaluation.statistics.many_tests import holm
from ixt_rl.evaluation.statistics.quantiles import t_cdf, t_quantile

Key = tuple[int, int]
"""(base, seed)."""


@dataclass(frozen=True)
class Difference:
    """a - b over pairs of cells.

    Args:
        pairs: how many.
        mean: of the differences; None without a pair.
        error: its standard error over pairs; None below two pairs.
        low, high: 95 % t-interval over pairs; None likewise.
        p: of the t-test over pairs, two-sided; None likewise, and where all differences are equal.
        clustered: 95 % interval with bases as clusters; None below two bases.
        bases: mean difference of each base.
        adjusted: p after Holm's correction; see `corrected`.
    """

    pairs: int
    mean: float | None
    error: float | None
    low: float | None
    high: float | None
    p: float | None
    clustered: tuple[float, float] | None
    bases: Mapping[int, float]
    adjusted: float | None = None


def difference(a: Mapping[Key, float], b: Mapping[Key, float]) -> Difference:
    """The paired difference of two arms' values by (base, seed)."""
    shared = sorted(a.keys() & b.keys())
    d = np.array([a[key] - b[key] for key in shared])
    names = [str(base) for base, _ in shared]
    bases = {one: fmean(x for x, (base, _) in zip(d, shared, strict=True) if base == one) for one, _ in shared}
    if len(d) < 2:
        return Difference(len(d), float(d[0]) if len(d) else None, None, None, None, None, None, bases)
    mean, error, half, freedom = _interval(d, None)
    p = 2 * t_cdf(-abs(mean) / error, freedom) if error > 0 else None
    clustered = None
    if len(bases) > 1:
        middle, _, wide, _ = _interval(d, names)
        clustered = (middle - wide, middle + wide)
    return Difference(len(d), mean, error, mean - half, mean + half, p, clustered, bases)


def mean_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean over cells and its standard error, None below two."""
    if len(values) < 2:
        return fmean(values), None
    mean, error, _, _ = _interval(np.array(values), None)
    return mean, error


def corrected(tests: Sequence[Difference]) -> list[Difference]:
    """The same with Holm's correction over those that have a p-value."""
    places = [place for place, one in enumerate(tests) if one.p is not None]
    adjusted = dict(zip(places, holm([tests[place].p for place in places]), strict=True)) if places else {}
    return [Difference(**{**vars(one), "adjusted": adjusted.get(place)}) for place, one in enumerate(tests)]


def _interval(d: np.ndarray, names: Sequence[str] | None) -> tuple[float, float, float, float]:
    """(mean, standard error, half the 95 % interval, degrees of freedom)."""
    found = moments(d, clusters_of(names, len(d)))
    error = float(np.sqrt(found.variance))
    return float(found.mean), error, t_quantile(0.975, found.freedom) * error, found.freedom

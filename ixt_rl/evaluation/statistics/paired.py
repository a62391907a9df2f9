"""Two models, or two checkpoints, on the same questions: their difference, question by question.

    d_i = a_i - b_i          what both find hard cancels: the standard error is that of the d_i, clustered

The interval is a t-interval of the d_i. Where fewer than six of them are not 0, those say little of how large a
difference may be: two questions with d = +s and d = -s are added, s^2 = 1 - (number that differ) / 6. Where six or more
differ and nothing shows how much they vary (all alike, or alike cluster by cluster), s is 1. With none that differs it
is the interval of Bonett and Price (2012), where plain t would have one of length 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from ixt_rl.errors import DataError
from ixt_rl.evaluation.statistics.clustered import Clusters, clusters_of, moments
from ixt_rl.evaluation.statistics.intervals import bootstrap
from ixt_rl.evaluation.statistics.per_question import avg_at_k
from ixt_rl.evaluation.statistics.quantiles import t_cdf, t_quantile
from ixt_rl.evaluation.statistics.sample_size import questions_needed
from ixt_rl.evaluation.statistics.table import VerdictTable

FEW = 6
"""With fewer questions that differ, two more are added."""
_NO_VARIANCE = 1e-20
FLIPS = 10_000
EXACT_CLUSTERS = 12
"""Up to so many clusters all 2^G assignments of signs are counted; beyond, 10,000 are drawn."""


@dataclass(frozen=True)
class PairedDifference:
    """a - b on the questions that both have.

    Args:
        difference: mean of the d_i.
        low, high: its confidence interval; None where there is one cluster only.
        bootstrap: the interval by resampling questions or clusters; None likewise.
        standard_error: of the difference, clustered; None likewise.
        p_value: two-sided, of the t-test that belongs to the interval; None likewise.
        p_permutation: two-sided, by exchanging a and b within whole clusters.
        p_sign: two-sided, exact: of the clusters (questions without any) that differ, how many are better.
        better, worse, equal: questions with d > 0, d < 0, d = 0.
        correlation: of the two models' values over questions; None where one of them is constant.
        deviation: standard deviation of the d_i over questions.
        design_effect: by how much clusters raise the variance of the difference.
        questions, clusters: Q and G.
        left_out: questions that only one of them has, or of which nothing is decided in one.
    """

    difference: float
    low: float | None
    high: float | None
    bootstrap: tuple[float, float] | None
    standard_error: float | None
    p_value: float | None
    p_permutation: float
    p_sign: float
    better: int
    worse: int
    equal: int
    correlation: float | None
    deviation: float
    design_effect: float
    questions: int
    clusters: int
    left_out: int

    def questions_needed(self, power: float = 0.8, level: float = 0.95) -> int | None:
        """Questions with which a difference of this size is found with this probability; None for a difference of 0.

        At least six: fewer pass no exact test of signs at 5 %, even if all of them differ alike.
        """
        if self.difference == 0:
            return None
        found = questions_needed(
            self.difference, self.deviation, power=power, level=level, design_effect=self.design_effect
        )
        return max(FEW, found)


def paired(a: VerdictTable, b: VerdictTable, level: float = 0.95) -> PairedDifference:
    """Difference of avg@k of two tables, by the ids of their questions; what is undecided is left out.

    For the bound with undecided as wrong give `a.as_wrong(), b.as_wrong()`.

    Raises:
        DataError: they share no question of which something is decided in both.
    """
    where = {name: row for row, name in enumerate(b.ids)}
    shared = [(row, where[name]) for row, name in enumerate(a.ids) if name in where]
    values = avg_at_k(a)[[i for i, _ in shared]], avg_at_k(b)[[j for _, j in shared]]
    names = None if a.clusters is None else [a.clusters[i] for i, _ in shared]
    return paired_values(*values, names, level, apart=len(a.ids) + len(b.ids) - 2 * len(shared))


def paired_values(
    a: np.ndarray, b: np.ndarray, names: Sequence[str] | None = None, level: float = 0.95, apart: int = 0
) -> PairedDifference:
    """The same of any values of Q questions in the same order, nan where there is none (pass@k, maj@k).

    Values are shares; where some are not in [0, 1], as a reward of one's own may give them, what is said of 1 above
    holds of the span that is seen.

    Args:
        names: the questions' clusters; None: each its own.
        apart: questions already left out.
    """
    both = np.flatnonzero(~(np.isnan(a) | np.isnan(b)))
    if not both.size:
        raise DataError(
            "the two evaluations have no question in common",
            reason="a paired difference is over the same questions",
            remedy="compare evaluations of one suite, with the same rows",
        )
    left_out = apart + len(a) - len(both)
    unit = _unit(a[both], b[both])
    a, b = a[both] / unit, b[both] / unit
    d = a - b
    clusters = clusters_of(None if names is None else [names[i] for i in both], len(d))
    sums = clusters.sums(d)
    deviation = float(d.std(ddof=1)) if len(d) > 1 else 0.0
    constant = len(d) < 2 or a.std() == 0 or b.std() == 0
    low = high = error = p_value = resampled = None
    effect = 1.0
    if len(clusters.sizes) > 1:
        middle, error, freedom = (float(part) for part in difference_moments(d, clusters))
        half = t_quantile((1 + level) / 2, freedom) * error
        low, high = unit * max(middle - half, -1.0), unit * min(middle + half, 1.0)
        p_value = 2 * t_cdf(-abs(middle) / error, freedom)
        resampled = bootstrap(unit * d, clusters, level)
        if deviation > 0 and not clusters.single:
            effect = float(moments(d, clusters).variance) / (deviation**2 / len(d))
    return PairedDifference(
        difference=float(unit * d.mean()),
        low=low,
        high=high,
        bootstrap=resampled,
        standard_error=None if error is None else unit * error,
        p_value=p_value,
        p_permutation=sign_flip_test(sums),
        p_sign=sign_test(int((sums > 0).sum()), int((sums < 0).sum())),
        better=int((d > 0).sum()),
        worse=int((d < 0).sum()),
        equal=int((d == 0).sum()),
        correlation=None if constant else float(np.corrcoef(a, b)[0, 1]),
        deviation=unit * deviation,
        design_effect=effect,
        questions=len(d),
        clusters=len(clusters.sizes),
        left_out=left_out,
    )


def _unit(a: np.ndarray, b: np.ndarray) -> float:
    """By how much two values may differ: 1, or where some are not in [0, 1] the span of all."""
    low, high = min(a.min(), b.min()), max(a.max(), b.max())
    return 1.0 if low >= 0 and high <= 1 else float(max(high - low, 1.0))


def difference_moments(d: np.ndarray, clusters: Clusters) -> tuple[np.ndarray, np.ndarray, float]:
    """(middle of the interval, standard error, degrees of freedom) of differences [..., Q]; see the head."""
    plain = moments(d, clusters)
    size = np.sqrt(np.maximum(1 - (d != 0).sum(axis=-1) / FEW, 0))
    size = np.where((size == 0) & (plain.variance < _NO_VARIANCE), 1.0, size)
    extended = np.concatenate([d, size[..., None], -size[..., None]], axis=-1)
    number = d.shape[-1]
    wider = Clusters(
        np.concatenate([clusters.order, [number, number + 1]]),
        np.concatenate([clusters.starts, [number, number + 1]]),
        np.concatenate([clusters.sizes, [1, 1]]),
    )
    few = moments(extended, wider)
    variance = np.where(size > 0, few.variance, plain.variance)
    return np.where(size > 0, few.mean, plain.mean), np.sqrt(variance), plain.freedom


def sign_flip_test(sums: np.ndarray, seed: int = 0) -> float:
    """Two-sided p-value of the sum of G clusters' differences if each could as well have the other sign.

    Exact for up to 12 clusters that are not 0; beyond by 10,000 draws, this one counted among them.
    """
    sums = sums[sums != 0]
    if not sums.size:
        return 1.0
    observed = abs(sums.sum()) * (1 - 1e-12)
    if len(sums) <= EXACT_CLUSTERS:
        signs = 1 - 2 * ((np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1)
        return float((np.abs(signs @ sums) >= observed).mean())
    generator = np.random.default_rng(seed)
    reached = 0
    for start in range(0, FLIPS, step := max(1, 4_000_000 // len(sums))):
        signs = 1 - 2 * generator.integers(2, size=(min(step, FLIPS - start), len(sums)), dtype=np.int8)
        reached += int((np.abs(signs @ sums) >= observed).sum())
    return (reached + 1) / (FLIPS + 1)


def sign_test(better: int, worse: int) -> float:
    """Two-sided exact p-value of `better` against `worse` if both were equally likely; of questions, McNemar's."""
    number = better + worse
    tail = sum(comb(number, k) for k in range(min(better, worse) + 1))
    return min(1.0, float(2 * tail / 2**number)) if number else 1.0

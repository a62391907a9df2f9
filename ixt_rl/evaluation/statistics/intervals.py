"""Confidence intervals of a mean over questions of values in [0, 1]: accuracy, avg@k, pass@k, maj@k.

    n* = Q b / v       v: variance of the mean by `clustered`; b = m (1 - m) / (Q - 1): what it were for Q values 0 or 1
    Wilson's interval with n* questions, q a quantile of t with the variance's degrees of freedom:

    (m + q^2/2n* ± q sqrt(m (1 - m)/n* + q^2/4n*^2)) / (1 + q^2/n*)

For single answers without clusters n* = Q and q is the normal quantile: Wilson's own interval.

Where nearly all values are 0, or 1, the few that are not have to show how much values vary, and often none of them was
drawn. With e = G* m (1 - m) below e0, G* the number of questions or of clusters of one size, n* is drawn towards G*, as
if each were a single answer:  Q / n* = Q / n*_data + (1 - e / e0) (Q / G* - Q / n*_data), if that is more; e0 is 1 for
questions and 1/2 for clusters, by simulation. Values that are all alike, 0, 1 or between, have n* = G*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ixt_rl.evaluation.statistics.clustered import Clusters, Moments, clusters_of, moments
from ixt_rl.evaluation.statistics.quantiles import normal_cdf, normal_quantile, t_quantile

SHOWN = {"questions": 1.0, "clusters": 0.5}
"""e0: from this G* m (1 - m) on the data's own variance is taken as it is."""
_NO_VARIANCE = 1e-20
RESAMPLES = 5000
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Estimate:
    """A mean over questions with its confidence interval.

    Args:
        value: None where no question has a value.
        low, high: the interval; None where there is none: no question, one cluster only, or see `estimate`.
        bootstrap: the interval by resampling questions or clusters, or None.
        standard_error: of `value`, clustered; None as above.
        questions, clusters: Q and G behind it.
        method: how the interval was made, in words.
    """

    value: float | None
    low: float | None
    high: float | None
    bootstrap: tuple[float, float] | None
    standard_error: float | None
    questions: int
    clusters: int
    method: str


def estimate(values: np.ndarray, names: Sequence[str] | None = None, level: float = 0.95) -> Estimate:
    """The mean of the values that there are.

    Args:
        values: float64 [Q], nan where a question has none: it is left out. Where one is not in [0, 1], as a reward of
            one's own may give it, the interval is Student's, and there is none if all are alike.
        names: the questions' clusters; None: each its own.
        level: of confidence, in (0, 1).
    """
    there = np.flatnonzero(~np.isnan(values))
    if not there.size:
        return Estimate(None, None, None, None, None, 0, 0, "no question has a value")
    values = values[there]
    clusters = clusters_of(None if names is None else [names[i] for i in there], len(values))
    found = moments(values, clusters)
    count = len(clusters.sizes)
    if count < 2:
        what = "one question" if clusters.single else "all questions are in one cluster"
        return Estimate(float(found.mean), None, None, None, None, len(values), count, f"{what}: no interval")
    low, high, said = _interval(found, values, clusters, level)
    return Estimate(
        value=float(found.mean),
        low=low,
        high=high,
        bootstrap=bootstrap(values, clusters, level),
        standard_error=float(np.sqrt(found.variance)),
        questions=len(values),
        clusters=count,
        method=said if clusters.single else f"{said}, clustered by {count}",
    )


def _interval(
    found: Moments, values: np.ndarray, clusters: Clusters, level: float
) -> tuple[float | None, float | None, str]:
    """(low, high, how): Wilson's of shares, Student's of values that have no bounds, and none where these are alike."""
    if values.min() >= 0 and values.max() <= 1:
        low, high = wilson(found, values, clusters, level)
        return float(low), float(high), "Wilson"
    if found.variance < _NO_VARIANCE:
        return None, None, "all alike, without bounds: no interval"
    half = found.half_width(level)
    return float(found.mean) - half, float(found.mean) + half, "Student"


def wilson(
    found: Moments, values: np.ndarray, clusters: Clusters, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high), [...] each, for values [..., Q] in [0, 1] and their moments; see the head of this file."""
    questions = values.shape[-1]
    mean = np.clip(found.mean, 0, 1)
    binary = mean * (1 - mean) / (questions - 1)
    counted = bool(clusters.single and np.isin(values, (0.0, 1.0)).all())
    quantile = normal_quantile((1 + level) / 2) if counted else t_quantile((1 + level) / 2, found.freedom)
    shown = np.divide(found.variance, binary, out=np.zeros_like(binary), where=binary > 0)  # Q / n* of the data
    enough = SHOWN["questions" if clusters.single else "clusters"]
    unknown = np.maximum(1 - clusters.effective * mean * (1 - mean) / enough, 0)
    unknown = np.where(found.variance < _NO_VARIANCE, 1.0, unknown)  # all alike: nothing shows how much they vary
    effect = np.maximum(shown, shown + unknown * (questions / clusters.effective - shown))
    ratio = quantile**2 * effect / questions
    half = np.sqrt(ratio * mean * (1 - mean) + ratio**2 / 4)
    middle = mean + ratio / 2
    low, high = (middle - half) / (1 + ratio), (middle + half) / (1 + ratio)
    return np.clip(low, 0, mean), np.clip(high, mean, 1)  # rounding puts no mean outside


def bootstrap(
    values: np.ndarray, clusters: Clusters, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of the mean over resampled clusters; of a difference, give the differences.

    Percentiles are those of a t-interval, sqrt(G / (G - 1)) further out: without it the interval is too short for small
    G (Hesterberg 2015).

    Args:
        values: float64 [Q], finite.
        clusters: of the Q questions, at least two.
    """
    count = len(clusters.sizes)
    t = t_quantile((1 + level) / 2, count - 1) * (count / (count - 1)) ** 0.5
    generator = np.random.default_rng(seed)
    sums, sizes = clusters.sums(values), clusters.sizes
    means = []
    for start in range(0, resamples, step := max(1, _AT_ONCE // count)):
        drawn = generator.integers(count, size=(min(step, resamples - start), count))
        means.append(sums[drawn].sum(axis=1) / (count if clusters.single else sizes[drawn].sum(axis=1)))
    low, high = np.quantile(np.concatenate(means), [normal_cdf(-t), normal_cdf(t)])
    return float(low), float(high)


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of several suites' values, each counting alike, with an interval from theirs.

        low = v - sqrt(sum (v_i - low_i)^2) / m       the square-and-add rule (Zou and Donner 2008); high likewise

    A suite without a value or an interval leaves the average without one.
    """
    count = len(estimates)
    values = [one.value for one in estimates if one.value is not None]
    value = sum(values) / count if count and len(values) == count else None
    questions, groups = (sum(getattr(one, name) for one in estimates) for name in ("questions", "clusters"))
    below = [one.value - one.low for one in estimates if one.value is not None and one.low is not None]
    above = [one.high - one.value for one in estimates if one.value is not None and one.high is not None]
    if value is None or len(below) < count:
        return Estimate(value, None, None, None, None, questions, groups, "a suite has no interval")
    errors = [one.standard_error or 0.0 for one in estimates]
    return Estimate(
        value=value,
        low=value - sum(d * d for d in below) ** 0.5 / count,
        high=value + sum(d * d for d in above) ** 0.5 / count,
        bootstrap=None,
        standard_error=sum(e * e for e in errors) ** 0.5 / count,
        questions=questions,
        clusters=groups,
        method=f"square-and-add over {count} suites",
    )

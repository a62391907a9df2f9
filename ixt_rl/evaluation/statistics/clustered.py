"""The mean over questions with its variance, where questions come in clusters.

Q questions, G clusters of n_g, values v of mean m; E_g the sum over cluster g of v - m:

    variance  = sum_g E_g^2 / (1 - n_g / Q) / Q^2          cluster-robust, unbiased for alike values (CR2)
    freedom   = tr(W S)^2 / tr(W S W S)                     Satterthwaite's, after Bell and McCaffrey; W the weights of
                                                            the E_g^2 above, S their covariances for alike values

Without clusters every question is its own: the usual s^2 / Q with Q - 1 degrees of freedom. "Adding error bars to
evals" (arXiv 2411.00640) has the same sums without the small-sample corrections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ixt_rl.evaluation.statistics.quantiles import t_quantile


@dataclass(frozen=True)
class Clusters:
    """Which questions share a cluster.

    Args:
        order: int [Q], the questions cluster by cluster.
        starts: int [G], where each cluster begins in `order`.
        sizes: int [G].
    """

    order: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    @property
    def single(self) -> bool:
        """Whether every question is its own cluster."""
        return len(self.sizes) == len(self.order)

    @property
    def effective(self) -> float:
        """Q^2 / sum n_g^2: as many clusters of one size tell as much, if questions of one are all alike."""
        return float(self.sizes.sum() ** 2 / (self.sizes.astype(float) ** 2).sum())

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over each cluster: [..., Q] -> [..., G]."""
        return values if self.single else np.add.reduceat(values[..., self.order], self.starts, axis=-1)


def clusters_of(names: Sequence[str] | None, questions: int) -> Clusters:
    """The clusters of Q questions by their names; None: each its own."""
    if names is None:
        whole = np.arange(questions)
        return Clusters(whole, whole, np.ones(questions, int))
    _, codes, sizes = np.unique(np.asarray(names, dtype=str), return_inverse=True, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return Clusters(np.argsort(codes, kind="stable"), starts, sizes)


@dataclass(frozen=True)
class Moments:
    """A mean over questions.

    Args:
        mean: [...].
        variance: of the mean, [...]; nan where there is one cluster only.
        freedom: degrees of freedom of the variance.
    """

    mean: np.ndarray
    variance: np.ndarray
    freedom: float

    def half_width(self, level: float) -> float:
        """Half of Student's interval around the mean, of one mean (0-d) and a level in (0, 1)."""
        return t_quantile((1 + level) / 2, self.freedom) * float(np.sqrt(self.variance))


def moments(values: np.ndarray, clusters: Clusters) -> Moments:
    """Of values [..., Q], finite float64."""
    questions = values.shape[-1]
    mean = values.mean(axis=-1)
    share = clusters.sizes / questions
    if len(share) < 2:
        return Moments(mean, np.full_like(mean, np.nan), 0.0)
    off = clusters.sums(values - mean[..., None])
    variance = (off**2 / (1 - share)).sum(axis=-1) / questions**2
    return Moments(mean, variance, _freedom(share))


def _freedom(share: np.ndarray) -> float:
    """tr(WS)^2 / tr(WSWS) with W_gg = 1/(1 - s_g), S = diag(s) - s s', all up to factors that cancel; s_g = n_g / Q."""
    weight = share / (1 - share)  # W_gg s_g
    trace = 1.0  # sum of s_g (1 - s_g) / (1 - s_g)
    squared = (share**2).sum() + (weight * share).sum() ** 2 - ((weight * share) ** 2).sum()
    return float(trace / squared)

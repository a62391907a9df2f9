"""Perplexities with intervals: means over tokens, where questions have more or fewer of them and come in clusters.

Q questions with n_q tokens and nats l_q: the loss is L = sum_q l_q / sum_q n_q, a ratio of two sums. To first order its
error is the mean over questions of (l_q - L n_q) / mean(n), whose variance is clustered as that of any mean is. A
perplexity is exp(L), and its interval the exponential of L's; the ratio of two models' perplexities on the same tokens
is exp of the same for the differences of l_q.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ixt_rl.evaluation.statistics.clustered import clusters_of, moments
from ixt_rl.evaluation.statistics.means import MeanValue


def mean_per_token(
    nats: np.ndarray, tokens: np.ndarray, names: Sequence[str] | None = None, level: float = 0.95
) -> MeanValue:
    """sum(nats) / sum(tokens), with its interval; of one cluster without.

    Args:
        nats: float64 [Q], sums over each question's tokens, or differences of such sums.
        tokens: [Q], above 0.
        names: the questions' clusters; None: each its own.
        level: of confidence, in (0, 1).
    """
    clusters = clusters_of(names, len(nats))
    mean = float(nats.sum() / tokens.sum())
    if len(clusters.sizes) < 2:
        return MeanValue(mean, count=len(nats))
    found = moments((nats - mean * tokens) / tokens.mean(), clusters)
    half = found.half_width(level)
    return MeanValue(mean, mean - half, mean + half, len(nats))

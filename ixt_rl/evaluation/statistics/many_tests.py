"""Corrections for many tests: adjusted p-values, in the order of those given; compare them with the level itself.

Holm                 max over the smaller ones of (m - rank) p: no false finding at all, with probability 1 - level
Benjamini-Hochberg   min over the larger ones of m p / rank: of the findings, a share of `level` false at most
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ixt_rl.errors import DataError


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of m tests that control the family-wise error rate, whatever their dependence.

    Raises:
        DataError: a p-value outside [0, 1].
    """
    values, order = _sorted(p_values)
    adjusted = np.maximum.accumulate(values * np.arange(len(values), 0, -1))
    return _back(adjusted, order)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of m tests that control the false discovery rate, for independent or positively dependent ones.

    Raises:
        DataError: a p-value outside [0, 1].
    """
    values, order = _sorted(p_values)
    raised = values * len(values) / np.arange(1, len(values) + 1)
    return _back(np.minimum.accumulate(raised[::-1])[::-1], order)


def _sorted(p_values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(p_values, dtype=np.float64)
    outside = values[~((values >= 0) & (values <= 1))]
    if outside.size:
        raise DataError(f"p-value {outside[0]}", reason="it is in [0, 1]", remedy="leave out tests that have none")
    order = np.argsort(values, kind="stable")
    return values[order], order


def _back(adjusted: np.ndarray, order: np.ndarray) -> list[float]:
    found = np.empty(len(order))
    found[order] = np.minimum(adjusted, 1)
    return found.tolist()

"""The mean of values that have no bounds, such as lengths or divergences, with Student's interval."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ixt_rl.evaluation.statistics.quantiles import t_quantile


@dataclass(frozen=True)
class MeanValue:
    """A mean; `value` None: there is nothing to take it of, and `low`, `high` None: too little for an interval."""

    value: float | None
    low: float | None = None
    high: float | None = None
    count: int = 0


def mean_value(values: Iterable[float | None], level: float = 0.95) -> MeanValue:
    """The mean of the values that there are, and the t-interval around it; None and nan are left out."""
    there = np.array([value for value in values if value is not None], np.float64)
    there = there[~np.isnan(there)]
    if not len(there):
        return MeanValue(None)
    mean = float(there.mean())
    if len(there) < 2:
        return MeanValue(mean, count=1)
    half = t_quantile((1 + level) / 2, len(there) - 1) * float(there.std(ddof=1)) / len(there) ** 0.5
    return MeanValue(mean, mean - half, mean + half, len(there))

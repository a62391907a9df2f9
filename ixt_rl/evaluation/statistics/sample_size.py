"""How many questions it takes to see a difference."""

from __future__ import annotations

import math

from ixt_rl.errors import ConfigError
from ixt_rl.evaluation.statistics.quantiles import normal_quantile, t_quantile


def questions_needed(
    difference: float, deviation: float, *, power: float = 0.8, level: float = 0.95, design_effect: float = 1.0
) -> int:
    """Questions with which a paired test finds a difference of this size with probability `power`.

        n = ((t + t_power) deviation / difference)^2 design_effect,   t and t_power of n - 1 degrees of freedom

    Args:
        difference: of the two means, not 0.
        deviation: standard deviation over questions of the paired differences.
        power: in (0, 1).
        level: 1 - the two-sided level of the test.
        design_effect: by how much clusters raise the variance of the mean.

    Raises:
        ConfigError: a difference of 0, which no number of questions shows.
    """
    if difference == 0 or not math.isfinite(difference):
        raise ConfigError(
            f"difference {difference}", reason="no number of questions shows it", remedy="give the size to be seen"
        )
    ratio = (deviation / difference) ** 2 * design_effect
    number = (normal_quantile((1 + level) / 2) + normal_quantile(power)) ** 2 * ratio
    for _ in range(20):  # the quantiles depend on n: a few rounds settle it
        freedom = max(number - 1, 1.0)
        again = (t_quantile((1 + level) / 2, freedom) + t_quantile(power, freedom)) ** 2 * ratio
        if abs(again - number) < 1e-6 * number:
            break
        number = (number + again) / 2
    return max(2, math.ceil(number))

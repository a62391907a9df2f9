"""Advantages of groups: rewards less a baseline. What is undecided (NaN) enters no baseline and stays NaN.

Shapes: g groups of G completions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

_TINY = 1e-4  # as TRL's
_TOLERANCE = 1e-6  # by how much of it (or of 1) a reward may miss `keep_reward`: rewards are held in float32


def least_kept(keep_reward: float) -> float:
    """The least reward of a rationale that is kept."""
    return keep_reward - _TOLERANCE * max(1.0, abs(keep_reward))


def differ(rewards: Tensor) -> Tensor:
    """(g, G) rewards -> (g,) bool: groups whose decided ones are not all equal, rounding aside."""
    highest, lowest = _ends(rewards)
    return (highest > lowest) & ~torch.isclose(highest, lowest)


def less_the_mean(rewards: Tensor) -> Tensor:
    """(g, G) rewards -> each less the mean of its group's decided ones, exactly 0 where these are equal."""
    return level(rewards, rewards - rewards.nanmean(dim=1, keepdim=True))


def leave_one_out(rewards: Tensor) -> Tensor:
    """(g, G) rewards -> each less the mean of the *other* decided ones of its group, NaN where there is no other.

    n / (n - 1) times `less_the_mean`, of n that are decided.
    """
    others = (~rewards.isnan()).sum(dim=1, keepdim=True) - 1
    baseline = (rewards.nansum(dim=1, keepdim=True) - rewards) / others
    return torch.where(others > 0, level(rewards, rewards - baseline), float("nan"))


def group_relative(rewards: Tensor, scale: Literal["group", "batch", "none"] | str) -> Tensor:
    """(g, G) rewards -> GRPO's advantages: less the group's mean, over the standard deviation (n - 1) plus 1e-4.

    Args:
        scale: whose deviation: the group's, all rewards', or none.
    """
    relative = less_the_mean(rewards)
    if scale == "none":
        return relative
    deviation = _deviation(rewards, dim=1) if scale == "group" else _deviation(rewards.flatten(), dim=0)
    return relative / (deviation + _TINY)


def level(rewards: Tensor, advantages: Tensor) -> Tensor:
    """The advantages (g, G), 0 in groups whose decided rewards are equal, where rounding may have left something: over
    a deviation of 1e-4 enough of it for a first step of Adam."""
    return advantages.masked_fill(tied(rewards), 0.0)


def tied(rewards: Tensor) -> Tensor:
    """(g, G) rewards -> (g, G) bool: decided ones of groups whose decided ones are equal."""
    highest, lowest = _ends(rewards)
    return (highest == lowest)[:, None] & ~rewards.isnan()


def _ends(rewards: Tensor) -> tuple[Tensor, Tensor]:
    """(g, G) rewards -> (g,) highest and (g,) lowest of its decided ones; -inf and inf where there are none."""
    unknown = rewards.isnan()
    return rewards.masked_fill(unknown, -torch.inf).amax(1), rewards.masked_fill(unknown, torch.inf).amin(1)


def _deviation(values: Tensor, dim: int) -> Tensor:
    """Standard deviation of what is decided along `dim`, which stays; 0 of fewer than two."""
    count = (~values.isnan()).sum(dim=dim, keepdim=True)
    squares = (values - values.nanmean(dim=dim, keepdim=True)).square().nansum(dim=dim, keepdim=True)
    return torch.sqrt(squares / (count - 1).clamp(min=1))

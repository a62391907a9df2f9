"""Rewards: plain functions with TRL's reward signature, and the guard every reward is called through.

completion -> math_reward, format_reward, ... -> float, or None for undecided
GuardedReward wraps a reward: what it raises costs one sample, and a budget of them the run
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ixt_rl.rewards.form import format_reward, length_reward, tags_reward
    from ixt_rl.rewards.guard import GuardedReward, RewardBudget
    from ixt_rl.rewards.math.extract import final_answer
    from ixt_rl.rewards.math.golds import Gold, check_golds, parse_gold
    from ixt_rl.rewards.math.verifier import MathReward, math_reward, math_reward_counts, verify

_HOMES = {
    "GuardedReward": "guard", "Gold": "math.golds", "GoldReport": "math.golds", "MathReward": "math.verifier",
    "RewardBudget": "guard", "check_golds": "math.golds", "final_answer": "math.extract", "format_reward": "form",
    "length_reward": "form", "math_reward": "math.verifier", "parse_gold": "math.golds", "tags_reward": "form",
    "math_reward_counts": "math.verifier", "typed_golds": "math.golds", "verify": "math.verifier",
}  # fmt: skip

__all__ = [
    "Gold",
    "GoldReport",
    "GuardedReward",
    "MathReward",
    "RewardBudget",
    "check_golds",
    "final_answer",
    "format_reward",
    "length_reward",
    "math_reward",
    "math_reward_counts",
    "parse_gold",
    "tags_reward",
    "typed_golds",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

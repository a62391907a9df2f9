"""From an update's rewards to what is trained of it; torch alone.

Shapes: B rollouts in groups of G, F reward functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ixt_rl.trainers.baselines import group_relative, least_kept


def judged(rewards: Tensor, method: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Which rollouts are trained (B,) bool, and their advantages (B,) fp32.

    InTRO trains those whose deciding rewards all reach `keep_reward`, with advantage 1. RLSD trains those whose
    weighted sum is not its group's mean. What is undecided (NaN) is not trained, and is in no mean.

    Args:
        rewards: (B, F) each reward by itself, unweighted; undecided NaN.
        method: of a job: `type`, `weights` (F), `group_size`, and `deciding` (places), `keep_reward` or
            `scale_rewards`.
    """
    if method["type"] == "intro":
        kept = (rewards[:, method["deciding"]] >= least_kept(method["keep_reward"])).all(dim=1)
        return kept, torch.ones(len(rewards))
    weights = torch.tensor(method["weights"])
    sums = (rewards * weights).masked_fill(weights == 0, 0.0).sum(dim=1)
    advantages = group_relative(sums.view(-1, method["group_size"]), method["scale_rewards"]).flatten().nan_to_num(0.0)
    return advantages != 0, advantages


def reward_metrics(rewards: Tensor, names: Sequence[str], method: Mapping[str, Any]) -> dict[str, float | None]:
    """Means of an update as a trainer logs them; None where nothing was decided."""
    weights = torch.tensor(method["weights"])
    sums = (rewards * weights).masked_fill(weights == 0, 0.0).sum(dim=1)
    places = method["deciding"] if method["type"] == "intro" else list(range(len(names)))
    trained, _ = judged(rewards, method)
    found: dict[str, float | None] = {"reward": _mean(sums)}
    found |= {f"rewards/{name}/mean": _mean(rewards[:, place]) for place, name in enumerate(names)}
    found["rollout/undecided"] = rewards[:, places].isnan().any(dim=1).float().mean().item()
    found["rollout/kept" if method["type"] == "intro" else "rollout/trained"] = trained.float().mean().item()
    return found


def _mean(values: Tensor) -> float | None:
    decided = values[~values.isnan()]
    return decided.mean().item() if len(decided) else None

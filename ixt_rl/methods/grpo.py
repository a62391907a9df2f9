"""GRPO (arXiv 2402.03300), through TRL."""

from __future__ import annotations

from typing import Literal

from ixt_rl.blocks.strict import NonNegativeFloat, PositiveFloat, Strict


class GrpoSection(Strict):
    """GRPO (arXiv 2402.03300), through TRL."""

    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = "grpo"
    epsilon: PositiveFloat = 0.2
    epsilon_high: PositiveFloat | None = None
    beta: NonNegativeFloat = 0.0
    scale_rewards: Literal["group", "batch", "none"] = "group"

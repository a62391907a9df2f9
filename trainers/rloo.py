"""RLOO: REINFORCE with a leave-one-out baseline (arXiv 2402.14740).

    loss = - 1/K sum_z min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A)
    A_i  = R_i - mean of the other decided rewards of the group,   r = prod_t p_t(z_t) / p_t^old(z_t)

A rationale is one action: its log-prob is the sum of its tokens', and long ones move the policy more. TRL's
`RLOOTrainer` at `beta=0`; a reward that is undecided enters no baseline, and is trained by none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ixt_rl.conditioning import Batch
from ixt_rl.trainers.baselines import leave_one_out
from ixt_rl.trainers.hooks import Signals
from ixt_rl.trainers.policy_gradient import PolicyGradientConfig, PolicyGradientTrainer
from ixt_rl.trainers.surrogate import Ratio


@dataclass
class RLOOConfig(PolicyGradientConfig):
    """`PolicyGradientConfig`; `epsilon` and `epsilon_high` bound a rationale's ratio, and advantages have no scale."""

    own_options: ClassVar[tuple[str, ...]] = ("epsilon", "epsilon_high")


class RLOOTrainer(PolicyGradientTrainer):
    """RLOO on TRL's GRPOTrainer."""

    config_class: ClassVar[type] = RLOOConfig
    _tag_names = ["trl", "ixt-rl", "rloo"]
    _name = "RLOO"
    ratio: ClassVar[Ratio] = "sequence"

    def advantages(self, rewards: Tensor, batch: dict[str, Any]) -> Tensor:
        return leave_one_out(rewards.view(-1, self.group_size)).flatten()

    def token_weights(self, batch: Batch, signals: Signals) -> Tensor:
        """1 / K: the log-prob of a rationale is the sum of its tokens'."""
        return (1.0 / signals.rows_per_update).expand(len(batch.target_ids))

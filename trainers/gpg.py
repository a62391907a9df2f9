"""GPG: group policy gradient (arXiv 2504.02546), the plain gradient of the expected reward.

    loss = - 1/T sum_z A sum_t log p_t(z_t),   A_i = alpha (R_i - mean of the group's decided rewards)

with T the completion tokens of the update, and alpha the groups of the generation over those of them that teach
something: groups whose rewards are equal have tokens in T and no gradient, so that the more of them there are, the
smaller the gradient of the others would be. No ratio, no clip, no reference: each rollout serves one update.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ixt_rl.conditioning import Batch
from ixt_rl.trainers.baselines import less_the_mean
from ixt_rl.trainers.hooks import Signals
from ixt_rl.trainers.policy_gradient import PolicyGradientConfig, PolicyGradientTrainer
from ixt_rl.trainers.refused_options import refuse_reuse
from ixt_rl.trainers.surrogate import Ratio


@dataclass
class GPGConfig(PolicyGradientConfig):
    """`PolicyGradientConfig`, but there is no ratio to bound, and advantages have no scale (the paper's F_norm = 1)."""

    own_options: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_reuse(self)


class GPGTrainer(PolicyGradientTrainer):
    """GPG on TRL's GRPOTrainer."""

    config_class: ClassVar[type] = GPGConfig
    _tag_names = ["trl", "ixt-rl", "gpg"]
    _name = "GPG"
    ratio: ClassVar[Ratio] = "none"

    def advantages(self, rewards: Tensor, batch: dict[str, Any]) -> Tensor:
        """With alpha; dynamic sampling leaves the tokens of idle groups out of T itself, where alpha is 1."""
        advantages = less_the_mean(rewards.view(-1, self.group_size))
        taught = (advantages.nan_to_num(nan=0.0) != 0).any(dim=1).float()
        filled = self.dynamic is not None and self.model.training
        alpha = taught.new_ones(()) if filled else len(taught) / taught.sum().clamp(min=1)
        self.track("gpg/alpha", alpha)
        return (alpha * advantages).flatten()

    def token_weights(self, batch: Batch, signals: Signals) -> Tensor:
        """1 / T."""
        assert signals.tokens_per_update is not None
        return (1.0 / signals.tokens_per_update).expand(len(batch.target_ids))

"""RAFT: NLL on kept rationales; RAFT++ adds the importance ratio and its clip (arXiv 2504.11343).

    RAFT    loss = - 1/K sum_z 1/|z| sum_t log p_t(z_t)
    RAFT++  loss = - 1/K sum_z 1/|z| sum_t min(r_t, 1 + epsilon),   r_t = p_t(z_t) / p_t^old(z_t)

with K the kept rationales of the update. On rollouts of the current policy both have the same gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor
from trl import GRPOConfig

from ixt_rl.trainers.kept import KeptTrainer
from ixt_rl.trainers.refused_options import ENGINE, RATIO, own_loss, refuse_options, refuse_reuse
from ixt_rl.trainers.surrogate import surrogate_loss


@dataclass
class RAFTConfig(GRPOConfig):
    """`trl.GRPOConfig` with RAFT's options; GRPO options it cannot honour are refused.

    Args:
        importance_ratio: RAFT++: weigh tokens by the clipped ratio to the policy that sampled them.
        disable_dropout: no dropout in training, LoRA's included: what is compared with the sampler, or an older
            policy, is the policy (TRL's default is False).
        keep: names of the reward functions that decide what is kept; one of them undecided excludes. None: all but
            those that say of themselves that they do not, and those without a positive weight; see `KeptTrainer`.
        keep_reward: a rationale is kept where each of them is at least this, unweighted.
        epsilon: RAFT++ only: ratios count up to 1 + epsilon.
        self_checks: `{name: False}` leaves a check out that precedes the first update; see `self_checks.py`.
    """

    importance_ratio: bool = field(default=False)
    disable_dropout: bool = field(default=True)
    keep: list[str] | None = field(default=None)
    keep_reward: float = field(default=1.0)
    self_checks: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        ratio = self.importance_ratio
        refuse_options(self, ENGINE, own_loss("epsilon") if ratio else own_loss(), RATIO if ratio else {})
        refuse_reuse(self)


class RAFTTrainer(KeptTrainer):
    """RAFT and RAFT++ on TRL's GRPOTrainer."""

    config_class: ClassVar[type] = RAFTConfig
    _tag_names = ["trl", "ixt-rl", "raft"]
    _name = "RAFT"

    def _compute_loss(self, model, inputs: dict[str, Any]) -> Tensor:
        rows = self.trained_rows(inputs)
        batch = self.policy_batch(rows)
        return surrogate_loss(
            self,
            model,
            inputs,
            rows,
            batch,
            self.weights_of(batch, self.signals_of(inputs, rows)),
            ratio="token" if self.args.importance_ratio else "none",
            bounds=(0.0, 1 + self.args.epsilon),
        )

"""GRPO (arXiv 2402.03300): TRL's loss on this library's rollouts and log-probs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from trl import GRPOConfig as TRLGRPOConfig

from ixt_rl.trainers.online import OnlineTrainer
from ixt_rl.trainers.refused_options import ENGINE, RATIO, refuse_options

_MEANS_OVER_ROWS = ("grpo", "sapo", "dr_grpo", "luspo")
"""TRL's loss types whose denominator counts rows; those of the others count tokens that are not masked."""
_CLIPPED = ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "cispo_clip_ratio")
"""TRL's metrics that are means over tokens, or with `importance_sampling_level: sequence` over rows."""


@dataclass
class GRPOConfig(TRLGRPOConfig):
    """`trl.GRPOConfig`; options that TRL's own generation would read are refused.

    Args:
        disable_dropout: no dropout in training, LoRA's included: both passes of a ratio are one network (TRL's default
            is False).
        self_checks: `{name: False}` leaves a check out that precedes the first update; see `self_checks.py`.
    """

    disable_dropout: bool = field(default=True)
    self_checks: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_options(self, ENGINE, RATIO)


class GRPOTrainer(OnlineTrainer):
    """`trl.GRPOTrainer` with a rollout engine, guarded rewards and positions from the mask."""

    config_class: ClassVar[type] = GRPOConfig
    _tag_names = ["trl", "ixt-rl", "grpo"]

    def correct(self, batch: dict[str, Any]) -> None:
        advantages = batch["advantages"]
        super().correct(batch)
        if self.loss_type != "vespo":
            return
        batch["advantages"] = advantages  # TRL's takes the ratio into a rationale's weight by itself: the product of
        if self.correction is not None and self.correction.level == "sequence":  # tokens', or of a rationale its one
            batch["importance_sampling_ratio"] = batch["importance_sampling_ratio"][:, :1]

    def _compute_loss(self, model, inputs):
        """TRL's; what it logs of tokens is weighed by them."""
        loss = self._shared_loss(model, inputs)
        of_ratios = _CLIPPED if self.importance_sampling_level == "token" else ()
        for name in ("entropy", "kl", *of_ratios):
            self.weigh(name, inputs["completion_mask"].sum())
        return loss

    def _shared_loss(self, model, inputs):
        """TRL's; where dynamic sampling found too few groups that teach something, means over rows are over theirs, and
        what is no such mean (the entropy bonus, a mixture's auxiliary loss) stays as it is."""
        share = inputs.get("signal_share")
        if share is None or self.loss_type not in _MEANS_OVER_ROWS:
            return super()._compute_loss(model, inputs)
        beta, self.beta = self.beta, self.beta / float(share)
        try:
            return super()._compute_loss(model, {**inputs, "advantages": inputs["advantages"] / share})
        finally:
            self.beta = beta

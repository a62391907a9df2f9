"""RAFT: NLL on kept rationales; RAFT++ adds the importance ratio and its clip (arXiv 2504.11343).

    RAFT    loss = - 1/K sum_z 1/|z| sum_t log p_t(z_t)
    RAFT++  loss = - 1/K sum_z 1/|z| sum_t min(r_t, 1 + epsilon),   r_t = p_t(z_t) / p_t^old(z_t)

with K the kept rationales of the update. On rollouts of the current policy both have the same gradient. A token's
slope, `dloss / dlog p`, is known as soon as its log-prob is, so that the head is walked once (`nll_loss`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from trl import GRPOConfig

from ixt_rl.kernels.head import Head
from ixt_rl.kernels.nll import NllStats, nll_loss
from ixt_rl.trainers.auxiliary import forward_with_auxiliary
from ixt_rl.trainers.kept import KeptTrainer
from ixt_rl.trainers.refused_options import ENGINE, OWN_LOSS, RATIO, refuse_options, refuse_reuse


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
        own_loss = {k: v for k, v in OWN_LOSS.items() if not (self.importance_ratio and k == "epsilon")}
        refuse_options(self, ENGINE, own_loss, RATIO if self.importance_ratio else {})
        refuse_reuse(self)


class RAFTTrainer(KeptTrainer):
    """RAFT and RAFT++ on TRL's GRPOTrainer."""

    config_class: ClassVar[type] = RAFTConfig
    _tag_names = ["trl", "ixt-rl", "raft"]
    _name = "RAFT"

    def _compute_loss(self, model, inputs: dict[str, Any]) -> Tensor:
        kept = self.kept_rows(inputs)
        batch = self.policy_batch(kept)
        weights_N = self.weights_of(batch, self.signals_of(inputs, kept))

        rows = [row for row, _, _ in kept]
        old_N = None
        if self.args.importance_ratio and "old_per_token_logps" in inputs and len(weights_N):
            old_N = inputs["old_per_token_logps"][rows][inputs["completion_mask"][rows].bool()]
        sampled_N = self.sampled_logps(inputs, rows, batch)
        if sampled_N is not None and old_N is not None:  # up to the policy that sampled; the ratio goes on from there
            weights_N = weights_N * self.correction_weights(old_N, sampled_N, batch.target_rows)
            sampled_N = None
        ratio_N, value_N = torch.ones_like(weights_N), torch.ones_like(weights_N)
        most = 1 + self.args.epsilon

        def head_fn(hidden: Tensor, head: Head) -> tuple[Tensor, NllStats]:
            corrected = None if sampled_N is None else self._reweigh(hidden, head, batch, sampled_N)

            def slope(logp_C: Tensor, at: slice) -> Tensor:
                """Of minus the loss of these tokens by their log-probs, whose own value is that of `nll_loss`."""
                weight_C = torch.ones_like(logp_C) if corrected is None else corrected(logp_C, at)
                if not self.args.importance_ratio:
                    return weight_C
                old_C = logp_C if old_N is None else old_N[at].to(logp_C.device)
                ratio_C = (logp_C - old_C).exp()
                ratio_N[at], value_N[at] = ratio_C, weight_C * ratio_C.clamp(max=most)
                return weight_C * ratio_C * (ratio_C <= most)

            return nll_loss(hidden, head, batch.target_ids, weights_N, reweigh=slope)

        self.ledger.add("train", int(batch.attention_mask.sum()))
        with self.accelerator.autocast():
            passed = {**self.model_inputs(batch), "head_fn": head_fn}
            (loss, stats), auxiliary = forward_with_auxiliary(self, model, passed, self.track)
        self.track("entropy", stats.entropy)
        if not self.args.importance_ratio:
            return auxiliary + loss
        self.track("ratio/mean", ratio_N)
        self.track("ratio/clipped", (ratio_N > most).float())
        return auxiliary + loss - loss.detach() - (weights_N * value_N).sum()

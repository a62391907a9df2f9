"""LaTRO: latent reasoning optimization (arXiv 2411.04282). The reward is the model's own log-prob of the answer.

    J     = E_z~p(.|x) [ log p(y | x, z') - kl log(p(z | x) / p_0(z | x)) ]
    loss  = - 1/K sum_z ( A log p(z | x) + log p(y | x, z') )
    A_i   = r_i - mean of the other r of its group,   r = log p(y | x, z') - kl log(p(z | x) / p_0(z | x)), held fixed

whose expected gradient is that of -J: the policy learns to write what makes the answer likely, and to read the answer
off what it wrote. No verifier is asked. z' is z without the token that ends it, y the answer in `target`, p_0 the
initial model; log-probs are sums over tokens. Both terms are one forward pass of the rows [x, z] and [x, z', y].

Shapes: R trained rationales of a micro-batch, N trained tokens, of z first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ixt_rl.conditioning import Batch, prompt_completion
from ixt_rl.errors import ConfigError
from ixt_rl.trainers.hooks import Signals
from ixt_rl.trainers.reference_policy import Reference
from ixt_rl.trainers.refused_options import refuse_reuse
from ixt_rl.trainers.self_reward import SelfRewardConfig, SelfRewardTrainer
from ixt_rl.trainers.surrogate import Ratio, surrogate_loss


@dataclass
class LaTROConfig(SelfRewardConfig):
    """`SelfRewardConfig` with LaTRO's penalty.

    Args:
        kl: weight of the penalty in the reward for moving away from the initial model; 0: no such model is kept.
    """

    kl: float = field(default=0.05)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.kl < math.inf:
            raise ConfigError(f"kl={self.kl}", reason="it weighs a penalty", remedy="give 0 or a positive number")
        refuse_reuse(self)


class LaTROTrainer(SelfRewardTrainer):
    """LaTRO on TRL's GRPOTrainer; dataset rows need `answer`."""

    config_class: ClassVar[type] = LaTROConfig
    _tag_names = ["trl", "ixt-rl", "latro"]
    _name = "LaTRO"
    ratio: ClassVar[Ratio] = "none"

    def __init__(self, model: Any, reward_funcs: Any, args: LaTROConfig, **kwargs: Any):
        super().__init__(model, reward_funcs, args, **kwargs)
        self.reference = Reference(self, temperature=self.temperature) if args.kl else None

    def self_rewards(
        self, prompts: list[list[int]], rationales: list[list[int]], targets: list[list[int]], batch: dict[str, Any]
    ) -> Tensor:
        scores = super().self_rewards(prompts, rationales, targets, batch)
        self.track("latro/score", scores)
        if self.reference is None:
            return scores
        sequences = [prompt_completion(*row) for row in zip(prompts, rationales, strict=True)]
        own, initial = self.scores(sequences), self.scores(sequences, self.reference)
        self.track("latro/kl", own - initial)
        return scores - self.args.kl * (own - initial)

    def trained(self, inputs: dict[str, Any]) -> Tensor:
        """All that are decided: the answer is learnt after each."""
        return ~inputs["rewards"].isnan()

    def token_weights(self, batch: Batch, signals: Signals) -> Tensor:
        """1 / K: log-probs are sums over tokens."""
        return (1.0 / signals.rows_per_update).expand(len(batch.target_ids))

    def sampled_logps(self, inputs: dict[str, Any], rows: list[int], batch: Batch) -> Tensor | None:
        """(N,); NaN of the answer's tokens, which nobody sampled."""
        found = super().sampled_logps(inputs, rows, batch)
        if found is None:
            return None
        missing = len(batch.target_ids) - len(found)
        return torch.cat([found, found.new_full((missing,), float("nan"))])

    def correction_weights(self, logp_N: Tensor, sampled_N: Tensor, rows_N: Tensor) -> Tensor:
        """Of the answer's tokens, which nobody sampled: 1, or their rationale's where its whole ratio counts."""
        sampled = ~sampled_N.isnan()
        weights_N = torch.ones_like(logp_N, dtype=torch.float32)
        weights_N[sampled] = found_N = super().correction_weights(logp_N[sampled], sampled_N[sampled], rows_N[sampled])
        if self.correction is not None and self.correction.level == "sequence" and len(rows_N):
            rationales = (int(rows_N.max()) + 1) // 2  # [x, z] of each, then [x, z', y] of each
            weights_R = torch.ones(rationales, device=logp_N.device)
            weights_R[rows_N[sampled]] = found_N
            weights_N[~sampled] = weights_R[rows_N[~sampled] - rationales]
        return weights_N

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        rows = self.trained_rows(inputs)
        targets = inputs["target_ids"]
        batch = self.collate([
            *(prompt_completion(prompt, z) for _, prompt, z in rows),
            *(self.read_after(prompt, z, targets[row] if z else []) for row, prompt, z in rows),
        ])  # fmt: skip
        signals = self.signals_of(inputs, [*rows, *rows])
        advantages = signals.advantages.clone()
        advantages[len(rows) :] = 1.0
        return surrogate_loss(
            self,
            model,
            inputs,
            rows,
            batch,
            self.weights_of(batch, signals),
            advantages_N=advantages[batch.target_rows],
            ratio=self.ratio,
        )

"""OPSD: on-policy self-distillation (arXiv 2601.18734) of the model that is told the answer into the one that is not.

One update, for all rollouts z of questions x with known answers y, right and wrong ones:

    q_t = pi_teacher(. | x (+) y, z_<t)     one pass without gradient
    p_t = pi(. | x, z_<t)                   one pass with gradient
    loss = 1/K sum_z 1/|z| sum_t D(p_t, q_t)

with D a divergence over the whole vocabulary: `jsd`, `forward_kl` or `reverse_kl` (`kernels/divergence.py` has them and
the derivation of their gradients). No reward enters; rewards are logged. It is InTRO's `candidates="exact"` with D's
factor in place of `min(q / p, clip)` and nothing dropped, so that both passes and the walk over the head are InTRO's.

Shapes: B rows, N loss-bearing tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ixt_rl.conditioning import Batch
from ixt_rl.errors import ConfigError
from ixt_rl.kernels.divergence import Divergence, DivergenceName
from ixt_rl.kernels.intro.spec import IntroStats
from ixt_rl.kernels.intro.walk import Factor, FactorAt
from ixt_rl.kernels.logprobs_at import LogprobsAt
from ixt_rl.trainers.hooks import Signals
from ixt_rl.trainers.intro import InTROConfig, InTROTrainer
from ixt_rl.trainers.refused_options import ENGINE, OWN_LOSS
from ixt_rl.trainers.where import Where

_INTROS = {
    "candidates": "exact", "include_taken": True, "clip": None, "contrast": False, "sign": None, "keep": None,
    "keep_reward": 1.0,
}  # fmt: skip
"""Options of InTRO's that have one value here."""


@dataclass
class OPSDConfig(InTROConfig):
    """`InTROConfig` with OPSD's options; what InTRO samples, clips and keeps by is refused.

    Args:
        divergence: of policy and teacher at every position.
        jsd_beta: share of the teacher in `jsd`'s mixture.
        posterior: the teacher: a `frozen` copy of the initial model, `live`, an `ema`, or a `lagged` copy.
    """

    candidates: int | str = field(default="exact")
    clip: float | None = field(default=None)
    posterior: Literal["live", "frozen", "ema", "lagged"] = field(default="frozen")
    divergence: DivergenceName = field(default="jsd")
    jsd_beta: float = field(default=0.5)

    refused: ClassVar[tuple[dict[str, str], ...]] = (ENGINE, OWN_LOSS)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in _INTROS.items():
            if getattr(self, name) != value:
                raise ConfigError(
                    f"OPSDConfig.{name}={getattr(self, name)!r}",
                    reason="the divergence is over the whole vocabulary, of every rollout",
                    remedy=f"leave it at {value!r}, or train with InTROTrainer",
                )
        if self.importance_ratio:
            raise ConfigError(
                "OPSDConfig.importance_ratio=True",
                reason="the divergence at a position does not depend on the token that was sampled there",
                remedy="leave it out, and use each rollout for one update",
            )
        Divergence(self.divergence, self.jsd_beta)


class OPSDTrainer(InTROTrainer):
    """OPSD on TRL's GRPOTrainer; dataset rows need `prompt` and `told_prompt`."""

    config_class: ClassVar[type] = OPSDConfig
    _tag_names = ["trl", "ixt-rl", "opsd"]
    _name = "OPSD"

    def __init__(self, model: PreTrainedModel | str, reward_funcs: Any, args: OPSDConfig, **kwargs: Any):
        self.divergence = Divergence(args.divergence, args.jsd_beta)
        super().__init__(model, reward_funcs, args, **kwargs)

    def keep(self, rewards: Tensor, batch: dict[str, Any]) -> Tensor:
        """(B,) bool: all."""
        return torch.ones_like(rewards, dtype=torch.bool)

    def has_signal(self, rewards_per_func: Tensor) -> Tensor:
        """(groups,) bool: all."""
        groups = len(rewards_per_func) // self.args.num_generations
        return torch.ones(groups, dtype=torch.bool, device=rewards_per_func.device)

    def factor(self, logp: Tensor, logq: Tensor, where: Where) -> Tensor:
        """The divergence's, in place of InTRO's."""
        return self.divergence.factor(logp, logq)

    def sampled_logps(self, inputs: dict[str, Any], rows: list[int], batch: Batch) -> Tensor | None:
        """None: a divergence is no expectation over the token that was sampled, which no ratio could correct."""
        return None

    def _factor_at(
        self, batch: Batch, signals: Signals, device: torch.device, wrong: LogprobsAt | None = None
    ) -> FactorAt | None:
        """None for the forward KL, whose factor is the kernel's own without a clip: no tile is visited."""
        return None if self.divergence.name == "forward_kl" else super()._factor_at(batch, signals, device)

    @property
    def _measure(self) -> Factor | None:
        return None if self.divergence.name == "forward_kl" else self.divergence.terms

    def _reported(self, loss: Tensor, stats: IntroStats, weights_N: Tensor) -> Tensor:
        """The divergence's value, with the kernel's gradient."""
        return loss - loss.detach() + (weights_N.to(loss.device) * _values(stats)).sum()

    def _track_stats(self, stats: IntroStats, inputs: dict[str, Any], rows: list[int], batch: Batch) -> None:
        gap_N = stats.logq - stats.logp
        self.told.track_style(inputs, gap_N.exp(), batch.target_ids)
        self.track("teacher/divergence", _values(stats))
        self.track("teacher/log_ratio", gap_N)
        self.track("factor/kl", stats.kl)
        self.track("entropy", stats.entropy)
        if (right_N := self.right_tokens(inputs, rows, batch)) is not None:
            self.track("teacher/log_ratio_right", gap_N[right_N])
            self.track("teacher/log_ratio_wrong", gap_N[~right_N])


def _values(stats: IntroStats) -> Tensor:
    """(N,) the divergence at each position."""
    return stats.kl if stats.measured is None else stats.measured

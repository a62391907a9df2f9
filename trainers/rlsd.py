"""RLSD: the size of each token's credit from the told model, its sign from the reward (arXiv 2604.03128).

    loss = - 1/K sum_z 1/|z| sum_t min(r_t A f_t, clip(r_t, 1 - epsilon, 1 + epsilon_high) A f_t)
    f_t  = 1 + mix (clip((q_t(z_t) / p_t(z_t))^sign(A), 1 - factor_epsilon, 1 + factor_epsilon) - 1)

with GRPO's advantages A, the policy p and the model q that is told the answer; no gradient flows through f. Where
A > 0, tokens that the answer makes likelier count more; where A < 0, those that it makes less likely. Right and wrong
rationales are trained, and no factor turns an advantage round.

With `contrast`, q told a wrong answer takes the place of p in f: what any answer would change cancels.

Shapes: B rows, N trained tokens, C tokens of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ixt_rl.conditioning import Batch
from ixt_rl.kernels.told_factor import told_factor
from ixt_rl.trainers.hooks import Signals
from ixt_rl.trainers.policy_gradient import PolicyGradientConfig, PolicyGradientTrainer
from ixt_rl.trainers.refused_options import check_ranges
from ixt_rl.trainers.surrogate import TokenFactor
from ixt_rl.trainers.told import TOLD, WRONG, ToldOptions, ToldPass
from ixt_rl.trainers.trained_rows import Row


@dataclass
class RLSDConfig(ToldOptions, PolicyGradientConfig):
    """`PolicyGradientConfig` with the told pass; the posterior is frozen, as in the authors' runs.

    Args:
        factor_epsilon: the factor lies between 1 - factor_epsilon and 1 + factor_epsilon.
        mix: 1 is the paper's equation, 0 is GRPO; the authors' code has 0.5.
        contrast: the told model is compared with itself told a wrong answer, not with the policy; rows need
            `told_wrong_prompt`.
    """

    posterior: Literal["live", "frozen", "ema", "lagged"] = field(default="frozen")
    factor_epsilon: float = field(default=0.2)
    mix: float = field(default=1.0)
    contrast: bool = field(default=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_told()
        check_ranges(
            self,
            "the factor is to set the size of an advantage, and never its sign",
            ("factor_epsilon", 0 < self.factor_epsilon < 1, "between 0 and 1, both excluded"),
            ("mix", 0 <= self.mix <= 1, "from 0 to 1"),
        )


class ToldCredit(PolicyGradientTrainer):
    """`PolicyGradientTrainer` with a told pass: what RLSD and RLCSD share. Rows need `told_prompt`."""

    def __init__(self, model: Any, reward_funcs: Any, args: Any, *, told: tuple[str, ...], **kwargs: Any):
        super().__init__(model, reward_funcs, args, **kwargs)
        self.told = ToldPass(self, told)
        self.posterior = self.told.posterior

    def prepared(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self.told.prepared(rows)

    def complete(self, rows: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        super().complete(rows, batch)
        self.told.complete(rows, batch)

    def track_factor(self, inputs: dict[str, Any], rows: list[Row], batch: Batch, factor_N: Tensor) -> None:
        """Logs factors of the trained tokens, where a world grades tokens also by whether they are right."""
        self.track("factor/taken", factor_N)
        self.told.track_style(inputs, factor_N, batch.target_ids)
        right = self.right_tokens(inputs, [row for row, _, _ in rows], batch)
        if right is not None:
            right = right.to(factor_N.device)
            self.track("factor/taken_right", factor_N[right])
            self.track("factor/taken_wrong", factor_N[~right])

    # ---------------------------------------------------------------- checkpoints

    def write_files(self, folder: Path) -> None:
        super().write_files(folder)
        self.told.save(folder)

    def read_files(self, folder: Path) -> None:
        super().read_files(folder)
        self.told.load(folder)


class RLSDTrainer(ToldCredit):
    """RLSD on TRL's GRPOTrainer; dataset rows need `prompt` and `told_prompt`, for contrast `told_wrong_prompt`."""

    config_class: ClassVar[type] = RLSDConfig
    _tag_names = ["trl", "ixt-rl", "rlsd"]
    _name = "RLSD"

    def __init__(self, model: Any, reward_funcs: Any, args: RLSDConfig, **kwargs: Any):
        told = (TOLD, WRONG) if args.contrast else (TOLD,)
        super().__init__(model, reward_funcs, args, told=told, **kwargs)

    def token_factor(
        self, model: Any, inputs: dict[str, Any], rows: list[Row], batch: Batch, signals: Signals
    ) -> TokenFactor:
        told_N = self.told.logps(model, inputs, rows)
        wrong_N = self.told.logps(model, inputs, rows, WRONG) if self.args.contrast else None
        sign_N = signals.advantages[batch.target_rows].sign()
        factor_N = torch.ones_like(told_N)

        def factor(logp_C: Tensor, at: slice) -> Tensor:
            told_C, sign_C = told_N[at].to(logp_C), sign_N[at].to(logp_C)
            compared_C = logp_C if wrong_N is None else wrong_N[at].to(logp_C)
            factor_C, clipped_C = told_factor(compared_C, told_C, sign_C, self.args.factor_epsilon, self.args.mix)
            self.track("factor/clipped", clipped_C.float())
            factor_N[at] = factor_C
            if at.stop == len(factor_N):  # the walk's last chunk
                self.track_factor(inputs, rows, batch, factor_N)
            return factor_C

        return factor

"""RLCSD: advantages moved by the contrast of a right answer told with a wrong one (arXiv 2606.11709).

    e_t  = log q_t(z_t | x (+) y) - log q_t(z_t | x (+) y')       the same model told a right and a wrong answer
    m_t  = strength tanh(e_t / tau), 0 where |m_t| <= threshold
    A_t  = A + m_t, cut at 0 where it would change the sign of A
    loss = mean of l_t over tokens with m_t = 0  +  eta mean of l_t over the others
    l_t  = - min(r_t A_t, clip(r_t, 1 - epsilon, 1 + epsilon_high) A_t)

with GRPO's advantages A; no gradient flows through A_t. What any told answer does to style is in both terms of e, and
cancels. Both means are over the tokens of the whole update. Rationales with A = 0 have m = 0.

The paper tells whole rationales of the group, a right one and up to four wrong ones, of which it takes the mean
probability; here both models are told answers, by one template, and one wrong one.

The told passes are made once for each generation, before its first update, as the paper's are: a mean over the others
needs to know how many there are.

Shapes: B rows, T tokens, N trained tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ixt_rl.conditioning import Batch
from ixt_rl.trainers.hooks import Signals
from ixt_rl.trainers.policy_gradient import PolicyGradientConfig
from ixt_rl.trainers.refused_options import check_ranges
from ixt_rl.trainers.rlsd import ToldCredit
from ixt_rl.trainers.surrogate import TokenFactor
from ixt_rl.trainers.told import TOLD, WRONG, ToldOptions
from ixt_rl.trainers.trained_rows import Row


@dataclass
class RLCSDConfig(ToldOptions, PolicyGradientConfig):
    """`PolicyGradientConfig` with two told passes; numbers and the posterior are those of the authors' runs.

    Args:
        tau: contrasts (nats) of this size begin to saturate.
        strength: most that a token's advantage is moved.
        threshold: moves that are no larger count as none.
        eta: weight of the mean over the moved tokens.
    """

    posterior: Literal["live", "frozen", "ema", "lagged"] = field(default="lagged")
    posterior_every: int | None = field(default=10)
    tau: float = field(default=0.02)
    strength: float = field(default=0.5)
    threshold: float = field(default=0.02)
    eta: float = field(default=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_told()
        check_ranges(
            self,
            "no advantage would be moved by a contrast, or against it",
            ("tau", self.tau > 0, "above 0"),
            ("strength", self.strength > self.threshold, "above the threshold"),
            ("threshold", self.threshold >= 0, "of 0 or more"),
            ("eta", self.eta >= 0, "of 0 or more"),
        )


class RLCSDTrainer(ToldCredit):
    """RLCSD on TRL's GRPOTrainer; dataset rows need `prompt`, `told_prompt` and `told_wrong_prompt`."""

    config_class: ClassVar[type] = RLCSDConfig
    _tag_names = ["trl", "ixt-rl", "rlcsd"]
    _name = "RLCSD"

    def __init__(self, model: Any, reward_funcs: Any, args: RLCSDConfig, **kwargs: Any):
        super().__init__(model, reward_funcs, args, told=(TOLD, WRONG), **kwargs)

    def complete(self, rows: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        super().complete(rows, batch)
        batch["move"] = self._moves(batch)
        moved = self.accelerator.gather((batch["move"] != 0).sum()).sum()
        batch["moved_tokens"] = moved.float().expand(len(rows)).clone()  # a column, so that it is among the signals

    def _moves(self, batch: dict[str, Any]) -> Tensor:
        """(B, T) m of every token, in pieces of a micro-batch; every rank makes as many passes."""
        args, found = self.args, torch.zeros(batch["completion_ids"].shape, device=batch["completion_ids"].device)
        size = args.per_device_train_batch_size if self.model.training else args.per_device_eval_batch_size
        for places in torch.arange(len(found), device=found.device).split(size):
            part = _rows_of(batch, places.tolist())
            trained = self.trained_rows(part)
            right_N, wrong_N = (self.told.logps(self.model, part, trained, column) for column in (TOLD, WRONG))
            move_N = args.strength * torch.tanh((right_N - wrong_N) / args.tau)
            move_N = move_N.masked_fill(move_N.abs() <= args.threshold, 0.0).to(found)
            first = 0
            for row, _, completion in trained if len(move_N) else []:
                real = part["completion_mask"][row].bool()
                found[places[row], real] = move_N[first : first + len(completion)]
                first += len(completion)
        return found

    def token_weights(self, batch: Batch, signals: Signals) -> Tensor:
        """1 over the number of tokens of its kind in the update, for moved ones times eta."""
        move_N = self._moves_of(batch, signals)
        moved = signals.columns["moved_tokens"][0]
        moved_tokens = self.per_update(moved)
        assert signals.tokens_per_update is not None
        others = (signals.tokens_per_update - torch.where(moved > 0, moved_tokens, 0.0)).clamp(min=1e-6)
        return torch.where(move_N != 0, self.args.eta / moved_tokens, 1 / others)

    def _moves_of(self, batch: Batch, signals: Signals) -> Tensor:
        """(N,) m of the trained tokens."""
        if not batch.loss_mask.any():
            return torch.zeros(0, device=batch.loss_mask.device)
        return signals.columns["move"][signals.columns["completion_mask"].bool()]

    def token_factor(
        self, model: Any, inputs: dict[str, Any], rows: list[Row], batch: Batch, signals: Signals
    ) -> TokenFactor:
        move_N = self._moves_of(batch, signals)
        advantage_N = signals.advantages[batch.target_rows]
        factor_N = (1 + move_N / advantage_N).clamp(min=0.0)
        self.track("factor/moved", (move_N != 0).float())
        self.track_factor(inputs, rows, batch, factor_N)
        return lambda logp_C, at: factor_N[at].to(logp_C)


def _rows_of(batch: dict[str, Any], places: list[int]) -> dict[str, Any]:
    """Some rows of TRL's dict."""
    count = len(batch["completion_ids"])
    found = dict(batch)
    for name, value in batch.items():
        if isinstance(value, Tensor) and value.dim() and len(value) == count:
            found[name] = value[places]
        elif isinstance(value, list) and len(value) == count:
            found[name] = [value[place] for place in places]
    return found

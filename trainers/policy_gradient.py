"""Policy gradients: what RLOO, GPG and their relatives share. GRPO alone is TRL's own loss (`grpo.py`).

    loss = - sum_t weight_t min(r_t A f_t, clip(r_t, 1 - epsilon, 1 + epsilon_high) A f_t),   weight_t = 1 / (|z| K)

with the advantage A of each rationale z from its whole group, a factor f of each token (1 here), the ratio r of the
policy that trains to the one that sampled, and K all rationales of the update. One walk of the head (`surrogate.py`).
A rationale whose advantage is 0 costs no forward pass; it counts in K all the same.

A method says what is its own by overriding:

    advantages      rewards of whole groups -> A
    token_factor    f, from the log-probs of the pass that trains and of passes of the method's own
    token_weights   how tokens and rationales are averaged
    ratio           of what r is: of a token, of the whole rationale, or none

Shapes: B rows, R trained rows of a micro-batch, T tokens, N trained tokens, G completions of a group, C tokens of a
chunk.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor
from trl import GRPOConfig

from ixt_rl.conditioning import Batch
from ixt_rl.errors import DataError
from ixt_rl.trainers.baselines import group_relative
from ixt_rl.trainers.hooks import Signals, hook
from ixt_rl.trainers.refused_options import ENGINE, RATIO, own_loss, refuse_options
from ixt_rl.trainers.surrogate import Ratio, TokenFactor, surrogate_loss
from ixt_rl.trainers.trained_rows import Row, TrainedRowsTrainer


@dataclass
class PolicyGradientConfig(GRPOConfig):
    """`trl.GRPOConfig`; options of GRPO's that the loss does not read are refused.

    Args:
        epsilon, epsilon_high: the ratio counts between 1 - epsilon and 1 + epsilon_high (None: epsilon), as TRL's.
        scale_rewards: whose standard deviation the default advantages are divided by, as TRL's.
        disable_dropout: no dropout in training, LoRA's included: both passes of a ratio are one network (TRL's default
            is False).
        self_checks: `{name: False}` leaves a check out that precedes the first update; see `self_checks.py`.
    """

    disable_dropout: bool = field(default=True)
    self_checks: dict[str, bool] = field(default_factory=dict)

    own_options: ClassVar[tuple[str, ...]] = ("epsilon", "epsilon_high", "scale_rewards")
    """GRPO's options that the loss reads; without `epsilon` it has no ratio."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_options(self, ENGINE, own_loss(*self.own_options), RATIO if "epsilon" in self.own_options else {})

    @property
    def bounds(self) -> tuple[float, float]:
        """(low, high) of the ratio."""
        high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        return 1 - self.epsilon, 1 + high


class PolicyGradientTrainer(TrainedRowsTrainer):
    """`TrainedRowsTrainer` with the loss at the top of this file; rationales of advantage 0 are not trained.

    As it stands: GRPO's advantages and clip, each rationale's mean over its tokens (TRL's `loss_type="grpo"`).
    """

    config_class: ClassVar[type] = PolicyGradientConfig
    _tag_names = ["trl", "ixt-rl", "policy-gradient"]
    ratio: ClassVar[Ratio] = "token"
    """Of what r is: each token's, the product over a whole rationale, or none, where the loss is - A f log p."""

    # ---------------------------------------------------------------- override these

    @hook
    def advantages(self, rewards: Tensor, batch: dict[str, Any]) -> Tensor:
        """(B,) fp32 advantages; the default is GRPO's, by `args.scale_rewards`.

        Whole groups: `rewards.view(-1, self.group_size)` has one in each row (`baselines.py` works on these). With
        several ranks, B are the rows of all of them, in order, and each rank makes the same call.

        Args:
            rewards: (B,) fp32 `batch["rewards"]` of all ranks: weighted sums, NaN where undecided.
            batch: TRL's dict of this rank's rows, with what `add_signals` has added.

        Returns:
            NaN where there is none to be had, which trains nothing, as 0 does. An undecided one must enter no baseline;
            its own is made 0 in any case.
        """
        return group_relative(rewards.view(-1, self.group_size), self.args.scale_rewards).flatten()

    @hook
    def token_factor(
        self, model: Any, inputs: dict[str, Any], rows: list[Row], batch: Batch, signals: Signals
    ) -> TokenFactor | None:
        """f of each trained token, as a function that the head's walk calls; None: 1.

        Asked once for each micro-batch, before the pass that trains: passes of the method's own are made here, by every
        rank, also where a micro-batch trains nothing.

        Args:
            model: the policy, as `_compute_loss` is given it.
            inputs: the micro-batch, TRL's dict.
            rows: its R trained rows.
            batch: their tokens [x, z]; `batch.target_ids` (N,) are trained, of the rows `batch.target_rows` (N,).
            signals: what is known of the rows: `signals.advantages[batch.target_rows]` is A of each token.

        Returns:
            `(logp (C,) fp32 detached, slice into N) -> (C,)`, above 0, so that no factor turns an advantage round; no
            gradient flows through it.
        """
        return None

    # ---------------------------------------------------------------- the update

    def complete(self, rows: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        everyone = self.accelerator.gather(batch["rewards"])
        self.take_advantages(batch, self._checked(self.advantages(everyone, batch), everyone))

    def _checked(self, advantages: Any, rewards: Tensor) -> Tensor:
        """What the hook gave, with 0 for what is undecided or has none.

        Raises:
            DataError: it is not a number for each row.
        """
        fits = isinstance(advantages, Tensor) and advantages.is_floating_point() and advantages.shape == rewards.shape
        if not fits or advantages.isinf().any():
            raise DataError(
                f"{type(self).__name__}.advantages gave {advantages!r:.80}",
                reason=f"each of {len(rewards)} rationales has one, a finite number or NaN",
                remedy="return a float tensor of the shape of `rewards`",
            )
        return advantages.float().nan_to_num(nan=0.0).masked_fill(rewards.isnan(), 0.0)

    def trained(self, inputs: dict[str, Any]) -> Tensor:
        return inputs["trained"]

    def rows_total(self, inputs: dict[str, Any]) -> Tensor:
        """All; where dynamic sampling found too few groups that teach something, those of the groups it found."""
        return self.all_rows(inputs)

    def signals_of(self, inputs: dict[str, Any], rows: list[Row]) -> Signals:
        tokens = self.per_update(inputs["num_items_in_batch"])
        return dataclasses.replace(super().signals_of(inputs, rows), tokens_per_update=tokens)

    def _compute_loss(self, model, inputs: dict[str, Any]) -> Tensor:
        rows = self.trained_rows(inputs)
        batch = self.policy_batch(rows)
        signals = self.signals_of(inputs, rows)
        return surrogate_loss(
            self,
            model,
            inputs,
            rows,
            batch,
            self.weights_of(batch, signals),
            advantages_N=signals.advantages[batch.target_rows],
            factor=self.token_factor(model, inputs, rows, batch, signals),
            ratio=self.ratio,
            bounds=self.args.bounds,
        )

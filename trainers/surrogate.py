"""The pass that trains a policy gradient: the clipped surrogate by one walk of the head.

    loss = - sum_t weight_t min(r A f, clip(r, low, high) A f)

A the advantage of the token's rationale, f a factor of the token, both held fixed; r the ratio of the policy that
trains to the one that sampled: of the token, of the whole rationale (the product of its tokens'), or none, where the
loss is - sum_t weight_t A f log p_t. On rollouts of the current policy r = 1, and all three have one gradient.

A token's slope, dloss / dlog p, is known as soon as its log-prob is. A rationale's ratio needs all its tokens first,
which is one more product with the head, on the same hidden states.

Shapes: N trained tokens, C tokens of a chunk, R trained rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from ixt_rl.conditioning import Batch
from ixt_rl.kernels.head import Head
from ixt_rl.kernels.logprobs import selected_logprobs
from ixt_rl.kernels.nll import NllStats, nll_loss
from ixt_rl.trainers.auxiliary import forward_with_auxiliary
from ixt_rl.trainers.trained_rows import Row, TrainedRowsTrainer

Ratio = Literal["none", "token", "sequence"]
TokenFactor = Callable[[Tensor, slice], Tensor]
"""`(logp [C] fp32, slice)` -> `[C]`: f of the positions `slice`, from their log-probs of this very pass; above 0."""


def surrogate_loss(
    trainer: TrainedRowsTrainer,
    model: Any,
    inputs: dict[str, Any],
    rows: list[Row],
    batch: Batch,
    weights_N: Tensor,
    *,
    advantages_N: Tensor | None = None,
    factor: TokenFactor | None = None,
    ratio: Ratio = "token",
    bounds: tuple[float, float] = (0.0, float("inf")),
) -> Tensor:
    """The loss of a micro-batch (0-d), with the model's auxiliary loss if it has one.

    Its value is that of the equation above; `ratio/mean` and `ratio/clipped` are logged where there is a ratio.

    Args:
        inputs: the micro-batch. With `old_per_token_logps` (B, T) ratios are to those, else 1. With importance
            correction, weights are corrected up to the policy that these are of.
        rows, batch: its trained rows, as `trained_rows` and `policy_batch` give them.
        weights_N: weight of each trained token; with a rationale's ratio, one for all of a rationale's.
        advantages_N: A of each trained token; None: 1.
        ratio: of what r is; `none`: there is none.
        bounds: (low, high) of r. For A > 0 the upper one counts, for A < 0 the lower.
    """
    places = [row for row, _, _ in rows]
    old_N = None
    if ratio != "none" and inputs.get("old_per_token_logps") is not None:
        old_N = trainer.of_tokens(inputs, "old_per_token_logps", places, batch)
    sampled_N = trainer.sampled_logps(inputs, places, batch)
    if sampled_N is not None and old_N is not None:  # up to the policy that sampled; the ratio goes on from there
        weights_N = weights_N * trainer.correction_weights(old_N, sampled_N, batch.target_rows)
        sampled_N = None
    low, high = bounds
    ratio_N, value_N = torch.ones_like(weights_N), torch.zeros_like(weights_N)
    clipped_N = torch.zeros_like(weights_N)

    def head_fn(hidden: Tensor, head: Head) -> tuple[Tensor, NllStats]:
        corrected = None if sampled_N is None else trainer._reweigh(hidden, head, batch, sampled_N)
        old = None if old_N is None else old_N.to(hidden.device)
        moved = None if old is None or ratio == "token" else _of_rationales(hidden, head, batch, old)
        advantages = torch.ones_like(weights_N) if advantages_N is None else advantages_N
        advantages = advantages.to(hidden.device)

        def slope(logp_C: Tensor, at: slice) -> Tensor:
            """Of minus the loss of these tokens by their log-probs, whose own value is that of `nll_loss`."""
            scale_C = advantages[at].to(logp_C.dtype)
            if corrected is not None:
                scale_C = scale_C * corrected(logp_C, at)
            if factor is not None:
                scale_C = scale_C * factor(logp_C, at)
            if ratio == "none":
                return scale_C
            log_C = torch.zeros_like(logp_C) if old is None else logp_C - old[at] if moved is None else moved[at]
            ratio_C = log_C.exp()
            clipped_C = torch.where(scale_C > 0, ratio_C > high, ratio_C < low)
            ratio_N[at], clipped_N[at] = ratio_C, clipped_C.to(clipped_N.dtype)
            value_N[at] = torch.minimum(ratio_C * scale_C, ratio_C.clamp(low, high) * scale_C)
            return (scale_C * ratio_C).masked_fill(clipped_C, 0.0)

        return nll_loss(hidden, head, batch.target_ids, weights_N, reweigh=slope)

    trainer.ledger.add("train", batch.counted)
    with trainer.accelerator.autocast():
        passed = {**trainer.model_inputs(batch), "head_fn": head_fn}
        (loss, stats), auxiliary = forward_with_auxiliary(trainer, model, passed, trainer.track)
    trainer.track("entropy", stats.entropy)
    if ratio == "none":
        return auxiliary + loss
    trainer.track("ratio/mean", ratio_N)
    trainer.track("ratio/clipped", clipped_N)
    if ratio == "sequence":  # each rationale counts once
        value_N = value_N / batch.loss_mask.sum(dim=1)[batch.target_rows]
    return auxiliary + loss - loss.detach() - (weights_N * value_N).sum()


def _of_rationales(hidden: Tensor, head: Head, batch: Batch, old_N: Tensor) -> Tensor:
    """(N,) of each token the log-ratio of its whole rationale."""
    with torch.no_grad():
        logp_N, _ = selected_logprobs(hidden, head, batch.target_ids)
    rows_N = batch.target_rows.to(hidden.device)
    sums_R = torch.zeros(len(batch.loss_mask), dtype=logp_N.dtype, device=hidden.device)
    return sums_R.index_add(0, rows_N, logp_N - old_N)[rows_N]

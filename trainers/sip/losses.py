"""SIP's losses on the log-probs of trained tokens; each a sum, which the update's denominator divides.

DPO needs all log-probs of a pair before it knows a gradient: it walks the head a second time. GRPO's is known token by
token, so that it is a weighed NLL.

Shapes: N loss-bearing tokens, B rows, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from typing import Any

import torch
from torch import Tensor

from ixt_rl.conditioning import Batch
from ixt_rl.kernels.correction import Correction
from ixt_rl.kernels.preference import dpo_loss, sequence_logprobs
from ixt_rl.trainers.sip.objectives import Example

TrainedNll = Callable[..., tuple[Tensor, Tensor, Any]]
"""(weights by log-prob, whether of all tokens at once) -> what `PromptTrainer.trained_nll` gives."""

Observe = Callable[[str, Tensor], None]
"""Gets a metric's name and values to be averaged."""


def pair_loss(logp_N: Tensor, reference_N: Tensor | None, batch: Batch, beta: float, observe: Observe) -> Tensor:
    """DPO's, 0-d: sum over pairs; rows are chosen, rejected, chosen, rejected, ...

    Args:
        logp_N: (N,) log-probs under the policy.
        reference_N: (N,) under the reference; None: there is none.
        batch: of these tokens.
        beta: see `dpo_loss`.
    """
    policy = sequence_logprobs(logp_N, batch.target_rows, len(batch.input_ids))
    reference: list[Tensor] = []
    if reference_N is not None:
        sums = sequence_logprobs(reference_N, batch.target_rows, len(batch.input_ids))
        reference = [sums[0::2], sums[1::2]]
    losses, stats = dpo_loss(policy[0::2], policy[1::2], beta, *reference)
    for name, values in vars(stats).items():
        observe(f"dpo/{name}", values)
    return losses.sum()


def candidate_loss(
    nll: TrainedNll, batch: Batch, examples: Sequence[Example], correction: Correction | None, observe: Observe
) -> tuple[Tensor, Tensor, Any]:
    """GRPO's: sum over candidates of minus advantage times the mean ratio of their tokens.

    Its gradient is that of a weighed NLL, its value minus the sum of the weights.

    Args:
        nll: the trainer's `trained_nll` of this batch.
        batch: of the examples' texts, a row each.
        examples: with advantages.
        correction: weighs the tokens of rollouts by how likely they were sampled; None: all have ratio 1.

    Returns:
        As `nll`: the loss, 0-d, log-probs (N,), what the auxiliary loss adds.
    """
    texts = [text for example in examples for text in example.texts]
    rows_N, device = batch.target_rows, batch.target_ids.device
    advantages = torch.tensor([one for example in examples for one in example.advantages], device=device)
    rollouts = torch.tensor([float(text.written["rollout"]) for text in texts], device=device)
    others = torch.tensor([float(text.copies) for text in texts], device=device) - rollouts
    sampled_N = torch.tensor([p for text in texts for p in text.logprobs or [nan] * len(text.ids)], device=device)
    each = advantages / batch.loss_mask.sum(dim=1)

    def weights(logp_C: Tensor, at: slice) -> Tensor:
        rows_C, log_ratio_C = rows_N[at], logp_C.detach().float() - sampled_N[at]
        ratio_C = torch.ones_like(log_ratio_C) if correction is None else correction.weights(log_ratio_C, rows_C)
        return (others[rows_C] + rollouts[rows_C] * ratio_C) * each[rows_C]

    loss, logp_N, auxiliary = nll(weights, correction is not None and correction.level == "sequence")
    observe("sampler/logp_abs", (logp_N.float() - sampled_N).abs())
    return loss - loss.detach() - weights(logp_N, slice(None)).sum(), logp_N, auxiliary

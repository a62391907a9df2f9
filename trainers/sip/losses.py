"""SIP's losses on the log-probs of trained tokens; each a sum, which the update's denominator divides.

Shapes: N loss-bearing tokens, B rows, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan

import torch
from torch import Tensor

from ixt_rl.conditioning import Batch
from ixt_rl.kernels.correction import Correction
from ixt_rl.kernels.preference import dpo_loss, sequence_logprobs
from ixt_rl.trainers.sip.objectives import Example

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
    logp_N: Tensor, batch: Batch, examples: Sequence[Example], correction: Correction | None, observe: Observe
) -> Tensor:
    """GRPO's, 0-d: sum over candidates of minus advantage times the mean ratio of their tokens.

    Args:
        logp_N: (N,) log-probs under the policy.
        batch: of the examples' texts, a row each.
        examples: with advantages.
        correction: weighs the tokens of rollouts by how likely they were sampled; None: all have ratio 1.
    """
    texts = [text for example in examples for text in example.texts]
    rows_N, device = batch.target_rows, logp_N.device
    advantages = torch.tensor([one for example in examples for one in example.advantages], device=device)
    rollouts = torch.tensor([float(text.written["rollout"]) for text in texts], device=device)
    others = torch.tensor([float(text.copies) for text in texts], device=device) - rollouts
    sampled_N = torch.tensor([p for text in texts for p in text.logprobs or [nan] * len(text.ids)], device=device)
    log_ratio_N = logp_N.detach().float() - sampled_N
    observe("sampler/logp_abs", log_ratio_N.abs())
    weights_N = torch.ones_like(log_ratio_N)
    if correction is not None:
        weights_N = correction.weights(log_ratio_N, rows_N)
    lengths = batch.loss_mask.sum(dim=1)
    weights_N = (others[rows_N] + rollouts[rows_N] * weights_N) * (advantages / lengths)[rows_N]
    return -(weights_N * (logp_N - logp_N.detach()).exp()).sum()

"""Losses on whole sequences, from the log-probs of their tokens: DPO's on pairs.

    margin = beta ((log p(c) - log p_ref(c)) - (log p(r) - log p_ref(r)))        c chosen, r rejected
    DPO    = - log sigmoid(margin)                                               (arXiv 2305.18290, eq. 7)

Without a reference its log-probs are left out. Shapes: P pairs, B rows, N trained tokens of all rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ixt_rl.errors import ConfigError
from ixt_rl.kernels.head import statistics_dtype


@dataclass(frozen=True)
class PairStats:
    """What a batch of pairs looks like to the policy; every tensor is (P,), fp32, detached.

    Args:
        margin: beta times how much more the policy prefers the chosen text than the reference does.
        accuracy: 1 where the margin is above 0.
        chosen, rejected: the implicit rewards, beta (log p - log p_ref).
    """

    margin: Tensor
    accuracy: Tensor
    chosen: Tensor
    rejected: Tensor


def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    beta: float,
    reference_chosen: Tensor | None = None,
    reference_rejected: Tensor | None = None,
) -> tuple[Tensor, PairStats]:
    """DPO's loss of every pair, with sigmoid.

    Args:
        chosen, rejected: (P,) log-probs of whole texts under the policy, sums over their tokens.
        beta: above 0; how closely the policy is held to the reference.
        reference_chosen, reference_rejected: the same under the reference, or neither: reference-free.

    Returns:
        (P,) losses, fp32 (fp64 for fp64 inputs), and what they rest on.

    Raises:
        ConfigError: beta is not above 0, or one of the reference's log-probs lacks the other.
    """
    if not beta > 0:
        raise ConfigError(f"beta={beta}", reason="at 0 every pair has the same loss", remedy="give e.g. 0.1")
    if (reference_chosen is None) != (reference_rejected is None):
        raise ConfigError(
            "reference log-probs of one side of the pairs only",
            reason="the loss compares both sides with the reference",
            remedy="give both, or neither for the loss without a reference",
        )
    rewards = []
    for policy, reference in ((chosen, reference_chosen), (rejected, reference_rejected)):
        dtype = statistics_dtype(policy.dtype)
        reward = policy.to(dtype) if reference is None else policy.to(dtype) - reference.to(dtype)
        rewards.append(beta * reward)
    margin = rewards[0] - rewards[1]
    seen = margin.detach()
    stats = PairStats(seen, (seen > 0).to(seen.dtype), rewards[0].detach(), rewards[1].detach())
    return -F.logsigmoid(margin), stats


def sequence_logprobs(logp_N: Tensor, rows_N: Tensor, rows: int) -> Tensor:
    """(rows,) sums of the tokens' log-probs by row, fp32 (fp64 for fp64 inputs); 0 for a row without tokens.

    Args:
        logp_N: (N,) log-probs.
        rows_N: (N,) int64, the row of each.
        rows: B.
    """
    logp_N = logp_N.to(statistics_dtype(logp_N.dtype))
    return torch.zeros(rows, dtype=logp_N.dtype, device=logp_N.device).index_add(0, rows_N, logp_N)

"""Log-probs of any tokens at the positions of one pass, for a factor that compares with a third model.

Shapes: N tokens, C tokens of a chunk, m tokens asked for at each, V vocabulary, D hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ixt_rl.kernels.head import Head, factors, logit_factors, statistics_dtype
from ixt_rl.kernels.logprobs import selected_logprobs


class LogprobsAt:
    """`(slice into N, ids) -> log-probs`, without gradient. One product with the head when it is made, for the
    normaliser; then a dot product for each id, or for a stretch of the vocabulary one more product.

    Args:
        hidden: `[N, D]` of the pass.
        head: its vocabulary head, whole (`gathered_head`).
        tokens: `[N]` any ids, such as the tokens taken.
    """

    @torch.no_grad()
    def __init__(self, hidden: Tensor, head: Head, tokens: Tensor):
        self.hidden, self.head = hidden, head
        self.dtype = head.product_dtype(hidden)
        logp_N, _ = selected_logprobs(hidden, head, tokens)
        z_N = head.project_ids(factors(hidden, self.dtype), tokens.to(hidden.device)[:, None], self.dtype)[:, 0]
        self.lse = z_N - logp_N

    @torch.no_grad()
    def __call__(self, at: slice, ids: Tensor) -> Tensor:
        """fp32 (fp64 for float64 inputs) log-probs at the positions `at`.

        Args:
            ids: `[C, m]` of each position, or `[1, m]` consecutive entries of the vocabulary for all of them.

        Returns:
            `[C, m]`.
        """
        hidden = self.hidden[at]
        if len(ids) == len(hidden):
            z = self.head.project_ids(factors(hidden, self.dtype), ids, self.dtype)
        else:
            first, count = int(ids[0, 0]), ids.shape[1]
            new: dict[str, Any] = {"dtype": statistics_dtype(self.dtype), "device": hidden.device}
            entries = self.head.logit_entries(first, first + count, self.dtype)
            z = self.head.project(
                logit_factors(hidden, self.dtype), first, entries, out=torch.empty((len(hidden), count), **new)
            )
        return z - self.lse[at, None]

"""Cross-entropy from hidden states: loss, statistics and gradients in one walk, without a [tokens, vocabulary] tensor.

    L = - sum_t weight_t log p(token_t)

The InTRO loss (`ixt_rl/kernels/intro`) with the taken token as its one candidate and no posterior: three matrix
products a chunk of tokens, the logits and from their gradient that of the hidden states and of the head. All are done
in forward, while the exponentials of the logits exist; backward multiplies by one number.

Shapes: N tokens, C tokens of a chunk, V vocabulary, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ixt_rl.errors import DataError
from ixt_rl.kernels.head import Head, gathered_head
from ixt_rl.kernels.intro.loss import GradientsInForward
from ixt_rl.kernels.intro.spec import IntroSpec
from ixt_rl.kernels.intro.walk import Reweigh, Walk
from ixt_rl.kernels.logprobs import check_tokens

_TAKEN = IntroSpec(candidates=1, include_taken=True, clip=None)


@dataclass(frozen=True)
class NllStats:
    """One number per token, detached, float32 (float64 for float64 inputs).

    Args:
        logp: `[N]` log-prob of the token.
        entropy: `[N]` of the policy, nats.
        top1: `[N]` 1 where no token is more likely than this one, else 0.
    """

    logp: Tensor
    entropy: Tensor
    top1: Tensor


def nll_loss(
    hidden: Tensor,
    head: Head,
    tokens: Tensor,
    token_weights: Tensor,
    *,
    reweigh: Reweigh | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, NllStats]:
    """`- sum_t weight_t log p(token_t)` of N scored positions, and its statistics.

    Call it inside `model.forward`, so that the hooks of DDP, FSDP and ZeRO fire. Gradients are formed here and handed
    out by `backward`, which can therefore run once.

    Args:
        hidden: `[N, D]`; gradient flows to them and to the head's weight and bias.
        head: the vocabulary head.
        tokens: `[N]`, ids in 0..V-1.
        token_weights: `[N]` weight of each position, no gradient; `1 / N` for the mean.
        reweigh: `(logp [C], slice) -> [C]`: multiplies the weights of the positions `slice` by a number that may depend
            on their log-probs of this very pass (DFT's `p`); detached.
        chunk: tokens per chunk; the default is set by a memory target. Results do not depend on it.

    Returns:
        The loss (a scalar, float32 or float64) and its statistics.

    Raises:
        DataError: shapes that do not fit, or a token id outside the vocabulary.
    """
    with gathered_head(head) as (head,):
        tokens, token_weights = tokens.to(hidden.device), token_weights.to(hidden.device)
        check_tokens(hidden, head, tokens)
        if token_weights.shape != tokens.shape:
            raise DataError(
                f"token_weights of shape {tuple(token_weights.shape)} for {len(tokens)} tokens",
                reason="each position has one weight",
                remedy="select weights by the tokens' mask",
            )
        walk = Walk(head, None, _TAKEN, None, None, reweigh, None, head.product_dtype(hidden))
        run: Callable[..., Any] = GradientsInForward.apply
        loss, columns = run(
            hidden, head.weight, head.bias, None, tokens, token_weights, walk, chunk, torch.is_grad_enabled()
        )
    return loss, NllStats(**columns)

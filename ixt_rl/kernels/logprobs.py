"""Log-probs of given tokens, for every loss of the library, without a [tokens, vocabulary] tensor.

Shapes: N tokens, C tokens of a chunk, V vocabulary, D hidden.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ixt_rl.errors import DataError
from ixt_rl.kernels.chunks import MAX_CHUNK, spans, tile_width
from ixt_rl.kernels.head import (
    Head,
    factors,
    float32_results,
    gathered_head,
    logit_factors,
    matmul,
    rounds_factors,
    statistics_dtype,
    zero3_gathered,
)


def logprob_chunk(hidden: Tensor, head: Head) -> Tensor:
    """Log-probs over the whole vocabulary: `log_softmax(softcap(scale * (h W^T + b)) / temperature)`.

    For few tokens at a time (sampling, tests): the result has size [C, V]. Not differentiable.

    Args:
        hidden: `[C, D]`.
        head: the vocabulary head, whole (not sharded).

    Returns:
        `[C, V]`, float32 (float64 for float64 inputs).
    """
    with torch.no_grad():
        dtype = head.product_dtype(hidden)
        z = torch.empty((hidden.shape[0], head.vocab_size), dtype=statistics_dtype(dtype), device=hidden.device)
        with float32_results(dtype, hidden):
            every = head.logit_entries(0, head.vocab_size, dtype)
            head.project(logit_factors(hidden, dtype), 0, every, out=z)
        return torch.log_softmax(z, dim=-1)


def selected_logprobs(
    hidden: Tensor, head: Head, tokens: Tensor, *, entropy: bool = False, chunk: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """`log p(tokens)` and, on request, the entropy of `p = softmax(logits)`; both differentiable.

    Forward does one matrix product. Backward recomputes the logits tile by tile, since only then is the
    gradient of each token known, and does the two products of the gradients.

    Args:
        hidden: `[N, D]`; gradient flows to it, to the head's weight and to its bias.
        head: the vocabulary head. Call inside `model.forward` if the head is sharded.
        tokens: `[N]`, ids in 0..V-1.
        entropy: also return the entropy, in nats.
        chunk: tokens per chunk; results do not depend on it.

    Returns:
        log-probs `[N]` and entropy `[N]` or None, float32 (float64 for float64 inputs).

    Raises:
        DataError: a token id outside the vocabulary, or shapes that do not fit.
    """
    with gathered_head(head) as (head,):
        tokens = tokens.to(hidden.device)
        check_tokens(hidden, head, tokens)
        dtype = head.product_dtype(hidden)
        return _SelectedLogprobs.apply(hidden, head.weight, head.bias, head, tokens, entropy, chunk or MAX_CHUNK, dtype)


def check_tokens(hidden: Tensor, head: Head, tokens: Tensor) -> None:
    """Raise DataError unless `hidden` is [N, D], `tokens` [N] and every id is in the head's vocabulary."""
    if hidden.dim() != 2 or hidden.shape[1] != head.weight.shape[1]:
        raise DataError(
            f"hidden states of shape {tuple(hidden.shape)} for a head of shape {tuple(head.weight.shape)}",
            reason="losses take one row per scored token",
            remedy="select the scored positions first: hidden[mask], of shape [N, D]",
        )
    if tokens.shape != hidden.shape[:1]:
        raise DataError(
            f"tokens of shape {tuple(tokens.shape)} for hidden states of shape {tuple(hidden.shape)}",
            reason="each scored position has one token",
            remedy="select tokens and hidden states by the same mask",
        )
    # On an accelerator this check would make the host wait; an id out of range fails in the gather there.
    if tokens.device.type == "cpu" and tokens.numel():
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= head.vocab_size:
            raise DataError(
                f"token id {low if low < 0 else high}",
                reason=f"the head has ids 0..{head.vocab_size - 1}",
                remedy="drop padding and label -100 positions before scoring",
            )


class _SelectedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        head: Head,
        tokens: Tensor,
        entropy: bool,
        chunk: int,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        n_tokens, tile = hidden.shape[0], tile_width(hidden.device)
        stats = statistics_dtype(dtype)
        new: dict[str, Any] = {"dtype": stats, "device": hidden.device}
        lse, chosen = torch.empty(n_tokens, **new), torch.zeros(n_tokens, **new)
        mean_logit = torch.empty(n_tokens, **new) if entropy else None
        buffer = torch.empty((min(chunk, n_tokens), min(tile, head.vocab_size)), **new)
        with torch.autocast(hidden.device.type, enabled=False), float32_results(dtype, hidden):
            for a, b in spans(n_tokens, chunk):
                h = logit_factors(hidden[a:b], dtype)
                top = torch.full((b - a,), -torch.inf, **new)
                mass, weighted = torch.zeros(b - a, **new), torch.zeros(b - a, **new)
                for v0, v1 in spans(head.vocab_size, tile):
                    z = head.project(h, v0, head.logit_entries(v0, v1, dtype), out=buffer[: b - a, : v1 - v0])
                    local = tokens[a:b] - v0
                    here = (local >= 0) & (local < v1 - v0)
                    picked = z.gather(1, local.clamp(0, v1 - v0 - 1)[:, None])[:, 0]
                    chosen[a:b] = torch.where(here, picked, chosen[a:b])
                    new_top = torch.maximum(top, z.amax(1))
                    decay = torch.exp(top - new_top)
                    e = torch.exp(z - new_top[:, None])
                    mass.mul_(decay).add_(e.sum(1))
                    if entropy:
                        weighted.mul_(decay).add_(e.mul_(z).sum(1))
                    top = new_top
                torch.add(top, mass.log(), out=lse[a:b])
                if mean_logit is not None:
                    torch.div(weighted, mass, out=mean_logit[a:b])
        logp = chosen - lse
        h_p = None if mean_logit is None else lse - mean_logit
        ctx.save_for_backward(hidden, weight, bias, tokens, lse, h_p)
        ctx.head, ctx.chunk, ctx.dtype = replace(head, weight=weight.detach()[:0], bias=None), chunk, dtype
        return logp, h_p

    @staticmethod
    def backward(ctx: Any, grad_logp: Tensor | None, grad_entropy: Tensor | None) -> tuple[Any, ...]:
        hidden, weight, bias, tokens, lse, h_p = ctx.saved_tensors
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        nothing = (None,) * 5
        if grad_logp is None and grad_entropy is None:
            return (None, None, None, *nothing)
        n_tokens, tile, dtype = hidden.shape[0], tile_width(hidden.device), ctx.dtype
        without_autocast = torch.autocast(hidden.device.type, enabled=False)
        with zero3_gathered(weight, bias), without_autocast, float32_results(dtype, hidden):
            head: Head = replace(ctx.head, weight=weight, bias=bias)
            new: dict[str, Any] = {"dtype": statistics_dtype(dtype), "device": hidden.device}
            grad_hidden = torch.zeros(hidden.shape, **new) if need_hidden else None
            grad_weight = torch.empty_like(weight) if need_weight else None
            grad_bias = torch.empty_like(bias) if need_bias else None
            buffer = torch.empty((min(ctx.chunk, n_tokens), min(tile, head.vocab_size)), **new)
            # Vocabulary outside, tokens inside: the accumulator of the head's gradient is one tile.
            for v0, v1 in spans(head.vocab_size, tile):
                w, w_z = head.entries(v0, v1, dtype), head.logit_entries(v0, v1, dtype)
                grad_w = torch.zeros((v1 - v0, hidden.shape[1]), **new) if need_weight else None
                grad_b = torch.zeros(v1 - v0, **new) if need_bias else None
                for a, b in spans(n_tokens, ctx.chunk):
                    h = factors(hidden[a:b], dtype)
                    z = head.project(logit_factors(h, dtype), v0, w_z, out=buffer[: b - a, : v1 - v0])
                    grad = _grad_logits(z, lse[a:b], tokens[a:b] - v0, _rows(grad_logp, a, b),
                                        _rows(h_p, a, b), _rows(grad_entropy, a, b))  # fmt: skip
                    head.chain_(grad, z)
                    sums = grad
                    if rounds_factors(dtype, grad):  # once for both products
                        grad = grad.to(dtype)
                    if grad_b is not None:
                        grad_b += sums.sum(0)
                    if grad_hidden is not None:
                        matmul(grad, w, grad_hidden[a:b], accumulate=True)
                    if grad_w is not None:
                        matmul(grad.t(), h, grad_w, accumulate=True)
                if grad_weight is not None and grad_w is not None:
                    grad_weight[v0:v1] = grad_w
                if grad_bias is not None and grad_b is not None:
                    grad_bias[v0:v1] = grad_b
        if grad_hidden is not None:
            grad_hidden = grad_hidden.to(hidden.dtype)
        return (grad_hidden, grad_weight, grad_bias, *nothing)


def _rows(x: Tensor | None, a: int, b: int) -> Tensor | None:
    return None if x is None else x[a:b]


def _grad_logits(
    z: Tensor, lse: Tensor, local: Tensor, g: Tensor | None, h_p: Tensor | None, g_entropy: Tensor | None
) -> Tensor:
    """d/dz of `g log p(token) + g_entropy H`: `g (1[v=token] - p) - g_entropy p (log p + H)`, one tile."""
    logp = z - lse[:, None]
    p = logp.exp()
    if g_entropy is not None and h_p is not None:
        coefficient = (logp.add_(h_p[:, None])).mul_(-g_entropy[:, None])
        if g is not None:
            coefficient.sub_(g[:, None])
        grad = p.mul_(coefficient)
    else:
        assert g is not None
        grad = p.mul_(-g[:, None])
    if g is not None:
        here = (local >= 0) & (local < z.shape[1])
        grad.scatter_add_(1, local.clamp(0, z.shape[1] - 1)[:, None], torch.where(here, g, 0.0)[:, None].to(grad.dtype))
    return grad

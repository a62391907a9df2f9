"""The InTRO loss from hidden states: candidates, factors, loss, statistics and gradients in one walk.

    n candidates:  L = - sum_t weight_t (1/n) sum_i w_t^i log p(c_t^i),   w = min(q / p, clip), held fixed
    exact:         L = - sum_t weight_t sum_v min(q(v), clip p(v)) log p(v)

with `p` the policy at position t and `q` the policy shown the answer. Tokens are taken in chunks. A chunk
needs four matrix products: its logits under p and under q, and from the gradient of the former that of the
hidden states and of the head. All are done in forward, while the chunk's logits exist; backward multiplies by
one number.

Shapes: N tokens, C tokens of a chunk, V vocabulary, v entries of a vocabulary tile, D hidden, n candidates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.kernels.head import Head, float32_results, gathered_head
from ixt_rl.kernels.intro.spec import IntroSpec, IntroStats
from ixt_rl.kernels.intro.walk import Choose, Factor, FactorAt, Reweigh, Walk
from ixt_rl.kernels.logprobs import check_tokens


def intro_loss(
    hidden: Tensor,
    posterior_hidden: Tensor,
    head: Head,
    tokens: Tensor,
    token_weights: Tensor,
    spec: IntroSpec,
    *,
    posterior_head: Head | None = None,
    generator: torch.Generator | None = None,
    choose: Choose | None = None,
    factor: Factor | None = None,
    factor_at: FactorAt | None = None,
    reweigh: Reweigh | None = None,
    measure: Factor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, IntroStats]:
    """The InTRO loss of N scored positions and its statistics; see the equations at the top of this file.

    Call it inside `model.forward`, so that the hooks of DDP, FSDP and ZeRO fire. Gradients are formed here
    and handed out by `backward`, which can therefore run once.

    Args:
        hidden: `[N, D]` policy hidden states; gradient flows to them and to the head's weight and bias.
        posterior_hidden: `[N, D]` hidden states of the pass that saw the answer; no gradient.
        head: vocabulary head of the policy.
        tokens: `[N]` the tokens taken.
        token_weights: `[N]` weight of each position, no gradient; 1/(length x kept rationales) for the
            paper's loss.
        spec: candidates and clip.
        posterior_head: head of the posterior pass when it is another one; never gets a gradient.
        generator: source of the draws; the same state gives the same candidates for every `chunk`.
        choose: `(logp [C, V], taken [C], spec, generator) -> ids [C, n]`, in place of the default draw. With
            `spec.include_taken`, column 0 counts as the taken token and the others as drawn from the policy.
            Costs one more [C, V] buffer.
        factor: `(logp, logq) -> w`, elementwise, in place of the clipped ratio: on candidates `[C, n]`, or in
            exact mode on tiles `[C, v]`, where the loss weighs log p(v) by `p(v) w(v)`; `[C, 1]` is one for all.
        factor_at: as `factor`, `(logp, logq, slice, ids) -> w`: for the positions `slice`, and candidates `ids`
            `[C, n]`, or in exact mode the entries `[1, v]`.
        reweigh: `(logp [C], slice) -> [C]`: multiplies the weights of the positions `slice` by a number that may
            depend on the taken tokens' log-probs of this very pass (importance correction of the sampler); detached.
        measure: `(logp, logq) -> x`, elementwise: exact mode with a factor adds it up over the vocabulary, a tile
            `[C, v]` at a time, into `IntroStats.measured`. Says nothing to the loss.
        chunk: tokens per chunk; the default is set by a memory target. Results do not depend on it.

    Returns:
        The loss (a scalar, float32 or float64) and its statistics.

    Raises:
        DataError: shapes that do not fit, a factor's too, or a token id outside the vocabulary.
        ConfigError: `choose` together with exact mode, `factor` with `factor_at`, or `measure` without exact mode or a
            factor.
    """
    if spec.exact and choose is not None:
        raise ConfigError(
            "choose= together with candidates='exact'",
            reason="exact mode sums over the whole vocabulary and draws no candidates",
            remedy="give a number of candidates, or drop choose=",
        )
    if factor is not None:
        if factor_at is not None:
            raise ConfigError("factor= and factor_at=", reason="a weight has one rule", remedy="give one of them")
        plain = factor
        factor_at = lambda logp, logq, at, ids: plain(logp, logq)  # noqa: E731
    if measure is not None and (factor_at is None or not spec.exact):
        raise ConfigError(
            "measure= without candidates='exact' and a factor",
            reason="only these visit every entry of the vocabulary",
            remedy="give both, or leave measure out",
        )
    heads = (head,) if posterior_head is None else (head, posterior_head)
    with gathered_head(*heads) as whole:
        head, posterior_head = whole[0], whole[-1]
        posterior_hidden, tokens, token_weights = (
            x.to(hidden.device) for x in (posterior_hidden, tokens, token_weights)
        )
        check_tokens(hidden, head, tokens)
        check_tokens(posterior_hidden, posterior_head, tokens)
        if token_weights.shape != tokens.shape or posterior_head.vocab_size != head.vocab_size:
            raise DataError(
                f"token_weights of shape {tuple(token_weights.shape)} for {len(tokens)} tokens, posterior "
                f"vocabulary of {posterior_head.vocab_size} for a policy vocabulary of {head.vocab_size}",
                reason="each position has one weight, and the factor compares one token under both heads",
                remedy="select weights by the tokens' mask; use a posterior head of the same vocabulary",
            )
        dtype = head.product_dtype(hidden)
        walk = Walk(head, posterior_head, spec, choose, factor_at, reweigh, generator, dtype, measure)
        loss, columns = GradientsInForward.apply(
            hidden, head.weight, head.bias, posterior_hidden, tokens, token_weights, walk, chunk,
            torch.is_grad_enabled(),
        )  # fmt: skip
    return loss, IntroStats(**columns)


class GradientsInForward(torch.autograd.Function):
    """A `Walk`: loss and columns of statistics; backward hands out the gradients that the walk has formed."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        posterior_hidden: Tensor | None,
        tokens: Tensor,
        token_weights: Tensor,
        walk: Walk,
        chunk: int | None,
        grad_enabled: bool,
    ) -> tuple[Tensor, dict[str, Any]]:
        needs = [grad_enabled and needed for needed in ctx.needs_input_grad[:3]]
        ctx.dtypes = [None if x is None else x.dtype for x in (hidden, weight, bias)]
        with torch.autocast(hidden.device.type, enabled=False), float32_results(walk.dtype, hidden):
            loss, columns, ctx.grads = walk(hidden, posterior_hidden, tokens, token_weights, chunk, needs)
        return loss, columns

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, _: Any) -> tuple[Any, ...]:
        if ctx.grads is None:
            raise RuntimeError(
                "backward through the loss a second time: its gradients were handed out by the first. "
                "Compute it again, or backward once on the sum of the losses."
            )
        grads, ctx.grads = ctx.grads, None
        # To multiply the head's gradient by 1 costs a pass over it; to look costs an accelerator's host a wait.
        if grad_loss.device.type != "cpu" or grad_loss != 1:
            grads = tuple(None if g is None else g.mul_(grad_loss) for g in grads)
        grads = tuple(None if g is None else g.to(dtype) for g, dtype in zip(grads, ctx.dtypes, strict=True))
        return (*grads, *(None,) * 6)

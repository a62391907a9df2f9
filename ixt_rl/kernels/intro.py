"""The InTRO loss from hidden states: candidates, factors, loss, statistics and gradients in one walk.

    n candidates:  L = - sum_t weight_t (1/n) sum_i w_t^i log p(c_t^i),   w = min(q / p, clip), held fixed
    exact:         L = - sum_t weight_t sum_v min(q(v), clip p(v)) log p(v)

with `p` the policy at position t and `q` the policy shown the answer. Tokens are taken in chunks. A chunk
needs four matrix products: its logits under p and under q, and from the gradient of the former that of the
hidden states and of the head. All are done in forward, while the chunk's logits exist; backward multiplies by
one number.

Shapes: N tokens, C tokens of a chunk, V vocabulary, v entries of a vocabulary tile, K tiles, D hidden,
n candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.kernels.candidates import invert, uniform_numbers
from ixt_rl.kernels.chunks import spans, tile_width, token_chunk
from ixt_rl.kernels.head import Head, gathered_head, matmul, product_dtype, statistics_dtype
from ixt_rl.kernels.logprobs import check_tokens

Choose = Callable[[Tensor, Tensor, "IntroSpec", "torch.Generator | None"], Tensor]
Factor = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class IntroSpec:
    """Which candidates the loss sums over, and how their factors are bounded.

    Args:
        candidates: n, or `exact` for the expectation over the whole vocabulary, the limit of many candidates.
        include_taken: the first of the n is the token actually taken; the others are drawn from the policy.
            `exact` has no candidates and ignores it.
        clip: upper bound of the factor q/p, or None.

    Raises:
        ConfigError: n below 1, or a clip that is not positive.
    """

    candidates: int | Literal["exact"] = 5
    include_taken: bool = True
    clip: float | None = 200.0

    def __post_init__(self) -> None:
        if self.candidates != "exact" and not (isinstance(self.candidates, int) and self.candidates >= 1):
            raise ConfigError(
                f"candidates={self.candidates!r}",
                reason="the loss is a mean over at least one candidate per position",
                remedy="give a whole number of 1 or more, or 'exact'",
            )
        if self.clip is not None and not self.clip > 0:
            raise ConfigError(
                f"clip={self.clip}",
                reason="factors are ratios of probabilities, above 0",
                remedy="give a positive bound (the paper's is 200), or None for no bound",
            )

    @property
    def exact(self) -> bool:
        return self.candidates == "exact"

    @property
    def limit(self) -> float:
        """The clip, or infinity."""
        return math.inf if self.clip is None else self.clip


@dataclass(frozen=True)
class IntroStats:
    """What a step logs: one number per token, detached, float32 (float64 for float64 inputs).

    Args:
        logp, logq: `[N]` log-prob of the taken token under policy and posterior.
        factor_taken: `[N]` factor of the taken token.
        factor_sampled: `[N]` mean factor of the candidates drawn from the policy, near 1 in the mean over
            tokens; NaN where none was drawn. In exact mode its expectation, `sum_v min(q(v), clip p(v))`.
        clipped: `[N]` share of candidates (exact: policy mass) whose ratio q/p is above the clip.
        entropy: `[N]` entropy of the policy, nats.
        kl: `[N]` KL(q || p) over the whole vocabulary, nats.
        candidates: `[N, n]` token ids; None in exact mode.
    """

    logp: Tensor
    logq: Tensor
    factor_taken: Tensor
    factor_sampled: Tensor
    clipped: Tensor
    entropy: Tensor
    kl: Tensor
    candidates: Tensor | None


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
            exact mode on tiles `[C, v]`, where the loss weighs log p(v) by `p(v) w(v)`.
        chunk: tokens per chunk; the default is set by a memory target. Results do not depend on it.

    Returns:
        The loss (a scalar, float32 or float64) and its statistics.

    Raises:
        DataError: shapes that do not fit, or a token id outside the vocabulary.
        ConfigError: `choose` together with exact mode.
    """
    if spec.exact and choose is not None:
        raise ConfigError(
            "choose= together with candidates='exact'",
            reason="exact mode sums over the whole vocabulary and draws no candidates",
            remedy="give a number of candidates, or drop choose=",
        )
    heads = (head,) if posterior_head is None else (head, posterior_head)
    with gathered_head(*heads) as whole:
        head, posterior_head = whole[0], whole[-1]
        check_tokens(hidden, head, tokens)
        check_tokens(posterior_hidden, posterior_head, tokens)
        if token_weights.shape != tokens.shape or posterior_head.vocab_size != head.vocab_size:
            raise DataError(
                f"token_weights of shape {tuple(token_weights.shape)} for {len(tokens)} tokens, posterior "
                f"vocabulary of {posterior_head.vocab_size} for a policy vocabulary of {head.vocab_size}",
                reason="each position has one weight, and the factor compares one token under both heads",
                remedy="select weights by the tokens' mask; use a posterior head of the same vocabulary",
            )
        walk = _Walk(head, posterior_head, spec, choose, factor, generator, product_dtype(hidden, head.weight))
        loss, stats = _IntroLoss.apply(
            hidden, head.weight, head.bias, posterior_hidden, tokens, token_weights, walk, chunk,
            torch.is_grad_enabled(),
        )  # fmt: skip
    return loss, stats


class _IntroLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        posterior_hidden: Tensor,
        tokens: Tensor,
        token_weights: Tensor,
        walk: _Walk,
        chunk: int | None,
        grad_enabled: bool,
    ) -> tuple[Tensor, IntroStats]:
        needs = [grad_enabled and needed for needed in ctx.needs_input_grad[:3]]
        with torch.autocast(hidden.device.type, enabled=False):
            loss, stats, ctx.grads = walk(hidden, posterior_hidden, tokens, token_weights, chunk, needs)
        return loss, stats

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, _: Any) -> tuple[Any, ...]:
        if ctx.grads is None:
            raise RuntimeError(
                "backward through intro_loss a second time: its gradients were handed out by the first. "
                "Call intro_loss again, or backward once on the sum of the losses."
            )
        grads, ctx.grads = ctx.grads, None
        return (*(None if g is None else g.mul_(grad_loss) for g in grads), *(None,) * 6)


@dataclass(frozen=True)
class _Rows:
    """Normalisers and whole-vocabulary statistics of a chunk, `[C]` each, and the tiles' masses `[C, K]`."""

    lse_p: Tensor
    lse_q: Tensor
    entropy: Tensor
    kl: Tensor
    log_mass: Tensor


@dataclass(frozen=True)
class _Walk:
    """The walk over chunks; holds what does not change from chunk to chunk."""

    head: Head
    posterior_head: Head
    spec: IntroSpec
    choose: Choose | None
    factor: Factor | None
    generator: torch.Generator | None
    dtype: torch.dtype  # of the matrix products

    def __call__(
        self,
        hidden: Tensor,
        posterior_hidden: Tensor,
        tokens: Tensor,
        token_weights: Tensor,
        chunk: int | None,
        needs: list[bool],
    ) -> tuple[Tensor, IntroStats, tuple[Tensor | None, ...]]:
        n_tokens, vocab, device = hidden.shape[0], self.head.vocab_size, hidden.device
        new: dict[str, Any] = {"dtype": statistics_dtype(self.dtype), "device": device}
        tile = min(tile_width(device), vocab)
        buffers = 2 if self.spec.exact else 1
        chunk = chunk or token_chunk(n_tokens, buffers * vocab * torch.empty(0, **new).element_size(), device)
        chunk = min(chunk, max(n_tokens, 1))
        # All that outlives a chunk is allocated before the first: memory does not grow with their number.
        z = torch.empty((buffers * chunk, vocab), **new)
        scratch = torch.empty((4 * chunk, tile), **new)
        stats = _empty_stats(n_tokens, self.spec, new)
        per_token = torch.empty(n_tokens, **new)
        grads = _Grads(hidden, self.head, needs, self.dtype)
        draws = 0 if self.spec.exact or self.choose else int(self.spec.candidates) - self.spec.include_taken
        u = uniform_numbers(n_tokens, draws, device, self.generator)
        weights = token_weights.to(**new)
        for a, b in spans(n_tokens, chunk):
            h, h_q = hidden[a:b].to(self.dtype), posterior_hidden[a:b].to(self.dtype)
            rows = self._fill(h, h_q, z[: buffers * (b - a)], scratch)
            p, q = z[: b - a], z[b - a : 2 * (b - a)]  # q is there in exact mode only
            if self.spec.exact:
                per_token[a:b], part, total = self._exact(p, q, rows, tokens[a:b], scratch)
                if any(needs):
                    self._backward_exact(grads, a, b, h, p, q, rows, total, weights[a:b], scratch)
            else:
                per_token[a:b], part, ids, w = self._sampled(h_q, p, rows, tokens[a:b], u[a:b], tile)
                if any(needs):
                    self._backward_sampled(grads, a, b, h, p, rows, ids, w, weights[a:b], scratch)
            for name, column in vars(stats).items():
                if column is not None:
                    column[a:b] = getattr(part, name)
        return -(weights * per_token).sum(), stats, grads.finish()

    def _fill(self, h: Tensor, h_q: Tensor, z: Tensor, scratch: Tensor) -> _Rows:
        """Fill `z` with the policy's logits [C, V], and in exact mode the posterior's below them [2C, V]."""
        c = len(h)
        stacked = torch.cat([h, h_q]) if self.posterior_head is self.head else None
        sums: list[tuple[Tensor, ...]] = []
        for v0, v1 in spans(self.head.vocab_size, scratch.shape[1]):
            both = z[:, v0:v1] if self.spec.exact else scratch[: 2 * c, : v1 - v0]
            e = scratch[2 * c : 4 * c, : v1 - v0]
            if stacked is not None:  # one product of twice the rows reads the head once
                self.head.project(stacked, v0, v1, out=both)
            else:
                self.head.project(h, v0, v1, out=both[:c])
                self.posterior_head.project(h_q, v0, v1, out=both[c:])
            top = both.amax(1)
            torch.sub(both, top[:, None], out=e).exp_()
            mass = e.sum(1)
            x, e_p, e_q = both[:c], e[:c], e[c:]
            weighted_p = e_p.mul_(x).sum(1)
            gap_q = e_q.mul_(torch.sub(both[c:], x, out=e_p)).sum(1)
            if not self.spec.exact:
                z[:, v0:v1].copy_(x)
            sums.append((top, mass, weighted_p, gap_q))
        top, mass, weighted_p, gap_q = (torch.stack(s, 1) for s in zip(*sums, strict=True))  # [2C or C, K]
        log_mass = top + mass.log()
        lse = log_mass.logsumexp(1)
        scale = (top - lse[:, None]).exp()
        lse_p, lse_q = lse[:c], lse[c:]
        # H(p) = lse_p - E_p[z_p];  KL(q || p) = E_q[z_q - z_p] - lse_q + lse_p
        entropy = lse_p - (weighted_p * scale[:c]).sum(1)
        kl = (gap_q * scale[c:]).sum(1) - lse_q + lse_p
        return _Rows(lse_p, lse_q, entropy, kl, log_mass[:c])

    def _ratio(self, logp: Tensor, logq: Tensor) -> Tensor:
        if self.factor is not None:
            return self.factor(logp, logq).detach().to(logp.dtype)
        return (logq - logp).exp_().clamp_(max=self.spec.limit)

    def _above_clip(self, logp: Tensor, logq: Tensor) -> Tensor:
        return (logq - logp > math.log(self.spec.limit)).to(logp.dtype)

    def _sampled(
        self, h_q: Tensor, p: Tensor, rows: _Rows, taken: Tensor, u: Tensor, tile: int
    ) -> tuple[Tensor, IntroStats, Tensor, Tensor]:
        """Candidates of a chunk: their mean `w log p` [C], statistics, ids and factors [C, n]."""
        if self.choose is None:
            ids = invert(u, p, rows.lse_p, rows.log_mass, tile)
            if self.spec.include_taken:
                ids = torch.cat([taken[:, None], ids], 1)
        else:
            ids = self.choose(p - rows.lse_p[:, None], taken, self.spec, self.generator)
            if ids.shape != (len(taken), self.spec.candidates):
                raise DataError(
                    f"choose returned ids of shape {tuple(ids.shape)} for {len(taken)} tokens",
                    reason=f"the loss is a mean over candidates={self.spec.candidates} ids per token",
                    remedy=f"return shape {(len(taken), self.spec.candidates)}",
                )
        known = torch.cat([taken[:, None], ids], 1)
        logp = p.gather(1, known) - rows.lse_p[:, None]
        # The posterior's logits are gone tile by tile; a candidate's is one dot product with its embedding.
        z_q = torch.stack([self.posterior_head.project_ids(h_q, known[:, i]) for i in range(known.shape[1])], 1)
        logq = z_q - rows.lse_q[:, None]
        w = self._ratio(logp[:, 1:], logq[:, 1:])
        drawn = w[:, 1:] if self.spec.include_taken else w
        stats = IntroStats(
            logp=logp[:, 0],
            logq=logq[:, 0],
            factor_taken=self._ratio(logp[:, :1], logq[:, :1])[:, 0],
            factor_sampled=drawn.mean(1),  # NaN where none was drawn
            clipped=self._above_clip(logp[:, 1:], logq[:, 1:]).mean(1),
            entropy=rows.entropy,
            kl=rows.kl,
            candidates=ids,
        )
        return (w * logp[:, 1:]).mean(1), stats, ids, w

    def _exact(
        self, p: Tensor, q: Tensor, rows: _Rows, taken: Tensor, scratch: Tensor
    ) -> tuple[Tensor, IntroStats, Tensor]:
        """Whole vocabulary: `sum_v a log p` [C], statistics, `sum_v a` [C]; leaves `a = p w` in `q`."""
        logp_taken = p.gather(1, taken[:, None]) - rows.lse_p[:, None]
        logq_taken = q.gather(1, taken[:, None]) - rows.lse_q[:, None]
        value, total, clipped = (torch.zeros_like(rows.lse_p) for _ in range(3))
        for v0, v1 in spans(self.head.vocab_size, scratch.shape[1]):
            logp, prob, above = scratch[: 3 * len(p), : v1 - v0].split(len(p))
            torch.sub(p[:, v0:v1], rows.lse_p[:, None], out=logp)
            torch.exp(logp, out=prob)
            a = q[:, v0:v1].sub_(rows.lse_q[:, None])  # log q, until the weights are written over it
            if self.factor is not None:
                weight = prob * self._ratio(logp, a)
                clipped += (prob * self._above_clip(logp, a)).sum(1)
                a.copy_(weight)
            else:
                a.exp_()
                if self.spec.clip is not None:
                    bound = prob.mul_(self.spec.clip)
                    clipped += torch.gt(a, bound, out=above).mul_(bound).sum(1) / self.spec.clip
                    torch.minimum(a, bound, out=a)
            total += a.sum(1)
            value += logp.mul_(a).sum(1)
        stats = IntroStats(
            logp=logp_taken[:, 0],
            logq=logq_taken[:, 0],
            factor_taken=self._ratio(logp_taken, logq_taken)[:, 0],
            factor_sampled=total,
            clipped=clipped,
            entropy=rows.entropy,
            kl=rows.kl,
            candidates=None,
        )
        return value, stats, total

    def _backward_sampled(
        self, grads: _Grads, a: int, b: int, h: Tensor, p: Tensor, rows: _Rows, ids: Tensor, w: Tensor,
        weights: Tensor, scratch: Tensor,
    ) -> None:  # fmt: skip
        """dL/dz(v) = weight/n (sum_i w_i p(v) - sum_i w_i 1[v = c_i])."""
        pull = w * (weights / w.shape[1])[:, None]  # [C, n]
        push = pull.sum(1, keepdim=True)
        for v0, v1 in spans(self.head.vocab_size, scratch.shape[1]):
            z, grad = p[:, v0:v1], scratch[: len(p), : v1 - v0]
            torch.sub(z, rows.lse_p[:, None], out=grad).exp_().mul_(push)
            local = ids - v0
            here = (local >= 0) & (local < v1 - v0)
            grad.scatter_add_(1, local.clamp_(0, v1 - v0 - 1), torch.where(here, -pull, 0.0))
            grads.add(a, b, v0, v1, h, self.head.chain_(grad, z))

    def _backward_exact(
        self, grads: _Grads, a: int, b: int, h: Tensor, p: Tensor, q: Tensor, rows: _Rows, total: Tensor,
        weights: Tensor, scratch: Tensor,
    ) -> None:  # fmt: skip
        """dL/dz(v) = weight (p(v) sum_u a(u) - a(v)), with a = p w left in `q`."""
        push = (weights * total)[:, None]
        for v0, v1 in spans(self.head.vocab_size, scratch.shape[1]):
            z, grad = p[:, v0:v1], scratch[: len(p), : v1 - v0]
            torch.sub(z, rows.lse_p[:, None], out=grad).exp_().mul_(push)
            grad.sub_(q[:, v0:v1].mul_(weights[:, None]))
            grads.add(a, b, v0, v1, h, self.head.chain_(grad, z))


class _Grads:
    """Gradients of hidden states, weight and bias, accumulated in float32 from that of the logits."""

    def __init__(self, hidden: Tensor, head: Head, needs: list[bool], dtype: torch.dtype):
        self.head, self.dtype, self.hidden_dtype = head, dtype, hidden.dtype
        new: dict[str, Any] = {"dtype": statistics_dtype(dtype), "device": hidden.device}
        self.hidden = torch.zeros(hidden.shape, **new) if needs[0] else None
        # The first chunk writes, the others add: no pass over [V, D] just to clear it.
        make = torch.empty if len(hidden) else torch.zeros
        self.weight = make(head.weight.shape, **new) if needs[1] else None
        self.bias = torch.zeros(head.vocab_size, **new) if needs[2] else None

    def add(self, a: int, b: int, v0: int, v1: int, h: Tensor, grad: Tensor) -> None:
        """Add what the logits' gradient `grad` [C, v] of tokens a:b and entries v0:v1 contributes."""
        if self.bias is not None:
            self.bias[v0:v1] += grad.sum(0)
        if self.hidden is not None:
            matmul(grad, self.head.weight[v0:v1].to(self.dtype), self.hidden[a:b], accumulate=True)
        if self.weight is not None:
            matmul(grad.t(), h, self.weight[v0:v1], accumulate=a > 0)

    def finish(self) -> tuple[Tensor | None, ...]:
        """The three gradients in the dtypes of hidden, weight and bias (None where none is needed)."""
        head = self.head
        return (
            None if self.hidden is None else self.hidden.to(self.hidden_dtype),
            None if self.weight is None else self.weight.to(head.weight.dtype),
            None if self.bias is None or head.bias is None else self.bias.to(head.bias.dtype),
        )


def _empty_stats(n_tokens: int, spec: IntroSpec, new: dict[str, Any]) -> IntroStats:
    names = [name for name in IntroStats.__dataclass_fields__ if name != "candidates"]
    ids = None
    if not spec.exact:
        ids = torch.empty((n_tokens, int(spec.candidates)), dtype=torch.long, device=new["device"])
    return IntroStats(**{name: torch.empty(n_tokens, **new) for name in names}, candidates=ids)

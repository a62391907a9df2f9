"""The walk over chunks of tokens and tiles of the vocabulary behind `intro_loss`.

A chunk is walked twice. The first walk makes the logits under policy and posterior and keeps, tile by tile, their
exponentials; once a row's normaliser is known, a tile of probabilities is its exponentials times one number a row. The
second walk turns each tile into the gradient of the logits and does the two products of the gradients. Exact mode
visits, between the two, the tiles in which the clip is at work.

Shapes: N tokens, C tokens of a chunk, V vocabulary, v entries of a vocabulary tile, K tiles, D hidden,
n candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ixt_rl.errors import DataError
from ixt_rl.kernels.candidates import invert, uniform_numbers
from ixt_rl.kernels.chunks import spans, tile_width, token_chunk
from ixt_rl.kernels.head import Head, matmul, statistics_dtype
from ixt_rl.kernels.tiles import TileSums, exact_gradient, log_tile, sampled_gradient, tile_sums

if TYPE_CHECKING:
    from ixt_rl.kernels.intro import IntroSpec

Choose = Callable[[Tensor, Tensor, "IntroSpec", "torch.Generator | None"], Tensor]
Factor = Callable[[Tensor, Tensor], Tensor]
Reweigh = Callable[[Tensor, slice], Tensor]


@dataclass(frozen=True)
class Rows:
    """Normalisers and whole-vocabulary statistics of a chunk's rows.

    Args:
        lse_p, lse_q, entropy, kl: `[C]`.
        log_mass: `[C, K]` log-sum-exp of the policy's logits by tile.
        scale_p, scale_q: `[C, K]` what turns a tile's exponentials into probabilities: `p = e_p scale_p`.
        shift_p, shift_q: `[C, K]` their logs.
        cross: `[C]` `sum_v q log p` (exact mode).
        gap_top: `[C, K]` largest `log q - log p` by tile (exact mode).
    """

    lse_p: Tensor
    lse_q: Tensor
    entropy: Tensor
    kl: Tensor
    log_mass: Tensor
    shift_p: Tensor
    shift_q: Tensor
    scale_p: Tensor
    scale_q: Tensor
    cross: Tensor | None
    gap_top: Tensor | None


@dataclass(frozen=True)
class Walk:
    """What does not change from chunk to chunk; see `intro_loss` for the meaning."""

    head: Head
    posterior_head: Head
    spec: IntroSpec
    choose: Choose | None
    factor: Factor | None
    reweigh: Reweigh | None
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
    ) -> tuple[Tensor, dict[str, Any], tuple[Tensor | None, ...]]:
        """Loss, columns of `IntroStats`, and the gradients of hidden states, weight and bias that `needs` asks for."""
        n_tokens, vocab, device = hidden.shape[0], self.head.vocab_size, hidden.device
        new: dict[str, Any] = {"dtype": statistics_dtype(self.dtype), "device": device}
        tile = min(tile_width(device), vocab)
        n_tiles = math.ceil(vocab / tile)
        kept = 2 if self.spec.exact else 1
        # Exact mode keeps two rows a token. Its chunks are as long all the same: shorter ones would read the head
        # and its gradient more often, which is most of what they cost beyond their products.
        row = n_tiles * tile * torch.empty(0, **new).element_size()
        chunk = min(chunk or token_chunk(n_tokens, row, device), max(n_tokens, 1))
        # All that outlives a chunk is allocated before the first: memory does not grow with their number. Tiles are
        # kept apart, since rows a vocabulary long would cost a page each. The last one ends in zeros.
        e = torch.empty((kept, n_tiles, chunk, tile), **new)
        e[:, -1, :, vocab - (n_tiles - 1) * tile :] = 0
        scratch = torch.empty((3 * chunk, tile), **new)
        stats = _Columns(n_tokens, self.spec, new)
        per_token = torch.empty(n_tokens, **new)
        grads = Grads(hidden, self.head, needs, self.dtype, chunk)
        draws = 0 if self.spec.exact or self.choose else int(self.spec.candidates) - self.spec.include_taken
        u = uniform_numbers(n_tokens, draws, device, self.generator)
        weights = token_weights.to(**new, copy=self.reweigh is not None)
        for a, b in spans(n_tokens, chunk):
            c = b - a
            h, h_q = hidden[a:b].to(self.dtype), posterior_hidden[a:b].to(self.dtype)
            e_p = e[0, :, :c]
            if self.spec.exact:
                e_q = e[1, :, :c]
                rows = self._fill(h, h_q, e_p, e_q, scratch)
                per_token[a:b], part, total, scale = self._exact(h, h_q, e_p, e_q, rows, tokens[a:b])
            else:
                rows = self._fill(h, h_q, e_p, None, scratch)
                per_token[a:b], part, ids, w = self._sampled(h, h_q, e_p, rows, tokens[a:b], u[a:b])
            stats.write(a, b, rows, part)
            if self.reweigh is not None:
                weights[a:b] *= self.reweigh(part["logp"], slice(a, b))
            if not any(needs):
                continue
            if self.spec.exact:
                self._backward_exact(grads, h, e_p, e_q, rows, total, scale, weights[a:b], scratch)
            else:
                self._backward_sampled(grads, h, e_p, rows, ids, w, weights[a:b], scratch)
            grads.end_chunk(a, b)
        return -(weights * per_token).sum(), stats.columns, grads.finish()

    def _tiles(self, e: Tensor) -> list[tuple[int, int, int]]:
        return [(k, a, b) for k, (a, b) in enumerate(spans(self.head.vocab_size, e.shape[-1]))]

    def _fill(self, h: Tensor, h_q: Tensor, e_p: Tensor, e_q: Tensor | None, scratch: Tensor) -> Rows:
        """First walk: writes the policy's exponentials to `e_p` [K, C, v], in exact mode the posterior's to `e_q`."""
        c = len(h)
        stacked = torch.cat([h, h_q]) if self.posterior_head is self.head else None
        sums: list[TileSums] = []
        for k, v0, v1 in self._tiles(e_p):
            width = v1 - v0
            z = scratch[: 2 * c, :width]
            if stacked is not None:  # one product of twice the rows reads the head once
                self.head.project(stacked, v0, v1, out=z)
            else:
                self.head.project(h, v0, v1, out=z[:c])
                self.posterior_head.project(h_q, v0, v1, out=z[c:])
            third = scratch[2 * c : 3 * c, :width]
            if e_q is None:
                sums.append(tile_sums(z, e_p[k, :, :width], third, spare=None))
            else:
                sums.append(tile_sums(z, e_p[k, :, :width], e_q[k, :, :width], spare=third))

        def stack(
            name: str,
        ) -> Tensor:  # [C, K], float64: K numbers a row cost nothing, and normalisers enter everything
            return torch.stack([getattr(s, name) for s in sums], 1).double()

        ref = stack("ref")
        log_mass = ref if sums[0].mass is None else ref + stack("mass").log()
        lse = log_mass.logsumexp(1)
        shift = ref - lse[:, None]
        lse_p, lse_q = lse[:c], lse[c:]
        scale_p, scale_q = shift.exp().split(c)
        # H(p) = lse_p - E_p[z_p];  KL(q || p) = E_q[z_q - z_p] - lse_q + lse_p
        rows = Rows(
            lse_p=lse_p,
            lse_q=lse_q,
            entropy=lse_p - (stack("p_zp") * scale_p).sum(1),
            kl=(stack("q_gap") * scale_q).sum(1) - lse_q + lse_p,
            log_mass=log_mass[:c],
            shift_p=shift[:c],
            shift_q=shift[c:],
            scale_p=scale_p,
            scale_q=scale_q,
            cross=None if e_q is None else (stack("q_zp") * scale_q).sum(1) - lse_p,
            gap_top=None if e_q is None else stack("gap_top") + (lse_p - lse_q)[:, None],
        )
        narrow: dict[str, Any] = {name: None if x is None else x.to(e_p.dtype) for name, x in vars(rows).items()}
        return Rows(**narrow)

    def _logs(self, h: Tensor, h_q: Tensor, rows: Rows, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probs of `ids` [C, m] under policy and posterior: a dot product with each embedding."""
        z_p = torch.stack([self.head.project_ids(h, column) for column in ids.unbind(1)], 1)
        z_q = torch.stack([self.posterior_head.project_ids(h_q, column) for column in ids.unbind(1)], 1)
        return z_p - rows.lse_p[:, None], z_q - rows.lse_q[:, None]

    def _ratio(self, logp: Tensor, logq: Tensor) -> Tensor:
        if self.factor is not None:
            return self.factor(logp, logq).detach().to(logp.dtype)
        return (logq - logp).exp_().clamp_(max=self.spec.limit)

    def _above_clip(self, logp: Tensor, logq: Tensor) -> Tensor:
        return (logq - logp > math.log(self.spec.limit)).to(logp.dtype)

    def _sampled(
        self, h: Tensor, h_q: Tensor, e_p: Tensor, rows: Rows, taken: Tensor, u: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
        """Candidates of a chunk: their mean `w log p` [C], statistics, ids and factors [C, n]."""
        if self.choose is None:
            ids = invert(u, e_p, rows.lse_p, rows.log_mass, rows.shift_p)
            if self.spec.include_taken:
                ids = torch.cat([taken[:, None], ids], 1)
        else:
            logp_V = torch.cat(
                [log_tile(e_p[k, :, : b - a], rows.shift_p[:, k]) for k, a, b in self._tiles(e_p)], 1
            )  # [C, V]
            ids = self.choose(logp_V, taken, self.spec, self.generator)
            if ids.shape != (len(taken), self.spec.candidates):
                raise DataError(
                    f"choose returned ids of shape {tuple(ids.shape)} for {len(taken)} tokens",
                    reason=f"the loss is a mean over candidates={self.spec.candidates} ids per token",
                    remedy=f"return shape {(len(taken), self.spec.candidates)}",
                )
        logp, logq = self._logs(h, h_q, rows, torch.cat([taken[:, None], ids], 1))
        w = self._ratio(logp[:, 1:], logq[:, 1:])
        drawn = w[:, 1:] if self.spec.include_taken else w
        stats = {
            "logp": logp[:, 0],
            "logq": logq[:, 0],
            "factor_taken": self._ratio(logp[:, :1], logq[:, :1])[:, 0],
            "factor_sampled": drawn.mean(1),  # NaN where none was drawn
            "clipped": self._above_clip(logp[:, 1:], logq[:, 1:]).mean(1),
            "candidates": ids,
        }
        return (w * logp[:, 1:]).mean(1), stats, ids, w

    def _exact(
        self, h: Tensor, h_q: Tensor, e_p: Tensor, e_q: Tensor, rows: Rows, taken: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
        """Whole vocabulary, with `a = p w`: `sum_v a log p` [C], statistics, `sum_v a` [C], and `scale` [C, K].

        Afterwards `a = e_q scale`. Where the clip does not bind, `a` is the posterior, whose sums the first walk has
        left; only tiles where it does (with a `factor`, all) are visited, and there `e_q` becomes `a`.
        """
        assert rows.cross is not None and rows.gap_top is not None
        logp, logq = self._logs(h, h_q, rows, taken[:, None])
        scale, clipped = rows.scale_q.clone(), torch.zeros_like(rows.lse_p)
        if self.factor is not None:
            total, value, visited = torch.zeros_like(clipped), torch.zeros_like(clipped), [True] * len(e_p)
        else:
            total, value = torch.ones_like(clipped), rows.cross.clone()
            visited = (rows.gap_top > math.log(self.spec.limit)).any(0).tolist()
        for k, v0, v1 in self._tiles(e_p):
            if not visited[k]:
                continue
            a = e_q[k, :, : v1 - v0]
            logp_v = log_tile(e_p[k, :, : v1 - v0], rows.shift_p[:, k])
            p = e_p[k, :, : v1 - v0] * rows.scale_p[:, k, None]
            if self.factor is not None:
                logq_v = log_tile(a, rows.shift_q[:, k])
                clipped += (p * self._above_clip(logp_v, logq_v)).sum(1)
                a.copy_(p * self._ratio(logp_v, logq_v))
                total += a.sum(1)
                value += logp_v.mul_(a).sum(1)
            else:
                q = a.mul_(scale[:, k, None])
                excess = (q - p * self.spec.limit).clamp_(min=0)
                clipped += (p * (excess > 0)).sum(1)
                total -= excess.sum(1)
                value -= logp_v.mul_(excess).sum(1)
                a.sub_(excess)
            scale[:, k] = 1
        stats = {
            "logp": logp[:, 0],
            "logq": logq[:, 0],
            "factor_taken": self._ratio(logp, logq)[:, 0],
            "factor_sampled": total,
            "clipped": clipped,
        }
        return value, stats, total, scale

    def _backward_sampled(
        self, grads: Grads, h: Tensor, e_p: Tensor, rows: Rows, ids: Tensor, w: Tensor, weights: Tensor,
        scratch: Tensor,
    ) -> None:  # fmt: skip
        """dL/dz(v) = weight/n (sum_i w_i p(v) - sum_i w_i 1[v = c_i])."""
        pull = w * (weights / w.shape[1])[:, None]  # [C, n]
        push = pull.sum(1, keepdim=True) * rows.scale_p  # [C, K]
        shift = rows.shift_p + rows.lse_p[:, None]
        for k, v0, v1 in self._tiles(e_p):
            tile = e_p[k, :, : v1 - v0]
            out = scratch[: len(h), : v1 - v0]
            grad = sampled_gradient(tile, push[:, k], ids - v0, pull, self.head, shift[:, k], self.dtype, out)
            grads.add(v0, v1, h, grad)

    def _backward_exact(
        self, grads: Grads, h: Tensor, e_p: Tensor, e_q: Tensor, rows: Rows, total: Tensor, scale: Tensor,
        weights: Tensor, scratch: Tensor,
    ) -> None:  # fmt: skip
        """dL/dz(v) = weight (p(v) sum_u a(u) - a(v))."""
        push = (weights * total)[:, None] * rows.scale_p  # [C, K]
        pull = weights[:, None] * scale
        shift = rows.shift_p + rows.lse_p[:, None]
        for k, v0, v1 in self._tiles(e_p):
            tile, target = e_p[k, :, : v1 - v0], e_q[k, :, : v1 - v0]
            out = scratch[: len(h), : v1 - v0]
            grad = exact_gradient(tile, push[:, k], target, pull[:, k], self.head, shift[:, k], self.dtype, out)
            grads.add(v0, v1, h, grad)


class Grads:
    """Gradients of hidden states, weight and bias, accumulated in float32 from that of the logits."""

    def __init__(self, hidden: Tensor, head: Head, needs: list[bool], dtype: torch.dtype, chunk: int):
        self.head, self.dtype = head, dtype
        new: dict[str, Any] = {"dtype": statistics_dtype(dtype), "device": hidden.device}
        self.hidden = torch.zeros_like(hidden) if needs[0] else None
        self.chunk_hidden = torch.zeros((chunk, hidden.shape[1]), **new) if needs[0] else None
        # The first chunk writes, the others add: no pass over [V, D] just to clear it.
        make = torch.empty if len(hidden) else torch.zeros
        self.weight = make(head.weight.shape, **new) if needs[1] else None
        self.bias = torch.zeros(head.vocab_size, **new) if needs[2] else None
        self.first = True

    def add(self, v0: int, v1: int, h: Tensor, grad: Tensor) -> None:
        """Add what entries v0:v1 contribute: `grad` [C, v] of their logits, `h` [C, D] of this chunk."""
        if self.bias is not None:
            self.bias[v0:v1] += grad.sum(0, dtype=self.bias.dtype)
        if self.chunk_hidden is not None:
            w = self.head.weight[v0:v1].to(self.dtype)
            matmul(grad, w, self.chunk_hidden[: len(grad)], accumulate=v0 > 0)
        if self.weight is not None:
            matmul(grad.t(), h, self.weight[v0:v1], accumulate=not self.first)

    def end_chunk(self, a: int, b: int) -> None:
        """All tiles of tokens a:b have been added."""
        self.first = False
        if self.hidden is not None and self.chunk_hidden is not None:
            self.hidden[a:b] = self.chunk_hidden[: b - a]

    def finish(self) -> tuple[Tensor | None, ...]:
        """The three gradients in the dtypes of hidden, weight and bias (None where none is needed)."""
        head = self.head
        return (
            self.hidden,
            None if self.weight is None else self.weight.to(head.weight.dtype),
            None if self.bias is None or head.bias is None else self.bias.to(head.bias.dtype),
        )


class _Columns:
    """The columns of `IntroStats`, filled chunk by chunk."""

    def __init__(self, n_tokens: int, spec: IntroSpec, new: dict[str, Any]):
        names = ("logp", "logq", "factor_taken", "factor_sampled", "clipped", "entropy", "kl")
        self.columns: dict[str, Tensor | None] = {name: torch.empty(n_tokens, **new) for name in names}
        self.columns["candidates"] = None
        if not spec.exact:
            shape = (n_tokens, int(spec.candidates))
            self.columns["candidates"] = torch.empty(shape, dtype=torch.long, device=new["device"])

    def write(self, a: int, b: int, rows: Rows, part: dict[str, Tensor]) -> None:
        for name, column in self.columns.items():
            if column is not None:
                column[a:b] = part[name] if name in part else getattr(rows, name)

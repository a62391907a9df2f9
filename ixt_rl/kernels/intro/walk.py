"""The walk over chunks of tokens and tiles of the vocabulary behind `intro_loss` and `nll_loss`.

A chunk is walked twice. The first walk makes the logits under policy and posterior and keeps, tile by tile, their
exponentials; once a row's normaliser is known, a tile of probabilities is its exponentials times one number a row. The
second walk turns each tile into the gradient of the logits and does the two products of the gradients. Exact mode
visits, between the two, the tiles in which the clip is at work.

Where the gradient of the logits is, candidates apart, the exponentials times one number a row, the gradient of the
hidden states is summed in the first walk already, while a tile of the head and its exponentials are at hand.

Without a posterior all factors are 1, and with the taken token as the one candidate the loss is its cross-entropy.

Shapes: N tokens, C tokens of a chunk, c of a piece of it, V vocabulary, v entries of a vocabulary tile, K tiles,
D hidden, n candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ixt_rl.errors import DataError
from ixt_rl.kernels.chunks import even, tile_width, token_block, token_chunks
from ixt_rl.kernels.head import Head, factors, logit_factors, rounds_factors, statistics_dtype
from ixt_rl.kernels.intro.candidate_tokens import invert, uniform_numbers
from ixt_rl.kernels.intro.first_walk import Block, Logits, Piece, RowTotals, normalise
from ixt_rl.kernels.intro.gradients import Gradients
from ixt_rl.kernels.intro.tiles import exact_gradient, log_tile, sampled_gradient, triton_for
from ixt_rl.kernels.intro.vocabulary import Tiles

if TYPE_CHECKING:
    from ixt_rl.kernels.intro.spec import IntroSpec

Choose = Callable[[Tensor, Tensor, "IntroSpec", "torch.Generator | None"], Tensor]
Factor = Callable[[Tensor, Tensor], Tensor]
FactorAt = Callable[[Tensor, Tensor, slice, Tensor], Tensor]
Reweigh = Callable[[Tensor, slice], Tensor]
Gradient = Callable[[Piece, int, int, int], Tensor]
"""`(piece, k, v0, v1)` -> `[c, v]` gradient of the logits of v0:v1, tile k; overwritten by the thread's next."""


@dataclass(frozen=True)
class Drawn:
    """Candidates of a chunk: ids and factors, `[C, n]` each."""

    ids: Tensor
    factors: Tensor


@dataclass(frozen=True)
class Walk:
    """What does not change from chunk to chunk; see `intro_loss`. `posterior_head` None: no posterior."""

    head: Head
    posterior_head: Head | None
    spec: IntroSpec
    choose: Choose | None
    factor: FactorAt | None
    reweigh: Reweigh | None
    generator: torch.Generator | None
    dtype: torch.dtype  # of the matrix products
    measure: Factor | None = None

    def __call__(
        self,
        hidden: Tensor,
        posterior_hidden: Tensor | None,
        tokens: Tensor,
        token_weights: Tensor,
        chunk: int | None,
        needs: list[bool],
    ) -> tuple[Tensor, dict[str, Any], tuple[Tensor | None, ...]]:
        """Loss, columns of `IntroStats` (of `NllStats` without a posterior), and gradients.

        Args:
            needs: whether hidden states, weight and bias have one.
        """
        n_tokens, device = hidden.shape[0], hidden.device
        new: dict[str, Any] = {"dtype": statistics_dtype(self.dtype), "device": device}
        width = even(self.head.vocab_size, tile_width(device))
        n_tiles = math.ceil(self.head.vocab_size / width)
        kept = self._kept
        row_bytes = n_tiles * width * torch.empty(0, **new).element_size()
        # The chunks of exact mode are as long all the same: shorter ones would read the head and its gradient more
        # often, which is most of what they cost beyond their products.
        chunks = token_chunks(n_tokens, row_bytes, hidden.shape[1] // kept if needs[1] else 0, device, chunk)
        longest = max(chunks.lent, chunks.own)
        block = token_block(longest, device)
        # All that outlives a chunk is allocated before the first: memory does not grow with their number.
        streams = 1 if self.posterior_head is None else 2
        tiles = Tiles(self.head.vocab_size, width, max(streams * block, longest), new)
        grads = Gradients(hidden, self.head, needs, self.dtype, tiles, chunks.lent + chunks.own)
        own = torch.empty((n_tiles, kept * chunks.own, width), **new)
        apart = not (self.spec.exact or self.head.softcap or rounds_factors(self.dtype, own) or triton_for(own))
        stats = _Columns(n_tokens, self.spec, new, posterior_hidden is not None, self.measure is not None)
        per_token = torch.empty(n_tokens, **new)
        draws = 0 if self.spec.exact or self.choose else int(self.spec.candidates) - self.spec.include_taken
        u = uniform_numbers(n_tokens, draws, device, self.generator)
        weights = token_weights.to(**new, copy=self.reweigh is not None)

        def add_hidden(block: Block) -> None:
            grads.add_hidden(block.at, block.tile, block.weight, block.e_p)

        with tiles:
            for a, b in chunks.spans(n_tokens):
                h = factors(hidden[a:b], self.dtype)
                h_q = None if posterior_hidden is None else factors(posterior_hidden[a:b], self.dtype)
                pieces = self._pieces(b - a, chunks.lent if a == 0 else 0, grads.lent, own)
                grads.begin(a, b)
                wide = logit_factors(h, self.dtype)
                wide_q = None if h_q is None else logit_factors(h_q, self.dtype)
                rows = normalise(
                    Logits(self.head, self.posterior_head, self.dtype, wide, wide_q, pieces, block, tiles),
                    seen=add_hidden if apart else None,
                )
                here, taken = slice(a, b), tokens[a:b]
                if self.spec.exact:
                    per_token[a:b], part, total, scale = self._exact(h, h_q, pieces, tiles, rows, taken, here)
                else:
                    per_token[a:b], part, drawn = self._sampled(h, h_q, pieces, tiles, rows, taken, here, u[a:b])
                stats.write(a, b, rows, part)
                if self.reweigh is not None:
                    weights[a:b] *= self.reweigh(part["logp"], slice(a, b))
                if not any(needs):
                    continue
                if apart:
                    self._backward_apart(grads, h, pieces, rows, drawn, weights[a:b])
                elif self.spec.exact:
                    self._backward(grads, h, pieces, self._exact_gradient(tiles, rows, total, scale, weights[a:b]))
                else:
                    self._backward(grads, h, pieces, self._sampled_gradient(tiles, rows, drawn, weights[a:b]))
                grads.end()
        return -(weights * per_token).sum(), stats.columns, grads.finish()

    @property
    def _kept(self) -> int:
        """Exponentials kept of a token and entry until the chunk is done: the policy's, in exact mode the posterior's
        too."""
        return 2 if self.spec.exact else 1

    def _pieces(self, n_tokens: int, n_lent: int, lent: Tensor | None, own: Tensor) -> list[Piece]:
        """Memory for the exponentials of a chunk: `lent` [K, >= n_lent kept, v] first, then `own`."""
        pieces = []
        for a, b, room in ((0, n_lent, lent), (n_lent, n_tokens, own)):
            if room is None or a == b:
                continue
            e = room[:, : self._kept * (b - a)].unflatten(1, (self._kept, b - a))
            e[-1, :, :, self.head.vocab_size - (len(e) - 1) * e.shape[-1] :] = 0
            pieces.append(Piece(slice(a, b), e[:, 0], e[:, 1] if self.spec.exact else None, lent=room is lent))
        return pieces

    def _logs(
        self, h: Tensor, h_q: Tensor | None, pieces: list[Piece], rows: RowTotals, ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-probs of `ids` [C, m] under policy and posterior (or the policy's again): dot products with embeddings,
        less the normaliser.

        The policy's come from its exponentials where they have not underflowed: the rounding of a likely token's logit
        is in their sum too, and cancels.
        """
        z_p = self.head.project_ids(h, ids, self.dtype)
        e_p = _kept_entries(pieces, ids)
        p = e_p.double() / rows.mass.sum(1, keepdim=True)
        logp = torch.where(e_p > torch.finfo(e_p.dtype).tiny, p.log().to(z_p.dtype), z_p - rows.lse_p[:, None])
        if self.posterior_head is None or h_q is None:
            return logp, logp
        return logp, self.posterior_head.project_ids(h_q, ids, self.dtype) - rows.lse_q[:, None]

    def _ratio(self, logp: Tensor, logq: Tensor, at: slice, ids: Tensor) -> Tensor:
        if self.factor is not None:
            found = self.factor(logp, logq, at, ids).detach().to(logp.dtype)
            if found.shape not in (logp.shape, (len(logp), 1)):
                raise DataError(
                    f"factor gave shape {tuple(found.shape)}",
                    reason=f"it weighs {logp.shape[1]} tokens at each of {len(logp)} positions",
                    remedy="return the shape of `logp`, or one column for all tokens of a position",
                )
            return found.expand_as(logp)
        return (logq - logp).exp_().clamp_(max=self.spec.limit)

    def _above_clip(self, logp: Tensor, logq: Tensor) -> Tensor:
        return (logq - logp > math.log(self.spec.limit)).to(logp.dtype)

    def _sampled(
        self,
        h: Tensor,
        h_q: Tensor | None,
        pieces: list[Piece],
        tiles: Tiles,
        rows: RowTotals,
        taken: Tensor,
        here: slice,
        u: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor], Drawn]:
        """Candidates of the chunk `here`: their mean `w log p` [C], statistics, and themselves."""
        if self.choose is None:
            ids = torch.cat([invert(u[at], e_p, rows.mass[at]) for at, e_p, _, _ in pieces])
            if self.spec.include_taken:
                ids = torch.cat([taken[:, None], ids], 1)
        else:
            logp_V = torch.cat(
                [
                    torch.cat([log_tile(e_p[k, :, : v1 - v0], rows.shift_p[at]) for at, e_p, _, _ in pieces])
                    for k, v0, v1 in tiles
                ],
                1,
            )  # [C, V]
            ids = self.choose(logp_V, taken, self.spec, self.generator)
            if ids.shape != (len(taken), self.spec.candidates):
                raise DataError(
                    f"choose returned ids of shape {tuple(ids.shape)} for {len(taken)} tokens",
                    reason=f"the loss is a mean over candidates={self.spec.candidates} ids per token",
                    remedy=f"return shape {(len(taken), self.spec.candidates)}",
                )
        logp, logq = self._logs(h, h_q, pieces, rows, torch.cat([taken[:, None], ids], 1))
        w = self._ratio(logp[:, 1:], logq[:, 1:], here, ids)
        drawn = w[:, 1:] if self.spec.include_taken else w
        stats = {
            "logp": logp[:, 0],
            "logq": logq[:, 0],
            "factor_taken": self._ratio(logp[:, :1], logq[:, :1], here, taken[:, None])[:, 0],
            "factor_sampled": drawn.mean(1),  # NaN where none was drawn
            "clipped": self._above_clip(logp[:, 1:], logq[:, 1:]).mean(1),
            "candidates": ids,
        }
        if rows.top is not None:
            stats["top1"] = (_kept_entries(pieces, taken[:, None])[:, 0] >= rows.top).to(logp.dtype)
        return (w * logp[:, 1:]).mean(1), stats, Drawn(ids, w)

    def _exact(
        self,
        h: Tensor,
        h_q: Tensor | None,
        pieces: list[Piece],
        tiles: Tiles,
        rows: RowTotals,
        taken: Tensor,
        here: slice,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
        """Whole vocabulary, with `a = p w`: `sum_v a log p` [C], statistics, `sum_v a` [C], and `scale` [C, K].

        Afterwards `a = e_q scale`. Where the clip does not bind, `a` is the posterior, whose sums the first walk has
        left; only tiles where it does (with a `factor`, all) are visited, and there `e_q` becomes `a`.

        In a visited tile a `p` that has underflowed counts as e^-87 of the row's largest (`log_tile`), while the sums
        of the first walk have its true log: where logits of one row are further apart than that, and the posterior
        puts mass there, the value (and so the loss that is reported) can be off by up to their distance. The gradient,
        which is formed from `a` alone, is not: `a` is at most clip times `p`, which is 0 to within float32.
        """
        assert rows.cross is not None and rows.gap_top is not None
        logp, logq = self._logs(h, h_q, pieces, rows, taken[:, None])
        scale, clipped = rows.scale_q[:, None].repeat(1, rows.mass.shape[1]), torch.zeros_like(rows.lse_p)
        measured = torch.zeros_like(clipped)
        if self.factor is not None:
            total, value = torch.zeros_like(clipped), torch.zeros_like(clipped)
            visited = [True] * rows.mass.shape[1]
        else:
            total, value = torch.ones_like(clipped), rows.cross.clone()
            visited = (rows.gap_top > math.log(self.spec.limit)).any(0).tolist()
        for k, v0, v1 in tiles:
            if not visited[k]:
                continue
            for at, e_p, e_q, _ in pieces:
                assert e_q is not None
                a = e_q[k, :, : v1 - v0]
                logp_v = log_tile(e_p[k, :, : v1 - v0], rows.shift_p[at])
                p = e_p[k, :, : v1 - v0] * rows.scale_p[at, None]
                if self.factor is not None:
                    logq_v = log_tile(a, rows.shift_q[at])
                    clipped[at] += (p * self._above_clip(logp_v, logq_v)).sum(1)
                    if self.measure is not None:
                        measured[at] += self.measure(logp_v, logq_v).sum(1)
                    tokens = slice(here.start + at.start, here.start + at.stop)
                    entries = torch.arange(v0, v1, device=a.device)[None]
                    a.copy_(p * self._ratio(logp_v, logq_v, tokens, entries))
                    total[at] += a.sum(1)
                    value[at] += logp_v.mul_(a).sum(1)
                else:
                    q = a.mul_(scale[at, k, None])
                    excess = (q - p * self.spec.limit).clamp_(min=0)
                    clipped[at] += (p * (excess > 0)).sum(1)
                    total[at] -= excess.sum(1)
                    value[at] -= logp_v.mul_(excess).sum(1)
                    a.sub_(excess)
            scale[:, k] = 1
        stats = {
            "logp": logp[:, 0],
            "logq": logq[:, 0],
            "factor_taken": self._ratio(logp, logq, here, taken[:, None])[:, 0],
            "factor_sampled": total,
            "clipped": clipped,
            "measured": measured,
        }
        return value, stats, total, scale

    def _sampled_gradient(self, tiles: Tiles, rows: RowTotals, drawn: Drawn, weights: Tensor) -> Gradient:
        """dL/dz(v) = weight/n (sum_i w_i p(v) - sum_i w_i 1[v = c_i]) = push e_p(v) - sum_i pull_i 1[v = c_i]."""
        push, pull = _push_and_pull(rows, drawn, weights)

        def gradient(piece: Piece, k: int, v0: int, v1: int) -> Tensor:
            at, e_p = piece.at, piece.e_p[k, :, : v1 - v0]
            args = (push[at], drawn.ids[at] - v0, pull[at], self.head, rows.ref_p[at], self.dtype)
            return sampled_gradient(e_p, *args, tiles.scratch(k, len(e_p)))

        return gradient

    def _exact_gradient(self, tiles: Tiles, rows: RowTotals, total: Tensor, scale: Tensor, weights: Tensor) -> Gradient:
        """dL/dz(v) = weight (p(v) sum_u a(u) - a(v))."""
        push = weights * total * rows.scale_p  # [C]
        pull = weights[:, None] * scale  # [C, K]

        def gradient(piece: Piece, k: int, v0: int, v1: int) -> Tensor:
            assert piece.e_q is not None
            at, e_p, target = piece.at, piece.e_p[k, :, : v1 - v0], piece.e_q[k, :, : v1 - v0]
            args = (push[at], target, pull[at, k], self.head, rows.ref_p[at], self.dtype)
            return exact_gradient(e_p, *args, tiles.scratch(k, len(e_p)))

        return gradient

    def _backward(self, grads: Gradients, h: Tensor, pieces: list[Piece], gradient: Gradient) -> None:
        """Both products with the gradient of the logits."""

        def visit(k: int, v0: int, v1: int) -> None:
            weight = self.head.entries(v0, v1, self.dtype)
            for piece in pieces:
                grad = gradient(piece, k, v0, v1)
                if rounds_factors(self.dtype, grad) and grad.dtype != self.dtype:  # once for both products
                    grad = grads.tiles.spare(k, "gradient", (grad.shape[0], grad.shape[1]), self.dtype).copy_(grad)
                grads.add_hidden(piece.at, k, weight, grad)
                grads.add_weight(piece.at, k, v0, v1, grad, h[piece.at])

        grads.tiles.each(visit)
        grads.join_hidden()

    def _backward_apart(
        self, grads: Gradients, h: Tensor, pieces: list[Piece], rows: RowTotals, drawn: Drawn, weights: Tensor
    ) -> None:
        """As `_sampled_gradient`. Candidates apart, that is the exponentials times one number a row: they go into the
        products as they are, that with the head in the first walk, and no pass over [C, V] is made."""
        push, pull = _push_and_pull(rows, drawn, weights * (self.head.scale / self.head.temperature))
        scaled_h = h * push[:, None]

        def visit(k: int, v0: int, v1: int) -> None:
            for at, e_p, _, lent in pieces:
                tile = e_p[k, :, : v1 - v0]
                if lent:
                    tile = grads.tiles.scratch(k, len(tile)).copy_(tile)
                grads.add_weight(at, k, v0, v1, tile, scaled_h[at], push[at])

        grads.join_hidden(push)
        if grads.weight is not None or grads.bias is not None:
            grads.tiles.each(visit)
        grads.add_entries(h, drawn.ids, -pull)


def _kept_entries(pieces: list[Piece], ids: Tensor) -> Tensor:
    """`[C, m]` the policy's exponentials of `ids` [C, m]."""
    return torch.cat([_entries(e_p, ids[at]) for at, e_p, _, _ in pieces])


def _entries(e: Tensor, ids: Tensor) -> Tensor:
    """`[c, m]` entries `ids` [c, m] of `e` [K, c, v]."""
    rows = torch.arange(len(ids), device=ids.device)[:, None]
    return e[ids // e.shape[2], rows, ids % e.shape[2]]


def _push_and_pull(rows: RowTotals, drawn: Drawn, weights: Tensor) -> tuple[Tensor, Tensor]:
    """`[C]` and `[C, n]`: see `Walk._sampled_gradient`."""
    pull = drawn.factors * (weights / drawn.factors.shape[1])[:, None]
    return pull.sum(1) * rows.scale_p, pull


class _Columns:
    """The columns of `IntroStats`, or without a posterior of `NllStats`, filled chunk by chunk."""

    def __init__(self, n_tokens: int, spec: IntroSpec, new: dict[str, Any], posterior: bool, measured: bool):
        of_both = ("logp", "logq", "factor_taken", "factor_sampled", "clipped", "entropy", "kl")
        names = (*of_both, *["measured"] * measured) if posterior else ("logp", "entropy", "top1")
        self.columns: dict[str, Tensor | None] = {name: torch.empty(n_tokens, **new) for name in names}
        if not posterior:
            return
        self.columns["candidates"] = None
        if not spec.exact:
            shape = (n_tokens, int(spec.candidates))
            self.columns["candidates"] = torch.empty(shape, dtype=torch.long, device=new["device"])

    def write(self, a: int, b: int, rows: RowTotals, part: dict[str, Tensor]) -> None:
        for name, column in self.columns.items():
            if column is not None:
                column[a:b] = part[name] if name in part else getattr(rows, name)

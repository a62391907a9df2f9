"""The first walk over the vocabulary: exponentials of a chunk's logits, and all sums over the whole vocabulary.

Per row `e = exp(z - ref)` with one `ref` for all tiles, so that probabilities are `e` times one number a row.
They may lie in two pieces of memory.

Shapes: S 1 or 2, policy and posterior; C tokens of a chunk, c tokens of a block of it, V vocabulary, v entries of a
vocabulary tile, K tiles, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ixt_rl.kernels.chunks import spans
from ixt_rl.kernels.head import Head, logit_factors, rounds_factors, statistics_dtype
from ixt_rl.kernels.intro.tile_sums import TileSums
from ixt_rl.kernels.intro.tiles import tile_sums
from ixt_rl.kernels.intro.vocabulary import Tiles


@dataclass(frozen=True)
class RowTotals:
    """Normalisers and whole-vocabulary statistics of a chunk's rows.

    Args:
        ref_p: `[C]` logits are `log e_p + ref_p`.
        lse_p, entropy: `[C]`.
        lse_q, kl: `[C]`; without a posterior that of the policy, and 0.
        mass: `[C, K]` sum of `e_p` by tile, float64.
        scale_p, scale_q: `[C]` what turns exponentials into probabilities: `p = e_p scale_p`.
        shift_p, shift_q: `[C]` their logs.
        cross: `[C]` `sum_v q log p` (exact mode).
        gap_top: `[C, K]` largest `log q - log p` by tile (exact mode).
        top: `[C]` largest `e_p` (without a posterior).
    """

    ref_p: Tensor
    lse_p: Tensor
    lse_q: Tensor
    entropy: Tensor
    kl: Tensor
    mass: Tensor
    scale_p: Tensor
    scale_q: Tensor
    shift_p: Tensor
    shift_q: Tensor
    cross: Tensor | None
    gap_top: Tensor | None
    top: Tensor | None


class Piece(NamedTuple):
    """Exponentials of some of a chunk's tokens, in one memory.

    Args:
        at: the tokens, counted from the chunk's first.
        e_p: `[K, c, v]` under the policy; 0 past the end of the vocabulary.
        e_q: `[K, c, v]` under the posterior, which exact mode keeps; else None.
        lent: the memory is that of the head's gradient.
    """

    at: slice
    e_p: Tensor
    e_q: Tensor | None
    lent: bool


class Block(NamedTuple):
    """Logits of some tokens of a chunk and a tile of the vocabulary.

    Args:
        tile: index of the tile.
        at: the tokens, counted from the chunk's first.
        z: `[S c, v]` the policy's rows first; overwritten by the thread's next block.
        e_p, e_q: `[c, v]` where their exponentials go (e_q: or None).
        weight: `[v, D]` the policy's head there.
    """

    tile: int
    at: slice
    z: Tensor
    e_p: Tensor
    e_q: Tensor | None
    weight: Tensor


@dataclass(frozen=True)
class Logits:
    """Logits of a chunk under policy and posterior, a tile of the vocabulary and a block of tokens at a time.

    Args:
        head, posterior_head: of policy and posterior; None: there is no posterior.
        dtype: of the products.
        hidden, posterior_hidden: `[C, D]`, as `logit_factors` gives them.
        pieces: of the chunk.
        block: most tokens at a time.
        tiles: of the vocabulary, with scratch memory of at least 2 block rows.
    """

    head: Head
    posterior_head: Head | None
    dtype: torch.dtype
    hidden: Tensor
    posterior_hidden: Tensor | None
    pieces: list[Piece]
    block: int
    tiles: Tiles

    @property
    def new(self) -> dict[str, Any]:
        """Dtype and device of logits and of all that is computed from them."""
        return {"dtype": statistics_dtype(self.dtype), "device": self.hidden.device}

    @property
    def streams(self) -> int:
        """S."""
        return 1 if self.posterior_head is None else 2

    def blocks(self, k: int, v0: int, v1: int) -> Iterator[Block]:
        """All blocks of tile k, entries v0:v1."""
        weight = self._entries(self.head, "head", k, v0, v1)
        told, told_hidden, other = self.posterior_head, self.posterior_hidden, weight
        if told is not None and told is not self.head:
            other = self._entries(told, "posterior head", k, v0, v1)
        for piece in self.pieces:
            for a, b in spans(piece.e_p.shape[1], self.block):
                c, at = b - a, slice(piece.at.start + a, piece.at.start + b)
                z = self.tiles.scratch(k, self.streams * c)
                self.head.project(self.hidden[at], v0, weight, out=z[:c])
                if told is not None and told_hidden is not None:
                    told.project(told_hidden[at], v0, other, out=z[c:])
                e_q = None if piece.e_q is None else piece.e_q[k, a:b, : v1 - v0]
                yield Block(k, at, z, piece.e_p[k, a:b, : v1 - v0], e_q, weight)

    def _entries(self, head: Head, use: str, k: int, v0: int, v1: int) -> Tensor:
        """`[v, D]` a tile of a head, as `logit_factors` gives it."""
        rows = head.weight[v0:v1]
        if not rounds_factors(self.dtype, rows) or rows.is_cuda:
            return logit_factors(rows, self.dtype)
        return self.tiles.spare(k, use, (rows.shape[0], rows.shape[1]), statistics_dtype(self.dtype)).copy_(
            rows.to(self.dtype)
        )

    def largest(self) -> Tensor:
        """`[S, C]` largest logit of each row; costs the products of a walk."""
        top = torch.full((self.streams, len(self.hidden)), -torch.inf, **self.new)
        for tile in self.tiles:
            for block in self.blocks(*tile):
                top[:, block.at] = torch.maximum(top[:, block.at], block.z.amax(1).view(self.streams, -1))
        return top


def normalise(logits: Logits, seen: Callable[[Block], None] | None) -> RowTotals:
    """Walk the vocabulary once: write the exponentials, return what is known of the rows.

    Args:
        logits: of a chunk. Where its pieces keep no exponentials of the posterior, what exact mode needs is not
            returned either.
        seen: called with each block once its exponentials are written, in the thread of its tile; if the walk has to
            begin anew, with all blocks again.
    """
    ref, sums = _sums(logits, None, seen)
    # No exponential overflows, and a row's normaliser is far from float32's ends, unless a logit is some 50 above those
    # of the first tile.
    if (sums["mass"] > torch.finfo(ref.dtype).max ** 0.6).any():
        ref, sums = _sums(logits, logits.largest(), seen)
    exact = "q_zp" in sums
    total = sums["mass"].sum(-1)  # [S, C]
    shift_p, shift_q = (-total.log())[[0, -1]]
    scale_p, scale_q = total.reciprocal()[[0, -1]]
    lse_p, lse_q = (ref.double() + total.log())[[0, -1]]
    rows = RowTotals(
        ref_p=ref[0],
        lse_p=lse_p,
        lse_q=lse_q,
        # H(p) = -E_p[log p];  KL(q || p) = E_q[log q - log p]
        entropy=-shift_p - sums["p_zp"].sum(-1) * scale_p,
        kl=sums["q_gap"].sum(-1) * scale_q + shift_q - shift_p if "q_gap" in sums else torch.zeros_like(shift_p),
        mass=sums["mass"][0],
        scale_p=scale_p,
        scale_q=scale_q,
        shift_p=shift_p,
        shift_q=shift_q,
        cross=sums["q_zp"].sum(-1) * scale_q + shift_p if exact else None,
        gap_top=sums["gap_top"] + (shift_q - shift_p)[:, None] if exact else None,
        top=sums["p_top"].amax(-1) if "p_top" in sums else None,
    )
    narrow: dict[str, Any] = {
        name: x if x is None or name == "mass" else x.to(ref.dtype) for name, x in vars(rows).items()
    }
    return RowTotals(**narrow)


def _sums(logits: Logits, ref: Tensor | None, seen: Callable[[Block], None] | None) -> tuple[Tensor, dict[str, Tensor]]:
    """`ref` [S, C] (of the first tile, if None) and the columns of `TileSums`, `[C, K]` or `[S, C, K]`, float64: K
    numbers a row cost nothing, and normalisers enter everything."""
    parts: list[list[TileSums]] = [[] for _ in logits.tiles]  # by tile and block
    known = ref is not None
    if ref is None:
        ref = torch.empty((logits.streams, len(logits.hidden)), **logits.new)

    def visit(k: int, v0: int, v1: int) -> None:
        for block in logits.blocks(k, v0, v1):
            if k == 0 and not known:
                ref[:, block.at] = _reference(block.z, logits.streams)
            parts[k].append(tile_sums(block.z, ref[:, block.at], block.e_p, block.e_q))
            if seen is not None:
                seen(block)

    tiles = list(logits.tiles)
    if not known:  # the other tiles need what the first finds
        logits.tiles.each(visit, tiles[:1])
    logits.tiles.each(visit, tiles if known else tiles[1:])
    names = [field.name for field in fields(TileSums) if getattr(parts[0][0], field.name) is not None]
    return ref, {
        name: torch.stack([torch.cat([getattr(part, name) for part in row], -1) for row in parts], -1).double()
        for name in names
    }


def _reference(z: Tensor, streams: int) -> Tensor:
    """`[S, c]` what is taken off the logits `[S c, v]` of a first tile, and of all tiles after it, before `exp`.

    0 where `exp` is safe without: most models' logits are, and one pass over them is spared.
    """
    top = z.amax(1)
    return torch.where((top > -16) & (top < 32), 0.0, top).view(streams, -1)

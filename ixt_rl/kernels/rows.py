"""The first walk over the vocabulary: exponentials of a chunk's logits, and all sums over the whole vocabulary.

Per row `e = exp(z - ref)` with one `ref` for all tiles, so that probabilities are `e` times one number a row.

Shapes: C tokens of a chunk, c tokens of a block of it, V vocabulary, v entries of a vocabulary tile, K tiles, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ixt_rl.kernels.chunks import spans
from ixt_rl.kernels.head import Head
from ixt_rl.kernels.tiles import TileSums, tile_sums


@dataclass(frozen=True)
class Rows:
    """Normalisers and whole-vocabulary statistics of a chunk's rows.

    Args:
        ref_p: `[C]` logits are `log e_p + ref_p`.
        lse_p, lse_q, entropy, kl: `[C]`.
        mass: `[C, K]` sum of `e_p` by tile, float64.
        scale_p, scale_q: `[C]` what turns exponentials into probabilities: `p = e_p scale_p`.
        shift_p, shift_q: `[C]` their logs.
        cross: `[C]` `sum_v q log p` (exact mode).
        gap_top: `[C, K]` largest `log q - log p` by tile (exact mode).
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


@dataclass(frozen=True)
class Logits:
    """Logits of a chunk under policy and posterior, a tile of the vocabulary and a block of tokens at a time.

    Args:
        head, posterior_head: of policy and posterior.
        hidden, posterior_hidden: `[C, D]`, in the dtype of the products.
        tile, block: v and c.
        scratch: `[>= 3c, v]`.
    """

    head: Head
    posterior_head: Head
    hidden: Tensor
    posterior_hidden: Tensor
    tile: int
    block: int
    scratch: Tensor

    def __iter__(self) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        """`(tile, tokens, z [2c, v], spare [c, v])`; z has the policy's rows first, and is overwritten by the next."""
        blocks = [slice(a, b) for a, b in spans(len(self.hidden), self.block)]
        shared = self.posterior_head is self.head
        stacked = [torch.cat([self.hidden[at], self.posterior_hidden[at]]) for at in blocks] if shared else []
        for k, (v0, v1) in enumerate(spans(self.head.vocab_size, self.tile)):
            for i, at in enumerate(blocks):
                c = at.stop - at.start
                z = self.scratch[: 2 * c, : v1 - v0]
                if shared:  # one product of twice the rows reads the head once
                    self.head.project(stacked[i], v0, v1, out=z)
                else:
                    self.head.project(self.hidden[at], v0, v1, out=z[:c])
                    self.posterior_head.project(self.posterior_hidden[at], v0, v1, out=z[c:])
                yield k, at, z, self.scratch[2 * c : 3 * c, : v1 - v0]

    def largest(self) -> Tensor:
        """`[2, C]` largest logit of each row; costs the products of a walk."""
        top = self.scratch.new_full((2, len(self.hidden)), -torch.inf)
        for _, at, z, _ in self:
            top[:, at] = torch.maximum(top[:, at], z.amax(1).view(2, -1))
        return top


def normalise(logits: Logits, e_p: Tensor, e_q: Tensor | None) -> Rows:
    """Walk the vocabulary once: write the exponentials, return what is known of the rows.

    Args:
        e_p: `[K, C, v]`, written.
        e_q: `[K, C, v]`, written; None: the posterior's exponentials, and what exact mode needs, are not kept.
    """
    ref, sums = _sums(logits, e_p, e_q, None)
    # No exponential overflows, nor does a sum over them, unless a logit is some 70 above those of the first tile.
    if (sums["mass"] > torch.finfo(e_p.dtype).max ** 0.8).any():
        ref, sums = _sums(logits, e_p, e_q, logits.largest())
    total = sums["mass"].sum(-1)  # [2, C]
    shift_p, shift_q = -total.log()
    scale_p, scale_q = total.reciprocal()
    lse_p, lse_q = ref.double() + total.log()
    rows = Rows(
        ref_p=ref[0],
        lse_p=lse_p,
        lse_q=lse_q,
        # H(p) = -E_p[log p];  KL(q || p) = E_q[log q - log p]
        entropy=-shift_p - sums["p_zp"].sum(-1) * scale_p,
        kl=sums["q_gap"].sum(-1) * scale_q + shift_q - shift_p,
        mass=sums["mass"][0],
        scale_p=scale_p,
        scale_q=scale_q,
        shift_p=shift_p,
        shift_q=shift_q,
        cross=None if e_q is None else sums["q_zp"].sum(-1) * scale_q + shift_p,
        gap_top=None if e_q is None else sums["gap_top"] + (shift_q - shift_p)[:, None],
    )
    narrow: dict[str, Any] = {
        name: x if x is None or name == "mass" else x.to(e_p.dtype) for name, x in vars(rows).items()
    }
    return Rows(**narrow)


def _sums(logits: Logits, e_p: Tensor, e_q: Tensor | None, ref: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
    """`ref` [2, C] (of the first tile, if None) and the columns of `TileSums`, `[C, K]` or `[2, C, K]`, float64: K
    numbers a row cost nothing, and normalisers enter everything."""
    first, ref = ref is None, e_p.new_empty((2, e_p.shape[1])) if ref is None else ref
    parts: list[list[TileSums]] = [[] for _ in range(len(e_p))]  # by tile and block
    for k, at, z, spare in logits:
        if first and k == 0:
            ref[:, at] = _reference(z)
        width = z.shape[1]
        p = e_p[k, at, :width]
        if e_q is None:
            parts[k].append(tile_sums(z, ref[:, at], p, None, spare))
        else:
            parts[k].append(tile_sums(z, ref[:, at], p, e_q[k, at, :width], spare))
    names = ("mass", "p_zp", "q_gap") if e_q is None else ("mass", "p_zp", "q_gap", "q_zp", "gap_top")
    return ref, {
        name: torch.stack([torch.cat([getattr(part, name) for part in row], -1) for row in parts], -1).double()
        for name in names
    }


def _reference(z: Tensor) -> Tensor:
    """`[2, c]` what is taken off the logits `[2c, v]` of a first tile, and of all tiles after it, before `exp`.

    0 where `exp` is safe without: most models' logits are, and one pass over them is spared.
    """
    top = z.amax(1)
    return torch.where((top > -16) & (top < 32), 0.0, top).view(2, -1)

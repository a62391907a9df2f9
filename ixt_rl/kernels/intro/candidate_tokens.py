"""Drawing candidate tokens from the policy, exactly, out of a chunk of logits.

A draw inverts the distribution function at a uniform number. That has the law of a Gumbel-max draw, and two
advantages here: one random number per candidate instead of one per candidate and vocabulary entry, and since
the numbers are drawn before the walk over chunks, the same seed gives the same candidates for every chunk
size.

Shapes: C tokens of a chunk, c tokens of a block of it, v entries of a vocabulary tile, w of a part of it, K tiles,
m draws.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ixt_rl.kernels.chunks import gathered_tokens, spans

PART = 128  # entries, at most, that are added up before those of one such part are looked at singly


def uniform_numbers(n_tokens: int, m: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """`[n_tokens, m]` uniform in [0, 1), float64 (float32's steps of 6e-8 would starve rare tokens)."""
    source = device if generator is None else generator.device
    return torch.rand((n_tokens, m), dtype=torch.float64, device=source, generator=generator).to(device)


def invert(u: Tensor, e: Tensor, mass: Tensor) -> Tensor:
    """Token ids at the quantiles `u` of the policy: the tile first, then a part of the tile, then the place in it.

    Args:
        u: `[C, m]` float64 in [0, 1).
        e: `[K, C, v]` probabilities up to a factor a row; 0 past the end of the vocabulary.
        mass: `[C, K]` float64, the sum of `e` by tile.

    Returns:
        `[C, m]` int64.
    """
    upto = mass.cumsum(1)  # [C, K]
    level = u * upto[:, -1:]
    k = torch.searchsorted(upto, level, right=True).clamp_(max=upto.shape[1] - 1)
    rest = level - _before(upto, k)
    width = math.gcd(e.shape[2], PART)
    parts = e.unflatten(2, (-1, width))  # [K, C, v / w, w]
    ids = torch.empty_like(k)
    for a, b in spans(len(u), gathered_tokens(e.device)):
        rows = torch.arange(a, b, device=e.device)
        for j in range(u.shape[1]):
            tile, left = parts[k[a:b, j], rows], rest[a:b, j : j + 1].contiguous()  # [c, v / w, w], [c, 1]
            ends = tile.sum(2, dtype=torch.float64).cumsum_(1)
            part = _first_above(ends, left)
            within = tile.gather(1, part[..., None].expand(-1, -1, width))[:, 0].double().cumsum_(1)  # [c, w]
            place = _first_above(within, left - _before(ends, part))
            ids[a:b, j : j + 1] = k[a:b, j : j + 1] * e.shape[2] + part * width + place
    return ids


def _first_above(upto: Tensor, level: Tensor) -> Tensor:
    """`[c, 1]` the first entry whose cumulative mass `upto` [c, w] exceeds `level` [c, 1]. Rounding may leave the level
    at the whole mass: the last entry that has any mass is then meant."""
    last = (upto < upto[:, -1:]).sum(1, keepdim=True)
    return torch.minimum(torch.searchsorted(upto, level, right=True), last)


def _before(upto: Tensor, place: Tensor) -> Tensor:
    """`[C, m]` cumulative mass before the entries `place` [C, m]."""
    return torch.where(place > 0, upto.gather(1, (place - 1).clamp_(min=0)), 0.0)

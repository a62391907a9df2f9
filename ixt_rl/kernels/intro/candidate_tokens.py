"""Drawing candidate tokens from the policy, exactly, out of a chunk of logits.

A draw inverts the distribution function at a uniform number. That has the law of a Gumbel-max draw, and two
advantages here: one random number per candidate instead of one per candidate and vocabulary entry, and since
the numbers are drawn before the walk over chunks, the same seed gives the same candidates for every chunk
size.

Shapes: C tokens of a chunk, c tokens of a block of it, v entries of a vocabulary tile, K tiles, m draws.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ixt_rl.kernels.chunks import spans

BLOCK = 128  # tokens searched at a time: they need a few [c, v] tensors


def uniform_numbers(n_tokens: int, m: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """`[n_tokens, m]` uniform in [0, 1), float64 (float32's steps of 6e-8 would starve rare tokens)."""
    source = device if generator is None else generator.device
    return torch.rand((n_tokens, m), dtype=torch.float64, device=source, generator=generator).to(device)


def invert(u: Tensor, e: Tensor, mass: Tensor) -> Tensor:
    """Token ids at the quantiles `u` of the policy: the tile first, then the place in the tile.

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
    rest = level - torch.where(k > 0, upto.gather(1, (k - 1).clamp_(min=0)), 0.0)
    ids = torch.empty_like(k)
    for a, b in spans(len(u), BLOCK):
        rows = torch.arange(a, b, device=e.device)
        for j in range(u.shape[1]):
            within = e[k[a:b, j], rows].double().cumsum_(1)  # [c, v]
            # Rounding may leave `rest` at the tile's whole mass: the last entry that has any mass is then meant.
            last = (within < within[:, -1:]).sum(1, keepdim=True)
            place = torch.minimum(torch.searchsorted(within, rest[a:b, j : j + 1].contiguous(), right=True), last)
            ids[a:b, j : j + 1] = k[a:b, j : j + 1] * e.shape[2] + place
    return ids

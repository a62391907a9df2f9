"""Drawing candidate tokens from the policy, exactly, out of a chunk of logits.

A draw inverts the distribution function at a uniform number. That has the law of a Gumbel-max draw, and two
advantages here: one random number per candidate instead of one per candidate and vocabulary entry, and since
the numbers are drawn before the walk over chunks, the same seed gives the same candidates for every chunk
size.

Shapes: C tokens of a chunk, V vocabulary, K vocabulary tiles, m draws.
"""

from __future__ import annotations

import torch
from torch import Tensor


def uniform_numbers(n_tokens: int, m: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """`[n_tokens, m]` uniform in [0, 1), float64 (float32's steps of 6e-8 would starve rare tokens)."""
    source = device if generator is None else generator.device
    return torch.rand((n_tokens, m), dtype=torch.float64, device=source, generator=generator).to(device)


def invert(u: Tensor, z: Tensor, lse: Tensor, log_mass: Tensor, tile: int) -> Tensor:
    """Token ids at the quantiles `u` of `softmax(z)`: the tile first, then the place in the tile.

    Args:
        u: `[C, m]` float64 in [0, 1).
        z: `[C, V]` logits.
        lse: `[C]` log-sum-exp of the rows of `z`.
        log_mass: `[C, K]` log-sum-exp of each tile.
        tile: vocabulary entries per tile.

    Returns:
        `[C, m]` int64.
    """
    upto = (log_mass.double() - lse.double()[:, None]).exp().cumsum(1)  # [C, K]
    level = u * upto[:, -1:]
    k = torch.searchsorted(upto, level, right=True).clamp_(max=upto.shape[1] - 1)
    before = torch.where(k > 0, upto.gather(1, (k - 1).clamp_(min=0)), 0.0)
    ids = torch.empty_like(k)
    offsets = torch.arange(min(tile, z.shape[1]), device=z.device)
    for j in range(u.shape[1]):
        columns = k[:, j : j + 1] * tile + offsets  # [C, tile]
        outside = columns >= z.shape[1]
        inside = z.gather(1, columns.clamp_(max=z.shape[1] - 1))
        p = inside.double().sub_(lse.double()[:, None]).exp_().masked_fill_(outside, 0.0)
        within = p.cumsum_(1)
        rest = level[:, j : j + 1] - before[:, j : j + 1]
        # Rounding may leave `rest` at the tile's whole mass: the last entry that has any mass is then meant.
        last = (within < within[:, -1:]).sum(1)
        place = torch.minimum(torch.searchsorted(within, rest, right=True)[:, 0], last)
        ids[:, j] = k[:, j] * tile + place
    return ids

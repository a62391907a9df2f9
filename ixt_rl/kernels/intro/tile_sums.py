"""What one walk over a vocabulary tile adds up.

Shapes: S 1 or 2, the policy and (if there is one) the posterior; C tokens of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TileSums:
    """Sums over one tile, with `y = z - ref` and `e = exp(y)` per row.

    Args:
        mass: `[S, C]` sum of `e`, under policy and posterior.
        p_zp: `[C]` sum of `e_p y_p`.
        q_gap: `[C]` sum of `e_q (y_q - y_p)`; None without a posterior.
        p_top: `[C]` largest `e_p`; None with a posterior.
        q_zp: `[C]` sum of `e_q y_p`; None unless asked for.
        gap_top: `[C]` largest `y_q - y_p`; None unless asked for.
    """

    mass: Tensor
    p_zp: Tensor
    q_gap: Tensor | None
    q_zp: Tensor | None
    gap_top: Tensor | None
    p_top: Tensor | None

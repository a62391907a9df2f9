"""What one walk over a vocabulary tile adds up."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TileSums:
    """Sums over one tile, with `y = z - ref` and `e = exp(y)` per row.

    Args:
        mass: `[2, C]` sum of `e`, under policy and posterior.
        p_zp: `[C]` sum of `e_p y_p`.
        q_gap: `[C]` sum of `e_q (y_q - y_p)`.
        q_zp: `[C]` sum of `e_q y_p`; None unless asked for.
        gap_top: `[C]` largest `y_q - y_p`; None unless asked for.
    """

    mass: Tensor
    p_zp: Tensor
    q_gap: Tensor
    q_zp: Tensor | None
    gap_top: Tensor | None

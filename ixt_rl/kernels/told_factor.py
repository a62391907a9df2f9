"""The factor by which a told model sizes a token's credit (RLSD, arXiv 2604.03128).

    f = 1 + mix (clip((q / p)^sign, 1 - epsilon, 1 + epsilon) - 1)

Shapes: N tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor


def told_factor(logp: Tensor, logq: Tensor, sign: Tensor, epsilon: float, mix: float) -> tuple[Tensor, Tensor]:
    """Factors `[N]` of tokens, above 0, and which of them are clipped `[N]` bool.

    Args:
        logp: `[N]` log-probs that are compared with.
        logq: `[N]` log-probs of the model that is told.
        sign: `[N]` of the advantage: -1, 0 or 1.
        epsilon: between 0 and 1: how far the factor may be from 1.
        mix: 0 to 1; 0 is no factor.
    """
    ratio = (sign * (logq - logp)).exp()
    clipped = (ratio < 1 - epsilon) | (ratio > 1 + epsilon)
    return 1 + mix * (torch.clamp(ratio, 1 - epsilon, 1 + epsilon) - 1), clipped

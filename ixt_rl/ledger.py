"""Counts tokens and FLOPs by phase, so that every comparison can have compute on its x-axis.

    rollout, posterior, score    2 N per token    a forward pass
    train                        6 N per token    forward and backward

with N the parameters of the model and a token every position that a pass computes, prompts included.
Attention's quadratic term and reused KV caches are left out, as is usual for this estimate.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

Phase = Literal["rollout", "posterior", "score", "train"]
FLOPS_PER_PARAMETER: dict[Phase, int] = {"rollout": 2, "posterior": 2, "score": 2, "train": 6}


class Ledger:
    """Tokens by phase on this process, and the FLOPs they cost.

    Args:
        parameters: N, parameters of the model.
    """

    def __init__(self, parameters: int):
        self.parameters = parameters
        self.tokens: Counter[Phase] = Counter()

    def add(self, phase: Phase, tokens: int) -> None:
        """Counts `tokens` computed positions in `phase`."""
        self.tokens[phase] += tokens

    def flops(self, phase: Phase) -> float:
        """FLOPs of a phase on this process so far."""
        return float(FLOPS_PER_PARAMETER[phase] * self.parameters * self.tokens[phase])

    def total(self) -> float:
        """FLOPs of all phases on this process so far."""
        return sum(self.flops(phase) for phase in FLOPS_PER_PARAMETER)

    def restore(self, flops: dict[Phase, float]) -> None:
        """Goes on from the FLOPs that a stopped run had logged."""
        for phase, spent in flops.items():
            self.tokens[phase] = round(spent / (FLOPS_PER_PARAMETER[phase] * self.parameters))

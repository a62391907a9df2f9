"""Counts tokens and FLOPs by phase, so that every comparison can have compute on its x-axis.

    rollout, posterior, score    2 N per token        a forward pass
    train                        6 N per token        forward and backward
    annotate                     2 N_judge per token  what a judge reads and writes

with N the parameters of the model and a token every position that a pass computes, prompts included.
Attention's quadratic term and reused KV caches are left out, as is usual for this estimate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

Phase = Literal["rollout", "posterior", "score", "train", "annotate"]
FLOPS_PER_PARAMETER: dict[Phase, int] = {"rollout": 2, "posterior": 2, "score": 2, "train": 6, "annotate": 2}


class Ledger:
    """Tokens by phase on this process, and the FLOPs they cost.

    Args:
        parameters: N, parameters of the model.
        judge_parameters: N_judge; the model's own N if not given.
        before: FLOPs and tokens of the stages that led here, as `totals` gives them.
    """

    def __init__(
        self, parameters: int, judge_parameters: int | None = None, before: dict[str, dict[str, float]] | None = None
    ):
        self.parameters = parameters
        self.judge_parameters = parameters if judge_parameters is None else judge_parameters
        self.before: dict[str, Any] = before or {"flops": {}, "tokens": {}}
        self.tokens: Counter[Phase] = Counter()
        self._counting = True

    def add(self, phase: Phase, tokens: int) -> None:
        """Counts `tokens` computed positions in `phase`."""
        if self._counting:
            self.tokens[phase] += tokens

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing counts inside: evaluation and checks are no part of what a method costs."""
        counting, self._counting = self._counting, False
        try:
            yield
        finally:
            self._counting = counting

    def flops(self, phase: Phase) -> float:
        """FLOPs of a phase on this process so far, those before included."""
        parameters = self.judge_parameters if phase == "annotate" else self.parameters
        return float(FLOPS_PER_PARAMETER[phase] * parameters * self.tokens[phase]) + self.before["flops"].get(phase, 0)

    def total(self) -> float:
        """FLOPs of all phases on this process so far."""
        return sum(self.flops(phase) for phase in FLOPS_PER_PARAMETER)

    def totals(self) -> dict[str, dict[str, float]]:
        """FLOPs and tokens of every phase in which there were any: what the next stage starts from."""
        phases = [phase for phase in FLOPS_PER_PARAMETER if self.flops(phase)]
        tokens = {str(phase): self.tokens[phase] + self.before["tokens"].get(phase, 0) for phase in phases}
        return {"flops": {str(phase): self.flops(phase) for phase in phases}, "tokens": tokens}

    def restore(self, flops: dict[Phase, float]) -> None:
        """Goes on from the FLOPs that a stopped run had logged."""
        for phase, spent in flops.items():
            self.tokens[phase] = round(spent / (FLOPS_PER_PARAMETER[phase] * self.parameters))

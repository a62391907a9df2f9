"""What every rollout engine does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from ixt_rl.types import Rollout, SamplingParams


@runtime_checkable
class RolloutEngine(Protocol):
    """Samples completions. Ids in, ids out: text never passes through an engine."""

    policy_version: int

    def generate(self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, n: int = 1) -> list[list[Rollout]]:
        """`n` completions for each prompt, in the prompts' order."""
        ...

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Moves the engine to new weights; rollouts from now on carry `version`."""
        ...

    def close(self) -> None:
        """Releases what the engine holds; it cannot be used afterwards."""
        ...

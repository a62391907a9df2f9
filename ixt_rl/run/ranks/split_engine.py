"""An engine in each rank's process as one: a call's prompts are split over the ranks, and its answers come together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor

from ixt_rl.rollout.draws import row_seeds
from ixt_rl.rollout.engine import RolloutEngine, check_seeds, sample_seeds
from ixt_rl.run.ranks.orders import Sample
from ixt_rl.types import Rollout, SamplingParams

_Call = tuple[list[tuple[int, ...]], int, SamplingParams, list[int] | None]


class SplitEngine:
    """What rank 0 calls; the others answer their parts.

    Answers are those of one process, up to the rounding of batches of another size, where rows draw from generators of
    their own (`decodes_in_slots`); elsewhere other draws from the same policy.

    Args:
        whole: the engine of this rank.
        ranks: all of them.
    """

    def __init__(self, whole: RolloutEngine, ranks: Any):
        self.whole, self._ranks = whole, ranks

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingParams,
        n: int = 1,
        seeds: Sequence[int] | None = None,
    ) -> list[list[Rollout]]:
        """See `RolloutEngine.generate`.

        Raises:
            Exception: what a rank's engine raised.
        """
        check_seeds(seeds, len(prompts))
        rows = len(prompts) * n
        own = sample_seeds(seeds, n)
        if own is None and sampling.temperature > 0:
            own = row_seeds(rows, sampling.seed)
        self._ranks.tell(Sample())
        done = self.answer(([tuple(prompt) for prompt in prompts], n, sampling, own))
        return [[done[p * n + k] for k in range(n)] for p in range(len(prompts))]

    def answer(self, call: _Call | None) -> dict[int, Rollout]:
        """All rows' rollouts by their number; `call` is rank 0's, which has it broadcast."""
        held = [call]
        dist.broadcast_object_list(held, src=0)
        assert held[0] is not None
        prompts, n, sampling, seeds = held[0]
        places = [p * n + k for p in range(self._ranks.rank, len(prompts), self._ranks.size) for k in range(n)]
        found: dict[int, Rollout] | Exception = {}
        try:
            if places:
                own = None if seeds is None else [seeds[place] for place in places]
                groups = self.whole.generate([prompts[place // n] for place in places], sampling, 1, own)
                found = {place: group[0] for place, group in zip(places, groups, strict=True)}
        except Exception as error:  # raised by rank 0, which reports it
            found = error
        parts: list[Any] = self._ranks.gathered(found)
        failed = next((part for part in parts if isinstance(part, Exception)), None)
        if failed is not None and self._ranks.leads:
            raise failed
        return {} if failed is not None else {place: rollout for part in parts for place, rollout in part.items()}

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Of this rank's engine."""
        self.whole.update_weights(named_tensors, version)

    def close(self) -> None:
        """Of this rank's engine."""
        self.whole.close()

"""Means of what an update measured, over all micro-batches and ranks since the last log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor


class Means:
    """Sums and counts by name. Every rank has the same names from the start, so that all reduce the same list.

    Args:
        names: of the metrics.
    """

    def __init__(self, names: Iterable[str]):
        self._sums = {name: torch.zeros(2, dtype=torch.float64) for name in sorted(names)}

    def add(self, name: str, values: Tensor | Sequence[float]) -> None:
        """Values of any shape; those that are NaN do not count.

        Raises:
            KeyError: the name is not one of those given at the start.
        """
        values = torch.as_tensor(values, dtype=torch.float64).detach().flatten().cpu()
        valid = values[~values.isnan()]
        self._sums[name] += torch.stack([valid.sum(), torch.tensor(float(valid.numel()))])

    def state_dict(self) -> dict[str, Tensor]:
        """Sums and counts since the last `take`, by name."""
        return {name: sums.clone() for name, sums in self._sums.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state_dict` gave; a name it does not have starts at nothing."""
        for name, sums in self._sums.items():
            sums.copy_(state.get(name, torch.zeros_like(sums)))

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """The means of all ranks' values, NaN where there is none, and starts anew. All ranks call it."""
        local = torch.stack(list(self._sums.values())).to(accelerator.device, torch.float32)
        reduced: Tensor = accelerator.reduce(local, "sum")  # type: ignore[assignment]  # typed for any structure
        for sums in self._sums.values():
            sums.zero_()
        pairs = zip(self._sums, reduced.tolist(), strict=True)
        return {name: total / count if count else float("nan") for name, (total, count) in pairs}

"""Means that a trainer logs: over all values of all micro-batches and ranks since the last log, each counted once.

TRL logs the mean over micro-batches of each one's mean, where one with a tenth of the tokens weighs as much as the
others: `weigh` takes such a mean back and weighs it by what it is a mean of.

Overridden or read of TRL's: `log`, `_metrics`. tests/contract checks them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import Trainer

if TYPE_CHECKING:
    Base = Trainer
else:
    Base = object


class TrackedMeans(Base):
    """Mixin before a trainer of TRL's: `track` and its kin add, `log` takes."""

    model: Any
    _metrics: Any  # TRL's, by mode and name

    @cached_property
    def _sums(self) -> dict[str, Tensor]:
        return _no_sums()

    @cached_property
    def _eval_sums(self) -> dict[str, Tensor]:
        return _no_sums()

    def track(self, name: str, values: Tensor) -> None:
        """Averages `values` (any shape) into metric `name`, in evaluation `eval_<name>`; the mean is over all elements
        of all micro-batches and ranks since the last log. NaN elements do not count."""
        values = values.detach().double().flatten()
        valid = values[~values.isnan()]
        self.track_share(name, valid.sum(), torch.tensor(float(valid.numel()), device=valid.device))

    def track_share(self, name: str, part: Tensor, whole: Tensor) -> None:
        """Logs `part` (0-d) over `whole` (0-d), each summed over all micro-batches and ranks since the last log; NaN
        where the whole is 0."""
        sums = self._sums if self.model.training else self._eval_sums
        sums[name] += torch.stack([part.detach().double(), whole.detach().double()]).cpu()

    def weigh(self, name: str, count: Tensor) -> None:
        """Weighs what TRL has just logged as `name`, a mean over `count` (0-d) values of this rank and those of the
        others, by its values; nothing where TRL has not logged it."""
        logged = self._metrics["train" if self.model.training else "eval"]
        if logged.get(name):
            count = count.double()
            self.track_share(name, logged[name].pop() * count, count)
            if not logged[name]:  # TRL divides by how many there are
                del logged[name]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        training = self.model.training
        sums = self._sums if training else self._eval_sums
        names = self._names_of_all(sums)
        if names:
            local = torch.stack([sums[name] for name in names]).to(self.accelerator.device, torch.float32)
            reduced = self.accelerator.reduce(local, "sum").tolist()
            if any(count for _, count in reduced):  # else nothing happened since the last log, as at the end
                table = self._metrics["train" if training else "eval"]
                for name, (total, count) in zip(names, reduced, strict=True):
                    table[name].append(total / count if count else float("nan"))
            for name in names:
                sums[name].zero_()
        super().log(logs, start_time)

    def _names_of_all(self, sums: Mapping[str, Tensor]) -> list[str]:
        """Names that some rank has values of, the same list on every rank: what is tracked token by token has none on a
        rank that trains nothing."""
        return sorted(set(gather_object(list(sums)) if self.accelerator.num_processes > 1 else sums))


def _no_sums() -> dict[str, Tensor]:
    return defaultdict(lambda: torch.zeros(2, dtype=torch.float64))

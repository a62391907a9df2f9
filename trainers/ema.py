"""A moving average of a model's weights, to evaluate and save in their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ixt_rl.errors import DataError

FILE = "weight_average.safetensors"


class WeightAverage:
    """average <- decay average + (1 - decay) weights, in float32; starts at the weights it first sees.

    With a constant learning rate it stands in for the decay at the end of training, so that every point of a curve is
    an end point. Under FSDP or ZeRO-3 each rank averages the pieces it holds.

    Args:
        decay: per update.
    """

    def __init__(self, decay: float):
        self.decay = decay
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, model: torch.nn.Module) -> None:
        """One update has changed the model."""
        for name, weight in _trained(model):
            if name not in self.weights:
                self.weights[name] = weight.detach().float().clone()
            else:
                self.weights[name].lerp_(weight.float(), 1 - self.decay)

    @contextmanager
    def applied(self, model: torch.nn.Module) -> Iterator[None]:
        """The model has the averaged weights inside, its own again afterwards."""
        own = {name: weight.detach().clone() for name, weight in _trained(model) if name in self.weights}
        try:
            self._put(model, self.weights)
            yield
        finally:
            self._put(model, own)

    @staticmethod
    def unused() -> AbstractContextManager[None]:
        return nullcontext()

    def save(self, folder: Path, trainer: Any) -> None:
        """Writes the average into a checkpoint's folder, one file a rank where weights are sharded."""
        from safetensors.torch import save_file

        save_file(self.weights, folder / _file(trainer.args.process_index))

    def load(self, folder: Path, model: torch.nn.Module) -> None:
        """Reads what `save` wrote.

        Raises:
            DataError: the checkpoint has no average.
        """
        from safetensors.torch import load_file

        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        file = folder / _file(rank)
        if not file.is_file():
            raise DataError(
                f"{folder}: no {file.name}",
                reason="the checkpoint was saved without a moving average",
                remedy="resume without ema_decay, or train anew",
            )
        device = next(model.parameters()).device
        self.weights = {name: weight.to(device) for name, weight in load_file(file).items()}

    @torch.no_grad()
    def _put(self, model: torch.nn.Module, weights: dict[str, Tensor]) -> None:
        for name, weight in _trained(model):
            if name in weights:
                weight.copy_(weights[name])


def _trained(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]


def _file(rank: int) -> str:
    return FILE if rank == 0 else f"{rank}-{FILE}"

"""A moving average of a model's weights, to evaluate, to save or to condition on in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ixt_rl.trainers.pieces import piece, resharded, written
from ixt_rl.trainers.weight_files import load_weights, of_rank, save_weights

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

    def start(self, weights: Mapping[str, Tensor]) -> None:
        """Starts at `weights`; those in float32 are averaged in place, which spares a copy."""
        self.weights = {name: piece(weight).float() for name, weight in weights.items()}

    @torch.no_grad()
    def update(self, model: torch.nn.Module) -> None:
        """One update has changed the model."""
        for name, weight in trained(model).items():
            if name not in self.weights:
                self.weights[name] = piece(weight).float().clone()
            else:
                self.weights[name].lerp_(piece(weight).float(), 1 - self.decay)

    @contextmanager
    def applied(self, model: torch.nn.Module) -> Iterator[None]:
        """The model has the averaged weights inside, its own again afterwards."""
        own = {name: piece(weight).clone() for name, weight in trained(model).items() if name in self.weights}
        try:
            self.put(model)
            yield
        finally:
            _put(model, own)

    @staticmethod
    def unused() -> AbstractContextManager[None]:
        return nullcontext()

    def put(self, model: torch.nn.Module) -> None:
        """Gives a model the averaged weights, rounded to its dtype."""
        _put(model, self.weights)

    def save(self, folder: Path, trainer: Any) -> None:
        """Writes the average into a checkpoint's folder, one file a rank where weights are sharded."""
        save_weights(self.weights, of_rank(folder / FILE, trainer.args.process_index))

    def load(self, folder: Path, model: torch.nn.Module) -> None:
        """Reads what `save` wrote; a rank that was not there then has a whole model, whose average is the first one's.

        Raises:
            DataError: the checkpoint has no average.
        """
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        if not self.weights:
            self.update(model)
        own = of_rank(folder / FILE, rank)
        load_weights(self.weights, own if own.is_file() else folder / FILE)


def trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The weights that training changes, by name; of those that are sharded, this rank's pieces are in place."""
    resharded(model)
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


@torch.no_grad()
def _put(model: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    resharded(model)
    for name, weight in model.named_parameters():
        if name in weights:
            piece(weight).copy_(weights[name])
            written(weight)

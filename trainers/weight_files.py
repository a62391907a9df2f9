"""Weights that move beside the policy, in a checkpoint: averages and references."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ixt_rl.errors import DataError
from ixt_rl.trainers.pieces import piece, written


def of_rank(file: Path, rank: int) -> Path:
    """Where a rank writes the pieces that it holds: the first one `file`, the others beside it."""
    return file if rank == 0 else file.with_name(f"{rank}-{file.name}")


def save_weights(weights: Mapping[str, Tensor], file: Path) -> None:
    """Writes named tensors; of a sharded one, the piece that this rank holds."""
    from safetensors.torch import save_file

    save_file({name: piece(weight).contiguous() for name, weight in weights.items()}, file)


@torch.no_grad()
def load_weights(weights: Mapping[str, Tensor], file: Path) -> None:
    """Fills `weights`, in place, with what `save_weights` wrote.

    Raises:
        DataError: the checkpoint has no such file, or other weights in it.
    """
    from safetensors.torch import load_file

    saved = load_file(file) if file.is_file() else {}
    shapes = {name: piece(weight).shape for name, weight in weights.items()}
    if {name: weight.shape for name, weight in saved.items()} != shapes:
        raise DataError(
            f"{file.parent}: {f'other weights in {file.name}' if saved else f'no {file.name}'}",
            reason=f"the checkpoint was saved without the {file.stem.replace('_', ' ')} that is asked for",
            remedy="resume with the options of the run that wrote it, or train anew",
        )
    for name, weight in weights.items():
        piece(weight).copy_(saved[name])
        written(weight)

"""A rank's own pieces of weights that FSDP 2 or ZeRO-3 has spread over the ranks; of other weights, all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def resharded(model: torch.nn.Module) -> None:
    """FSDP 2: every unit has its piece again; after a pass without gradient the outermost one keeps whole weights."""
    for module in model.modules():
        held: Any = module
        if hasattr(held, "set_reshard_after_forward"):
            held.reshard()


def piece(weight: Tensor) -> Tensor:
    """What this rank holds of a weight, detached; writing into it changes the weight (see `written`)."""
    weight = weight.detach() if not hasattr(weight, "ds_tensor") else weight.ds_tensor
    return weight.to_local() if hasattr(weight, "to_local") else weight  # type: ignore[operator]  # a DTensor


def written(weight: Any) -> None:
    """The piece of a weight was changed: a whole copy that ZeRO-3 keeps of a small one is gathered anew when needed."""
    if hasattr(weight, "ds_tensor"):
        weight.partition()

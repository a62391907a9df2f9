"""A model that FSDP 2 or ZeRO-3 has spread over the ranks, whole on each of them while it samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor

from ixt_rl.kernels.head import zero3_gathered


@contextmanager
def whole_on_every_rank(
    model: nn.Module, remove_hooks: Callable[[Any], None], add_hooks: Callable[[Any], None]
) -> Iterator[None]:
    """Every rank has all weights inside, and runs passes of its own number; of a model that is whole nothing changes.

    FSDP 2 and ZeRO-3 gather in each pass, and ranks whose rollouts end at different lengths would wait for each other
    for ever. All ranks enter and leave.

    Args:
        model: as it is wrapped.
        remove_hooks, add_hooks: take off, and put on again, what ZeRO-3 gathers by in each pass.
    """
    units: list[Any] = [module for module in model.modules() if hasattr(module, "set_reshard_after_forward")]
    if units:
        with _fsdp2_whole(units):
            yield
    elif any(hasattr(weight, "ds_id") for weight in model.parameters()):
        with zero3_gathered(*model.parameters()):
            remove_hooks(model)  # they would give the weights back after the first pass
            try:
                with _zero3_uncounted(model):  # inside: the counter comes before the other hooks of the model
                    yield
            finally:
                add_hooks(model)
    else:
        yield


def gathers_in_passes(model: nn.Module) -> bool:
    """Whether a pass through the model gathers weights, with all other ranks."""
    parted = (getattr(weight, "ds_status", None) for weight in model.parameters())
    return (
        any(isinstance(module, FullyShardedDataParallel) for module in model.modules())
        or any(isinstance(weight, DTensor) for weight in model.parameters())
        or any(status is not None and status.name != "AVAILABLE" for status in parted)
    )


@contextmanager
def _fsdp2_whole(units: list[Any]) -> Iterator[None]:
    after = [[group.post_forward_mesh_info for group in _groups(unit)] for unit in units]
    units[0]._get_fsdp_state()._lazy_init()  # before the first pass there are no streams to gather on
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit, infos in zip(units, after, strict=True):
            for group, info in zip(_groups(unit), infos, strict=True):
                group.post_forward_mesh_info = info
            unit.reshard()


@contextmanager
def _zero3_uncounted(model: Any) -> Iterator[None]:
    """Passes are not counted: DeepSpeed compares ranks at the first ones, and some may have none."""
    optimizer = getattr(model, "optimizer", None)
    counter = getattr(getattr(optimizer, "parameter_offload", optimizer), "fwd_pre_hook", None)
    hooks = {} if counter is None else counter.hooks_dict_ref()
    kept = {} if counter is None or counter.id not in hooks else {counter.id: hooks.pop(counter.id)}
    try:
        yield
    finally:
        hooks.update(kept)


def _groups(unit: Any) -> list[Any]:
    return list(unit._get_fsdp_state()._fsdp_param_groups)

"""Ranks on CPUs, over gloo, under DeepSpeed and FSDP 2, which accelerate starts on accelerators only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType


@contextmanager
def strategies_on_cpus(args: Any) -> Iterator[None]:
    """While an `Accelerator` is made of `args`, ranks on CPUs get the strategy that is asked for, as on accelerators.

    accelerate 1.15 drops an FSDP plugin of ranks on CPUs without a word, and DDP runs; DeepSpeed's own communication is
    not started, so that it takes each rank for the only one.

    Args:
        args: transformers' TrainingArguments.
    """
    state = PartialState._shared_state
    if state.get("distributed_type") != DistributedType.MULTI_CPU:
        yield
        return
    if args.deepspeed_plugin is not None:
        _start_deepspeed()
    if args.fsdp_plugin_args is not None:
        state["distributed_type"] = DistributedType.MULTI_GPU  # becomes FSDP; the device stays the CPU
    yield


def _start_deepspeed() -> None:
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    __compatible_ops__["deepspeed_shm_comm"] = False  # C++ that it would build first, for what gloo does as well
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)

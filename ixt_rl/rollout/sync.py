"""A policy's weights to the engine that samples it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import torch.distributed as dist
from torch import nn

from ixt_rl.errors import WeightsLost

if TYPE_CHECKING:
    from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.rollout.weights.policy import policy_tensors

T = TypeVar("T")


def send_policy(engine: RolloutEngine | None, model: nn.Module, version: int) -> None:
    """Brings an engine to `policy_tensors(model)`; once more whenever the weights are lost on the way. Collective.

    Args:
        engine: on rank 0; None elsewhere.
        model: the policy.
        version: what rollouts carry from now on.

    Raises:
        ConfigError: see `policy_tensors`.
        WeightMismatch: see `RolloutEngine.update_weights`.
        BackendFailed: likewise.
    """
    again = True
    while again:
        again = False
        tensors = policy_tensors(model)
        if engine is None:
            for _ in tensors:  # gathering is collective
                pass
        else:
            try:
                engine.update_weights(tensors, version)
            except WeightsLost:  # it costs the engine's fault budget, so this ends
                again = True
        if dist.is_available() and dist.is_initialized():
            for _ in tensors:  # what the engine left: the other ranks wait for it
                pass
            everyone = [again]
            dist.broadcast_object_list(everyone, src=0)
            again = everyone[0]


def until_weights_last(work: Callable[[], T]) -> T:
    """`work()`, which brings an engine to the policy and uses it; anew whenever the engine loses the weights meanwhile,
    which costs its fault budget, so this ends. In one process."""
    while True:
        with suppress(WeightsLost):
            return work()

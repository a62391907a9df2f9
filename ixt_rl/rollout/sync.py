"""A policy's weights to the engine that samples it, and what rank 0 does with that engine for all ranks.

An engine outside the trainer's model is one for all ranks: rank 0 has it, starts it and calls it.

    all ranks: gather the policy, tensor by tensor -> rank 0: engine.update_weights
    all ranks: their prompts -> rank 0: engine.generate -> all ranks: their rollouts

An error that rank 0 meets there reaches the others, which do not wait for what does not come.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch.distributed as dist
from torch import nn

from ixt_rl.errors import EndsWithLeader, IxtRlError, WeightsLost
from ixt_rl.rollout.weights.policy import policy_tensors

if TYPE_CHECKING:
    from ixt_rl.rollout.engine import RolloutEngine

T = TypeVar("T")


class SharingRanks(Protocol):
    """What ranks of a run do together (`ixt_rl.run.ranks.team.Ranks`); all of them call each of these."""

    def decided(self, make: Callable[[], T]) -> T:
        """What `make` returns on rank 0, which alone calls it."""
        ...

    def shared(self, engine: RolloutEngine, measure: Callable[[RolloutEngine], T]) -> T:
        """`measure(engine)` on rank 0, of an engine that each rank has: each call is split over all."""
        ...


def from_rank_0(make: Callable[[], T]) -> T:
    """What `make` returns on rank 0, which alone calls it, on every rank. Collective; in one process a plain call.

    Raises:
        Exception: on rank 0, what `make` raised.
        EndsWithLeader: on the other ranks then.
    """
    if _ranks() == 1:
        return make()
    rank = dist.get_rank()
    made: list[Any] = [None, ""]
    if rank == 0:
        try:
            made[0] = make()
        except Exception as error:
            said = error.what if isinstance(error, IxtRlError) else str(error)
            with suppress(RuntimeError):  # a rank that has ended waits no more
                dist.broadcast_object_list([None, f"{type(error).__name__}: {said}"], src=0)
            raise
    dist.broadcast_object_list(made, src=0)
    if made[1]:
        raise EndsWithLeader(f"rank {rank} ends with rank 0", reason=made[1], remedy="rank 0 says what to do")
    return made[0]


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
        EndsWithLeader: on the other ranks, where rank 0 raises one of these.
    """
    while not _sent(engine, model, version):
        pass  # it costs the engine's fault budget, so this ends


def _sent(engine: RolloutEngine | None, model: nn.Module, version: int) -> bool:
    failed: Exception | None = None
    with closing(policy_tensors(model)) as tensors:
        if engine is not None:
            try:
                engine.update_weights(tensors, version)
            except Exception as error:  # raised below, when nobody gathers any more
                failed = error
        if _ranks() > 1:
            for _ in tensors:  # what the engine left, and what the other ranks take part in
                pass

    def arrived() -> bool:
        if failed is not None and not isinstance(failed, WeightsLost):
            raise failed
        return failed is None

    return from_rank_0(arrived)


def send_whole(engine: RolloutEngine, model: nn.Module, version: int) -> None:
    """As `send_policy`, of a model that this process has whole, and without the other ranks."""
    while True:
        with suppress(WeightsLost):
            return engine.update_weights(policy_tensors(model), version)


def with_policy(
    send: Callable[[bool], None],
    measure: Callable[[], T],
    decided: Callable[[Callable[[], tuple[bool, T | None]]], tuple[bool, T | None]] = from_rank_0,
) -> T:
    """`measure()` on rank 0, by an engine that has the policy; anew whenever it loses the weights meanwhile, which
    costs its fault budget, so this ends. Collective.

    Args:
        send: brings the engine to the policy; is told whether it lost the weights. Collective.
        measure: called on rank 0 alone.
        decided: gives all ranks what a function returns on rank 0.
    """

    def kept() -> tuple[bool, T | None]:
        try:
            return True, measure()
        except WeightsLost:
            return False, None

    lost = False
    while True:
        send(lost)
        whole, found = decided(kept)
        if whole:
            return found  # type: ignore[return-value]  # what `measure` returned
        lost = True


def _ranks() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1

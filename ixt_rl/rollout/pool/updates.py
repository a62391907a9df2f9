"""How a pool's engines get new weights: through Ray's object store, or by broadcast.

| | `ObjectStore` | `Broadcast` |
|---|---|---|
| the way | trainer's device -> shared memory of each node -> engine's | device -> device |
| checked | before any engine loads | after all have loaded, before any serves |
| an update that fails | the old version goes on serving | none serves until an update succeeds |
| a replaced engine | gets the current weights from the store | serves again from the next update on |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from torch import Tensor

from ixt_rl.errors import BackendFailed, WeightMismatch, WeightsLost
from ixt_rl.rollout.pool.dispatcher import TICK, Dispatcher
from ixt_rl.rollout.pool.failures import reason_of
from ixt_rl.rollout.pool.tickets import Slot
from ixt_rl.rollout.pool.worker import StoredWeights, node_id, tensor_bytes
from ixt_rl.rollout.weights.broadcast import Sender, TransferBroken
from ixt_rl.rollout.weights.manifest import Manifest, TensorEntry, describe

GRACE = 2.0
"""Seconds engines have to say that they failed too, once one has."""


class ObjectStore:
    """Weights through Ray's object store: one copy a node, kept until the next update for engines that are replaced."""

    def __init__(self, dispatcher: Dispatcher):
        self._dispatcher = dispatcher

    def update(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """See `RayPool.update_weights`."""
        weights = _store(named_tensors, version)
        self._dispatcher.when_idle(lambda: self._move(weights)).result()

    def close(self) -> None:
        """Nothing to end: the store is Ray's."""

    def _move(self, weights: StoredWeights) -> None:
        """Every engine checks the weights, then every engine loads them."""
        dispatcher = self._dispatcher
        todo = list(dispatcher.slots)
        while todo:
            answers = dispatcher.ask("stage", todo, weights)
            dispatcher.await_started()
            _raise_mismatch(answers)
            todo = [slot for slot in todo if slot.index not in answers]
        dispatcher.weights = weights  # from here on replacements start with them
        dispatcher.ask("commit", dispatcher.slots)
        dispatcher.await_started()


class Broadcast:
    """Weights by `weights.broadcast`, from the thread that calls `update`; the dispatcher's listens meanwhile.

    The group is made when the first weights are sent, and again after an engine was replaced. One that fails on the
    way takes all others down with it: they hold half of the weights, and may wait for it for long.
    """

    def __init__(self, dispatcher: Dispatcher):
        self._dispatcher = dispatcher
        self._sender: Sender | None = None
        self._members: list[Any] = []

    def update(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """See `RayPool.update_weights`."""
        tensors = iter(named_tensors)
        ready: Future[Sender] = Future()
        sent: Future[Manifest] = Future()
        done = self._dispatcher.when_idle(lambda: self._transfer(ready, sent))
        either: list[Future[Any]] = [ready, done]
        try:
            wait(either, return_when=FIRST_COMPLETED)
            if ready.done():
                sent.set_result(Manifest(version, ready.result().send(tensors)))
        except BaseException as error:
            told = isinstance(error, Exception)  # an interrupt may come anywhere, and the engines wait for the rest
            sent.set_exception(error if told else TransferBroken(repr(error)))
            if not isinstance(error, TransferBroken):
                raise
        try:
            done.result()
        except WeightsLost:
            for _ in tensors:  # gathering is collective, and the other ranks take every tensor
                pass
            raise

    def close(self) -> None:
        """Ends the group."""
        if self._sender is not None:
            self._sender.abort()
            self._sender = None

    # In the dispatcher's thread.

    def _transfer(self, ready: Future[Sender], sent: Future[Manifest]) -> None:
        dispatcher = self._dispatcher
        dispatcher.ask("ping", dispatcher.slots)  # one that died idle is replaced alone, before the others listen
        dispatcher.await_started()
        dispatcher.restorable = False
        for slot in dispatcher.slots:
            slot.current = False
        try:
            sender = self._meet()
            calls = {slot.actor.receive.remote(): slot for slot in dispatcher.slots}
            ready.set_result(sender)
            received = self._answers(calls, sent)
        except _Failed as failed:
            self._replace_all(failed.reasons)
            raise _lost("; ".join(f"engine {slot.index}: {why}" for slot, why in failed.reasons.items())) from failed
        if sent.exception() is not None:  # reading the tensors failed: the caller has the error, the engines a part
            return
        _raise_mismatch(received)
        answers = dispatcher.ask("settle", dispatcher.slots, sent.result())
        dispatcher.await_started()
        _raise_mismatch(answers)
        if not answers:
            raise _lost("every engine failed with the whole of the weights at hand")
        for slot in dispatcher.slots:
            slot.current = slot.index in answers

    def _meet(self) -> Sender:
        """The group of this process and all engines; what there is, as long as the engines are the same."""
        slots = self._dispatcher.slots
        members = [slot.actor for slot in slots]
        if self._sender is None or self._members != members:
            self.close()
            self._sender, self._members = _meet(slots, self._dispatcher.start_timeout), members
        return self._sender

    def _answers(self, calls: Mapping[Any, Slot], sent: Future[Manifest]) -> dict[int, WeightMismatch | None]:
        """What engines say when they have received everything.

        Raises:
            _Failed: one did not, or sending failed.
        """
        import ray

        waiting = list(calls)
        while waiting:
            self._dispatcher.check_open()
            ready, waiting = ray.wait(waiting, timeout=TICK)
            error = sent.exception() if sent.done() else None
            if isinstance(error, TransferBroken) or any(_failure(ref) for ref in ready):
                raise _Failed(_blame(calls, str(error)))
        return {slot.index: ray.get(ref) for ref, slot in calls.items()}

    def _replace_all(self, reasons: Mapping[Slot, str]) -> None:
        self.close()
        for slot in self._dispatcher.slots:
            if slot in reasons:
                self._dispatcher.fault(slot, reasons[slot])
            else:
                self._dispatcher.restart(slot)
        self._dispatcher.await_started()


WEIGHT_TRANSFERS: dict[str, type[ObjectStore] | type[Broadcast]] = {
    "object-store": ObjectStore,
    "broadcast": Broadcast,
}


class _Failed(Exception):
    """A broadcast that broke off.

    Args:
        reasons: engines that are to blame, and why.
    """

    def __init__(self, reasons: Mapping[Slot, str]):
        super().__init__("; ".join(reasons.values()))
        self.reasons = reasons


def _lost(reason: str) -> WeightsLost:
    return WeightsLost(
        "the engines have no whole set of weights",
        reason=reason,
        remedy="call update_weights again: engines that failed have been started anew",
    )


def _meet(slots: list[Slot], timeout: float) -> Sender:
    import ray

    infos = [slot.info for slot in slots if slot.info]
    sender = Sender(ray.util.get_node_ip_address(), node_id(), sum(info.processes for info in infos), timeout)
    rank = 1
    calls = {}
    for slot, info in zip(slots, infos, strict=True):
        calls[slot.actor.join.remote(sender.meeting, rank)] = slot
        rank += info.processes
    try:
        sender.join(infos[0].device)
        ray.get(list(calls))
    except BackendFailed:
        raise
    except Exception as error:
        raise _Failed(_blame(calls, str(error))) from error
    return sender


def _blame(calls: Mapping[Any, Slot], otherwise: str) -> dict[Slot, str]:
    """Engines that died; else those that do not answer; else the first that failed; else all, `otherwise`."""
    import ray
    from ray.exceptions import RayActorError

    _, silent = ray.wait(list(calls), num_returns=len(calls), timeout=GRACE)
    failures = {slot: _failure(ref) for ref, slot in calls.items() if ref not in silent}
    died = {slot: reason_of(error) for slot, error in failures.items() if isinstance(error, RayActorError)}
    hung = {calls[ref]: "it did not take weights in time" for ref in silent}
    failed = {slot: reason_of(error) for slot, error in failures.items() if error}
    return died or hung or dict(list(failed.items())[:1]) or dict.fromkeys(calls.values(), otherwise)


def _failure(ref: Any) -> Exception | None:
    """What a call that has ended raised."""
    import ray

    try:
        ray.get(ref)
    except Exception as error:
        return error
    return None


def _raise_mismatch(answers: Mapping[int, WeightMismatch | None]) -> None:
    for answer in answers.values():
        if answer is not None:
            raise answer


def _store(named_tensors: Iterable[tuple[str, Tensor]], version: int) -> StoredWeights:
    import ray

    entries: dict[str, TensorEntry] = {}
    refs = {}
    for name, tensor in named_tensors:
        entries[name] = describe(tensor)
        try:
            refs[name] = ray.put(tensor_bytes(tensor))
        except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError) as error:
            raise BackendFailed(
                f"Ray's object store has no room for {name} ({tensor.nbytes / 2**20:.0f} MiB) of version {version}",
                reason=str(error),
                remedy="give it room for two copies of the model (object_store_memory, and disk to spill to)",
            ) from error
    return StoredWeights(Manifest(version, entries), refs)

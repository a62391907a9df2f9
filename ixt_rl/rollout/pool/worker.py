"""What runs in a pool's Ray actor: a vLLM engine in a thread of its own, fed and read by the actor's methods."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import numpy as np
import psutil
import torch
from torch import Tensor

from ixt_rl.errors import WeightMismatch
from ixt_rl.rollout.pool.variables import take_variables
from ixt_rl.rollout.vllm_engine import VLLMEngine
from ixt_rl.rollout.vllm_requests import VllmRequest
from ixt_rl.rollout.weights.broadcast import Meeting
from ixt_rl.rollout.weights.manifest import Manifest, TensorEntry, describe
from ixt_rl.types import Rollout

Answer = TypeVar("Answer")

HEARTBEAT = 1.0
"""Seconds after which `poll` answers without a finished group."""

GATHER = 0.03
"""Seconds `poll` waits for more once a group has finished: fewer, larger answers cost less."""


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker tells once it serves.

    Args:
        pid: its process.
        node: Ray's id of its node.
        device: type of the device its engine computes on.
        processes: that hold the engine's model: more than one where it is split.
        max_model_len: longest prompt plus completion, tokens.
        vocab_size: ids.
    """

    pid: int
    node: str
    device: str
    processes: int
    max_model_len: int
    vocab_size: int


@dataclass(frozen=True)
class Report:
    """An answer of `poll`.

    Args:
        finished: groups complete since the last answer, under their requests' keys.
        stalled: seconds since the last decoding step, by the worker's own clock; 0 without work.
        rss: resident memory of the worker, bytes.
    """

    finished: list[tuple[int, list[Rollout]]]
    stalled: float
    rss: int


@dataclass(frozen=True)
class StoredWeights:
    """One version of the weights in Ray's object store.

    Args:
        manifest: what it consists of.
        refs: name to a reference to the tensor's bytes (`tensor_bytes`).
    """

    manifest: Manifest
    refs: dict[str, Any]

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor), one at a time; on the store's node they are its own memory, and must not be written to."""
        import ray

        for name, ref in self.refs.items():
            entry = self.manifest.entries[name]
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*not writable.*")
                data = torch.from_numpy(ray.get(ref))
            yield name, data.view(getattr(torch, entry.dtype)).view(entry.shape)


def tensor_bytes(tensor: Tensor) -> np.ndarray:
    """A tensor's values as uint8 `[bytes]`, without a copy if it is contiguous and on CPU; any dtype."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()


class EngineWorker:
    """The actor. Its methods run in Ray's threads; only the engine's own thread touches the engine.

    Args:
        name: how messages call it.
        settings: arguments of `VLLMEngine`.
        holder: what the actor is called that has variables which this node may lack (`hold_variables`); "": none.
    """

    def __init__(self, name: str, settings: dict[str, Any], holder: str = ""):
        if holder:
            take_variables(holder)  # before vLLM asks the hub
        self._name = name
        self._commands: SimpleQueue[Callable[[VLLMEngine], None]] = SimpleQueue()
        self._changed = threading.Condition()
        self._finished: list[tuple[int, list[Rollout]]] = []
        self._unfinished = 0
        self._progress = time.monotonic()  # the last step, or when the first group came
        self._failure: BaseException | None = None
        self._staged: StoredWeights | None = None
        self._received: Sequence[dict[str, TensorEntry]] = ()
        self._ready: Future[VLLMEngine] = Future()
        threading.Thread(target=self._run, args=(settings,), daemon=True).start()

    def start(self, weights: StoredWeights | None) -> WorkerInfo | WeightMismatch:
        """Waits for the engine and brings it to `weights`; without them it serves those of its folder."""
        engine = self._ready.result()
        if weights is not None:
            if mismatch := self.stage(weights):
                return mismatch
            self.commit()
        return WorkerInfo(
            os.getpid(), node_id(), engine.device, engine.processes, engine.max_model_len, engine.vocab_size
        )

    def ping(self) -> None:
        """Answers if the engine lives.

        Raises:
            Exception: what ended the engine.
        """
        if self._failure:
            raise self._failure

    def submit(self, requests: list[VllmRequest]) -> None:
        """Queues groups."""
        with self._changed:
            if not self._unfinished:
                self._progress = time.monotonic()
            self._unfinished += len(requests)

        def add(engine: VLLMEngine) -> None:
            for request in requests:
                engine.add(request)

        self._commands.put(add)

    def poll(self) -> Report:
        """Waits for finished groups, at most `HEARTBEAT` seconds, and hands them over.

        Raises:
            Exception: what ended the engine.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._finished or self._failure, HEARTBEAT)
            if self._finished:
                self._changed.wait_for(lambda: not self._unfinished or self._failure, GATHER)
            if self._failure:
                raise self._failure
            finished, self._finished = self._finished, []
            stalled = time.monotonic() - self._progress if self._unfinished else 0.0
            return Report(finished, stalled, psutil.Process().memory_info().rss)

    def stage(self, weights: StoredWeights) -> WeightMismatch | None:
        """Reads every tensor, compares it with the manifest and tries names and shapes; the engine does not change
        yet."""
        try:
            entries = {name: describe(tensor) for name, tensor in weights.tensors()}
            self._check([entries], weights.manifest)
            shapes = {name: entry.shape for name, entry in entries.items()}
            self._in_engine(lambda engine: engine.check_weights(shapes))
        except WeightMismatch as mismatch:
            return mismatch
        self._staged = weights
        return None

    def commit(self) -> None:
        """Loads what was staged and moves to its version; the engine must be idle."""
        weights, self._staged = self._staged, None
        assert weights is not None

        def load(engine: VLLMEngine) -> None:
            engine.load_weights(weights.tensors())
            engine.finish_update(weights.manifest.version)

        self._in_engine(load)

    def join(self, meeting: Meeting, first_rank: int) -> None:
        """Meets the trainer and the other engines; this one's processes have ranks from `first_rank`."""
        node = node_id()  # here: an engine's other processes do not know Ray
        self._in_engine(lambda engine: engine.join(meeting, first_rank, node))

    def receive(self) -> WeightMismatch | None:
        """Loads weights as the trainer broadcasts them; the engine must be idle, and serves no more until `settle`."""
        self._received = ()
        try:
            self._received = self._in_engine(lambda engine: engine.receive())
        except WeightMismatch as mismatch:
            return mismatch
        return None

    def settle(self, manifest: Manifest) -> WeightMismatch | None:
        """Compares what was received with the manifest, and moves to its version."""
        try:
            self._check(self._received, manifest)
        except WeightMismatch as mismatch:
            return mismatch
        self._in_engine(lambda engine: engine.finish_update(manifest.version))
        return None

    def _check(self, received: Sequence[dict[str, TensorEntry]], manifest: Manifest) -> None:
        for entries in received:
            manifest.check(entries, where=self._name)
            self._ready.result().check_head(entries)

    def _in_engine(self, work: Callable[[VLLMEngine], Answer]) -> Answer:
        """What `work` gives, in the engine's thread; what it raises ends the engine, unless it is a mismatch."""
        done: Future[Answer] = Future()

        def run(engine: VLLMEngine) -> None:
            try:
                done.set_result(work(engine))
            except WeightMismatch as mismatch:
                done.set_exception(mismatch)
            except BaseException as error:
                done.set_exception(error)
                raise

        self._commands.put(run)
        while not self._failure or done.done():
            if wait([done], HEARTBEAT).done:
                return done.result()
        raise self._failure

    def _run(self, settings: dict[str, Any]) -> None:
        try:
            engine = VLLMEngine(**settings)
            self._ready.set_result(engine)
            while True:
                for command in self._take(wait=not engine.outstanding):
                    command(engine)
                if engine.outstanding:
                    self._publish(engine.step())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _take(self, wait: bool) -> Iterator[Callable[[VLLMEngine], None]]:
        if wait:
            yield self._commands.get()
        while True:
            try:
                yield self._commands.get_nowait()
            except Empty:
                return

    def _publish(self, finished: list[tuple[int, list[Rollout]]]) -> None:
        with self._changed:
            self._progress = time.monotonic()
            if finished:
                self._finished += finished
                self._unfinished -= len(finished)
                self._changed.notify_all()


def node_id() -> str:
    """Ray's id of this process's node."""
    import ray

    return ray.get_runtime_context().get_node_id()

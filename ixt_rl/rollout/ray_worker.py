"""What runs in a pool's Ray actor: a vLLM engine in a thread of its own, fed and read by the actor's methods."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from ixt_rl.errors import WeightMismatch
from ixt_rl.rollout.vllm_engine import Request, VLLMEngine
from ixt_rl.rollout.weights import Manifest, describe
from ixt_rl.types import Rollout

HEARTBEAT = 1.0
"""Seconds after which `poll` answers without a finished group."""

GATHER = 0.03
"""Seconds `poll` waits for more once a group has finished: fewer, larger answers cost less."""


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker tells once it serves: its process, its node, and its engine's limits in tokens and ids."""

    pid: int
    node: str
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
    """

    def __init__(self, name: str, settings: dict[str, Any]):
        self._name = name
        self._commands: SimpleQueue[Callable[[VLLMEngine], None]] = SimpleQueue()
        self._changed = threading.Condition()
        self._finished: list[tuple[int, list[Rollout]]] = []
        self._unfinished = 0
        self._progress = time.monotonic()  # the last step, or when the first group came
        self._failure: BaseException | None = None
        self._staged: StoredWeights | None = None
        self._ready: Future[VLLMEngine] = Future()
        threading.Thread(target=self._run, args=(settings,), daemon=True).start()

    def start(self, weights: StoredWeights | None) -> WorkerInfo | WeightMismatch:
        """Waits for the engine and brings it to `weights`; without them it serves those of its folder."""
        import ray

        engine = self._ready.result()
        if weights is not None:
            if mismatch := self.stage(weights):
                return mismatch
            self.commit()
        node = ray.get_runtime_context().get_node_id()
        return WorkerInfo(os.getpid(), node, engine.max_model_len, engine.vocab_size)

    def submit(self, requests: list[Request]) -> None:
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
        """Reads every tensor and compares it with the manifest; the engine does not change yet."""
        try:
            entries = {name: describe(tensor) for name, tensor in weights.tensors()}
            weights.manifest.check(entries, where=self._name)
            self._ready.result().check_head(entries)
        except WeightMismatch as mismatch:
            return mismatch
        self._staged = weights
        return None

    def commit(self) -> None:
        """Loads what was staged and moves to its version; the engine must be idle."""
        weights, self._staged = self._staged, None
        assert weights is not None
        done: Future[None] = Future()

        def load(engine: VLLMEngine) -> None:
            try:
                engine.load_weights(weights.tensors())
                engine.finish_update(weights.manifest.version)
            except BaseException as error:
                done.set_exception(error)
                raise
            done.set_result(None)

        self._commands.put(load)
        done.result()

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

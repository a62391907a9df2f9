"""Work that waits for an engine, and the engines' places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

import psutil

from ixt_rl.errors import BackendFailed
from ixt_rl.rollout.pool.worker import WorkerInfo
from ixt_rl.rollout.vllm_requests import VllmRequest
from ixt_rl.types import Rollout

Result = TypeVar("Result")


class Ticket:
    """Work in progress: what a call of `RayPool.submit` will give. Read it once, by `stream` or by `result`."""

    def __init__(self, total: int):
        self.total = total
        self.done = 0
        self._ready: SimpleQueue[tuple[int, list[Rollout]] | BackendFailed] = SimpleQueue()

    def stream(self) -> Iterator[tuple[int, list[Rollout]]]:
        """(index of the prompt, its rollouts), as groups finish.

        Raises:
            BackendFailed: the pool gave up; what was finished before has been streamed.
            WeightsLost: no engine holds the weights any more, and the pool waits for an update.
        """
        for _ in range(self.total):
            item = self._ready.get()
            if isinstance(item, BackendFailed):
                self._ready.put(item)
                raise item
            yield item

    def result(self) -> list[list[Rollout]]:
        """The rollouts of every prompt, in the prompts' order.

        Raises:
            BackendFailed: as `stream`.
        """
        groups = dict(self.stream())
        return [groups[index] for index in range(self.total)]

    def _finish(self, index: int, rollouts: list[Rollout]) -> None:
        self.done += 1
        self._ready.put((index, rollouts))

    def _fail(self, error: BackendFailed) -> None:
        what = f"{error.what}; {self.done} of {self.total} groups of this call were finished"
        self._ready.put(type(error)(what, reason=error.reason, remedy=error.remedy))


@dataclass
class PoolTask:
    """A group on its way; `request.key` is unique in the pool, `index` is the prompt's place in the ticket."""

    ticket: Ticket
    index: int
    request: VllmRequest
    slot: int | None = None  # the only engine that may run it


@dataclass(eq=False)
class Slot:
    """An engine's place in the pool; the engine in it may change."""

    index: int
    actor: Any = None
    info: WorkerInfo | None = None  # None while it starts
    current: bool = False  # whether it has the weights that the pool serves
    process: psutil.Process | None = None  # of an engine on this machine
    pending: Any = None  # the answer awaited: of `start`, then of `poll`
    since: float = 0.0  # start of the wait for progress
    outstanding: dict[int, PoolTask] = field(default_factory=dict)
    requests: int = 0
    tokens: int = 0
    restarts: int = 0
    rss: int = 0

    @property
    def load(self) -> int:
        return sum(task.request.tokens for task in self.outstanding.values())

    @property
    def sequences(self) -> int:
        return sum(task.request.n for task in self.outstanding.values())

"""The pool's dispatcher: one thread that hands groups to engines, collects them, and replaces engines that fail.

    submit -> queue -> [least outstanding tokens] -> Slot.outstanding -> poll -> Ticket
                 ^                                        |
                 +------------- engine failed ------------+

Only this thread changes slots and the queue's order; callers add to the queue and wait on tickets.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import psutil

from ixt_rl.errors import BackendFailed, WeightMismatch, WeightsLost
from ixt_rl.rollout.pool.failures import reason_of, was_closed
from ixt_rl.rollout.pool.tickets import PoolTask, Result, Slot, Ticket
from ixt_rl.rollout.pool.worker import Report, StoredWeights, WorkerInfo, node_id
from ixt_rl.rollout.vllm_requests import VllmRequest

TICK = 0.02
"""Seconds between two looks at new work while engines are busy."""

KILL_PATIENCE = 2.0
"""Seconds an engine's process may take to end by itself."""

WINDOW = 3.0
"""Sequences given to an engine, as a multiple of those it decodes at once: the rest stays movable."""


class Dispatcher:
    """See the module.

    Args:
        make_actor: builds the engine of a slot.
        engines: number of slots.
        max_num_seqs: sequences an engine decodes at once.
        deadline: seconds an engine with work may go without a decoding step.
        start_timeout: seconds an engine may take to start, or to load weights.
        max_restarts: engines replaced before the pool gives up.
    """

    def __init__(
        self,
        make_actor: Callable[[int], Any],
        *,
        engines: int,
        max_num_seqs: int,
        deadline: float,
        start_timeout: float,
        max_restarts: int,
    ):
        self._make_actor = make_actor
        self._window = math.ceil(WINDOW * max_num_seqs)
        self._deadline, self.start_timeout, self._max_restarts = deadline, start_timeout, max_restarts
        self.slots = [Slot(index) for index in range(engines)]
        self.weights: StoredWeights | None = None
        """What replacements start with; None: their folder's."""
        self.restorable = True
        """Whether replacements start with the weights that the pool serves."""
        self.failure: BackendFailed | None = None
        self._wake = threading.Condition()
        self._queue: deque[PoolTask] = deque()
        self._tasks: dict[int, PoolTask] = {}  # queued or outstanding
        self._keys = 0
        self._paused = False
        self._job: tuple[Callable[[], Any], Future[Any]] | None = None
        self._closed = False
        self._served = False
        for slot in self.slots:
            self._start(slot)
        self._thread = threading.Thread(target=self._run, name="ixt-rl-dispatch", daemon=True)
        self._thread.start()

    # Called from other threads.

    def wait_started(self) -> WorkerInfo:
        """Waits until every engine serves; what the first one tells.

        Raises:
            BackendFailed: they do not start.
        """
        with self._wake:
            self._wake.wait_for(lambda: self.failure or self._served)
        self._raise_failure()
        info = self.slots[0].info
        assert info is not None
        return info

    def submit(self, requests: list[VllmRequest], slot: int | None = None) -> Ticket:
        """Queues groups, for any engine or for one."""
        ticket = Ticket(len(requests))
        with self._wake:
            self._raise_failure()
            for index, request in enumerate(requests):
                self._keys += 1
                request = VllmRequest(self._keys, request.prompt_ids, request.sampling, request.n, request.seed)
                task = PoolTask(ticket, index, request, slot)
                self._tasks[request.key] = task
                self._queue.append(task)
            self._wake.notify_all()
        return ticket

    def pause(self) -> None:
        """Dispatches nothing more until `resume`; what runs goes on."""
        with self._wake:
            self._raise_failure()
            self._paused = True

    def resume(self) -> None:
        """Ends `pause`."""
        with self._wake:
            self._paused = False
            self._wake.notify_all()

    def when_idle(self, job: Callable[[], Result]) -> Future[Result]:
        """Runs `job` in the dispatcher's thread once all engines are idle; the dispatcher must be paused.

        What it raises, the future has; `WeightMismatch` and `WeightsLost` leave the pool alive, anything else ends it.
        """
        done: Future[Result] = Future()
        with self._wake:
            self._raise_failure()
            self._job = (job, done)
            self._wake.notify_all()
        return done

    def close(self) -> None:
        """Ends the thread and the engines."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        self._thread.join()
        self._give_up(was_closed())

    # For jobs.

    def ask(self, method: str, slots: list[Slot], *args: Any) -> dict[int, Any]:
        """Calls a method of several engines; answers by slot. Those that fail are replaced and give none."""
        import ray

        calls = [(slot, getattr(slot.actor, method).remote(*args)) for slot in slots]
        end = time.monotonic() + self.start_timeout
        answers = {}
        for slot, ref in calls:
            try:
                answers[slot.index] = ray.get(ref, timeout=max(0.0, end - time.monotonic()))
            except Exception as error:
                self.fault(slot, f"{method}: {reason_of(error)}")
        return answers

    def restart(self, slot: Slot) -> None:
        """Ends an engine and starts another in its place, at no cost to the budget."""
        self._kill(slot)
        self._start(slot)

    def fault(self, slot: Slot, reason: str) -> None:
        """Replaces an engine and queues its groups again, first in line.

        Raises:
            BackendFailed: the budget is spent.
        """
        self._kill(slot)
        if not self._served:
            raise BackendFailed(
                f"engine {slot.index} did not start",
                reason=reason,
                remedy="check the model's folder, the engine's settings, and that memory and devices suffice",
            )
        with self._wake:
            self._queue.extendleft(reversed(slot.outstanding.values()))
            slot.outstanding.clear()
        slot.restarts += 1
        slot.pending = None
        if sum(each.restarts for each in self.slots) > self._max_restarts:
            raise BackendFailed(
                f"engine {slot.index} failed, and max_restarts={self._max_restarts} engines were replaced before",
                reason=reason,
                remedy="see that memory and devices suffice for the engines; raise `deadline` or `start_timeout` if "
                "the machine is only slow, `max_restarts` if failures are to be lived with",
            )
        self._start(slot)

    def await_started(self) -> None:
        """Waits for engines that were replaced.

        Raises:
            BackendFailed: the budget is spent, or the pool is being closed.
        """
        while any(slot.info is None for slot in self.slots):
            self.check_open()
            self._collect()
            self._find_hung()

    def check_open(self) -> None:
        """What takes long asks now and then.

        Raises:
            BackendFailed: the pool is being closed.
        """
        if self._closed:
            raise was_closed()

    # The thread.

    def _run(self) -> None:
        try:
            while True:
                with self._wake:
                    self._wake.wait_for(self._has_work)
                    if self._closed:
                        return
                self._turn()
        except BackendFailed as failure:
            self._give_up(failure)
        except Exception as error:  # a bug, or Ray itself is gone: whoever waits must hear of it
            reason = f"{type(error).__name__}: {error}"
            self._give_up(BackendFailed("the pool's dispatcher stopped", reason=reason, remedy="make a new pool"))

    def _has_work(self) -> bool:
        starting = any(slot.info is None for slot in self.slots)
        return bool(self._closed or starting or self._job or (self._tasks and not self._resting))

    @property
    def _resting(self) -> bool:
        return self._paused and not any(slot.outstanding for slot in self.slots)

    def _turn(self) -> None:
        """Hands out work, waits a little for answers, looks for engines that hang."""
        idle = all(slot.info and not slot.outstanding for slot in self.slots)
        if self._job and idle:
            self._work(*self._job)
        self._find_lost()
        self._dispatch()
        for slot in self.slots:
            if slot.pending is None and slot.outstanding:
                slot.pending = slot.actor.poll.remote()
        self._collect()
        self._find_hung()

    def _dispatch(self) -> None:
        batches: dict[int, list[VllmRequest]] = {}
        with self._wake:
            if self._paused:
                return
            free = {slot.index: slot for slot in self.slots if slot.current}
            load = {index: slot.load for index, slot in free.items()}
            room = {index: self._window - slot.sequences for index, slot in free.items()}
            kept: deque[PoolTask] = deque()
            while self._queue and any(space > 0 for space in room.values()):
                task = self._queue.popleft()
                # an engine that is replaced and has no weights to start with leaves its work to the others
                only = task.slot if self.restorable or task.slot in free else None
                fits = [i for i in free if only in (None, i) and (room[i] >= task.request.n or not load[i])]
                if not fits:
                    kept.append(task)
                    if only is None:
                        break
                    continue
                index = min(fits, key=lambda i: load[i])
                load[index] += task.request.tokens
                room[index] -= task.request.n
                slot = free[index]
                if not slot.outstanding:
                    slot.since = time.monotonic()
                slot.outstanding[task.request.key] = task
                batches.setdefault(index, []).append(task.request)
            self._queue.extendleft(reversed(kept))
        for index, requests in batches.items():
            self.slots[index].actor.submit.remote(requests)

    def _collect(self) -> None:
        import ray

        waiting = {slot.pending: slot for slot in self.slots if slot.pending is not None}
        if not waiting:
            return
        ray.wait(list(waiting), num_returns=1, timeout=TICK)
        for ref in ray.wait(list(waiting), num_returns=len(waiting), timeout=0)[0]:
            slot = waiting[ref]
            slot.pending = None
            try:
                answer = ray.get(ref)
            except Exception as error:
                self.fault(slot, reason_of(error))
                continue
            if isinstance(answer, Report):
                self._take(slot, answer)
            elif isinstance(answer, WeightMismatch):
                self.fault(slot, str(answer))
            else:
                self._serve(slot, answer)

    def _serve(self, slot: Slot, info: WorkerInfo) -> None:
        if info.node == node_id():
            slot.process = psutil.Process(info.pid)
        with self._wake:
            slot.info = info
            slot.current = self.restorable
            self._served = self._served or all(each.info for each in self.slots)
            self._wake.notify_all()

    def _take(self, slot: Slot, report: Report) -> None:
        # By the engine's clock: had this process been held up, an old report would make every engine seem to hang.
        slot.since = max(slot.since, time.monotonic() - report.stalled)
        slot.rss = report.rss
        for key, rollouts in report.finished:
            with self._wake:
                task = slot.outstanding.pop(key)
                del self._tasks[key]
            slot.requests += 1
            slot.tokens += sum(len(rollout.completion_ids) for rollout in rollouts)
            task.ticket._finish(task.index, rollouts)

    def _find_hung(self) -> None:
        for slot in self.slots:
            waited = time.monotonic() - slot.since
            if slot.info is None and waited > self.start_timeout:
                self.fault(slot, f"it did not start within {self.start_timeout:g} s")
            elif slot.info and slot.outstanding and waited > self._deadline:
                self.fault(slot, f"it made no decoding step for {self._deadline:g} s")

    def _find_lost(self) -> None:
        """Fails what can't be sampled: no engine holds the weights, and none will without an update."""
        with self._wake:
            if self._paused or not self._tasks or self.restorable or any(slot.current for slot in self.slots):
                return
        self._fail_tasks(
            WeightsLost(
                "no engine holds the policy's weights any more",
                reason="those that did have failed, and broadcast weights are kept nowhere else",
                remedy="call update_weights, and ask again",
            )
        )

    def _work(self, job: Callable[[], Any], done: Future[Any]) -> None:
        self._job = None
        try:
            done.set_result(job())
        except (WeightMismatch, WeightsLost) as error:
            done.set_exception(error)
        except BaseException as error:
            done.set_exception(error)
            raise

    def _start(self, slot: Slot) -> None:
        slot.actor = self._make_actor(slot.index)
        slot.info, slot.current = None, False
        slot.since = time.monotonic()
        slot.pending = slot.actor.start.remote(self.weights)

    def _kill(self, slot: Slot) -> None:
        import ray

        process, slot.process, slot.info, slot.current = slot.process, None, None, False
        if ray.is_initialized():
            ray.kill(slot.actor, no_restart=True)
        if process is not None:
            with suppress(psutil.NoSuchProcess):
                try:
                    process.wait(KILL_PATIENCE)
                except psutil.TimeoutExpired:
                    process.kill()  # a stopped process does not hear Ray's request

    def _give_up(self, failure: BackendFailed) -> None:
        for slot in self.slots:
            self._kill(slot)
        with self._wake:
            self.failure = self.failure or failure
            job, self._job = self._job, None
            self._wake.notify_all()
        self._fail_tasks(self.failure)
        if job is not None:
            job[1].set_exception(self.failure)

    def _fail_tasks(self, failure: BackendFailed) -> None:
        with self._wake:
            tickets = {id(task.ticket): task.ticket for task in self._tasks.values()}
            self._tasks.clear()
            self._queue.clear()
        for ticket in tickets.values():
            ticket._fail(failure)

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

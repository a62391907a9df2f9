"""A pool of child processes for the math reward, with a deadline per task that nothing can outlive.

    judge(tasks) -> threads, one per busy worker -> pipe -> worker.py
                                    deadline passed -> SIGKILL, respawn

A time limit inside the process cannot work: native code may hold the interpreter lock, and math-verify's
own limit needs the main thread. A limit in `concurrent.futures` leaves the worker occupied. So the parent
kills. Threads of the parent only wait on pipes.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ixt_rl
from ixt_rl.errors import RewardError

START_LIMIT_S = 120.0
"""How long a worker may take to import what it needs."""


@dataclass(frozen=True)
class Check:
    """One comparison: the gold answer's text (or its accepted forms) and the extracted answer."""

    gold: str | list[str]
    answer: str
    tolerance: float = 0.0


@dataclass(frozen=True)
class TaskResult:
    """What a worker found.

    Args:
        right: True, False, or None for undecided.
        reason: the deciding rule, or `timeout`, `crash`, `disagreement` ... with details after a colon.
        second: math-verify's verdict; None when it had none.
        seconds: wall time on the worker.
    """

    right: bool | None
    reason: str
    second: bool | None
    seconds: float


class _Worker:
    """One child process and its two pipes."""

    def __init__(self, command: Sequence[str], memory_mb: int):
        tasks_read, tasks_write = os.pipe()
        results_read, results_write = os.pipe()
        root = str(Path(ixt_rl.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [*command, str(tasks_read), str(results_write), str(memory_mb)],
            pass_fds=(tasks_read, results_write),
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # an interrupt at the terminal is for the parent to handle
        )
        os.close(tasks_read)
        os.close(results_write)
        self.tasks = Connection(tasks_write, readable=False)
        self.results = Connection(results_read, writable=False)
        self.done = 0
        self._await_ready()

    def _await_ready(self) -> None:
        assert self.process.stderr is not None
        try:
            ready = self.receive(time.monotonic() + START_LIMIT_S)
        except EOFError:
            ready = None
        if ready is None:
            self.kill()
            said = self.process.stderr.read().decode(errors="replace").strip()[-2000:]
            raise RewardError(
                "a math reward worker does not start",
                reason=said or f"it was not ready after {START_LIMIT_S:g} s",
                remedy=f"see what `{sys.executable} -c 'import math_verify'` says",
            )
        self.process.stderr.close()

    def send(self, message: Any) -> None:
        self.tasks.send_bytes(json.dumps(message).encode())

    def receive(self, until: float) -> dict[str, Any] | None:
        """The next message, or None at the deadline. Raises EOFError when the process has ended."""
        if not self.results.poll(max(0.0, until - time.monotonic())):
            return None
        return json.loads(self.results.recv_bytes())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.close_pipes()

    def close_pipes(self) -> None:
        self.tasks.close()
        self.results.close()


class _DiedIdle(Exception):
    """The worker ended before it began the task."""


class MathPool:
    """Judges answers in child processes; the order of the results is that of the tasks.

    Args:
        workers: child processes; they start when first needed.
        deadline_s: wall time a task may take on its worker before the worker is killed, seconds.
        memory_mb: address space of a worker, MiB.
        tasks_per_worker: a worker is replaced after this many tasks, which bounds what sympy's caches hold.

    `counts` has: tasks, timeouts, crashes, respawns, recycled, disagreements (the two checkers decided
    differently), second_timeouts (only math-verify was too slow), and `undecided/<reason>`.
    Safe to call from several threads. A forked child gets its own pool from `shared_pool`.
    """

    worker_command: Sequence[str] = (sys.executable, "-m", "ixt_rl.rewards.math.worker")
    """How a child process is started; it is given the numbers of its two pipes and its memory in MiB."""

    def __init__(
        self, *, workers: int = 2, deadline_s: float = 5.0, memory_mb: int = 1024, tasks_per_worker: int = 2000
    ):
        self.deadline_s, self.memory_mb, self.tasks_per_worker = deadline_s, memory_mb, tasks_per_worker
        self.workers = workers
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._slots: queue.Queue[_Worker | None] = queue.Queue()  # None: a worker not started yet
        for _ in range(workers):
            self._slots.put(None)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="math-reward")
        self._closed = False

    def judge(self, tasks: Sequence[Check]) -> list[TaskResult]:
        """Judge all tasks in parallel, in order.

        Raises:
            RewardError: a worker cannot start at all.
        """
        if self._closed:
            raise RuntimeError("this pool is closed")
        return list(self._threads.map(self._judge_one, tasks))

    def close(self) -> None:
        """End all workers; idempotent. Tasks that are still running end first."""
        self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._slots.empty():
            worker = self._slots.get()
            if worker is not None:
                worker.kill()

    def pids(self) -> list[int]:
        """Process ids of the idle workers."""
        with self._slots.mutex:
            return [worker.process.pid for worker in self._slots.queue if worker is not None]

    def forget(self) -> None:
        """In a forked child: drop the parent's pipes without touching its workers."""
        for worker in self._slots.queue:
            if worker is not None:
                worker.close_pipes()

    def _judge_one(self, task: Check) -> TaskResult:
        worker = self._slots.get()
        try:
            worker, result = self._run(worker, task)
        except BaseException:
            self._slots.put(None)
            raise
        if worker is not None and worker.done >= self.tasks_per_worker:
            worker.kill()
            worker = None
            self._count("recycled")
        self._slots.put(worker)
        self._count("tasks")
        if result.right is None:
            self._count(f"undecided/{result.reason.partition(':')[0]}")
        return result

    def _run(self, worker: _Worker | None, task: Check) -> tuple[_Worker | None, TaskResult]:
        """One task on one worker; the worker is None afterwards when it had to be killed or died."""
        if worker is not None:
            try:
                return self._attempt(worker, task)
            except _DiedIdle:
                worker.kill()
                self._count("crashes")
                self._count("respawns")
        worker = _Worker(self.worker_command, self.memory_mb)
        try:
            return self._attempt(worker, task)
        except _DiedIdle:
            worker.kill()
            self._count("crashes")
            return None, TaskResult(None, "crash: a new worker process died", None, 0.0)

    def _attempt(self, worker: _Worker, task: Check) -> tuple[_Worker | None, TaskResult]:
        """Raises _DiedIdle when the worker ended before it began."""
        start = time.monotonic()
        until = start + self.deadline_s
        answers: dict[str, dict[str, Any]] = {}
        failure = ""
        try:
            worker.send({**asdict(task), "deadline_s": self.deadline_s})
            while "second" not in answers:
                answer = worker.receive(until)
                if answer is None:
                    failure = f"timeout: {self.deadline_s:g} s"
                    break
                answers[answer["stage"]] = answer
        except (EOFError, OSError) as error:
            if not answers:
                raise _DiedIdle from error
            failure = "crash: the worker process died"
        seconds = time.monotonic() - start
        if failure:
            worker.kill()
            if "exact" in answers and failure.startswith("timeout"):
                self._count("second_timeouts")
            else:
                self._count("timeouts" if failure.startswith("timeout") else "crashes")
            self._count("respawns")
        else:
            worker.done += 1
        result = self._combine(answers.get("exact"), answers.get("second"), failure, seconds)
        return (None if failure else worker), result

    def _combine(
        self, exact: dict[str, Any] | None, second: dict[str, Any] | None, failure: str, seconds: float
    ) -> TaskResult:
        """The two checkers' verdicts as one.

        Exact rules decide. math-verify overrules nothing; but when it says right, confirmed without a
        float tolerance, and the rules say wrong, the answer is undecided. Where the rules could not read
        the answer, a confirmed right of math-verify counts, and nothing else does.
        """
        if exact is None:
            return TaskResult(None, failure, None, seconds)
        second = second or {"right": None}
        other, confirmed = second.get("right"), second.get("confirmed", False)
        right, reason = exact["right"], exact.get("reason") or f"crash: {exact.get('error')}"
        if right is not None and other is not None and right != other:
            self._count("disagreements")
        if right is False and confirmed:
            return TaskResult(None, f"disagreement: {reason}; math-verify accepts", other, seconds)
        if right is None and not exact.get("settled", False) and "reason" in exact:
            if confirmed:
                return TaskResult(True, f"math-verify, confirmed exactly ({reason})", other, seconds)
            if failure:
                return TaskResult(None, failure, other, seconds)
        return TaskResult(right, reason, other, seconds)

    def _count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1


_shared: dict[tuple[type[MathPool], int, float, int], MathPool] = {}
_shared_lock = threading.Lock()


def shared_pool(*, workers: int, deadline_s: float, memory_mb: int = 1024, kind: type[MathPool] = MathPool) -> MathPool:
    """This process's pool of that kind with these settings; made on the first call, closed at exit."""
    key = (kind, workers, deadline_s, memory_mb)
    with _shared_lock:
        if key not in _shared:
            _shared[key] = kind(workers=workers, deadline_s=deadline_s, memory_mb=memory_mb)
        return _shared[key]


def close_shared_pools() -> None:
    """End the workers of all shared pools; the next `shared_pool` starts afresh."""
    with _shared_lock:
        for pool in _shared.values():
            pool.close()
        _shared.clear()


def _after_fork() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()
    for pool in _shared.values():
        pool.forget()
    _shared.clear()


atexit.register(close_shared_pools)
os.register_at_fork(after_in_child=_after_fork)

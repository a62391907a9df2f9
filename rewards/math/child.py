"""What child processes that judge have in common: their limits, and the pipes to the parent (`pool.py`)."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any


def run(warm_up: Callable[[], object], answers: Callable[[dict[str, Any]], Iterator[dict[str, Any]]]) -> None:
    """Limits memory, warms up, then answers tasks until the parent closes the pipe or sends null.

    The command line is TASKS_FD RESULTS_FD MEMORY_MB.

    Args:
        warm_up: imports what is slow: before "ready", outside every deadline.
        answers: the messages about a task, one a stage, each sent as soon as it is there.
    """
    tasks_fd, results_fd, memory_mb = (int(arg) for arg in sys.argv[1:4])
    limit = memory_mb * 2**20
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ValueError, OSError):  # macOS refuses; the deadline still holds
        print(f"no memory limit of {memory_mb} MB on this system", file=sys.stderr)
    logging.disable(logging.CRITICAL)
    warm_up()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the parent reads errors of the start only
    tasks, results = Connection(tasks_fd, writable=False), Connection(results_fd, readable=False)
    results.send_bytes(b'{"ready": true}')
    while True:
        try:
            task = json.loads(tasks.recv_bytes())
        except EOFError:
            return
        if task is None:
            return
        # The parent's deadline is the limit; this one, kept by the kernel even while native
        # code holds the interpreter, ends an orphan whose parent was killed.
        signal.setitimer(signal.ITIMER_PROF, 2 * task["deadline_s"] + 1)
        results.send_bytes(b'{"stage": "begun"}')
        for message in answers(task):
            results.send_bytes(json.dumps(message).encode())
        signal.setitimer(signal.ITIMER_PROF, 0)

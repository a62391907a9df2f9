"""Runs a file on so many ranks, in processes forked from this one, which has imported everything.

    python -m tests.integration.forked_ranks FILE.yaml '[{"ranks": 2, "kill": [1, 3], "set": ["name=b"]}, ...]'

One run after the other; prints the exit statuses of each run's ranks as JSON. Nobody stops the ranks that are left when
one is killed: that they end is what tests look for.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import ixt_rl.report.build
import ixt_rl.run.ranks.follow
import ixt_rl.run.stages.documents
import ixt_rl.run.stages.evaluate
import ixt_rl.run.stages.online
import ixt_rl.run.stages.pretrain
import ixt_rl.run.stages.sip
import ixt_rl.trainers.intro
import ixt_rl.trainers.ixt
import ixt_rl.trainers.pretrain
import ixt_rl.trainers.sip.trainer  # noqa: F401 - all that the runs load
from ixt_rl.config.load import load_run
from ixt_rl.errors import IxtRlError
from ixt_rl.run import run_config

with contextlib.suppress(ImportError):
    import deepspeed  # noqa: F401 - accelerate would import it in every process

PATIENCE = 1200.0
"""Seconds after which what is left of a run is killed, and its status is None."""


def rank(file: str, job: dict[str, Any], number: int, port: int) -> int:
    """One rank of a job; 0, or 1 after an error, which is printed."""
    size = job["ranks"]
    if size > 1:
        os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(size)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if job.get("kill", [None])[0] == number:
        os.environ["KILLED_AT"] = str(job["kill"][1])
    try:
        run_config(load_run(file, job.get("set", [])))
    except IxtRlError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run(file: str, job: dict[str, Any], logs: Path) -> list[int | None]:
    """The exit statuses of a job's ranks: minus the signal where one killed it, None where it did not end."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    processes = []
    for number in range(job["ranks"]):
        pid = os.fork()
        if pid == 0:
            with open(logs / f"rank{number}.log", "a", encoding="utf-8") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            os._exit(rank(file, job, number, port))
        processes.append(pid)
    end = time.monotonic() + PATIENCE
    statuses: dict[int, int | None] = dict.fromkeys(processes)
    while None in statuses.values() and time.monotonic() < end:
        for pid in [pid for pid, status in statuses.items() if status is None]:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                statuses[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    for pid in [pid for pid, status in statuses.items() if status is None]:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return list(statuses.values())


if __name__ == "__main__":
    print(json.dumps([run(sys.argv[1], job, Path(sys.argv[1]).parent) for job in json.loads(sys.argv[2])]))

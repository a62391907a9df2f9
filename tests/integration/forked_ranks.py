"""Runs a file on so many ranks, in processes forked from this one, which has imported everything.

    python -m tests.integration.forked_ranks FILE.yaml '[{"ranks": 2, "kill": [1, "json:dumps", 3], "set": []}, ...]'

One run after the other; prints the exit statuses of each run's ranks as JSON. `kill` has one killed, see `die_at`.
Nobody stops the ranks that are left: that they end is what tests look for.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import ixt_rl.report.build
import ixt_rl.run.ranks.follow
import ixt_rl.run.stages.documents
import ixt_rl.run.stages.dpo
import ixt_rl.run.stages.evaluate
import ixt_rl.run.stages.online
import ixt_rl.run.stages.pretrain
import ixt_rl.run.stages.sip
import ixt_rl.trainers.dpo
import ixt_rl.trainers.intro
import ixt_rl.trainers.ixt
import ixt_rl.trainers.pretrain
import ixt_rl.trainers.sip.trainer  # noqa: F401 - all that the runs load
from ixt_rl.config.load import load_run
from ixt_rl.errors import IxtRlError
from ixt_rl.run import run_config
from tests.unit.distributed import NEXT, fork_ranks

with contextlib.suppress(ImportError):
    import deepspeed  # noqa: F401 - accelerate would import it in every process

PATIENCE = 1200.0
"""Seconds after which what is left of a run is killed, and its status is None."""


def rank(file: str, job: dict[str, Any], number: int) -> int:
    """One rank of a job; 0, or 1 after an error, which is printed."""
    print(f"{NEXT}{json.dumps(job)}", flush=True)
    of, *when = job.get("kill", [None])
    if of == number:
        die_at(*when)
    try:
        run_config(load_run(file, job.get("set", [])))
    except IxtRlError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    return 0


def die_at(place: str, call: int) -> None:
    """Has this process killed at the start of the `call`-th call (from 1) of `place`, `module:name` or
    `module:Class.name`."""
    module, _, path = place.partition(":")
    *within, name = path.split(".")
    owner = functools.reduce(getattr, within, importlib.import_module(module))
    original, calls = getattr(owner, name), itertools.count(1)

    @functools.wraps(original)
    def counted(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, counted)


def run(file: str, job: dict[str, Any]) -> list[int | None]:
    """The exit statuses of a job's ranks, see `fork_ranks`."""
    return fork_ranks(functools.partial(rank, file, job), job["ranks"], Path(file).parent, PATIENCE)


if __name__ == "__main__":
    print(json.dumps([run(sys.argv[1], job) for job in json.loads(sys.argv[2])]))

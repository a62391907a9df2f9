"""How many threads torch has during a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

# by name: vLLM on a CPU puts a warning in place of torch.set_num_threads
from torch import get_num_threads, set_num_threads

import ixt_rl
from ixt_rl.files import read_json, write_json
from ixt_rl.place import place
from ixt_rl.run.folder import RunFolder
from ixt_rl.threads import SPIN_BOUNDS, allowed_cores, usable_cores

KEPT = "threads.json"
"""In the run's folder: how many it began with, and on how many cores."""

LOOK_SECONDS = 0.3


@contextmanager
def torch_threads(said: int | None, beside: int, say: Callable[[str], None] | None = None) -> Iterator[int]:
    """Sets torch's threads for the time of a `with`, and yields their number.

    Args:
        said: as many as the run file says, or its folder. None: torch's own choice (the physical cores that the process
            is bound to, or `OMP_NUM_THREADS`), but no more than the quota keeps busy, less `beside`, and where
            `OMP_NUM_THREADS` says nothing no more than other programs leave free; ranks on this machine share them.
        beside: cores of this machine on which engines compute meanwhile; one is left to the trainer.
        say: is told where other programs leave fewer.
    """
    before = get_num_threads()
    sharing = place().local_size
    threads = said or max(1, min(before, (usable_cores() - beside) // sharing))
    asked = not said and threads > 1 and "OMP_NUM_THREADS" not in os.environ
    if asked and (free := max(1, free_cores() // sharing)) < threads:
        if say is not None:
            say(
                f"{free} of {threads} threads: other programs keep cores busy, and a thread that waits for one "
                f"holds up all. `threads: {threads}` in the run file takes them all the same"
            )
        threads = free
    set_num_threads(threads)
    try:
        yield threads
    finally:
        set_num_threads(before)


def free_cores() -> int:
    """Cores that this process may use and other programs leave free, rounded; at least 1. Looks for `LOOK_SECONDS`.

    Two threads, one of which waits for a core that another program keeps busy, are slower than one: each operation
    ends when the slower has done its part.
    """
    busy = psutil.cpu_percent(interval=LOOK_SECONDS, percpu=True)
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(busy))
    return max(1, round(sum(1 - busy[core] / 100 for core in own if core < len(busy))))


def kept_threads(folder: RunFolder) -> int | None:
    """How many a run began with that is gone on with on as many cores; None where there is none, or another machine."""
    kept = read_json(folder.path / KEPT)
    return kept["threads"] if kept and kept["cores"] == allowed_cores() else None


def keep_threads(folder: RunFolder) -> None:
    """Writes how many there are, so that a run that is stopped rounds as it began."""
    if kept_threads(folder) is None:
        write_json(folder.path / KEPT, {"threads": get_num_threads(), "cores": allowed_cores()})


def spinning_note() -> list[str]:
    """What a run says where the spinning of idle threads could not be bounded, see `ixt_rl.threads`; else nothing."""
    if not ixt_rl.TORCH_CAME_FIRST or get_num_threads() == 1:
        return []
    return [
        "torch was imported before ixt_rl: its idle threads spin without a bound, which beside another busy program "
        f"takes many times as long. Import ixt_rl first, or set GOMP_SPINCOUNT={SPIN_BOUNDS['GOMP_SPINCOUNT']} before "
        "Python starts"
    ]

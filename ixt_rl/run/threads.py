"""How many threads torch has during a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# by name: vLLM on a CPU puts a warning in place of torch.set_num_threads
from torch import get_num_threads, set_num_threads

import ixt_rl
from ixt_rl.threads import SPIN_BOUNDS, usable_cores


@contextmanager
def torch_threads(said: int | None, beside: int) -> Iterator[int]:
    """Sets torch's threads for the time of a `with`, and yields their number.

    Args:
        said: as many as the run file says. None: torch's own choice (the physical cores that the process is bound to,
            or `OMP_NUM_THREADS`), but no more than the quota keeps busy, less `beside`.
        beside: cores of this machine on which engines compute meanwhile; one is left to the trainer.
    """
    before = get_num_threads()
    threads = said or max(1, min(before, usable_cores() - beside))
    set_num_threads(threads)
    try:
        yield threads
    finally:
        set_num_threads(before)


def spinning_note() -> list[str]:
    """What a run says where the spinning of idle threads could not be bounded, see `ixt_rl.threads`; else nothing."""
    if not ixt_rl.TORCH_CAME_FIRST or get_num_threads() == 1:
        return []
    return [
        "torch was imported before ixt_rl: its idle threads spin without a bound, which beside another busy program "
        f"takes many times as long. Import ixt_rl first, or set GOMP_SPINCOUNT={SPIN_BOUNDS['GOMP_SPINCOUNT']} before "
        "Python starts"
    ]

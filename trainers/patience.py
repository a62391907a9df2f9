"""Calls to a backend that may be down for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from ixt_rl.errors import BackendFailed

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0  # seconds
_log = logging.getLogger(__name__)
Result = TypeVar("Result")


def patiently(
    call: Callable[[], Result], patience: float, waited: Callable[[float], None], sleep: Callable[[float], None] | None
) -> Result:
    """`call()`, and once more after a wait each time it raises `BackendFailed`: 1 s, then twice the last, at most 60 s.

    Args:
        call: what may fail; a `judging.Judge` with a cache does not ask again for what it has.
        patience: seconds waited in all before the failure is passed on; 0 waits for nothing.
        waited: told of every wait, in seconds.
        sleep: waits; None: `time.sleep`.

    Raises:
        BackendFailed: the last failure, when patience is spent.
    """
    left, wait = patience, _FIRST_WAIT
    while True:
        try:
            return call()
        except BackendFailed as failure:
            if left <= 0:
                raise
            pause = min(wait, left)
            _log.warning("%s\n  trying again in %.0f s, for %.0f s more", failure, pause, left)
            waited(pause)
            (sleep or time.sleep)(pause)
            left, wait = left - pause, min(2 * wait, _LONGEST_WAIT)

"""A math worker whose checker takes half a minute over the answer `slow`; run in the place of the real one.

A file that the variable SLOW_BEGUN names appears when it has begun.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from ixt_rl.rewards.math import worker

_check = worker.exact_check


def exact_check(gold: str | list[str], answer: str, tolerance: float = 0.0) -> dict[str, Any]:
    if answer == "slow":
        if begun := os.environ.get("SLOW_BEGUN"):
            Path(begun).touch()
        time.sleep(30)
    return _check(gold, answer, tolerance)


if __name__ == "__main__":
    worker.exact_check = exact_check
    worker.main()

"""A math worker whose checker takes half a minute over the answer `slow`; run in the place of the real one."""

from __future__ import annotations

import time
from typing import Any

from ixt_rl.rewards.math import worker

_check = worker.exact_check


def exact_check(gold: str | list[str], answer: str, tolerance: float = 0.0) -> dict[str, Any]:
    if answer == "slow":
        time.sleep(30)
    return _check(gold, answer, tolerance)


if __name__ == "__main__":
    worker.exact_check = exact_check
    worker.main()

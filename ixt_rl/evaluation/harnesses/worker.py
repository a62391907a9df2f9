"""The child process that judges by a harness's rules: a comparison that never ends is killed by the parent.

Speaks as `ixt_rl.rewards.math.worker` does; run by `table.py` as
`python -m ixt_rl.evaluation.harnesses.worker TASKS_FD RESULTS_FD MEMORY_MB`.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from ixt_rl.evaluation.harnesses.rules import RULES
from ixt_rl.evaluation.harnesses.verdict import HarnessCase


def judged(task: dict[str, Any]) -> dict[str, Any]:
    """The verdict as the parent reads it; a rule that raises gives no score."""
    case = HarnessCase(task["suite"], task["answer"], task["gold"], task["solution"])
    try:
        found = RULES[task["harness"]](case)
    except Exception as error:  # whatever a grader raises on odd text is this sample's result, not our end
        return {"right": None, "extracted": None, "reason": f"raised {type(error).__name__}: {error}"[:300]}
    return {"right": found.right, "extracted": found.extracted, "reason": found.why}


def main() -> None:
    """Limit memory, then answer tasks until the parent closes the pipe."""
    tasks_fd, results_fd, memory_mb = (int(arg) for arg in sys.argv[1:4])
    limit = memory_mb * 2**20
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ValueError, OSError):  # macOS refuses; the deadline still holds
        print(f"no memory limit of {memory_mb} MB on this system", file=sys.stderr)
    logging.disable(logging.CRITICAL)
    for name in ("qwen25-math", "math-verify"):  # what they import is slow: before "ready", outside every deadline
        RULES[name](HarnessCase("math500", "$\\frac{x+1}{2}$ is \\boxed{\\frac{x+1}{2}}", "1 + \\frac{x-1}{2}"))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    tasks, results = Connection(tasks_fd, writable=False), Connection(results_fd, readable=False)
    results.send_bytes(b'{"ready": true}')
    while True:
        try:
            task = json.loads(tasks.recv_bytes())
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, 2 * task["deadline_s"] + 1)  # ends an orphan whose parent was killed
        results.send_bytes(b'{"stage": "begun"}')
        results.send_bytes(json.dumps({"stage": "exact", "settled": True, **judged(task)}).encode())
        results.send_bytes(b'{"stage": "second", "right": null}')
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main()

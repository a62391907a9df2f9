"""The child process that judges by a harness's rules: a comparison that never ends is killed by the parent.

Speaks as `ixt_rl.rewards.math.worker` does; run by `table.py` as
`python -m ixt_rl.evaluation.harnesses.worker TASKS_FD RESULTS_FD MEMORY_MB`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ixt_rl.evaluation.harnesses.rules import RULES
from ixt_rl.evaluation.harnesses.verdict import HarnessCase
from ixt_rl.rewards.math import child


def judged(task: dict[str, Any]) -> dict[str, Any]:
    """The verdict as the parent reads it; a rule that raises gives no score."""
    case = HarnessCase(task["suite"], task["answer"], task["gold"], task["solution"])
    try:
        found = RULES[task["harness"]](case)
    except Exception as error:  # whatever a grader raises on odd text is this sample's result, not our end
        return {"right": None, "extracted": None, "reason": f"raised {type(error).__name__}: {error}"[:300]}
    return {"right": found.right, "extracted": found.extracted, "reason": found.why}


def stages(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The verdict as the one stage that settles a task."""
    yield {"stage": "exact", "settled": True, **judged(task)}
    yield {"stage": "second", "right": None}


def warm_up() -> None:
    """Has the rules import what they need."""
    for name in ("qwen25-math", "math-verify"):
        RULES[name](HarnessCase("math500", "$\\frac{x+1}{2}$ is \\boxed{\\frac{x+1}{2}}", "1 + \\frac{x-1}{2}"))


if __name__ == "__main__":
    child.run(warm_up, stages)

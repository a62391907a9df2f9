"""What a stage says about its task."""

from __future__ import annotations

from typing import Any

from ixt_rl.evaluation.tasks import Task


def gold_kinds(task: Task) -> dict[str, Any]:
    return {"golds": dict(task.golds)} if task.golds else {}

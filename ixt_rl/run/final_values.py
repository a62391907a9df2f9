"""A stage's last figures."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from ixt_rl.run.answered import intervals
from ixt_rl.run.folder import StageFolder

_TAIL = 0.4  # training metrics are averaged over the last 40% of steps
_HEAD = 0.2  # and where a rise is asked for, set against the first 20%
ROW_KEYS = ("stage", "type", "seed", "phase", "step")
_TOTALS = ("rollouts", "flops", "seconds", "tokens", "tokens/annotate", "num_tokens")


def final_values(folder: StageFolder) -> dict[str, float]:
    """The last evaluation, training metrics averaged over the last 40% of steps, and how far `chosen*` have risen.

    `rise/chosen/rollout` is that average minus the one over the first 20% of steps; `sampled/strict_low` and `_high` an
    interval of the last evaluation, where it kept what it found of each problem.
    """
    rows = folder.metrics()
    last = max((row["step"] for row in rows), default=0)
    trained = [row for row in rows if row["phase"] == "train"]
    values = _means([row for row in trained if row["step"] > (1 - _TAIL) * last])
    start = _means([row for row in trained if row["step"] <= max(1, _HEAD * last)])
    chosen = [name for name in values if name.startswith("chosen") and name in start]
    values |= {f"rise/{name}": values[name] - start[name] for name in chosen}
    evaluation = {k: v for k, v in folder.final_metrics().items() if k not in ROW_KEYS and v is not None}
    return values | evaluation | intervals(folder.path) | _totals(rows)


class FinalValues:
    """`final_values` of stages that have ended for now, each computed once."""

    def __init__(self) -> None:
        self._found: dict[Path, dict[str, float]] = {}

    def of(self, folder: StageFolder) -> dict[str, float]:
        if folder.path not in self._found:
            self._found[folder.path] = final_values(folder)
        return self._found[folder.path]


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The mean of every metric over the rows that have it."""
    values: dict[str, float] = {}
    for name in {name for row in rows for name in row if name not in ROW_KEYS}:
        numbers = [row[name] for row in rows if isinstance(row.get(name), int | float)]
        if numbers:
            values[name] = statistics.fmean(numbers)
    return values


def _totals(rows: list[dict[str, Any]]) -> dict[str, float]:
    """What only grows, as the last row that has it says."""
    found: dict[str, float] = {}
    for row in rows:
        found |= {k: v for k, v in row.items() if (k in _TOTALS or k.startswith("flops/")) and v is not None}
    return found


def _values_at(folder: StageFolder, step: int) -> dict[str, Any]:
    for row in folder.metrics():
        if row["phase"] == "eval" and row["step"] == step:
            return {k: v for k, v in row.items() if k not in ROW_KEYS}
    return {}

"""Jinja as the report's pages use it: what their common parts ask for."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment

from ixt_rl.pages.templates import environment
from ixt_rl.report import arms
from ixt_rl.report.samples import shown


def report_environment(*folders: Path, **filters: Callable[..., Any]) -> Environment:
    """Templates of `folders` and of this one, with `filters` beside those of the common parts."""
    return environment(
        *folders,
        Path(__file__).parent,
        shown=shown,
        duration=_duration,
        score_name=arms.score_name,
        with_intervals=lambda groups: any(cell.interval for g in groups for r in g.rows for cell in r.cells.values()),
        groupby_runs=lambda columns: [
            (name, list(found)) for name, found in groupby(columns, key=lambda column: column.group)
        ],
        **filters,
    )


def _duration(seconds: float) -> str:
    """75.2 -> `1 min 15 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

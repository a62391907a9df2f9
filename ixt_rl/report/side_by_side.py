"""Several runs side by side: the same stages, one line and one row for each run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.lines import Line2D

from ixt_rl.pages.drawing import RC, Drawing, grid, inline_svg
from ixt_rl.report.figures.plotter import legend, run_looks, x_axis
from ixt_rl.report.figures.series import budget, mean_curve
from ixt_rl.report.results import Column, Row, ViewTable, results, shown_columns
from ixt_rl.report.run_folder import RunRecord, StageRecord, unique

MISSING = "not set"
_PANELS = (
    ("sampled/strict", "sampled, strict"),
    ("sampled/checked", "sampled, checked"),
    ("greedy/checked", "greedy, checked"),
    ("told/strict", "told the answer, strict"),
)
_DOCUMENT_PANELS = (
    ("sampled/strict", "sampled, strict"),
    ("greedy/strict", "greedy, strict"),
    ("sampled@none/strict", "no prefix, sampled"),
)


def named(runs: list[RunRecord], folders: list[Path]) -> dict[str, RunRecord]:
    """Runs by name; by folder where two runs share a name."""
    names = [run.name for run in runs]
    keys = [n if names.count(n) == 1 else f"{n} ({f})" for n, f in zip(names, folders, strict=True)]
    return dict(zip(keys, runs, strict=True))


def side_by_side(runs: dict[str, RunRecord]) -> list[ViewTable]:
    """Final figures of the stages that several runs have, grouped by view and label: a row is a run. After them those
    of one run alone, grouped by run and view: a row is a stage."""
    by_key: dict[tuple[str, str], list[tuple[str, Row]]] = {}
    for name, run in runs.items():
        for group in results(run):
            for row in group.rows:
                by_key.setdefault((group.view, row.label), []).append((name, row))
                for cell in row.cells.values():
                    cell.best = False  # runs are repetitions or changes, not rivals in one table
    views = unique(view for view, _ in by_key)
    shared: list[ViewTable] = []
    alone: dict[tuple[str, str], list[Row]] = {}
    for (view, label), found in sorted(by_key.items(), key=lambda item: views.index(item[0][0])):
        if len({name for name, _ in found}) > 1:
            rows = [Row(name, row.name, row.is_base, row.cells, row.seeds, row.note) for name, row in found]
            shared.append(ViewTable(f"{label}, {view}" if view else label, rows))
        else:
            alone.setdefault((found[0][0], view), []).extend(row for _, row in found)
    ordered = sorted(alone.items(), key=lambda item: [*runs].index(item[0][0]))
    return [*shared, *(ViewTable(f"{name}, {view}" if view else name, rows) for (name, view), rows in ordered)]


def tables(groups: list[ViewTable]) -> list[tuple[list[ViewTable], list[Column]]]:
    """Groups that stand in one table, with its columns.

    A group goes on with the one before it if all that one of the two measures the other measures, too: others would
    show each other's columns as dashes.
    """
    found: list[list[ViewTable]] = []
    for group in groups:
        seen, before = _outcomes([group]), _outcomes(found[-1]) if found else set()
        if found and (seen <= before or before <= seen):
            found[-1].append(group)
        else:
            found.append([group])
    return [(together, shown_columns(together)) for together in found]


def _outcomes(groups: list[ViewTable]) -> set[str]:
    return {column.key for column in shown_columns(groups) if column.measured}


def expectation_rows(
    runs: dict[str, RunRecord], read: Callable[[dict[str, Any]], list[dict[str, Any]]]
) -> list[tuple[str, str, list[dict[str, Any] | None]]]:
    """(text, bound, one verdict for each run) of what `read` finds in a summary: expectations or claims."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for name, run in runs.items():
        for item in read(run.summary):
            found.setdefault((item.get("says") or item["text"], item["bound"]), {})[name] = item
    return [(text, bound, [by_run.get(name) for name in runs]) for (text, bound), by_run in found.items()]


def differences(runs: dict[str, RunRecord]) -> list[tuple[str, list[str]]]:
    """Config keys whose values are not the same in all runs, with each run's; a stage's, in all runs that have it."""
    flat = [_flatten(run.config) for run in runs.values()]
    stages = [{stage["name"] for stage in run.config.get("stages") or []} for run in runs.values()]
    names, found = set().union(*stages), []
    for key in unique(key for config in flat for key in config if key != "name"):
        values = [str(config.get(key, MISSING)) for config in flat]
        stage = next((name for name in names if key.startswith(f"stages.{name}.")), None)
        compared = {value for value, there in zip(values, stages, strict=True) if stage is None or stage in there}
        if len(compared) > 1:
            found.append((key, values))
    return found


def unshared_stages(runs: dict[str, RunRecord]) -> list[tuple[list[str], list[str]]]:
    """(runs, stages that they have and others lack), by the runs; empty where no two runs share a stage."""
    by_runs: dict[tuple[str, ...], list[str]] = {}
    for stage, names in _runs_with(runs).items():
        if len(names) < len(runs) and not share_nothing(runs):
            by_runs.setdefault(tuple(names), []).append(stage)
    return [([*names], stages) for names, stages in by_runs.items()]


def share_nothing(runs: dict[str, RunRecord]) -> bool:
    """Whether no trained stage is in two of the runs."""
    return all(len(names) == 1 for names in _runs_with(runs).values())


def _runs_with(runs: dict[str, RunRecord]) -> dict[str, list[str]]:
    """The runs that have each trained stage."""
    found: dict[str, list[str]] = {}
    for name, run in runs.items():
        for stage in run.trained_stages:
            found.setdefault(f"{stage.label}, {stage.view}" if stage.view else stage.label, []).append(name)
    return found


def curves(runs: dict[str, RunRecord]) -> list[Drawing]:
    """One figure a view and label that several runs have: the mean curve of each against rollouts, or tokens."""
    keys = dict.fromkeys((stage.view, stage.label) for run in runs.values() for stage in run.trained_stages)
    drawings = []
    for index, (view, label) in enumerate(keys):
        stages = {name: stage for name, run in runs.items() if (stage := _stage(run, view, label)) is not None}
        if len(stages) < 2:
            continue  # its curve stands in its own run's report
        budgets = unique(budget(stage) for stage in stages.values())
        if len(budgets) > 1:
            continue  # the same name for two kinds of training: no common axis
        possible = _DOCUMENT_PANELS if budgets == ["tokens"] else _PANELS
        lines = {
            (name, key): mean_curve(runs[name], stage, key) for name, stage in stages.items() for key, _ in possible
        }
        panels = [(key, title) for key, title in possible if any(lines.get((name, key)) for name in runs)]
        if panels:
            title = f"{label}, {view}".strip(", ")
            drawings.append(_draw(list(runs), panels, lines, budgets[0], f"compare-{index}", title))
    return drawings


def _draw(names: list[str], panels, lines, x: str, file_name: str, title: str) -> Drawing:
    looks = run_looks(names)
    with matplotlib.rc_context(RC):
        fig, axes = grid(1, len(panels), sharey=True)
        for ax, (key, panel_title) in zip(axes[0], panels, strict=True):
            for name in names:
                if series := lines.get((name, key)):
                    look = looks[name]
                    ax.plot(
                        [x for _, x, _ in series], [y for _, _, y in series],
                        color=look.colour, marker=look.marker, markersize=4,
                    )  # fmt: skip
            ax.set_title(panel_title)
            x_axis(ax, x)
        axes[0][0].set_ylabel("share of problems")
        handles = [
            Line2D([], [], color=look.colour, marker=look.marker, markersize=5, label=name)
            for name, look in looks.items()
        ]
        legend(fig, handles)
        return Drawing(file_name, title, "Mean over each run's seeds.", inline_svg(fig, file_name))


def _stage(run: RunRecord, view: str, label: str) -> StageRecord | None:
    return next((stage for stage in run.trained_stages if (stage.view, stage.label) == (view, label)), None)


def _flatten(value: Any, path: str = "") -> dict[str, Any]:
    """{a: {b: 1}, stages: [{name: x, ...}]} -> {"a.b": 1, "stages.x. ...": ...}."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        items = [(item.get("name", i), item) for i, item in enumerate(value)]
    else:
        return {path: value}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat |= _flatten(item, f"{path}.{key}" if path else str(key))
    return flat

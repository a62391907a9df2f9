"""summary.json: final values per stage and seed, their means and spreads, and what was expected."""

from __future__ import annotations

import statistics
from typing import Any

from ixt_rl.config.expectations import Expectation
from ixt_rl.config.load import resolved
from ixt_rl.config.schema import RunConfig
from ixt_rl.files import write_json
from ixt_rl.report.arms import named_efficiency
from ixt_rl.report.run_files import Run, make_stages, view_of
from ixt_rl.run.folder import RunFolder, StageFolder

_TAIL = 0.4  # training metrics are averaged over the last 40% of steps
_HEAD = 0.2  # and where a rise is asked for, set against the first 20%
_ROW_KEYS = ("stage", "type", "seed", "phase", "step")
_TOTALS = ("rollouts", "flops", "seconds", "tokens", "tokens/judged")


def summarise(config: RunConfig, folder: RunFolder, reason: str | None, seconds: float) -> dict[str, Any]:
    """Writes and returns the summary; `reason` says why the run stopped early, if it did."""
    stages = []
    for stage in config.stages:
        folders = [f for f in folder.stages if f.stage == stage.name and f.path.is_dir()]
        if folders:
            stages.append(_stage_summary(stage, folders))
    run = _as_run(config, folder)
    summary = {
        "name": config.name,
        "status": "finished" if reason is None else "stopped",
        "reason": reason,
        "seconds": round(seconds, 1),
        "seeds": config.seeds,
        "stages": stages,
        "expectations": [_check(expectation, folder, run) for expectation in config.expect],
        "claims": [{**_check(claim, folder, run), "says": claim.says} for claim in config.claims],
    }
    write_json(folder.path / "summary.json", summary, indent=1)
    return summary


def _stage_summary(stage, folders: list[StageFolder]) -> dict[str, Any]:
    finals = {str(f.seed): final_values(f) for f in folders}
    names = sorted({name for values in finals.values() for name in values})
    columns = {name: [v[name] for v in finals.values() if v.get(name) is not None] for name in names}
    results = [f.result() for f in folders]
    optim = getattr(stage, "optim", None)
    return {
        "name": stage.name,
        "type": stage.type,
        "label": stage.name,
        "view": view_of(stage.model_dump()),
        "lr": optim.lr if optim else None,
        "init": stage.init,
        "seconds": round(sum(r.get("seconds", 0.0) for r in results), 1),
        "seeds": finals,
        "mean": {name: statistics.fmean(v) for name, v in columns.items() if v},
        "spread": {name: statistics.stdev(v) if len(v) > 1 else None for name, v in columns.items() if v},
        "start": _values_at(folders[0], 0),
        "reward_errors": sum(r.get("reward_errors", 0) for r in results),
        "notes": [note for r in results for note in r.get("notes", [])],
        "prompt_lengths": results[0].get("prompt_lengths"),
    }


def final_values(folder: StageFolder) -> dict[str, float]:
    """The last evaluation, training metrics averaged over the last 40% of steps, and how far `chosen*` have risen.

    `rise/chosen/rollout` is that average minus the one over the first 20% of steps.
    """
    rows = folder.metrics()
    last = max((row["step"] for row in rows), default=0)
    trained = [row for row in rows if row["phase"] == "train"]
    values = _means([row for row in trained if row["step"] > (1 - _TAIL) * last])
    start = _means([row for row in trained if row["step"] <= max(1, _HEAD * last)])
    chosen = [name for name in values if name.startswith("chosen") and name in start]
    values |= {f"rise/{name}": values[name] - start[name] for name in chosen}
    evaluation = {k: v for k, v in folder.final_metrics().items() if k not in _ROW_KEYS and v is not None}
    return values | evaluation | _totals(rows)


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The mean of every metric over the rows that have it."""
    values: dict[str, float] = {}
    for name in {name for row in rows for name in row if name not in _ROW_KEYS}:
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
            return {k: v for k, v in row.items() if k not in _ROW_KEYS}
    return {}


def _check(expectation: Expectation, folder: RunFolder, run: Run) -> dict[str, Any]:
    """The expectation with its measured value and whether it holds; None where it was not measured."""
    value, note = _measured(expectation, expectation.stage, folder, run)
    if expectation.minus is not None and value is not None:
        other, note = _measured(expectation, expectation.minus, folder, run)
        value = None if other is None else value - other
    if expectation.over is not None and value is not None:
        other, note = _measured(expectation, expectation.over, folder, run)
        value = value / other if other else None
    bounds = [
        (f">= {expectation.at_least:g}", None if value is None else value >= expectation.at_least)
        if expectation.at_least is not None
        else None,
        (f"<= {expectation.at_most:g}", None if value is None else value <= expectation.at_most)
        if expectation.at_most is not None
        else None,
    ]
    given = [bound for bound in bounds if bound is not None]
    text = f"{expectation.stage}: {expectation.metric}"
    if expectation.minus is not None:
        text += f", minus {expectation.minus}"
    if expectation.over is not None:
        text += f", over {expectation.over}"
    if expectation.at_step is not None:
        text += f", at step {expectation.at_step}"
    return {
        "text": text,
        "value": value,
        "note": note,
        "bound": " and ".join(bound for bound, _ in given),
        "holds": None if value is None else all(holds for _, holds in given),
    }


def _measured(expectation: Expectation, stage: str, folder: RunFolder, run: Run) -> tuple[float | None, str]:
    """The mean over seeds of a metric of `stage`, or its compute-efficiency; with what to know about it."""
    match = named_efficiency(run, expectation.metric, stage)
    if match is None:
        return _mean(expectation, stage, folder), ""
    return match.ratio, match.refused or (f"fragile: {match.fragile}" if match.fragile else "")


def _mean(expectation: Expectation, stage: str, folder: RunFolder) -> float | None:
    folders = [f for f in folder.stages if f.stage == stage and f.path.is_dir()]
    if expectation.at_step is None:
        values = [final_values(f).get(expectation.metric) for f in folders]
    else:
        values = [_values_at(f, expectation.at_step).get(expectation.metric) for f in folders]
    measured = [v for v in values if v is not None]
    return statistics.fmean(measured) if measured and len(measured) == len(folders) else None


def _as_run(config: RunConfig, folder: RunFolder) -> Run:
    """The run so far, as the report reads it."""
    plain = resolved(config)
    rows = [{**row, "stage": stage.stage} for stage in folder.stages for row in stage.metrics()]
    return Run(config.name, plain, "", rows, [], {}, make_stages(plain, {}, rows), [])

"""Whether what a run file expects holds."""

from __future__ import annotations

import statistics
from typing import Any

from ixt_rl.config.expectations import ExpectationBlock
from ixt_rl.report.arms import named_efficiency
from ixt_rl.report.run_folder import RunRecord
from ixt_rl.run.answered import interval_of, ratio_of
from ixt_rl.run.final_values import FinalValues, _values_at
from ixt_rl.run.folder import RunFolder, StageFolder


def _check(expectation: ExpectationBlock, folder: RunFolder, run: RunRecord, finals: FinalValues) -> dict[str, Any]:
    """The expectation with its measured value and whether it holds; None where it was not measured.

    With an interval, `sure` says whether its ends are on the value's side of the bounds.
    """
    value, note = _measured(expectation, expectation.stage, folder, run, finals)
    if expectation.minus is not None and value is not None:
        other, note = _measured(expectation, expectation.minus, folder, run, finals)
        value = None if other is None else value - other
    if expectation.over is not None and value is not None:
        other, note = _measured(expectation, expectation.over, folder, run, finals)
        value = value / other if other else None
    least, most = expectation.at_least, expectation.at_most
    bounds = [*([] if least is None else [f">= {least:g}"]), *([] if most is None else [f"<= {most:g}"])]

    def within(number: float) -> bool:
        return (least is None or number >= least) and (most is None or number <= most)

    interval = {} if value is None else _interval(expectation, folder, finals)
    ends = {within(interval[end]) for end in ("low", "high") if end in interval}
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
        **interval,
        **({"sure": ends == {within(value)}} if ends and value is not None else {}),
        "bound": " and ".join(bounds),
        "holds": None if value is None else within(value),
    }


def _interval(expectation: ExpectationBlock, folder: RunFolder, finals: FinalValues) -> dict[str, float]:
    """`low`, `high` and, of a difference or a ratio, `p`, where the last evaluations kept what they found of each
    problem, or a metric of one seed has them beside it."""
    if expectation.at_step is not None:
        return {}
    stages, others = (_of(name, folder) for name in (expectation.stage, expectation.minus))
    if expectation.over is not None:
        return ratio_of(expectation.metric, stages, _of(expectation.over, folder))
    if expectation.minus is None and len(stages) == 1:
        values, name = finals.of(stages[0]), expectation.metric
        return {end: values[f"{name}_{end}"] for end in ("low", "high", "p") if f"{name}_{end}" in values}
    return interval_of(expectation.metric, stages, others)


def _measured(
    expectation: ExpectationBlock, stage: str, folder: RunFolder, run: RunRecord, finals: FinalValues
) -> tuple[float | None, str]:
    """The mean over seeds of a metric of `stage`, or its compute-efficiency; with what to know about it."""
    match = named_efficiency(run, expectation.metric, stage)
    if match is None and expectation.at_step is None and not all(map(_ended, _of(stage, folder))):
        return None, f"{stage} has not ended"  # its last evaluation may be that of the beginning
    if match is None:
        return _mean(expectation, stage, folder, finals), ""
    return match.ratio, match.refused or (f"fragile: {match.fragile}" if match.fragile else "")


def _mean(expectation: ExpectationBlock, stage: str, folder: RunFolder, finals: FinalValues) -> float | None:
    folders = _of(stage, folder)
    if expectation.at_step is None:
        values = [finals.of(f).get(expectation.metric) for f in folders]
    else:
        values = [_values_at(f, expectation.at_step).get(expectation.metric) for f in folders]
    measured = [v for v in values if v is not None]
    return statistics.fmean(measured) if measured and len(measured) == len(folders) else None


def _of(stage: str | None, folder: RunFolder) -> list[StageFolder]:
    """What there is of a stage, by seed."""
    return [f for f in folder.stages if f.stage == stage and f.path.is_dir()]


def _ended(folder: StageFolder) -> bool:
    """Whether a stage once came to its end, whatever has changed since."""
    return (folder.path / "done.json").is_file()

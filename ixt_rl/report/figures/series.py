"""Series of a run: means over seeds, smoothing, axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from ixt_rl.report.run_folder import RunRecord, StageRecord, number

Value = Callable[[dict], float | None]


def plain(key: str) -> Value:
    """Reads metric `key` of a row."""
    return lambda row: number(row.get(key))


def budget(stage: StageRecord) -> str:
    """What a stage's progress is counted in: `tokens`, `rollouts`, or `step` where some arms have no rollouts."""
    return "tokens" if stage.documents else "step" if stage.suffixes else "rollouts"


def mean_curve(run: RunRecord, stage: StageRecord, key: str) -> list[tuple[int, float, float]]:
    """(step, tokens, rollouts or step, value) of a stage's evaluations, averaged over seeds."""
    seeds = [_series(rows, budget(stage), plain(key)) for rows in run.stage_rows(stage, "eval").values()]
    return mean_series([series for series in seeds if series])


def mean_series(seeds: list[list[tuple[int, float, float]]]) -> list[tuple[int, float, float]]:
    """(step, x, y) of the mean over seeds, at the steps that every seed has: fewer would mix in who is left."""
    if not seeds:
        return []
    at = [{step: (x, y) for step, x, y in series} for series in seeds]
    steps = sorted(set.intersection(*(set(found) for found in at)))
    return [(step, fmean(f[step][0] for f in at), fmean(f[step][1] for f in at)) for step in steps]


def window(points: int) -> int:
    """An odd window of about a tenth of the points."""
    return max(1, points // 20 * 2 + 1)


def rolling_mean(values: Sequence[float], width: int) -> list[float]:
    """Centred rolling mean; at the ends over what there is."""
    half = width // 2
    return [fmean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]


def _series(rows: list[dict], x: str, value: Value) -> list[tuple[int, float, float]]:
    found = []
    for row in rows:
        at, y = number(row.get(x)), value(row)
        if at is not None and y is not None:
            found.append((int(row["step"]), at, y))
    return found


def _xy(series: list[tuple[int, float, float]]) -> tuple[list[float], list[float]]:
    return [x for _, x, _ in series], [y for _, _, y in series]

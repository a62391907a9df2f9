"""Series of a run: means over seeds, smoothing, axes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from statistics import fmean

from ixt_rl.report.run_folder import RunRecord, StageRecord, number

_COMPARISON = re.compile(r"/(?:\w+_)?(?:win_rate|win_share|wins|ties|losses)$")

Value = Callable[[dict], float | None]


def plain(key: str) -> Value:
    """Reads metric `key` of a row."""
    return lambda row: number(row.get(key))


def budget(stage: StageRecord) -> str:
    """What a stage's progress is counted in: `tokens`, `rollouts`, or `step` where some arms have no rollouts."""
    return "tokens" if stage.documents else "step" if stage.suffixes else "rollouts"


def against(stage: StageRecord) -> str:
    """The stage that `evaluation.against` compares with; "" for the originals."""
    return (stage.config.get("evaluation") or {}).get("against") or ""


def mean_curve(run: RunRecord, stage: StageRecord, key: str) -> list[tuple[int, float, float]]:
    """(step, tokens, rollouts or step, value) of a stage's evaluations, averaged over seeds."""
    seeds = [_series(rows, budget(stage), plain(key)) for rows in evaluations(run, stage).values()]
    return mean_series([series for series in seeds if series])


def evaluations(run: RunRecord, stage: StageRecord) -> dict[int, list[dict]]:
    """Evaluation rows by seed; before them, where a stage has none of its start, that of another stage from there.

    Documents are left out: a start is asked with another prefix there.
    """
    found = run.stage_rows(stage, "eval")
    if not (stage.online or stage.suffixes):
        return found
    others = [one for one in run.stages if one is not stage and _starts_alike(one, stage)]
    for seed, rows in found.items():
        measured = [(one, run.stage_rows(one, "eval").get(seed, [])) for one in others]
        start = next(((one, theirs[0]) for one, theirs in measured if theirs and theirs[0]["step"] == 0), None)
        if rows[0]["step"] > 0 and start is not None:
            found[seed] = [_without_comparisons(start[1]) if against(start[0]) != against(stage) else start[1], *rows]
    return found


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


def _starts_alike(one: StageRecord, other: StageRecord) -> bool:
    """Whether one stage measures, before any update, the model that the other starts from, and in the same way."""
    kinds = one.learns_from == other.learns_from or one.type == "evaluate"
    return kinds and one.after == other.after and one.view == other.view and _asked(one) == _asked(other)


def _without_comparisons(row: dict) -> dict:
    return {key: value for key, value in row.items() if not _COMPARISON.search(key)}


def _asked(stage: StageRecord) -> tuple:
    section = stage.config if stage.type == "evaluate" else stage.config.get("evaluation") or {}
    return stage.config.get("template"), section.get("problems"), section.get("prefixes")


def _series(rows: list[dict], x: str, value: Value) -> list[tuple[int, float, float]]:
    found = []
    for row in rows:
        at, y = number(row.get(x)), value(row)
        if at is not None and y is not None:
            found.append((int(row["step"]), at, y))
    return found


def _xy(series: list[tuple[int, float, float]]) -> tuple[list[float], list[float]]:
    return [x for _, x, _ in series], [y for _, _, y in series]

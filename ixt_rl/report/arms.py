"""The arms of a run on documents: their curves, which of them is plain training, and what each of the others saves.

An arm is a stage on documents together with the stages on documents that it goes on from: rows carry the FLOPs
and tokens of those too, so their curves join.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ixt_rl.evaluation import efficiency
from ixt_rl.evaluation.efficiency import Match
from ixt_rl.report.run_folder import RunRecord, StageRecord, finals, number, unique

BEST = "best temperature"
_TEMPERATURE = re.compile(r"sampled@t([0-9.]+)/strict")
_AT = re.compile(r"t[0-9.]+")
_EFFICIENCY = re.compile(r"(efficiency|efficiency-without-annotation)@([0-9.]+)/(.+)")


@dataclass(frozen=True)
class Table:
    """Efficiency of a view's arms by one metric.

    Args:
        metric: name of the score, or `BEST`.
        plain: name of the stage that the others are compared with.
        arms: names of the others.
        rows: (score, for each arm the match with annotation and the one without).
        annotated: whether any FLOPs went into annotation.
    """

    metric: str
    plain: str
    arms: list[str]
    rows: list[tuple[float, list[tuple[Match, Match]]]]
    annotated: bool

    @property
    def notes(self) -> list[str]:
        """For each score what holds of all its matches: why there is no ratio, or why none is to be relied on."""
        said = [{m.refused or m.fragile for pair in found for m in pair} for _, found in self.rows]
        return [next(iter(reasons)) if len(reasons) == 1 else "" for reasons in said]


@dataclass(frozen=True)
class Temperatures:
    """Strict share at each temperature, 0 being greedy: (arm, mean and spread by temperature)."""

    temperatures: list[float]
    rows: list[tuple[str, dict[float, tuple[float, float | None]]]]


def lineage(run: RunRecord, stage: StageRecord) -> list[StageRecord]:
    """The stage and, before it, those on documents that it goes on from; the oldest first."""
    by_name = {found.name: found for found in run.stages}
    line = [stage]
    while (before := by_name.get(line[0].after or "")) is not None and before.documents:
        line.insert(0, before)
    return line


def curve(
    run: RunRecord, stage: StageRecord, metric: str, annotation: bool = True
) -> dict[int, list[tuple[float, float]]]:
    """(FLOPs, score) of an arm's evaluations by seed.

    Args:
        metric: a metric of the evaluation rows, or `BEST`: at each evaluation the best temperature's.
        annotation: whether the judge's FLOPs count.
    """
    line = [run.stage_rows(found, "eval") for found in lineage(run, stage)]
    curves: dict[int, list[tuple[float, float]]] = {}
    for seed, own in line[-1].items():
        # a stage before it may have been trained once, for all seeds
        before = [row for rows in line[:-1] for row in rows.get(seed) or next(iter(rows.values()), [])]
        points = []
        for row in [*before, *own]:
            flops, score = number(row.get("flops")), _score(row, metric)
            if flops is not None and score is not None:
                points.append((flops if annotation else flops - (number(row.get("flops/annotate")) or 0.0), score))
        if points:
            curves[seed] = points
    return curves


def is_plain(run: RunRecord, stage: StageRecord) -> bool:
    """Trained on the documents as they are: no feedback shown, none left out by level, nor before."""
    return all(not shows_feedback(found.config) and not kept_levels(found.config) for found in lineage(run, stage))


def shows_feedback(block: dict[str, Any]) -> bool:
    """Whether a stage's config puts feedback before its documents."""
    feedback = block.get("feedback")
    return isinstance(feedback, dict) and bool(feedback.get("template")) and feedback.get("fraction") != 0


def kept_levels(block: dict[str, Any]) -> list[int]:
    """The levels that a stage's config trains on; empty: all."""
    return (block.get("data") or {}).get("keep_levels") or []


def plain_arm(run: RunRecord, view: str) -> StageRecord | None:
    """The view's plain training; of several, the one that was trained on the most tokens."""
    found = [stage for stage in run.document_stages if stage.view == view and is_plain(run, stage)]
    measured = [stage for stage in found if run.stage_rows(stage, "eval")]
    return max(measured, key=lambda stage: number(finals(run, stage)[0].get("tokens")) or 0.0, default=None)


def efficiency_tables(run: RunRecord, view: str) -> list[Table]:
    """One table for each score: sampled, greedy, and at the best temperature where every evaluation has several."""
    plain = plain_arm(run, view)
    if plain is None:
        return []
    arms = [
        stage
        for stage in run.document_stages
        if stage.view == view and not is_plain(run, stage) and run.stage_rows(stage, "eval")
    ]
    tables = []
    for metric in _score_names(run, [plain, *arms]):
        plain_curves = curve(run, plain, metric)
        measured = [stage for stage in arms if curve(run, stage, metric)]
        reached = [points for stage in measured for points in curve(run, stage, metric).values()]
        scores = efficiency.matched_scores(list(plain_curves.values()), reached)
        if not scores or not measured:
            continue
        rows = []
        for score in scores:
            found = [
                (match(run, plain, a, metric, score, True), match(run, plain, a, metric, score, False))
                for a in measured
            ]
            rows.append((score, found))
        annotated = any(number(row.get("flops/annotate")) for row in run.rows)
        tables.append(Table(metric, plain.name, [arm.name for arm in measured], rows, annotated))
    return tables


def match(run: RunRecord, plain: StageRecord, arm: StageRecord, metric: str, score: float, annotation: bool) -> Match:
    """The arm's efficiency against plain training at one score of `metric`."""
    counts = [problems(stage) for stage in (plain, arm)]
    known = [count for count in counts if count]
    return efficiency.match(
        curve(run, plain, metric, annotation),
        curve(run, arm, metric, annotation),
        score,
        problems=min(known) if known else None,
        arm_name=arm.name,
    )


def named_efficiency(run: RunRecord, name: str, stage_name: str) -> Match | None:
    """The match that a metric of an expectation names; None where the name is another metric's.

    Args:
        name: `efficiency@0.15/sampled/strict`, or `efficiency-without-annotation@...`: that score of that metric.
        stage_name: the arm.
    """
    parsed = _EFFICIENCY.fullmatch(name)
    if parsed is None:
        return None
    kind, score, metric = parsed.groups()
    arm = next((stage for stage in run.document_stages if stage.name == stage_name), None)
    plain = plain_arm(run, arm.view) if arm is not None else None
    if arm is None or plain is None:
        return Match(float(score), None, refused="there is no plain training to compare with")
    return match(run, plain, arm, metric, float(score), kind == "efficiency")


def readings(tables: list[Table]) -> list[str]:
    """What the tables bear out, in sentences: ratios with a confidence band that leaves out 1, and no others."""
    said = []
    for table in tables:
        for index, arm in enumerate(table.arms):
            clear = [(score, found[index][0]) for score, found in table.rows if found[index][0].differs]
            if clear:
                score, best = clear[-1]
                said.append(
                    f"{score_name(table.metric)}, {score:g}: {table.plain} needs {best.ratio:.2f} times the FLOPs of "
                    f"{arm} ({best.low:.2f} to {best.high:.2f}, annotation included)."
                )
    return said


def temperatures(run: RunRecord, view: str) -> Temperatures | None:
    """Strict shares of the view's arms by temperature; None where only one temperature was sampled."""
    stages = [stage for stage in run.document_stages if stage.view == view]
    rows = []
    for stage in stages:
        mean, spread = finals(run, stage)
        found = {
            at: (value, number(spread.get(name)))
            for name in mean
            if (at := temperature(name)) is not None and (value := number(mean[name])) is not None
        }
        if found:
            rows.append((stage.name, found))
    every = sorted({at for _, found in rows for at in found})
    if len([at for at in every if at > 0]) < 2:
        return None
    return Temperatures(every, rows)


def temperature(metric: str) -> float | None:
    """Temperature of a strict share with the wished feedback; None for any other metric."""
    if metric == "greedy/strict":
        return 0.0
    if metric == "sampled/strict":
        return 1.0
    parsed = _TEMPERATURE.fullmatch(metric)
    return float(parsed.group(1)) if parsed else None


def problems(stage: StageRecord) -> int | None:
    """Held-out problems of a stage's evaluations on the way."""
    evaluation = stage.config.get("evaluation") or {}
    count = evaluation.get("curve_problems", evaluation.get("problems"))
    return count if isinstance(count, int) else None


def wish_of(mode: str) -> str:
    """Name of the wished feedback in `sampled@t0.5@worst`; empty where it is the arm's own."""
    return "@".join(part for part in mode.split("@")[1:] if not _AT.fullmatch(part))


def score_name(metric: str) -> str:
    """`sampled/strict` -> `Sampled, strict`."""
    if metric == BEST:
        return "Each arm at its best temperature, strict"
    mode, _, name = metric.partition("/")
    return f"{mode.capitalize()}, {name}"


def _score(row: dict[str, Any], metric: str) -> float | None:
    if metric != BEST:
        return number(row.get(metric))
    names = [name for name in row if name in ("greedy/strict", "sampled/strict") or _TEMPERATURE.fullmatch(name)]
    return max((value for name in names if (value := number(row[name])) is not None), default=None)


def _score_names(run: RunRecord, stages: list[StageRecord]) -> list[str]:
    rows = [row for stage in stages for found in run.stage_rows(stage, "eval").values() for row in found]
    keys = set(unique(key for row in rows for key in row))
    kind = "strict" if keys & {"sampled/strict", "greedy/strict"} else "checked"
    names = [f"{mode}/{kind}" for mode in ("sampled", "greedy") if f"{mode}/{kind}" in keys]
    everywhere = set.intersection(*(set(row) for row in rows)) if rows else set()
    return names + ([BEST] if any(_TEMPERATURE.fullmatch(key) for key in everywhere) else [])

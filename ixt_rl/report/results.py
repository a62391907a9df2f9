"""Final figures of a run as table rows, grouped by view, the base model first.

The page, the comparison and the terminal show the same rows with the columns of `COLUMNS`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ixt_rl.pages.numbers import engineering
from ixt_rl.report.arms import shows_feedback, wish_of
from ixt_rl.report.run_folder import RunRecord, StageRecord, cost, finals, make_stages, number, unfinished, unique

DASH = "–"


@dataclass(frozen=True)
class Column:
    """One column of the results.

    Args:
        key: the metric, or `learning_rate`, `flops`, `seconds`.
        group, title: the two header lines.
        short: the header in the terminal; None leaves the column out there.
        best: whether the highest, the lowest or no value is marked.
        measured: an outcome, so that the base model has it too; else a cost or a setting.
    """

    key: str
    group: str
    title: str
    short: str | None
    best: Callable | None = None
    measured: bool = True


COLUMNS = (
    Column("learning_rate", "", "learning rate", None, measured=False),
    Column("sampled/strict", "sampled", "strict", "sampled\nstrict", max),
    Column("sampled/checked", "sampled", "checked", "sampled\nchecked", max),
    Column("sampled/lucky_of_checked", "sampled", "lucky share", "lucky\nshare", min),
    Column("sampled/checked_lower", "sampled", "undecided as 0", None, max),
    Column("sampled/undecided", "sampled", "undecided", "un-\ndecided", min),
    Column("sampled/length", "sampled", "length", "length"),
    Column("sampled/unreasoned", "sampled", "no reasoning", "no rea-\nsoning", min),
    Column("sampled/truncated", "sampled", "truncated", None, min),
    Column("greedy/strict", "greedy", "strict", "greedy\nstrict", max),
    Column("greedy/checked", "greedy", "checked", "greedy\nchecked", max),
    *(
        Column(f"{mode}/{name}", mode, title, f"{mode}\n{short}" if short else None, best)
        for mode in ("greedy", "sampled")
        for name, title, short, best in (
            ("right", "right", "right", max),
            ("quality", "quality", None, max),
            ("factuality", "factuality", "factual", max),
            ("safety", "safety", "safe", max),
            ("win_rate", "win rate", "win rate", max),
            ("win_share", "win rate without ties", None, max),
            ("ties", "ties", None, None),
            ("grounding", "grounding", "grounded", max),
            ("repetition", "repetition", "repeats", None),
            ("copying", "copied from the prefix", "copies", None),
            ("likelihood", "likelihood", None, max),
            ("likelihood_win_rate", "likelihood win rate", "likelier", max),
        )
    ),
    Column("told/strict", "told", "strict", "told\nstrict", max),
    Column("told/checked", "told", "checked", "told\nchecked", max),
    Column("told/undecided", "told", "undecided", None, min),
    Column("told/length", "told", "length", None),
    Column("sampled@worst/strict", "worst prefix, strict", "sampled", "worst\nprefix"),
    Column("greedy@worst/strict", "worst prefix, strict", "greedy", None),
    Column("sampled@none/strict", "no prefix, strict", "sampled", "no\nprefix", max),
    Column("greedy@none/strict", "no prefix, strict", "greedy", None, max),
    Column("pairs/margin", "preference pairs", "margin, nats", "pairs\nmargin", max),
    Column("pairs/margin_per_token", "preference pairs", "margin a token", None, max),
    Column("pairs/accuracy", "preference pairs", "chosen ahead", "chosen\nahead", max),
    Column("pairs/perplexity", "preference pairs", "perplexity", None, min),
    Column("pairs@none/margin", "no prefix, pairs", "margin, nats", "no prefix\nmargin", max),
    Column("pairs@none/accuracy", "no prefix, pairs", "chosen ahead", None, max),
    Column("pairs@none/perplexity", "no prefix, pairs", "perplexity", None, min),
    Column("pairs@none/drop", "no prefix, pairs", "below the wish before", None),
    Column("pairs@worst/margin", "worst prefix, pairs", "margin, nats", "worst\nmargin"),
    Column("pairs@worst/accuracy", "worst prefix, pairs", "chosen ahead", None),
    Column("pairs@worst/drop", "worst prefix, pairs", "below the wish before", None),
    Column("heldout/loss", "held-out documents", "loss", "held-out\nloss", min),
    Column("heldout/perplexity", "held-out documents", "perplexity", None, min),
    Column("tokens", "per seed", "trained tokens", "tokens", measured=False),
    Column("flops", "per seed", "FLOPs", "FLOPs", min, measured=False),
    Column("flops/annotate", "per seed", "of which annotation", "anno-\ntation", measured=False),
    Column("seconds", "per seed", "seconds", "s", measured=False),
)


_WISHED = re.compile(r"(sampled|greedy)@(?!t[0-9.]+/)([^/@]+)/strict")
COUNTS = ("tokens", "flops", "flops/annotate")


@dataclass
class Cell:
    """A value, its spread over seeds, its text, whether it is the best of its view, and its interval as text."""

    value: float | None = None
    spread: float | None = None
    text: str = DASH
    best: bool = False
    interval: str = ""


@dataclass
class Row:
    """One model in one view; `name` is the stage's, `note` says what is unusual about it."""

    label: str
    name: str
    is_base: bool
    cells: dict[str, Cell]
    seeds: dict[str, dict[str, Any]] = field(default_factory=dict)
    note: str = ""


@dataclass
class ViewTable:
    """The rows of one view."""

    view: str
    rows: list[Row]


def results(run: RunRecord) -> list[ViewTable]:
    """Rows of every view in which something was measured."""
    groups = []
    for view in run.views:
        stages = [s for s in run.stages if s.view == view and s.compared]
        rows = [row for stage in stages if (row := _row(run, stage)) is not None]
        if not any(row.is_base for row in rows):
            rows = [row for stage in stages if (row := _start_row(run, stage)) is not None][:1] + rows
        rows.sort(key=lambda row: not row.is_base)
        bases = [row for row in rows if row.is_base]
        for row in bases if len(bases) > 1 else ():
            row.label = row.name  # measured in several ways, they are told apart
        if rows:
            _mark_best(rows)
            groups.append(ViewTable(view, rows))
    return groups


def summary_results(summary: dict[str, Any]) -> list[ViewTable]:
    """As `results`, from summary.json alone."""
    stages = make_stages({}, summary, [])
    return results(RunRecord(str(summary.get("name")), {}, "", [], [], summary, stages, []))


def shown_columns(groups: list[ViewTable]) -> list[Column]:
    """The columns in which at least one row has a value; `told/checked` only where no row is strict."""
    rows = [row for group in groups for row in group.rows]
    columns = _columns(unique(key for row in rows for key in row.cells))
    shown = [column for column in columns if any(row.cells[column.key].value is not None for row in rows)]
    keys = {column.key for column in shown}
    hidden = {"told/checked"} & keys if "told/strict" in keys else set()
    if all(not row.cells["sampled/truncated"].value for row in rows):
        hidden.add("sampled/truncated")
    return [column for column in shown if column.key not in hidden]


def metric(values: dict[str, Any], key: str) -> float | None:
    """A metric; the share without reasoning is what `reasoned` leaves."""
    if key == "sampled/unreasoned":
        reasoned = number(values.get("sampled/reasoned"))
        return None if reasoned is None else 1 - reasoned
    return number(values.get(key))


def figure(key: str, value: float | None, spread: float | None = None) -> str:
    """A value as the tables show it, with ± its spread."""
    if value is None:
        return DASH
    if key in COUNTS:
        return engineering(value)
    if key == "learning_rate":
        return f"{value:.3g}"
    digits = {"seconds": 0, "sampled/length": 1, "told/length": 1}.get(key, 3)
    text = f"{value:.{digits}f}"
    return text if spread is None else f"{text} ± {spread:.{digits}f}"


def expectations(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The run's expectations with `verdict`: `holds`, `does not hold` or `could not be measured`."""
    verdicts = {True: "holds", False: "does not hold", None: "could not be measured"}
    return [_checked(item, verdicts) for item in summary.get("expectations") or []]


def claims(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Claims, a paper's or the run file's own (`says`), with `verdict`: `reproduced`, `not reproduced`, `undecided`
    where an interval reaches over its bound, or `not measured`."""
    verdicts = {True: "reproduced", False: "not reproduced", None: "not measured"}
    items = summary.get("claims") or []
    unsure = [{"verdict": "undecided"} if item.get("sure") is False else {} for item in items]
    found = [{**_checked(item, verdicts), "says": str(item.get("says", ""))} for item in items]
    return [{**claim, **verdict} for claim, verdict in zip(found, unsure, strict=True)]


def _checked(item: dict[str, Any], verdicts: dict[bool | None, str]) -> dict[str, Any]:
    return {
        "text": str(item.get("text", "")),
        "bound": str(item.get("bound", "")),
        "value": _with_interval(item),
        "note": str(item.get("note") or ""),
        "verdict": verdicts.get(item.get("holds"), verdicts[None]),
    }


def _with_interval(item: dict[str, Any]) -> str:
    """The measured value, and in brackets its interval and p-value where it has them."""
    value, low, high, p = (number(item.get(name)) for name in ("value", "low", "high", "p"))
    if value is None:
        return DASH
    shown = _beside(value, str(item.get("bound", "")))
    if low is None or high is None:
        return shown
    chance = "" if p is None else f", p = {p:.2g}"
    return f"{shown} ({low:.3g} to {high:.3g}{chance})"


def _beside(value: float, bound: str) -> str:
    """The value in three digits, or as many more as it takes to be seen on its side of the bounds: 1.006, not 1.01."""
    bounds = [one for one in map(number, bound.split()) if one is not None]

    def sides(number: float) -> list[tuple[bool, bool]]:
        return [(number < one, number > one) for one in bounds]

    tried = (f"{value:.{digits}g}" for digits in range(3, 17))
    return next((text for text in tried if sides(float(text)) == sides(value)), f"{value:.17g}")


def status(run: RunRecord) -> tuple[str, str]:
    """(`finished` | `stopped` | `unfinished`, why)."""
    stated = run.summary.get("status")
    if stated == "finished":
        return "finished", ""
    if stated == "stopped":
        return "stopped", str(run.summary.get("reason") or "no reason was recorded")
    return "unfinished", "there is no summary.json: the run is still going, or was cut off without a word"


def missing_stages(run: RunRecord) -> list[str]:
    """Stages of the config that left no result."""
    return unique(
        stage.name
        for stage in run.stages
        if stage.config and not stage.summary.get("mean") and not any(r.get("stage") == stage.name for r in run.rows)
    )


def _row(run: RunRecord, stage: StageRecord) -> Row | None:
    mean, spread = finals(run, stage)
    measured = any(metric(mean, column.key) is not None for column in COLUMNS if column.measured)
    if not measured and not (stage.documents and mean):  # those have at least tokens and FLOPs to show
        return None
    is_base = stage.role == "measured" and stage.of is None
    values = {**mean, "learning_rate": None, "seconds": None} | dict.fromkeys(COUNTS)
    if stage.trained:
        values |= {"learning_rate": stage.learning_rate, "flops": cost(run, stage, "flops")}
        values["seconds"] = cost(run, stage, "seconds")
    if stage.role == "base" or (stage.documents and stage.config and not shows_feedback(stage.config)):
        values = {name: value for name, value in values.items() if not wish_of(name.partition("/")[0])}
    if stage.documents or stage.suffixes:
        values |= {"tokens": cost(run, stage, "tokens"), "flops/annotate": cost(run, stage, "flops/annotate")}
    label = stage.label
    if stage.role == "measured" and stage.of is not None:
        label = f"{stage.name}, after {stage.of}"
    note = unfinished(run, stage)
    return Row(label, stage.name, is_base, _cells(values, spread), stage.summary.get("seeds") or {}, note)


def _start_row(run: RunRecord, stage: StageRecord) -> Row | None:
    """The base model as a trained stage found it, for runs that have no `evaluate` stage."""
    if not stage.trained or stage.of is not None:
        return None
    random = stage.after is None and (run.config.get("model") or {}).get("new")
    before = next((found for found in run.document_stages if found.name == stage.after), None)
    measured = before is not None and (stage.documents or (stage.online and before.view == stage.view))
    if measured or (stage.documents and random):
        return None  # no base to compare with, or one that has a row of its own
    start = stage.summary.get("start")
    if not start:
        first = [rows[0] for rows in run.stage_rows(stage, "eval").values() if rows[0]["step"] == 0]
        start = first[0] if first else {}
    values = {key: value for key, value in start.items() if "/" in key}
    if not any(metric(values, column.key) is not None for column in COLUMNS if column.measured):
        return None
    return Row("base" if before is None else before.name, stage.name, True, _cells(values, {}), note="at step 0")


def _cells(values: dict[str, Any], spreads: dict[str, Any]) -> dict[str, Cell]:
    cells: dict[str, Cell] = defaultdict(Cell)  # a wish that one stage tried and another did not is a dash
    for column in _columns(values):
        value = metric(values, column.key)
        key = "sampled/reasoned" if column.key == "sampled/unreasoned" else column.key
        spread = number(spreads.get(key)) if column.measured and value is not None else None
        low, high = (number(values.get(f"{column.key}_{end}")) for end in ("low", "high"))
        within = spread is None and low is not None and high is not None
        interval = f"{figure(column.key, low)} to {figure(column.key, high)}" if within else ""
        cells[column.key] = Cell(value, spread, figure(column.key, value, spread), interval=interval)
    return cells


def _columns(keys: Iterable[str]) -> list[Column]:
    """`COLUMNS`, and before the costs those of wished feedback that the config has named otherwise."""
    wished = [found for key in keys if (found := _WISHED.fullmatch(key))]
    fixed = {column.key for column in COLUMNS}
    more = [Column(w.group(), f"{w[2]} prefix, strict", w[1], None) for w in wished if w.group() not in fixed]
    more.sort(key=lambda column: column.group)
    costs = next(i for i, column in enumerate(COLUMNS) if column.key == "tokens")
    return [*COLUMNS[:costs], *more, *COLUMNS[costs:]]


def _mark_best(rows: list[Row]) -> None:
    """Marks the best of each column, ties as shown included; nothing where all are alike."""
    for column in COLUMNS:
        cells = [row.cells[column.key] for row in rows if row.cells[column.key].value is not None]
        if column.key == "flops" and any(row.cells["tokens"].value is not None for row in rows):
            continue  # arms are trained for as long as one likes: what a score costs is in the efficiency
        if column.best is None or len({figure(column.key, cell.value) for cell in cells}) < 2:
            continue
        top = figure(column.key, column.best(cell.value for cell in cells))
        for cell in cells:
            cell.best = figure(column.key, cell.value) == top

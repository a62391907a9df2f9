"""annotation.html and annotation.json: what the judge said, how much of it, and whether it agrees with itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

import ixt_rl.report
from ixt_rl.annotation.folder import Folder
from ixt_rl.annotation.job import Job
from ixt_rl.annotation.pieces import values
from ixt_rl.annotation.shards import question_fields
from ixt_rl.annotation.source import Source
from ixt_rl.annotation.statistics import Statistics
from ixt_rl.report.plots import RC, Drawing, grid, inline_svg
from ixt_rl.report.results import engineering

_SHOWN = 1200  # characters of a text
_BLUE = "#0072B2"
_COLUMNS = 4  # of panels


def write_report(out: Path, job: Job, summary: Mapping[str, Any], source: Source, statistics: Statistics) -> None:
    """Writes annotation.json and annotation.html into `out`."""
    examples = {name: [_example(job, out, source, row) for row in rows] for name, rows in statistics.examples.items()}
    Folder.write_json(out / "annotation.json", {**summary, "examples": examples})
    page = (
        _environment()
        .get_template("annotation.html.j2")
        .render(
            title=f"Annotation of {len_text(summary['rows'])} rows by {summary['judge']['name']}",
            summary=summary,
            histograms=_histograms(summary),
            examples=examples,
            figures=_figures(summary),
        )
    )
    (out / "annotation.html").write_text(page, encoding="utf-8", errors="replace")


def len_text(count: float) -> str:
    """12345 -> `12,345`."""
    return f"{count:,.0f}"


def _example(job: Job, out: Path, source: Source, row: int) -> dict[str, Any]:
    """A row as the page shows it."""
    (texts,) = question_fields(job, source.read(row, row + 1))
    number, at = divmod(row, job.shard_rows)
    part = Folder(out, job.format).rows(number, list(job.columns))
    found = {name.removeprefix(f"{job.prefix}_"): values(part, name)[at] for name in job.columns}
    return {
        "row": row,
        "texts": {name: _cut(text) for name, text in texts.items()},
        "scores": {axis: score for axis, score in (found["scores"] or {}).items() if score is not None},
        "level": found["level"],
        "critique": _cut(found["critique"]),
        "reason": _cut(found["reason"]),
    }


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + " ..."


def _histograms(summary: Mapping[str, Any]) -> Drawing | None:
    """One panel for the level and each axis."""
    panels = [("level", {float(level): count for level, count in summary["levels"].items()})]
    panels += [
        (axis, {float(value): count for value, count in found["counts"].items()})
        for axis, found in summary["scores"].items()
    ]
    if not summary["judged"]:
        return None
    columns = min(_COLUMNS, len(panels))
    with matplotlib.rc_context(RC):
        fig, axes = grid(-(-len(panels) // columns), columns)
        for number, ax in enumerate(ax for row in axes for ax in row):
            if number >= len(panels):
                ax.set_visible(False)
                continue
            name, counts = panels[number]
            gaps = [b - a for a, b in zip(sorted(counts), sorted(counts)[1:], strict=False)]
            ax.bar(list(counts), list(counts.values()), width=0.8 * min(gaps, default=1.0), color=_BLUE)
            ax.set_title(name)
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes[0][0].set_ylabel("rows")
        fig.set_layout_engine("constrained")
        fig.canvas.draw()
        fig.set_layout_engine("none")
        return Drawing(
            "scores", "Levels and scores", "Levels run from 1 (worst) to 5; axes have the rubric's own scales.",
            inline_svg(fig, "scores"),
        )  # fmt: skip


def _figures(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, value, what it means) of the table of costs."""
    spent = summary["spent"]
    rows = [
        ("tokens spent", len_text(spent["tokens"]),
         f"read {len_text(spent['prompt_tokens'])}, written {len_text(spent['completion_tokens'])}"),
        ("tokens in the rows", len_text(summary["row_tokens"]),
         "of the replies that each row rests on; equal documents were asked once and count each time here"),
        ("requests", len_text(spent["requests"]),
         f"{len_text(spent['cached'])} more were answered by the cache; {len_text(spent['retries'])} further attempts"),
        ("failed, refused", f"{len_text(spent['failed'])}, {len_text(spent['refused'])}", "requests without an answer"),
        ("cost", f"{spent['cost']:.4g}", "in the currency of the prices given"),
    ]  # fmt: skip
    if spent["flops"] is not None:
        parameters = engineering(summary["judge"]["parameters"])
        rows.append(("FLOPs", engineering(spent["flops"]), f"2 x {parameters} parameters x tokens spent"))
    sessions = "one session" if spent["sessions"] == 1 else f"{spent['sessions']} sessions"
    rows.append(("time", f"{spent['wall_seconds']:.0f} s", f"in {sessions}; a killed one's last 5 s are not counted"))
    return rows


def _environment() -> Environment:
    folders = [Path(__file__).parent, Path(ixt_rl.report.__file__).parent]
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = lambda drawing: Markup(drawing.svg)  # made here, from escaped text
    environment.filters["count"] = len_text
    environment.filters["share"] = lambda value: "–" if value is None else f"{value:.1%}"
    environment.filters["figure"] = lambda value: "–" if value is None else f"{value:.2f}"
    return environment

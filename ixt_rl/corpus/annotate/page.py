"""annotation.html and annotation.json: what the judge said, how much of it, and whether it agrees with itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.ticker import MaxNLocator

from ixt_rl.corpus.annotate.job import AnnotationJob
from ixt_rl.corpus.annotate.statistics import AnnotationStatistics
from ixt_rl.corpus.job_folder import Folder
from ixt_rl.corpus.kept_replies import kept_replies
from ixt_rl.corpus.page import cut, environment, figures, grouped
from ixt_rl.corpus.row_group import texts, values
from ixt_rl.corpus.rows import CorpusRows
from ixt_rl.files import write_text
from ixt_rl.judging.answer import UNDECIDED
from ixt_rl.pages.drawing import RC, Drawing, grid, inline_svg

_BLUE = "#0072B2"
_COLUMNS = 4  # of panels


def write_report(
    out: Path, job: AnnotationJob, summary: Mapping[str, Any], source: CorpusRows, statistics: AnnotationStatistics
) -> None:
    """Writes annotation.json and annotation.html into `out`."""
    folder = Folder(out, job.format)
    replies = kept_replies(job, folder, source, statistics.examples.get(UNDECIDED, []))
    examples = {
        name: [_example(job, folder, source, row) | {"replies": replies.get(row, [])} for row in rows]
        for name, rows in statistics.examples.items()
    }
    Folder.write_json(out / "annotation.json", {**summary, "examples": examples})
    page = (
        environment(__file__)
        .get_template("annotation.html.j2")
        .render(
            title=f"Annotation of {grouped(summary['rows'])} rows by {summary['judge']['name']}",
            summary=summary,
            histograms=_histograms(summary),
            examples=examples,
            figures=figures(summary, summary["judge"]["parameters"]),
        )
    )
    write_text(out / "annotation.html", page, errors="replace")


def _example(job: AnnotationJob, folder: Folder, source: CorpusRows, row: int) -> dict[str, Any]:
    """A row as the page shows it."""
    (shown,) = texts(source.read(row, row + 1), job.fields)
    number, at = divmod(row, job.shard_rows)
    part = folder.rows(number, list(job.types))
    found = {name.removeprefix(f"{job.prefix}_"): values(part, name)[at] for name in job.types}
    return {
        "row": row,
        "texts": {name: cut(text) for name, text in shown.items()},
        "scores": {axis: score for axis, score in (found["scores"] or {}).items() if score is not None},
        "level": found["level"],
        "critique": cut(found["critique"]),
        "reason": cut(found["reason"]),
    }


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

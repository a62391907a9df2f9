"""rewriting.html and rewriting.json: how much was copied, rewritten and left undecided, with samples side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.ticker import MaxNLocator

from ixt_rl.corpus.job_folder import Folder
from ixt_rl.corpus.kept_replies import kept_replies
from ixt_rl.corpus.page import cut, environment, figures, grouped
from ixt_rl.corpus.rewrite.job import RewritingJob
from ixt_rl.corpus.rewrite.statistics import RewriteStatistics
from ixt_rl.corpus.rewrite.suffixes import UNDECIDED, SuffixJob
from ixt_rl.corpus.row_group import texts, values
from ixt_rl.corpus.rows import CorpusRows
from ixt_rl.files import write_text
from ixt_rl.pages.drawing import RC, Drawing, grid, inline_svg

_COLOURS = {"before": "#999999", "after": "#0072B2"}
_SHOWN = 400  # characters of a prefix, the last ones


def write_report(
    folder: Folder, job: RewritingJob, summary: Mapping[str, Any], source: CorpusRows, statistics: RewriteStatistics
) -> None:
    """Writes rewriting.json and rewriting.html into the job's folder."""
    replies = kept_replies(job, folder, source, statistics.examples.get(UNDECIDED, []))
    examples = {
        status: [_example(job, folder, source, row) | {"replies": replies.get(row, [])} for row in rows]
        for status, rows in statistics.examples.items()
    }
    Folder.write_json(folder.path / "rewriting.json", {**summary, "examples": examples})
    page = (
        environment(__file__)
        .get_template("rewriting.html.j2")
        .render(
            title=f"Rewriting of {grouped(summary['rows'])} documents by {summary['rewriter']['name']}",
            summary=summary,
            changed=job.changed,
            of_suffixes=isinstance(job, SuffixJob),
            lengths=_drawing(summary["lengths"], isinstance(job, SuffixJob)),
            examples=examples,
            figures=figures(summary, summary["rewriter"]["parameters"]),
        )
    )
    write_text(folder.path / "rewriting.html", page, errors="replace")


def _example(job: RewritingJob, folder: Folder, source: CorpusRows, row: int) -> dict[str, Any]:
    """A row as the page shows it: what stands before, the original, and what was written."""
    number, at = divmod(row, job.shard_rows)
    part = folder.rows(number, list(job.types))
    found = {name: values(part, name)[at] for name in job.types}
    if isinstance(job, SuffixJob):
        decode = job.cutter().tokenizer.decode
        prefix, original = (decode(found[name], skip_special_tokens=True) for name in ("prefix_ids", "suffix_ids"))
    else:
        (fields,) = texts(source.read(row, row + 1), job.mapped)
        prefix, original = "", fields["text"]
    return {
        "row": row,
        "prefix": prefix if len(prefix) <= _SHOWN else "... " + prefix[-_SHOWN:],
        "original": cut(original),
        "written": None if found[job.column] is None else cut(found[job.column]),
        "reason": cut(found[job.reason]),
    }


def _drawing(lengths: Mapping[str, Any], of_suffixes: bool) -> Drawing | None:
    """Histograms of the lengths before and after."""
    if not lengths["after"]["counts"]:
        return None
    what = "Tokens of a suffix and of its rewrite" if of_suffixes else "Thoughts in a document"
    with matplotlib.rc_context(RC):
        fig, ((ax,),) = grid(1, 1, width=6.0)
        for name in ("before", "after"):
            counts = {int(length): count for length, count in lengths[name]["counts"].items()}
            if counts:
                bins = max(1, min(40, max(counts) - min(counts) + 1))
                label = {"before": "original", "after": "rewrite"}[name] if of_suffixes else None
                ax.hist(
                    list(counts), bins=bins, weights=list(counts.values()), color=_COLOURS[name], alpha=0.7, label=label
                )
        if of_suffixes:
            ax.legend(frameon=False)
        ax.set_xlabel("tokens" if of_suffixes else "thoughts")
        ax.set_ylabel("documents")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=True))
        fig.canvas.draw()
        fig.set_layout_engine("none")
        return Drawing("lengths", what, "Of the documents that were changed; EOS included." if of_suffixes else
                       "Of the documents that were changed.", inline_svg(fig, "lengths"))  # fmt: skip

"""The summary of a run as a table for the terminal."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ixt_rl.report.results import COUNTS, Cell, Column, ViewTable, claims, expectations, shown_columns, summary_results

_SPREAD_IN = "sampled/strict"
_CHECKED = ("sampled/checked", "greedy/checked")
_READABLE = 76
_WINS = ("win_rate", "likelihood_win_rate")
_OF_SUFFIXES = (
    *(
        f"{mode}/{name}"
        for mode in ("greedy", "sampled")
        for name in ("right", "factuality", "safety", *_WINS, "grounding")
    ),
    "heldout/loss",
    *("flops", "seconds"),
)
_OF_DOCUMENTS = (
    *("sampled/strict", "greedy/strict", "sampled@worst/strict", "sampled@none/strict", "heldout/loss"),
    *("pairs/margin", "pairs/accuracy", "pairs@none/margin", "pairs@worst/margin"),
    *COUNTS,
    "seconds",
)


def summary_table(summary: dict[str, Any]) -> Table:
    """One row for each stage and view, and below it what a reader must not miss.

    Args:
        summary: the contents of summary.json; parts may be missing.
    """
    groups = summary_results(summary)
    columns = _columns(groups)
    title, caption = Text(str(summary.get("name") or "run")), _caption(summary, groups)
    table = Table(title=title, caption=caption, caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.min_width = _READABLE if caption else None  # rich breaks captions at the table's width
    table.add_column("\nmodel", overflow="fold")
    for column in columns:
        short = str(column.short)
        table.add_column(short if "\n" in short else f"\n{short}", justify="right")
    for group in groups:
        table.add_section()
        if len(groups) > 1:
            table.add_row(Text(f"view: {group.view}" if group.view else "all", style="italic"))
        for row in group.rows:
            cells = [_cell(column, row.cells[column.key]) for column in columns]
            table.add_row(Text(row.label if row.is_base else row.name), *cells)
    return table


def _columns(groups: list[ViewTable]) -> list[Column]:
    """What fits a terminal of 80 columns; a run on documents shows its costs in place of how answers look."""
    columns = [column for column in shown_columns(groups) if column.short]
    keys = {column.key for column in columns}
    if keys & {f"{mode}/{name}" for mode in ("greedy", "sampled") for name in _WINS}:
        return [column for column in columns if column.key in _OF_SUFFIXES]
    if "tokens" in keys:
        strict = bool(keys & {"sampled/strict", "greedy/strict"})
        # where RL goes on from documents, the rows of both have what its reward checks
        online = any(row.cells["tokens"].value is None and not row.is_base for group in groups for row in group.rows)
        wanted = _OF_DOCUMENTS if strict and not online else (*_CHECKED, *_OF_DOCUMENTS)
        return [column for column in columns if column.key in wanted]
    left_out = {"flops", "greedy/checked" if "greedy/strict" in keys else ""}
    return [column for column in columns if column.key not in left_out]


def _cell(column: Column, cell: Cell) -> Text:
    """The value; its spread only in the first column of all, to fit a terminal of 80 columns."""
    text = cell.text.replace(" ± 0", "±") if column.key == _SPREAD_IN else cell.text.split(" ± ")[0]
    return Text(text, style="bold" if cell.best else "", no_wrap=True)


def _caption(summary: dict[str, Any], groups: list[ViewTable]) -> Text:
    caption = Text(style="not dim not italic")
    if any(row.cells[_SPREAD_IN].spread is not None for group in groups for row in group.rows):
        caption.append("±: sample standard deviation over seeds.\n")
    if summary.get("status") == "stopped":
        caption.append(f"Stopped: {summary.get('reason') or 'no reason was recorded'}\n", style="bold red")
    items = expectations(summary)
    unmeasured = [item for item in items if item["verdict"] == "could not be measured"]
    waiting = unmeasured if summary.get("status") == "stopped" else []  # of stages that are yet to run: no news
    for item in items:
        if item["verdict"] != "holds" and item not in waiting:
            value = f"{item['value']}, {item['note']}" if item["note"] else item["value"]
            text = f"{item['verdict'].capitalize()}: {item['text']} ({value}, expected {item['bound']})\n"
            caption.append(text, style="bold red" if item["verdict"] == "does not hold" else "yellow")
    if items:
        held = sum(item["verdict"] == "holds" for item in items)
        yet = f", {len(waiting)} could not be measured yet" if waiting else ""
        caption.append(f"{held} of {len(items)} expectations hold{yet}.\n")
    if counts := Counter(item["verdict"] for item in claims(summary)):
        caption.append("Claims: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()) + ".")
    caption.rstrip()
    return caption

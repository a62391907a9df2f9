"""The summary of a run as a table for the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from ixt_rl.report.results import expectations, shown_columns, summary_results


def summary_table(summary: dict[str, Any]) -> Table:
    """One row for each stage and view, and below it what a reader must not miss.

    Args:
        summary: the contents of summary.json; parts may be missing.
    """
    groups = summary_results(summary)
    columns = [column for column in shown_columns(groups) if column.short]
    table = Table(title=Text(str(summary.get("name") or "run")), caption=_caption(summary), caption_justify="left")
    table.add_column("model", no_wrap=True)
    for column in columns:
        table.add_column(str(column.short), justify="right")
    for group in groups:
        table.add_section()
        if len(groups) > 1:
            table.add_row(Text(f"view: {group.view}", style="italic"))
        for row in group.rows:
            cells = [row.cells[column.key] for column in columns]
            table.add_row(Text(row.label), *(Text(c.text, style="bold" if c.best else "") for c in cells))
    return table


def _caption(summary: dict[str, Any]) -> Text:
    caption = Text(style="not dim")
    if summary.get("status") == "stopped":
        caption.append(f"Stopped: {summary.get('reason') or 'no reason was recorded'}\n", style="bold red")
    items = expectations(summary)
    for item in items:
        if item["verdict"] != "holds":
            text = f"{item['verdict'].capitalize()}: {item['text']} ({item['value']}, expected {item['bound']})\n"
            caption.append(text, style="bold red" if item["verdict"] == "does not hold" else "yellow")
    if items:
        held = sum(item["verdict"] == "holds" for item in items)
        caption.append(f"{held} of {len(items)} expectations hold.")
    return caption

"""Results of an evaluation as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_SHARES = ("undecided", "truncated", "unextracted")


def show(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints the table, as wide as it needs where the output is no terminal, and the suites' notes below it."""
    console = console or Console()
    console = console if console.is_terminal else Console(width=1000, file=console.file)
    console.print(table(results))
    by_note: dict[str, list[str]] = {}
    for name, suite in results["suites"].items():
        for note in suite["notes"]:
            by_note.setdefault(note, []).append(name)
    for note, names in by_note.items():
        console.print(Text(f"{', '.join(names)}: {note}", style="yellow"), soft_wrap=True)
    if not results["complete"]:
        done, asked = results["samples"]["done"], results["samples"]["asked"]
        console.print(Text(f"incomplete: {done} of {asked} samples", style="yellow"))


def table(results: Mapping[str, Any]) -> Table:
    """A row a metric of a suite: the score without what is undecided with its interval, the score with that as wrong,
    and the shares that belong beside them; below a suite the scores by other harnesses' rules."""
    found = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    found.add_column("suite", no_wrap=True)
    found.add_column("metric", no_wrap=True)
    for head in ("score %", "95 % interval", "undecided as wrong", "questions", *(f"{name} %" for name in _SHARES)):
        found.add_column(head, justify="right")
    for name, suite in results["suites"].items():
        shares = [_percent(suite["shares"][share]) for share in _SHARES]
        for number, (metric, bounds) in enumerate(suite["metrics"].items()):
            left_out = bounds["left_out"]
            of = f"{left_out['questions']}" + (f" of {suite['of']}" if suite["of"] != left_out["questions"] else "")
            found.add_row(name if number == 0 else "", metric, *_scores(bounds), of, *shares)
        for harness, theirs in suite.get("as", {}).items():
            found.add_row("", f"as {harness}", _percent(theirs["score"]), f"verdicts that differ: {theirs['differs']}")
    if "average" in results:
        found.add_row("average", "", *_scores(results["average"]))
    return found


def _scores(bounds: Mapping[str, Any]) -> tuple[str, str, str]:
    left_out = bounds["left_out"]
    interval = "" if left_out["low"] is None else f"{_percent(left_out['low'])} to {_percent(left_out['high'])}"
    return _percent(left_out["value"]), interval, _percent(bounds["as_wrong"]["value"])


def _percent(value: float | None) -> str:
    return "none decided" if value is None else f"{100 * value:.1f}"

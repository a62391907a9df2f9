"""What a job shows in the terminal: a bar with rate, cost and time left; in a log file, a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from ixt_rl.corpus.progress import ProgressState
from ixt_rl.corpus.time_left import duration
from ixt_rl.quiet import quiet_transformers
from ixt_rl.under_way import UnderWay

LINE_EVERY = 30.0  # seconds between lines of a log file
_REFRESH = 0.1


class Shown(Protocol):
    """What a bar needs to know of a state: the phase, how much of it is done, and whether that is counted yet."""

    @property
    def phase(self) -> str: ...
    @property
    def total(self) -> int: ...
    @property
    def done(self) -> int: ...
    @property
    def working(self) -> bool: ...


class Terminal:
    """Watches a job; prints to stderr. A context manager.

    Args:
        console: to print to.
        words: what is said of a state beside the bar; None: `said`, of a job on a corpus.
    """

    def __init__(self, console: Console | None = None, words: Callable[[Any], str] | None = None):
        self.console = console or Console(stderr=True)
        self.words: Callable[[Any], str] = words or said
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[said]}"),
        )
        self._bar = Progress(*columns, console=self.console, transient=True)
        self._task = self._bar.add_task("reading", total=None, said="")
        self._phase = ""
        self._shown = self._line = float("-inf")

    def __enter__(self) -> Terminal:
        quiet_transformers()
        if self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, state: Shown) -> None:
        now = time.monotonic()
        fresh = state.phase != self._phase
        if now - self._shown < _REFRESH and not fresh:
            return
        self._shown, self._phase = now, state.phase
        if self.console.is_terminal:
            self._bar.update(
                self._task, description=state.phase, completed=state.done, total=state.total, said=self.words(state)
            )
        elif now - self._line >= LINE_EVERY or fresh:
            self._line = now
            share = f"{state.done:,} of {state.total:,}" if state.working else ""
            self.console.print(f"{state.phase} {share}  {self.words(state)}".rstrip(), highlight=False, soft_wrap=True)


def said(state: ProgressState) -> str:
    """Rate, undecided share, replies cut, replies under way, tokens, cost and time left, as far as there are any."""
    counts = state.counts
    if not state.working or not state.seconds:
        return writing(state.begun.under_way)
    parts = []
    if rate := counts.documents / state.seconds:
        parts.append(f"{rate:,.0f} documents/s" if rate >= 10 else f"{rate:.2g} documents/s")
    if counts.undecided:
        parts.append(f"{counts.undecided / counts.documents:.1%} undecided")
    for name in ("truncated", "looped"):
        if counts.spent[name]:
            parts.append(f"{counts.spent[name]:,.0f} {name}")
    parts.append(writing(state.begun.under_way))
    if tokens := counts.spent["prompt_tokens"] + state.written:
        parts.append(f"{tokens:,.0f} tokens")
    if state.written:
        parts.append(f"{state.written / state.seconds:,.0f} written/s")
    if counts.spent["cost"]:
        parts.append(f"cost {counts.spent['cost']:.4g}")
    if left := state.left:
        parts.append(str(left))
    elif rate:
        parts.append(f"{duration((state.total - state.done) / rate)} left")
    return ", ".join(filter(None, parts))


def writing(under_way: UnderWay) -> str:
    """`12 replies under way`, where there are some; where they come one by one, also for how long."""
    replies = under_way.replies
    if not replies:
        return ""
    said = f"{replies:,} {'reply' if replies == 1 else 'replies'} under way"
    return said + (f", the oldest for {duration(under_way.oldest)}" if under_way.oldest >= 1 else "")


def verdict(summary: Mapping[str, Any]) -> str:
    """The line at the end."""
    what = "verdicts" if "verdicts" in summary else "levels"
    levels = ", ".join(f"{name}: {count:,}" for name, count in summary[what].items() if count)
    return f"{summary['judged']:,} judged, {summary['undecided']:,} undecided, {summary['skipped']:,} skipped" + (
        f"; {what} {levels}" if levels else ""
    )


def remarks(spent: Mapping[str, Any]) -> str:
    """Lines below it: answers without token counts, replies that were cut, and what the server does not take."""
    found = list(spent["notes"])
    if spent["uncounted"]:
        found.append(f"{spent['uncounted']:,.0f} answers came without token counts: tokens, cost and FLOPs lack them")
    for name, why in (("truncated", "reached the most tokens of one"), ("looped", "looped and were cut early")):
        if spent[name]:
            found.append(f"{spent[name]:,.0f} replies {why}: undecided, unless a second one was better")
    return "".join(f"note: {each}\n" for each in found)

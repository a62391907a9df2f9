"""What a run shows in the terminal: a heading per stage, a progress bar, a line per evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ixt_rl.run.asked_line import AskedLine
from ixt_rl.run.folder import NOT_RUN

_STEPS = "steps"
_SHOWN = (
    "pairs/margin",
    "pairs/accuracy",
    "pairs@none/margin",
    "pairs@worst/margin",
    "greedy/checked",
    "greedy/strict",
    "sampled/checked",
    "sampled/strict",
    "sampled/undecided",
    "told/checked",
    "told/strict",
    "greedy/right",
    "sampled/right",
    "sampled/factuality",
    "sampled/safety",
    "sampled/win_rate",
    "sampled/likelihood_win_rate",
    "sampled/grounding",
    "sampled/length",
    "heldout/loss",
    "heldout/perplexity",
)


class RunConsole:
    """Prints to stderr, so that stdout stays free for data.

    Args:
        quiet: prints nothing, on ranks that do not lead.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self._stage: StageProgress | None = None

    def reused(self, stage, seed: int | None, folder) -> None:
        self._say(f"{_title(stage, seed)}: finished before, reused from {folder.path}", style="dim")

    def again(self, stage, seed: int | None, why: str, goes_on_from: str) -> None:
        """Says why a stage is run that was run before, and from where it goes on."""
        if goes_on_from:
            self._say(f"{_title(stage, seed)}: goes on from {goes_on_from}")
        elif why != NOT_RUN:
            self._say(f"{_title(stage, seed)}: done again from its start: {why}")

    def waiting(self, stage, seed: int | None, holder: str) -> None:
        self._say(f"{_title(stage, seed)}: waits for another run that makes it ({holder})")

    def note(self, text: str) -> None:
        self._say(f"  {text}")

    def _say(self, text: str, style: str | None = None) -> None:
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def heading(self, stage, seed: int | None) -> None:
        """What stands above a stage's progress."""
        self.console.print(f"\n[bold]{_title(stage, seed)}[/bold]")

    @contextmanager
    def stage(self, stage, seed: int | None, total: int) -> Iterator[StageProgress]:
        """A heading and a progress bar of `total` steps."""
        self.heading(stage, seed)
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(
            *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.console, transient=True
        ) as bar:
            self._stage = StageProgress(self.console, bar, bar.add_task(_STEPS, total=total), total)
            try:
                yield self._stage
            finally:
                self._stage = None

    def asking(self, role: str) -> AskedLine:
        """Shows what a judge or rewriter writes while it is waited for."""
        return AskedLine(role, lambda said: self._stage is not None and self._stage.beside(said), self.note)

    def finish(self, table: Table, report: Path) -> None:
        self.console.print()
        self.console.print(table)
        self._say(f"report: {report}")


class StageProgress:
    """Moves one stage's bar and prints its evaluations above it; in a log file, a line every tenth."""

    def __init__(self, console: Console, bar: Progress, task, total: int) -> None:
        self.console, self.bar, self.task, self.total = console, bar, task, total
        self.every = max(1, total // 10)

    def step(self, done: int) -> None:
        self.bar.update(self.task, completed=done)
        if not self.console.is_terminal and done and done % self.every == 0:
            self.console.print(f"  step {done:>5} of {self.total}", highlight=False)

    def beside(self, said: str) -> bool:
        """Shows a text in the bar's place for words; whether there is a terminal to show it."""
        self.bar.update(self.task, description=said or _STEPS)
        return self.console.is_terminal

    def evaluation(self, step: int, metrics: dict[str, float]) -> None:
        wanted = r"source/[^/]+/greedy/checked|suite/[^/]+/checked"
        sources = sorted(name for name in metrics if re.fullmatch(wanted, name))
        shown = [f"{name} {metrics[name]:.3f}" for name in (*_SHOWN, *sources) if name in metrics]
        self.console.print(f"  step {step:>5}  " + "  ".join(shown), highlight=False, soft_wrap=True)


def _title(stage, seed: int | None) -> str:
    return f"{stage.name} ({stage.type})" + ("" if seed is None else f", seed {seed}")

"""From the words of `ixt-rl contamination` to findings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ixt_rl.errors import ConfigError
from ixt_rl.evaluation.contamination.counts import LEVELS, rows_of, sentence, summary_of
from ixt_rl.evaluation.contamination.overlap import QuestionIndex
from ixt_rl.evaluation.contamination.page import write_findings
from ixt_rl.evaluation.contamination.training_texts import TrainingText, files_of_paths, training_texts
from ixt_rl.evaluation.suites import SuiteRows, find_rows
from ixt_rl.suites import load_suite, suite_names

_NAMED = 3  # questions of a suite that the terminal shows
_EVERY = 0.5  # seconds between two words of progress


def run(train: Sequence[str], words: Mapping[str, Any]) -> str:
    """Runs the command; `words` are its options by name. Prints a table, returns the lines to end with.

    Raises:
        ConfigError, DataError: words or files that cannot be used.
    """
    if not train and words["probe"] is None:
        raise ConfigError(
            "contamination without a training file and without a model",
            reason="there is nothing to look into",
            remedy="write `ixt-rl contamination TRAIN... --suite NAME,...`, or --probe MODEL",
        )
    files_of_paths(train)  # before suites are read
    suites = asked_suites(words)
    summary, rows, said = _overlap(train, suites, words) if train else (None, [], [])
    probe = None
    if words["probe"] is not None:
        from ixt_rl.cli.probe_job import probe_model, show_probe  # torch

        probe = probe_model(words["probe"], suites, words)
        show_probe(probe)
    if words["out"] is not None:
        said.append(f"report: {write_findings(words['out'], summary, rows, probe)}")
    return "\n".join(said)


def _overlap(
    train: Sequence[str], suites: Mapping[str, SuiteRows], words: Mapping[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """(figures, rows, lines to end with) of the questions in the training files."""
    index = QuestionIndex({name: found.rows for name, found in suites.items()}, words["n"])
    console = Console(stderr=True)
    with console.status("reading ...") as status:
        found = index.find(_told(training_texts(train, words["fields"]), status))
    summary, rows = summary_of(found), list(rows_of(found))
    _show(summary)
    said = [sentence(name, counts, words["n"]) for name, counts in summary["suites"].items()]
    said += [f"  {_named(row)}" for name in suites for row in _most(rows, name)]
    return summary, rows, said


def asked_suites(words: Mapping[str, Any]) -> dict[str, SuiteRows]:
    """The rows of the suites that `--suite`, `--field`, `--data` and `--limit` ask for, by name.

    Raises:
        ConfigError, DataError: no suite, an unknown one, one twice, or one without rows there.
    """
    names = [name for entry in words["suites"] for name in entry.split(",") if name]
    if not names:
        raise ConfigError(
            "contamination without a suite",
            reason="its questions are what is looked for",
            remedy=f"add --suite with one of {', '.join(suite_names())}, or a file of yours",
        )
    suites = [load_suite(name, words["field"]) for name in names]
    found: dict[str, SuiteRows] = {}
    for suite in suites:
        if suite.name in found:
            raise ConfigError(
                f"--suite {','.join(names)}", reason=f"{suite.name} is asked for twice", remedy="name each suite once"
            )
        found[suite.name] = find_rows(suite, words["data"], words["limit"])
    return found


def _told(texts: Iterator[TrainingText], status: Any) -> Iterator[TrainingText]:
    """The texts, with the place that has been reached in the terminal."""
    shown = time.monotonic()
    for text in texts:
        if time.monotonic() - shown > _EVERY:
            shown = time.monotonic()
            status.update(f"{Path(text.file).name}, row {text.row:,}")
        yield text


def _show(summary: Mapping[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("suite", no_wrap=True)
    heads = ("is a field", "whole", "half or more", f"{summary['n']} words or more")
    for head in ("questions", *heads, "mean share %"):
        table.add_column(head, justify="right")
    for name, counts in summary["suites"].items():
        share = counts["mean_share"]
        shown = "-" if share is None else f"{100 * share:.1f}"
        table.add_row(name, str(counts["questions"]), *(str(counts[level]) for level in LEVELS), shown)
    console = Console()
    (console if console.is_terminal else Console(width=1000)).print(table)


def _most(rows: Sequence[Mapping[str, Any]], suite: str) -> list[Mapping[str, Any]]:
    """The questions of a suite of which most was found."""
    return sorted((row for row in rows if row["suite"] == suite), key=lambda row: -row["share"])[:_NAMED]


def _named(row: Mapping[str, Any]) -> str:
    place = row["places"][0]
    how = "the same" if place["exact"] else f"{100 * row['share']:.0f} % of {row['words']} words"
    return f"{row['suite']} {row['id']}: {how} in {place['file']}, row {place['row']}, {place['field']}"

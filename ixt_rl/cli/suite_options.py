"""Options that commands on suites of benchmarks share; imports nothing heavy, because the command line does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from ixt_rl.cli.corpus_options import Command, all_of


def questions() -> Callable[[Command], Command]:
    """Which questions."""
    named = "Names of `ixt-rl suites`, or files of yours."
    columns = "Of a suite that is a file of rows: question=problem, answer=gold."
    return all_of(
        click.option("--suite", "suites", metavar="A,B,...", multiple=True, help=named),
        click.option(
            "--data", type=click.Path(path_type=Path), help="Folder with the suites' files, as they were published."
        ),
        click.option("--field", metavar="FIELD=COLUMN", multiple=True, help=columns),
        click.option("--limit", type=click.IntRange(1), help="The first N questions of each suite.  [default: all]"),
    )


def sampling(whose: str = "") -> Callable[[Command], Command]:
    """How a model is asked; `whose` begins each help, as in `Of the probe: `."""

    def said(text: str) -> str:
        return f"{whose}{text[0].lower() if whose else text[0]}{text[1:]}"

    return all_of(
        click.option(
            "--engine",
            type=click.Choice(["transformers", "vllm", "ray-vllm"]),
            default="transformers",
            show_default=True,
            help=said("What samples."),
        ),
        click.option(
            "--dtype",
            type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
            default="auto",
            show_default=True,
            help=said("What is computed in; auto: as the checkpoint says."),
        ),
        click.option(
            "--batch-size", type=click.IntRange(1), help=said("Answers sampled at once.  [default: 256, on a CPU 64]")
        ),
    )

"""`ixt-rl contamination`: were a benchmark's questions seen in training?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ixt_rl.cli.shell import readable_errors, require_core, say
from ixt_rl.cli.suite_options import questions, sampling


@click.command()
@click.argument("train", metavar="[TRAIN]...", nargs=-1)
@questions()
@click.option(
    "--text", "fields", metavar="FIELD", multiple=True, help="Of TRAIN: fields that count.  [default: all text]"
)
@click.option("--words", "n", type=click.IntRange(1), default=13, show_default=True, help="Words in a row that count.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for a page, figures and rows.")
@click.option("--probe", metavar="MODEL", help="A folder, hub id or run: what it completes of the questions.")
@click.option(
    "--answer-tokens",
    type=click.IntRange(0),
    default=1024,
    show_default=True,
    help="Of the probe, after the question; 0: none.",
)
@click.option("--preset", default="paper", show_default=True, help="Of the probe: how its answers are looked for.")
@sampling("Of the probe: ")
@readable_errors
def contamination(train: tuple[str, ...], **words: Any) -> None:
    """Say which questions of suites stand in the training files TRAIN, and which a model knows by heart.

    TRAIN are .jsonl, .json (either may be .gz) or .parquet files, folders or 'patterns' of them, read once from the
    first row to the last, of any size. A question counts that shares 13 words in a row with a text of them, in lower
    case and without signs; where it has fewer words, all of them. Rows are named, and counts given by suite and file.

    --probe shows MODEL the first 40, 60 and 80 % of each question and nothing else, and says how many it completes
    verbatim by greedy decoding, and how many it answers right. Stopped, the same command with --out goes on.

    --out gets contamination.html, contamination.json, overlap.jsonl (a line for each question that was found, with the
    rows that hold most of it) and probe.jsonl (a line a beginning). In an evaluation's folder, `ixt-rl report` shows it
    on that page, too.

    Exit status 0: done, whatever was found; 2: words, data or installation must change; 1: it failed.

    \b
    Examples:
      ixt-rl contamination train.jsonl --suite gsm8k,math500 --data data
      ixt-rl contamination 'corpus/*.parquet' --text text --suite math500 --data data --out overlap
      ixt-rl contamination train.jsonl --suite mine.jsonl --field question=problem --field answer=gold
      ixt-rl contamination --probe Qwen/Qwen2.5-Math-7B --suite math500 --data data --engine vllm --out probe
    """
    require_core()
    from ixt_rl.cli.contamination_job import run

    say(run(train, words))

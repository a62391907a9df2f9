"""`ixt-rl examples`: from documents to the rows that a judge or a rewriter is trained on.

documents --make_excerpts--> prefix, suffix, spoiled or labelled --ixt_rl.corpus.examples.training_rows--> OUT.jsonl
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ixt_rl.corpus.examples.excerpts import ExamplesJob, ExamplesMade, make_excerpts
from ixt_rl.corpus.examples.training_rows import (
    Row,
    best_label,
    check_pair,
    check_single,
    judge_labels,
    judge_pairs,
    rewriter_rows,
)
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.files import replacing
from ixt_rl.judging.rubric import load_rubric
from ixt_rl.rewriting.prompt import load_rewrite


def make_examples(job: ExamplesJob, out: Path) -> ExamplesMade:
    """Writes the rows of `job` to `out`, all or none; equal jobs write equal files.

    Raises:
        ConfigError, BackendMissing: settings, rubric or model that cannot work.
        DataError: `out` is there, a file or row that cannot be used, or no row.
        BackendFailed: the model is down.
    """
    _check_out(out)
    made = ExamplesMade()
    rows = _rows(job, made)  # checks all but the documents
    with replacing(out) as file:
        for row in rows:
            made.rows += 1
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        if not made.rows:
            raise DataError(
                f"{job.source}: no row",
                reason=str(made),
                remedy="lower --suffix-tokens, or give other documents",
            )
    return made


def _rows(job: ExamplesJob, made: ExamplesMade) -> Iterator[Row]:
    if job.kind == "rewriter":
        prompt, rubric = load_rewrite(job.asks), load_rubric(job.label_rubric) if job.label else None
        if rubric is not None:
            check_single(rubric)
        return rewriter_rows(make_excerpts(job, rubric, made), prompt, best_label(rubric) if rubric else None)
    rubric = load_rubric(job.asks)
    if (rubric.pair is None) != (job.label is not None):
        raise ConfigError(
            f"rubric {rubric.name} {'with' if job.label else 'without'} a column of labels",
            reason="a pair is labelled by what was spoiled" if rubric.pair else "only such a column says what is right",
            remedy="leave --label out" if rubric.pair else "give --label COLUMN, or a rubric that compares two texts",
        )
    if job.label is None:
        check_pair(rubric)
        return judge_pairs(make_excerpts(job, None, made), rubric)
    check_single(rubric)
    return judge_labels(make_excerpts(job, rubric, made), rubric)


def _check_out(out: Path) -> None:
    if out.suffix != ".jsonl" or not out.parent.is_dir():
        raise ConfigError(
            f"{out}",
            reason="rows are written as JSON lines" if out.suffix != ".jsonl" else "there is no such folder",
            remedy="name a file that ends in .jsonl, in a folder that is there",
        )
    if out.exists():
        raise DataError(f"{out} is there", reason="nothing is written over", remedy="remove it, or name another file")

"""From the words of `ixt-rl annotate` to a job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ixt_rl.cli.jobs import asked, output, pairs, ray, sampling
from ixt_rl.corpus.annotate.annotate import annotate
from ixt_rl.corpus.annotate.job import AnnotationJob
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.corpus.terminal import Terminal, remarks, verdict
from ixt_rl.judging.rubric import load_rubric


def run(source: str, out: Path, words: Mapping[str, Any]) -> str:
    """Runs the command; `words` are its options by name. Returns the line to end with.

    Raises:
        ConfigError, DataError, BackendMissing: see `annotate`.
    """
    job = AnnotationJob(
        rubric=load_rubric(words["rubric"]),
        fields=pairs(words["field"], "--field"),
        judge=asked(words, "judge"),
        sampling=sampling(words),
        repeats=words["repeats"],
        fraction=words["fraction"],
        prefix=words["prefix"],
        **output(words),
    )
    with Terminal() as terminal:
        summary = annotate(
            job,
            SourceSpec(source, words["name"], words["split"]),
            out,
            check_sample=words["check_sample"],
            retry_failed=words["retry_failed"],
            ray=ray(words),
            watch=terminal,
        )
    return f"{verdict(summary)}\n{remarks(summary['spent'])}report: {out / 'annotation.html'}"

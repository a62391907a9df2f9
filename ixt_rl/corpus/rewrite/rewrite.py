"""A whole rewriting: check everything, fill the shards that are missing, write the report."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from ixt_rl.corpus.open_job import open_batch
from ixt_rl.corpus.progress import Watch, spending
from ixt_rl.corpus.rewrite.job import RewritingJob
from ixt_rl.corpus.rewrite.statistics import collect
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.corpus.workers import RaySettings


def rewrite(
    job: RewritingJob,
    source: SourceSpec,
    out: Path,
    *,
    retry_failed: bool = False,
    ray: RaySettings | None = None,
    watch: Watch = lambda state: None,
) -> dict[str, Any]:
    """Rewrites documents into the folder `out`, going on where an earlier session of the same job stopped.

    Args:
        job: what is asked: a `SuffixJob` or a `ThoughtsJob`.
        source: the rows.
        out: receives the shards, in the rows' order, and the report.
        retry_failed: does shards again that have rows whose request failed; the cache has the others.
        ray: runs the rewriter in Ray actors; None in this process.
        watch: told of every step.

    Returns:
        What rewriting.json holds.

    Raises:
        DataError, ConfigError, BackendMissing: before a rewriter is started.
        BackendFailed: the rewriter gave up; the same call goes on.
    """
    from ixt_rl.corpus.rewrite.page import write_report

    with open_batch(job, source, out, ray, watch) as batch:
        with closing(batch):
            batch.fill(retry_failed=retry_failed)
        batch.reporting()
        ready, rows = batch.job, batch.source
        statistics = collect(ready, batch.folder, batch.shards)
        parameters = ready.rewriter.model_parameters()
        settings = ready.settings(rows.identity)
        summary = {
            "rewriter": ready.rewriter.identity() | {"parameters": parameters},
            "prompt": ready.prompt.name,
            "settings": settings | {"prompt": ready.prompt.name},
            **statistics.summary(),
            "spent": spending(batch.folder, parameters),
        }
        write_report(batch.folder, ready, summary, rows, statistics)
        return summary

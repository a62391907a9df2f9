"""A whole annotation: check everything, judge the shards that are missing, check a sample, write the report."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from ixt_rl.corpus.annotate.agreement import agreement
from ixt_rl.corpus.annotate.job import AnnotationJob
from ixt_rl.corpus.annotate.statistics import AnnotationStatistics, collect
from ixt_rl.corpus.open_job import OpenJob, open_batch
from ixt_rl.corpus.progress import Watch, spending
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.corpus.workers import RaySettings


def annotate(
    job: AnnotationJob,
    source: SourceSpec,
    out: Path,
    *,
    check_sample: int = 0,
    retry_failed: bool = False,
    ray: RaySettings | None = None,
    watch: Watch = lambda state: None,
) -> dict[str, Any]:
    """Annotates rows into the folder `out`, going on where an earlier session of the same job stopped.

    Args:
        job: what is asked; `fields` may leave out those whose column has the field's name.
        source: the rows.
        out: receives the shards, in the rows' order, and the report.
        check_sample: judged documents that are asked again, to see whether the judge agrees with itself.
        retry_failed: does shards again that have rows whose request failed; the cache has the others.
        ray: runs the judge in Ray actors; None in this process.
        watch: told of every step.

    Returns:
        What annotation.json holds.

    Raises:
        DataError, ConfigError, BackendMissing: before a judge is started.
        BackendFailed: the judge gave up; the same call goes on.
    """
    from ixt_rl.corpus.annotate.page import write_report

    found: list[dict[str, Any]] = []
    with open_batch(job, source, out, ray, watch) as batch:
        with closing(batch):
            batch.fill(retry_failed=retry_failed)
            if check_sample:
                found = batch.again(collect(batch.job, batch.folder, batch.shards, sample=check_sample).sample)
        batch.reporting()
        statistics = collect(batch.job, batch.folder, batch.shards)
        summary = _summary(batch, statistics, found)
        write_report(out, batch.job, summary, batch.source, statistics)
        return summary


def _summary(
    batch: OpenJob[AnnotationJob], statistics: AnnotationStatistics, found: list[dict[str, Any]]
) -> dict[str, Any]:
    job = batch.job
    parameters = job.judge.model_parameters()
    return {
        "judge": job.judge.identity() | {"parameters": parameters},
        "rubric": job.rubric.name,
        "settings": job.settings(batch.source.identity) | {"rubric": job.rubric.name},
        **statistics.summary(),
        "spent": spending(batch.folder, parameters),
        "check": agreement(found) if found else None,
    }

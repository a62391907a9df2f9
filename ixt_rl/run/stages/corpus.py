"""Stages that make rows: annotate and rewrite. The job's folder is the stage's `rows`.

    block -> job, source --the machinery of ixt_rl.corpus--> rows/part-*, a page; figures -> metrics, summary, report

What was stopped goes on by the job's own means: whole files stay, and no reply that is there is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ixt_rl.blocks.judges import WORLD, JobModelBlock
from ixt_rl.blocks.rows import WorldRowsBlock
from ixt_rl.corpus.annotate import annotate as annotating
from ixt_rl.corpus.annotate.job import AnnotationJob
from ixt_rl.corpus.page import figures
from ixt_rl.corpus.rewrite import rewrite as rewriting
from ixt_rl.corpus.rewrite.job import RewritingJob
from ixt_rl.corpus.rewrite.suffixes import SuffixJob
from ixt_rl.corpus.rewrite.thoughts import ThoughtsJob
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.corpus.terminal import Terminal, verdict
from ixt_rl.corpus.workers import RaySettings
from ixt_rl.judging.opening import JudgeSpec, parse_judge
from ixt_rl.judging.rubric import load_rubric
from ixt_rl.methods.annotate import AnnotateStage
from ixt_rl.methods.corpus import CorpusStage
from ixt_rl.methods.rewrite import RewriteStage
from ixt_rl.rewriting.prompt import load_rewrite
from ixt_rl.run.stages.context import StageRun
from ixt_rl.run.stages.job_errors import in_keys_of_the_stage
from ixt_rl.run.stages.world_rows import write_documents, write_judge
from ixt_rl.types import SamplingParams

FAILED = (
    "{count:,.0f} requests failed or were refused: their rows are undecided. They are asked for again when the stage "
    "runs again: delete {done}"
)


def annotate(stage: AnnotateStage, at: StageRun) -> None:
    """A judge scores every row; writes rows, page and figures."""
    model = stage.judge.model
    if model == WORLD:
        assert isinstance(stage.data, WorldRowsBlock)
        model = write_judge(stage.data, at.folder.path)
    job = AnnotationJob(
        load_rubric(stage.rubric),
        stage.fields,
        _asked(stage.judge, model, stage.judge_parameters),
        _sampling(stage.judge),
        stage.repeats,
        stage.fraction,
        stage.prefix,
        **_output(stage),
    )
    summary = _run(stage, at, partial(annotating.annotate, job, check_sample=stage.check_sample))
    levels = ((summary["check"] or {}).get("values") or {}).get("level") or {}
    found = {name: summary[name] for name in ("judged", "undecided_share", "mean_level")}
    _tell(at, summary, "annotation.html", verdict(summary), {**found, "agreement": levels.get("same")})


def rewrite(stage: RewriteStage, at: StageRun) -> None:
    """A rewriter improves suffixes, or puts thoughts into documents; writes rows, page and figures."""
    job = _rewriting_job(stage, at)
    summary = _run(stage, at, partial(rewriting.rewrite, job))
    counts = {name: summary[name] for name in (job.changed, "copied", "undecided", "skipped")}
    said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    found = {"changed": counts[job.changed], "copied": counts["copied"]}
    found |= {"undecided_share": summary["shares"]["undecided"], **summary["corpus"]}
    _tell(at, summary, "rewriting.html", said, found)


def _rewriting_job(stage: RewriteStage, at: StageRun) -> RewritingJob:
    common: dict[str, Any] = {
        "rewriter": _asked(stage.rewriter, stage.rewriter.model, stage.rewriter_parameters),
        "prompt": load_rewrite(stage.prompt),
        "sampling": _sampling(stage.rewriter),
        "fields": stage.fields,
        **_output(stage),
    }
    if not stage.of_suffixes:
        return ThoughtsJob(**common)
    assert stage.suffix_tokens is not None
    return SuffixJob(
        **common,
        tokenizer=Path(stage.tokenizer or at.origin).expanduser(),
        suffix_tokens=stage.suffix_tokens,
        max_prefix_tokens=stage.max_prefix_tokens,
        min_prefix_tokens=stage.min_prefix_tokens,
    )


def _asked(block: JobModelBlock, model: str, parameters: int | None) -> JudgeSpec:
    return parse_judge(model, block.options, parameters=parameters, role=block.role)


def _sampling(block: JobModelBlock) -> SamplingParams:
    """How answers are sampled; a greedy one has no seed."""
    seed = block.seed if block.temperature else None
    return SamplingParams(block.max_new_tokens, block.temperature, block.top_p, seed=seed)


def _output(stage: CorpusStage) -> dict[str, Any]:
    """What every job has."""
    cache = None if stage.cache is None else Path(stage.cache).expanduser()
    read, written = stage.prices
    return {"format": stage.format, "shard_rows": stage.shard_rows, "prices": (read, written), "cache": cache}


def _run(stage: CorpusStage, at: StageRun, job: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Runs a job into the stage's folder, from where it was stopped."""
    ray = stage.ray
    at.console.heading(stage, at.seed)
    with in_keys_of_the_stage(), Terminal(at.console.console) as terminal:
        return job(
            _source(stage, at.folder.path),
            at.folder.rows,
            retry_failed=True,
            ray=ray and RaySettings(ray.workers, ray.cpus_per_worker, ray.gpus_per_worker, ray.address),
            watch=terminal,
        )


def _source(stage: CorpusStage, folder: Path) -> SourceSpec:
    if isinstance(stage.data, WorldRowsBlock):
        return SourceSpec(str(write_documents(stage.data, folder)))
    assert stage.data.path is not None
    return SourceSpec(str(Path(stage.data.path).expanduser()), stage.data.name, stage.data.split)


def _tell(at: StageRun, summary: Mapping[str, Any], page: str, said: str, found: Mapping[str, Any]) -> None:
    """A row of metrics, what the report shows, and a line in the terminal."""
    spent, asked = summary["spent"], summary.get("judge") or summary["rewriter"]
    measured = {"asked/tokens": spent["tokens"], "asked/cost": spent["cost"]}
    measured |= {f"rows/{name}": value for name, value in found.items() if value is not None}
    at.folder.add_metrics("eval", 0, 0, spent["flops"] or 0.0, spent["wall_seconds"], measured)
    notes = list(spent["notes"])
    if spent["failed"] or spent["refused"]:
        done = at.folder.path / "done.json"
        notes.append(FAILED.format(count=spent["failed"] + spent["refused"], done=done))
    shown = {
        "page": f"rows/{page}",
        "by": asked["name"],
        "said": said,
        "figures": [*_agreement(summary), *figures(summary, asked["parameters"])],
    }
    at.folder.write_result({"seconds": spent["wall_seconds"], "notes": notes, "corpus": shown})
    for line in (said, *notes):
        at.console.note(line)


def _agreement(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Whether the judge agrees with itself, as the rows of a table."""
    check = summary.get("check")
    if not check:
        return []
    rows = []
    level, greedy = check["values"]["level"], not summary["settings"]["sampling"]["temperature"]
    if level["same"] is not None:
        of = f"of {level['both']:,} rows asked twice" + (
            ", greedily: it says nothing of how sure it is" if greedy else ""
        )
        rows.append(("same level again", f"{level['same']:.1%}", of))
    if check["pairs"]:
        rows.append(("same in both orders", f"{check['consistent']:.1%}", f"of {check['pairs']:,} pairs"))
    return rows

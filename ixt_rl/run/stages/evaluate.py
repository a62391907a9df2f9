"""Measuring a model."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from ixt_rl.blocks.data import WorldDataBlock
from ixt_rl.conditioning.told import NothingToTell, Telling
from ixt_rl.errors import PreconditionError
from ixt_rl.evaluation.controls import as_data, gap_of, told_modes
from ixt_rl.evaluation.evaluate import EvaluationPlan, answer, modes_of
from ixt_rl.evaluation.tasks import Task, make_task
from ixt_rl.methods.evaluate import EvaluateStage
from ixt_rl.models import load_tokenizer, tokenizer_notes
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.run.answered import write_answered
from ixt_rl.run.folder import StageFolder
from ixt_rl.run.stages.context import StageRun
from ixt_rl.run.stages.fitting import fitting, prompt_limit, with_room
from ixt_rl.run.stages.posterior import measured_posterior, posterior_metrics
from ixt_rl.run.stages.starting_engine import starting_engine


def run(stage: EvaluateStage, at: StageRun) -> None:
    """Measures a model on held-out problems; ranks share what is sampled."""
    started = time.perf_counter()
    tokenizer = load_tokenizer(at.origin, at.model)
    task, untold = _task(stage, tokenizer)

    def ready() -> RolloutEngine:
        return starting_engine(at, stage.sampling, tokenizer)

    def measured(engine: RolloutEngine) -> None:
        _measure(stage, at, task, [*task.notes, *untold, *tokenizer_notes(tokenizer)], engine, tokenizer, started)

    if at.engine.type == "transformers":
        at.ranks.shared(ready(), measured)
    else:
        at.ranks.decided(lambda: measured(ready()))


def _measure(
    stage: EvaluateStage, at: StageRun, task: Task, notes: list[str], engine: RolloutEngine, tokenizer, started: float
) -> None:
    section = with_room(stage.sampling, at.model)
    rows, audit = fitting(task, task.eval_rows(stage.problems), section, tokenizer)
    plan = EvaluationPlan(
        section.max_new_tokens,
        section.temperature,
        section.top_p,
        max_prompt_tokens=prompt_limit(section),
        chat_template_kwargs=task.chat_template_kwargs,
        stop=tuple(section.stop),
    )
    for note in notes:
        at.console.note(note)
    with at.console.stage(stage, at.seed, 1) as progress:
        modes = modes_of(tokenizer, rows, plan, task.told_columns)
        answers = answer(engine, tokenizer, task, rows, modes)
        posterior = measured_posterior(stage, at, engine, tokenizer, task, rows, plan)
        modes_found = told_modes(answers.values)
        metrics = {**answers.metrics(), **gap_of(modes_found), **posterior_metrics(posterior)}
        progress.evaluation(0, metrics)
    seconds = time.perf_counter() - started
    at.folder.add_metrics("eval", 0, 0, 0.0, seconds, metrics)
    at.folder.add_samples(0, answers.samples)
    write_answered(at.folder.path, answers, rows)
    result = {"seconds": seconds, "notes": notes, "prompt_lengths": audit.summary()}
    told: dict[str, Any] = {"told": as_data(modes_found)} if task.told_columns else {}
    if posterior is not None:
        told["posterior"] = asdict(posterior)
    at.folder.write_result({**result, **told, **task.gold_kinds})


def _task(stage: EvaluateStage, tokenizer) -> tuple[Task, list[str]]:
    """The task with what its rows are told beside the answer, and which of it no row could be told."""
    kinds: tuple[Telling, ...] = ("form", "random", "wrong") if stage.controls else ()
    notes = []
    if kinds and isinstance(stage.template, str) and stage.template.startswith("python:"):
        kinds = ("random", "wrong")
        notes.append("controls: not told nothing: a template of one's own may need what it shows")
    while True:
        try:
            return make_task(stage.data, stage.template, tokenizer=tokenizer, measured_only=True, told=kinds), notes
        except NothingToTell as error:
            kinds = tuple(kind for kind in kinds if kind != error.kind)
            notes.append(f"controls: not told a {error.kind} answer: {error.what} ({error.reason})")


def check_told_gap(stage, folder: StageFolder) -> None:
    """Stops the run where the told mode is not clearly better than the policy.

    Raises:
        PreconditionError: with both measured values.
    """
    if stage.min_told_gap is None:
        return
    metrics = folder.final_metrics()
    name = "strict" if isinstance(stage.data, WorldDataBlock) else "checked"  # a file knows nothing of steps
    told, plain, gap = (metrics.get(metric) for metric in (f"told/{name}", f"sampled/{name}", "told/gap"))
    if told is None or plain is None or gap is None:
        raise PreconditionError(
            f"stage {stage.name}: no problem is decided both told and plain, so that there is no gap",
            reason="min_told_gap compares shares of right answers among those that are right or wrong",
            remedy="correct the golds or data.answer_extract, or set min_told_gap: null to go on anyway",
        )
    if gap < stage.min_told_gap:
        raise PreconditionError(
            f"stage {stage.name}: told {name} {told:.3f}, plain {name} {plain:.3f}, gap {gap:.3f} "
            f"< min_told_gap={stage.min_told_gap}",
            reason="answer-conditioned credit needs an answer-conditioned mode that is clearly better than the "
            "policy; training on would show noise",
            remedy="use a stronger base (pretrain it longer, in a world), or set min_told_gap: null to go on anyway",
        )

"""Measuring a model."""

from __future__ import annotations

import time

import torch

from ixt_rl.config.schema import RunConfig
from ixt_rl.evaluation.evaluate import EvaluationPlan, evaluate
from ixt_rl.evaluation.tasks import make_task
from ixt_rl.methods.evaluate import EvaluateStage
from ixt_rl.models import eos_ids, load_model, load_tokenizer, tokenizer_notes
from ixt_rl.rollout import TransformersEngine
from ixt_rl.rollout.sync import send_policy
from ixt_rl.run.console import RunConsole
from ixt_rl.run.folder import StageFolder
from ixt_rl.run.stages.engines import Engines
from ixt_rl.run.stages.fitting import fitting, prompt_limit, with_room
from ixt_rl.run.stages.task_notes import gold_kinds


def run_evaluate(
    config: RunConfig,
    stage: EvaluateStage,
    seed,
    origin: str,
    folder: StageFolder,
    console: RunConsole,
    engines: Engines,
) -> None:
    """Measures a model on held-out problems."""
    started = time.perf_counter()
    model, tokenizer = load_model(origin, config.model, train=False), load_tokenizer(origin, config.model)
    task = make_task(stage.data, stage.template, tokenizer=tokenizer, measured_only=True)
    ends = eos_ids(model, tokenizer)
    engine = engines.get(stage.rollout, origin, ends)
    if engine is None:
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        model.to(device or "cpu")  # type: ignore[arg-type]  # transformers wraps `to` for its type
        engine = TransformersEngine(model, ends, tokenizer.pad_token_id, stage.rollout.batch_size)
    else:
        send_policy(engine, model, 0)
    section = with_room(stage.rollout, config)
    rows, audit = fitting(task, task.eval_rows(stage.problems), section, tokenizer)
    plan = EvaluationPlan(
        section.max_new_tokens,
        section.temperature,
        section.top_p,
        max_prompt_tokens=prompt_limit(section),
        chat_template_kwargs=task.chat_template_kwargs,
    )
    notes = [*task.notes, *tokenizer_notes(tokenizer)]
    for note in notes:
        console.note(note)
    with console.stage(stage, seed, 1) as progress:
        metrics, samples = evaluate(engine, tokenizer, task, rows, plan)
        progress.evaluation(0, metrics)
    seconds = time.perf_counter() - started
    folder.add_metrics("eval", 0, 0, 0.0, seconds, metrics)
    folder.add_samples(0, samples)
    result = {"seconds": seconds, "notes": notes, "prompt_lengths": audit.summary()}
    folder.write_result({**result, **gold_kinds(task)})

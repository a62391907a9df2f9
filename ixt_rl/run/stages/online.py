"""Stages that train on the policy's own rollouts."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from ixt_rl.blocks.data import WorldData
from ixt_rl.blocks.documents import WorldCorpus
from ixt_rl.blocks.keeping import KeepFields, deciding, reward_names
from ixt_rl.blocks.sampling import RolloutSection
from ixt_rl.config.schema import RunConfig
from ixt_rl.data.questions import LengthAudit, exact_dataset
from ixt_rl.evaluation.evaluate import EvaluationPlan, evaluate
from ixt_rl.evaluation.tasks import Task, make_task
from ixt_rl.methods.online import OnlineStage
from ixt_rl.models import eos_ids, load_model, load_tokenizer
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.run.callbacks import StageCallback
from ixt_rl.run.console import RunConsole
from ixt_rl.run.folder import StageFolder
from ixt_rl.run.stages.engines import Engines
from ixt_rl.run.stages.fitting import fitting, prompt_limit, with_room
from ixt_rl.run.stages.rewards import count_judges, guarded, judges_notes, measuring, reward_functions
from ixt_rl.run.stages.task_notes import gold_kinds
from ixt_rl.run.stages.train import (
    correction,
    ends_notes,
    lora_config,
    save_model,
    train,
    training_arguments,
    uncounted_note,
)
from ixt_rl.trainers import (
    GRPOConfig,
    GRPOTrainer,
    InTROConfig,
    InTROTrainer,
    RAFTConfig,
    RAFTTrainer,
)


def run_online(
    config: RunConfig, stage: OnlineStage, seed: int, origin: str, folder: StageFolder, console: RunConsole,
    engines: Engines,
) -> None:  # fmt: skip
    """InTRO, GRPO or RAFT on the policy's own rollouts; writes the model, rows, samples and failures."""
    started = time.perf_counter()
    functions = reward_functions(stage)
    rewards = guarded(stage, functions, folder.path / "reward_failures.jsonl")
    tokenizer = load_tokenizer(origin, config.model)
    judge = measuring(stage, functions, folder.path / "evaluation_failures.jsonl")
    task = make_task(stage.data, stage.template, judge, tokenizer)
    wanted = stage.rollouts_until(stage.steps) // stage.group_size
    section = with_room(stage.rollout, config)
    rows, audit = fitting(task, task.train_rows(wanted, seed), section, tokenizer)
    model = load_model(origin, config.model, train=True)
    config_class, trainer_class, options = _method(stage)
    micro_batch = stage.micro_batch_size or stage.rollouts_per_step
    args = config_class(
        **training_arguments(stage.optim, stage.steps, seed, folder, config, stage.checkpoint_every),
        **options,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=stage.rollouts_per_step // micro_batch,
        steps_per_generation=stage.steps_per_generation * stage.rollouts_per_step // micro_batch,
        num_iterations=stage.num_iterations,
        reward_weights=[spec.weight for spec in stage.rewards],
        num_generations=stage.group_size,
        max_completion_length=stage.rollout.max_new_tokens,
        temperature=stage.rollout.temperature,
        top_p=stage.rollout.top_p,
        top_k=stage.rollout.top_k,
        chat_template_kwargs=dict(task.chat_template_kwargs) or None,
        gradient_checkpointing=stage.gradient_checkpointing,
    )
    rollouts = EngineRollouts(
        engines.get(stage.rollout, origin, eos_ids(model, tokenizer)),
        section.batch_size,
        staleness=config.rollout.staleness,
        parity_limit=config.rollout.parity_limit,
        max_prompt_tokens=prompt_limit(section),
    )
    trainer = trainer_class(
        model,
        rewards,
        args,
        train_dataset=exact_dataset(rows),
        processing_class=tokenizer,
        grader=task.grader,
        peft_config=lora_config(stage.lora),
        rollouts=rollouts,
        correction=correction(config.rollout),
    )
    for note in task.notes:
        console.note(note)
    count_judges(functions, trainer.ledger)
    with console.stage(stage, seed, stage.steps) as progress:
        callback = StageCallback(
            folder,
            progress,
            flops=lambda: trainer.ledger.total() * trainer.accelerator.num_processes,
            rollouts=stage.rollouts_until,
            evaluate=_evaluator(stage, task, section, trainer, tokenizer),
            evaluate_every=stage.evaluation.every if stage.evaluation else 1,
            evaluate_at_start=stage.evaluation is not None and stage.evaluation.at_start,
        )

        def result() -> dict[str, Any]:
            further = [*nothing_learnt(folder.metrics()), *ends_notes(trainer), *uncounted_note(trainer.ledger)]
            further += judges_notes(functions)
            return _online_result(started, rewards, audit, task, further)

        with folder.recording(result):
            train(trainer, callback, folder)
    save_model(trainer, tokenizer, folder)


def _method(stage: OnlineStage) -> tuple[type, type, dict[str, Any]]:
    """(config class, trainer class, the method's options) of a stage's type."""
    if stage.type == "intro":
        intro = stage.intro
        options = intro.model_dump(include={"candidates", "include_taken", "clip", "importance_ratio", "keep_reward"})
        options |= {"posterior": intro.posterior.source, "posterior_decay": intro.posterior.decay}
        options["keep"] = _keep(stage, intro)
        return InTROConfig, InTROTrainer, options
    if stage.type == "raft":
        options = stage.raft.model_dump(include={"importance_ratio", "keep_reward"})
        options["keep"] = _keep(stage, stage.raft)
        if stage.raft.importance_ratio:
            options["epsilon"] = stage.raft.epsilon
        return RAFTConfig, RAFTTrainer, options
    return GRPOConfig, GRPOTrainer, stage.grpo.model_dump()


def nothing_learnt(rows: list[dict[str, Any]]) -> list[str]:
    """A note where no update had anything to learn from: no rationale kept, or no group with two different rewards.

    Args:
        rows: the stage's metrics.
    """
    rows = [row for row in rows if row["phase"] == "train"]
    kept = [row["kept_share"] for row in rows if row.get("kept_share") is not None]
    level = [row["frac_reward_zero_std"] for row in rows if row.get("frac_reward_zero_std") is not None]
    if kept and not any(kept):
        return ["no rationale was kept in any update: nothing was trained, and the model is the one it started from"]
    if not kept and level and min(level) == 1:
        return ["all completions of each group had the same reward in every update: there was nothing to compare"]
    return []


def _keep(stage: OnlineStage, section: KeepFields) -> list[str]:
    """Names of the rewards that decide."""
    names = reward_names(stage.rewards)
    return [names[place] for place in deciding(stage.rewards, section.keep)]


def _fitting(task: Task, rows: list[dict], section: RolloutSection, tokenizer) -> tuple[list[dict], LengthAudit]:
    """Rows whose prompts, plain and told, are as long as `rollout.on_long` lets them be, with the prompts' ids."""
    options = task.chat_template_kwargs
    columns = ("prompt", "told_prompt")
    made = [
        {f"{name}_ids": np.array(encode_prompt(tokenizer, row[name], None, options), np.int32) for name in columns}
        for row in rows
    ]
    lengths = [max(map(len, ids.values())) for ids in made]
    rows = [{**row, **ids} for row, ids in zip(rows, made, strict=True)]
    return audit_lengths(rows, lengths, section.max_prompt_tokens, section.on_long)


def _with_room(section: RolloutSection, config: RunConfig) -> RolloutSection:
    """`section`, with prompts no longer than the model's positions less a completion, where those are known."""
    positions = model_positions(config.model)
    if positions is None:
        return section
    room = positions - section.max_new_tokens
    return section.model_copy(update={"max_prompt_tokens": min(section.max_prompt_tokens, room)})


def _prompt_limit(section: RolloutSection) -> int | None:
    return section.max_prompt_tokens if section.on_long == "truncate" else None


def _evaluator(stage: OnlineStage, task: Task, rollout: RolloutSection, trainer, tokenizer):
    section = stage.evaluation
    if section is None:
        return None
    rows, _ = fitting(task, task.eval_rows(section.problems), rollout, tokenizer)
    plan = EvaluationPlan(
        rollout.max_new_tokens,
        section.temperature,
        section.top_p,
        samples=section.samples,
        max_prompt_tokens=prompt_limit(rollout),
        chat_template_kwargs=task.chat_template_kwargs,
    )

    def run() -> tuple[dict[str, float], list[dict[str, Any]]]:
        with trainer.ledger.paused():  # the judge of a reward grades here too
            return trainer.rollouts.evaluated(trainer, lambda engine: evaluate(engine, tokenizer, task, rows, plan))

    return run


def _online_result(started: float, rewards, audit: LengthAudit, task: Task, further: list[str]) -> dict[str, Any]:
    failed = sum(reward.failures for reward in rewards)
    notes = [
        f"{reward.__name__}: {reward.failures} of {reward.samples} calls failed, last: {reward.last_error}"
        for reward in rewards
        if reward.failures
    ]
    return {
        "seconds": time.perf_counter() - started,
        "reward_errors": failed,
        "notes": [*task.notes, *notes, *further],
        "prompt_lengths": audit.summary(),
        **gold_kinds(task),
    }

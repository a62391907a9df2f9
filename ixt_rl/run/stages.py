"""What each type of stage does: config and model in, files in a stage folder out."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from ixt_rl.blocks.data import WorldData
from ixt_rl.blocks.documents import WorldCorpus
from ixt_rl.blocks.keeping import KeepFields, deciding, reward_names
from ixt_rl.blocks.passages import WorldPassages
from ixt_rl.blocks.sampling import RolloutSection
from ixt_rl.conditioning import encode_prompt
from ixt_rl.config.positions import model_positions
from ixt_rl.config.schema import RunConfig
from ixt_rl.data.loaders import LengthAudit, audit_lengths, exact_dataset
from ixt_rl.evaluation.evaluate import EvaluationPlan, evaluate
from ixt_rl.evaluation.tasks import Task, make_task
from ixt_rl.methods.evaluate import EvaluateStage
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.pretrain import PretrainStage
from ixt_rl.models import byte_tokenizer, eos_ids, load_model, load_tokenizer, new_model, tokenizer_notes
from ixt_rl.rollout import TransformersEngine
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.rollout.weights import send_policy
from ixt_rl.run.callbacks import StageCallback
from ixt_rl.run.console import RunConsole
from ixt_rl.run.engines import Engines
from ixt_rl.run.fingerprint import initial_path
from ixt_rl.run.folder import RunFolder, StageFolder
from ixt_rl.run.rewards import count_judges, guarded, judges_notes, measuring, reward_functions
from ixt_rl.run.training import (
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
    PretrainConfig,
    PretrainTrainer,
    RAFTConfig,
    RAFTTrainer,
)
from ixt_rl.worlds import WORLDS, AdditionWorld


def initial_model(config: RunConfig, folder: RunFolder) -> str:
    """Path or hub id of the model that the first stage starts from; a new one is written first."""
    if config.model.path is not None:
        return config.model.path
    assert config.model.new is not None
    data = config.stages[0].data
    world = WORLDS[data.world]() if isinstance(data, WorldData | WorldCorpus | WorldPassages) else AdditionWorld()
    tokenizer = byte_tokenizer() if config.model.new.tokenizer == "bytes" else world.tokenizer()
    path = initial_path(config)
    new_model(config.model.new, tokenizer).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def run_pretrain(
    config: RunConfig,
    stage: PretrainStage,
    seed,
    origin: str,
    folder: StageFolder,
    console: RunConsole,
    engines: Engines,
) -> None:
    """Next-token prediction on a world's documents; writes the model and the loss curve."""
    started = time.perf_counter()
    model, tokenizer = load_model(origin, config.model, train=True), load_tokenizer(origin, config.model)
    documents = WORLDS[stage.data.world](stage.data.view).documents(stage.steps * stage.batch_size, stage.seed)
    args = PretrainConfig(
        **training_arguments(stage.optim, stage.steps, stage.seed, folder, config, checkpoint_every=None),
        per_device_train_batch_size=stage.batch_size,
        gradient_checkpointing=False,
    )
    trainer = PretrainTrainer(model, args, documents, tokenizer)
    with console.stage(stage, seed, stage.steps) as progress:
        train(trainer, StageCallback(folder, progress, trainer.ledger.total), folder)
    save_model(trainer, tokenizer, folder)
    folder.write_result({"seconds": time.perf_counter() - started})


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
    section = _with_room(stage.rollout, config)
    rows, audit = _fitting(task, task.eval_rows(stage.problems), section, tokenizer)
    plan = EvaluationPlan(
        section.max_new_tokens,
        section.temperature,
        section.top_p,
        max_prompt_tokens=_prompt_limit(section),
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
    folder.write_result({**result, **_gold_kinds(task)})


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
    section = _with_room(stage.rollout, config)
    rows, audit = _fitting(task, task.train_rows(wanted, seed), section, tokenizer)
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
        max_prompt_tokens=_prompt_limit(section),
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
    rows, _ = _fitting(task, task.eval_rows(section.problems), rollout, tokenizer)
    plan = EvaluationPlan(
        rollout.max_new_tokens,
        section.temperature,
        section.top_p,
        samples=section.samples,
        max_prompt_tokens=_prompt_limit(rollout),
        chat_template_kwargs=task.chat_template_kwargs,
    )

    def run() -> tuple[dict[str, float], list[dict[str, Any]]]:
        with trainer.ledger.paused():  # the judge of a reward grades here too
            return trainer.rollouts.evaluated(trainer, lambda engine: evaluate(engine, tokenizer, task, rows, plan))

    return run


def _gold_kinds(task: Task) -> dict[str, Any]:
    return {"golds": dict(task.golds)} if task.golds else {}


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
        **_gold_kinds(task),
    }

"""Stages that train on the policy's own rollouts."""

from __future__ import annotations

import time
from typing import Any

from ixt_rl.blocks.data import ProblemMixtureBlock
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.data.questions import LengthAudit, exact_dataset
from ixt_rl.evaluation.evaluate import EvaluationPlan, answer, modes_of
from ixt_rl.evaluation.tasks import Task, make_task
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.registry import spec_of
from ixt_rl.models import eos_ids, load_tokenizer
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.run.answered import write_answered
from ixt_rl.run.best import BestModel, best_model
from ixt_rl.run.callbacks import StageCallback
from ixt_rl.run.stages.adapters import base_model, lora_config
from ixt_rl.run.stages.context import StageRun
from ixt_rl.run.stages.difficulty import reading_rates
from ixt_rl.run.stages.fitting import fitting, prompt_limit, with_room
from ixt_rl.run.stages.prompts import prompts_of
from ixt_rl.run.stages.rewards import Rewards, count_judges, open_rewards
from ixt_rl.run.stages.suites import SuitesInTraining, engine_of, suites_of, with_suites
from ixt_rl.run.stages.train import (
    correction,
    ends_notes,
    save_model,
    share_of_batch,
    train,
    training_arguments,
    uncounted_note,
)
from ixt_rl.run.trainers import configured, trainer_class


def run(stage: OnlineStage, at: StageRun) -> None:
    """A method on the policy's own rollouts; writes the model, rows, samples and failures."""
    started, folder = time.perf_counter(), at.folder
    rewards = open_rewards(stage, folder.path, at.ranks, at.console.asking("judge"))
    tokenizer = load_tokenizer(at.origin, at.model)
    data = reading_rates(stage.data, stage.difficulty)
    task = make_task(data, stage.template, rewards.measure, tokenizer, told=stage.tells)
    sampling = with_room(stage.sampling, at.model)
    prompts = prompts_of(stage, at, task, sampling, rewards, tokenizer)
    stage = prompts.stage
    model = base_model(stage.lora, at)
    suites = suites_of(stage.evaluation, model, tokenizer)
    trainer_of = trainer_class(stage)
    trainer = trainer_of(
        model,
        rewards.guarded,
        configured(
            stage, trainer_of, **_options(stage, at), chat_template_kwargs=dict(task.chat_template_kwargs) or None
        ),
        train_dataset=exact_dataset(prompts.rows, prompts.order),
        processing_class=tokenizer,
        grader=task.grader,
        peft_config=lora_config(stage.lora, model),
        rollouts=_rollouts(
            at, sampling, engine_of(at, stage.sampling, eos_ids(model, tokenizer), stage.evaluation_stop, suites)
        ),
        correction=correction(at.engine),
        **({"dynamic_sampling": stage.max_rounds} if stage.max_rounds else {}),
        **({"sources": task.sources} if task.sources else {}),
    )
    notes = [*prompts.notes, *(suites.notes if suites else [])]
    for note in [*task.notes, *notes]:
        at.console.note(note)
    count_judges(rewards.functions, trainer.ledger)
    if at.ranks.leads:  # what was spent once, for all
        trainer.ledger.tokens.update(prompts.spent)  # a checkpoint has it among its own
    best = best_model(stage, folder, trainer, ranks=at.ranks)
    with at.console.stage(stage, at.seed, trainer.args.max_steps) as progress:
        callback = StageCallback(
            folder,
            progress,
            ledger=lambda: trainer.ledger.of_all(at.ranks.gathered),
            rollouts=lambda step: prompts.sampled + stage.rollouts_until(step) + trainer.drawn_again,
            evaluate=_evaluator(stage, at, task, sampling, trainer, tokenizer, suites),
            evaluate_every=stage.evaluation.every if stage.evaluation else 1,
            evaluate_at_start=stage.evaluation is not None and stage.evaluation.at_start,
            best=best,
        )

        def result() -> dict[str, Any]:
            learnt = [*nothing_learnt(folder.metrics()), *ends_notes(trainer), *uncounted_note(trainer.ledger)]
            return _result(started, rewards, prompts.audit, task, [*notes, *learnt], best)

        with folder.recording(result):
            train(trainer, callback, folder)
    save_model(trainer, tokenizer, folder, best)


def _rollouts(at: StageRun, sampling: SamplingBlock, engine: RolloutEngine | None) -> EngineRollouts:
    return EngineRollouts(
        engine,
        sampling.batch_size,
        staleness=at.engine.staleness,
        parity_limit=at.engine.parity_limit,
        max_prompt_tokens=prompt_limit(sampling),
        stop=sampling.stop,
        ranks=at.ranks,
    )


def _options(stage: OnlineStage, at: StageRun) -> dict[str, Any]:
    """Options of the trainer's config class: those of all online trainers, and the method's own."""
    assert stage.steps is not None  # `lasting` has counted epochs
    here = share_of_batch(stage.rollouts_per_step, stage.micro_batch_size, at.launch.ranks)
    return {
        **training_arguments(stage.optim, stage.steps, at.seed or 0, at, stage.checkpoint_every),
        **spec_of(stage).options(stage),
        **here,
        "steps_per_generation": stage.steps_per_generation * here["gradient_accumulation_steps"],
        "num_iterations": stage.num_iterations,
        "reward_weights": [reward.weight for reward in stage.rewards],
        "num_generations": stage.group_size,
        "max_completion_length": stage.sampling.max_new_tokens,
        "temperature": stage.sampling.temperature,
        "top_p": stage.sampling.top_p,
        "top_k": stage.sampling.top_k,
        "min_p": stage.sampling.min_p or None,
        "gradient_checkpointing": stage.gradient_checkpointing,
        **({"shuffle_dataset": False} if isinstance(stage.data, ProblemMixtureBlock) else {}),  # it has its order
    }


def nothing_learnt(rows: list[dict[str, Any]]) -> list[str]:
    """A note where no update had anything to learn from: no rationale kept, no group with two different rewards, no
    reward decided, or nothing to show a teacher.

    Args:
        rows: the stage's metrics.
    """

    def values(name: str) -> list[float]:
        return [row[name] for row in rows if row["phase"] == "train" and row.get(name) is not None]

    trained, kept, level = (values(name) for name in ("rollout/trained", "rollout/kept", "frac_reward_zero_std"))
    shown = values("self_distillation/reprompt_sample_fraction")
    undecided = values("rollout/undecided")
    if shown and not any(shown):
        return ["no rollout had a right one beside it in any update: the teacher saw nothing, and nothing was trained"]
    if any(trained) or (any(kept) and not trained):
        return []
    if kept and not trained:
        return ["no rationale was kept in any update: nothing was trained, and the model is the one it started from"]
    if (trained or level) and undecided and min(undecided) == 1:
        return ["the rewards of all completions were undecided in every update: there was nothing to compare"]
    if trained or (level and min(level) == 1):  # a method may have rewards of its own: `level` is that of the stage's
        return ["no two completions of a group had different rewards in any update: there was nothing to compare"]
    return []


def evaluation_plan(stage: OnlineStage, task: Task, sampling: SamplingBlock) -> EvaluationPlan:
    """What the stage's `evaluation` samples, with the limits of `sampling`."""
    section = stage.evaluation
    assert section is not None
    return EvaluationPlan(
        sampling.max_new_tokens,
        section.temperature,
        section.top_p,
        samples=section.samples,
        max_prompt_tokens=prompt_limit(sampling),
        chat_template_kwargs=task.chat_template_kwargs,
        stop=tuple(stage.evaluation_stop),
    )


def _evaluator(
    stage: OnlineStage,
    at: StageRun,
    task: Task,
    sampling: SamplingBlock,
    trainer,
    tokenizer,
    suites: SuitesInTraining | None,
):
    section = stage.evaluation
    if section is None:
        return None
    rows = task.eval_rows(section.problems)
    if rows or suites is None:
        rows, _ = fitting(task, rows, sampling, tokenizer)
    plan = evaluation_plan(stage, task, sampling)

    def measured(engine: RolloutEngine) -> tuple[dict[str, float], list[dict[str, Any]]]:
        if not rows:
            return with_suites({}, [], suites, engine)
        answers = answer(engine, tokenizer, task, rows, modes_of(tokenizer, rows, plan))
        if at.ranks.leads and stage.keep_best is None:  # else the last evaluation is not the one that counts
            write_answered(at.folder.path, answers, rows)
        return with_suites(answers.metrics(), answers.samples, suites, engine)

    def run() -> tuple[dict[str, float], list[dict[str, Any]]]:
        with trainer.ledger.paused():  # the judge of a reward grades here too
            return trainer.rollouts.evaluated(trainer, measured)

    return run


def _result(
    started: float, rewards: Rewards, audit: LengthAudit, task: Task, further: list[str], best: BestModel | None
) -> dict[str, Any]:
    failed, said = rewards.result()
    kept = best.notes() if best else []
    return {
        "seconds": time.perf_counter() - started,
        "reward_errors": failed,
        "notes": [*task.notes, *said, *further, *kept],
        "prompt_lengths": audit.summary(),
        **task.gold_kinds,
        **(best.result() if best else {}),
    }

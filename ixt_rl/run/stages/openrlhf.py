"""Stages on rollouts that OpenRLHF trains (`backend: openrlhf`): measured here before and after, trained there."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ixt_rl.blocks.keeping import deciding, reward_names
from ixt_rl.blocks.rewards import judges_asked
from ixt_rl.errors import RewardError
from ixt_rl.evaluation.evaluate import answer, modes_of
from ixt_rl.evaluation.tasks import Task, make_task
from ixt_rl.files import read_rows
from ixt_rl.integrations.openrlhf.flags import command_line, ppo_flags
from ixt_rl.integrations.openrlhf.job import LOGGED, label, ordered, run_job
from ixt_rl.integrations.openrlhf.updates import method_of
from ixt_rl.judging.opening import parse_judge
from ixt_rl.ledger import Ledger, ModelSize, model_size
from ixt_rl.methods.online import OnlineStage
from ixt_rl.models import checkpoint_eos_ids, load_model, load_tokenizer
from ixt_rl.rollout.pool.variables import HUB, value_of
from ixt_rl.run.answered import keep_start, write_answered
from ixt_rl.run.folder import FAILURES
from ixt_rl.run.stages.context import StageRun
from ixt_rl.run.stages.difficulty import reading_rates
from ixt_rl.run.stages.fitting import fitting, prompt_limit, with_room
from ixt_rl.run.stages.online import evaluation_plan, nothing_learnt
from ixt_rl.run.stages.openrlhf_checks import check_before, check_update
from ixt_rl.run.stages.openrlhf_job import (
    JobRows,
    absolute,
    checked_python,
    go_on,
    job_folder,
    job_settings,
    leave_devices,
    take_model,
)
from ixt_rl.run.stages.openrlhf_rewards import JUDGE_NOTES, notes_of_engines
from ixt_rl.run.stages.prompts import Prompts, prompts_of
from ixt_rl.run.stages.rewards import Rewards, judges, open_rewards
from ixt_rl.run.stages.starting_engine import starting_engine

_OPTIONS = {"candidates", "include_taken", "clip", "keep_reward", "factor_epsilon", "mix", "scale_rewards"}
"""Keys of the methods' blocks that its actors read."""

_AGENT = '''"""Samples and rewards for one stage; written by ixt-rl."""

import os

from ixt_rl.integrations.openrlhf.executor import executor
from ixt_rl.run.stages.openrlhf_rewards import rewards_of_job

os.chdir({folder!r})  # files that rewards name begin there; in a cluster engines begin elsewhere
AgentExecutor = executor(*rewards_of_job({path!r}))
'''


def run(stage: OnlineStage, at: StageRun) -> None:
    """A method on the policy's own rollouts, in OpenRLHF; writes the model, rows, samples and failures."""
    started, folder = time.perf_counter(), at.folder
    assert stage.openrlhf is not None
    python, notes = checked_python(stage.openrlhf.python, at)
    rewards = open_rewards(stage, folder.path)
    tokenizer = load_tokenizer(at.origin, at.model)
    task = make_task(
        reading_rates(stage.data, stage.difficulty), stage.template, rewards.measure, tokenizer, told=stage.tells
    )
    sampling = with_room(stage.sampling, at.model)
    prompts = prompts_of(stage, at, task, sampling, rewards, tokenizer)
    stage = prompts.stage
    given = _job(stage, at, checkpoint_eos_ids(at.origin, at.model, tokenizer))
    model = load_model(at.origin, at.model.model_copy(update={"attention": "sdpa"}), train=False)  # on the CPU
    method = method_of(given["method"])
    compared = check_before(model, tokenizer, at.self_checks, method, stage.sampling.temperature)
    notes += [*task.notes, *prompts.notes, *compared]
    for note in notes:
        at.console.note(note)
    measure = _evaluator(stage, task, tokenizer)
    job, checkpoint = job_folder(folder), go_on(folder)
    counted = _Counted(stage, at, prompts, model_size(model))
    del model
    groups = _groups(prompts, at.seed or 0, prompt_limit(sampling))
    settings = job_settings(at, job, folder.checkpoints, checkpoint is not None)
    flags = ppo_flags(sampling_within(stage, groups), settings, job.prompts, job.agent)
    job.write(
        groups,
        _AGENT.format(path=str(job.job), folder=os.getcwd()),
        {"command": command_line(flags), **given},
    )
    with at.console.stage(stage, at.seed, stage.steps or 0) as progress:
        rows = JobRows(folder, progress, started, counted)

        def trained(row: dict[str, Any]) -> None:
            rows.trained(row)
            _within_budget(stage, folder.path / FAILURES)
            if at.self_checks.engine:
                check_update(row, at.engine.parity_limit)

        if checkpoint is None and stage.evaluation is not None and stage.evaluation.at_start:
            rows.evaluated(0, *measure(at))
            keep_start(folder.path)
        leave_devices(at)
        with folder.recording(lambda: _result(started, notes, prompts, task, folder, rewards)):
            run_job(job, python, trained)
            take_model(job, folder, rows.step, stage.steps or 0, at.origin, tokenizer)
            if stage.evaluation is not None:
                rows.evaluated(rows.step, *measure(replace(at, origin=str(folder.model))))


def _job(stage: OnlineStage, at: StageRun, eos: tuple[int, ...]) -> dict[str, Any]:
    assert stage.openrlhf is not None
    correction = stage.openrlhf.correction
    method = {
        "type": stage.type,
        "group_size": stage.group_size,
        "weights": [reward.weight for reward in stage.rewards],
        "correction": None if correction is None else correction.model_dump(),
        "posterior": stage.own.posterior.source,
        "frozen_model": absolute(at.origin),
        "trust_remote_code": at.model.trust_remote_code,
        **stage.own.model_dump(include=_OPTIONS),
    }
    if stage.kept_by is not None:
        method["deciding"] = deciding(stage.rewards, stage.kept_by.keep)
    return {
        "method": method,
        "reward_names": reward_names(stage.rewards),
        "logged": list(LOGGED[stage.type]),
        "seed": at.seed or 0,
        "steps": stage.steps,
        "eos_ids": list(eos),
        "stage": stage.model_dump(mode="json", exclude=set(stage.other_blocks)),
        "failures": str((at.folder.path / FAILURES).resolve()),
        "judge_notes": str((at.folder.path / JUDGE_NOTES).resolve()),
        "variables": _variables(stage, at.origin),
    }


def _variables(stage: OnlineStage, origin: str) -> list[str]:
    """Names of variables that judges of rewards are asked by, and a model of the hub, where processes are on nodes that
    do not have them."""
    if "RAY_ADDRESS" not in os.environ:  # this process starts Ray, whose processes have its environment
        return []
    asked = [parse_judge(one.judge, one.options) for one in judges_asked(stage.rewards)]
    of_hub = () if Path(origin).is_dir() else HUB
    names = dict.fromkeys(chain(of_hub, *(one.variables for one in asked)))
    return [name for name in names if value_of(name) is not None]


def sampling_within(stage: OnlineStage, groups: Sequence[Mapping[str, Any]]) -> OnlineStage:
    """`stage`, whose longest prompt is that of `groups`: engines refuse to start with more room than the model has."""
    longest = max(len(json.loads(group["label"])["prompt_ids"]) for group in groups)
    return stage.model_copy(
        update={"sampling": stage.sampling.model_copy(update={"max_prompt_tokens": max(1, longest)})}
    )


def _groups(prompts: Prompts, seed: int, limit: int | None) -> list[dict[str, Any]]:
    """A row for each group of all updates; `limit`: of ids of a prompt."""
    stage, rows = prompts.stage, prompts.rows
    at_once = stage.rollouts_per_step // stage.group_size
    draws = np.random.default_rng(seed)
    order = None if prompts.order is None else prompts.order.tolist()
    places = ordered(
        len(rows), (stage.steps or 0) * at_once, at_once, order, lambda: draws.permutation(len(rows)).tolist()
    )
    return [{"prompt": str(rows[place]["question"]), "label": label(rows[place], limit)} for place in places]


class _Counted:
    """Rollouts and FLOPs by the end of an update."""

    def __init__(self, stage: OnlineStage, at: StageRun, prompts: Prompts, size: ModelSize):
        self.stage, self.prompts = stage, prompts
        self.ledger = Ledger(size)
        before = [row["flops"] for row in at.folder.metrics() if row["phase"] == "train"]
        self.flops_before = before[-1] if before else 0.0
        if not before:  # else they have it
            self.ledger.tokens.update(prompts.spent)

    def __call__(self, step: int, row: dict[str, Any]) -> tuple[int, float, dict[str, float]]:
        row.pop("seconds", None)
        for phase in ("rollout", "posterior", "train"):
            self.ledger.add(phase, row.pop(f"tokens/{phase}", 0))
        rollouts = self.prompts.sampled + self.stage.rollouts_until(step)
        return rollouts, self.flops_before + self.ledger.total(), {}


def _evaluator(stage: OnlineStage, task: Task, tokenizer: Any) -> Callable[[StageRun], tuple[Any, Any]]:
    """Measures the model that a `StageRun` starts from."""

    def measured(at: StageRun) -> tuple[dict[str, float], list[dict[str, Any]]]:
        section = stage.evaluation
        assert section is not None
        sampling = with_room(stage.sampling, at.model)
        rows, _ = fitting(task, task.eval_rows(section.problems), sampling, tokenizer)
        engine = starting_engine(at, stage.sampling, tokenizer, stage.evaluation_stop)
        plan = evaluation_plan(stage, task, sampling)
        answers = answer(engine, tokenizer, task, rows, modes_of(tokenizer, rows, plan))
        write_answered(at.folder.path, answers, rows)
        return answers.metrics(), answers.samples

    return measured


def _result(started: float, notes: list[str], prompts: Prompts, task: Task, folder: Any, rewards: Rewards) -> dict:
    return {
        "seconds": time.perf_counter() - started,
        "reward_errors": len(read_rows(folder.path / FAILURES)),
        "notes": [
            *notes,
            *rewards.result()[1],
            *notes_of_engines(folder.path / JUDGE_NOTES),
            *nothing_learnt(folder.metrics()),
            *_uncounted(rewards),
        ],
        "prompt_lengths": prompts.audit.summary(),
        **task.gold_kinds,
    }


def _within_budget(stage: OnlineStage, failures: Path) -> None:
    """Raises RewardError where engines, each of which counts alone, have lost more samples than the stage allows."""
    for name, lost in Counter(row["reward"] for row in read_rows(failures)).items():
        if lost > stage.reward_errors.max_total:
            raise RewardError(
                f"reward {name!r} failed on {lost} samples of all engines",
                reason=f"the budget is {stage.reward_errors.max_total} in all (reward_errors.max_total)",
                remedy=f"the samples are in {failures}: correct the reward or the data, or raise the budget",
            )


def _uncounted(rewards: Rewards) -> list[str]:
    """What a result says of judges that engines of OpenRLHF ask; nothing where there are none."""
    asked = judges(rewards.functions)
    return ["FLOPs: what judges of rewards read and wrote in OpenRLHF's engines is uncounted"] if asked else []

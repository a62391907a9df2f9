"""Reward functions of a stage, each behind the guard."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ixt_rl.config.schema import OnlineStage
from ixt_rl.evaluation.tasks import Task
from ixt_rl.rewards import GuardedReward, MathReward, RewardBudget, format_reward, length_reward


def stage_rewards(stage: OnlineStage, task: Task, failures_path: Path) -> list[GuardedReward]:
    """The stage's reward functions, in its order; failed samples go to `failures_path`."""
    budget = RewardBudget(stage.reward_errors.max_share, stage.reward_errors.max_total)
    return [
        GuardedReward(_function(spec, task), f"{spec.type}_reward", budget, failures_path)
        for spec in stage.rewards
    ]


def _function(spec, task: Task) -> Callable[..., Any]:
    if spec.type == "world":
        return world_reward(task)
    if spec.type == "math":
        return MathReward(deadline_s=spec.deadline_s, workers=spec.workers, extraction=spec.extract)
    if spec.type == "format":
        return format_reward(spec.pattern)
    if spec.type == "length":
        return length_reward(spec.hard, spec.hard - spec.soft)
    return python_reward(spec.path)


def world_reward(task: Task) -> Callable[..., list[float]]:
    """1 where the world finds the answer right in the stage's view, else 0."""

    def reward(prompts, completions, completion_ids, question, **kwargs) -> list[float]:
        assert task.grader is not None
        return [
            float(task.grader({"question": q}, ids).checked)
            for q, ids in zip(question, completion_ids, strict=True)
        ]

    return reward


def python_reward(path: str) -> Callable[..., Any]:
    """The function named by `FILE.py:FUNCTION`."""
    file, _, name = path.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)

"""Reward functions of a stage, each behind the guard."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ixt_rl.config.schema import OnlineStage
from ixt_rl.config.sections import WorldData, WorldReward
from ixt_rl.rewards import GuardedReward, MathReward, RewardBudget, format_reward, length_reward
from ixt_rl.worlds import WORLDS


def reward_functions(stage: OnlineStage) -> list[Callable[..., Any]]:
    """The stage's reward functions, in its order."""
    return [_function(spec, stage) for spec in stage.rewards]


def guarded(stage: OnlineStage, functions: list[Callable[..., Any]], failures_path: Path) -> list[GuardedReward]:
    """Each function behind the guard; failed samples go to `failures_path`."""
    budget = RewardBudget(stage.reward_errors.max_share, stage.reward_errors.max_total)
    return [
        GuardedReward(function, f"{spec.type}_reward", budget, failures_path)
        for function, spec in zip(functions, stage.rewards, strict=True)
    ]


def judge_of(stage: OnlineStage, functions: list[Callable[..., Any]]) -> Callable[..., Any] | None:
    """The reward that says right or wrong, which evaluation of file data uses too: the first math or python one."""
    for function, spec in zip(functions, stage.rewards, strict=True):
        if spec.type in ("math", "python"):
            return function
    return None


def _function(spec, stage: OnlineStage) -> Callable[..., Any]:
    if isinstance(spec, WorldReward):
        assert isinstance(stage.data, WorldData)
        return world_reward(stage.data)
    if spec.type == "math":
        return MathReward(deadline_s=spec.deadline_s, workers=spec.workers, extract=spec.extract)
    if spec.type == "format":
        return format_reward(spec.pattern)
    if spec.type == "length":
        return length_reward(spec.soft, spec.hard)
    return python_reward(spec.path)


def world_reward(data: WorldData) -> Callable[..., list[float]]:
    """1 where the world finds the answer right in the stage's view, else 0."""
    world = WORLDS[data.world](data.view)

    def reward(prompts, completions, completion_ids, question, **kwargs) -> list[float]:
        return [float(world.grade(q, ids).checked) for q, ids in zip(question, completion_ids, strict=True)]

    return reward


def python_reward(path: str) -> Callable[..., Any]:
    """The function named by `FILE.py:FUNCTION`."""
    file, _, name = path.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)

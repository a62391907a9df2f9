"""A stage's rewards inside OpenRLHF's engines, made from the job that the run wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from ixt_rl.blocks.keeping import reward_names
from ixt_rl.errors import DataError
from ixt_rl.files import read_json
from ixt_rl.integrations.openrlhf.job import HOLDER
from ixt_rl.methods.registry import AnyStage
from ixt_rl.rewards import GuardedReward, RewardBudget
from ixt_rl.rollout.pool.variables import take_variables
from ixt_rl.run.stages.rewards import reward_functions


def rewards_of_job(path: str) -> tuple[Sequence[GuardedReward], Sequence[float], Sequence[int]]:
    """(rewards behind the guard, their weights, ids that end a completion) of a job.json.

    Engines ask for as many samples as have ended, so a share of a call says nothing: the total of failures is limited.

    Raises:
        DataError: there is no such file.
    """
    job = read_json(path)
    if job is None:
        raise DataError(path, reason="there is no such file", remedy="give every node the folder of the run")
    if job["variables"]:
        take_variables(HOLDER)  # before a judge is started
    stage = TypeAdapter(AnyStage).validate_python(job["stage"])
    budget = RewardBudget(max_share=1.0, max_total=stage.reward_errors.max_total)
    guarded = [
        GuardedReward(function, name, budget, Path(job["failures"]), stage.reward_errors.deadline_s)
        for function, name in zip(reward_functions(stage), reward_names(stage.rewards), strict=True)
    ]
    return guarded, job["method"]["weights"], job["eos_ids"]

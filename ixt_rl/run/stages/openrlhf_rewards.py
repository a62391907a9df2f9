"""A stage's rewards inside OpenRLHF's engines, made from the job that the run wrote."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ixt_rl.blocks.keeping import reward_names
from ixt_rl.errors import DataError
from ixt_rl.files import append_rows, read_json, read_rows
from ixt_rl.integrations.openrlhf.job import HOLDER
from ixt_rl.judging import Judge
from ixt_rl.judging.client import looping
from ixt_rl.methods.registry import AnyStage
from ixt_rl.rewards import GuardedReward, RewardBudget
from ixt_rl.rewards.calling import RewardFunction
from ixt_rl.rollout.pool.variables import take_variables
from ixt_rl.run.stages.rewards import judges, reward_functions

JUDGE_NOTES = "judge_notes.jsonl"
"""File of a stage's folder: what judges in engines have to say, a row whenever it is something new."""


def rewards_of_job(path: str) -> tuple[Sequence[RewardFunction], Sequence[float], Sequence[int]]:
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
    functions = reward_functions(stage)
    guarded = [
        GuardedReward(function, name, budget, Path(job["failures"]), stage.reward_errors.deadline_s)
        for function, name in zip(functions, reward_names(stage.rewards), strict=True)
    ]
    told = [telling(one, judges([of]), Path(job["judge_notes"])) for one, of in zip(guarded, functions, strict=True)]
    return told, job["method"]["weights"], job["eos_ids"]


def telling(reward: GuardedReward, asked: Sequence[Judge], file: Path) -> RewardFunction:
    """`reward`, which adds to `file` what its judges have to say: they are not where the result is written."""
    if not asked:
        return reward
    where = {"engine": f"{platform.node()}-{os.getpid()}", "reward": reward.__name__}
    last: dict[str, Any] = {"refused": [], "looped": 0}

    def call(*given: Any, **columns: Any) -> Sequence[float | None]:
        try:
            return reward(*given, **columns)
        finally:
            refused = [note for judge in asked for note in judge.refused]
            now = {"refused": refused, "looped": sum(judge.tally.looped for judge in asked)}
            if now != last:
                last.update(now)
                append_rows(file, [{**where, **now}])

    return call


def notes_of_engines(file: Path) -> list[str]:
    """What all judges in engines have to say, in words."""
    last = {(row["engine"], row["reward"]): row for row in read_rows(file)}
    refused = dict.fromkeys(note for row in last.values() for note in row["refused"])
    said = [*refused, *looping(sum(row["looped"] for row in last.values()))]
    return [f"in OpenRLHF's engines: {note}" for note in said]

"""The prompts of an RL stage: the problems that fit and are chosen, how many updates they are for, in which order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.data.questions import LengthAudit
from ixt_rl.evaluation.tasks import Task
from ixt_rl.methods.online import OnlineStage
from ixt_rl.run.stages.context import StageRun
from ixt_rl.run.stages.difficulty import Chosen, by_field, measured
from ixt_rl.run.stages.fitting import fitting, prompt_limit
from ixt_rl.run.stages.mixture import prompts_in_proportion
from ixt_rl.run.stages.rewards import Rewards
from ixt_rl.run.stages.starting_engine import starting_engine
from ixt_rl.trainers.resumable import generators_kept


@dataclass(frozen=True)
class Prompts:
    """What a stage trains on.

    Args:
        stage: with its number of updates.
        rows: the problems.
        order: places in `rows` of the prompts of all updates; None: passes in the trainer's order.
        audit: of their lengths.
        notes: what was left out and how often the rest is seen, in words.
        spent: tokens that choosing them took, as `Ledger.tokens` counts them.
        sampled: completions that choosing them took.
    """

    stage: OnlineStage
    rows: list[dict[str, Any]]
    order: np.ndarray | None
    audit: LengthAudit
    notes: list[str]
    spent: Counter[str]
    sampled: int


def prompts_of(
    stage: OnlineStage, at: StageRun, task: Task, sampling: SamplingBlock, rewards: Rewards, tokenizer
) -> Prompts:
    """The prompts of a stage; measures how difficult they are where the stage asks for it."""
    wanted = stage.rollouts_until(stage.steps or 0) // stage.group_size  # of a world; a file gives all
    wanted *= 1 + stage.max_rounds
    rows, audit = fitting(task, task.train_rows(wanted, at.seed or 0), sampling, tokenizer)
    chosen = _chosen(stage, at, task, sampling, rewards, tokenizer, rows)
    stage = stage.lasting(len(chosen.rows))
    order, said = prompts_in_proportion(stage, chosen.rows, at.seed or 0)
    notes = [*chosen.notes, *_passes(stage, len(chosen.rows)), *said]
    return Prompts(stage, chosen.rows, order, audit, notes, chosen.spent, chosen.sampled)


def _chosen(
    stage: OnlineStage,
    at: StageRun,
    task: Task,
    sampling: SamplingBlock,
    rewards: Rewards,
    tokenizer,
    rows: list[dict[str, Any]],
) -> Chosen:
    if stage.difficulty is None:
        return Chosen(rows)
    if stage.difficulty.field is not None:
        return by_field(stage.difficulty, rows, stage.name)

    def engine():
        return starting_engine(at, sampling, tokenizer, stage.evaluation_stop)

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    with generators_kept(device or torch.device("cpu")):  # as without what was measured before
        return at.ranks.decided(
            lambda: measured(
                stage, rows, rewards, at.folder.path, tokenizer, engine, at.seed or 0, at.console.note,
                prompt_limit(sampling), task.chat_template_kwargs,
            )
        )  # fmt: skip


def _passes(stage: OnlineStage, problems: int) -> list[str]:
    """How many updates `epochs` are."""
    if stage.epochs is None:
        return []
    return [f"epochs: {stage.epochs:g} of {problems} problems are {stage.steps} updates"]

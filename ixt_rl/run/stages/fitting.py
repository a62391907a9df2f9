"""Rows, prompts and limits that fit the model."""

from __future__ import annotations

import numpy as np

from ixt_rl.blocks.model import ModelBlock
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.conditioning import encode_prompt
from ixt_rl.config.positions import model_positions
from ixt_rl.data.questions import LengthAudit, audit_lengths
from ixt_rl.evaluation.tasks import Task


def fitting(task: Task, rows: list[dict], section: SamplingBlock, tokenizer) -> tuple[list[dict], LengthAudit]:
    """Rows whose prompts, plain and told, are as long as `sampling.on_long` lets them be, with the prompts' ids."""
    options = task.chat_template_kwargs
    columns = ("prompt", "told_prompt", *task.told_columns)
    made = [
        {f"{name}_ids": np.array(encode_prompt(tokenizer, row[name], None, options), np.int32) for name in columns}
        for row in rows
    ]
    lengths = [max(map(len, ids.values())) for ids in made]
    rows = [{**row, **ids} for row, ids in zip(rows, made, strict=True)]
    return audit_lengths(rows, lengths, section.max_prompt_tokens, section.on_long)


def with_room(section: SamplingBlock, model: ModelBlock) -> SamplingBlock:
    """`section`, with prompts no longer than the model's positions less a completion, where those are known."""
    positions = model_positions(model)
    if positions is None:
        return section
    room = positions - section.max_new_tokens
    return section.model_copy(update={"max_prompt_tokens": min(section.max_prompt_tokens, room)})


def prompt_limit(section: SamplingBlock) -> int | None:
    return section.max_prompt_tokens if section.on_long == "truncate" else None

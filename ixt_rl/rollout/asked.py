"""The prompts that a trainer has completed: whether they fit, and which of them are the same."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel

from ixt_rl.errors import DataError


def check_positions(ids: Sequence[Sequence[int]], trainer: Any, name: str = "a prompt") -> None:
    """Refuses prompts that leave no room for a completion of full length.

    Args:
        ids: prompts of the trainer's policy.
        trainer: whose model and `max_completion_length` count.
        name: what messages call one of them.

    Raises:
        DataError: the longest one and its completion are more than the model's positions.
    """
    model: PreTrainedModel = trainer.accelerator.unwrap_model(trainer.model)
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(map(len, ids))
    if limit is not None and longest + trainer.args.max_completion_length > limit:
        raise DataError(
            f"{name} of {longest} tokens plus max_completion_length={trainer.args.max_completion_length}",
            reason=f"the model has {limit} positions",
            remedy="drop or truncate long prompts when the data loads, or shorten completions",
        )


def repeats(prompts: Sequence[Sequence[int]]) -> tuple[list[Sequence[int]], int]:
    """Neighbours that are equal, as (prompts, n): each stands for n of the given ones, in order."""
    runs = [(run[0], len(run)) for run in (list(group) for _, group in itertools.groupby(prompts))]
    n = math.gcd(*(length for _, length in runs))
    return [prompt for prompt, length in runs for _ in range(length // n)], n

"""What TRL takes from the last id of a completion, taken from how the engine ended it: only with stop strings.

TRL calls a completion cut off unless its last id is EOS or padding. One that a stop string ended is whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ixt_rl.rollout.stops import before_stop, text_before_stop


def shown(tokenizer: Any, completions: list[Any], ids: Sequence[Sequence[int]], stop: Sequence[str]) -> list[Any]:
    """Completions as rewards read them, each up to its first stop string.

    Args:
        completions: B texts, or conversations of one message, as TRL made them of the ids.
        ids: B lists of ids.
        stop: at least one text.
    """
    found = []
    for completion, of_row in zip(completions, ids, strict=True):
        said = completion if isinstance(completion, str) else completion[0]["content"]
        if said == tokenizer.decode(of_row, skip_special_tokens=True):
            text = text_before_stop(tokenizer, of_row, stop)
        else:  # TRL has parsed the message, and thoughts or calls of tools are apart
            text = before_stop(said, stop) if isinstance(said, str) else said
        found.append(text if isinstance(completion, str) else [{**completion[0], "content": text}])
    return found


def count_ends(trainer: Any, ids: Sequence[Sequence[int]], reasons: Sequence[str]) -> None:
    """TRL's last `completions/clipped_ratio` and lengths of terminated completions, with those that stop strings ended
    among the terminated. All ranks call it."""
    device = trainer.accelerator.device
    cut = trainer.accelerator.gather(torch.tensor([reason == "length" for reason in reasons], device=device))
    lengths = trainer.accelerator.gather(torch.tensor([len(of_row) for of_row in ids], device=device))
    whole = lengths[~cut].float() if not cut.all() else torch.zeros(1, device=device)
    metrics = trainer._metrics["train" if trainer.model.training else "eval"]
    for name, value in (
        ("clipped_ratio", cut.float().mean()),
        ("mean_terminated_length", whole.mean()),
        ("min_terminated_length", whole.min()),
        ("max_terminated_length", whole.max()),
    ):
        metrics[f"completions/{name}"][-1] = value.item()


@contextmanager
def masked_by_reason(trainer: Any, rows: list[dict[str, Any]], batch: dict[str, Any]) -> Iterator[None]:
    """While TRL makes `batch`: its `mask_truncated_completions` masks what the length limit cut, and nothing else.

    Args:
        rows: dataset rows, which TRL gives their `finish_reason`.
        batch: empty; filled with TRL's batch before the end of the `with`.
    """
    masks = trainer.mask_truncated_completions and bool(trainer.rollouts.stop)
    if not masks:
        yield
        return
    trainer.mask_truncated_completions = False
    try:
        yield
    finally:
        trainer.mask_truncated_completions = True
    mask = batch["completion_mask"]
    whole = torch.tensor([row["finish_reason"] != "length" for row in rows], device=mask.device)
    batch["completion_mask"] = mask = mask * whole[:, None]
    batch["num_items_in_batch"] = trainer.accelerator.gather(mask.sum()).sum()

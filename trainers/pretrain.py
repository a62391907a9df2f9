"""Next-token prediction on documents of a world, through TRL's SFTTrainer and the conditioning kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel
from trl import SFTConfig

from ixt_rl.conditioning import pad, prompt_completion
from ixt_rl.errors import ConfigError
from ixt_rl.ledger import Ledger, model_size
from ixt_rl.trainers.document_trainer import DocumentTrainer
from ixt_rl.trainers.self_checks import SelfChecks
from ixt_rl.types import TokenSequence

_POOL_BATCHES = 8


def document_dataset(documents: Sequence[tuple[Sequence[int], Sequence[int]]], batch_size: int, seed: int) -> Dataset:
    """(prompt ids, completion ids) pairs as rows in training order.

    Rows are sorted by length inside pools of a few batches, and the pool's batches shuffled, so that
    a batch holds little padding and no length trend runs through training. Read it sequentially.
    """
    rng = np.random.default_rng(seed)
    lengths = np.array([len(p) + len(c) for p, c in documents])
    order: list[int] = []
    for start in range(0, len(documents), batch_size * _POOL_BATCHES):
        pool = np.arange(start, min(start + batch_size * _POOL_BATCHES, len(documents)))
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches = [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        order += [int(i) for b in rng.permutation(len(batches)) for i in batches[b]]
    sequences = [prompt_completion(*documents[i]) for i in order]
    return Dataset.from_dict(
        {
            "input_ids": [list(s.input_ids) for s in sequences],
            "labels": [
                [token if trained else -100 for token, trained in zip(s.input_ids, s.loss_mask, strict=True)]
                for s in sequences
            ],
        }
    )


class SequenceCollator:
    """Rows with `input_ids` and `labels` -> right-padded model inputs with positions from the mask."""

    def __init__(self, pad_id: int):
        self.pad_id = pad_id

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        sequences = [
            TokenSequence(
                tuple(row["input_ids"]),
                (0,) * len(row["input_ids"]),
                tuple(label != -100 for label in row["labels"]),
            )
            for row in rows
        ]
        batch = pad(sequences, self.pad_id)
        return {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "position_ids": batch.position_ids,
            "labels": batch.input_ids.masked_fill(~batch.loss_mask, -100),
        }


@dataclass
class PretrainConfig(SFTConfig):
    """`trl.SFTConfig` for sequences that are already built: no packing, no truncation, rows in order.

    Args:
        self_checks: `{name: False}` leaves a check out that precedes the first update; see `self_checks.py`.
    """

    packing: bool = field(default=False)
    max_length: int | None = field(default=None)
    train_sampling_strategy: str = field(default="sequential")
    self_checks: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.packing or self.max_length is not None or self.train_sampling_strategy != "sequential":
            raise ConfigError(
                f"packing={self.packing}, max_length={self.max_length}, "
                f"train_sampling_strategy={self.train_sampling_strategy!r}",
                reason="the rows are final, and already in batches of equal length",
                remedy="leave the three at their defaults",
            )


class PretrainTrainer(DocumentTrainer):
    """TRL's `SFTTrainer` on token sequences that are already built; the loss covers their trained tokens.

    Args:
        model: the model to train.
        args: the trainer's config.
        documents: (prompt ids, completion ids) pairs; prompts are seen, completions trained.
        processing_class: the tokenizer.
        eval_dataset: held-out pairs.
    """

    config_class: ClassVar[type] = PretrainConfig
    _tag_names = ["trl", "ixt-rl", "pretrain"]
    model: Any

    def __init__(
        self,
        model: PreTrainedModel,
        args: PretrainConfig,
        documents: Sequence[tuple[Sequence[int], Sequence[int]]],
        processing_class,
        *,
        eval_dataset: Sequence[tuple[Sequence[int], Sequence[int]]] | None = None,
        **kwargs: Any,
    ):
        held_out = None
        if eval_dataset is not None:
            held_out = document_dataset(eval_dataset, args.per_device_eval_batch_size, args.seed)
        super().__init__(
            model,
            args=args,
            train_dataset=document_dataset(documents, args.per_device_train_batch_size, args.seed),
            data_collator=SequenceCollator(processing_class.pad_token_id),
            processing_class=processing_class,
            eval_dataset=held_out,
            **kwargs,
        )
        self.ledger = Ledger(model_size(self.model))
        self.self_checks = SelfChecks(self)
        self.add_callback(self.self_checks)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean cross-entropy of the trained tokens; `inputs` as `SequenceCollator` gives them."""
        self.ledger.add("train", int(inputs["attention_mask"].sum()))
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

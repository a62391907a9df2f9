"""IXT: introspective training (arXiv 2605.20285). Next-token prediction on [feedback, document].

    documents (with a judge's feedback) -> Conditioner -> PackedRows -> cross-entropy of the trained tokens

In (continued) pretraining the feedback is in the loss, in SFT it is a masked system message. Rows hold several
documents, kept apart by masks, so that packed documents have the log-probs they have alone. The stream of rows has a
cursor, which goes into every checkpoint: a resumed run reads on at the very row, and reads nothing twice.

Shapes: B rows, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import datasets
import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback
from trl import SFTConfig

from ixt_rl.blocks.cooldown import cooldown_updates
from ixt_rl.conditioning import Batch, Conditioner, Conditioning, find_ends, load_feedback_template
from ixt_rl.data.in_memory import MemoryCorpus
from ixt_rl.data.piece_buffer import IGNORED
from ixt_rl.data.token_rows import Documents, PackedRows
from ixt_rl.errors import ConfigError
from ixt_rl.ledger import Ledger, model_size
from ixt_rl.trainers.document_trainer import DocumentTrainer
from ixt_rl.trainers.ema import WeightAverage
from ixt_rl.trainers.head import masks_for_backbone, plain_model
from ixt_rl.trainers.held_out import HeldOut
from ixt_rl.trainers.refused_options import DOCUMENTS, refuse_options
from ixt_rl.trainers.row_attention import row_attention, row_inputs
from ixt_rl.trainers.row_stream import RowStream
from ixt_rl.trainers.self_checks import SelfChecks
from ixt_rl.types import Document


@dataclass
class IXTConfig(SFTConfig):
    """`trl.SFTConfig` with IXT's options; SFT options it cannot honour are refused.

    `max_steps` is needed, unless the documents end (`DocumentStream(..., epochs=1)`, `MemoryCorpus(..., passes=1)`):
    then the updates of all their passes are counted, for which they are read and tokenized once before. Rows that the
    last update lacks are padding.

    Args:
        feedback_template: name or mapping for `load_feedback_template`; None: plain next-token prediction.
        feedback_position: before or after the document.
        feedback_dropout: share of annotated documents shown without feedback, drawn anew each time.
        feedback_fraction: share of documents that count as annotated, chosen by content hash.
        feedback_cooldown: last share of the updates, in whose rows no feedback is shown; see `cooldown_updates`.
        train_feedback: feedback tokens in the loss.
        chat: SFT: the document replies to its prompt, feedback is the masked system message.
        train_turns: of a conversation, `all` of the assistant's replies are trained, or the `last`.
        chat_template_kwargs: variables of the chat template, such as `enable_thinking`.
        max_reply_tokens: longer replies to prompts are cut, and not trained to end.
        max_length: tokens of a row (TRL's name); longer documents are cut into pieces.
        pack: several documents a row.
        buffer_rows: rows packed together; more fill better, shuffle wider and take longer to resume.
        ema_decay: decay per update of a moving average of the weights; see `IXTTrainer.averaged`.
        self_checks: `{name: False}` leaves a check out that precedes the first update; see `self_checks.py`.
    """

    feedback_template: str | dict[str, Any] | None = field(default=None)
    feedback_position: Literal["before", "after"] = field(default="before")
    feedback_dropout: float = field(default=0.0)
    feedback_fraction: float = field(default=1.0)
    feedback_cooldown: float = field(default=0.0)
    train_feedback: bool = field(default=True)
    chat: bool = field(default=False)
    train_turns: Literal["all", "last"] = field(default="all")
    chat_template_kwargs: dict[str, Any] | None = field(default=None)
    max_reply_tokens: int | None = field(default=None)
    max_length: int | None = field(default=2048)
    pack: bool = field(default=True)
    buffer_rows: int = field(default=256)
    ema_decay: float | None = field(default=None)
    self_checks: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_options(self, DOCUMENTS)
        if self.max_length is None:
            raise ConfigError("max_length=None", reason="it is the length of a row", remedy="set it to 2048, say")
        self.dataset_kwargs = {"skip_prepare_dataset": True}
        self.remove_unused_columns = False
        self.ignore_data_skip = True  # the cursor knows better
        self.accelerator_config.dispatch_batches = False  # type: ignore[union-attr]  # rows differ in length

    @property
    def conditioning(self) -> Conditioning:
        template = None if self.feedback_template is None else load_feedback_template(self.feedback_template)
        return Conditioning(
            template,
            self.feedback_position,
            self.feedback_dropout,
            self.feedback_fraction,
            self.train_feedback,
            self.chat,
            self.train_turns,
            self.chat_template_kwargs or {},
            self.max_reply_tokens,
        )

    @property
    def plain_updates(self) -> int:
        """Updates at the end that show no feedback.

        Raises:
            ConfigError: see `cooldown_updates`.
        """
        shows, name = self.feedback_template is not None, "feedback_cooldown"
        return cooldown_updates(self.feedback_cooldown, self.max_steps, shows=shows, chat=self.chat, name=name)


class RowCollator:
    """Rows of `PackedRows` -> `input_ids`, `labels`, `segment_ids`, `position_ids`, int64 (B, T), right-padded."""

    def __init__(self, pad_id: int):
        self.fill = {"input_ids": pad_id, "labels": IGNORED, "segment_ids": 0, "position_ids": 0}

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        batch = {key: torch.full((len(rows), width), value) for key, value in self.fill.items()}
        for index, row in enumerate(rows):
            for key, tensor in batch.items():
                tensor[index, : len(row[key])] = torch.tensor(row[key])
        return batch


class IXTTrainer(DocumentTrainer):
    """TRL's `SFTTrainer` on a stream of documents with feedback.

    Args:
        model: the model to train.
        args: see `IXTConfig`.
        train_dataset: a `DocumentStream` or another source with a cursor, or documents in memory.
        processing_class: the tokenizer.
        eval_dataset: held-out documents, or several sets of them by name; see `evaluate`.
    """

    config_class: ClassVar[type] = IXTConfig
    _tag_names = ["trl", "ixt-rl", "ixt"]
    _name = "IXT"
    model: Any
    processing_class: Any

    def __init__(
        self,
        model: PreTrainedModel | str,
        args: IXTConfig,
        train_dataset: Documents | Sequence[Document],
        processing_class,
        *,
        eval_dataset: Documents | Sequence[Document] | Mapping[str, Documents | Sequence[Document]] | None = None,
        **kwargs: Any,
    ):
        ends = find_ends(processing_class, getattr(model, "generation_config", None))
        self.held_out = HeldOut(processing_class, args, ends)
        self._eval_totals = torch.zeros(2, dtype=torch.float64)
        if eval_dataset is None and (args.eval_strategy != "no" or args.eval_on_start):
            raise ConfigError(
                f"eval_strategy={args.eval_strategy}, eval_on_start={args.eval_on_start} without eval_dataset",
                reason="there is nothing to evaluate on",
                remedy="give held-out documents as eval_dataset",
            )
        self.conditioner = Conditioner(processing_class, args.conditioning, args.seed, ends)
        super().__init__(
            model,
            args=args,
            train_dataset=datasets.Dataset.from_list([{"input_ids": [0], "labels": [0]}]),  # ours follows below
            data_collator=RowCollator(processing_class.pad_token_id),
            processing_class=processing_class,
            eval_dataset=self.held_out.rows(eval_dataset),
            **kwargs,
        )
        per_update = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        plain_updates = args.plain_updates
        rows = PackedRows(
            MemoryCorpus(train_dataset, args.seed) if isinstance(train_dataset, Sequence) else train_dataset,
            self.conditioner,
            args.max_length or 0,
            pack=args.pack,
            buffer=args.buffer_rows,
            plain_from=(args.max_steps - plain_updates) * per_update if plain_updates else None,
        )
        self.train_dataset = self.rows = RowStream(rows, per_update, processing_class.pad_token_id)
        args.max_steps = self.rows.length(args.max_steps)
        self.ledger = Ledger(model_size(self.model))
        self.average = None if args.ema_decay is None else WeightAverage(args.ema_decay)
        self.add_callback(_AfterUpdate(self))
        self.self_checks = SelfChecks(self)
        self.add_callback(self.self_checks)

    # ---------------------------------------------------------------- the update

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean cross-entropy of the trained tokens of an update; `inputs` as `RowCollator` gives them."""
        batch, labels = self._batch(inputs)
        passed, _ = self.packed_inputs(batch)
        adds = self.aux_loss_enabled
        self.aux_loss_enabled = adds and self.model.training  # held-out loss is that of the documents alone
        try:
            with masks_for_backbone(plain_model(self), batch, passed) as passed:
                result = super().compute_loss(model, {**passed, "labels": labels}, return_outputs, num_items_in_batch)
        finally:
            self.aux_loss_enabled = adds
        if self.model.training:
            self.ledger.add("train", int(batch.attention_mask.sum()))
        else:
            loss = result[0] if return_outputs else result
            tokens = batch.loss_mask.sum()
            self._eval_totals += torch.stack([loss.detach() * tokens, tokens]).double().cpu()
        return result

    def packed_inputs(self, batch: Batch) -> tuple[dict[str, Any], Batch]:
        """Keyword arguments of the forward pass that trains, and the batch that they stand for."""
        attention = self.model.config._attn_implementation
        if attention.startswith("flash"):
            batch = batch.flattened()
        return row_inputs(batch, self.model.config), batch

    def training_step(self, *args, **kwargs):
        """One micro-batch, forward and backward; on a CPU attention goes document by document."""
        with row_attention(plain_model(self)):
            return super().training_step(*args, **kwargs)

    def _batch(self, inputs: dict[str, Tensor]) -> tuple[Batch, Tensor]:
        segments = inputs["segment_ids"]
        flash = self.model.config._attn_implementation.startswith("flash")
        if flash and not segments.any():  # flash attention takes no batch of no token
            segments = torch.ones_like(segments)
        batch = Batch(
            input_ids=inputs["input_ids"],
            attention_mask=(segments > 0).long(),
            position_ids=inputs["position_ids"],
            segment_ids=segments,
            loss_mask=inputs["labels"] != IGNORED,
            role_ids=torch.full_like(segments, -1),
        )
        if flash:
            batch = batch.flattened()
        return batch, batch.input_ids.masked_fill(~batch.loss_mask, IGNORED)

    # ---------------------------------------------------------------- evaluation

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """Held-out loss, `eval_loss`: the training loss, without feedback dropout, a mean over all trained tokens.

        With `ema_decay`, of the averaged weights. `eval_dataset` as in the constructor; None: the constructor's. Where
        rows do not fill the ranks' last batch, those that do count twice.
        """
        with self.averaged():
            return super().evaluate(self.held_out.rows(eval_dataset), ignore_keys, metric_key_prefix)

    def evaluation_loop(self, *args, **kwargs):
        self._eval_totals.zero_()
        output = super().evaluation_loop(*args, **kwargs)
        totals = self._eval_totals.to(self.accelerator.device, torch.float32)
        loss, tokens = self.accelerator.reduce(totals, "sum").tolist()
        metrics = output.metrics or {}
        metrics[next(name for name in metrics if name.endswith("_loss"))] = loss / max(tokens, 1)
        return output

    # ---------------------------------------------------------------- checkpoints

    def write_files(self, folder: Path) -> None:
        super().write_files(folder)
        if self.average is not None:
            self.average.save(folder, self)
        if self.accelerator.is_main_process:
            self.rows.save(folder, self.state.global_step)

    def read_files(self, folder: Path) -> None:
        super().read_files(folder)
        self.rows.seek(folder)
        if self.average is not None:
            self.average.load(folder, self.model)

    def averaged(self):
        """Context in which the model has the averaged weights (with `ema_decay`; else its own)."""
        return WeightAverage.unused() if self.average is None else self.average.applied(self.model)


class _AfterUpdate(TrainerCallback):
    """Moves the average, and counts what was judged for all ranks, on the first."""

    def __init__(self, trainer: IXTTrainer):
        self.trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        trainer = self.trainer
        trainer.ledger.tokens["annotate"] = state.is_world_process_zero * trainer.rows.judged_tokens(state.global_step)
        if trainer.average is not None:
            trainer.average.update(trainer.model)

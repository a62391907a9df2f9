"""What all training stages share: TRL's arguments, training from the last checkpoint, saving."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers import PrinterCallback

from ixt_rl.blocks.duration import DurationBlock
from ixt_rl.blocks.engine import EngineBlock
from ixt_rl.blocks.model import ADAPTER
from ixt_rl.blocks.optim import OptimBlock
from ixt_rl.config.ranks import rows_at_once
from ixt_rl.files import read_json
from ixt_rl.kernels.correction import Correction
from ixt_rl.ledger import Ledger
from ixt_rl.models import tokenizer_notes
from ixt_rl.place import follows
from ixt_rl.pretrained.adapters import save_adapter
from ixt_rl.pretrained.quantizing import quantized_from
from ixt_rl.run.best import BestModel
from ixt_rl.run.callbacks import StageCallback
from ixt_rl.run.folder import StageFolder
from ixt_rl.run.stages.context import StageRun
from ixt_rl.run.strategy import is_sharded, save_whole, strategy_arguments

LOG_EVERY = 5  # optimizer steps


def training_arguments(
    optim: OptimBlock, steps: int, seed: int, at: StageRun, checkpoint_every: int | None
) -> dict[str, Any]:
    """The transformers TrainingArguments that all stages share."""
    schedule = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine_with_min_lr"}
    named = {} if optim.name == "adamw" else {"optim": optim.name}  # transformers knows which AdamW is the fastest
    bf16 = at.model.dtype == "bfloat16"
    # transformers refuses bf16 without a GPU unless it is told that the CPU is meant
    on_cpu: dict[str, Any] = {"use_cpu": True} if bf16 and not torch.accelerator.is_available() else {}
    return {
        **named,
        **on_cpu,
        **strategy_arguments(at.launch),
        "output_dir": str(at.folder.checkpoints),
        "max_steps": steps,
        "seed": seed,
        "learning_rate": optim.lr,
        "adam_beta1": optim.betas[0],
        "adam_beta2": optim.betas[1],
        "weight_decay": optim.weight_decay,
        "warmup_steps": optim.warmup_steps,
        "lr_scheduler_type": schedule[optim.schedule],
        "lr_scheduler_kwargs": {"min_lr_rate": optim.min_lr_ratio} if optim.schedule == "cosine" else {},
        "max_grad_norm": optim.max_grad_norm,
        "bf16": bf16,
        "fp16": at.model.dtype == "float16",
        "logging_steps": LOG_EVERY,
        "logging_first_step": True,
        "save_strategy": "no" if checkpoint_every is None else "steps",
        "save_steps": checkpoint_every or 500,
        "save_total_limit": 2,  # one to fall back to
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "self_checks": at.self_checks.model_dump(),
    }


def share_of_batch(batch: int, micro_batch: int | None, ranks: int) -> dict[str, int]:
    """A rank's rows in one forward pass, at most `micro_batch`, and its passes in an update of `batch` rows of all."""
    at_once = rows_at_once(batch, micro_batch, ranks)
    return {"per_device_train_batch_size": at_once, "gradient_accumulation_steps": batch // ranks // at_once}


def planned_steps(stage: DurationBlock, folder: StageFolder) -> int:
    """A stage's updates; of `epochs`, those that a checkpoint knows, or -1: the trainer counts them."""
    if stage.steps is not None:
        return stage.steps
    checkpoint = folder.last_checkpoint()
    state = None if checkpoint is None else read_json(checkpoint / "trainer_state.json")
    return -1 if state is None else state["max_steps"]


def passes_note(stage: DurationBlock, trainer, say: Callable[[str], None]) -> list[str]:
    """How many updates `epochs` are, said and given; nothing where `steps` says it."""
    if stage.epochs is None:
        return []
    note = f"epochs: {stage.epochs:g} are {trainer.args.max_steps} updates"
    say(note)
    return [note]


def correction(section: EngineBlock) -> Correction | None:
    """The importance correction of an `engine` block; None for the model's own rollouts, whose log-probs are the
    trainer's."""
    if section.type == "transformers" or section.correction is None:
        return None
    return Correction(**section.correction.model_dump())


def train(trainer, callback: StageCallback, folder: StageFolder) -> None:
    """Trains, from the last checkpoint where the stage was stopped after one."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(callback)
    checkpoint = folder.last_checkpoint()
    if checkpoint is not None:
        step = int(checkpoint.name.rsplit("-", 1)[1])
        folder.drop_rows_after(step)
        if callback.best is not None:
            callback.best.recall(step)
        over = callback.best is not None and callback.best.exhausted
        if step >= trainer.args.max_steps or over:  # stopped after its last update, before the model was written
            trainer.take(checkpoint)
            return
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def save_model(
    trainer,
    tokenizer,
    folder: StageFolder,
    best: BestModel | None = None,
    averaged: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """The model as an ordinary Hugging Face folder; adapters are merged into it, and kept beside it as they are.

    Args:
        best: has the model that is handed on, where it is not the last.
        averaged: a `with` in which the model has the weights to save; those of the best are.
    """
    restored = best is not None and best.restore()
    with nullcontext() if restored else averaged():
        if hasattr(trainer.model, "merge_and_unload"):
            save_adapter(trainer.model, folder.path / ADAPTER, not follows())
            if is_sharded(trainer) or quantized_from(trainer.model):  # peft would round what it merges to 4 bits again
                save_whole(trainer.model, folder.model, not follows())
            elif not follows():
                trainer.model.merge_and_unload().save_pretrained(folder.model)
            if not follows():
                tokenizer.save_pretrained(folder.path / ADAPTER)
        elif is_sharded(trainer):
            save_whole(trainer.model, folder.model, not follows())
        else:
            trainer.save_model(str(folder.model))
    if not follows():
        tokenizer.save_pretrained(folder.model)


def ends_notes(trainer) -> list[str]:
    """What ends a turn, where tokenizer, generation config, chat template and padding do not agree, and an EOS that was
    mended; else nothing.
    """
    said = str(trainer.self_checks.results.get("ends", ""))
    return [*tokenizer_notes(trainer.processing_class), *([f"ends: {said}"] if ";" in said else [])]


def uncounted_note(ledger: Ledger) -> list[str]:
    """What a result says of tokens that are in no FLOPs; nothing where there are none."""
    if not ledger.uncounted:
        return []
    return [
        f"FLOPs: {ledger.uncounted:,} tokens of judges or rewriters are uncounted, because nobody said how many "
        "parameters those have (judge_parameters, rewriter_parameters)"
    ]

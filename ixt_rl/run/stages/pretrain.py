"""Pretraining on a world's documents."""

from __future__ import annotations

import time

from ixt_rl.methods.pretrain import PretrainStage
from ixt_rl.models import load_model, load_tokenizer
from ixt_rl.run.callbacks import StageCallback
from ixt_rl.run.stages.context import StageRun
from ixt_rl.run.stages.train import (
    save_model,
    share_of_batch,
    train,
    training_arguments,
)
from ixt_rl.run.trainers import configured, trainer_class
from ixt_rl.worlds import WORLDS


def run(stage: PretrainStage, at: StageRun) -> None:
    """Next-token prediction on a world's documents; writes the model and the loss curve."""
    started = time.perf_counter()
    model, tokenizer = load_model(at.origin, at.model, train=True), load_tokenizer(at.origin, at.model)
    documents = WORLDS[stage.data.world](stage.data.view).documents(stage.steps * stage.batch_size, stage.seed)
    trainer_of = trainer_class(stage)
    args = configured(
        stage,
        trainer_of,
        **training_arguments(stage.optim, stage.steps, stage.seed, at, checkpoint_every=None),
        **share_of_batch(stage.batch_size, None, at.launch.ranks),
        gradient_checkpointing=False,
    )
    trainer = trainer_of(model, args, documents, tokenizer)
    with at.console.stage(stage, at.seed, stage.steps) as progress:
        callback = StageCallback(at.folder, progress, lambda: trainer.ledger.of_all(at.ranks.gathered))
        train(trainer, callback, at.folder)
    save_model(trainer, tokenizer, at.folder)
    at.folder.write_result({"seconds": time.perf_counter() - started})

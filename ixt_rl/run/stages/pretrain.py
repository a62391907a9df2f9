"""Pretraining on a world's documents."""

from __future__ import annotations

import time

from ixt_rl.config.schema import RunConfig
from ixt_rl.methods.pretrain import PretrainStage
from ixt_rl.models import load_model, load_tokenizer
from ixt_rl.run.callbacks import StageCallback
from ixt_rl.run.console import RunConsole
from ixt_rl.run.folder import StageFolder
from ixt_rl.run.stages.engines import Engines
from ixt_rl.run.stages.train import (
    save_model,
    train,
    training_arguments,
)
from ixt_rl.trainers import (
    PretrainConfig,
    PretrainTrainer,
)
from ixt_rl.worlds import WORLDS


def run_pretrain(
    config: RunConfig,
    stage: PretrainStage,
    seed,
    origin: str,
    folder: StageFolder,
    console: RunConsole,
    engines: Engines,
) -> None:
    """Next-token prediction on a world's documents; writes the model and the loss curve."""
    started = time.perf_counter()
    model, tokenizer = load_model(origin, config.model, train=True), load_tokenizer(origin, config.model)
    documents = WORLDS[stage.data.world](stage.data.view).documents(stage.steps * stage.batch_size, stage.seed)
    args = PretrainConfig(
        **training_arguments(stage.optim, stage.steps, stage.seed, folder, config, checkpoint_every=None),
        per_device_train_batch_size=stage.batch_size,
        gradient_checkpointing=False,
    )
    trainer = PretrainTrainer(model, args, documents, tokenizer)
    with console.stage(stage, seed, stage.steps) as progress:
        train(trainer, StageCallback(folder, progress, trainer.ledger.total), folder)
    save_model(trainer, tokenizer, folder)
    folder.write_result({"seconds": time.perf_counter() - started})

"""Small trainings of each kind that go on from their last whole checkpoint, for `tests.integration.chaos`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_deepspeed_available

from ixt_rl.trainers.checkpoints import last_whole_checkpoint, step_of
from tests.unit.trainers import helpers, ixt_helpers, test_sip_resume
from tests.unit.trainers.test_resume import REUSE, STEPS, WINDOW, dropping, logs, often

if is_deepspeed_available():
    import deepspeed  # noqa: F401 - accelerate would import it in every job


def intro(name: str) -> None:
    """InTRO on its own samples, each window of three updates trained on twice."""
    options = {**STEPS, **WINDOW, **REUSE["intro"], "posterior": "ema", "posterior_decay": 0.8}
    _go_on(
        helpers.make_trainer(
            "intro", Path(name), dropping(), max_steps=8, data=helpers.rows(6), shuffle_dataset=True,
            max_completion_length=6, per_device_train_batch_size=4, learning_rate=1e-2, logging_steps=3, reward=often,
            save_total_limit=2, **options,
        )
    )  # fmt: skip


def ixt(name: str) -> None:
    """Feedback and documents, packed, with an average of the weights."""
    _go_on(
        ixt_helpers.make_trainer(
            Path(name), ixt_helpers.documents(20), max_steps=10, logging_steps=4, ema_decay=0.5, feedback_dropout=0.3,
            gradient_accumulation_steps=2, per_device_train_batch_size=2, save_total_limit=2, **STEPS,
        )
    )  # fmt: skip


def sip(name: str) -> None:
    """DPO on judged candidates, with judge and rewriter behind caches."""
    _go_on(test_sip_resume.trainer(Path(name), Path(name), steps=8))


def _go_on(trainer: Any) -> None:
    folder = Path(trainer.args.output_dir)
    checkpoint = last_whole_checkpoint(folder)
    if checkpoint is None or step_of(checkpoint) < trainer.args.max_steps:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        checkpoint = folder / f"checkpoint-{trainer.args.max_steps}"
    _finish(trainer, checkpoint)


def _finish(trainer: Any, checkpoint: Path) -> None:
    """What the run leaves: from its last checkpoint, so that it is there whenever the process ended."""
    trainer.take(checkpoint)
    trainer.state = type(trainer.state).load_from_json(str(checkpoint / "trainer_state.json"))
    average = getattr(trainer, "average", None)
    found = {
        "weights": trainer.model.state_dict(),
        "average": average.weights if average else {},
        "logs": logs(trainer),
        "tokens": dict(trainer.ledger.tokens),
    }
    folder = Path(trainer.args.output_dir)
    torch.save(found, folder / "final.partial")
    os.replace(folder / "final.partial", folder / "final.pt")

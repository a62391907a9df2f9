"""Trains IXT under torchrun; rank 0 saves weights and tokens. argv: folder, batch a rank, accumulation."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from tests.unit.trainers.ixt_helpers import documents, make_trainer

out, per_device, accumulation = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
trainer = make_trainer(
    out / "trainer", documents(40), max_steps=3, per_device_train_batch_size=per_device,
    gradient_accumulation_steps=accumulation, feedback_dropout=0.2,
)  # fmt: skip
trainer.train()
if trainer.accelerator.is_main_process:
    torch.save(trainer.accelerator.unwrap_model(trainer.model).state_dict(), out / "weights.pt")
    torch.save([row["num_tokens"] for row in trainer.state.log_history if "loss" in row], out / "tokens.pt")
if torch.distributed.is_initialized():
    torch.distributed.barrier()
    os._exit(0)  # tearing gloo down at interpreter exit now and then aborts, after all is saved

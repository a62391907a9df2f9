"""Trains one method under torchrun; rank 0 saves weights and logs. argv: method, folder, batch a rank, accumulation."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from tests.unit.trainers.helpers import ScriptedEngine, make_trainer, rows

method, out, per_device, accumulation = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
options = {"candidates": "exact", "posterior": "frozen"} if method == "intro" else {}
trainer = make_trainer(
    method,
    out / "trainer",
    engine=ScriptedEngine(),
    data=rows(16),
    max_steps=3,
    per_device_train_batch_size=per_device,
    gradient_accumulation_steps=accumulation,
    **({"ddp_backend": "gloo"} if "WORLD_SIZE" in os.environ else {}),
    **options,
)
trainer.train()
if trainer.accelerator.is_main_process:
    torch.save(trainer.accelerator.unwrap_model(trainer.model).state_dict(), out / "weights.pt")
    torch.save([row for row in trainer.state.log_history if "loss" in row], out / "logs.pt")
if torch.distributed.is_initialized():
    torch.distributed.barrier()
    os._exit(0)  # tearing gloo down at interpreter exit now and then aborts, after all is saved

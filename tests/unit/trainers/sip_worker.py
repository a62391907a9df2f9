"""Trains SIP under torchrun; rank 0 saves weights and logs. argv: folder, prompts a rank, accumulation."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from tests.unit.trainers.helpers import tiny
from tests.unit.trainers.sip_helpers import judge_by, make_trainer

KEPT = ("loss", "chosen", "rejected", "score", "ties", "skipped", "rewrite", "rollout", "flops/train", "dpo")

out, per_device, accumulation = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])


def judge(*asked):
    assert int(os.environ.get("RANK", 0)) == 0  # for all ranks
    assert len(asked[0]) == 8
    return judge_by()(*asked)


config = {
    "sources": ["original", "rewrite", "rollout"], "max_steps": 3, "per_device_train_batch_size": per_device,
    "gradient_accumulation_steps": accumulation, "save_strategy": "steps", "save_steps": 3,
}  # fmt: skip
if "WORLD_SIZE" in os.environ:
    config["ddp_backend"] = "gloo"
trainer = make_trainer(out / "trainer", tiny(), judge=judge, config=config)
trainer.train()
if trainer.accelerator.is_main_process:
    torch.save(trainer.accelerator.unwrap_model(trainer.model).state_dict(), out / "weights.pt")
    logged = [row for row in trainer.state.log_history if "ties/all" in row]
    torch.save([{k: v for k, v in row.items() if k.startswith(KEPT)} for row in logged], out / "logged.pt")
if torch.distributed.is_initialized():
    torch.distributed.barrier()
    os._exit(0)  # tearing gloo down at interpreter exit now and then aborts, after all is saved

"""An IXT trainer on a tiny model and a few documents of the chain world."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.conditioning import load_feedback_template
from ixt_rl.models import new_model
from ixt_rl.trainers import IXTConfig, IXTTrainer
from ixt_rl.types import Document
from ixt_rl.worlds import ChainWorld
from ixt_rl.worlds.documents import world_documents

WORLD = ChainWorld()
TEMPLATE = WORLD.feedback_templates["critique"]


def documents(count: int = 12, seed: int = 0, **options: Any) -> list[Document]:
    return world_documents(WORLD, count, seed, template=load_feedback_template(TEMPLATE), **options)


def tiny_model(attention: str = "sdpa"):
    model = new_model(NewModelBlock(hidden_size=32, heads=2, intermediate_size=64), WORLD.tokenizer())
    model.set_attn_implementation(attention)
    return model


def make_trainer(folder: Path, data, model=None, *, eval_dataset=None, **options: Any) -> IXTTrainer:
    settings: dict[str, Any] = {
        "max_steps": 1, "learning_rate": 1e-2, "per_device_train_batch_size": 4, "max_length": 128,
        "feedback_template": TEMPLATE, "buffer_rows": 4, "report_to": "none", "use_cpu": True, "bf16": False,
        "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True, "lr_scheduler_type": "constant",
        "gradient_checkpointing": False, "max_grad_norm": 0.0, "adam_epsilon": 1e-3,
    }  # fmt: skip
    if "WORLD_SIZE" in os.environ:
        settings["ddp_backend"] = "gloo"
    args = IXTConfig(output_dir=str(folder), **{**settings, **options})
    return IXTTrainer(model or tiny_model(), args, data, WORLD.tokenizer(), eval_dataset=eval_dataset)

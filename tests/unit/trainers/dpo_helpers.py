"""A DPO trainer on a tiny model and pairs in a chat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ixt_rl.conditioning import Conditioner, Conditioning
from ixt_rl.data.preferences import PreferencePair
from ixt_rl.trainers import DPOConfig, DPOTrainer
from ixt_rl.types import Document
from tests.unit.conditioning.chats import CHATML, chat_tokenizer


def chat_conditioner() -> Conditioner:
    wanted = Conditioning(chat=True, train_turns="last", max_reply_tokens=6)
    return Conditioner(chat_tokenizer(CHATML, "<|im_end|>"), wanted)


def tiny_folder(folder: Path, conditioner: Conditioner, **options: Any) -> Path:
    """Of a tiny model: TRL reads the reference from where the policy came from."""
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(conditioner.tokenizer), attention_dropout=0.1, **size, **options)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def pairs(count: int = 6) -> list[PreferencePair]:
    """Of replies that are not equally long."""
    return [
        PreferencePair(
            Document(f"yes {n}" if n % 2 else "yes", prompt=f"is it {n}"),
            Document("no, not at all" if n % 3 < 2 else "no", prompt=f"is it {n}"),
        )
        for n in range(count)
    ]


def make_trainer(
    model: Path, out: Path, conditioner: Conditioner, count: int = 6, peft_config: Any = None, **options: Any
) -> DPOTrainer:
    """On `count` pairs, of the model in a folder; `options` of `DPOConfig`."""
    given = {
        "max_steps": 4, "per_device_train_batch_size": 2, "learning_rate": 1e-3, "logging_steps": 1, "use_cpu": True,
        "bf16": False, "report_to": "none", "gradient_checkpointing": False, "disable_tqdm": True, **options,
    }  # fmt: skip
    args = DPOConfig(output_dir=str(out), **given)
    policy = LlamaForCausalLM.from_pretrained(model, dtype="float32")
    return DPOTrainer(
        policy, args, pairs(count), conditioner.tokenizer, conditioner=conditioner, peft_config=peft_config
    )

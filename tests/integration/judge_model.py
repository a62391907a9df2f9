"""A random model with a byte tokenizer and a chat template, on disk: a judge that only a grammar can make sense of."""

from __future__ import annotations

from pathlib import Path

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.models import byte_tokenizer, new_model

CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
ENGINE = {"dtype": "float32", "max_num_seqs": 32, "kv_cache_gib": 1 / 32, "enforce_eager": True}
POSITIONS = 4096


def save_judge(folder: Path) -> str:
    """Random weights, the same in every process; head size 32, which vLLM's CPU build takes."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT
    spec = NewModelBlock(hidden_size=64, heads=2, intermediate_size=128, max_positions=POSITIONS, init_std=0.2)
    new_model(spec, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)

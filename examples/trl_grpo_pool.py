"""TRL's own GRPOTrainer, sampling on a pool of vLLM engines.

    .venv/bin/python examples/trl_grpo_pool.py            # a minute or two on a CPU; needs vllm and ray

Only the three lines marked POOL differ from a script without it. A tiny model with random weights learns to write
lower-case letters. The adapter moves the pool to the trainer's weights before each batch and compares log-probs; past
a limit it stops the training, so what is sampled is what is trained.
"""

from __future__ import annotations

import argparse
import random
import string
import tempfile

import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.models import byte_tokenizer, new_model
from ixt_rl.rollout.pool.ray_pool import RayPool
from ixt_rl.rollout.trl_adapter import EngineRollouts

TOKENS = 16


def lower_case(prompts, completions, **_) -> list[float]:
    """Share of a completion's characters that are lower-case letters."""
    return [sum(c in string.ascii_lowercase for c in text) / TOKENS for text in completions]


def train(folder: str, engines: int, steps: int) -> list[dict[str, float]]:
    tokenizer = byte_tokenizer()
    spec = NewModelBlock(hidden_size=64, heads=2, intermediate_size=128, max_positions=128)  # vLLM on CPU: head size 32
    new_model(spec, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rng = random.Random(0)
    rows = [{"prompt": "".join(rng.choices(string.ascii_uppercase, k=12))} for _ in range(8 * steps)]

    pool = RayPool(folder, engines=engines, eos_ids=[tokenizer.eos_token_id], dtype="float32")  # POOL
    trainer = trl.GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(folder),
        lower_case,
        trl.GRPOConfig(
            output_dir=f"{folder}/trainer",
            max_steps=steps,
            per_device_train_batch_size=64,
            num_generations=8,
            max_completion_length=TOKENS,
            learning_rate=3e-3,
            logging_steps=5,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            bf16=False,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        rollout_func=EngineRollouts(pool),  # POOL
    )
    trainer.train()
    pool.close()  # POOL
    return [row for row in trainer.state.log_history if "reward" in row]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = train(folder, args.engines, args.steps)
    for row in rows:
        print(f"step {row['step']:3d}  reward {row['reward']:.3f}  parity {row['parity/logp_abs_max']:.1e}")


if __name__ == "__main__":
    main()

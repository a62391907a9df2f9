"""A variant of InTRO in twenty lines: a softer factor, and long rationales that count for their length.

    make demo                                       # once: makes the base model
    .venv/bin/python examples/custom_trainer.py     # about a minute on a CPU

`InTROTrainer` has one documented method for each choice of the method: `choose_candidates`, `factor`,
`token_weights`, `keep`. Everything else (rollouts, rewards, the fused loss, logging) stays as it is.
"""

from __future__ import annotations

from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from ixt_rl.conditioning import Batch, load_template
from ixt_rl.run.named_model import named_model
from ixt_rl.trainers import InTROConfig, InTROTrainer, Signals, Where
from ixt_rl.worlds import AdditionWorld


class SoftInTROTrainer(InTROTrainer):
    """The square root of the ratio as factor, and one mean over all kept tokens in place of 1/|z| each."""

    def factor(self, logp: torch.Tensor, logq: torch.Tensor, where: Where) -> torch.Tensor:
        return ((logq - logp) / 2).exp().clamp(max=self.args.spec.limit)

    def token_weights(self, batch: Batch, signals: Signals) -> torch.Tensor:
        typical_length = 16.0
        ones = torch.ones(len(batch.target_ids), device=batch.input_ids.device)
        return ones / (typical_length * signals.rows_per_update)


def main() -> None:
    if not Path("runs/addition").is_dir():
        raise SystemExit("no runs/addition: run `make demo` first")
    base = named_model("runs/addition/stages/base").path
    model, tokenizer = (load.from_pretrained(base) for load in (AutoModelForCausalLM, AutoTokenizer))
    world, template = AdditionWorld("parity"), load_template("addition", "addition")
    rows = []
    for row in world.rows("train", 40 * 8, seed=1):
        prompt, told = template.render(row["question"], row["answer"])
        rows.append({**row, "prompt": prompt, "told_prompt": told})

    def reward(prompts, completions, completion_ids, question, **kwargs) -> list[float]:
        return [float(world.grade(q, ids).checked) for q, ids in zip(question, completion_ids, strict=True)]

    trainer = SoftInTROTrainer(
        model,
        [reward],
        InTROConfig(
            output_dir="runs/custom-trainer",
            max_steps=40,
            per_device_train_batch_size=32,
            num_generations=4,
            max_completion_length=34,
            learning_rate=2e-4,
            posterior="frozen",
            bf16=False,
            gradient_checkpointing=False,
            logging_steps=10,
            report_to="none",
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        grader=lambda row, ids: world.grade(row["question"], ids),
    )
    trainer.train()
    for row in trainer.state.log_history:
        if "rollout/strict" in row and row["rollout/strict"] is not None and "loss" in row:
            print(f"step {row['step']:3d}  strict {row['rollout/strict']:.3f}  kept {row['rollout/kept']:.3f}")


if __name__ == "__main__":
    main()

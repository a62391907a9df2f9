"""A whole InTRO update against a whole TRL GRPO update: same model, prompts and completions, one run.

    python benchmarks/step.py --out runs/step

First each generates and scores the same prompts with its own engine (completions run to full length). Then both
train on the same scripted rollouts, half of the rationales kept: posterior pass (InTRO only), forward and loss,
backward, optimizer step. Updates of the two alternate; the table has medians, and the median of the ratios of the
updates (generation left out) one by one. Writes step.json, step.md and step.png to --out.

Read the ratio with two things in mind. Where TRL has no Triton, as on CPUs, its head scores every position over the
whole vocabulary, prompts and padding included. And InTRO trains half of the rows, GRPO all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from ixt_rl.models import byte_tokenizer
from ixt_rl.trainers import InTROConfig, InTROTrainer

PROMPT, TOLD = 64, 72


def model(args: argparse.Namespace) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=args.vocab,
        hidden_size=args.hidden,
        intermediate_size=3 * args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        tie_word_embeddings=True,
        pad_token_id=258,
    )
    return LlamaForCausalLM(config)


def batch(args: argparse.Namespace) -> dict[str, Any]:
    """TRL's dict of one generation: B rationales of unequal length, half of them kept."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(args.tokens // 2, args.tokens + 1, (args.rows,), generator=generator)
    lengths[0] = args.tokens
    mask = (torch.arange(args.tokens) < lengths[:, None]).long()
    keep = torch.arange(args.rows) % 2 == 0
    advantages = torch.where(keep, 1.0, -1.0)
    ids = torch.randint(0, 256, (args.rows, args.tokens), generator=generator)
    return {
        "prompt_ids": torch.randint(0, 256, (args.rows, PROMPT), generator=generator),
        "prompt_mask": torch.ones(args.rows, PROMPT, dtype=torch.long),
        "completion_ids": ids * mask + 258 * (1 - mask),
        "completion_mask": mask,
        "advantages": advantages,
        "num_items_in_batch": mask.sum().float(),
        "rewards": keep.float(),
        "rewards_per_func": keep.float()[:, None],
        "kept": keep,
        "kept_total": keep.sum(),
        "told_prompt_ids": torch.randint(0, 256, (args.rows, TOLD), generator=generator).tolist(),
    }


def trainers(args: argparse.Namespace) -> dict[str, Any]:
    common = {
        "output_dir": str(args.out / "trainer"),
        "per_device_train_batch_size": args.rows,
        "num_generations": 2,
        "max_completion_length": args.tokens,
        "report_to": "none",
        "bf16": False,
        "gradient_checkpointing": False,
        "max_steps": 1,
    }
    data = Dataset.from_list(prompts(args))
    made: dict[str, Any] = {}
    for name, (trainer, config) in {
        "InTRO": (InTROTrainer, InTROConfig(**common, candidates=args.candidates)),
        "TRL GRPO": (trl.GRPOTrainer, trl.GRPOConfig(**common)),
    }.items():
        made[name] = trainer(model(args), [lengths], config, train_dataset=data, processing_class=byte_tokenizer())
        made[name].model.train()
        made[name].current_gradient_accumulation_steps = 1
        made[name].create_optimizer()
    return made


def prompts(args: argparse.Namespace) -> list[dict[str, str]]:
    return [{"prompt": "a" * (PROMPT - 1), "told_prompt": "a" * (TOLD - 1)} for _ in range(args.rows)]


def lengths(prompts, completions, completion_ids, **_) -> list[float]:
    return [float(len(ids)) for ids in completion_ids]


class Stopwatch:
    """Seconds spent in named parts of one update."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}

    def time(self, name: str, function, *args):
        start = time.perf_counter()
        result = function(*args)
        self.parts[name] = self.parts.get(name, 0.0) + time.perf_counter() - start
        return result


def rollout(trainer: Any, args: argparse.Namespace) -> dict[str, float]:
    """Seconds to generate completions for the prompts, and for all else that scoring them takes."""
    clock = Stopwatch()
    generate = type(trainer)._generate
    trainer._generate = lambda *a: clock.time("generate", generate, trainer, *a)
    start = time.perf_counter()
    trainer._generate_and_score_completions(prompts(args))
    return {**clock.parts, "score": time.perf_counter() - start - clock.parts["generate"]}


def update(trainer: Any, inputs: dict[str, Any]) -> dict[str, float]:
    """Seconds of one update on given rollouts, by part and in all."""
    clock = Stopwatch()
    start = time.perf_counter()
    if isinstance(trainer, InTROTrainer):
        posterior = type(trainer)._posterior_pass
        trainer._posterior_pass = lambda *a: clock.time("posterior", posterior, trainer, *a)
    loss = trainer._compute_loss(trainer.model, inputs)
    clock.time("backward", loss.backward)
    clock.time("optimizer", trainer.optimizer.step)
    trainer.optimizer.zero_grad()
    total = time.perf_counter() - start
    clock.parts["forward and loss"] = total - sum(clock.parts.values())
    return {"update": total, **clock.parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, default=32768)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rows", type=int, default=16, help="rationales of one update")
    parser.add_argument("--tokens", type=int, default=96, help="longest rationale")
    parser.add_argument("--candidates", default=5, type=lambda v: v if v == "exact" else int(v))
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("runs/step"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    made, inputs = trainers(args), batch(args)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in made}
    for number in range(args.updates + 1):
        for name, trainer in made.items():
            measured = rollout(trainer, args) | update(trainer, inputs)
            if number:  # the first is a warm-up
                rows[name].append(measured)
    report(args, rows)


def report(args: argparse.Namespace, rows: dict[str, list[dict[str, float]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parts = ["generate", "score", "posterior", "forward and loss", "backward", "optimizer", "update"]
    median = {
        name: {part: statistics.median(row.get(part, 0.0) for row in measured) for part in parts}
        for name, measured in rows.items()
    }
    ratios = [ours["update"] / theirs["update"] for ours, theirs in zip(*rows.values(), strict=True)]
    settings = {k: v for k, v in vars(args).items() if k != "out"}
    ratio = f"InTRO / TRL GRPO, update by update: median {statistics.median(ratios):.2f}"
    ratio += f" ({min(ratios):.2f} to {max(ratios):.2f})"
    ratio += "; InTRO trains half of the rows, and TRL scores every position where there is no Triton"
    lines = [
        ", ".join(f"{k}={v}" for k, v in settings.items()),
        "",
        "| seconds, median | " + " | ".join(parts) + " |",
        "|---" * (len(parts) + 1) + "|",
        *(f"| {name} | " + " | ".join(f"{m[p]:.3f}" for p in parts) + " |" for name, m in median.items()),
        "",
        ratio,
    ]
    text = "\n".join(lines) + "\n"
    (args.out / "step.md").write_text(text, encoding="utf-8")
    (args.out / "step.json").write_text(json.dumps({"settings": settings, "rows": rows, "ratios": ratios}, indent=1))
    figure, axis = pyplot.subplots(figsize=(7, 2.6), layout="constrained")
    left = dict.fromkeys(median, 0.0)
    for part in parts[:-1]:
        values = [median[name][part] for name in median]
        axis.barh(list(median), values, left=list(left.values()), label=part)
        left = {name: left[name] + median[name][part] for name in median}
    axis.set(xlabel="seconds")
    axis.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.savefig(args.out / "step.png", dpi=150)
    print(text)


if __name__ == "__main__":
    main()

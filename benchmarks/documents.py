"""Continued pretraining on packed rows: a whole update of ours against TRL's SFT, float32 and bf16, in one run.

    ixt-rl model smollm2 models/smollm2
    .venv/bin/python benchmarks/documents.py --model models/smollm2 --out runs/documents

An update is one micro-batch of packed rows of the same documents, forward, backward and AdamW. Ours keeps documents
apart. TRL packs in two ways: `wrapped` cuts rows without regard to documents, which see each other; `bfd` keeps them
apart by positions, in one long row. Updates alternate, the order reversed every other round; the table has medians of
seconds, the median of the ratios to TRL's wrapped round by round, and each arm's peak memory in a process of its own.
Writes documents.json and documents.md to --out. A folder with a config alone gives a model of that shape with random
weights (`benchmarks/shapes`). On an accelerator an arm's peak is what its model, gradients, optimizer and activations
took there.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path
from typing import Any

import torch
import trl
from common import arm, child, peak_mib, ratio, ratio_text, write
from datasets import Dataset
from device import ACCELERATOR, DEVICE, DevicePeak, load_model, load_tokenizer, now
from transformers import AutoConfig

from ixt_rl.trainers import IXTConfig, IXTTrainer
from ixt_rl.types import Document

ARMS = ("ours", "ours bf16", "TRL wrapped", "TRL wrapped bf16", "TRL bfd")
BESIDE = {"ours": "TRL wrapped", "ours bf16": "TRL wrapped bf16", "TRL bfd": "TRL wrapped"}


def documents(args: argparse.Namespace, vocabulary: int) -> list[list[int]]:
    """Token ids of documents that fill the rows exactly: lengths are log-normal, of mean `--length`."""
    generator = torch.Generator().manual_seed(0)
    found: list[list[int]] = []
    for _ in range(args.rows):
        room = args.tokens
        while room:
            drawn = int(args.length * float(torch.randn(1, generator=generator).mul(0.7).sub(0.245).exp()))
            length = room if drawn + 8 > room else max(drawn, 8)
            found.append(torch.randint(100, vocabulary - 100, (length,), generator=generator).tolist())
            room -= length
    return found


def ours(documents: list[list[int]], tokens: int) -> dict[str, torch.Tensor]:
    """The rows as `RowCollator` gives them."""
    rows: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "segment_ids": [], "position_ids": []}
    for number, ids in enumerate(documents):
        if not rows["input_ids"] or len(rows["input_ids"][-1]) == tokens:
            for row in rows.values():
                row.append([])
        rows["input_ids"][-1] += ids
        rows["labels"][-1] += [-100, *ids[1:]]
        rows["segment_ids"][-1] += [number + 1] * len(ids)
        rows["position_ids"][-1] += range(len(ids))
    return {name: torch.tensor(row) for name, row in rows.items()}


def wrapped(documents: list[list[int]], tokens: int) -> dict[str, torch.Tensor]:
    ids = torch.tensor([token for one in documents for token in one]).view(-1, tokens)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}


def bfd(documents: list[list[int]], tokens: int) -> dict[str, torch.Tensor]:
    ids = torch.tensor([[token for one in documents for token in one]])
    positions = torch.tensor([[place for one in documents for place in range(len(one))]])
    return {"input_ids": ids, "position_ids": positions, "labels": ids.masked_fill(positions == 0, -100)}


def trainer(name: str, args: argparse.Namespace) -> Any:
    model, tokenizer = load_model(args.model), load_tokenizer(args.model)
    common: dict[str, Any] = {
        "output_dir": str(args.out / "trainer"), "per_device_train_batch_size": args.rows, "report_to": "none",
        "max_steps": 1, "bf16": "bf16" in name, "use_cpu": ACCELERATOR is None,
        "gradient_checkpointing": False, "max_length": args.tokens, "learning_rate": 1e-5,
    }  # fmt: skip
    if name.startswith("ours"):
        made: Any = IXTTrainer(model, IXTConfig(**common), [Document("nothing")] * 2, tokenizer)
    else:
        data = Dataset.from_list([{"input_ids": [5, 6, 7]}])
        made = trl.SFTTrainer(model, trl.SFTConfig(**common), train_dataset=data, processing_class=tokenizer)
    made.model.train()
    made.current_gradient_accumulation_steps = 1
    made.create_optimizer()
    made.model_wrapped = made.accelerator.prepare_model(made.model)
    return made


def batch(name: str, args: argparse.Namespace) -> dict[str, torch.Tensor]:
    make = ours if name.startswith("ours") else bfd if name.endswith("bfd") else wrapped
    made = make(documents(args, AutoConfig.from_pretrained(args.model).vocab_size), args.tokens)
    return {key: value.to(DEVICE) for key, value in made.items()}


def update(made: Any, inputs: dict[str, torch.Tensor]) -> float:
    """Seconds of one update."""
    start = now()
    made.training_step(made.model_wrapped, dict(inputs), (inputs["labels"][:, 1:] != -100).sum())
    made.optimizer.step()
    made.optimizer.zero_grad()
    return now() - start


def peak(name: str, args: argparse.Namespace) -> float:
    """MiB that a process which makes two updates of one arm takes at most."""
    words = [f"--{key}={getattr(args, key)}" for key in ("model", "rows", "tokens", "length", "threads", "out")]
    return child(__file__, f"--only={name}", *words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a folder of a causal language model")
    parser.add_argument("--rows", type=int, default=4, help="rows of one update")
    parser.add_argument("--tokens", type=int, default=1024, help="of a row")
    parser.add_argument("--length", type=int, default=256, help="mean tokens of a document")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-memory", action="store_true", help="leave the peaks out, each a process of its own")
    parser.add_argument("--only", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("runs/documents"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only:
        made, inputs = trainer(args.only, args), batch(args.only, args)
        for _ in range(2):
            update(made, inputs)
        print(peak_mib())
        return
    made_of, peaks = {}, {}
    for name in args.arms:
        beyond = None if ACCELERATOR is None else DevicePeak()
        made_of[name] = trainer(name, args), batch(name, args)
        if beyond is not None:
            for _ in range(2):  # the second has the optimizer's states beside it
                update(*made_of[name])
            peaks[name] = beyond.mib()
    seconds: dict[str, list[float]] = {name: [] for name in args.arms}
    for number in range(args.rounds + 1):
        for name in reversed(args.arms) if number % 2 else args.arms:
            measured = update(*made_of[name])
            if number:  # the first is a warm-up
                seconds[name].append(measured)
                print(f"round {number}: {name} {measured:.3f} s", flush=True)
    made_of.clear()
    if ACCELERATOR is None and not args.no_memory:
        peaks = {name: peak(name, args) for name in args.arms}
    report(args, seconds, peaks)


def report(args: argparse.Namespace, seconds: dict[str, list[float]], peaks: dict[str, float]) -> None:
    settings = {name: str(value) for name, value in vars(args).items() if name not in ("out", "only", "no_memory")}
    lines = [
        ", ".join(f"{name}={value}" for name, value in settings.items()),
        "",
        "| arm | seconds an update, median | times TRL wrapped of its precision (range) | peak MiB |",
        "|---|---|---|---|",
    ]
    arms = []
    for name, measured in seconds.items():
        other = BESIDE.get(name, "")
        beside = {other: ratio(measured, seconds[other])} if other in seconds else {}
        arms.append(arm(name, statistics.median(measured), "s an update", peaks.get(name), **beside))
        memory = f"{peaks[name]:.0f}" if name in peaks else ""
        lines.append(f"| {name} | {arms[-1]['value']:.3f} | {ratio_text(beside.get(other))} | {memory} |")
    found = {"settings": settings, "seconds": seconds, "arms": arms}
    write(args.out, "documents", found, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

"""Peak memory of training beside what `ixt-rl plan` says of it.

    ixt-rl model smollm2 models/smollm2
    .venv/bin/python benchmarks/memory.py --model models/smollm2 --out runs/memory

Each case is two updates: packed rows of documents, or an InTRO update (all of its rationales kept) on rollouts that are
given. On a CPU it is a process of its own, and its largest resident size is what is measured, so that a case should be
large beside what Python and torch take; on an accelerator it is the peak of its allocator, and the second update is
timed. `--times` makes cases as many times as large. Writes memory.json and memory.md to --out.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from device import ACCELERATOR, DEVICE, DevicePeak, load_model, load_tokenizer, now

CASES = {
    "documents 4x1024": {"kind": "documents", "rows": 4, "tokens": 1024},
    "documents 2x1024": {"kind": "documents", "rows": 2, "tokens": 1024},
    "documents 4x1024, bfloat16": {"kind": "documents", "rows": 4, "tokens": 1024, "half": True},
    "documents 4x1024, checkpointed": {"kind": "documents", "rows": 4, "tokens": 1024, "again": True},
    "InTRO 8x(64+448)": {"kind": "intro", "rows": 8, "tokens": 512},
    "InTRO 8x(64+448), frozen posterior": {"kind": "intro", "rows": 8, "tokens": 512, "frozen": True},
    "InTRO 16x(64+448), checkpointed": {"kind": "intro", "rows": 16, "tokens": 512, "again": True},
}
PROMPT = 64


def arguments(case: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    return {
        "output_dir": str(args.out / "trainer"), "per_device_train_batch_size": case["rows"] * args.times,
        "report_to": "none", "max_steps": 1, "bf16": case.get("half", False), "use_cpu": ACCELERATOR is None,
        "learning_rate": 1e-6, "gradient_checkpointing": case.get("again", False),
    }  # fmt: skip


def documents(case: dict[str, Any], args: argparse.Namespace, model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """A trainer on packed rows, and an update of it: four documents a row."""
    import torch

    from ixt_rl.trainers import IXTConfig, IXTTrainer
    from ixt_rl.types import Document

    made = IXTTrainer(
        model, IXTConfig(**arguments(case, args), max_length=case["tokens"]), [Document("nothing")] * 2, tokenizer
    )
    rows, tokens = case["rows"] * args.times, case["tokens"]
    places = torch.arange(tokens).expand(rows, tokens)
    ids = torch.randint(100, model.config.vocab_size - 100, (rows, tokens), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "labels": ids, "segment_ids": places // 256 + 1, "position_ids": places % 256}
    made.model.train()
    made.current_gradient_accumulation_steps = 1
    made.create_optimizer()
    made.model_wrapped = made.accelerator.prepare_model(made.model)
    count = torch.tensor(rows * (tokens - 1), device=DEVICE)
    inputs = {name: tensor.to(DEVICE) for name, tensor in inputs.items()}
    return made, lambda: made.training_step(made.model_wrapped, dict(inputs), count)


def intro(case: dict[str, Any], args: argparse.Namespace, model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """An InTRO trainer, and an update of it on full rows that are all kept."""
    import torch
    from datasets import Dataset

    from ixt_rl.trainers import InTROConfig, InTROTrainer

    rows, new = case["rows"] * args.times, case["tokens"] - PROMPT
    config = InTROConfig(
        **arguments(case, args), num_generations=2, max_completion_length=new,
        posterior="frozen" if case.get("frozen") else "live",
    )  # fmt: skip
    data = Dataset.from_list([{"prompt": "a", "told_prompt": "a b"}] * rows)
    made = InTROTrainer(
        model, [lambda completions, **_: [1.0] * len(completions)], config, train_dataset=data,
        processing_class=tokenizer,
    )  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(100, model.config.vocab_size - 100, (rows, PROMPT + new), generator=draw)
    ones, each = torch.ones(rows, new, dtype=torch.long), torch.ones(rows)
    inputs = {
        "prompt_ids": ids[:, :PROMPT], "prompt_mask": torch.ones(rows, PROMPT, dtype=torch.long),
        "completion_ids": ids[:, PROMPT:], "completion_mask": ones, "told_prompt_ids": ids[:, :PROMPT].tolist(),
        "num_items_in_batch": ones.sum().float(), "advantages": each, "rewards": each,
        "rewards_per_func": each[:, None], "kept": each.bool(), "kept_total": torch.tensor(rows),
    }  # fmt: skip
    inputs = {name: x.to(DEVICE) if isinstance(x, torch.Tensor) else x for name, x in inputs.items()}
    made.model.train()
    made.current_gradient_accumulation_steps = 1
    made.create_optimizer()
    return made, lambda: made._compute_loss(made.model, dict(inputs)).backward()


def measure(name: str, args: argparse.Namespace) -> tuple[float, float, float]:
    """Two updates of a case: GiB before them, most GiB, and seconds of the second."""
    import torch

    torch.set_num_threads(args.threads)
    case = CASES[name]
    beyond = None if ACCELERATOR is None else DevicePeak()
    model, tokenizer = load_model(args.model), load_tokenizer(args.model)
    made, update = {"documents": documents, "intro": intro}[case["kind"]](case, args, model, tokenizer)
    if case.get("again"):  # as `train` does
        made.model.gradient_checkpointing_enable(made.args.gradient_checkpointing_kwargs)
    before, seconds = _most(beyond), 0.0
    for _ in range(2):
        begun = now()
        update()
        made.optimizer.step()
        made.optimizer.zero_grad()
        seconds = now() - begun
    return before, _most(beyond), seconds


def _most(beyond: Any) -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 if beyond is None else beyond.mib() / 2**10


def planned(case: dict[str, Any], args: argparse.Namespace) -> float:
    """GiB that the planner says of a case."""
    from ixt_rl.planning.devices import GIB, this_cpu
    from ixt_rl.planning.memory import Part, Training, peak, training_parts
    from ixt_rl.planning.shapes import shape_of_folder

    shape = shape_of_folder(args.model)
    job = Training(
        shape, shape.parameters, case["rows"] * args.times, case["tokens"],
        scored=case["tokens"] - (PROMPT if case["kind"] == "intro" else 0), numbers=2 if case.get("half") else 4,
        copies=("posterior",) if case.get("frozen") else (), checkpointing=case.get("again", False),
        masked=case["kind"] == "intro", cpu=ACCELERATOR is None,
    )  # fmt: skip
    process = [] if ACCELERATOR is not None else [Part("process", this_cpu().process, "always")]
    return peak([*process, *training_parts(job)]) / GIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a folder of a causal language model")
    parser.add_argument("--cases", nargs="+", default=[*CASES], choices=[*CASES], metavar="CASE")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--times", type=int, default=1, help="rows of every case, times this")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("runs/memory"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only:
        print(*measure(args.only, args))
        return
    rows = []
    for name in args.cases:
        if ACCELERATOR is None:
            words = [f"--{key}={getattr(args, key)}" for key in ("model", "threads", "times", "out")]
            done = subprocess.run(
                [sys.executable, __file__, *words, f"--only={name}"], capture_output=True, text=True, check=True
            )
            before, peak, seconds = map(float, done.stdout.splitlines()[-1].split())
        else:
            before, peak, seconds = measure(name, args)
            gc.collect()
        said = planned(CASES[name], args)
        rows.append({"case": name, "times": args.times, "before": before, "measured": peak, "planned": said,
                     "ratio": said / peak, "seconds": seconds})  # fmt: skip
        print(f"{name}: {peak:.2f} GiB ({before:.2f} before), planned {said:.2f}, ratio {said / peak:.2f}; "
              f"an update {seconds:.3f} s", flush=True)  # fmt: skip
    head = [
        "| case | measured GiB | planned GiB | planned / measured | seconds of the second update |",
        "|---" * 5 + "|",
    ]
    lines = [
        f"| {r['case']} | {r['measured']:.2f} | {r['planned']:.2f} | {r['ratio']:.2f} | {r['seconds']:.3f} |"
        for r in rows
    ]
    (args.out / "memory.md").write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")
    (args.out / "memory.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

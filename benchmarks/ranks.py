"""Tokens a second of training on documents, and the memory of a rank: one on one core, and several on a core each.

    ixt-rl model smollm2 models/smollm2
    .venv/bin/python benchmarks/ranks.py --model models/smollm2 --out runs/ranks

Each arm is `--updates` updates of packed rows, after one that is not counted, with as many rows a rank in every arm
(`--rows`, `--micro-batches` times): two ranks train on twice the tokens in an update. `apart` is as many single ranks
at once that never talk to each other: what the cores give at most. Needs as many free cores as ranks; anything else
that runs is measured with it. Memory is the largest resident size of a rank, beside what `ixt-rl plan` says. Writes
ranks.json and ranks.md to --out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ARMS = {"alone": 1, "apart": 2, "ddp": 2, "zero2": 2, "zero3": 2, "fsdp2": 2}
ALONE = ("alone", "apart")
"""Arms whose processes know of no other."""


def worker(args: argparse.Namespace) -> None:
    """One rank: trains, and prints its memory; rank 0 also the tokens a second of all ranks."""
    rank, ranks = int(os.environ.get("RANK", 0)), 1 if args.worker in ALONE else ARMS[args.worker]
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[args.core or rank]})
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    from ixt_rl.blocks.launch import LaunchBlock
    from ixt_rl.run.strategy import strategy_arguments
    from ixt_rl.trainers import IXTConfig, IXTTrainer
    from ixt_rl.types import Document

    class Clock(TrainerCallback):
        began = 0.0

        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 1:
                self.began = time.perf_counter()

    torch.set_num_threads(1)
    model, tokenizer = (kind.from_pretrained(args.model) for kind in (AutoModelForCausalLM, AutoTokenizer))
    texts = [Document(f"Line {n}. " + "The quick brown fox jumps over the lazy dog. " * 60) for n in range(64)]
    launch = LaunchBlock(ranks=ranks, strategy="ddp" if ranks == 1 else args.worker)
    config = IXTConfig(
        str(args.out / f"{args.worker}{args.core}"), max_steps=args.updates + 1, per_device_train_batch_size=args.rows,
        max_length=args.tokens, report_to="none", save_strategy="no", learning_rate=1e-6, disable_tqdm=True,
        logging_steps=args.updates + 1, buffer_rows=2 * args.rows * ranks * args.micro_batches,
        gradient_accumulation_steps=args.micro_batches, gradient_checkpointing=False, bf16=False,
        **({"use_cpu": True} | strategy_arguments(launch)), self_checks={"packing": False},
    )  # fmt: skip
    trainer, clock = IXTTrainer(model, config, texts, tokenizer), Clock()
    trainer.add_callback(clock)
    trainer.train()
    seconds = time.perf_counter() - clock.began
    if rank == 0:
        tokens = args.updates * args.micro_batches * args.rows * args.tokens * ranks
        print("tokens/s", tokens / seconds, flush=True)
    print("GiB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, flush=True)
    if ranks > 1:
        torch.distributed.barrier()
        os._exit(0)  # tearing gloo down at interpreter exit now and then aborts


def measured(arm: str, args: argparse.Namespace) -> dict[str, float]:
    """Tokens a second of an arm's one job, or of its jobs apart together, and the memory of the larger rank."""
    keys = ("model", "rows", "micro_batches", "tokens", "updates", "out")
    words = [__file__, *(f"--{key.replace('_', '-')}={getattr(args, key)}" for key in keys), f"--worker={arm}"]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ARMS[arm]}"]
    jobs = [[*words, f"--core={core}"] for core in range(ARMS[arm])] if arm in ALONE else [[*launcher, *words]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([sys.executable, *job], stdout=subprocess.PIPE, text=True, env=environment) for job in jobs
    ]
    said = [job.communicate()[0].splitlines() for job in started]
    if any(job.returncode for job in started):
        sys.exit(f"{arm}: exit status {[job.returncode for job in started]}")
    lines = [line.split() for of_job in said for line in of_job if line.startswith(("tokens/s ", "GiB "))]
    rates, sizes = ([float(value) for name, value in lines if name == unit] for unit in ("tokens/s", "GiB"))
    return {"tokens/s": sum(rates), "GiB": max(sizes), "planned GiB": planned(arm, args)}


def planned(arm: str, args: argparse.Namespace) -> float:
    """GiB that the planner says of a rank."""
    from ixt_rl.planning.devices import GIB, this_cpu
    from ixt_rl.planning.memory import Part, Training, peak, training_parts
    from ixt_rl.planning.shapes import shape_of_folder

    shape = shape_of_folder(args.model)
    job = Training(shape, shape.parameters, args.rows, args.tokens, args.tokens, masked=False, cpu=True)
    parts = training_parts(job) if arm in ALONE else training_parts(job, arm, ARMS[arm])  # type: ignore[arg-type]
    return peak([Part("process", this_cpu().process, "always"), *parts]) / GIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a folder of a causal language model")
    parser.add_argument("--arms", nargs="+", default=[*ARMS], choices=[*ARMS])
    parser.add_argument("--rows", type=int, default=2, help="that a rank passes at once")
    parser.add_argument("--micro-batches", type=int, default=1, help="of so many rows in an update")
    parser.add_argument("--tokens", type=int, default=512, help="of a row")
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("runs/ranks"))
    args = parser.parse_args()
    if args.worker:
        worker(args)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, float]] = {}
    for arm in args.arms:
        one = found[arm] = measured(arm, args)
        print(f"{arm}: " + ", ".join(f"{value:.2f} {unit}" for unit, value in one.items()), flush=True)
    alone = found.get("alone", next(iter(found.values())))["tokens/s"]
    rows = [
        f"| {arm} | {ARMS[arm]} | {one['tokens/s']:.0f} | {one['tokens/s'] / alone:.2f} | {one['GiB']:.2f} | "
        f"{one['planned GiB']:.2f} | {one['planned GiB'] / one['GiB']:.2f} |"
        for arm, one in found.items()
    ]
    head = "| arm | ranks | tokens/s | times one rank | GiB of a rank | planned | planned / measured |"
    (args.out / "ranks.md").write_text("\n".join([head, "|---" * 7 + "|", *rows]) + "\n", encoding="utf-8")
    (args.out / "ranks.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

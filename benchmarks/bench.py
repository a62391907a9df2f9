"""All benchmarks in short, one table: some twelve minutes on two cores.

    make bench
    .venv/bin/python benchmarks/bench.py --model models/smollm2 --only step loss_kernel --out runs/bench

Each runs in a process of its own, one after the other, with sizes that are small enough for an afternoon's question
(did it become slower?) and too small for a figure to quote: for that, run a benchmark by itself, on a machine that does
nothing else. What each says is in OUT/NAME; the table, with the machine it was measured on, is bench.md and bench.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import ROOT, machine, ratio_text, write

from ixt_rl.threads import usable_threads

SHORT = {
    "documents": "--rows 1 --rounds 2 --arms ours 'ours bf16' 'TRL wrapped' 'TRL wrapped bf16'",
    "step": "--rows 8 --tokens 128 --prompt 96 --rounds 2 --arms InTRO 'InTRO half' 'TRL valid' TRL",
    "sampling": "--prompts 8 --n 4 --tokens 48 --rounds 2",
    "loss_kernel": "--tokens 512 --vocab 49152 --hidden 576 "
    "--variants bare fused fused-exact plain selected trl-logprobs",
    "crowded": "--rounds 2 --seconds 2",
}
"""Words of each command line."""
ON_A_MODEL = ("documents", "step", "sampling")


def words(name: str, args: argparse.Namespace) -> list[str]:
    model = ["--model", str(args.model)] if name in ON_A_MODEL else []
    shared = ["--threads", str(args.threads), "--out", str(args.out / name)]
    return [f"{ROOT / 'benchmarks' / name}.py", *model, *shared, *shlex.split(SHORT[name])]


def run(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds that a benchmark took, and what it found; `arms` is None where it failed."""
    log, begun = args.out / f"{name}.log", time.perf_counter()
    print(f"{name} ...", end=" ", flush=True)
    with log.open("w", encoding="utf-8") as lines:
        done = subprocess.run(
            [sys.executable, *words(name, args)], stdout=lines, stderr=subprocess.STDOUT,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
    seconds = time.perf_counter() - begun
    print(f"{seconds:.0f} s" + (f", failed: see {log}" if done.returncode else ""), flush=True)
    found = {} if done.returncode else json.loads((args.out / name / f"{name}.json").read_text(encoding="utf-8"))
    return {"seconds": seconds, "arms": found.get("arms")}


def table(found: dict[str, dict[str, Any]], of: dict[str, str]) -> str:
    lines = ["| machine | |", "|---|---|", *(f"| {name} | {value} |" for name, value in of.items()), ""]
    lines += ["| benchmark | arm | median | | times (range) | peak MiB |", "|---" * 6 + "|"]
    for name, one in found.items():
        if one["arms"] is None:
            lines.append(f"| {name} | failed | | | | |")
        for arm in one["arms"] or []:
            beside = "; ".join(f"{ratio_text(ratio)} {other}" for other, ratio in arm["beside"].items())
            peak = "" if arm["peak_mib"] is None else f"{arm['peak_mib']:.0f}"
            lines.append(f"| {name} | {arm['arm']} | {arm['value']:.4g} | {arm['unit']} | {beside} | {peak} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a folder of a causal language model")
    parser.add_argument("--only", nargs="+", choices=SHORT, default=list(SHORT))
    parser.add_argument("--threads", type=int, default=usable_threads())
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    found = {name: run(name, args) for name in args.only}
    of = {**machine(), "threads of each arm": str(args.threads), "load before": f"{load:.2f}"}
    write(args.out, "bench", {"load": load, "benchmarks": found}, table(found, of))
    if any(one["arms"] is None for one in found.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Sampling side by side: this library's engine, plain `generate`, and vLLM where it is installed.

    make model && python benchmarks/sampling.py --model models/smollm2 --out runs/sampling
    python benchmarks/sampling.py --model models/smollm2 --out runs/sampling --prompts 16 --tokens 32 --rounds 3

Each arm samples the same prompts (excerpts of this repository's docs, of unequal length) from a process of its own with
`--threads` threads; rounds alternate between the arms, and ratios are taken within a round. Tokens are those up to the
end of each completion. Peak memory is that of the arm's process, the weights included. Writes sampling.json and
sampling.md to --out.

    ours       TransformersEngine: prompts of a group read once, rows come and go, float32
    generate   the same engine on `transformers.generate`, batches of all rows, float32
    vllm       VLLMEngine in float32, and with `dtype: auto`, which CPUs take as bfloat16
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from common import arm, peak_mib, ratio, ratio_text, write

from ixt_rl.backends import is_installed
from ixt_rl.types import SamplingParams

DOCS = Path(__file__).resolve().parents[1] / "docs"
ARMS = ("ours", "generate", "vllm float32", "vllm auto")


def start(name: str, model_folder: str, rows: int, longest: int) -> None:
    """Makes the engine of an arm, in its process."""
    from ixt_rl.blocks.model import ModelBlock
    from ixt_rl.models import eos_ids, load_model, load_tokenizer

    global engine
    spec = ModelBlock(path=model_folder)
    model, tokenizer = load_model(model_folder, spec, train=False), load_tokenizer(model_folder, spec)
    ends = eos_ids(model, tokenizer)
    if name.startswith("vllm"):
        from ixt_rl.rollout.vllm_engine import VLLMEngine

        del model
        engine = VLLMEngine(
            model_folder,
            eos_ids=ends,
            dtype=name.split()[1],
            max_model_len=longest,
            max_num_seqs=rows,
            kv_cache_gib=4 if torch.accelerator.current_accelerator() is None else None,
            enforce_eager=True,
        )
    else:
        from ixt_rl.rollout import TransformersEngine

        engine = TransformersEngine(model, ends, tokenizer.pad_token_id, rows)
        engine.continuous = name == "ours"


def sample(prompts: list[list[int]], tokens: int, n: int, seed: int) -> dict[str, float]:
    """Seconds, tokens and peak MiB of one call."""
    began = time.perf_counter()
    groups = engine.generate(prompts, SamplingParams(tokens, seed=seed), n)
    seconds = time.perf_counter() - began
    made = sum(len(rollout.completion_ids) for group in groups for rollout in group)
    return {
        "seconds": seconds,
        "tokens": made,
        "tokens_per_s": made / seconds,
        "peak_mib": peak_mib(),
    }


def make_prompts(args: argparse.Namespace, seed: int) -> list[list[int]]:
    """Excerpts of half to one and a half times the length asked for."""
    from ixt_rl.blocks.model import ModelBlock
    from ixt_rl.models import load_tokenizer

    tokenizer = load_tokenizer(str(args.model), ModelBlock(path=str(args.model)))
    text = "\n\n".join(page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md")))
    ids = tokenizer(text).input_ids
    rng, half = random.Random(seed), args.prompt_tokens // 2
    found = []
    for _ in range(args.prompts):
        length = rng.randint(half, 3 * half)
        at = rng.randrange(len(ids) - length)
        found.append(ids[at : at + length])
    return found


def measure(args: argparse.Namespace) -> dict[str, Any]:
    arms = [name for name in ARMS if name in args.arms and (not name.startswith("vllm") or is_installed("vllm"))]
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    longest = 2 * args.prompt_tokens + args.tokens
    context = multiprocessing.get_context("spawn")
    pools = {name: ProcessPoolExecutor(1, context) for name in arms}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    loads = []
    try:
        for name, pool in pools.items():
            pool.submit(start, name, str(args.model), args.prompts * args.n, longest).result()
            pool.submit(sample, make_prompts(args, 0)[:1], 2, 1, 0).result()  # what is done once
        for number in range(1, args.rounds + 1):
            prompts = make_prompts(args, number)
            loads.append(os.getloadavg()[0])
            for name in arms if number % 2 else reversed(arms):
                rounds[name].append(pools[name].submit(sample, prompts, args.tokens, args.n, number).result())
                print(f"round {number}, {name}: {rounds[name][-1]['tokens_per_s']:.0f} tokens/s", flush=True)
    finally:
        for pool in pools.values():
            pool.shutdown()
    settings = {name: value for name, value in vars(args).items() if name not in ("model", "out", "arms")}
    return {**settings, "loads": loads, "rounds": rounds, "arms": arms_of(rounds)}


def arms_of(rounds: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    speeds = {name: [one["tokens_per_s"] for one in results] for name, results in rounds.items()}
    return [
        arm(
            name,
            statistics.median(own),
            "tokens/s",
            max(one["peak_mib"] for one in rounds[name]),
            **({"generate": ratio(own, speeds["generate"])} if "generate" in speeds and name != "generate" else {}),
        )
        for name, own in speeds.items()
    ]


def table(found: dict[str, Any]) -> str:
    """Markdown: medians, and ratios within rounds."""
    lines = ["| | tokens/s | relative to generate | peak MiB |", "|---|---|---|---|"]
    for one in found["arms"]:
        speeds = [result["tokens_per_s"] for result in found["rounds"][one["arm"]]]
        value = f"{one['value']:.0f} ({min(speeds):.0f} to {max(speeds):.0f})"
        lines.append(
            f"| {one['arm']} | {value} | {ratio_text(one['beside'].get('generate'))} | {one['peak_mib']:.0f} |"
        )
    head = (
        f"{found['prompts']} prompts of about {found['prompt_tokens']} tokens x {found['n']} completions of at most "
        f"{found['tokens']}; {found['threads']} threads; load before the rounds "
        f"{', '.join(f'{load:.1f}' for load in found['loads'])}"
    )
    return head + "\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    for name, value in {"prompts": 64, "prompt_tokens": 64, "n": 4, "tokens": 128, "rounds": 3, "threads": 2}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    args = parser.parse_args()
    found = measure(args)
    write(args.out, "sampling", found, table(found))


if __name__ == "__main__":
    main()

"""Sampling side by side: this library's engine, plain `generate`, and vLLM where it is installed.

    make model && .venv/bin/python benchmarks/sampling.py --model models/smollm2 --out runs/sampling
    .venv/bin/python benchmarks/sampling.py --model models/smollm2 --out runs/sampling --tokens 32 --rounds 3

Each arm samples the same prompts (excerpts of this repository's docs, of unequal length) from a process of its own with
`--threads` threads; rounds alternate between the arms, and ratios are taken within a round. Tokens are those up to the
end of each completion. Peak memory is that of the arm's process, the weights included. Writes sampling.json and
sampling.md to --out.

On an accelerator all arms but vLLM's are in one process, with one model, and peak memory is what tensors took beyond
it. A folder with a config alone gives a model of that shape with random weights (`benchmarks/shapes`), whose
completions hardly ever end before the limit.

    ours       TransformersEngine: prompts of a group read once, rows come and go, in `--dtype`
    generate   the same engine on `transformers.generate`, batches of all rows, in `--dtype`
    vllm       VLLMEngine in float32, and with `dtype: auto`, which CPUs take as bfloat16
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import statistics
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from common import arm, peak_mib, ratio, ratio_text, write
from device import ACCELERATOR, DevicePeak, load_model, load_tokenizer, now

from ixt_rl.backends import is_installed
from ixt_rl.types import SamplingParams

DOCS = Path(__file__).resolve().parents[1] / "docs"
ARMS = ("ours", "generate", "vllm float32", "vllm auto")
engines: dict[str, Any] = {}
"""By arm: of this process."""
models: dict[str, Any] = {}
"""By dtype, likewise."""


def start(name: str, model_folder: str, rows: int, longest: int, dtype: str) -> None:
    """Makes the engine of an arm, in its process."""
    from ixt_rl.blocks.model import ModelBlock
    from ixt_rl.models import checkpoint_eos_ids, eos_ids

    if name.startswith("vllm"):
        from ixt_rl.rollout.vllm_engine import VLLMEngine

        engines[name] = VLLMEngine(
            model_folder,
            eos_ids=checkpoint_eos_ids(model_folder, ModelBlock(path=model_folder), load_tokenizer(Path(model_folder))),
            dtype=name.split()[1],
            max_model_len=longest,
            max_num_seqs=rows,
            kv_cache_gib=4 if ACCELERATOR is None else None,
            enforce_eager=True,
        )
        return
    from ixt_rl.rollout import TransformersEngine

    folder = Path(model_folder)
    if dtype not in models:
        models[dtype] = load_model(folder, getattr(torch, dtype))
    model, tokenizer = models[dtype], load_tokenizer(folder)
    engines[name] = TransformersEngine(model, eos_ids(model, tokenizer), tokenizer.pad_token_id, rows)
    engines[name].continuous = name == "ours"


def sample(name: str, prompts: list[list[int]], tokens: int, n: int, seed: int) -> dict[str, float]:
    """Seconds, tokens and peak MiB of one call."""
    beyond = None if ACCELERATOR is None else DevicePeak()
    began = now()
    groups = engines[name].generate(prompts, SamplingParams(tokens, seed=seed), n)
    seconds = now() - began
    made = sum(len(rollout.completion_ids) for group in groups for rollout in group)
    peak = peak_mib() if beyond is None else beyond.mib()
    return {"seconds": seconds, "tokens": made, "tokens_per_s": made / seconds, "peak_mib": peak}


class ThisProcess:
    """Does at once what is submitted: a GPU's arms share a process, and start it once."""

    def submit(self, function: Any, *args: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(function(*args))
        return done

    def shutdown(self) -> None: ...


def make_prompts(args: argparse.Namespace, seed: int) -> list[list[int]]:
    """Excerpts of half to one and a half times the length asked for."""
    tokenizer = load_tokenizer(args.model)
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
    apart = {name for name in arms if ACCELERATOR is None or name.startswith("vllm")}
    pools: dict[str, Any] = {name: ProcessPoolExecutor(1, context) if name in apart else ThisProcess() for name in arms}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    loads = []
    try:
        for name, pool in pools.items():
            pool.submit(start, name, str(args.model), args.prompts * args.n, longest, args.dtype).result()
            pool.submit(sample, name, make_prompts(args, 0)[:1], 2, 1, 0).result()  # what is done once
        for number in range(1, args.rounds + 1):
            prompts = make_prompts(args, number)
            loads.append(os.getloadavg()[0])
            for name in arms if number % 2 else reversed(arms):
                rounds[name].append(pools[name].submit(sample, name, prompts, args.tokens, args.n, number).result())
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
        f"{found['tokens']}; {found['dtype']}; {found['threads']} threads; load before the rounds "
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
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of ours and generate")
    args = parser.parse_args()
    found = measure(args)
    write(args.out, "sampling", found, table(found))


if __name__ == "__main__":
    main()

"""Rollout engines side by side: tokens/s, the time of a weight update, and what a training step loses to rollouts.

    .venv/bin/python benchmarks/rollouts.py --out runs/rollouts                  # needs vllm and ray; a few minutes
    .venv/bin/python benchmarks/rollouts.py --out runs/rollouts --memory 10000  # memory over 10,000 rollouts

Throughput: `LLM.generate` of vLLM alone in a process of its own, a pool of one engine, a pool of `--engines`, and
transformers in this process sample the same prompts, with the same settings of vLLM and the same seeds; each has
`--threads` threads. All stay up; rounds alternate between them, with new prompts each, and ratios are taken within a
round. Update: the pools get all weights of the model, changed. Overlap: GRPO on the pool of one engine, without
(staleness 0) and with (1) sampling ahead, in turns. Everything starts from one model with random weights, made here.
Writes rollouts.json, rollouts.md and a figure for each part to --out; parts measured before are kept.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from rollouts_page import figures, tables
from transformers import LlamaConfig, LlamaForCausalLM

from ixt_rl.types import SamplingParams

PARTS = ("throughput", "update", "overlap", "memory")
MIB = 2**20
EOS = (257,)  # of the byte tokenizer
BLOCK = 32  # tokens of a KV block, as in VLLMEngine on CPU


def make_model(args: argparse.Namespace, folder: Path) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=args.vocab,
        hidden_size=args.hidden,
        intermediate_size=3 * args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=args.hidden // args.head_dim,
        num_key_value_heads=args.hidden // args.head_dim,
        head_dim=args.head_dim,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=258,
        eos_token_id=EOS[0],
        bos_token_id=256,
    )
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    return model


def engine_settings(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "dtype": "float32",
        "max_model_len": 2 * args.prompt_tokens + args.tokens,
        "max_num_seqs": args.max_num_seqs,
        "enforce_eager": True,
    }


def make_prompts(args: argparse.Namespace, seed: int) -> list[list[int]]:
    """Prompts of half to one and a half times the length asked for."""
    rng = random.Random(seed)
    half = args.prompt_tokens // 2
    return [[rng.randrange(256) for _ in range(rng.randint(half, 3 * half))] for _ in range(args.prompts)]


# ---------------------------------------------------------------- vLLM alone, in a child process


def start_bare(folder: str, settings: dict[str, Any], threads: int) -> None:
    assert torch.get_num_threads() == threads
    os.environ |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
    from vllm import LLM

    global llm
    llm = LLM(
        folder,
        **settings,
        skip_tokenizer_init=True,
        generation_config="vllm",
        kv_cache_memory_bytes=2**30,
        block_size=BLOCK,
        enable_prefix_caching=True,
        logprobs_mode="processed_logprobs",
        use_tqdm_on_load=False,
    )


def bare(prompts: list[list[int]], sampling: SamplingParams, n: int, seeds: list[int]) -> tuple[float, list]:
    """(seconds of `LLM.generate`, completions of each prompt)."""
    import vllm

    start = time.perf_counter()
    parameters = [
        vllm.SamplingParams(
            n=n,
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            seed=seed,
            stop_token_ids=list(EOS),
            ignore_eos=True,
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
        )
        for seed in seeds
    ]
    outputs = llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], parameters, use_tqdm=False)
    seconds = time.perf_counter() - start
    return seconds, [[tuple(completion.token_ids) for completion in output.outputs] for output in outputs]


# ---------------------------------------------------------------- throughput and updates


def throughput(args: argparse.Namespace, folder: str, model: LlamaForCausalLM, pools: dict[int, Any]) -> dict[str, Any]:
    from ixt_rl.rollout import TransformersEngine
    from ixt_rl.rollout.vllm_requests import make_requests

    local = TransformersEngine(model, EOS, 258, args.max_num_seqs)
    child = ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), start_bare, (folder, engine_settings(args), args.threads)
    )

    def bare_run(prompts: list[list[int]], sampling: SamplingParams) -> tuple[float, list]:
        seeds = [r.seed for r in make_requests(prompts, sampling, args.n, 10**6, args.vocab)]
        return child.submit(bare, prompts, sampling, args.n, seeds).result()

    def run_by(engine: Any) -> Callable[[list[list[int]], SamplingParams], tuple[float, list]]:
        def run(prompts: list[list[int]], sampling: SamplingParams) -> tuple[float, list]:
            start = time.perf_counter()
            groups = engine.generate(prompts, sampling, args.n)
            return time.perf_counter() - start, [[r.completion_ids for r in group] for group in groups]

        return run

    runs = {"bare vLLM": bare_run} | {f"pool of {k}": run_by(pool) for k, pool in pools.items()}
    runs["transformers"] = run_by(local)
    speed: dict[str, list[float]] = {name: [] for name in runs}
    cores: dict[str, list[float]] = {name: [] for name in runs}
    same = []
    with child:
        for number in range(args.rounds + 1):
            prompts, sampling = make_prompts(args, number), SamplingParams(args.tokens, seed=number)
            found = {}
            for name, run in runs.items() if number % 2 else reversed(runs.items()):
                before = psutil.cpu_times()
                seconds, found[name] = run(prompts, sampling)
                if number:  # the first round is a warm-up
                    speed[name].append(sum(len(ids) for group in found[name] for ids in group) / seconds)
                    cores[name].append(busy(before, psutil.cpu_times()) / seconds)
            if number:
                same += [found["bare vLLM"] == found[f"pool of {k}"] for k in pools]
    return {"tokens_per_second": speed, "cores_busy": cores, "same_completions_as_bare": f"{sum(same)}/{len(same)}"}


def busy(before: Any, after: Any) -> float:
    """Seconds that the machine's cores worked, summed over cores."""
    return sum(after) - sum(before) - (after.idle - before.idle) - (after.iowait - before.iowait)


def update(
    args: argparse.Namespace, model: LlamaForCausalLM, pools: dict[int, Any], broadcasting: dict[int, Any]
) -> dict[str, Any]:
    """Seconds of `update_weights`, through the object store and by broadcast, in turns, after a round uncounted."""
    ways = {f"pool of {k}": pool for k, pool in pools.items()}
    ways |= {f"pool of {k}, by broadcast": pool for k, pool in broadcasting.items()}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(args.rounds + 1):
        change(model)
        for way, pool in ways.items():
            start = time.perf_counter()
            pool.update_weights(model.state_dict().items(), number + 1)
            if number:
                seconds[way].append(time.perf_counter() - start)
    for pool in broadcasting.values():
        pool.close()
    return {"model_mib": sum(w.nbytes for w in model.state_dict().values()) / MIB, "seconds": seconds}


def change(model: LlamaForCausalLM) -> None:
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 1e-3)


# ---------------------------------------------------------------- training on the pool


def overlap(args: argparse.Namespace, folder: str, pool: Any) -> dict[str, Any]:
    """Seconds of each step, and those of them spent in rollouts (waiting, weight update, parity probe)."""
    rows: dict[str, list[dict[str, float]]] = {"staleness 0": [], "staleness 1": []}
    for number in range(2 * args.turns):
        staleness = number % 2
        rows[f"staleness {staleness}"] += train(args, folder, pool, staleness)
    return {"steps": rows}


def train(args: argparse.Namespace, folder: str, pool: Any, staleness: int) -> list[dict[str, float]]:
    from datasets import Dataset
    from transformers import TrainerCallback

    from ixt_rl.models import byte_tokenizer
    from ixt_rl.rollout.trl_adapter import EngineRollouts
    from ixt_rl.trainers import GRPOConfig, GRPOTrainer

    steps: list[dict[str, float]] = []
    spent = {"rollouts": 0.0, "sync": 0.0}

    class Timed(EngineRollouts):
        def __call__(self, prompts, trainer):
            start = time.perf_counter()
            result = super().__call__(prompts, trainer)
            spent["rollouts"] += time.perf_counter() - start
            return result

        def sync(self, trainer):
            start = time.perf_counter()
            super().sync(trainer)
            spent["sync"] += time.perf_counter() - start

    class Clock(TrainerCallback):
        last = 0.0

        def on_step_begin(self, *_, **__):
            self.last = time.perf_counter() if not self.last else self.last

        def on_step_end(self, *_, **__):
            now = time.perf_counter()
            steps.append({"step": now - self.last, **spent})
            self.last = now
            spent.update(rollouts=0.0, sync=0.0)

    count = args.rows // args.n
    rng = random.Random(0)
    texts = ["".join(rng.choices("abcdefgh", k=args.prompt_tokens)) for _ in range(count * (args.steps + 2))]
    config = GRPOConfig(
        output_dir=str(args.out / "trainer"),
        per_device_train_batch_size=args.rows,
        num_generations=args.n,
        max_completion_length=args.tokens,
        learning_rate=1e-4,
        max_steps=args.steps + 2,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=not torch.accelerator.is_available(),
    )
    trainer = GRPOTrainer(
        LlamaForCausalLM.from_pretrained(folder),
        [low_bytes],
        config,
        rollouts=Timed(pool, staleness=staleness),
        train_dataset=Dataset.from_list([{"prompt": text} for text in texts]),
        processing_class=byte_tokenizer(),
        callbacks=[Clock()],
    )
    trainer.train()
    # the first step waits for its rollouts either way, the last two sample nothing ahead
    return steps[1:-1]


def low_bytes(prompts, completions, completion_ids, **_) -> list[float]:
    """Share of bytes below 64."""
    return [sum(i < 64 for i in ids) / len(ids) for ids in completion_ids]


# ---------------------------------------------------------------- memory


def memory(args: argparse.Namespace, model: LlamaForCausalLM, pool: Any) -> dict[str, Any]:
    """Resident memory after each call of `prompts * n` rollouts; the weights are updated between calls."""
    driver = psutil.Process()
    samples: list[dict[str, float]] = []
    done = 0
    while done < args.memory:
        groups = pool.generate(make_prompts(args, done), SamplingParams(args.tokens, seed=done), args.n)
        done += sum(map(len, groups))
        del groups
        change(model)
        pool.update_weights(model.state_dict().items(), done)
        workers = {engine["pid"] for engine in pool.stats()}
        ray = [p for p in driver.children(recursive=True) if p.pid not in workers]
        samples.append(
            {"rollouts": done, "driver": driver.memory_info().rss / MIB}
            | {f"engine {i}": psutil.Process(e["pid"]).memory_info().rss / MIB for i, e in enumerate(pool.stats())}
            | {"Ray's processes": sum(p.memory_info().rss for p in ray if p.is_running()) / MIB}
        )
    warm = [s for s in samples if s["rollouts"] >= args.memory / 5] or samples
    slope = {
        name: float(np.polyfit([s["rollouts"] for s in warm], [s[name] for s in warm], 1)[0] * 1000)
        for name in samples[0]
        if name != "rollouts"
    }
    return {"samples": samples, "updates": len(samples), "mib_per_1000_rollouts_after_warm_up": slope}


# ---------------------------------------------------------------- report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS[:3], default=list(PARTS[:3]))
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="only the memory over N rollouts")
    parser.add_argument("--vocab", type=int, default=2048)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--head-dim", type=int, default=32, help="vLLM on CPU takes 32, 64, 80, 96, 112, 128, ...")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=96, help="prompts of a round")
    parser.add_argument("--prompt-tokens", type=int, default=48, help="mean length of a prompt")
    parser.add_argument("--n", type=int, default=4, help="completions of a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="longest completion")
    parser.add_argument("--max-num-seqs", type=int, default=64, help="sequences decoded at once by an engine")
    parser.add_argument("--engines", type=int, default=2, help="engines of the larger pool")
    parser.add_argument("--threads", type=int, default=1, help="threads of each engine and of the trainer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=32, help="completions of a training step")
    parser.add_argument("--steps", type=int, default=8, help="training steps measured in a turn")
    parser.add_argument("--turns", type=int, default=2, help="training runs of each staleness")
    parser.add_argument("--out", type=Path, default=Path("runs/rollouts"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # read when a child loads torch, before any code of it runs
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "rollouts.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    measured = measure(args)
    settings = {k: v for k, v in vars(args).items() if k not in ("out", "parts", "memory")}
    found |= {name: {"settings": settings, **part} for name, part in measured.items()}
    found = {name: found[name] for name in PARTS if name in found}
    text = "\n".join(tables(found))
    file.write_text(json.dumps(found, indent=1), encoding="utf-8")
    (args.out / "rollouts.md").write_text(text, encoding="utf-8")
    figures(found, args.out)
    print(text)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    import ray

    from ixt_rl.rollout.pool.ray_pool import RayPool

    # Ray counts the cores that it gives away; the pools here are used in turns, so they may exceed the machine's.
    ray.init(
        num_cpus=2 * (1 + args.engines) * args.threads,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    settings = {**engine_settings(args), "eos_ids": EOS, "cpus_per_engine": args.threads}
    with tempfile.TemporaryDirectory() as folder, closing(_RayEnd()):
        model = make_model(args, Path(folder))
        if args.memory:
            with closing(RayPool(folder, engines=args.engines, **settings)) as pool:
                return {"memory": memory(args, model, pool)}
        sizes = [1] if args.parts == ["overlap"] else sorted({1, args.engines})
        pools = {engines: RayPool(folder, engines=engines, **settings) for engines in sizes}
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "throughput": lambda: throughput(args, folder, model, pools),
            "update": lambda: update(
                args,
                model,
                pools,
                {k: RayPool(folder, engines=k, weight_transfer="broadcast", **settings) for k in pools},
            ),
            "overlap": lambda: overlap(args, folder, pools[1]),
        }
        measured = {name: parts[name]() for name in parts if name in args.parts}
        for pool in pools.values():
            pool.close()
        return measured


class _RayEnd:
    def close(self) -> None:
        import ray

        ray.shutdown()


if __name__ == "__main__":
    main()

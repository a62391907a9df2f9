"""A whole InTRO update against a whole TRL GRPO update: same model, prompts and completions, one run.

    ixt-rl model smollm2 models/smollm2
    .venv/bin/python benchmarks/step.py --model models/smollm2 --out runs/step

Both train on the same scripted rollouts, `--group` completions a prompt: passes without gradient, forward and loss,
backward, optimizer step. Nothing is generated (`sampling.py` does that). Without `--model` the model is a small one
with random weights. Arms alternate, the order reversed every other round; the table has medians of seconds, the median
of the ratios to TRL's arms round by round, in wall-clock and in CPU seconds, and each arm's peak memory in a process of
its own. Writes step.json and step.md to --out.

    InTRO            all rationales kept; posterior pass included
    InTRO half       every second one kept, what was dropped costs nothing
    TRL valid        GRPO on all rows; the head scores the completions' tokens, as TRL does where there is Triton
    TRL valid half   on the rows that `InTRO half` keeps
    TRL valid scored with the pass for old log-probs before, which TRL makes for rollouts from vLLM
    TRL              GRPO as it is without Triton, so on any CPU: the head scores prompts and padding, too
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import trl
from common import arm, child, peak_mib, ratio, ratio_text, write
from datasets import Dataset
from device import ACCELERATOR, DEVICE, DevicePeak, load_model, load_tokenizer, now
from transformers import LlamaConfig, LlamaForCausalLM

from ixt_rl.models import byte_tokenizer
from ixt_rl.trainers import InTROConfig, InTROTrainer
from ixt_rl.trainers.told import ToldPass

ARMS = ("InTRO", "InTRO half", "TRL valid", "TRL valid half", "TRL valid scored", "TRL")
PARTS = ("without gradient", "forward and loss", "backward", "optimizer", "update")
TOLD = 12  # tokens that the answer adds to a prompt


def model_and_tokenizer(args: argparse.Namespace) -> tuple[Any, Any]:
    torch.manual_seed(0)
    if args.model is not None:
        return load_model(args.model), load_tokenizer(args.model)
    config = LlamaConfig(
        vocab_size=32768, hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=8, tie_word_embeddings=True, pad_token_id=258,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(DEVICE), byte_tokenizer()


def batch(args: argparse.Namespace, pad_id: int, rows: str) -> dict[str, Any]:
    """TRL's dict of one generation: prompts and completions of unequal length, half to all of `--prompt` and
    `--tokens`. `rows`: `all` are kept; `half` of them; `kept half`: those alone are there."""
    generator = torch.Generator().manual_seed(1)

    def drawn(number: int, longest: int, extra: int = 0) -> list[list[int]]:
        lengths = torch.randint(longest // 2, longest + 1, (number,), generator=generator).tolist()
        return [torch.randint(3, 250, (n + extra,), generator=generator).tolist() for n in [longest, *lengths[1:]]]

    prompts = [ids for ids in drawn(args.rows // args.group, args.prompt) for _ in range(args.group)]
    completions, told = drawn(args.rows, args.tokens), [ids + [7] * TOLD for ids in prompts]
    keep = torch.arange(args.rows) % 2 == 0 if rows != "all" else torch.ones(args.rows, dtype=torch.bool)
    if rows == "kept half":
        prompts, completions, told = (x[::2] for x in (prompts, completions, told))
        keep = keep[::2]
    ids, mask = _padded(completions, pad_id, left=False)
    prompt_ids, prompt_mask = _padded(prompts, pad_id, left=True)
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": torch.where(torch.arange(len(keep)) % 2 == 0, 1.0, -1.0),
        "num_items_in_batch": mask.sum().float(),
        "rewards": keep.float(),
        "rewards_per_func": keep.float()[:, None],
        "kept": keep,
        "kept_total": keep.sum(),
        "told_prompt_ids": told,
    }


def _padded(rows: list[list[int]], pad_id: int, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    fill = [[pad_id] * (width - len(ids)) for ids in rows]
    mask = [[1] * len(ids) for ids in rows]
    none = [[0] * len(one) for one in fill]
    sides = [(b + a, n + m) if left else (a + b, m + n) for a, b, m, n in zip(rows, fill, mask, none, strict=True)]
    return torch.tensor([ids for ids, _ in sides]), torch.tensor([one for _, one in sides])


class Arm:
    """A trainer and the batch that it trains on."""

    def __init__(self, name: str, args: argparse.Namespace):
        self.name = name
        ours = name.startswith("InTRO")
        common: dict[str, Any] = {
            "output_dir": str(args.out / "trainer"), "per_device_train_batch_size": args.rows, "report_to": "none",
            "num_generations": args.group, "max_completion_length": args.tokens, "gradient_checkpointing": False,
            "bf16": args.bf16, "use_cpu": ACCELERATOR is None, "max_steps": 1, "learning_rate": 1e-6,
        }  # fmt: skip
        config = InTROConfig(**common, candidates=args.candidates) if ours else trl.GRPOConfig(**common)
        model, tokenizer = model_and_tokenizer(args)
        data = Dataset.from_list([{"prompt": "a", "told_prompt": "b"}] * args.rows)
        self.trainer: Any = (InTROTrainer if ours else trl.GRPOTrainer)(
            model, [_no_reward], config, train_dataset=data, processing_class=tokenizer
        )
        self.trainer.current_gradient_accumulation_steps = 1
        self.trainer.create_optimizer()
        self.trainer.model_wrapped = self.trainer.accelerator.prepare_model(self.trainer.model)
        self.trainer._prepare_inputs = lambda inputs: inputs
        rows = "all" if not name.endswith("half") else "half" if ours else "kept half"
        made = batch(args, tokenizer.pad_token_id, rows)
        self.inputs = {k: v.to(DEVICE) if isinstance(v, torch.Tensor) else v for k, v in made.items()}

    def update(self) -> dict[str, list[float]]:
        """`[wall, CPU]` seconds of one update, by part and in all."""
        trainer, clock = self.trainer, _Clock()
        # TRL's own switch, read where the head's inputs are chosen; the kernels below have one of their own.
        valid = patch("trl.trainer.utils._use_triton", return_value=True) if "valid" in self.name else nullcontext()
        backward = clock.timed("backward", trainer.accelerator.backward)
        with valid, patch.object(trainer.accelerator, "backward", backward):
            if isinstance(trainer, InTROTrainer):
                trainer.told.hidden = clock.timed("without gradient", ToldPass.hidden.__get__(trainer.told))
            begun = _now()
            inputs = dict(self.inputs)
            if self.name.endswith("scored"):
                inputs["old_per_token_logps"] = clock.timed("without gradient", self._old_logps)()
            trainer.training_step(trainer.model_wrapped, inputs, None)
            clock.timed("optimizer", trainer.optimizer.step)()
            trainer.optimizer.zero_grad()
            clock.parts["update"] = _since(begun)
        known = [clock.parts.get(part, [0.0, 0.0]) for part in PARTS if part not in ("update", "forward and loss")]
        clock.parts["forward and loss"] = [
            whole - sum(part[i] for part in known) for i, whole in enumerate(clock.parts["update"])
        ]
        return clock.parts

    @torch.no_grad()
    def _old_logps(self) -> torch.Tensor:
        """As `GRPOTrainer._generate_and_score_completions` takes them."""
        given = self.inputs
        ids = torch.cat([given["prompt_ids"], given["completion_ids"]], 1)
        mask = torch.cat([given["prompt_mask"], given["completion_mask"]], 1)
        width = given["completion_ids"].shape[1]
        return self.trainer._get_per_token_logps_and_entropies(self.trainer.model, ids, mask, width, len(ids))[0]


class _Clock:
    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = {}

    def timed(self, part: str, function: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            begun = _now()
            result = function(*args, **kwargs)
            self.parts[part] = _since(begun)
            return result

        return run


def _now() -> tuple[float, float]:
    return now(), time.process_time()


def _since(begun: tuple[float, float]) -> list[float]:
    return [now - then for now, then in zip(_now(), begun, strict=True)]


def _no_reward(completions: list[Any], **_: Any) -> list[float]:
    return [0.0] * len(completions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder of a causal language model")
    parser.add_argument("--rows", type=int, default=16, help="completions of one update")
    parser.add_argument("--group", type=int, default=8, help="completions of a prompt")
    parser.add_argument("--prompt", type=int, default=128, help="longest prompt, tokens")
    parser.add_argument("--tokens", type=int, default=192, help="longest completion")
    parser.add_argument("--candidates", default=5, type=lambda v: v if v == "exact" else int(v))
    parser.add_argument("--bf16", action="store_true", help="all arms under autocast to bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-memory", action="store_true", help="leave the peaks out, each a process of its own")
    parser.add_argument("--out", type=Path, default=Path("runs/step"))
    parser.add_argument("--only", choices=ARMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.only:
        one = Arm(args.only, args)
        for _ in range(2):  # the second has the optimizer's states beside it
            one.update()
        print(json.dumps(peak_mib()))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    made, peaks = [], {}
    for name in args.arms:
        beyond = None if ACCELERATOR is None else DevicePeak()
        made.append(Arm(name, args))
        if beyond is not None:
            for _ in range(2):  # the second has the optimizer's states beside it
                made[-1].update()
            peaks[name] = beyond.mib()
    rounds: dict[str, list[dict[str, list[float]]]] = {name: [] for name in args.arms}
    for number in range(args.rounds + 1):
        for one in made if number % 2 else reversed(made):
            measured = one.update()
            if number:  # the first is a warm-up
                rounds[one.name].append(measured)
                print(f"round {number}: {one.name} {measured['update'][0]:.3f} s", flush=True)
    del made
    if ACCELERATOR is None and not args.no_memory:
        peaks = {name: peak(name, args) for name in args.arms}
    report(args, rounds, peaks)


def peak(name: str, args: argparse.Namespace) -> float:
    """MiB that a process which makes two updates of an arm takes at most."""
    words = [
        f"--{key}={getattr(args, key)}" for key in ("rows", "group", "prompt", "tokens", "candidates", "threads", "out")
    ]
    words += ([f"--model={args.model}"] if args.model else []) + (["--bf16"] if args.bf16 else [])
    return child(__file__, f"--only={name}", *words)


def report(args: argparse.Namespace, rounds: dict[str, list[dict[str, list[float]]]], peaks: dict[str, float]) -> None:
    wall, cpu = ({name: [one["update"][i] for one in found] for name, found in rounds.items()} for i in (0, 1))
    theirs = [name for name in rounds if name.startswith("TRL")]
    arms = []
    lines = [
        ", ".join(f"{name}={value}" for name, value in vars(args).items() if name not in ("out", "only", "arms")),
        "",
        f"| arm, median seconds | {' | '.join(PARTS)} | CPU seconds | peak MiB |",
        "|---" * (len(PARTS) + 3) + "|",
    ]
    for name, found in rounds.items():
        medians = [statistics.median(one.get(part, [0.0])[0] for one in found) for part in PARTS]
        memory = f"{peaks[name]:.0f}" if name in peaks else ""
        lines.append(
            f"| {name} | {' | '.join(f'{x:.3f}' for x in medians)} | {statistics.median(cpu[name]):.2f} | {memory} |"
        )
        beside = {} if name in theirs else {other: ratio(wall[name], wall[other]) for other in theirs}
        arms.append(arm(name, medians[-1], "s an update", peaks.get(name), **beside))
    lines += ["", "| times | " + " | ".join(f"{other} | CPU" for other in theirs) + " |"]
    lines.append("|---" * (2 * len(theirs) + 1) + "|")
    for name in [name for name in rounds if name not in theirs]:
        cells = [ratio_text(ratio(seconds[name], seconds[other])) for other in theirs for seconds in (wall, cpu)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    settings = {name: str(value) for name, value in vars(args).items() if name not in ("out", "only")}
    write(args.out, "step", {"settings": settings, "rounds": rounds, "arms": arms}, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

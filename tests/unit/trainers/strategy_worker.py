"""Trains methods on two ranks under one strategy, and compares rollouts, loss, gradient norm and weights with one
process."""

from __future__ import annotations

import json
import os
import traceback
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors.torch import load_file
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM

from ixt_rl.blocks.launch import LaunchBlock
from ixt_rl.data.in_memory import Repeated
from ixt_rl.kernels.correction import Correction
from ixt_rl.rollout import TransformersEngine
from ixt_rl.rollout.engine import EngineOfRankZero
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.rollout.weights.policy import policy_tensors
from ixt_rl.run.strategy import save_whole, strategy_arguments
from ixt_rl.types import SamplingParams
from tests.unit.distributed import end_rank
from tests.unit.trainers import dpo_helpers, helpers, ixt_helpers, sip_helpers

UPDATES = 5
COMMON: dict[str, Any] = {
    "max_steps": UPDATES, "learning_rate": 1e-2, "adam_epsilon": 1e-3, "lr_scheduler_type": "constant",
    "max_grad_norm": 0.5, "logging_steps": 1, "save_strategy": "no",
}  # fmt: skip
SPLIT = {1: (16, 1), 2: (4, 2)}  # ranks: rows of a micro-batch, micro-batches of an update


def lora(**options: Any):
    from peft import LoraConfig

    return LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", **options)


class EngineBeside:
    """On a model of its own, as one outside the trainer's is: what it samples comes from the weights it is sent."""

    def __init__(self):
        self._engine = TransformersEngine(helpers.tiny(seed=7), eos_ids=(11,), pad_id=12)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class EngineAhead(EngineBeside):
    """Samples at once what it is asked for in the background."""

    def submit(self, *asked: Any) -> Future:
        future: Future = Future()
        future.set_result(self.generate(*asked))
        return future


def beside(kind: type = EngineBeside) -> Any:
    """The first rank has it for all."""
    return EngineOfRankZero() if int(os.environ.get("RANK", 0)) else kind()


def odd_start(completion_ids, **_) -> list[float]:
    """A reward that an untrained model gets half of the time."""
    return [float(ids[0] % 2) for ids in completion_ids]


def online(name: str, folder: Path, options: dict[str, Any], peft_config=None, **own: Any):
    own.setdefault("engine", helpers.ScriptedEngine())
    return helpers.make_trainer(
        name, folder, data=helpers.rows(16), peft_config=peft_config, **{**options, **own}
    )  # fmt: skip


def sampled(name: str, folder: Path, options: dict[str, Any], **own: Any):
    """Rollouts of the policy's, by an engine beside it whose log-probs are compared after each update."""
    rollouts = own.pop("rollouts", None) or EngineRollouts(beside(), parity_limit=1e-3)
    return online(name, folder, options, rollouts=rollouts, reward=odd_start, max_completion_length=12, **own)


def ahead(folder: Path, options: dict[str, Any]):
    rollouts = EngineRollouts(beside(EngineAhead), parity_limit=1e-3, staleness=1)
    return sampled("grpo", folder, options, rollouts=rollouts, correction=Correction())


def ixt(folder: Path, options: dict[str, Any], **own: Any):
    return ixt_helpers.make_trainer(folder, ixt_helpers.documents(40), feedback_dropout=0.2, **{**options, **own})


def sip(folder: Path, options: dict[str, Any], engine: Any = None, data: Any = None, **own: Any):
    return sip_helpers.make_trainer(
        folder, engine=engine, data=data, config={**options, "sources": ["original", "rollout"], **own}
    )


def passes() -> Repeated:
    """Five updates of prompts, of which the last has one: a rank has none."""
    return Repeated(sip_helpers.prompts(13), 0, passes=5)


def pairs(folder: Path, options: dict[str, Any], peft_config=None, **own: Any):
    """TRL's DPO, of fewer pairs than an update has; the process that is alone comes first, and writes the model."""
    conditioner = dpo_helpers.chat_conditioner()
    model = (folder.parents[1] if "RANK" in os.environ else folder.parent) / "pairs-model"
    if "RANK" not in os.environ:
        dpo_helpers.tiny_folder(model, conditioner)
    return dpo_helpers.make_trainer(model, folder, conditioner, 11, peft_config, **{**options, **own})


METHODS = {
    "intro": lambda *at: online("intro", *at, candidates="exact"),
    "intro-frozen": lambda *at: online("intro", *at, candidates="exact", posterior="frozen"),
    "intro-lora": lambda *at: online("intro", *at, candidates="exact", posterior="frozen", peft_config=lora()),
    "grpo": lambda *at: online("grpo", *at),
    "rlsd": lambda *at: online("rlsd", *at),
    "ixt": lambda *at: ixt(*at),
    "ixt-ema": lambda *at: ixt(*at, ema_decay=0.9),
    "dpo": lambda *at: sip(*at),
    "nll": lambda *at: sip(*at, objective="rf-nll"),
    "pairs": lambda *at: pairs(*at),
    "pairs-lora": lambda *at: pairs(*at, peft_config=lora(modules_to_save=["lm_head"])),
    "intro-beside": lambda *at: sampled("intro", *at, candidates="exact"),
    "grpo-beside": lambda *at: sampled("grpo", *at),
    "grpo-ahead": ahead,
    "dpo-beside": lambda *at: sip(*at, engine=beside()),
    "dpo-samples": lambda *at: sip(*at, engine="model"),
    "nll-samples": lambda *at: sip(*at, engine="model", objective="rf-nll"),
    "nll-passes": lambda *at: sip(*at, engine="model", data=passes(), objective="rf-nll", max_steps=-1),
}


def _rows() -> dict[str, int]:
    rows, accumulation = SPLIT[int(os.environ.get("WORLD_SIZE", 1))]
    return {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulation}


def trained(method: str, folder: Path, **options: Any):
    """A trainer after its updates."""
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    trainer = METHODS[method](folder / f"{method}-{ranks}", {**COMMON, **_rows(), **options})
    if hasattr(trainer, "rollouts"):
        trainer.rollouts.sample = Kept(trainer.rollouts.sample)
    trainer.train()
    if isinstance(trainer.model_wrapped, DistributedDataParallel):
        assert not trainer.model_wrapped.find_unused_parameters
    return trainer


class Kept:
    """A trainer's sampling that remembers what it gave this rank, call by call."""

    def __init__(self, sample):
        self.sample, self.calls = sample, []

    def __call__(self, *asked: Any) -> Any:
        self.calls.append(self.sample(*asked))
        return self.calls[-1]

    def of_all_ranks(self) -> list[list[Any]]:
        """By call, in the order of the ranks."""
        parts = gather_object([self.calls])
        return [[rollout for part in calls for rollout in part] for calls in zip(*parts, strict=True)]


def found(trainer) -> dict[str, Any]:
    """What is compared: whole weights, also averaged ones, and what was logged."""
    tensors = {name: tensor.clone() for name, tensor in policy_tensors(trainer.model)}
    if getattr(trainer, "average", None) is not None:
        with trainer.averaged():
            tensors |= {f"average/{name}": tensor.clone() for name, tensor in policy_tensors(trainer.model)}
    logs = [{k: row[k] for k in ("loss", "grad_norm")} for row in trainer.state.log_history if "loss" in row]
    kept = trainer.rollouts.sample if hasattr(trainer, "rollouts") else None
    calls = kept.of_all_ranks() if isinstance(kept, Kept) else []
    return {"tensors": tensors, "logs": logs, "calls": calls}


def alone(method: str, folder: Path) -> None:
    """The same in this process, to compare with."""
    torch.save(found(trained(method, folder)), folder / f"{method}.pt")


def cells(cells: list[tuple[str, str]], folder: str) -> None:
    """One rank: runs (strategy, what) one after the other, and says how each went; later ones run all the same."""
    torch.set_num_threads(1)
    for strategy, what in cells:
        for name in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"):  # accelerate's, of the strategy before
            os.environ.pop(name, None)
        options = strategy_arguments(LaunchBlock(ranks=2, strategy=strategy))
        try:
            if what in METHODS:
                here = found(trained(what, Path(folder, strategy), **options))
                compare(here, torch.load(Path(folder, f"{what}.pt"), weights_only=False))
            else:
                CHECKS[what](Path(folder, strategy), options)
        except Exception:
            traceback.print_exc()
            print(f"{strategy} {what}: failed", flush=True)
        else:
            print(f"{strategy} {what}: right", flush=True)
    end_rank()


def compare(here: dict[str, Any], expected: dict[str, Any]) -> None:
    assert len(here["logs"]) == len(expected["logs"]) == UPDATES
    for row, other in zip(here["logs"], expected["logs"], strict=True):
        for name in row:
            assert abs(row[name] - other[name]) <= 1e-5 * max(1.0, abs(other[name])), (name, row, other)
    same(here["tensors"], expected["tensors"], 1e-5)
    assert len(here["calls"]) == len(expected["calls"])
    for call, same_call in zip(here["calls"], expected["calls"], strict=True):
        for rollout, same_row in zip(call, same_call, strict=True):
            assert replace(rollout, logprobs=()) == replace(same_row, logprobs=())
            logprobs, expected_logprobs = torch.tensor(rollout.logprobs), torch.tensor(same_row.logprobs)
            torch.testing.assert_close(logprobs, expected_logprobs, rtol=0, atol=3e-5)


def same(tensors: dict[str, Any], expected: dict[str, Any], limit: float = 0.0) -> None:
    assert tensors.keys() == expected.keys()
    apart = {name: float((tensor - expected[name]).abs().max()) for name, tensor in tensors.items()}
    assert max(apart.values()) <= limit, {name: most for name, most in apart.items() if most > limit}


def samples(folder: Path, options: dict[str, Any]) -> None:
    """The model itself samples, at different lengths, by the log-probs that the trainer scores."""
    trainer = helpers.make_trainer(
        "intro", folder / "samples", rollouts=EngineRollouts(), data=helpers.rows(16),
        **{**COMMON, **_rows(), **options, "max_steps": 2, "max_completion_length": 8},
    )  # fmt: skip
    trainer.train()
    assert isinstance(trainer.self_checks.results["engine"], float)
    before = {name: tensor.clone() for name, tensor in policy_tensors(trainer.model)}
    own = 3 * trainer.accelerator.process_index  # passes of each rank: the first has no row
    with trainer.rollouts.in_process_engine(trainer) as engine:
        for row in helpers.rows(own):
            ids = trainer.processing_class(row["prompt"])["input_ids"]
            engine.generate([ids], SamplingParams(max_new_tokens=own, temperature=1.0, seed=own))
    same({name: tensor.clone() for name, tensor in policy_tensors(trainer.model)}, before)


def resumes(folder: Path, options: dict[str, Any]) -> None:
    """Stopped after two of four updates, a run ends with the very weights, averages and logs of the straight one."""
    for method in ("ixt-ema", "intro"):
        place = folder / f"resumes-{method}"
        saving = {**options, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
        straight = found(trained(method, place, **saving))
        again = METHODS[method](place / f"{method}-2", {**COMMON, **_rows(), **saving})
        again.train(resume_from_checkpoint=str(place / f"{method}-2" / "checkpoint-2"))
        ended = found(again)
        same(ended["tensors"], straight["tensors"])
        assert ended["logs"] == straight["logs"]
        over = METHODS[method](place / f"{method}-2", {**COMMON, **_rows(), **saving})
        over.take(place / f"{method}-2" / "checkpoint-4")
        same(found(over)["tensors"], straight["tensors"])
        assert over.ledger.tokens == again.ledger.tokens


def saves(folder: Path, options: dict[str, Any]) -> None:
    """What is saved is an ordinary folder with the weights that were trained, adapters merged, a tied head once."""
    trainer = trained("ixt", folder / "saves", **options)
    save_whole(trainer.model, folder / "whole", trainer.is_world_process_zero())
    adapted = trained("intro-lora", folder / "saves", **options)
    save_whole(adapted.model, folder / "merged", adapted.is_world_process_zero())
    torch.distributed.barrier()
    for one, place in ((trainer, "whole"), (adapted, "merged")):
        saved = AutoModelForCausalLM.from_pretrained(folder / place, dtype=torch.float32)
        same(dict(policy_tensors(saved)), {name: tensor.clone() for name, tensor in policy_tensors(one.model)}, 1e-6)
    assert "lm_head.weight" not in load_file(folder / "whole" / "model.safetensors")


def saves_wide(folder: Path, options: dict[str, Any]) -> None:
    """Passes in bfloat16: what is saved are the float32 weights that were updated."""
    trainer = trained("ixt", folder / "wide", **options, bf16=True)
    save_whole(trainer.model, folder / "wide-whole", trainer.is_world_process_zero())
    torch.distributed.barrier()
    config = json.loads((folder / "wide-whole" / "config.json").read_text())
    saved = load_file(folder / "wide-whole" / "model.safetensors")
    assert config["dtype"] == "float32"
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in saved.values())
    for name, tensor in policy_tensors(trainer.model):
        if name in saved:
            assert torch.equal(saved[name].to(tensor.dtype), tensor.cpu()), name


CHECKS = {"samples": samples, "resumes": resumes, "saves": saves, "saves-wide": saves_wide}

"""Updates on the accelerator are those on a CPU: each trainer, a toy model, the same rollouts, float32."""

from __future__ import annotations

import gc
import math
from typing import Any

import pytest
import torch

from ixt_rl.conditioning import encode_prompt
from ixt_rl.kernels.intro import walk
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.trainers import PretrainConfig, PretrainTrainer
from ixt_rl.worlds.addition.problem import AdditionProblem, right_rationale
from tests.unit.trainers import helpers, ixt_helpers, sip_helpers

SAME = {"max_steps": 2, "learning_rate": 1e-2, "adam_epsilon": 1e-3, "logging_steps": 1}
"""With Adam's usual epsilon, a gradient that is rounding noise moves a weight by the whole rate."""


def online(method: str, **options: Any):
    def make(folder, **where: Any):
        engine = helpers.ScriptedEngine()
        return helpers.make_trainer(method, folder, engine=engine, **{**SAME, **options, **where})

    return make


def on_documents(**options: Any):
    def make(folder, **where: Any):
        settings = {"buffer_rows": 4, "per_device_train_batch_size": 2, **SAME, **options, **where}
        return ixt_helpers.make_trainer(folder, ixt_helpers.documents(24), **settings)

    return make


def pretrain(folder, **where: Any):
    tokenizer = helpers.WORLD.tokenizer()
    pairs = []
    for row in helpers.rows(16):
        prompt = encode_prompt(tokenizer, row["prompt"])
        problem = AdditionProblem.parse(" ".join(map(str, prompt[1:7])))
        pairs.append((prompt, right_rationale(problem, "C", False)))
    options = {**SAME, "per_device_train_batch_size": 8, "report_to": "none", "save_strategy": "no", "bf16": False,
               "gradient_checkpointing": False, "disable_tqdm": True, **where}  # fmt: skip
    return PretrainTrainer(helpers.tiny(), PretrainConfig(str(folder), **options), pairs, tokenizer)


def sip(**options: Any):
    def make(folder, **where: Any):
        return sip_helpers.make_trainer(folder, helpers.tiny(), config={**SAME, **options, **where})

    return make


TRAINERS = {
    "InTRO": online("intro"),
    "InTRO exact, clipped": online("intro", candidates="exact", clip=0.8, posterior="frozen"),
    "GRPO": online("grpo"),
    "RAFT": online("raft"),
    "pretraining": pretrain,
    "pretraining, packed": on_documents(feedback_template=None),
    "IXT": on_documents(),
    "SIP, DPO": sip(objective="dpo", sources=["original", "rewrite", "rollout"]),
    "SIP, NLL": sip(objective="nll", num_generations=None),
}


@pytest.fixture(autouse=True)
def same_candidates(monkeypatch):
    """The kernels' random numbers from a CPU's generator of the same seed, on whatever device."""

    def drawn(n_tokens, m, device, generator):
        own = None if generator is None else torch.Generator().manual_seed(generator.initial_seed())
        return torch.rand((n_tokens, m), dtype=torch.float64, generator=own).to(device)

    monkeypatch.setattr(walk, "uniform_numbers", drawn)


def trained(make, folder, device: torch.device, **options: Any):
    """(losses, weights by name on the CPU, trainer)"""
    trainer = make(folder, use_cpu=device.type == "cpu", **options)
    trainer.train()
    assert {p.device.type for p in trainer.model.parameters()} == {device.type}
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return losses, {name: p.detach().cpu() for name, p in trainer.model.named_parameters()}, trainer


@pytest.mark.parametrize("name", TRAINERS)
def test_two_updates_are_those_of_a_cpu(device, tmp_path, name):
    make = TRAINERS[name]
    start = {key: p.detach().clone() for key, p in make(tmp_path / "start", use_cpu=True).model.named_parameters()}
    expected, weights, _ = trained(make, tmp_path / "cpu", torch.device("cpu"))
    found, moved, trainer = trained(make, tmp_path / "device", device)
    assert len(found) == 2 and found == pytest.approx(expected, abs=1e-4)
    for key, weight in weights.items():
        torch.testing.assert_close(moved[key], weight, rtol=0, atol=1e-4, msg=key)
    assert max(float((moved[key] - start[key]).abs().max()) for key in start) > 1e-3
    for row in trainer.state.log_history:
        assert all(math.isfinite(value) for key, value in row.items() if "loss" in key or key == "grad_norm")


@pytest.mark.parametrize("name", ["InTRO exact, clipped", "GRPO", "RAFT", "pretraining", "IXT", "SIP, DPO"])
def test_under_autocast_to_bfloat16(device, tmp_path, name):
    """Weights stay float32, and losses are near float32's."""
    exact, unrounded, _ = trained(TRAINERS[name], tmp_path / "float32", device)
    rounded, weights, _ = trained(TRAINERS[name], tmp_path / "bfloat16", device, bf16=True)
    assert rounded == pytest.approx(exact, rel=3e-2, abs=2e-3)
    assert any(not torch.equal(weights[key], unrounded[key]) for key in weights)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert all(weight.isfinite().all() for weight in weights.values())


@pytest.mark.parametrize("bf16", [False, True])
def test_on_samples_of_the_model_itself(device, tmp_path, bf16):
    """The engine in the process: parity with the trainer's log-probs is looked at before the first update."""

    def some(completion_ids, **_) -> list[float]:
        return [float(sum(ids) % 3 > 0) for ids in completion_ids]

    def make(folder, **where: Any):
        options = {**SAME, **where, "max_completion_length": 12}
        return helpers.make_trainer("intro", folder, rollouts=EngineRollouts(), reward=some, **options)

    losses, _, trainer = trained(make, tmp_path, device, bf16=bf16)
    assert len(losses) == 2 and all(map(math.isfinite, losses))
    assert trainer.ledger.tokens["rollout"] > 0


CHECKPOINTS = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1}


@pytest.mark.parametrize("name", ["InTRO", "GRPO", "IXT", "SIP, DPO"])
def test_stopped_and_resumed_is_straight_through(device, tmp_path, name):
    straight, weights, _ = trained(TRAINERS[name], tmp_path / "straight", device, **CHECKPOINTS)
    trainer = TRAINERS[name](tmp_path / "resumed", use_cpu=device.type == "cpu", **CHECKPOINTS)
    trainer.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-2"))
    assert trainer.state.global_step == 4
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses == pytest.approx(straight, abs=1e-6)
    for key, p in trainer.model.named_parameters():  # sums of several threads have no order on a GPU
        torch.testing.assert_close(p.detach().cpu(), weights[key], rtol=0, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", ["InTRO", "IXT"])
def test_a_trainer_that_is_gone_holds_no_memory(device, memory, tmp_path, name):
    trained(TRAINERS[name], tmp_path / "first", device)  # the libraries' own workspaces
    gc.collect()
    before, _ = memory()
    trained(TRAINERS[name], tmp_path / "second", device)
    gc.collect()
    assert memory()[0] <= before

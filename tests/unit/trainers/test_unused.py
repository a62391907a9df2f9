"""Parameters without a gradient: which models may have them, and that no update of any method leaves one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, TrainerCallback

from ixt_rl.backends import is_installed
from ixt_rl.trainers.unused import may_lack_gradients
from tests.unit.trainers.helpers import METHODS, ScriptedEngine, make_trainer, tiny
from tests.unit.trainers.test_auxiliary import moe


def test_a_dense_models_passes_reach_all(tiny_model):
    state = torch.get_rng_state()
    tiny_model.train()
    tiny_model.model.norm.eval()
    assert not may_lack_gradients(tiny_model)
    assert tiny_model.training and not tiny_model.model.norm.training
    assert all(parameter.grad is None for parameter in tiny_model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    tiny_model.requires_grad_(False)
    assert not may_lack_gradients(tiny_model)


def test_what_no_pass_reaches_or_only_some_do(tiny_model):
    assert may_lack_gradients(moe())
    tiny_model.config.layerdrop = 0.1
    assert may_lack_gradients(tiny_model)
    tiny_model.config.layerdrop = 0.0
    tiny_model.idle = nn.Linear(2, 2)
    assert may_lack_gradients(tiny_model)
    tiny_model.idle.requires_grad_(False)
    assert not may_lack_gradients(tiny_model)


@pytest.mark.skipif(not is_installed("peft"), reason="needs peft")
def test_adapters(tiny_model):
    import peft

    settings = peft.LoraConfig(r=2, target_modules="all-linear", modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(tiny_model, settings)
    assert not may_lack_gradients(adapted)
    adapted.add_adapter("idle", peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        parameter.requires_grad_(parameter.requires_grad or ".idle." in name)
    assert may_lack_gradients(adapted)


@pytest.mark.filterwarnings("ignore:step 0")
@pytest.mark.parametrize("method", METHODS)
def test_an_update_that_trains_nothing_has_all_gradients(method, tmp_path):
    lacking: list[str] = []

    class Looks(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            lacking.extend(["an update", *(name for name, p in model.named_parameters() if p.grad is None)])

    options: dict[str, Any] = {"engine": ScriptedEngine()}
    if method in ("sdpo", "sdft"):  # TRL's own, which know no engine, and read the model's folder
        tiny().save_pretrained(tmp_path)
        model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
        options = {"model": model, "teacher_model_kind": "live"}
    reward = lambda completions, **_: [None] * len(completions)  # noqa: E731
    trainer = make_trainer(method, tmp_path, reward=reward, max_steps=1, **options)
    trainer.add_callback(Looks())
    trainer.train()
    assert lacking == ["an update"]

"""LoRA: adapters train, the frozen posterior is the model without them, an adapter on the head is refused."""

from __future__ import annotations

import pytest
import torch

from tests.unit.trainers.helpers import ScriptedEngine, generation_batch, loss_and_gradient, make_trainer

peft = pytest.importorskip("peft")


def lora(**changes):
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    return peft.LoraConfig(**{**settings, **changes})


@pytest.mark.parametrize("method", ["intro", "raft", "grpo", "rlsd"])  # of rlsd the posterior is frozen
def test_only_adapters_move(method, tmp_path):
    trainer = make_trainer(method, tmp_path, engine=ScriptedEngine(), peft_config=lora(), max_steps=2)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = {n for n, p in trainer.model.named_parameters() if not torch.equal(before[n], p.detach())}
    assert moved
    assert all("lora_" in name for name in moved)


def test_the_frozen_posterior_is_the_model_without_its_adapters(tmp_path):
    """With exact candidates and no clip, q = p exactly while the adapters are at zero, and no longer after."""
    trainer = make_trainer(
        "intro", tmp_path, engine=ScriptedEngine(), peft_config=lora(), posterior="frozen", candidates=1
    )
    batch = generation_batch(trainer)
    for i, mask in enumerate(batch["prompt_mask"]):  # tell it nothing: the posterior's prompt is the plain one
        batch["told_prompt_ids"][i] = batch["prompt_ids"][i][mask.bool()].tolist()
    trainer._sums.clear()
    loss_and_gradient(trainer, [batch])
    assert float(trainer._sums["factor/kl"][0]) == pytest.approx(0.0, abs=1e-5)
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    trainer._sums.clear()
    loss_and_gradient(trainer, [batch])
    assert float(trainer._sums["factor/kl"][0]) > 0.1


def test_an_adapter_on_the_head_is_refused(tmp_path):
    with pytest.raises(ValueError, match="lm_head"):
        make_trainer("intro", tmp_path, engine=ScriptedEngine(), peft_config=lora(target_modules=["lm_head"]))


def test_ema_with_lora_is_refused(tmp_path):
    with pytest.raises(ValueError, match="average of adapters"):
        make_trainer(
            "intro", tmp_path, engine=ScriptedEngine(), peft_config=lora(), posterior="ema", posterior_decay=0.9
        )

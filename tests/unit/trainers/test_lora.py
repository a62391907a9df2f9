"""LoRA: adapters train, the frozen posterior is the model without them, an adapter on the head is refused."""

from __future__ import annotations

import pytest
import torch
from transformers import TrainerCallback

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


@pytest.mark.parametrize("posterior", ["frozen", "lagged"])
def test_a_posterior_has_the_head_of_its_time(posterior, tmp_path):
    """With the head in `modules_to_save`: what it was before training, or at the last refresh."""
    every = {"posterior_every": 2} if posterior == "lagged" else {}
    trainer = make_trainer(
        "intro", tmp_path, engine=ScriptedEngine(), peft_config=lora(modules_to_save=["lm_head"]), posterior=posterior,
        candidates=1, **every,
    )  # fmt: skip
    batch = generation_batch(trainer)
    rows = trainer.trained_rows(batch)
    if posterior == "lagged":
        trainer.posterior.refresh()
    before = trainer.told.logps(trainer.model, batch, rows)
    (head,) = (p for name, p in trainer.model.named_parameters() if "modules_to_save" in name)
    with torch.no_grad():
        head.normal_()
    moved = head.detach().clone()
    hidden, found = trainer.told.hidden(trainer.model, batch, rows)
    logits = hidden @ found.weight.T / found.temperature
    targets = trainer.policy_batch(rows).target_ids
    logps = logits.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    torch.testing.assert_close(logps, before)
    torch.testing.assert_close(trainer.told.logps(trainer.model, batch, rows), before)
    assert torch.equal(head, moved) and head.requires_grad
    trainer._sums.clear()
    loss_and_gradient(trainer, [batch])
    assert float(trainer._sums["factor/kl"][0]) > 0.1  # the policy has the new head, the posterior the old one


def test_an_adapter_on_the_head_is_refused(tmp_path):
    with pytest.raises(ValueError, match="lm_head"):
        make_trainer("intro", tmp_path, engine=ScriptedEngine(), peft_config=lora(target_modules=["lm_head"]))


def test_ema_with_lora_is_refused(tmp_path):
    with pytest.raises(ValueError, match="average of adapters"):
        make_trainer(
            "intro", tmp_path, engine=ScriptedEngine(), peft_config=lora(), posterior="ema", posterior_decay=0.9
        )


class Remembers(TrainerCallback):
    def __init__(self, trainer):
        self.trainer, self.steps = trainer, []

    def on_step_end(self, args, state, control, **kwargs):
        self.steps.append(adapters(self.trainer))


def adapters(trainer):
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters() if "lora_" in name}


def equal(some, others):
    return all(torch.equal(some[name], weight) for name, weight in others.items())


def test_a_lagged_posterior_is_the_model_with_earlier_adapters(tmp_path):
    """After every second update; the policy has its own again after the pass, to the bit, also when resumed."""

    def made(folder, **options):
        return make_trainer(
            "intro", tmp_path / folder, engine=ScriptedEngine(), peft_config=lora(), max_steps=3, learning_rate=1e-1,
            save_strategy="steps", save_steps=1, **options,
        )  # fmt: skip

    lagged = {"posterior": "lagged", "posterior_every": 2}
    trainer = made("lagged", **lagged)
    seen = Remembers(trainer)
    trainer.add_callback(seen)
    trainer.train()
    _, earlier, own = seen.steps
    assert equal(trainer.posterior.adapters.weights, earlier) and not equal(own, earlier)
    batch = generation_batch(trainer)
    rows = trainer.trained_rows(batch)
    told = trainer.told.logps(trainer.model, batch, rows)
    assert equal(adapters(trainer), own)
    live = made("live", posterior="live")
    live.model.load_state_dict(earlier, strict=False)
    torch.testing.assert_close(told, live.told.logps(live.model, batch, rows))
    again = made("again", **lagged)
    again.train(resume_from_checkpoint=str(tmp_path / "lagged" / "checkpoint-2"))
    assert equal(adapters(again), own) and equal(again.posterior.adapters.weights, earlier)

"""The loss in one walk is TRL's on the same batch: value, gradients, metrics."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model

from ixt_rl.kernels import nll
from ixt_rl.trainers.document_trainer import DocumentTrainer

from .ixt_helpers import documents, make_trainer, tiny_model


def measured(folder, monkeypatch, own: bool, adapted=False, mode="train", **options):
    """Loss, gradients and metrics of one micro-batch of packed rows, by our loss or by TRL's."""
    monkeypatch.setattr(DocumentTrainer, "needs_logits", not own)
    torch.manual_seed(0)
    model = lora(tiny_model()) if adapted else tiny_model()
    trainer = make_trainer(folder, documents(), model=model, **options)
    trainer.model.train(mode == "train")
    trainer.current_gradient_accumulation_steps = 1
    rows = [row for row, _ in zip(trainer.rows, range(3), strict=False)]
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows), num_items_in_batch=torch.tensor(97))
    if mode == "train":
        loss.backward()
    grads = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    metrics = {name: values[-1] for name, values in trainer._metrics[mode].items()}
    sums = trainer._sums if mode == "train" else trainer._eval_sums
    metrics |= {name: (part / whole).item() for name, (part, whole) in sums.items()}
    return loss.detach(), grads, metrics


def lora(model):
    return get_peft_model(model, LoraConfig(target_modules="all-linear", exclude_modules=["lm_head"]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss_type": "dft"},
        {"mode": "eval"},
        {"pack": False},
        {"average_tokens_across_devices": False},
        {"adapted": True},
    ],
    ids=str,
)
def test_equals_trls_on_the_same_batch(tmp_path, monkeypatch, options):
    mine, my_grads, my_metrics = measured(tmp_path / "mine", monkeypatch, own=True, **options)
    theirs, their_grads, their_metrics = measured(tmp_path / "theirs", monkeypatch, own=False, **options)
    assert mine == pytest.approx(theirs.item(), rel=1e-5)
    assert my_metrics.keys() == their_metrics.keys()
    for name, value in their_metrics.items():
        assert my_metrics[name] == pytest.approx(value, rel=1e-5), name
    assert my_grads.keys() == their_grads.keys()
    for name, grad in their_grads.items():
        torch.testing.assert_close(my_grads[name], grad, rtol=1e-4, atol=1e-6, msg=name)


def test_the_head_is_walked_once(tmp_path, monkeypatch):
    walks = []
    original = nll.Walk.__call__
    monkeypatch.setattr(nll.Walk, "__call__", lambda self, *args: walks.append(1) or original(self, *args))
    measured(tmp_path, monkeypatch, own=True)
    assert len(walks) == 1


@pytest.mark.parametrize(
    ("options", "wrap"),
    [
        ({"label_smoothing_factor": 0.1}, lambda model: model),
        ({}, lambda model: get_peft_model(model, PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"))),
    ],
    ids=["smoothing", "prompt-tuning"],
)
def test_what_needs_logits_or_adds_tokens_is_left_to_trl(tmp_path, options, wrap):
    trainer = make_trainer(tmp_path, documents(), model=wrap(tiny_model()), **options)
    assert trainer.needs_logits
    assert not make_trainer(tmp_path, documents()).needs_logits

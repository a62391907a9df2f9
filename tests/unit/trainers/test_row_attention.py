"""Attention document by document is attention under the mask: loss, gradients, windows, checkpointing."""

from __future__ import annotations

import pytest
import torch

from ixt_rl.conditioning import pack, prompt_completion
from ixt_rl.trainers import row_attention
from ixt_rl.trainers.row_attention import NAME, row_inputs

from .ixt_helpers import documents, make_trainer, tiny_model
from .test_architectures import tiny


def step(folder, monkeypatch, by_documents: bool, **options):
    """Loss and gradients of a training step on packed rows, and how often documents stood in the mask's place."""
    called = []
    original = row_attention.documents_attention

    def counted(module, query, key, value, attention_mask, **kwargs):
        called.append(attention_mask is not None and attention_mask.dtype == torch.long)
        return original(module, query, key, value, attention_mask, **kwargs)

    row_attention.AttentionInterface.register(NAME, counted)
    if not by_documents:
        monkeypatch.setattr(row_attention, "attends_by_documents", lambda model: False)
    torch.manual_seed(0)
    trainer = make_trainer(folder, documents(), model=tiny_model(), **options)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    rows = [row for row, _ in zip(trainer.rows, range(3), strict=False)]
    try:
        loss = trainer.training_step(trainer.model, trainer.data_collator(rows), torch.tensor(97))
    finally:
        row_attention.AttentionInterface.register(NAME, original)
        monkeypatch.undo()
    return loss, [p.grad for p in trainer.model.parameters()], called, trainer.model


@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}, {"pack": False}], ids=str)
def test_a_step_is_that_under_the_mask(tmp_path, monkeypatch, options):
    mine, my_grads, called, model = step(tmp_path / "documents", monkeypatch, True, **options)
    theirs, their_grads, masked, _ = step(tmp_path / "mask", monkeypatch, False, **options)
    assert called and all(called) == options.get("pack", True) and not masked
    assert model.config._attn_implementation == "sdpa"
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    for one, other in zip(my_grads, their_grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("length", "by_documents"), [(8, True), (9, False)])
def test_a_window_shorter_than_a_document_needs_a_mask(length, by_documents):
    model = tiny("mistral")  # a window of 8
    model.set_attn_implementation("sdpa")
    batch = pack([prompt_completion([], [3] * length), prompt_completion([], [4, 5])], 0, length + 2)
    with row_attention.row_attention(model):
        mask = row_inputs(batch, model.config)["attention_mask"]
    assert (mask.dtype == torch.long and mask.shape == (1, 1, 1, length + 2)) == by_documents


def test_other_backends_are_left_alone():
    model = tiny_model("eager")
    with row_attention.row_attention(model):
        assert model.config._attn_implementation == "eager"

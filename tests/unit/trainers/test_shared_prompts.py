"""A prompt that is read once for all its completions: losses and gradients are those of padded rows."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from ixt_rl.conditioning import pad, prompt_completion
from ixt_rl.trainers import shared_prompts
from ixt_rl.trainers.head import add_head_function
from ixt_rl.trainers.shared_prompts import NAME, prompts_once, reads_once, scored_inputs

from . import sip_helpers
from .helpers import ScriptedEngine, generation_batch, make_trainer, tiny
from .test_architectures import tiny as architecture

ROWS = [([5, 3, 4], [6, 7]), ([5, 3, 4], [8]), ([9], [6, 7, 8, 9]), ([5, 3, 4], [7, 6, 5])]


def batch_of(rows):
    return pad([prompt_completion(*row) for row in rows], 0)


def step(trainer, inputs, once: bool):
    """Loss and gradients of a training step on a batch that is there; the attention that its passes went by."""
    seen = []
    trainer._prepare_inputs = lambda given: given
    trainer._reads_once = reads_once(trainer) and once
    trainer.current_gradient_accumulation_steps = 1
    hook = trainer.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((module.config._attn_implementation, kwargs["predictor_mask"].dtype)),
        with_kwargs=True,
    )
    trainer.model.zero_grad()
    loss = trainer.training_step(trainer.model, {**inputs}, None)
    hook.remove()
    assert trainer.model.config._attn_implementation == "sdpa"
    return loss, [p.grad.clone() for p in trainer.model.parameters()], set(seen)


def test_a_row_has_each_prompt_once_and_no_padding():
    model = tiny()
    batch = batch_of(ROWS)
    with shared_prompts.attention(model, NAME):
        row = scored_inputs(batch, model.config)
    assert row["input_ids"].tolist() == [[5, 3, 4, 6, 7, 8, 9, 6, 7, 8, 9, 7, 6, 5]]
    assert row["position_ids"].tolist() == [[0, 1, 2, 3, 4, 3, 0, 1, 2, 3, 4, 3, 4, 5]]
    assert row["predictor_mask"].tolist() == [2, 3, 2, 6, 7, 8, 9, 2, 11, 12]
    assert row["attention_mask"][0, 0].tolist() == [
        [0, 1, 2, 3, 4, 0], [0, 1, 2, 5, 0, 0], [6, 7, 8, 9, 10, 0], [0, 1, 2, 11, 12, 13]
    ]  # fmt: skip


def test_what_shares_nothing_goes_in_as_it_is():
    model = tiny()
    batch = batch_of([([5, 3], [6, 7]), ([9, 3], [6, 7])])
    with shared_prompts.attention(model, NAME):
        assert scored_inputs(batch, model.config)["attention_mask"] is batch.attention_mask


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("intro", {}),
        ("intro", {"candidates": "exact", "posterior": "frozen"}),
        ("intro", {"gradient_checkpointing": True}),
        ("raft", {"importance_ratio": True}),
        ("grpo", {}),
    ],
    ids=str,
)
def test_a_step_is_that_on_padded_rows(method, options, tmp_path):
    trainer = make_trainer(method, tmp_path, engine=ScriptedEngine(), **options)
    inputs = generation_batch(trainer, 2)
    loss, grads, seen = step(trainer, inputs, True)
    other_loss, other_grads, other = step(trainer, inputs, False)
    assert seen == {(NAME, torch.long)} and other == {("sdpa", torch.bool)}
    torch.testing.assert_close(loss, other_loss, rtol=1e-5, atol=1e-6)
    assert max(grad.abs().max() for grad in grads) > 1e-4
    for one, theirs in zip(grads, other_grads, strict=True):
        torch.testing.assert_close(one, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objective", ["dpo", "rf-nll"])
def test_so_is_a_step_on_texts_that_follow_one_prefix(objective, tmp_path):
    trainer = sip_helpers.make_trainer(tmp_path, config={"objective": objective})
    trainer.model.train()
    (inputs,) = sip_helpers.update(trainer)
    loss, grads, seen = step(trainer, inputs, True)
    other_loss, other_grads, other = step(trainer, inputs, False)
    assert NAME in {name for name, _ in seen} and {name for name, _ in other} == {"sdpa"}
    torch.testing.assert_close(loss, other_loss, rtol=1e-5, atol=1e-6)
    for one, theirs in zip(grads, other_grads, strict=True):
        torch.testing.assert_close(one, theirs, rtol=1e-4, atol=1e-6)


def test_engines_in_the_process_sample_by_the_models_own_attention(tmp_path):
    trainer = make_trainer("intro", tmp_path, engine=ScriptedEngine())
    seen = []
    trainer._generate_and_score_completions = lambda rows: seen.append(trainer.model.config._attn_implementation)
    with prompts_once(trainer):
        assert trainer.model.config._attn_implementation == NAME
        trainer.model.eval()
        trainer._prepare_inputs([{"prompt": "1"}])
    assert seen == ["sdpa"]


@pytest.mark.parametrize(
    ("model_type", "once"), [("mistral", True), ("bloom", False), ("gpt2", True), ("mamba", False)]
)
def test_models_are_asked_whether_they_give_the_same(model_type, once, tmp_path, monkeypatch):
    model = architecture(model_type)
    trainer = make_trainer("intro", tmp_path, engine=ScriptedEngine(), model=tiny())
    add_head_function(model, 1.0)
    monkeypatch.setattr(trainer, "model", model)
    assert reads_once(trainer) is once
    with prompts_once(trainer) if once else nullcontext():
        assert (model.config._attn_implementation == NAME) is once


def test_a_window_shorter_than_a_sequence_needs_padded_rows():
    model = architecture("mistral")  # a window of 8
    batch = batch_of([([3] * 6, [4] * 4), ([3] * 6, [5])])
    with shared_prompts.attention(model, NAME):
        assert scored_inputs(batch, model.config)["attention_mask"] is batch.attention_mask


@pytest.mark.parametrize("why", [{"disable_dropout": False}])
def test_passes_that_differ_by_their_batch_are_padded(why, tmp_path):
    assert not reads_once(make_trainer("intro", tmp_path, engine=ScriptedEngine(), **why))

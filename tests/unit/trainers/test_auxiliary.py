"""Mixtures of experts keep their load-balancing loss in every trainer: TRL's, on the same batch, where TRL has one."""

from __future__ import annotations

import copy

import pytest
import torch
import trl
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from ixt_rl.conditioning import prompt_completion
from tests.unit.trainers import ixt_helpers, sip_helpers
from tests.unit.trainers.helpers import WORLD, ScriptedEngine, generation_batch, loss_and_gradient, make_trainer, split

COEFFICIENT = 0.5


def moe(vocabulary: int = len(WORLD.tokenizer())):
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=32, moe_intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, num_experts=4, num_experts_per_tok=2,
        max_position_embeddings=256, router_aux_loss_coef=COEFFICIENT, initializer_range=0.2,
    )  # fmt: skip
    return Qwen3MoeForCausalLM(config)


def own_aux(model, batch) -> torch.Tensor:
    """The auxiliary loss by the model's own forward."""
    return model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        output_router_logits=True,
    ).aux_loss


def test_grpo_equals_trl_on_the_same_batch(tmp_path):
    generator = torch.Generator().manual_seed(3)
    lengths = [(3, 6), (5, 2), (2, 7), (5, 7)]
    prompt_mask = torch.tensor([[0] * (5 - p) + [1] * p for p, _ in lengths])
    completion_mask = torch.tensor([[1] * c + [0] * (7 - c) for _, c in lengths])
    batch = {
        "prompt_ids": torch.randint(0, 10, (4, 5), generator=generator) * prompt_mask,
        "prompt_mask": prompt_mask,
        "completion_ids": torch.randint(0, 10, (4, 7), generator=generator) * completion_mask,
        "completion_mask": completion_mask,
        "advantages": torch.tensor([1.0, -0.5, 0.3, -1.2]),
        "num_items_in_batch": completion_mask.sum().float(),
    }
    ours = make_trainer("grpo", tmp_path, moe(), engine=ScriptedEngine())
    args = trl.GRPOConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=8, num_generations=4, use_cpu=True, bf16=False,
        report_to="none", gradient_checkpointing=False, max_completion_length=34,
    )  # fmt: skip
    theirs = trl.GRPOTrainer(
        moe(), [lambda **_: [0.0]], args, train_dataset=ours.train_dataset, processing_class=WORLD.tokenizer()
    )
    results = []
    for trainer in (ours, theirs):
        assert trainer.aux_loss_enabled and trainer.router_aux_loss_coef == COEFFICIENT
        trainer.model.train()
        results.append(loss_and_gradient(trainer, [batch]))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-6)
    without = make_trainer("grpo", tmp_path, moe(), engine=ScriptedEngine(), router_aux_loss_coef=0.0)
    without.model.train()
    assert abs(loss_and_gradient(without, [batch])[0] - results[0][0]) > 0.1


@pytest.mark.parametrize("method", ["intro", "raft"])
@pytest.mark.parametrize("parts", [1, 2])
def test_kept_rationales_have_it(method, parts, tmp_path):
    """Loss with it minus loss without: the coefficient times the model's own auxiliary loss, its mean over parts."""
    losses, gradients = [], []
    for coefficient in (None, 0.0):
        trainer = make_trainer(
            method, tmp_path, moe(), engine=ScriptedEngine(), router_aux_loss_coef=coefficient,
        )  # fmt: skip
        batch = generation_batch(trainer)
        batch["kept"] = torch.ones_like(batch["kept"])
        batch["kept_total"] = batch["kept"].sum()
        loss, gradient = loss_and_gradient(trainer, split(batch, parts))
        losses.append(loss)
        gradients.append(gradient)
    with torch.no_grad():
        aux = [own_aux(trainer.model, trainer.policy_batch(trainer.trained_rows(part))) for part in split(batch, parts)]
    assert losses[0] - losses[1] == pytest.approx(COEFFICIENT * float(torch.stack(aux).mean()), rel=1e-4)
    assert (gradients[0] - gradients[1]).abs().max() > 1e-4


@pytest.mark.parametrize("method", ["intro", "raft"])
def test_nothing_kept_adds_nothing(method, tmp_path):
    trainer = make_trainer(method, tmp_path, moe(), engine=ScriptedEngine())
    batch = generation_batch(trainer)
    batch["kept"] = torch.zeros_like(batch["kept"])
    batch["kept_total"] = torch.tensor(0)
    loss, gradient = loss_and_gradient(trainer, [batch])
    assert loss == 0.0
    assert gradient.abs().max() == 0.0


@pytest.mark.parametrize("objective", ["dpo", "rf-nll", "grpo"])
def test_sip_has_it(objective, tmp_path):
    losses = []
    for coefficient in (None, 0.0):
        config = {"objective": objective, "router_aux_loss_coef": coefficient}
        trainer = sip_helpers.make_trainer(tmp_path, moe(), config=config)
        parts = sip_helpers.update(trainer)
        trainer.current_gradient_accumulation_steps = len(parts)
        losses.append(sip_helpers.loss_and_gradient(trainer, parts)[0])
    examples = parts[0]["examples"]
    batch = trainer.collate([prompt_completion(e.prefix_ids, text.ids) for e in examples for text in e.texts])
    with torch.no_grad():
        aux = float(own_aux(trainer.model, batch))
    assert losses[0] - losses[1] == pytest.approx(COEFFICIENT * aux, rel=1e-4)


@pytest.mark.parametrize("pack", [True, False])
def test_documents_have_it_padding_left_out(pack, tmp_path):
    """Packed rows as well, where the model gets other masks and padding lies at the ends of rows."""
    vocabulary = len(ixt_helpers.WORLD.tokenizer())
    losses = {}
    for coefficient in (None, 0.0):
        trainer = ixt_helpers.make_trainer(
            tmp_path, ixt_helpers.documents(), moe(vocabulary), pack=pack, router_aux_loss_coef=coefficient
        )
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        rows = [row for row, _ in zip(trainer.rows, range(3), strict=False)]
        collated = trainer.data_collator(rows)
        losses[coefficient] = trainer.compute_loss(trainer.model, copy.copy(collated)).item()
    batch, _ = trainer._batch(collated)
    assert bool((batch.attention_mask == 0).any())
    inputs, _ = trainer.packed_inputs(batch)
    found = []
    for layer in trainer.model.model.layers:
        layer.mlp.gate.register_forward_hook(lambda module, args, output: found.append(output[0]))
    with torch.no_grad():
        trainer.model.model(**inputs)
    real = batch.attention_mask.flatten().bool()
    logits = torch.cat([one[real] for one in found])
    share = logits.softmax(-1)
    chosen = torch.nn.functional.one_hot(share.topk(2, -1).indices, 4).float()
    aux = 4 * (chosen.mean(0) * share.mean(0)).sum()
    assert losses[None] - losses[0.0] == pytest.approx(COEFFICIENT * float(aux), rel=1e-4)

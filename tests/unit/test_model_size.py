"""Closed forms of what a token costs: dense, LoRA, a mixture of experts, ZeRO-3."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from ixt_rl.ledger import Ledger, ModelSize, model_size

SMALL = {
    "vocab_size": 32, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16,
}  # fmt: skip


def dense():
    return LlamaForCausalLM(LlamaConfig(**SMALL))


def test_a_dense_model_costs_2_and_6_per_parameter():
    model = dense()
    total = sum(p.numel() for p in model.parameters())
    assert model_size(model) == (total, total)
    ledger = Ledger(model_size(model))
    ledger.add("rollout", 10)
    ledger.add("train", 10)
    assert ledger.flops("rollout") == 2 * total * 10
    assert ledger.flops("train") == 6 * total * 10


def test_lora_has_no_weight_gradients_of_frozen_matrices():
    peft = pytest.importorskip("peft")
    model = dense()
    frozen = sum(p.numel() for p in model.parameters())
    model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    adapters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert model_size(model) == (frozen + adapters, adapters)
    ledger = Ledger(model_size(model))
    ledger.add("train", 1)
    assert ledger.flops("train") == 4 * (frozen + adapters) + 2 * adapters


@pytest.mark.parametrize("family", ["qwen3", "mixtral"])
def test_a_token_meets_the_experts_it_is_routed_to(family):
    if family == "qwen3":
        model = Qwen3MoeForCausalLM(
            Qwen3MoeConfig(**SMALL, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2)
        )
    else:
        model = MixtralForCausalLM(MixtralConfig(**SMALL, num_local_experts=4, num_experts_per_tok=2))
    total = sum(p.numel() for p in model.parameters())
    experts = 2 * 4 * 3 * 32 * 32  # layers, experts, matrices
    assert model_size(model).active == total - experts // 2


def test_zero3_leaves_pieces_and_notes_whole_sizes():
    model = dense()
    total = sum(p.numel() for p in model.parameters())
    for parameter in model.parameters():
        parameter.ds_numel = parameter.numel()
        parameter.data = torch.empty(0)
    assert model_size(model) == (total, total)


def test_a_restored_ledger_costs_what_was_logged():
    ledger = Ledger(ModelSize(100, 10))
    ledger.add("train", 7)
    again = Ledger(ModelSize(100, 10))
    again.restore({"train": ledger.flops("train")})
    assert again.tokens == ledger.tokens

"""Shapes: parameters counted from them are those of the published checkpoints, and of the models that torch makes."""

from __future__ import annotations

import json

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from ixt_rl.blocks.model import LoraBlock, ModelBlock, NewModelBlock
from ixt_rl.errors import ConfigError
from ixt_rl.ledger import model_size
from ixt_rl.models import byte_tokenizer, new_model
from ixt_rl.planning.shapes import shape_named, shape_of, shape_of_folder

PUBLISHED = {
    "Qwen/Qwen2.5-0.5B": 494032768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1543714304,
    "Qwen/Qwen2.5-3B": 3085938688,
    "Qwen/Qwen2.5-7B": 7615616512,
    "Qwen/Qwen3-0.6B": 596049920,
    "Qwen/Qwen3-4B-Base": 4022468096,
    "Qwen/Qwen3-8B": 8190735360,
    "meta-llama/Llama-3.1-8B": 8030261248,
    "google/gemma-3-1b-pt": 999885952,
    "HuggingFaceTB/SmolLM2-135M": 134515008,
    "HuggingFaceTB/SmolLM2-1.7B": 1711376384,
}
"""Numbers of parameters as the hub shows them (safetensors, tied weights once)."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_table_counts_what_the_checkpoints_have(name):
    assert shape_named(name).parameters == PUBLISHED[name]


SMALL = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
KINDS = {
    "llama": {"num_key_value_heads": 2, "attention_bias": True},
    "qwen2": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 16},
    "mistral": {"num_key_value_heads": 4},
    "mixtral": {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma": {"num_key_value_heads": 4, "head_dim": 8},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8},
    "granite": {"num_key_value_heads": 2},
    "phi3": {"num_key_value_heads": 2, "pad_token_id": 0},
    "smollm3": {"num_key_value_heads": 2, "pad_token_id": 0},
    "gemma3_text": {"num_key_value_heads": 1, "head_dim": 16},
    "qwen3_moe": {
        "num_key_value_heads": 2, "head_dim": 8,
        "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_counted_as_torch_counts_its_model(kind, tmp_path):
    config = AutoConfig.for_model(kind, **SMALL, **KINDS[kind])
    config.save_pretrained(tmp_path)
    model, shape = AutoModelForCausalLM.from_config(config), shape_of_folder(tmp_path)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape.size() == model_size(model)


def test_lora_is_counted_as_peft_counts_it(tmp_path):
    peft = pytest.importorskip("peft")
    config = AutoConfig.for_model("llama", **SMALL, **KINDS["llama"])
    config.save_pretrained(tmp_path)
    shape, model = shape_of_folder(tmp_path), AutoModelForCausalLM.from_config(config)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    block = LoraBlock(r=4)
    assert shape.trained(block) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert shape.size(block) == model_size(adapted)
    dora = peft.LoraConfig(r=4, target_modules="all-linear", use_dora=True, modules_to_save=["embed_tokens", "norm"])
    adapted = peft.get_peft_model(AutoModelForCausalLM.from_config(config), dora)
    both = LoraBlock(r=4, dora=True, modules_to_save=["embed_tokens", "norm"])
    assert shape.trained(both) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert shape.size(both) == model_size(adapted)
    some = LoraBlock(r=4, target_modules=["q_proj", "v_proj"])
    assert shape.trained(some) == 2 * 4 * (32 + 32 + 32 + 16)


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_a_new_model_is_counted_as_it_is_made(architecture):
    block = NewModelBlock(architecture=architecture, tokenizer="bytes", hidden_size=32, heads=2, intermediate_size=40)
    made = new_model(block, byte_tokenizer())
    assert shape_of(ModelBlock(new=block)).parameters == sum(parameter.numel() for parameter in made.parameters())


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match=r"(?s)Qwen2\.5-8B.*did you mean.*config\.json"):
        shape_named("Qwen/Qwen2.5-8B")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps({"model_type": "gpt2", "n_layer": 2}), "model_type 'gpt2'"),
        (json.dumps({"model_type": "deepseek_v3", **SMALL}), "model_type 'deepseek_v3'"),
        (json.dumps({"model_type": "llama", **SMALL, "mlp_bias": True}), "with mlp_bias"),
        (json.dumps({"model_type": "llama", **SMALL, "num_attention_heads": 0}), "heads 0"),
        (json.dumps({"model_type": "llama", "hidden_size": 3}), "layers None"),
        ('{"model_type": ', "no JSON object"),
        ("[1]", "no JSON object"),
    ],
)
def test_what_is_not_counted_is_refused(text, said, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=said):
        shape_of_folder(tmp_path)

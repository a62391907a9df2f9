"""A base in 4 bits computes, in either mode and with its gradients, what its dequantized weights compute."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

from ixt_rl.blocks.model import LoraBlock
from ixt_rl.errors import ConfigError, SelfCheckError
from ixt_rl.ledger import model_size
from ixt_rl.planning.memory import NF4_BYTES, Training, training_parts
from ixt_rl.planning.shapes import ModelShape
from ixt_rl.pretrained import quantizing
from ixt_rl.pretrained.adapters import save_adapter
from ixt_rl.pretrained.merging import merge_adapter
from ixt_rl.pretrained.quantizing import quantize
from ixt_rl.pretrained.weights_hash import weights_hash
from ixt_rl.rollout.weights.policy import dequantized, policy_tensors
from ixt_rl.run.stages.adapters import lora_config
from ixt_rl.run.strategy import save_whole
from tests.unit.pretrained.test_adapters import IDS, base_model, loaded, logits

peft = pytest.importorskip("peft")
bnb = pytest.importorskip("bitsandbytes")
KINDS = {
    "lora": {},
    "some": {"target_modules": ["q_proj"]},
    "dora": {"dora": True, "modules_to_save": ["lm_head", "norm", "v_proj"], "target_modules": ["q_proj", "down_proj"]},
}
QUANTILES = [
    -1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0,
]  # fmt: skip
"""Of NF4, as QLoRA's appendix E has them."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return base_model(tmp_path_factory.mktemp("base"), hidden_size=64, intermediate_size=128)


def adapted(base, seed: int = 1, **changes):
    """A base in 4 bits under adapters that a training might have left."""
    section, model = LoraBlock(quantize="nf4", **changes), loaded(base)
    quantize(model, "nf4", torch.float32, section.modules_to_save)
    model = peft.get_peft_model(model, lora_config(section, model)).eval()
    g = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.dtype == torch.float32
            noise = torch.randn(parameter.shape, generator=g)
            parameter.data = parameter + 0.3 * noise if "magnitude" in name else 0.3 * noise
    return model


def plain(base, model):
    """A model of ordinary weights with the policy's."""
    whole = loaded(base)
    whole.load_state_dict({name: tensor.clone() for name, tensor in policy_tensors(model)})
    return whole


def test_each_weight_becomes_the_nearest_quantile_of_its_block(base):
    model, whole = loaded(base), loaded(base)
    quantize(model, "nf4", torch.float32)
    found = dict(policy_tensors(model))
    levels = torch.tensor(QUANTILES)
    for name, weight in whole.named_parameters():
        if "proj" not in name:
            assert torch.equal(found[name], weight), name  # head, embedding and norms stay as they are
            continue
        blocks = weight.detach().flatten().split(64)
        nearest = [c * levels[(block[:, None] / c - levels).abs().argmin(1)] for block in blocks
                   for c in [block.abs().max()]]  # fmt: skip
        scale = max(float(block.abs().max()) for block in blocks)
        expected = torch.cat(nearest).view_as(weight)
        torch.testing.assert_close(found[name], expected, rtol=0, atol=scale / 50)  # scales are kept in 8 bits
        assert (found[name] - weight).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_is_that_of_its_whole_weights_in_both_modes(kind, base):
    model = adapted(base, **KINDS[kind])
    whole = plain(base, model)
    expected = logits(whole)
    assert (expected - logits(loaded(base))).abs().max() > 0.1
    for training in (False, True, False):
        torch.testing.assert_close(logits(model.train(training)), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(copy.deepcopy(model)), expected, rtol=0, atol=1e-5)


def test_gradients_of_adapters_are_those_over_a_dequantized_base(base):
    model = adapted(base)
    with model.disable_adapter():
        under = plain(base, model)
    over = peft.get_peft_model(under, lora_config(LoraBlock(), under))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    over.load_state_dict({name: p.detach() for name, p in trained.items()}, strict=False)
    for one in (model.train(), over.train()):
        one(IDS, labels=IDS).loss.backward()
    for name, parameter in over.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(trained[name].grad, parameter.grad, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_and_what_is_merged(kind, base, tmp_path):
    model = adapted(base, **KINDS[kind])
    expected = logits(model)
    save_whole(model, tmp_path / "model", writes=True)
    torch.testing.assert_close(logits(loaded(tmp_path / "model")), expected, rtol=0, atol=1e-5)
    save_adapter(model, tmp_path / "adapter")
    said = json.loads((tmp_path / "adapter" / "base.json").read_text())
    assert said == {"base": str(base), "sha256": weights_hash(loaded(base)), "quantized": "nf4"}
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=0)  # saving changed nothing
    notes: list[str] = []
    merge_adapter(tmp_path / "adapter", tmp_path / "merged", say=notes.append)
    assert "4 bits (nf4)" in notes[1]
    over = peft.PeftModel.from_pretrained(loaded(base), str(tmp_path / "adapter")).eval()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    torch.testing.assert_close(logits(merged), logits(over), rtol=0.05, atol=0.05)  # stored in bfloat16
    assert (logits(over) - expected).abs().max() > 1e-3


def test_parameters_are_counted_whole(base):
    model, whole = loaded(base), loaded(base)
    quantize(model, "nf4", torch.float32)
    total = sum(p.numel() for p in whole.parameters())
    assert model_size(model).active == total
    assert sum(p.numel() for p in model.parameters()) < total  # packed: two a byte


def test_the_planner_counts_the_bytes():
    weight = bnb.nn.Params4bit(torch.randn(256, 512), requires_grad=False, quant_type="nf4").to("cpu")
    state = weight.quant_state
    held = weight.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
    assert held == NF4_BYTES * 256 * 512
    shape = ModelShape(layers=3, hidden=64, intermediate=128, heads=2, kv_heads=1, vocabulary=32)
    section = LoraBlock(quantize="nf4", modules_to_save=["v_proj"])
    job = Training(shape, shape.trained(section), 1, 8, 8, quantized=shape.quantized(section))
    whole, packed = (training_parts(one)[0].bytes for one in (replace(job, quantized=0), job))
    kept = {name: rows * columns for name, (rows, columns) in shape.linears.items() if name != "v_proj"}
    assert whole - packed == pytest.approx((4 - NF4_BYTES) * 3 * sum(kept.values()))


def test_rows_that_are_no_whole_blocks_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="down_proj, 96 wide"):
        quantize(loaded(base_model(tmp_path, hidden_size=64, intermediate_size=96)), "nf4", torch.float32)


def test_weights_that_come_back_as_others_are_found(base, monkeypatch):
    monkeypatch.setattr(quantizing, "dequantized", lambda packed: dequantized(packed).roll(1, 0))
    with pytest.raises(SelfCheckError, match="q_proj in 4 bits: a weight moved"):
        quantize(loaded(base), "nf4", torch.float32)


def test_experts_in_one_tensor_are_refused():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = MixtralForCausalLM(MixtralConfig(vocab_size=32, num_key_value_heads=2, num_local_experts=2, **sizes))
    with pytest.raises(ConfigError, match="experts are fused"):
        quantize(model, "nf4", torch.float32)

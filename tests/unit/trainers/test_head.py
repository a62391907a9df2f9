"""The head that losses get: what each architecture does to logits, float32 on request, on whatever device it is."""

from __future__ import annotations

import copy

import pytest
import torch
import trl
from transformers import AutoModelForCausalLM

from ixt_rl.conditioning import pad, prompt_completion
from ixt_rl.trainers.forward_checks import head_difference
from ixt_rl.trainers.head import add_head_function
from tests.unit.architectures import tiny_config
from tests.unit.trainers.helpers import WORLD, ScriptedEngine, make_trainer, tiny

SCALED = {
    "hyperclovax": {"logits_scaling": 4.0},  # multiplies
    "granite": {"logits_scaling": 4.0},  # divides
    "cohere": {"logit_scale": 0.25},
    "falcon_h1": {"lm_head_multiplier": 3.0},
    "inkling_text": {"logits_mup_width_multiplier": 6.0},
    "mpt": {"logit_scale": 5.0},  # does nothing
    "gemma2": {"final_logit_softcapping": 2.0},
    "llama4_text": {},
}


def model_of(model_type: str, **options):
    torch.manual_seed(0)
    config = tiny_config(model_type)
    for name, value in options.items():
        setattr(config, name, value)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.normal_(0, 1.0)
    return model


@pytest.mark.parametrize("model_type", SCALED)
def test_log_probs_are_those_of_the_models_own_logits(model_type):
    model = model_of(model_type, **SCALED[model_type])
    add_head_function(model, temperature=0.7)
    difference, _ = head_difference(model, temperature=0.7)
    assert difference < 1e-4


def test_a_copy_of_a_model_with_a_head_function_runs_its_own_weights():
    model = model_of("llama")
    add_head_function(model, 1.0)
    ids = torch.arange(6)[None]
    copied, before = copy.deepcopy(model), model(ids).logits
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(0.5)
    assert not torch.equal(model(ids).logits, before)
    assert torch.equal(copied(ids).logits, before)


def test_a_head_of_several_layers_differs(tmp_path):
    model = model_of("modernbert-decoder")
    add_head_function(model, 1.0)
    difference, limit = head_difference(model)
    assert difference > limit


@pytest.mark.parametrize("method", ["intro", "grpo"])
def test_cast_lm_head_to_fp32_is_honoured_as_in_trl(method, tmp_path):
    """Under bfloat16 autocast the head's products are float32 with the option, as TRL's are."""
    ids = torch.randint(0, 10, (2, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    logps = {}
    for cast in (False, True):
        trainer = make_trainer(
            method, tmp_path, tiny(), engine=ScriptedEngine(), bf16=True, cast_lm_head_to_fp32=cast, temperature=0.1
        )
        with torch.no_grad():
            logps[cast], *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, 8)
    args = trl.GRPOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=True, cast_lm_head_to_fp32=True, temperature=0.1, report_to="none",
        per_device_train_batch_size=8, num_generations=4, gradient_checkpointing=False,
    )  # fmt: skip
    theirs = trl.GRPOTrainer(
        tiny(),
        [lambda **_: [0.0]],
        args,
        train_dataset=trainer.train_dataset,
        processing_class=WORLD.tokenizer(),
    )
    with torch.no_grad():
        expected, *_ = theirs._get_per_token_logps_and_entropies(theirs.model, ids, mask, 8)
    assert (logps[True] - logps[False]).abs().max() > 1e-3
    torch.testing.assert_close(logps[True], expected, rtol=1e-4, atol=1e-4)


def test_hidden_states_go_to_the_heads_device_and_results_come_back():
    """A model split over devices: the head is elsewhere, here on `meta`, which computes shapes only."""
    model = tiny()
    model.lm_head = copy.deepcopy(model.lm_head).to("meta")
    add_head_function(model, 1.0)
    batch = pad([prompt_completion([1, 2], [3, 4, 5])], 12)
    seen = {}

    def head_fn(hidden, head):
        seen["devices"] = (hidden.device.type, head.weight.device.type)
        return torch.zeros(len(hidden), device="cpu"), hidden.shape

    logp, shape = model(**batch.model_inputs(), predictor_mask=batch.predictor_mask, head_fn=head_fn)
    assert seen["devices"] == ("meta", "meta")
    assert logp.device.type == "cpu" and shape == (3, 32)

"""What is compared before the first update: it fails where it should, and leaves no trace where it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from ixt_rl.errors import ConfigError, SelfCheckError
from ixt_rl.trainers.forward_checks import head_difference, packing_difference
from ixt_rl.trainers.head import add_head_function
from ixt_rl.trainers.self_checks import CHECKS, run_self_checks
from tests.unit.architectures import tiny_config
from tests.unit.trainers import ixt_helpers, sip_helpers
from tests.unit.trainers.helpers import ScriptedEngine, make_trainer, tiny

WITHOUT = dict.fromkeys(CHECKS, False)


def trained(kind: str, folder, **options):
    """(trainer, final weights) of two updates; a sampled method where there is one, so that random states matter."""
    torch.manual_seed(0)
    if kind == "ixt":
        trainer = ixt_helpers.make_trainer(folder, ixt_helpers.documents(), max_steps=2, **options)
    elif kind == "sip":
        trainer = sip_helpers.make_trainer(
            folder, engine="model", config={"max_steps": 2, "max_completion_length": 6, **options}
        )
    else:
        trainer = make_trainer(kind, folder, max_completion_length=12, **options)
    trainer.train()
    return trainer, torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


@pytest.mark.parametrize(
    ("kind", "bf16"), [("intro", False), ("grpo", False), ("ixt", False), ("sip", False), ("grpo", True), ("ixt", True)]
)
def test_training_is_bit_identical_with_and_without_checks(kind, bf16, tmp_path):
    with_checks, weights = trained(kind, tmp_path / "with", bf16=bf16)
    without, plain = trained(kind, tmp_path / "without", bf16=bf16, self_checks=WITHOUT)
    assert with_checks.self_checks.results.keys() >= {"head"}
    assert without.self_checks.results == {}
    assert torch.equal(weights, plain)
    assert with_checks.ledger.tokens == without.ledger.tokens
    timed = ("runtime", "second", "time")
    logs = [
        [{k: v for k, v in row.items() if not any(t in k for t in timed)} for row in trainer.state.log_history]
        for trainer in (with_checks, without)
    ]
    torch.testing.assert_close(logs[0], logs[1], rtol=0, atol=0, equal_nan=True)


def test_checks_leave_modes_gradients_and_random_states(tmp_path):
    trainer = make_trainer("intro", tmp_path, engine=ScriptedEngine())
    trainer.model.train()
    trainer.model.model.layers[0].eval()
    random = torch.get_rng_state()
    assert set(run_self_checks(trainer)) >= {"head", "factor"}
    assert torch.equal(torch.get_rng_state(), random)
    assert trainer.model.training and not trainer.model.model.layers[0].training
    assert all(p.grad is None for p in trainer.model.parameters())
    assert not trainer.ledger.tokens


@pytest.mark.parametrize("make", [make_trainer, None])
def test_a_head_that_does_something_else_to_logits_is_refused(make, tmp_path):
    model = tiny() if make else ixt_helpers.tiny_model()
    model.lm_head.register_forward_hook(lambda module, args, logits: logits * 1.5)  # which no fused head can know
    trainer = (
        make("grpo", tmp_path, model, engine=ScriptedEngine())
        if make
        else ixt_helpers.make_trainer(tmp_path, ixt_helpers.documents(), model)
    )
    with pytest.raises(SelfCheckError, match="head") as error:
        trainer.train()
    assert error.value.reason and error.value.remedy
    assert trainer.state.global_step == 0


@pytest.mark.parametrize("model_type", ["lfm2", "falcon_h1", "qwen3_next", "mamba"])
def test_packing_is_refused_where_layers_carry_state_across_documents(model_type, tmp_path):
    trainer = ixt_helpers.make_trainer(tmp_path, ixt_helpers.documents(), on_vocabulary_of(model_type))
    with pytest.raises(SelfCheckError, match="packing") as error:
        trainer.train()
    assert "pack: false" in error.value.remedy
    assert trainer.state.global_step == 0
    alone = ixt_helpers.make_trainer(tmp_path, ixt_helpers.documents(), on_vocabulary_of(model_type), pack=False)
    assert run_self_checks(alone).keys() == {"head", "ends"}


@pytest.mark.parametrize("model_type", ["gemma3_text", "mistral", "gpt_oss", "qwen3", "llama"])
def test_packing_is_as_alone_with_windows(model_type, tmp_path):
    trainer = ixt_helpers.make_trainer(tmp_path, ixt_helpers.documents(), on_vocabulary_of(model_type))
    assert run_self_checks(trainer)["packing"] < 1e-4


def on_vocabulary_of(model_type: str):
    model = AutoModelForCausalLM.from_config(tiny_config(model_type))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    return model


@pytest.mark.parametrize("faulty", [False, True])
def test_float32_weights_are_compared_in_float32_under_mixed_precision(faulty, tmp_path):
    """A fault that bfloat16's rounding would hide is refused, and rounding itself is no fault."""
    model = tiny()
    if faulty:
        model.lm_head.register_forward_hook(lambda module, args, logits: logits * 1.02)
    trainer = make_trainer("grpo", tmp_path, model, engine=ScriptedEngine(), bf16=True)
    mixed = []
    trainer.model.model.layers[0].register_forward_hook(
        lambda *_: mixed.append(torch.is_autocast_enabled("cpu") and torch.is_grad_enabled())
    )
    if faulty:
        with pytest.raises(SelfCheckError, match=r"self-check head: .* limit 0\.001"):
            trainer.train()
        return
    trainer.train()
    assert trainer.self_checks.results["head"] < 1e-4
    assert any(mixed)  # updates compute in bfloat16 all the same


@pytest.mark.parametrize("compared", ["head", "packing"])
def test_what_rounding_explains_is_that_of_the_dtype_that_passes_compute_in(compared):
    model = ixt_helpers.tiny_model().eval()
    add_fused_lm_head(model)
    add_head_function(model, 1.0)

    def differences() -> tuple[float, float]:
        if compared == "head":
            return head_difference(model)
        logps, _, limit = packing_difference(model, lambda batch: (batch.model_inputs(), batch), 64)
        return logps, limit

    exact, limit = differences()
    assert exact < 1e-4 and limit == 1e-3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, limit = differences()
    assert rounded < limit == 0.5
    assert compared == "head" or rounded > exact  # both heads round alike
    assert differences()[1] == 1e-3


def test_a_check_that_is_switched_off_refuses_nothing(tmp_path):
    model = tiny()
    model.lm_head.register_forward_hook(lambda module, args, logits: logits * 1.5)
    trainer = make_trainer("grpo", tmp_path, model, engine=ScriptedEngine(), self_checks={"head": False})
    assert "head" not in run_self_checks(trainer)


@pytest.mark.parametrize("given", [{"heads": False}, {"head": 0}])
def test_an_unknown_check_is_refused(given, tmp_path):
    with pytest.raises(ConfigError, match="self_checks"):
        make_trainer("grpo", tmp_path, engine=ScriptedEngine(), self_checks=given)


def test_ends_are_named_and_refused_where_they_are_not_those_of_the_rule(tmp_path):
    trainer = make_trainer("grpo", tmp_path / "rl", engine=ScriptedEngine())
    assert CHECKS["ends"](trainer).startswith("<eos> (")
    trainer.eos_token_ids = [trainer.processing_class.pad_token_id]
    with pytest.raises(SelfCheckError, match=r"rollouts stop at \['<pad>'\]; a turn ends with <eos>"):
        CHECKS["ends"](trainer)
    documents = ixt_helpers.make_trainer(tmp_path / "ixt", ixt_helpers.documents())
    assert "<eos>" in CHECKS["ends"](documents)
    other = documents.processing_class.pad_token_id
    documents.conditioner.ends = replace(documents.conditioner.ends, document=other)
    with pytest.raises(SelfCheckError, match="documents with <pad>; a turn ends with <eos>"):
        CHECKS["ends"](documents)


def test_a_posterior_that_draws_dropout_is_refused(tmp_path):
    """Told what the plain prompt says, the factor is 1 exactly, or training does not start."""
    trainer = make_trainer("intro", tmp_path, engine=ScriptedEngine())
    assert run_self_checks(trainer)["factor"] == 1.0
    trainer.model.model.layers[0].mlp.register_forward_hook(
        lambda module, args, out: torch.nn.functional.dropout(out, 0.2, module.training)
    )
    with pytest.raises(SelfCheckError, match="factor"):
        run_self_checks(trainer)


def test_adapters_trained_before_are_no_fault_of_a_frozen_posterior(tmp_path):
    """It is the model without them: what the check compares are the two passes, not the adapters."""
    lora = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    options = {"engine": ScriptedEngine(), "peft_config": lora}
    assert run_self_checks(make_trainer("intro", tmp_path, posterior="frozen", **options))["factor"] == 1.0
    dropping = {"disable_dropout": False, "posterior": "frozen"}
    trainer = make_trainer("intro", tmp_path, **options, **dropping)
    trainer.model.get_base_model().model.layers[0].mlp.register_forward_hook(
        lambda module, args, out: torch.nn.functional.dropout(out, 0.2, module.training)
    )
    with pytest.raises(SelfCheckError, match="factor"):
        run_self_checks(trainer)

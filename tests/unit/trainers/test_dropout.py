"""Told what it knows, the posterior is the policy: factor 1 and KL 0, whatever would drop out at random in training."""

from __future__ import annotations

import pytest
import torch
import transformers

from ixt_rl.trainers import GRPOConfig, InTROConfig, RAFTConfig, SIPConfig
from ixt_rl.trainers.dropout import disable_dropout, evaluation_mode
from tests.unit.trainers.helpers import (
    METHODS,
    WORLD,
    ScriptedEngine,
    generation_batch,
    loss_and_gradient,
    make_trainer,
)

RATE = 0.3


def build(architecture: str, **changes) -> transformers.PreTrainedModel:
    """A tiny model of an architecture with everything at RATE that its config lets drop or jitter."""
    size = {"vocab_size": len(WORLD.tokenizer()), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.AutoConfig.for_model(architecture, **size, **changes)
    for name, value in vars(config).items():
        if any(part in name for part in ("drop", "jitter")) and isinstance(value, int | float):
            setattr(config, name, RATE)
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config)


ARCHITECTURES = {
    "gpt2": {},
    "gpt_neox": {"intermediate_size": 64},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global"], 2]], "num_heads": 4},  # reads its config in each pass
    "falcon": {},  # likewise
    "llama": {"intermediate_size": 64, "num_key_value_heads": 4},  # a number of its attention
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 64},  # layers dropped as a whole
    "bloom": {},
    "mixtral": {"intermediate_size": 64, "num_key_value_heads": 4, "num_local_experts": 4},  # a router that jitters
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_is_drawn_in_training_and_the_config_that_is_saved_stays(architecture):
    model = build(architecture, **ARCHITECTURES[architecture]).train()
    saved = model.config.to_dict()
    ids = torch.arange(3, 15)[None].repeat(2, 1)
    with torch.no_grad():
        first, second = (model(input_ids=ids, use_cache=False).logits for _ in range(2))
        assert (first - second).abs().max() > 1e-3
        disable_dropout(model)
        first, second = (model(input_ids=ids, use_cache=False).logits for _ in range(2))
        assert torch.equal(first, second)
        torch.testing.assert_close(first, model.eval()(input_ids=ids, use_cache=False).logits)
    assert model.config.to_dict() == saved


def told_nothing(trainer):
    """A generation whose posterior's prompt is the plain one."""
    batch = generation_batch(trainer)
    for i, mask in enumerate(batch["prompt_mask"]):
        batch["told_prompt_ids"][i] = batch["prompt_ids"][i][mask.bool()].tolist()
    trainer._sums.clear()
    return batch


def lora(dropout: float):
    peft = pytest.importorskip("peft")
    return peft.LoraConfig(
        r=4,
        lora_alpha=8,
        lora_dropout=dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        init_lora_weights=False,
    )


def mean(trainer, name: str) -> float:
    total, count = trainer._sums[name]
    return float(total / count)


POSTERIORS = [
    {"posterior": "live"},
    {"posterior": "frozen"},
    {"posterior": "ema", "posterior_decay": 0.9},
    {"posterior": "lagged", "posterior_every": 1},
]


@pytest.mark.parametrize("options", POSTERIORS, ids=lambda options: options["posterior"])
@pytest.mark.parametrize("candidates", [3, "exact"])
def test_told_what_it_knows_the_factor_is_one_with_dropout_models(tmp_path, options, candidates):
    model = build("gpt2", n_positions=128)
    trainer = make_trainer("intro", tmp_path, model, engine=ScriptedEngine(), candidates=candidates, **options)
    loss_and_gradient(trainer, [told_nothing(trainer)])
    assert mean(trainer, "factor/taken") == pytest.approx(1, abs=1e-5)
    assert mean(trainer, "factor/kl") == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("posterior", ["live", "frozen"])
def test_told_what_it_knows_the_factor_is_one_with_lora_dropout(tmp_path, posterior):
    config = lora(0.2)
    config.init_lora_weights = posterior == "frozen"  # its posterior has no adapters: equal while they are at zero
    trainer = make_trainer("intro", tmp_path, engine=ScriptedEngine(), peft_config=config, posterior=posterior)
    loss_and_gradient(trainer, [told_nothing(trainer)])
    assert mean(trainer, "factor/taken") == pytest.approx(1, abs=1e-5)
    assert mean(trainer, "factor/kl") == pytest.approx(0, abs=1e-6)
    assert trainer.model.peft_config["default"].lora_dropout == 0.2


def test_the_posterior_has_none_where_the_policy_keeps_its_own(tmp_path):
    model = build("gpt2", n_positions=128)
    trainer = make_trainer("intro", tmp_path, model, engine=ScriptedEngine(), disable_dropout=False)
    batch = told_nothing(trainer)
    hidden = [trainer.told.hidden(trainer.model, batch, trainer.trained_rows(batch))[0] for _ in range(2)]
    assert torch.equal(*hidden)
    assert all(module.training for module in trainer.model.modules())
    loss_and_gradient(trainer, [batch])
    assert mean(trainer, "factor/kl") > 1e-3


@pytest.mark.parametrize("method", [name for name in METHODS if name != "rlp"])  # which takes no adapters
def test_two_passes_in_training_are_one_network(method, tmp_path):
    of_trl = {"teacher_model_kind": "base"} if method in ("sdpo", "sdft") else {}
    trainer = make_trainer(method, tmp_path, peft_config=lora(0.2), **of_trl)
    trainer.model.train()
    ids = torch.arange(3, 19)[None]
    first, second = (
        trainer._get_per_token_logps_and_entropies(trainer.model, ids, torch.ones_like(ids), 8)[0] for _ in range(2)
    )
    assert torch.equal(first, second)


def test_it_is_off_by_default_wherever_a_ratio_is_formed(tmp_path):
    quiet = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False}
    for config in (InTROConfig, RAFTConfig, GRPOConfig):
        assert config(**quiet).disable_dropout
    assert SIPConfig(**quiet, max_steps=1).disable_dropout


def test_evaluation_mode_gives_every_module_its_own_mode_back():
    model = build("gpt2").train()
    model.transformer.h[0].eval()
    before = [module.training for module in model.modules()]
    with pytest.raises(KeyError), evaluation_mode(model):
        assert not any(module.training for module in model.modules())
        raise KeyError
    assert [module.training for module in model.modules()] == before

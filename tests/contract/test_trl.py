"""What this library relies on in TRL's private methods; a failure here says what changed upstream."""

from __future__ import annotations

import inspect

import trl
from packaging.version import Version
from trl.models.utils import prepare_deepspeed, prepare_fsdp, unwrap_model_for_generation


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_tested_minor_range():
    assert Version("1.16") <= Version(trl.__version__) < Version("1.17")


def test_overridden_methods_keep_their_signatures():
    trainer = trl.GRPOTrainer
    assert parameters(trainer._calculate_rewards) == [
        "self", "inputs", "prompts", "completions", "completion_ids_list",
    ]  # fmt: skip
    assert parameters(trainer._generate_and_score_completions) == ["self", "inputs"]
    assert parameters(trainer._compute_loss) == ["self", "model", "inputs"]
    assert parameters(trainer._get_per_token_logps_and_entropies)[:8] == [
        "self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy",
        "compute_aux_loss",
    ]  # fmt: skip
    assert parameters(trainer.log) == ["self", "logs", "start_time"]


def test_sft_methods_that_are_overridden_keep_their_signatures():
    trainer = trl.SFTTrainer
    assert parameters(trainer.compute_loss) == ["self", "model", "inputs", "return_outputs", "num_items_in_batch"]
    assert parameters(trainer.get_batch_samples)[:3] == ["self", "epoch_iterator", "num_batches"]
    assert parameters(trainer._save_checkpoint)[:2] == ["self", "model"]
    assert "self._total_train_tokens += " in inspect.getsource(trainer)  # IXT counts packed rows itself


def test_losses_scale_themselves_for_accumulation():
    assert trl.GRPOTrainer.loss_is_scaled_for_ga is True


def test_attributes_that_overrides_read_are_still_set():
    source = inspect.getsource(trl.GRPOTrainer)
    for name in (
        "self._step",
        "self.eos_token_ids",
        "self.reward_weights",
        "self.temperature",
        "self._is_vlm",
        "self._metrics",
    ):
        assert f"{name} = " in source or f"{name} +=" in source, name
    assert "current_gradient_accumulation_steps" in source


def test_rollout_func_gets_the_repeated_local_prompts_and_the_trainer():
    source = inspect.getsource(trl.GRPOTrainer._generate)
    assert "self.rollout_func(prompts, self)" in source
    assert '{"prompt_ids", "completion_ids", "logprobs"}' in source


def test_helpers_for_sharded_models_exist():
    assert parameters(unwrap_model_for_generation)[:3] == ["model", "accelerator", "gather_deepspeed3_params"]
    assert "self._dist = " in inspect.getsource(trl.GRPOTrainer)
    assert "summon_full_params" in inspect.getsource(trl.GRPOTrainer._generate_single_turn)
    assert parameters(prepare_deepspeed) == ["model", "accelerator"]
    assert parameters(prepare_fsdp)[:2] == ["model", "accelerator"]

"""What this library relies on in TRL's private methods; a failure here says what changed upstream."""

from __future__ import annotations

import inspect
import warnings

import transformers
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


def test_what_checkpoints_and_resuming_rely_on_in_transformers():
    trainer = transformers.Trainer
    assert parameters(trainer._save_checkpoint) == ["self", "model", "trial"]
    assert parameters(trainer._load_optimizer_and_scheduler) == ["self", "checkpoint"]
    assert parameters(trainer._evaluate) == ["self", "trial", "ignore_keys_for_eval", "skip_scheduler"]
    assert parameters(trainer._load_from_checkpoint)[:2] == ["self", "resume_from_checkpoint"]
    assert parameters(trainer._load_rng_state) == ["self", "checkpoint"]
    loop = inspect.getsource(trainer._inner_training_loop)
    begins = loop.index("on_train_begin")
    for name in ("self._tr_loss = ", "self._total_loss_scalar = ", "self._globalstep_last_logged = "):
        assert loop.index(name) < begins, name  # a callback may set them to what a checkpoint held
    assert "self._buffered_inputs[self._step % self.args.steps_per_generation]" in inspect.getsource(
        trl.GRPOTrainer._prepare_inputs
    )


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


def test_what_is_overridden_in_the_self_distillation_trainers():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*trl.experimental.*")
        from trl.experimental import sdft, sdpo
        from trl.experimental.sdft import sdft_trainer
        from trl.experimental.sdpo import sdpo_trainer
    for trainer in (sdpo.SDPOTrainer, sdft.SDFTTrainer):
        assert trainer.loss_is_scaled_for_ga is True
        assert parameters(trainer._tokenize_prompts) == ["self", "prompts"]
        assert parameters(trainer._generate) == ["self", "prompt_ids"]
        assert parameters(trainer._prepare_training_batch) == ["self", "inputs"]
        assert parameters(trainer._forward_logits) == [
            "self", "model", "input_ids", "attention_mask", "logits_to_keep",
        ]  # fmt: skip
        assert parameters(trainer._compute_rollout_logps)[1:] == [
            "prompt_ids", "prompt_mask", "completion_ids", "completion_mask",
        ]  # fmt: skip
        assert parameters(trainer._get_completion_ids_list) == ["self", "batch"]
        assert parameters(trainer.log) == ["self", "logs", "start_time"]
        assert "self._buffered_inputs[self._step % self.args.steps_per_generation]" in inspect.getsource(
            trainer._prepare_inputs
        )
        source = inspect.getsource(trainer)
        for name in ("self._step", "self.teacher_model", "self.temperature", "self.model_kwarg_keys", "self._metrics"):
            assert f"{name} = " in source, name
        assert "_generate(" in inspect.getsource(trainer.sample_rollouts)
    source = inspect.getsource(sdpo.SDPOTrainer)
    assert parameters(sdpo.SDPOTrainer._calculate_rewards) == [
        "self", "inputs", "prompts", "completions", "completion_ids_list",
    ]  # fmt: skip
    assert parameters(sdpo.SDPOTrainer._tokenize_prompts_untruncated) == ["self", "prompts"]
    assert "self._record_reward_diagnostics(mode, rewards, rewards_per_func, group_std_rewards)" in source
    shown = inspect.getsource(sdpo_trainer.SuccessfulRolloutTeacherContextBuilder)
    assert "all_rewards[j].item() >= threshold" in shown  # NaN is no success, nor is the 0 that TRL makes of it
    builder = sdft_trainer.DemonstrationTeacherContextBuilder
    assert parameters(builder._compose_teacher_prompt) == ["self", "prompt", "privileged_context"]
    assert "self.teacher_context_builder = " in inspect.getsource(sdft.SDFTTrainer)

"""Inherited TRL options are honoured or refused; none is dropped in silence."""

from __future__ import annotations

import dataclasses

import pytest
import transformers
import trl

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.trainers.refused_options import ENGINE, ON_POLICY, OWN_LOSS, RATIO
from tests.unit.trainers.helpers import METHODS, ScriptedEngine, generation_batch, make_trainer

# Options of trl.GRPOConfig, beyond transformers' own, that reach TRL code which these trainers still run.
HONOURED = {
    "model_init_kwargs", "trust_remote_code", "disable_dropout", "cast_lm_head_to_fp32", "num_generations",
    "num_generations_eval", "max_completion_length", "ds3_gather_for_generation", "shuffle_dataset",
    "generation_batch_size", "steps_per_generation", "temperature", "reward_weights", "mask_truncated_completions",
    "log_completions", "num_completions_to_print", "log_unique_prompts", "log_completions_hub_repo",
    "router_aux_loss_coef",
    "chat_template_kwargs",
}  # fmt: skip


def test_every_option_of_trl_is_on_one_side():
    """Fails when TRL adds an option, which must then be honoured or refused before the pin moves."""
    base = {f.name for f in dataclasses.fields(transformers.TrainingArguments)}
    options = {f.name for f in dataclasses.fields(trl.GRPOConfig)} - base
    refused = {*ENGINE, *OWN_LOSS, *RATIO, *ON_POLICY} | {name for name in options if name.startswith("vllm_")}
    assert options - refused - HONOURED == set()
    assert not refused & HONOURED
    assert refused <= options


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("intro", {"beta": 0.1}),
        ("intro", {"loss_type": "grpo"}),
        ("intro", {"top_p": 0.9}),
        ("intro", {"top_k": 5}),
        ("intro", {"min_p": 0.1}),
        ("intro", {"num_iterations": 2}),
        ("intro", {"steps_per_generation": 2}),
        ("intro", {"use_vllm": True}),
        ("intro", {"vllm_mode": "server"}),
        ("intro", {"repetition_penalty": 1.2}),
        ("intro", {"entropy_coef": 0.1}),
        ("intro", {"posterior": "ema"}),
        ("intro", {"posterior_decay": 0.9}),
        ("intro", {"candidates": 0}),
        ("intro", {"clip": -1.0}),
        ("raft", {"epsilon": 0.1}),
        ("raft", {"num_iterations": 2}),
        ("raft", {"importance_ratio": True, "top_p": 0.9}),
        ("grpo", {"top_p": 0.9}),
        ("rloo", {"top_p": 0.9}),
        ("rloo", {"scale_rewards": "none"}),
        ("rloo", {"loss_type": "grpo"}),
        ("gpg", {"epsilon": 0.1}),
        ("gpg", {"num_iterations": 2}),
        ("gpg", {"steps_per_generation": 2}),
        ("grpo", {"generation_kwargs": {"num_beams": 2}}),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_reason_and_remedy(method, options, tmp_path):
    with pytest.raises(ConfigError) as error:
        METHODS[method][1](output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)
    assert any(name in str(error.value) for name in options)
    assert error.value.reason
    assert error.value.remedy


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("raft", {"top_p": 0.9}),
        ("raft", {"importance_ratio": True, "epsilon": 0.1, "num_iterations": 2}),
        ("grpo", {"beta": 0.1, "num_iterations": 2, "epsilon_high": 0.3}),
        ("intro", {"candidates": "exact", "clip": None, "include_taken": False}),
        ("rloo", {"num_iterations": 2, "epsilon": 0.1, "epsilon_high": 0.3}),
        ("gpg", {"top_p": 0.9}),
    ],
)
def test_what_can_be_honoured_is_taken(method, options, tmp_path):
    METHODS[method][1](output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)


@pytest.mark.parametrize("name", ["tools", "environment_factory", "rollout_func"])
def test_trl_arguments_that_the_engine_replaces_are_refused(name, tmp_path):
    from ixt_rl.trainers import InTROConfig, InTROTrainer

    args = InTROConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    with pytest.raises(ConfigError, match=name):
        InTROTrainer("unused", [], args, **{name: [print]})


def test_intro_without_told_prompts_says_what_is_missing(tmp_path):
    from tests.unit.trainers.helpers import rows

    data = [{k: v for k, v in row.items() if k != "told_prompt"} for row in rows(4)]
    trainer = make_trainer("intro", tmp_path, engine=ScriptedEngine(), data=data)
    with pytest.raises(DataError, match="told_prompt"):
        trainer._generate_and_score_completions([data[0]] * 4)


def test_truncated_completions_can_be_left_out(tmp_path):
    trainer = make_trainer("intro", tmp_path, mask_truncated_completions=True, max_completion_length=2)
    batch = generation_batch(trainer)
    assert int(batch["kept"].sum()) == 0

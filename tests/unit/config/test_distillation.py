"""Stages that distil the told model: what a run file may say."""

from __future__ import annotations

import pytest

from ixt_rl.config.load import load_run
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.methods.registry import spec_of

FILE = """
name: trial
model: {new: {}}
stages:
  - {name: base, type: pretrain, data: {world: addition}, steps: 2, optim: {lr: 1e-3}}
  - name: rl
    type: opsd
    data: {world: addition, view: parity}
    steps: 2
    rollouts_per_step: 8
    sampling: {max_new_tokens: 34}
    optim: {lr: 1e-3}
    rewards: [{type: world}]
"""


@pytest.fixture
def load(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(FILE)
    return lambda *changes: load_run(file, [f"stages.rl.{change}" for change in changes])


def test_type_alone_is_enough_and_says_that_rewards_decide_nothing(load):
    config = load()
    stage = config.stages[1]
    assert spec_of(stage).options(stage)["divergence"] == "jsd"
    assert spec_of(stage).options(stage)["posterior"] == "frozen"
    assert any("logged, no more" in line for line in stage.surprises)
    load("sampling.top_p=0.95", "sampling.top_k=20")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["opsd={divergence: reverse_kl, beta: 0.3}"], "only jsd compares with a mixture"),
        (["opsd={beta: 1.0}"], "below 1"),
        (["opsd={posterior: {source: ema}}"], "decay"),
        (["dynamic_sampling={max_rounds: 2}"], "every rollout is trained"),
        (["steps_per_generation=2"], "with type: opsd"),
        (["opsd={divergance: jsd}"], "did you mean"),
        (["type=sdft", "dynamic_sampling={max_rounds: 2}"], "every group that it samples"),
        (["type=sdft", "sampling.stop=['.']"], "whole text"),
        (["type=sdft", "sdft={mode: sampled_token, alpha: 0.5}"], "reverse KL"),
        (["type=sdft", "sdft={mode: full_logits, topk: 5}"], "likeliest"),
        (["type=sdft", "sdft={teacher: {source: live, rate: 0.1}}"], "only an average moves"),
        (["type=sdpo", "lora={}"], "average of adapters"),
        (["lora={}", "opsd={posterior: {source: ema, decay: 0.9}}"], "leave lora out, or set opsd.posterior"),
        (["type=intro", "lora={}", "intro={posterior: {source: ema, decay: 0.9}}"], "adapter of an average"),
        (["type=rlsd", "lora={}", "rlsd={posterior: {source: ema, decay: 0.9}}"], "adapter of an average"),
        (["type=rlp", "lora={}"], "type: rlp with lora"),
        (["type=sdpo", "sampling.top_p=0.9"], "ratio would be biased"),
        (["type=sdpo", "sdpo={right_from: 0}"], "above 0"),
        (["type=sdpo", "sdpo={sees: rollout, reprompt: '{prompt}'}"], "{prompt} and {solution}"),
        (["type=sdpo", "sdpo={sees: rollout, reprompt: '{prompt}{solution}{x}'}"], "no other field"),
        (["type=sdpo", "sdpo={sees: rollout, solution: '{successful_previous_attempt}{'}"], "literal braces"),
    ],
)
def test_what_has_no_meaning_is_refused_before_anything_loads(load, changes, words):
    with pytest.raises(InvalidConfig, match=words):
        load(*changes)


def test_a_posterior_that_is_no_average_goes_with_adapters(load):
    load("type=rlcsd", "lora={}")
    load("type=rlsd", "lora={}", "intro={posterior: {source: ema, decay: 0.9}}")  # a block that is not read


def test_a_method_of_ones_own_is_refused_what_the_one_it_is_like_is_refused(load, tmp_path):
    own = tmp_path / "own.py"
    own.write_text("from ixt_rl.trainers import RLPTrainer\nclass Mine(RLPTrainer):\n    pass\n")
    with pytest.raises(InvalidConfig, match="with lora"):
        load("type=python", "like=rlp", f"trainer={own}:Mine", "lora={}")


@pytest.mark.parametrize("method", ["sdpo", "sdft"])
def test_an_engine_outside_the_process_is_refused(load, tmp_path, method):
    with pytest.raises(InvalidConfig, match="no engine's log-probs"):
        load_run(tmp_path / "run.yaml", [f"stages.rl.type={method}", "engine={type: vllm}"])


def test_keys_become_options_of_trls(load):
    def options(*changes):
        stage = load(*changes).stages[1]
        return spec_of(stage).options(stage)

    found = options("type=sdft")
    assert (found["distillation_mode"], found["distillation_topk"]) == ("topk_logits", 100)
    assert (found["distillation_alpha"], found["teacher_model_kind"]) == (0.5, "base")
    found = options("type=sdpo", "sdpo={teacher: {source: ema, rate: 0.2, every: 3}}")
    assert (found["distillation_alpha"], found["teacher_update_rate"], found["teacher_sync_steps"]) == (1.0, 0.2, 3)
    assert "reprompt_template" not in found
    found = options("type=sdpo", "sdpo={sees: rollout, mode: full_logits, alpha: 0, right_from: 0.5}")
    assert found["success_reward_threshold"] == 0.5
    assert found["distillation_alpha"] == 0
    assert "{solution}" in found["reprompt_template"]


@pytest.mark.parametrize(("base", "fits"), [("SDPOTrainer", True), ("InTROTrainer", False)])
def test_a_trainer_of_ones_own_like_sdpo_derives_from_it(load, tmp_path, base, fits):
    own = tmp_path / "own.py"
    own.write_text(f"from ixt_rl.trainers import {base}\nclass Mine({base}):\n    pass\n")
    changes = ["type=python", "like=sdpo", f"trainer={own}:Mine"]
    if fits:
        assert spec_of(load(*changes).stages[1]).like.type == "sdpo"
    else:
        with pytest.raises(InvalidConfig, match="subclass of SDPOTrainer"):
            load(*changes)


@pytest.mark.parametrize("method", ["opsd", "sdft", "sdpo", "latro", "rlp"])
def test_rewards_that_are_logged_alone_may_weigh_nothing(load, method):
    weightless = "rewards=[{type: world, weight: 0}]"
    assert load(f"type={method}", weightless).stages[1].rewards[0].weight == 0
    with pytest.raises(InvalidConfig, match="nothing would ever be trained"):
        load("type=sdpo", "sdpo.sees=rollout", weightless)


@pytest.mark.parametrize("method", ["latro", "rlp"])
@pytest.mark.parametrize(
    ("world", "target"),
    [("{world: addition}", "{answer}"), ("{world: word-problems}", "\nThe final answer is {answer}")],
)
def test_what_follows_a_rationale_in_natural_language_is_a_line_of_its_own(tmp_path, method, world, target):
    file = tmp_path / "run.yaml"
    text = FILE.replace("{world: addition, view: parity}", world).replace("{world: addition}", world)
    if "word" in world:
        text = text.replace("{new: {}}", "{new: {tokenizer: bytes}}").replace("type: pretrain", "type: sft")
    file.write_text(text)
    stage = load_run(file, [f"stages.rl.type={method}"]).stages[1]
    assert spec_of(stage).options(stage)["target"] == target
    own = load_run(file, [f"stages.rl.type={method}", f"stages.rl.{method}.target='= {{answer}}'"]).stages[1]
    assert spec_of(own).options(own)["target"] == "= {answer}"

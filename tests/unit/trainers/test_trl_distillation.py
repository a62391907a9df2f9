"""SDPO and SDFT by TRL's own classes, on this library's rollouts, told prompts and rewards."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from ixt_rl.conditioning import encode_prompt
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.trainers import SDFTConfig, SDPOConfig
from ixt_rl.trainers.distillation_seam import REFUSED, TRLSDFTConfig, TRLSDPOConfig
from ixt_rl.trainers.sdft import TOLD_WHOLE
from ixt_rl.trainers.sdpo import POLICY_PART
from tests.unit.trainers.helpers import WORLD, make_trainer, rows, tiny
from tests.unit.trainers.test_resume import resumed_at_each_update

METHODS = ("sdpo", "sdft")
FULL = {"distillation_mode": "full_logits", "distillation_topk": None, "distillation_alpha": 0.3}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> str:
    """A tiny model's folder, from which TRL reads a teacher."""
    folder = tmp_path_factory.mktemp("model")
    tiny().save_pretrained(folder)
    return str(folder)


def trainer_of(method, tmp_path, saved, **options):
    model = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32)
    given = {"teacher_model_kind": "live", "max_completion_length": 6, **options}
    return make_trainer(method, tmp_path, model, rollouts=EngineRollouts(), **given)


def generation(trainer, count: int = 2):
    """TRL's batch of one generation of `count` prompts, and the rows."""
    trainer.model.train()
    given = [{**row} for row in rows(count) for _ in range(trainer.args.num_generations)]
    return trainer._prepare_training_batch(given), given


def own_ids(ids, mask) -> list[list[int]]:
    return [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)]


def kl(logp, logq, alpha: float) -> torch.Tensor:
    """(T,) Jensen-Shannon from its definition."""
    p, q = logp.exp(), logq.exp()
    m = alpha * q + (1 - alpha) * p
    return (alpha * q * (logq - m.log()) + (1 - alpha) * p * (logp - m.log())).sum(-1)


@pytest.mark.parametrize("method", METHODS)
def test_loss_and_gradient_are_those_of_the_formula_one_rollout_at_a_time(method, tmp_path, saved):
    trainer = trainer_of(method, tmp_path, saved, **FULL)
    batch, given = generation(trainer)
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    gradient = torch.cat([p.grad.flatten().clone() for p in trainer.model.parameters()])
    completions = own_ids(batch["completion_ids"], batch["completion_mask"])
    trainer.model.zero_grad()
    losses = []
    for row, z in zip(given, completions, strict=True):
        logs = []
        for name in ("prompt", "told_prompt"):
            prompt = list(encode_prompt(WORLD.tokenizer(), row[name]))
            logits = trainer.model(torch.tensor([[*prompt, *z]])).logits[0, len(prompt) - 1 : -1]
            logs.append(logits.log_softmax(-1))
        losses.append(kl(logs[0], logs[1].detach(), 0.3).mean())
    plain = torch.stack(losses).mean()
    plain.backward()
    expected = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_teacher_sees_the_told_prompt_and_the_very_ids_that_were_sampled(method, tmp_path, saved):
    trainer = trainer_of(method, tmp_path, saved)
    batch, given = generation(trainer)
    completions = own_ids(batch["completion_ids"], batch["completion_mask"])
    for name, ids in (
        ("prompt", own_ids(batch["prompt_ids"], batch["prompt_mask"])),
        ("told_prompt", own_ids(batch["teacher_input_ids"], batch["teacher_attention_mask"])),
    ):
        for row, found, z in zip(given, ids, completions, strict=True):
            told = list(encode_prompt(WORLD.tokenizer(), row[name]))
            assert found == (told if name == "prompt" else [*told, *z])
    counted = trainer.ledger.tokens
    assert counted["rollout"] == int(batch["prompt_mask"].sum() + batch["completion_mask"].sum())
    trainer.current_gradient_accumulation_steps = 1
    trainer.compute_loss(trainer.model, batch)
    assert counted["posterior"] == int(batch["teacher_attention_mask"].sum())
    assert counted["train"] == counted["rollout"]


def test_a_right_rollout_of_the_group_is_shown_and_no_undecided_one(tmp_path, saved):
    """Rollouts 1 of the first group and none of the second are right; one is undecided."""
    values = [0.0, 1.0, None, 0.0, 0.0, None, 0.0, 0.0]

    def reward(prompts, completions, **kwargs):
        return values

    templates = {"reprompt_template": "{prompt}{solution}", "solution_template": " {successful_previous_attempt}"}
    trainer = trainer_of("sdpo", tmp_path, saved, sees="rollout", reward=reward, **templates)
    batch, given = generation(trainer)
    assert batch["self_distillation_mask"].tolist() == [1, 0, 1, 1, 0, 0, 0, 0]  # a rollout does not show itself
    tokenizer, shown = WORLD.tokenizer(), own_ids(batch["completion_ids"], batch["completion_mask"])[1]
    seen = own_ids(batch["teacher_input_ids"], batch["teacher_attention_mask"])
    text = given[0]["prompt"] + " " + tokenizer.decode(shown, skip_special_tokens=True)
    told = list(encode_prompt(tokenizer, text))
    assert seen[0][: len(told)] == told
    sums = trainer._sums
    assert float(sums["rollout/undecided"][0] / sums["rollout/undecided"][1]) == 0.25
    assert float(sums["reward"][0]) == 1.0
    assert float(sums["reward"][1]) == 6.0  # those that are decided


def test_a_rollout_that_lacks_a_reward_is_not_shown_for_the_rewards_that_it_has(tmp_path, saved):
    """Undecided, 0, 1 (what is undecided weighs nothing), 0. TRL would take the first one's part for the whole."""
    options = {"sees": "rollout", "reward_weights": [1.0, 1.0, 0.0]}
    rewards = [first_of_several, second_of_several, third_of_several]
    trainer = trainer_of("sdpo", tmp_path, saved, reward=rewards, **options)
    batch, _ = generation(trainer, 1)
    assert batch["self_distillation_mask"].tolist() == [1, 1, 0, 1]  # the third is right, and shown to the others


@pytest.mark.parametrize(("right", "shown"), [(0.7, [1, 0, 1, 1]), (1e-7, [1, 0, 1, 1])])
def test_a_sum_of_exactly_right_from_is_right(right, shown, tmp_path, saved):
    """Sums are float32, where 0.7 is less than 0.7. However low it is, what is undecided is no right one."""
    values = [0.0, right, None, 0.0]
    options = {"sees": "rollout", "success_reward_threshold": right, "reward": lambda prompts, **_: values}
    batch, _ = generation(trainer_of("sdpo", tmp_path, saved, **options), 1)
    assert batch["self_distillation_mask"].tolist() == shown


@pytest.mark.parametrize("mode", [FULL, {"distillation_mode": "topk_logits", "distillation_topk": 5}])
def test_of_a_model_in_16_bits_the_divergence_is_formed_in_32(mode, tmp_path):
    """From the logits that its passes give, in float64; bfloat16 has three digits, before any sum."""
    given = {"teacher_model_kind": "live", "max_completion_length": 6, "distillation_alpha": 0.3, **mode}
    trainer = make_trainer("sdft", tmp_path, tiny().to(torch.bfloat16), rollouts=EngineRollouts(), **given)
    batch, _ = generation(trainer)
    trainer.current_gradient_accumulation_steps = 1
    found = float(trainer.compute_loss(trainer.model, batch).detach())
    student = [batch[name] for name in ("prompt_ids", "completion_ids", "prompt_mask", "completion_mask")]
    passes = [(torch.cat(student[:2], 1), torch.cat(student[2:], 1))]
    passes += [(batch["teacher_input_ids"], batch["teacher_attention_mask"])]
    width = batch["completion_ids"].shape[1]
    with torch.no_grad():
        z_p, z_q = (trainer._forward_logits(trainer.model, *given, width).double() for given in passes)
    logp, logq = z_p.log_softmax(-1), z_q.log_softmax(-1)
    if trainer.args.distillation_topk is not None:
        top = z_p.topk(5).indices
        logp, logq = (one.gather(-1, top).log_softmax(-1) for one in (logp, logq))
    mask = batch["completion_mask"].double()
    wanted = ((kl(logp, logq, 0.3) * mask).sum(1) / mask.sum(1)).mean()
    assert found == pytest.approx(float(wanted), rel=1e-4)


def test_an_average_in_16_bits_is_refused(tmp_path):
    """A twentieth of a step is less than half of bfloat16's last digit: the teacher would stay where it was."""
    with pytest.raises(ConfigError, match="bfloat16") as error:
        make_trainer("sdpo", tmp_path, tiny().to(torch.bfloat16), rollouts=EngineRollouts(), teacher_model_kind="ema")
    assert "float32" in error.value.remedy


def first_of_several(prompts, **_):
    return [1.0, 0.0, 1.0, 0.0]


def second_of_several(prompts, **_):
    return [None, 0.0, 0.0, 0.0]


def third_of_several(prompts, **_):
    return [0.0, 0.0, None, 0.0]


@pytest.mark.parametrize(("method", "kind"), [("sdpo", "ema"), pytest.param("sdft", "base", marks=pytest.mark.slow)])
def test_a_stopped_run_goes_on_to_the_same_weights_logs_and_teacher(method, kind, tmp_path, saved):
    def make(folder):
        steps = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
        window = {"steps_per_generation": 2, "per_device_train_batch_size": 4, "learning_rate": 3e-2}
        return trainer_of(method, folder, saved, teacher_model_kind=kind, **steps, **window)

    trainer = resumed_at_each_update(make, tmp_path)
    initial = dict(tiny().named_parameters())
    moved = [not torch.equal(w, initial[n]) for n, w in trainer.teacher_model.named_parameters()]
    assert any(moved) == (kind == "ema")
    logged = trainer.state.log_history[0]
    assert {"reward", "rollout/strict", "rewards/parity_reward/mean", "flops/posterior"} <= set(logged)
    assert trainer.self_checks.results.keys() == {"engine", "ends"}
    assert trainer.ledger.tokens["score"] > 0  # rollouts of two updates: TRL weighs them by the policy's ratio


def test_sdft_over_the_whole_vocabulary_is_opsd(tmp_path, saved):
    """TRL's class and InTRO's walk, from the same seed: the same rollouts, losses and weights."""
    steps = {"max_steps": 2, "learning_rate": 3e-3}
    theirs = trainer_of("sdft", tmp_path / "sdft", saved, teacher_model_kind="base", **steps)
    model = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32)
    ours = make_trainer("opsd", tmp_path / "opsd", model, rollouts=EngineRollouts(), max_completion_length=6, **steps)
    losses = []
    for trainer in (ours, theirs):
        trainer.train()
        losses.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for name, weight in ours.model.named_parameters():
        torch.testing.assert_close(weight, theirs.model.get_parameter(name), rtol=1e-3, atol=1e-4)
    counted = [{name: t.ledger.tokens[name] for name in ("rollout", "posterior", "train")} for t in (ours, theirs)]
    assert counted[0] == counted[1]


def test_left_padding_moves_no_position(tmp_path, saved):
    trainer = trainer_of("sdft", tmp_path, saved)
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    padded = torch.cat([torch.full((1, 3), 12), ids], 1)
    masks = [torch.ones_like(ids), torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])]
    trainer.model.eval()
    with torch.no_grad():
        alone, beside = (
            trainer._forward_logits(trainer.model, one, mask, 2) for one, mask in zip([ids, padded], masks, strict=True)
        )
    torch.testing.assert_close(alone, beside, rtol=1e-5, atol=1e-5)


def test_a_long_told_prompt_is_told_whole(tmp_path, saved):
    """TRL cuts the beginning of a teacher's prompt, which has the question, from 10240 tokens on."""
    trainer = trainer_of("sdpo", tmp_path, saved)
    trainer._tokenize_prompts_untruncated = lambda prompts: [[3] * 10241 for _ in prompts]
    told = trainer.teacher_context_builder._tokenize_teacher_messages(["x"])
    assert told["prompt_ids"].shape == (1, 10241)


def test_no_more_entries_are_looked_for_than_there_are(tmp_path, saved):
    trainer = trainer_of("sdft", tmp_path, saved)
    assert trainer.args.distillation_mode == "topk_logits"
    assert trainer.args.distillation_topk == trainer.model.config.vocab_size < 100


@pytest.mark.parametrize("method", METHODS)
def test_rows_that_tell_nothing_are_refused(method, tmp_path, saved):
    trainer = trainer_of(method, tmp_path, saved)
    with pytest.raises(DataError, match="told_prompt"):
        trainer._prepare_training_batch([{**rows(1)[0], "told_prompt": ""}])


def test_told_messages_must_be_the_prompts_own_before_the_last(tmp_path, saved):
    trainer = trainer_of("sdpo", tmp_path, saved)
    system, user = {"role": "system", "content": "a"}, {"role": "user", "content": "b"}
    told = {"role": "user", "content": "b, which is c"}
    assert trainer.privileged({"prompt": [system, user], "told_prompt": [system, told]}) == "b, which is c"
    with pytest.raises(DataError, match="last message"):
        trainer.privileged({"prompt": [user], "told_prompt": [system, user]})


@pytest.mark.parametrize("method", ["sdpo", "sdft"])
def test_a_rank_whose_rows_train_nothing_takes_part_in_what_is_logged(method, tmp_path, saved):
    """As often as the others, which wait for it; its value is the mean of all, and it has no gradient."""
    trainer = trainer_of(method, tmp_path, saved)
    batch, _ = generation(trainer)
    trainer.current_gradient_accumulation_steps = 1
    asked: list[torch.Tensor] = []
    trainer.accelerator.gather = lambda part: asked.append(part) or torch.stack([part, torch.full_like(part, 3.0)])
    for shown in (1.0, 0.0):
        batch["self_distillation_mask"] = torch.full((len(batch["completion_ids"]),), shown)
        batch["completion_mask"] = batch["completion_mask"] * int(shown)
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
    live, idle = asked
    assert (live.dtype, live.shape) == (idle.dtype, idle.shape)
    assert float(loss.detach()) == float(idle) == 0.0
    assert all(not weight.grad.any() for weight in trainer.model.parameters())
    assert trainer._metrics["train"]["self_distillation/distillation_loss"][-1] == 1.5


def every_other(prompts, **_):
    return [1.0, 0.0] * (len(prompts) // 2)


def test_a_teacher_that_sees_a_rollout_is_told_nothing(tmp_path, saved, caplog):
    """Not even by rows that have a told prompt, which TRL would warn of as feedback that is ignored."""
    options = {"sees": "rollout", "reward": every_other, "max_steps": 1}
    trainer = trainer_of("sdpo", tmp_path, saved, **options)
    system, user = {"role": "system", "content": "a"}, {"role": "user", "content": "b"}
    assert trainer.privileged({"prompt": [user], "told_prompt": [system, user]}) is None
    generation(trainer)
    assert "environment feedback" not in caplog.text
    untold = [{name: value for name, value in row.items() if "told" not in name} for row in rows(4)]
    trainer_of("sdpo", tmp_path, saved, data=untold, **options).train()


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (SDPOConfig, {"use_vllm": True}),
        (SDPOConfig, {"beta": 0.1}),
        (SDPOConfig, {"distillation_weight": 0.5}),
        (SDPOConfig, {"epsilon_high": 0.3}),
        (SDPOConfig, {"success_reward_threshold": 0.0}),
        (SDPOConfig, {"reprompt_template": "{prompt}"}),
        (SDPOConfig, {"sees": "rollout", "include_environment_feedback": True}),
        (SDPOConfig, {"sees": "nothing"}),
        (SDFTConfig, {"max_prompt_length": 8}),
        (SDFTConfig, {"teacher_prompt_template": "{prompt} {privileged_context}"}),
        (SDFTConfig, {"vllm_mode": "server"}),
    ],
    ids=str,
)
def test_what_would_do_nothing_is_refused(config, options, tmp_path):
    with pytest.raises(ConfigError) as error:
        config(output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)
    assert error.value.reason
    assert error.value.remedy


def test_engines_stop_strings_and_averaged_adapters_are_refused_before_a_model_is_touched(tmp_path):
    from ixt_rl.trainers import SDPOTrainer
    from tests.unit.trainers.helpers import ScriptedEngine

    args = SDPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    for given in (
        {"rollouts": EngineRollouts(ScriptedEngine(), parity_limit=math.inf)},
        {"rollouts": EngineRollouts(stop=["\n"])},
        {"dynamic_sampling": 2},
        {"peft_config": object()},
    ):
        with pytest.raises(ConfigError):
            SDPOTrainer("unused", [], args, **given)


READ = {
    "model_init_kwargs", "trust_remote_code", "disable_dropout", "num_generations", "num_generations_eval",
    "max_completion_length", "ds3_gather_for_generation", "shuffle_dataset", "generation_batch_size",
    "steps_per_generation", "temperature", "top_p", "top_k", "min_p", "chat_template_kwargs", "num_iterations",
    "teacher_model_kind", "teacher_update_rate", "teacher_sync_steps", "distillation_alpha", "distillation_mode",
    "distillation_topk", "distillation_is_clip", "distillation_add_tail",
}  # fmt: skip
OF_SDPO = {
    "mask_truncated_completions", "dont_reprompt_on_self_success", "epsilon_high", "reward_weights", "max_reprompt_len",
    "use_successful_as_teacher", "success_reward_threshold", "reprompt_template", "solution_template",
    "feedback_template", "include_environment_feedback", "environment_feedback_only_without_solution",
    "remove_thinking_from_demonstration", "diagnostics_warning_interval", "diagnostics_flat_tolerance",
}  # fmt: skip
OF_SDFT = {"generate_from_teacher", "num_loss_tokens_to_skip"}


@pytest.mark.parametrize(
    ("config", "own", "refused"), [(TRLSDPOConfig, OF_SDPO, POLICY_PART), (TRLSDFTConfig, OF_SDFT, TOLD_WHOLE)]
)
def test_every_option_of_trl_is_read_or_refused(config, own, refused):
    base = {f.name for f in dataclasses.fields(transformers.TrainingArguments)}
    options = {f.name for f in dataclasses.fields(config)} - base
    engine = {name for name in options if name.startswith("vllm_")}
    assert options - engine - {*REFUSED, *refused} == READ | own
    assert {*REFUSED, *refused} <= options


def test_each_rank_keeps_its_own_pieces_of_an_average_in_a_checkpoint(tmp_path, saved, monkeypatch):
    """Under FSDP and ZeRO-3 those of another rank are other weights."""
    trainer = trainer_of("sdpo", tmp_path, saved, teacher_model_kind="ema")
    monkeypatch.setattr(SDPOConfig, "process_index", 1)
    monkeypatch.setattr(type(trainer.accelerator), "is_main_process", False)
    trainer.write_files(tmp_path)
    assert [file.name for file in tmp_path.glob("*teacher.safetensors")] == ["1-teacher.safetensors"]
    weights = [weight.clone() for weight in trainer.teacher_model.parameters()]
    with torch.no_grad():
        for weight in trainer.teacher_model.parameters():
            weight.zero_()
    trainer.read_files(tmp_path)
    assert all(torch.equal(*pair) for pair in zip(weights, trainer.teacher_model.parameters(), strict=True))

"""Dr.GRPO, DAPO, GSPO as a run file sets them: the papers' formulas, written out; TRL's class on the same batch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import trl
from pydantic import ValidationError

from ixt_rl.kernels.correction import Correction
from ixt_rl.methods.grpo import SPEC, GrpoBlock
from tests.unit.trainers.helpers import (
    ScriptedEngine,
    generation_batch,
    loss_and_gradient,
    make_trainer,
    tiny,
    trls,
)
from tests.unit.trainers.test_policy_gradient import close, older, with_own_logps

LONGEST = 34


def options(**keys: Any) -> dict[str, Any]:
    """What the trainer is given, from a run file's block."""
    return GrpoBlock(**keys).model_dump(exclude={"preset"})


def batch_of(trainer):
    """A batch of an older policy's rollouts, so that ratios are on both sides of the bounds."""
    return older(with_own_logps(trainer, generation_batch(trainer)), 0.3)


def written_out(model, batch, preset: str) -> torch.Tensor:
    """The loss by the paper, a rationale at a time, on the model's own logits."""
    rewards = batch["rewards"].view(-1, 4)
    advantages = rewards - rewards.mean(1, keepdim=True)
    if preset != "dr_grpo":
        advantages = advantages / (rewards.std(1, keepdim=True) + 1e-4)
    parts, tokens = [], 0
    for row, advantage in enumerate(advantages.flatten()):
        real = batch["completion_mask"][row].bool()
        z, x = batch["completion_ids"][row][real], batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        logits = model(torch.cat([x, z])[None]).logits[0, len(x) - 1 : -1]
        log_ratio = logits.log_softmax(-1).gather(1, z[:, None])[:, 0] - batch["old_per_token_logps"][row][real]
        tokens += len(z)
        if preset == "gspo":
            s = log_ratio.mean().exp()
            parts.append(torch.minimum(s * advantage, s.clamp(1 - 3e-4, 1 + 4e-4) * advantage))
            continue
        ratio = log_ratio.exp()
        clipped = ratio.clamp(0.8, 1.28 if preset == "dapo" else 1.2)
        parts.append(torch.minimum(ratio * advantage, clipped * advantage).sum())
    total = -torch.stack(parts).sum()
    return total / {"gspo": len(parts), "dapo": tokens, "dr_grpo": len(parts) * LONGEST}[preset]


@pytest.mark.parametrize("preset", ["dr_grpo", "dapo", "gspo"])
def test_a_preset_is_the_papers_formula(preset, tmp_path):
    trainer = make_trainer("grpo", tmp_path, engine=ScriptedEngine(), **options(preset=preset))
    batch = batch_of(trainer)
    found = loss_and_gradient(trainer, [batch])
    trainer.model.zero_grad()
    loss = written_out(trainer.model, batch, preset)
    loss.backward()
    close(found, (float(loss.detach()), torch.cat([p.grad.flatten() for p in trainer.model.parameters()])))


SETTINGS: list[dict[str, Any]] = [
    {"preset": "dr_grpo"},
    {"preset": "dapo"},
    {"preset": "gspo"},
    {"loss_type": "cispo", "epsilon_high": 5.0},
    {"loss_type": "sapo"},
    {"loss_type": "luspo", "importance_sampling_level": "sequence"},
    {"loss_type": "vespo"},
]


@pytest.mark.parametrize("keys", SETTINGS, ids=lambda keys: "-".join(map(str, keys.values())))
def test_a_setting_is_trls(keys, tmp_path):
    model, given = tiny(), options(**keys)
    ours = make_trainer("grpo", tmp_path, copy.deepcopy(model), engine=ScriptedEngine(), **given)
    theirs = trls(trl.GRPOTrainer, trl.GRPOConfig, ours, copy.deepcopy(model), **given)
    batch = batch_of(ours)
    close(loss_and_gradient(ours, [batch]), loss_and_gradient(theirs, [batch]))


def test_a_cut_rationale_is_not_trained_and_stays_in_the_baseline(tmp_path):
    def reward(prompts, completion_ids, **_):
        return [float(len(ids)) for ids in completion_ids]

    given = options(mask_truncated_completions=True)
    trainer = make_trainer("grpo", tmp_path, reward=reward, max_completion_length=3, **given)
    batch = generation_batch(trainer)
    cut = batch["completion_mask"].sum(1) == 0
    assert cut.any()
    assert float(batch["rewards"][cut].min()) == 3.0
    rewards = batch["rewards"].view(-1, 4)
    wanted = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    torch.testing.assert_close(batch["advantages"], wanted.flatten())


@pytest.mark.parametrize("scale", ["group", "none"])
def test_a_group_of_equal_rewards_has_no_advantage(scale, tmp_path):
    """The mean of seven times 0.7 in float32 is not 0.7, which over a deviation of 1e-4 would be an advantage."""
    trainer = make_trainer(
        "grpo", tmp_path, engine=ScriptedEngine(), reward=lambda prompts, **_: [0.7] * len(prompts),
        num_generations=7, per_device_train_batch_size=14, scale_rewards=scale,
    )  # fmt: skip
    batch = generation_batch(trainer)
    assert batch["advantages"].tolist() == [0.0] * 14
    assert not loss_and_gradient(trainer, [batch])[1].any()


@pytest.mark.parametrize(("method", "own"), [("grpo", 0), ("rloo", 1)])
def test_ranks_send_each_other_nothing_to_find_equal_rewards(method, own, tmp_path, monkeypatch):
    """Those of all ranks are there: what a method's own advantages are made of is gathered, and nothing else."""
    trainer = make_trainer(method, tmp_path, engine=ScriptedEngine())
    generated, gather, sent = trainer.generated, trainer.accelerator.gather, []

    def counting(tensor):
        sent.append(tensor.shape)
        return gather(tensor)

    def within(*given):
        with monkeypatch.context() as patched:
            patched.setattr(trainer.accelerator, "gather", counting)
            return generated(*given)

    monkeypatch.setattr(trainer, "generated", within)
    generation_batch(trainer)
    assert len(sent) == own


def test_of_a_group_on_two_ranks_each_finds_the_tie(tmp_path, monkeypatch):
    trainer = make_trainer("grpo", tmp_path, engine=ScriptedEngine())
    trainer._rewards_of_all = torch.tensor([[0.7], [0.7], [0.7], [0.7], [0.1], [0.7], [0.7], [torch.nan]])
    monkeypatch.setattr(type(trainer), "group_size", 4)
    for rank, expected in enumerate(([0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0])):
        monkeypatch.setattr(type(trainer.accelerator), "process_index", rank)
        assert trainer._levelled(torch.ones(2)).tolist() == expected


def test_vespo_takes_the_samplers_ratio_once(tmp_path):
    """It reads the ratio by itself, into a rationale's weight: advantages stay as they are."""
    trainer = make_trainer("grpo", tmp_path, engine=ScriptedEngine(), loss_type="vespo")
    batch = with_own_logps(trainer, generation_batch(trainer))
    batch["sampling_per_token_logps"] = older(batch)["old_per_token_logps"]
    before = batch["advantages"]
    trainer.correction = Correction()
    trainer.correct(batch)
    assert torch.equal(batch["advantages"], before)
    assert (batch["importance_sampling_ratio"] != 1).any()


@pytest.mark.parametrize(
    ("keys", "remedy"),
    [
        ({"loss_type": "cispo"}, "epsilon_high: 5.0"),
        ({"loss_type": "cispo", "epsilon_high": 0.3}, "epsilon_high: 5.0"),
        ({"loss_type": "dapo", "importance_sampling_level": "sequence"}, "loss_type: grpo"),
        ({"loss_type": "vespo", "importance_sampling_level": "sequence"}, "level: token"),
        ({"loss_type": "luspo"}, "level: sequence"),
        ({"preset": "gspo", "loss_type": "dapo"}, "loss_type: grpo"),
    ],
)
def test_settings_that_would_mean_something_else_are_refused(keys, remedy):
    with pytest.raises(ValidationError) as error:
        GrpoBlock(**keys)
    assert remedy in str(error.value)


def test_what_is_given_comes_before_the_preset():
    block = GrpoBlock(preset="dapo", epsilon_high=0.3)
    assert (block.loss_type, block.epsilon_high) == ("dapo", 0.3)
    assert GrpoBlock(**block.model_dump()) == block
    assert SPEC.report.label({"grpo": block.model_dump()}) == "DAPO"
    assert SPEC.report.label({"grpo": GrpoBlock().model_dump()}) == "GRPO"


def test_a_block_of_before_is_written_as_before():
    """Its fingerprint is that of runs begun without these keys."""
    assert set(GrpoBlock().model_dump()) == {"loss_type", "epsilon", "epsilon_high", "beta", "scale_rewards"}

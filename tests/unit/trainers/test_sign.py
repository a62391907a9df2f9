"""InTRO with `sign: advantage`: right and wrong rationales by their advantage, factors inverted where that is < 0."""

from __future__ import annotations

import pytest
import torch

from ixt_rl.errors import ConfigError
from ixt_rl.methods.intro import IntroStage, options
from ixt_rl.trainers import InTROTrainer
from tests.unit.trainers.helpers import ScriptedEngine, generation_batch, loss_and_gradient, make_trainer, split
from tests.unit.trainers.test_told import Three, three, told_batch, told_rows, whole_logprobs


def signed(tmp_path, **settings):
    return make_trainer("intro", tmp_path, engine=ScriptedEngine(), sign="advantage", data=told_rows(8), **settings)


def by_the_equation(trainer, batch, clip, contrast):
    """(loss, factors): one rationale at a time, whole softmaxes, every candidate by its formula."""
    exact, losses, factors = trainer.args.candidates == "exact", [], []
    for row, advantage in enumerate(batch["advantages"].tolist()):
        if not advantage:
            continue
        z = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
        x = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        p, q, wrong = (
            whole_logprobs(trainer.model, prompt, z)
            for prompt in (x, batch["told_prompt_ids"][row], batch["told_wrong_prompt_ids"][row])
        )
        weight = p.exp()
        if not exact:
            ids = three(z)
            p, q, wrong = (one.gather(1, ids) for one in (p, q, wrong))
            weight = torch.full(ids.shape, 1 / 3)
        ratio = q - (wrong if contrast else p)
        factor = (ratio if advantage > 0 else -ratio).exp().clamp(max=clip)
        factors.append(factor.detach().flatten())
        losses.append(-advantage * ((weight * factor).detach() * p).sum(1).mean())
    return torch.stack(losses).sum() / len(batch["advantages"]), torch.cat(factors)


@pytest.mark.parametrize("candidates", [3, "exact"])
@pytest.mark.parametrize("contrast", [False, True])
def test_the_loss_is_the_equation(tmp_path, candidates, contrast):
    trainer = signed(
        tmp_path, candidates=candidates, contrast=contrast, clip=1.2,
        trainer_class=None if candidates == "exact" else Three,
    )  # fmt: skip
    trainer.told.columns = ("told_prompt", "told_wrong_prompt")
    batch = told_batch(trainer)
    assert {*batch["advantages"].sign().tolist()} >= {1.0, -1.0}
    loss, gradient = loss_and_gradient(trainer, split(batch, 2))
    trainer.model.zero_grad()
    plain, factors = by_the_equation(trainer, batch, 1.2, contrast)
    plain.backward()
    expected = torch.cat([weight.grad.flatten() for weight in trainer.model.parameters()])
    assert (factors > 0).all() and (factors == 1.2).any() and factors.std() > 0.01
    assert loss == pytest.approx(float(plain.detach()), rel=1e-4, abs=1e-6)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=2e-5)


def test_without_a_factor_it_is_grpo(tmp_path):
    """Neither sign nor size of an advantage is anybody's but the reward's."""

    class Unit(InTROTrainer):
        def factor(self, logp, logq, where):
            return torch.ones_like(logp)

    trainer = signed(tmp_path, candidates=1, trainer_class=Unit)
    grpo = make_trainer("grpo", tmp_path, engine=ScriptedEngine(), loss_type="grpo")
    _, found = loss_and_gradient(trainer, [told_batch(trainer)])
    _, expected = loss_and_gradient(grpo, [generation_batch(grpo)])
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_groups_of_one_reward_train_nothing_though_all_are_kept(tmp_path):
    trainer = signed(tmp_path, reward=lambda completions, **_: [1.0] * len(completions))
    batch = told_batch(trainer)
    loss, gradient = loss_and_gradient(trainer, [batch])
    assert batch["kept"].all() and loss == 0.0 and gradient.abs().max() == 0.0
    assert not trainer.has_signal(batch["rewards_per_func"]).any()


def test_an_undecided_rationale_is_not_trained_and_enters_no_baseline(tmp_path):
    def reward(prompts, completions, **_):
        return [None, 0.0, 1.0, 1.0] * (len(completions) // 4)

    trainer = signed(tmp_path, reward=reward)
    batch = told_batch(trainer, 1)
    found = batch["advantages"]
    assert found[0] == 0 and float(found.sum()) == pytest.approx(0, abs=1e-6) and found[2] == found[3] > 0


def stage(**intro):
    return IntroStage.model_validate(
        {
            "name": "s", "type": "intro", "data": {"world": "addition"}, "steps": 1, "rollouts_per_step": 8,
            "sampling": {"max_new_tokens": 8}, "optim": {"lr": 1e-3}, "rewards": [{"type": "world"}], "intro": intro,
        }
    )  # fmt: skip


def test_a_run_file_says_so_and_what_is_not_said_is_not_in_settings_or_options():
    assert options(stage(sign="advantage")) == {**options(stage()), "sign": "advantage"}
    assert stage(contrast=True).tells == ("wrong",) and stage().tells == ()
    assert stage(sign="advantage").kept_by is None and stage().kept_by is not None
    lagged = stage(posterior={"source": "lagged", "every": 5})
    assert options(lagged)["posterior_every"] == 5
    old = {"keep", "keep_reward", "candidates", "include_taken", "clip", "posterior", "importance_ratio"}
    assert {*stage().intro.model_dump()} == old  # folders that were begun before keep their fingerprint
    assert {*stage().intro.model_dump()["posterior"]} == {"source", "decay"}
    assert {*options(stage())} == (old - {"posterior"}) | {"posterior", "posterior_decay"}


def test_sign_and_keep_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="weighted sums of their rewards"):
        stage(sign="advantage", keep="world")
    with pytest.raises(ConfigError, match="write 'advantage' or None"):
        make_trainer("intro", tmp_path, sign="reward")

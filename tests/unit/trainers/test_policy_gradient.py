"""Policy gradients: closed forms, all outcomes of a toy, TRL's own classes on the same batch, plain autograd."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
import trl

from ixt_rl.errors import DataError
from ixt_rl.kernels.correction import Correction
from ixt_rl.trainers import PolicyGradientConfig, PolicyGradientTrainer
from ixt_rl.trainers.baselines import group_relative, leave_one_out, less_the_mean
from tests.unit.trainers import helpers
from tests.unit.trainers.helpers import (
    ScriptedEngine,
    generation_batch,
    loss_and_gradient,
    make_trainer,
    tiny,
    trls,
)

NAN = math.nan


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    """The family's base as it stands, beside the methods that have a type."""
    monkeypatch.setitem(helpers.METHODS, "pg", (PolicyGradientTrainer, PolicyGradientConfig))


# ---------------------------------------------------------------- baselines


@pytest.mark.parametrize("group", itertools.product([None, 0.0, 0.25, 1.0], repeat=3))
def test_baselines_are_of_the_decided_ones(group):
    rewards = torch.tensor([[NAN if one is None else one for one in group]])
    decided = [one for one in group if one is not None]
    for i, (mean, others) in enumerate(zip(less_the_mean(rewards)[0], leave_one_out(rewards)[0], strict=True)):
        if group[i] is None:
            assert mean.isnan() and others.isnan()
            continue
        assert float(mean) == pytest.approx(group[i] - sum(decided) / len(decided))
        rest = [one for place, one in enumerate(group) if place != i and one is not None]
        if rest:
            assert float(others) == pytest.approx(group[i] - sum(rest) / len(rest))
        else:
            assert others.isnan()


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_group_relative_is_trls(scale, tmp_path):
    """The advantages that TRL makes of the same rewards, undecided ones among them."""
    values = [1.0, 0.0, None, 0.5, 0.0, 0.0, 1.0, None]

    def reward(prompts, **_):
        return [values[i % len(values)] for i in range(len(prompts))]

    theirs = generation_batch(
        make_trainer("grpo", tmp_path, engine=ScriptedEngine(), reward=reward, scale_rewards=scale)
    )
    ours = generation_batch(make_trainer("pg", tmp_path, engine=ScriptedEngine(), reward=reward, scale_rewards=scale))
    torch.testing.assert_close(ours["advantages"], theirs["advantages"])
    assert (ours["advantages"] == 0)[[2, 7]].all()
    rewards = torch.tensor([NAN if one is None else one for one in values]).view(2, 4)
    torch.testing.assert_close(
        group_relative(rewards, scale).flatten().nan_to_num(nan=0.0), theirs["advantages"], rtol=1e-5, atol=1e-6
    )


def test_leave_one_out_is_unbiased_over_all_groups():
    """E[A grad log p] over all groups of two = gradient of the expected reward; exact, 3 outcomes."""
    logits = torch.tensor([0.3, -0.7, 0.2], dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
    p = logits.softmax(0)
    (wanted,) = torch.autograd.grad((p * rewards).sum(), logits)
    p = logits.softmax(0)
    surrogate = sum(
        (p[a] * p[b]).detach() * (leave_one_out(rewards[[a, b]][None])[0] * p[[a, b]].log()).mean()
        for a, b in itertools.product(range(3), repeat=2)
    )
    (found,) = torch.autograd.grad(surrogate, logits)
    torch.testing.assert_close(found, wanted)


# ---------------------------------------------------------------- TRL's classes on the same batch


def older(batch, spread: float = 0.3):
    """The batch as rollouts of another policy: log-probs that are some way off those of this one."""
    noise = torch.randn(batch["completion_ids"].shape, generator=torch.Generator().manual_seed(5))
    return {**batch, "old_per_token_logps": (batch["own_logps"] + spread * noise) * batch["completion_mask"]}


def with_own_logps(trainer, batch):
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    width = batch["completion_ids"].shape[1]
    with torch.no_grad():
        logps, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width)
    return {**batch, "own_logps": logps}


def close(mine, theirs):
    assert mine[0] == pytest.approx(theirs[0], rel=1e-4, abs=1e-6)
    torch.testing.assert_close(mine[1], theirs[1], rtol=1e-4, atol=1e-5)
    assert mine[1].abs().max() > 1e-4


@pytest.mark.parametrize("spread", [0.0, 0.05])
@pytest.mark.parametrize("epsilon_high", [None, 0.05])
def test_rloo_is_trls(tmp_path, spread, epsilon_high):
    """Rollouts of this policy, and of an older one, some of whose ratios are clipped."""
    model, options = tiny(), {"epsilon": 0.1, "epsilon_high": epsilon_high}
    ours = make_trainer("rloo", tmp_path, copy.deepcopy(model), engine=ScriptedEngine(), **options)
    theirs = trls(trl.RLOOTrainer, trl.RLOOConfig, ours, copy.deepcopy(model), **options, beta=0.0)
    batch = with_own_logps(ours, generation_batch(ours))
    if spread:
        batch = older(batch, spread)
        log_ratio = ((batch["own_logps"] - batch["old_per_token_logps"]) * batch["completion_mask"]).sum(1)
        outside = (log_ratio.exp() - 1).abs() > 0.1
        assert outside.any() and not outside.all()
    old = (batch.get("old_per_token_logps", batch["own_logps"]) * batch["completion_mask"]).sum(1)
    expected = loss_and_gradient(theirs, [{**batch, "old_logps": old}])
    close(loss_and_gradient(ours, [batch]), expected)


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_the_base_is_grpo(tmp_path, spread):
    """Mean over tokens, then over rationales; clipped on both sides where the rollouts are an older policy's."""
    model = tiny()
    ours = make_trainer("pg", tmp_path, copy.deepcopy(model), engine=ScriptedEngine(), epsilon_high=0.3)
    theirs = make_trainer(
        "grpo", tmp_path, copy.deepcopy(model), engine=ScriptedEngine(), epsilon_high=0.3, loss_type="grpo"
    )
    batch = with_own_logps(ours, generation_batch(ours))
    batch = older(batch, spread) if spread else batch
    close(loss_and_gradient(ours, [batch]), loss_and_gradient(theirs, [batch]))
    if spread:
        ours._sums.clear()
        loss_and_gradient(ours, [batch])
        clipped, count = ours._sums["ratio/clipped"].tolist()
        assert 0 < clipped < count


@pytest.mark.parametrize(
    ("rewards", "advantages"),
    [
        ([1.0, 0.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.1], [1.5, -0.5, -0.5, -0.5, 0.0, 0.0, 0.0, 0.0]),  # alpha = 2
        ([1.0, None, 0.0, 0.0, None, 1.0, None, None], [4 / 3, 0.0, -2 / 3, -2 / 3, 0.0, 0.0, 0.0, 0.0]),
        ([1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], [0.5, -0.5, -0.5, 0.5, -0.25, -0.25, -0.25, 0.75]),
    ],
    ids=["level", "undecided", "both"],
)
def test_gpg_is_its_formula(tmp_path, rewards, advantages):
    """- 1/T sum_z A sum_t log p, by autograd, T of all rationales; groups that teach nothing raise the others' A."""
    trainer = make_trainer(
        "gpg", tmp_path, engine=ScriptedEngine(), reward=lambda prompts, **_: rewards[: len(prompts)]
    )
    batch = generation_batch(trainer)
    assert batch["advantages"].tolist() == pytest.approx(advantages)
    found = loss_and_gradient(trainer, helpers.split(batch, 2))
    trainer.model.zero_grad()
    parts = []
    for row, advantage in enumerate(advantages):
        z = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
        x = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        logits = trainer.model(torch.cat([x, z])[None]).logits[0, len(x) - 1 : -1]
        parts.append(-advantage * logits.log_softmax(-1).gather(1, z[:, None]).sum())
    loss = torch.stack(parts).sum() / int(batch["completion_mask"].sum())
    loss.backward()
    close(found, (float(loss.detach()), torch.cat([p.grad.flatten() for p in trainer.model.parameters()])))


# ---------------------------------------------------------------- what is trained


def test_a_rationale_without_advantage_costs_no_pass_and_counts(tmp_path):
    def reward(prompts, **_):
        return [1.0, 0.0, None, 1.0, 1.0, 1.0, 1.0, 1.0][: len(prompts)]

    trainer = make_trainer("rloo", tmp_path, engine=ScriptedEngine(), reward=reward)
    batch = generation_batch(trainer)
    assert batch["advantages"].tolist() == [0.5, -1.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0]
    assert [row for row, _, _ in trainer.trained_rows(batch)] == [0, 1, 3]
    assert float(trainer.rows_total(batch)) == 8.0


def test_nothing_to_compare_trains_nothing(tmp_path):
    trainer = make_trainer("rloo", tmp_path, engine=ScriptedEngine(), reward=lambda prompts, **_: [1.0] * len(prompts))
    loss, gradient = loss_and_gradient(trainer, [generation_batch(trainer)])
    assert loss == 0.0
    assert gradient.abs().max() == 0.0


def test_the_table_of_completions_shows_the_methods_advantages(tmp_path):
    trainer = make_trainer("rloo", tmp_path, engine=ScriptedEngine())
    batch = generation_batch(trainer)
    assert list(trainer._logs["advantages"]) == batch["advantages"].tolist()


class Doubting(PolicyGradientTrainer):
    """A factor of the log-prob of this very pass and of the sign, as a method of its own would have it."""

    def token_factor(self, model, inputs, rows, batch, signals):
        sign = signals.advantages[batch.target_rows].sign()
        return lambda logp, at: (0.5 * sign[at] * logp).exp().clamp(0.5, 2.0)


@pytest.mark.parametrize("parts", [1, 4])
def test_a_factor_multiplies_advantages_and_gets_no_gradient(tmp_path, parts):
    trainer = make_trainer("pg", tmp_path, engine=ScriptedEngine(), trainer_class=Doubting)
    batch = with_own_logps(trainer, generation_batch(trainer))
    batch.pop("own_logps")
    found = loss_and_gradient(trainer, helpers.split(batch, parts))
    trainer.model.zero_grad()
    losses = []
    for row, advantage in enumerate(batch["advantages"].tolist()):
        z = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
        x = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        logits = trainer.model(torch.cat([x, z])[None]).logits[0, len(x) - 1 : -1]
        logp = logits.log_softmax(-1).gather(1, z[:, None])[:, 0]
        factor = (0.5 * math.copysign(1.0, advantage) * logp.detach()).exp().clamp(0.5, 2.0)
        losses.append(-(advantage * factor * (logp - logp.detach()).exp()).mean())
    loss = torch.stack(losses).mean()
    loss.backward()
    close(found, (float(loss.detach()), torch.cat([p.grad.flatten() for p in trainer.model.parameters()])))


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("method", ["pg", "rloo"])
def test_what_another_engine_sampled_is_weighed_by_its_ratio(tmp_path, method, level):
    """As advantages of each token times a ratio that was computed beforehand: what `GRPOTrainer` does."""
    trainer = make_trainer(method, tmp_path, engine=ScriptedEngine())
    batch = with_own_logps(trainer, generation_batch(trainer))
    batch["sampling_per_token_logps"] = older(batch)["old_per_token_logps"]
    correction = Correction(level, "truncate", 1.1)
    trained = batch["completion_mask"].bool() & batch["trained"][:, None]
    gap = (batch["own_logps"] - batch["sampling_per_token_logps"])[trained]
    ratio = correction.weights(gap, trained.nonzero()[:, 0])
    plain = type(trainer).token_weights
    trainer.token_weights = lambda batch, signals: plain(trainer, batch, signals) * ratio
    expected = loss_and_gradient(trainer, [batch])
    del trainer.token_weights
    trainer.correction = correction
    close(loss_and_gradient(trainer, [batch]), expected)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "gives",
    [lambda r: r[:-1], lambda r: [1.0] * len(r), lambda r: r > 0, lambda r: torch.full_like(r, math.inf)],
    ids=["short", "list", "bool", "infinite"],
)
def test_advantages_that_are_none_are_refused(tmp_path, gives):
    wrong = type("Wrong", (PolicyGradientTrainer,), {"advantages": lambda self, rewards, batch: gives(rewards)})
    with pytest.raises(DataError, match="advantages gave"):
        generation_batch(make_trainer("pg", tmp_path, engine=ScriptedEngine(), trainer_class=wrong))

"""RLSD and RLCSD against their equations, written out over whole softmaxes, and against GRPO where they are GRPO."""

from __future__ import annotations

import pytest
import torch

from ixt_rl.errors import ConfigError
from tests.unit.trainers.helpers import ScriptedEngine, generation_batch, loss_and_gradient, make_trainer, split
from tests.unit.trainers.test_told import told_batch, told_rows, whole_logprobs


def made(method, tmp_path, **options):
    return make_trainer(method, tmp_path, engine=ScriptedEngine(), data=told_rows(8), **options)


def rationales(trainer, batch):
    """(row, A, taken log-probs of the policy, told right, told wrong) of those with an advantage; gradient flows to the
    policy's."""
    for row, advantage in enumerate(batch["advantages"].tolist()):
        z = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
        x = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        prompts = (x, batch["told_prompt_ids"][row], batch["told_wrong_prompt_ids"][row])
        p, right, wrong = (
            whole_logprobs(trainer.model, prompt, z).gather(1, z[:, None])[:, 0] for prompt in prompts
        )  # fmt: skip
        if advantage:
            yield row, advantage, p, right.detach(), wrong.detach()


def gradient_of(trainer, loss):
    trainer.model.zero_grad()
    loss.backward()
    return torch.cat([weight.grad.flatten() for weight in trainer.model.parameters()])


def same(found, expected):
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


# ---------------------------------------------------------------------------------------------- RLSD


@pytest.mark.parametrize(
    "options", [{"factor_epsilon": 0.9}, {"factor_epsilon": 0.05}, {"mix": 0.5}, {"contrast": True}], ids=str
)
def test_rlsd_is_its_equation(tmp_path, options):
    trainer = made("rlsd", tmp_path, **({"contrast": False} | options), posterior="live")
    trainer.told.columns = ("told_prompt", "told_wrong_prompt")
    batch = told_batch(trainer)
    assert (batch["advantages"] > 0).any() and (batch["advantages"] < 0).any()
    loss, gradient = loss_and_gradient(trainer, split(batch, 2))
    epsilon, mix = options.get("factor_epsilon", 0.2), options.get("mix", 1.0)
    value, plain, factors = 0.0, 0.0, []
    for _, advantage, p, right, wrong in rationales(trainer, batch):
        ratio = right - (wrong if options.get("contrast") else p.detach())
        f = (ratio.exp() if advantage > 0 else (-ratio).exp()).clamp(1 - epsilon, 1 + epsilon)
        f = 1 - mix + mix * f
        assert (f > 0).all()  # no factor turns an advantage round
        value -= float((advantage * f).mean()) / len(batch["advantages"])
        plain = plain - (advantage * f * p).mean() / len(batch["advantages"])
        factors.append(f)
    assert torch.cat(factors).std() > 1e-3
    assert loss == pytest.approx(value, rel=1e-4, abs=1e-6)
    same(gradient, gradient_of(trainer, plain))


def test_what_the_answer_makes_likelier_counts_more_in_right_rationales_and_less_in_wrong_ones(tmp_path):
    trainer = made("rlsd", tmp_path, posterior="live", factor_epsilon=0.9)
    batch = told_batch(trainer)
    trainer.current_gradient_accumulation_steps = 1
    rows = trainer.trained_rows(batch)
    packed, signals = trainer.policy_batch(rows), trainer.signals_of(batch, rows)
    told = trainer.told.logps(trainer.model, batch, rows)
    factor = trainer.token_factor(trainer.model, batch, rows, packed, signals)
    some, any_p = slice(3, 40), torch.randn(37)
    f, likelier = factor(any_p, some), told[some] > any_p
    right = signals.advantages[packed.target_rows][some] > 0
    assert torch.equal(f > 1, likelier == right)


@pytest.mark.parametrize("how", ["mix", "contrast"])
def test_without_a_factor_rlsd_is_grpo(tmp_path, how):
    trainer = made("rlsd", tmp_path, mix=0.0) if how == "mix" else made("rlsd", tmp_path, contrast=True)
    grpo = make_trainer("grpo", tmp_path, engine=ScriptedEngine(), loss_type="grpo")
    found = loss_and_gradient(trainer, [told_batch(trainer, told_wrong_prompt="told_prompt")])
    expected = loss_and_gradient(grpo, [generation_batch(grpo)])
    assert found[0] == pytest.approx(expected[0], abs=1e-5)
    same(found[1], expected[1])


def test_numbers_that_could_turn_an_advantage_round_are_refused(tmp_path):
    for options in ({"factor_epsilon": 1.0}, {"factor_epsilon": 0.0}, {"mix": 1.5}):
        with pytest.raises(ConfigError, match="never its sign"):
            made("rlsd", tmp_path, **options)


# --------------------------------------------------------------------------------------------- RLCSD


@pytest.mark.parametrize("eta", [1.0, 0.3])
def test_rlcsd_is_its_equation(tmp_path, eta):
    options = {"tau": 0.5, "strength": 1.5, "threshold": 0.1, "eta": eta}
    trainer = made("rlcsd", tmp_path, posterior="live", posterior_every=None, **options)
    batch = told_batch(trainer)
    loss, gradient = loss_and_gradient(trainer, [batch])
    moved, others, cut, grads = [], [], 0, {True: [], False: []}
    for _, advantage, p, right, wrong in rationales(trainer, batch):
        m = 1.5 * torch.tanh((right - wrong) / 0.5)
        m = torch.where(m.abs() > 0.1, m, 0.0)
        target = advantage + m
        keeps_sign = target.clamp(min=0) if advantage > 0 else target.clamp(max=0)
        cut += int((keeps_sign != target).sum())
        for is_moved, values in ((True, moved), (False, others)):
            here = (m != 0) == is_moved
            values.append(keeps_sign[here])
            grads[is_moved].append((keeps_sign * p)[here].sum())
    moved, others = torch.cat(moved), torch.cat(others)
    assert len(moved) > 10 and len(others) > 10 and cut > 0
    idle = int(batch["completion_mask"].sum()) - len(moved) - len(others)  # of rationales with advantage 0
    rest = len(others) + idle
    assert loss == pytest.approx(-float(eta * moved.mean() + others.sum() / rest), rel=1e-4)
    plain = -eta * sum(grads[True]) / len(moved) - sum(grads[False]) / rest
    same(gradient, gradient_of(trainer, plain))


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_rlcsds_two_means_do_not_depend_on_the_split(tmp_path, parts):
    trainer = made("rlcsd", tmp_path)
    batch = told_batch(trainer)
    loss, gradient = loss_and_gradient(trainer, [batch])
    found = loss_and_gradient(trainer, split(batch, parts))
    assert found[0] == pytest.approx(loss, rel=1e-4)
    same(found[1], gradient)


def test_told_passes_made_in_pieces_give_the_same_moves(tmp_path):
    moves = []
    for size in (8, 4, 1):
        trainer = made("rlcsd", tmp_path, per_device_train_batch_size=size, gradient_accumulation_steps=8 // size)
        moves.append(told_batch(trainer)["move"])
    assert (moves[0] != 0).any()
    for other in moves[1:]:
        torch.testing.assert_close(other, moves[0], rtol=1e-3, atol=1e-4)


def test_without_a_contrast_rlcsd_is_grpo_with_a_mean_over_tokens(tmp_path):
    trainer = made("rlcsd", tmp_path)
    grpo = make_trainer("grpo", tmp_path, engine=ScriptedEngine(), loss_type="dapo")
    found = loss_and_gradient(trainer, [told_batch(trainer, told_wrong_prompt="told_prompt")])
    expected = loss_and_gradient(grpo, [generation_batch(grpo)])
    assert found[0] == pytest.approx(expected[0], abs=1e-5)
    same(found[1], expected[1])


def test_nothing_to_learn_from_trains_nothing_by_the_same_passes(tmp_path):
    for method in ("rlsd", "rlcsd"):
        trainer = made(method, tmp_path, reward=lambda completions, **_: [1.0] * len(completions))
        loss, gradient = loss_and_gradient(trainer, [told_batch(trainer)])
        assert loss == 0.0 and gradient.abs().max() == 0.0


def test_a_strength_below_the_threshold_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="above the threshold"):
        made("rlcsd", tmp_path, strength=0.01)

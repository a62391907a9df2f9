"""Kept is a decision of the rewards that verify, not a sum; what is undecided is neither kept nor compared with."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.rewards import GuardedReward, RewardBudget, format_reward, length_reward
from ixt_rl.trainers import InTROTrainer, RAFTTrainer
from ixt_rl.trainers.online import OnlineTrainer
from tests.unit.trainers.helpers import METHODS, ScriptedEngine, generation_batch, loss_and_gradient, make_trainer, rows


def scripted(name, values):
    """A reward with fixed values, one a completion."""

    def reward(prompts, completions, **kwargs):
        return [values[i % len(values)] for i in range(len(completions))]

    reward.__name__ = name
    return reward


FORM = format_reward(".*", name="form")  # 1 for everything


def trainer_of(method, tmp_path, rewards, **options):
    return make_trainer(method, tmp_path, engine=ScriptedEngine(), reward=rewards, **options)


def kept(method, tmp_path, rewards, **options):
    trainer = trainer_of(method, tmp_path, rewards, **options)
    batch = generation_batch(trainer)
    sums = trainer._sums["rollout/kept"]
    assert float(sums[0] / sums[1]) == pytest.approx(float(batch["kept"].float().mean()))
    return batch["kept"].tolist(), trainer


@pytest.mark.parametrize("method", ["intro", "raft"])
def test_an_abstaining_verifier_is_not_outvoted(method, tmp_path):
    keep, trainer = kept(method, tmp_path, [scripted("verifier", [None, 1.0, 0.0, None]), FORM])
    assert keep == [False, True, False, False] * 2
    excluded = trainer._sums["rollout/undecided"]
    assert float(excluded[0] / excluded[1]) == 0.5


@pytest.mark.parametrize("guarded", [False, True])
def test_a_penalty_does_not_make_wrong_what_is_right(tmp_path, guarded):
    verifier, length = scripted("verifier", [1.0, 0.0]), length_reward(2, 300)
    rewards = [verifier, length]
    if guarded:
        rewards = [GuardedReward(r, r.__name__, RewardBudget(), tmp_path / "failed") for r in rewards]
    keep, trainer = kept("intro", tmp_path, rewards)
    assert keep == [True, False] * 4
    batch = generation_batch(trainer)
    assert (batch["rewards"][::2] < 1).all()


def test_a_bonus_does_not_make_right_what_is_wrong(tmp_path):
    keep, _ = kept("raft", tmp_path, [scripted("verifier", [0.0, 1.0]), FORM], reward_weights=[1.0, 5.0])
    assert keep == [False, True] * 4


TWENTIETHS = [
    (a / 20, b / 20, (20 - a - b) / 20) for a in range(1, 19) for b in range(1, 20 - a) if (a, b) in {(3, 13), (7, 9)}
]


@pytest.mark.parametrize("weights", TWENTIETHS)
def test_weights_that_round_below_one_keep_what_is_right(tmp_path, weights):
    assert float((torch.ones(3) * torch.tensor(weights)).nansum()) < 1  # what was compared before
    rewards = [scripted(name, [1.0]) for name in "abc"]
    assert all(kept("intro", tmp_path, rewards, reward_weights=list(weights))[0])


def test_a_reward_just_below_by_rounding_is_kept_and_one_below_is_not(tmp_path):
    keep, _ = kept("intro", tmp_path, [scripted("v", [0.7, 0.1 + 0.2 + 0.4, 0.6999, 0.1 * 7])], keep_reward=0.7)
    assert keep == [True, True, False, True] * 2


@pytest.mark.parametrize(
    ("keep", "expected"),
    [(None, [True, False, False, False]), (["a"], [True, True, False, False]), (["form"], [True] * 4)],
)
def test_named_rewards_decide(tmp_path, keep, expected):
    rewards = [scripted("a", [1.0, 1.0, 0.0, None]), scripted("b", [1.0, None, 1.0, 1.0]), FORM]
    assert kept("intro", tmp_path, rewards, keep=keep)[0] == expected * 2


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1.0, 0.0], [True, True, False, False]),
        ([1.0, -1.0], [True, True, False, False]),
        ([0.0, 0.0], [True, False, False, False]),
    ],
)
def test_what_weighs_nothing_or_is_held_against_one_does_not_decide(tmp_path, weights, expected):
    rewards = [scripted("a", [1.0, 1.0, 0.0, 0.0]), scripted("b", [1.0, None, 1.0, 0.0])]
    assert kept("raft", tmp_path, rewards, reward_weights=weights)[0] == expected * 2


@pytest.mark.parametrize("rewards", [[FORM], [length_reward(2, 300)]])
def test_a_single_reward_decides_whatever_it_is(tmp_path, rewards):
    assert all(kept("intro", tmp_path, rewards, keep_reward=-1.0)[0])


@pytest.mark.parametrize("method", ["intro", "raft"])
@pytest.mark.parametrize("keep", [["verifer"], []])
def test_a_name_that_is_not_there_is_refused(method, keep, tmp_path):
    with pytest.raises(ConfigError, match="verifier"):
        trainer_of(method, tmp_path, [scripted("verifier", [1.0])], keep=keep)


def test_a_function_that_bars_everything_is_named(tmp_path):
    rewards = [scripted("verifier", [1.0, 0.0]), scripted("penalty", [-0.1])]
    with pytest.warns(UserWarning, match="penalty nowhere reached keep_reward=1, and verifier, penalty decide"):
        assert not any(kept("intro", tmp_path, rewards)[0])
    assert kept("intro", tmp_path, rewards, keep=["verifier"])[0] == [True, False] * 4


# ------------------------------------------------------------------------------------------ GRPO


def advantages(values, weights, scale):
    """Group-relative advantages of complete totals, written out; 0 for the others."""
    totals = [None if None in row else sum(w * v for w, v in zip(weights, row, strict=True)) for row in values]
    complete = [total for total in totals if total is not None]
    mean = sum(complete) / len(complete)
    spread = 1.0
    if scale == "group":
        spread = math.sqrt(sum((t - mean) ** 2 for t in complete) / max(len(complete) - 1, 1)) + 1e-4
    return [0.0 if total is None else (total - mean) / spread for total in totals]


@pytest.mark.parametrize("scale", ["group", "none"])
@pytest.mark.parametrize("verdicts", itertools.product([None, 0.0, 1.0], repeat=2))
def test_advantages_compare_complete_totals_only(tmp_path, verdicts, scale):
    first, second = [1.0, *verdicts, 0.0], [0.5, 1.0, None, 0.25]
    weights = [1.0, 0.5]
    trainer = trainer_of(
        "grpo", tmp_path, [scripted("a", first), scripted("b", second)], reward_weights=weights, scale_rewards=scale
    )
    expected = advantages(list(zip(first, second, strict=True)), weights, scale)
    batch = generation_batch(trainer)
    torch.testing.assert_close(batch["advantages"], torch.tensor(expected * 2), rtol=1e-5, atol=1e-6)
    incomplete = [None in pair for pair in zip(first, second, strict=True)]
    assert batch["rewards"].isnan().tolist() == incomplete * 2
    logged = trainer._metrics["train"]["reward"][-1]
    totals = [sum(w * v for w, v in zip(weights, p, strict=True)) for p in zip(first, second) if None not in p]  # noqa: B905
    assert logged == pytest.approx(sum(totals) / len(totals))


def test_an_undecided_reward_without_weight_excludes_nothing(tmp_path):
    rewards = [scripted("a", [1.0, 0.0, 1.0, 0.0]), scripted("seen", [None, 1.0, None, 1.0])]
    batch = generation_batch(trainer_of("grpo", tmp_path, rewards, reward_weights=[1.0, 0.0], scale_rewards="none"))
    torch.testing.assert_close(batch["advantages"], torch.tensor([0.5, -0.5, 0.5, -0.5] * 2))


def test_normalized_rewards_leave_incomplete_rows_out_too(tmp_path):
    rewards = [scripted("a", [1.0, None, 0.0, 1.0]), scripted("b", [0.0, 5.0, 1.0, 0.0])]
    trainer = trainer_of("grpo", tmp_path, rewards, multi_objective_aggregation="normalize_then_sum")
    assert generation_batch(trainer)["advantages"][1::4].tolist() == [0.0, 0.0]


def test_rewards_that_speak_for_some_rows_only_are_told_apart_from_bad_luck(tmp_path):
    trainer = trainer_of("grpo", tmp_path, [scripted("a", [1.0, None]), scripted("b", [None, 1.0])])
    with pytest.warns(UserWarning, match="one function that asks the row"):
        generation_batch(trainer)


# ------------------------------------------------------------------------------------------ hooks


class All(InTROTrainer):
    def keep(self, rewards, batch):
        return torch.ones_like(rewards, dtype=torch.bool)


class AllBySignal(InTROTrainer):
    """`keep` sees what `add_signals` has added."""

    def add_signals(self, rows, batch, rewards):
        batch["wanted"] = torch.tensor([row["question"] != "" for row in rows])

    def keep(self, rewards, batch):
        return batch["wanted"]


@pytest.mark.parametrize("trainer_class", [All, AllBySignal])
def test_the_share_kept_is_what_is_trained(tmp_path, trainer_class):
    keep, trainer = kept("intro", tmp_path, [scripted("v", [0.0, 1.0])], trainer_class=trainer_class, candidates=1)
    assert all(keep)
    batch = generation_batch(trainer)
    assert int(batch["kept_total"]) == len(keep)
    trainer._sums.clear()
    loss_and_gradient(trainer, [batch])
    assert int(trainer._sums["factor/taken"][1]) == int(batch["completion_mask"].sum())


class Signed(RAFTTrainer):
    """Wrong rationales push away: the weight of a rationale is its reward, on -1..1."""

    def keep(self, rewards, batch):
        return ~rewards.isnan()

    def token_weights(self, batch, signals):
        sign = 2 * signals.rewards - 1
        return super().token_weights(batch, signals) * sign[batch.target_rows]


def test_token_weights_may_read_the_rewards_of_their_rows(tmp_path):
    rewards = [scripted("v", [0.0, 1.0, None, 1.0])]
    signed = trainer_of("raft", tmp_path, rewards, trainer_class=Signed)
    batch = generation_batch(signed)
    assert batch["kept"].tolist() == [True, True, False, True] * 2
    _, gradient = loss_and_gradient(signed, [batch])
    # The same by two losses of plain RAFT: what is right, less what is wrong.
    plain = trainer_of("raft", tmp_path, rewards)
    parts = []
    for want in (1.0, 0.0):
        part = {**batch, "kept": batch["rewards"] == want}
        parts.append(loss_and_gradient(plain, [part])[1])
    torch.testing.assert_close(gradient, parts[0] - parts[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("sdpo", "sdft")])  # TRL's keep the sums
def test_each_reward_reaches_every_trainer_by_row(method, tmp_path):
    trainer = trainer_of(method, tmp_path, [scripted("a", [1.0, None]), FORM])
    assert isinstance(trainer, OnlineTrainer)
    found = generation_batch(trainer)["rewards_per_func"]
    assert found.isnan().tolist() == [[False, False], [True, False]] * 4


@pytest.mark.parametrize("method", ["intro", "grpo"])
def test_an_infinite_reward_is_undecided_and_said(method, tmp_path):
    """A group's mean with one in it would be infinite, and every advantage NaN, which TRL makes 0."""
    values = [math.inf, 1.0, 0.0, -math.inf]
    trainer = trainer_of(method, tmp_path, [scripted("verifier", values), FORM])
    with pytest.warns(UserWarning, match="verifier gave 4 infinite rewards"):
        batch = generation_batch(trainer)
    assert batch["rewards"].isnan().tolist() == [True, False, False, True] * 2
    assert batch["advantages"].tolist() == pytest.approx([0, 2**-0.5, -(2**-0.5), 0] * 2, abs=1e-3)


@pytest.mark.parametrize("keep_reward", [math.nan, math.inf, "1", None, True])
def test_what_nothing_can_be_compared_with_is_refused(keep_reward, tmp_path):
    with pytest.raises(ConfigError, match="finite number"):
        trainer_of("raft", tmp_path, [FORM], keep_reward=keep_reward)
    with pytest.raises(ConfigError, match="no reward function is called 3"):
        trainer_of("raft", tmp_path, [FORM], keep=3)


@pytest.mark.parametrize("method", ["intro", "grpo"])
def test_a_log_after_which_nothing_happened_has_no_means(method, tmp_path):
    """The summary that ends a training."""
    trainer = trainer_of(method, tmp_path, [FORM], max_steps=1)
    trainer.train()
    first, summary = trainer.state.log_history
    assert first["rollout/undecided"] == 0.0
    assert "train_runtime" in summary and "flops/train" in summary and "rollout/undecided" not in summary


@pytest.mark.parametrize("told", [None, "", []])
def test_a_told_prompt_that_tells_nothing_is_named(told, tmp_path):
    data = [{**row, "told_prompt": told} for row in rows(8)]
    with pytest.raises(DataError, match=r"told_prompt=.*of the prompt"):
        make_trainer("intro", tmp_path, engine=ScriptedEngine(), data=data, max_steps=1).train()


def test_no_trainer_scores_at_temperature_0(tmp_path):
    with pytest.raises(ConfigError, match=r"^temperature=0.0 for log-probs"):
        make_trainer("raft", tmp_path, engine=ScriptedEngine(), temperature=0.0, max_steps=1).train()

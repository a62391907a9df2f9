from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from ixt_rl.errors import ConfigError, RewardError
from ixt_rl.rewards import GuardedReward, RewardBudget

LOOSE = RewardBudget(max_share=1.0, max_total=100)


def length_or_raise(prompts, completions, answer, log_extra=None, log_metric=None, **kwargs):
    """Raises on the completion "bad", after having logged."""
    if log_extra:
        log_extra("answer", list(answer))
        log_metric("mean", float(len(completions[0])))
    for completion in completions:
        if completion == "bad":
            raise ZeroDivisionError("no such luck")
    return [float(len(completion)) for completion in completions]


def guarded(func, tmp_path, budget=LOOSE):
    return GuardedReward(func, "length", budget, tmp_path / "failures" / "rewards.jsonl")


def test_a_good_reward_passes_through(tmp_path):
    reward = guarded(lambda prompts, completions, **kw: [1, None, 0.5], tmp_path)
    assert reward(prompts=["p"] * 3, completions=["c"] * 3) == [1.0, None, 0.5]
    assert reward.__name__ == "length" and not reward.failures_path.exists()


def test_a_sample_that_raises_is_excluded_counted_and_saved(tmp_path):
    reward = guarded(length_or_raise, tmp_path)
    state = SimpleNamespace(global_step=7)
    out = reward(prompts=["p", "q", "r"], completions=["a", "bad", "ccc"], answer=[1, 2, 3], trainer_state=state)
    assert out == [1.0, None, 3.0]
    assert (reward.failures, reward.samples) == (1, 3)
    (record,) = map(json.loads, reward.failures_path.read_text().splitlines())
    assert record == {
        "reward": "length", "step": 7, "prompt": "q", "completion": "bad",
        "exception": "ZeroDivisionError", "message": "no such luck",
    }  # fmt: skip


def test_a_run_that_goes_on_counts_what_had_failed_before(tmp_path):
    before = guarded(length_or_raise, tmp_path)
    before(prompts=["p", "q"], completions=["bad", "bad"], answer=[1, 2])
    before(prompts=["p"], completions=["bad"], answer=[1])
    after = guarded(length_or_raise, tmp_path, RewardBudget(1.0, 3))
    other = GuardedReward(length_or_raise, "other", LOOSE, after.failures_path)
    for reward in (after, other):
        reward.resume(40)
    assert (after.failures, after.samples, after.last_error) == (3, 40, "ZeroDivisionError: no such luck")
    assert (other.failures, other.samples, other.last_error) == (0, 40, "")
    with pytest.raises(RewardError, match="4 of 41 in all"):  # the budget is the run's, not the process's
        after(prompts=["p"], completions=["bad"], answer=[1])


def test_what_a_failed_attempt_logged_is_not_logged_twice(tmp_path):
    extras, metrics = [], []
    guarded(length_or_raise, tmp_path)(
        prompts=["p"] * 3, completions=["a", "bad", "ccc"], answer=[1, 2, 3],
        log_extra=lambda *args: extras.append(args), log_metric=lambda *args: metrics.append(args),
    )  # fmt: skip
    assert extras == [("answer", [1, None, 3])]
    assert metrics == [("mean", 2.0)]


@pytest.mark.parametrize(
    "returned",
    [[1.0], [1.0, 1.0, 1.0], 1.0, "11", None, [float("nan"), 1.0], [float("inf"), 1.0], [True, 1.0], ["1",
     1.0], {0: 1.0, 1: 1.0}],
)  # fmt: skip
def test_invalid_returns_become_failures_not_numbers(returned, tmp_path):
    reward = guarded(lambda prompts, completions, **kw: returned, tmp_path)
    out = reward(prompts=["p"] * 2, completions=["c"] * 2)
    # One value for two samples is right when called sample by sample, and only then.
    assert out == ([1.0, 1.0] if returned == [1.0] else [None, None])


def test_the_budget_share_stops_the_run(tmp_path):
    reward = guarded(length_or_raise, tmp_path, RewardBudget(max_share=0.25, max_total=100))
    fine = ["a"] * 3
    assert reward(prompts=["p"] * 4, completions=[*fine, "bad"], answer=[0] * 4)[3] is None
    with pytest.raises(RewardError) as error:
        reward(prompts=["p"] * 4, completions=["a", "a", "bad", "bad"], answer=[0] * 4)
    text = str(error.value)
    for part in ("'length'", "2 of 4", "3 of 8", "ZeroDivisionError: no such luck", str(reward.failures_path)):
        assert part in text
    assert len(reward.failures_path.read_text().splitlines()) == 3


def test_the_budget_total_stops_the_run(tmp_path):
    reward = guarded(length_or_raise, tmp_path, RewardBudget(max_share=1.0, max_total=2))
    for _ in range(2):
        assert reward(prompts=["p"], completions=["bad"], answer=[0]) == [None]
    with pytest.raises(RewardError, match="3 of 3 in all"):
        reward(prompts=["p"], completions=["bad"], answer=[0])
    with pytest.raises(ConfigError):
        RewardBudget(max_share=1.5)


def test_an_interrupt_is_no_failed_sample(tmp_path):
    def interrupted(prompts, completions, **kwargs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(interrupted, tmp_path)(prompts=["p"], completions=["c"])

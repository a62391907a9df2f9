"""Errors of rewards within a budget: undecided, counted, kept; beyond it the run ends."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
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


def test_the_budget_is_of_the_batch_of_all_ranks_and_one_rank_writes(tmp_path):
    said = [(6, [], "")]  # of rank 0, where nothing fails

    def of_all(own):
        return [*said, own]

    path = tmp_path / "failures.jsonl"
    second = GuardedReward(length_or_raise, "length", RewardBudget(0.25, 9), path, of_all=of_all, writes=False)
    second(prompts=["p"] * 2, completions=["bad", "a"], answer=[1, 2])  # one of eight; of its own, a half
    assert (second.failures, second.samples, path.exists()) == (1, 8, False)
    first = GuardedReward(length_or_raise, "length", RewardBudget(0.25, 9), path, of_all=lambda own: [own, other])
    other = (2, [{"completion": "bad"}] * 2, "ZeroDivisionError: on rank 1")
    with pytest.raises(RewardError, match=r"failed on 2 of 4 samples(.|\n)*on rank 1(.|\n)*failures\.jsonl"):
        first(prompts=["p"] * 2, completions=["a", "a"], answer=[1, 2])
    assert len(path.read_text().splitlines()) == 2


def test_a_run_that_goes_on_counts_what_had_failed_before(tmp_path):
    before = guarded(length_or_raise, tmp_path)
    before(prompts=["p"] * 38, completions=["a"] * 38, answer=[1] * 38)
    before(prompts=["p", "q"], completions=["bad", "bad"], answer=[1, 2])
    after = guarded(length_or_raise, tmp_path, RewardBudget(1.0, 2))
    after.load_state_dict(before.state_dict())
    assert (after.failures, after.samples, after.last_error) == (2, 40, "ZeroDivisionError: no such luck")
    with pytest.raises(RewardError, match="3 of 41 in all"):  # the budget is the run's, not the process's
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


def late(prompts, completions, **kwargs):
    """Never comes back for the completion "late"."""
    for completion in completions:
        if completion == "late":
            time.sleep(3600)
    return [1.0] * len(completions)


def busy(prompts, completions, **kwargs):
    while "late" in completions:
        with contextlib.suppress(Exception):
            sum(range(1000))
    return [1.0] * len(completions)


def waiting(prompts, completions, **kwargs):
    if "late" in completions:
        queue.Queue().get()
    return [1.0] * len(completions)


def stubborn(prompts, completions, **kwargs):
    """Catches everything once."""
    if "late" in completions:
        with contextlib.suppress(BaseException):
            time.sleep(3600)
        time.sleep(3600)
    return [1.0] * len(completions)


@pytest.mark.parametrize("function", [late, busy, waiting, stubborn])
def test_a_sample_that_takes_too_long_costs_itself_alone(function, tmp_path):
    reward = GuardedReward(function, "slow", LOOSE, tmp_path / "failures.jsonl", deadline_s=0.4)
    started = time.monotonic()
    out = reward(prompts=list("abcd"), completions=["x", "late", "y", "z"])
    assert out == [1.0, None, 1.0, 1.0]
    assert 0.4 < time.monotonic() - started < 20
    (record,) = map(json.loads, reward.failures_path.read_text().splitlines())
    assert (record["completion"], record["exception"]) == ("late", "TimeoutError")
    assert record["message"].startswith("no answer within its deadline of ")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reward")]
    assert signal.getsignal(signal.SIGURG) == signal.SIG_DFL


def test_in_another_thread_it_is_stopped_waiting_for(tmp_path):
    release = threading.Event()

    def held(prompts, completions, **kwargs):
        if "late" in completions:
            release.wait(60)
        return [1.0] * len(completions)

    reward = GuardedReward(held, "slow", LOOSE, tmp_path / "failures.jsonl", deadline_s=0.4)
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(reward, prompts=["p", "q"], completions=["late", "x"]).result(30) == [None, 1.0]
    release.set()


def test_late_samples_are_limited_by_the_budget(tmp_path):
    reward = GuardedReward(late, "slow", RewardBudget(0.5, 100), tmp_path / "failures.jsonl", deadline_s=0.2)
    with pytest.raises(RewardError, match="no answer within its deadline"):
        reward(prompts=["p", "q"], completions=["late", "late"])


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_deadline_is_a_number_of_seconds(seconds, tmp_path):
    with pytest.raises(ConfigError, match="deadline_s"):
        GuardedReward(late, "slow", LOOSE, tmp_path / "failures.jsonl", deadline_s=seconds)


def test_a_reward_that_exits_costs_a_sample(tmp_path):
    def exits(prompts, completions, **kwargs):
        if "bad" in completions:
            sys.exit(2)
        return [1.0] * len(completions)

    reward = guarded(exits, tmp_path)
    assert reward(prompts=["p", "q"], completions=["bad", "x"]) == [None, 1.0]
    assert reward.last_error == "RuntimeError: SystemExit(2): a reward must not end the process"


@pytest.mark.parametrize("stops", [KeyboardInterrupt, SystemExit])
def test_a_signal_in_the_midst_of_a_reward_ends_the_process(stops, tmp_path):
    def handler(number, frame):
        raise stops

    def killed(prompts, completions, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(stops):
            guarded(killed, tmp_path)(prompts=["p", "q"], completions=["x", "y"])
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ctrl_c_of_a_reward_goes_through(tmp_path):
    def interrupted(prompts, completions, **kwargs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(interrupted, tmp_path)(prompts=["p"], completions=["x"])


def test_no_key_is_saved(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "sk-very-secret")

    def leaks(prompts, completions, **kwargs):
        raise RuntimeError("401 for sk-very-secret at https://me:word@host/v1")

    reward = guarded(leaks, tmp_path)
    reward(prompts=["p"], completions=["x"])
    for text in (reward.failures_path.read_text(), reward.last_error):
        assert "secret" not in text and "word" not in text and "401 for [hidden]" in text

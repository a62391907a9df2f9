"""Answers that hang, crash or exhaust a naive checker: each ends in time, and none is accepted."""

from __future__ import annotations

import threading
import time

import pytest

from ixt_rl.rewards import MathReward, verify

HOSTILE = [
    r"\int_0^1 \sin(\sin(\sin(x^x))) dx", r"\sum_{k=1}^{10000000} \frac{1}{k}", r"\prod_{k=1}^{100000} k",
    "9^{9^{9^9}}",
    "10^{10^{10}}", "2^{2^{2^{2^{2^2}}}}", "2^" * 300 + "1", "x" * 10**6, "1" * 10**6, "{" * 10**5,
    "}" * 1000, "(((5", "5)))",
    r"\frac{" * 500 + "1" + "}{2}" * 500, r"\frac{" * 20 + "1" + "}{2}" * 20, r"\sqrt{" * 30 + "2" + "}" * 30,
    r"\log_" * 300,
    "NaN", "nan", "inf", r"-\infty", "(10^9)!", "100000000000!", "5" + "!" * 900, "-" * 1000 + "5",
    "1*" * 900 + "1", "|" * 500,
    "1" + "+1" * 900, "a b " * 480, "A, " * 600 + "A", "1," * 900 + "2", r"\pm " * 400, "1/0", "0^0",
    r"\frac{1}{0}", "5^", "_",
    "\\", "$", "", "   ", "5\x00", "\ud800", r"\tan(10^{50})", r"(1+10^{-5})^{10^{15}}", r"\binom{10^9}{10^8}",
    r"(((x+1)^{50}+1)^{50}+1)^{50}", r"\lim_{n\to\infty} (1+1/n)^n",
]  # fmt: skip


@pytest.mark.slow
def test_a_hostile_batch_ends_in_time_and_off_the_main_thread():
    reward = MathReward(deadline_s=2.0, workers=2, extract="last_box")
    verify(r"\sqrt{2}", r"2^{1/2}")  # both workers' imports are not what is timed
    out: list[float | None] = []
    completions = [rf"\boxed{{{hostile}}}" for hostile in HOSTILE]

    def call() -> None:
        out.extend(reward([""] * len(completions), completions, answer=[r"\sqrt{2}"] * len(completions)))

    thread = threading.Thread(target=call)
    start = time.perf_counter()
    thread.start()
    thread.join(60)
    assert not thread.is_alive() and len(out) == len(completions)
    assert 1.0 not in out
    assert time.perf_counter() - start < 60
    assert reward.counts["undecided"] > 10
    assert reward([""], [r"\boxed{2^{1/2}}"], answer=[r"\sqrt{2}"]) == [1.0]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_answers_one_by_one_keep_their_deadline(hostile):
    for gold in ("5", "x^2+1", r"\text{even}"):
        start = time.perf_counter()
        verdict = verify(hostile, gold)
        # the default deadline is 5 s; a worker that was killed before is started again outside of it
        assert time.perf_counter() - start < 15
        assert verdict.label in ("wrong", "undecided") and verdict.seconds < 6

"""What is too large is refused before any work, whatever the gold, and does not hold up the rest of a batch."""

from __future__ import annotations

import threading
import time

import pytest

from ixt_rl.rewards import MathReward, verify

TOO_MUCH = [
    "x" * 3000, "1" * 1500, "(" * 60 + "5" + ")" * 60, "2^2^2^2^2", "-" * 200 + "5", "1" + "+1" * 900, "x " * 480,
    "A, " * 600 + "A", r"\pm " * 100 + "1", "|" * 100, r"\sqrt{" * 45 + "2" + "}" * 45,
]  # fmt: skip
NO_VALUE = [
    "1/0",
    "0^0",
    r"\frac{1}{0}",
    "5^",
    "_",
    "\\",
    "$",
    "",
    "   ",
    "5\x00",
    "\ud800",
    "NaN",
    "nan",
    "(((5",
    "5)))",
]


@pytest.mark.parametrize("text", TOO_MUCH + NO_VALUE)
def test_odd_answers_end_at_once_and_are_not_right(text):
    for gold in ("5", "x^2+1", r"\text{even}"):
        start = time.perf_counter()
        verdict = verify(text, gold)
        assert verdict.label in ("wrong", "undecided")
        assert time.perf_counter() - start < 15  # a worker may have to start


def test_a_batch_of_them_ends_off_the_main_thread():
    reward = MathReward(workers=1, extract="boxed")
    out: list[float | None] = []
    completions = [rf"\boxed{{{text}}}" for text in TOO_MUCH]

    def call() -> None:
        out.extend(reward([""] * len(completions), completions, answer=[r"\sqrt{2}"] * len(completions)))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(60)
    assert not thread.is_alive() and len(out) == len(completions) and 1.0 not in out
    assert reward([""], [r"\boxed{2^{1/2}}"], answer=[r"\sqrt{2}"]) == [1.0]

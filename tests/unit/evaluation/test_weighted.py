"""Means over tokens: the ratio's interval against closed forms and draws."""

from __future__ import annotations

import numpy as np
import pytest

from ixt_rl.evaluation.statistics import estimate, mean_per_token
from ixt_rl.evaluation.statistics.means import mean_value

RNG = np.random.default_rng(3)


def test_of_one_length_it_is_the_mean_of_what_a_token_has():
    nats = RNG.normal(4, 1, 20)
    found, alone = mean_per_token(nats, np.full(20, 8)), mean_value(nats / 8)
    assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_clusters_of_one_length_are_those_of_the_estimate():
    nats, names = RNG.normal(4, 1, 24), [f"d{i % 6}" for i in range(24)]
    found, expected = mean_per_token(nats, np.ones(24), names), estimate(nats, names)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_its_error_is_that_of_draws():
    """Longer texts with another loss: 95 % of the intervals hold the ratio of the expectations."""
    held = 0
    for _ in range(400):
        tokens = RNG.integers(2, 60, 50)
        nats = tokens * (1 + 0.03 * tokens) + RNG.normal(0, np.sqrt(tokens))
        found = mean_per_token(nats, tokens)
        lengths = np.arange(2, 60)
        truth = (lengths * (1 + 0.03 * lengths)).mean() / lengths.mean()
        assert found.low is not None and found.high is not None
        held += found.low <= truth <= found.high
    assert 0.91 <= held / 400 <= 0.98


def test_one_cluster_has_no_interval():
    found = mean_per_token(np.array([4.0, 6.0]), np.array([2, 3]), ["a", "a"])
    assert (found.value, found.low, found.high) == (2.0, None, None)

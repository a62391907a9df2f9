"""Clustered moments against matrices, intervals against their own formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ixt_rl.evaluation.statistics import average, estimate
from ixt_rl.evaluation.statistics.clustered import clusters_of, moments
from ixt_rl.evaluation.statistics.intervals import bootstrap, wilson

SIZES = (1, 4, 2, 7, 3, 3)
NAMES = [f"c{g}" for g, size in enumerate(SIZES) for _ in range(size)]


def shuffled(seed=0):
    order = np.random.default_rng(seed).permutation(len(NAMES))
    values = np.random.default_rng(seed + 1).random(len(NAMES))
    return values, [NAMES[i] for i in order]


def test_the_variance_is_cr2_of_a_regression_on_a_constant():
    """E_g' (I - H_gg)^(-1/2), summed, squared, as the textbook has it, by matrices."""
    values, names = shuffled()
    count = len(values)
    hat = np.full((count, count), 1 / count)
    residuals = values - values.mean()
    total = 0.0
    for name in set(names):
        at = [i for i, other in enumerate(names) if other == name]
        eigen, vectors = np.linalg.eigh(np.eye(len(at)) - hat[np.ix_(at, at)])
        root = vectors @ np.diag(eigen**-0.5) @ vectors.T
        total += float(np.ones(len(at)) @ root @ residuals[at]) ** 2
    found = moments(values, clusters_of(names, count))
    assert found.mean == pytest.approx(values.mean())
    assert found.variance == pytest.approx(total / count**2)


def test_the_degrees_of_freedom_are_bell_and_mccaffreys():
    """Mean and variance of the variance estimate for independent normal values: 2 mean^2 / var, by matrices."""
    names = NAMES
    count = len(names)
    centre = np.eye(count) - 1 / count
    form = np.zeros((count, count))
    for name in set(names):
        one = np.array([float(other == name) for other in names])
        off = one @ centre
        form += np.outer(off, off) / (1 - one.sum() / count)
    found = moments(np.zeros(count), clusters_of(names, count))
    assert found.freedom == pytest.approx(np.trace(form) ** 2 / np.trace(form @ form))


def test_questions_of_their_own_have_the_usual_standard_error():
    values = np.random.default_rng(3).random(11)
    for names in (None, [str(i) for i in range(11)]):
        found = moments(values, clusters_of(names, 11))
        assert found.variance == pytest.approx(values.var(ddof=1) / 11)
        assert found.freedom == pytest.approx(10)


def test_many_tables_at_once_are_the_same_as_one_by_one():
    values = np.random.default_rng(4).random((3, len(NAMES)))
    clusters = clusters_of(NAMES, len(NAMES))
    found = moments(values, clusters)
    for row in range(3):
        assert found.variance[row] == pytest.approx(moments(values[row], clusters).variance)


def test_single_answers_have_wilsons_interval():
    values = np.array([1.0] * 27 + [0.0] * 3)
    found = estimate(values)
    z, p, n = 1.959963985, 0.9, 30
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found.low == pytest.approx((p + z * z / (2 * n) - half) / (1 + z * z / n))
    assert found.high == pytest.approx((p + z * z / (2 * n) + half) / (1 + z * z / n))
    assert found.standard_error == pytest.approx(math.sqrt(p * (1 - p) / 29))


def test_all_right_is_not_certain():
    found = estimate(np.ones(30))
    assert (found.value, found.standard_error) == (1, 0)
    assert found.low == pytest.approx(30 / (30 + 1.959963985**2))
    assert found.high == 1
    by_cluster = estimate(np.ones(30), ["a"] * 10 + ["b"] * 10 + ["c"] * 10)
    assert by_cluster.low < found.low


def test_alike_questions_of_a_cluster_widen_the_interval():
    values = np.repeat(np.random.default_rng(5).integers(0, 2, 20).astype(float), 5)
    alone, together = estimate(values), estimate(values, [str(i // 5) for i in range(100)])
    assert together.standard_error > 2 * alone.standard_error
    assert together.low < alone.low < alone.high < together.high
    assert together.clusters == 20


def test_values_that_are_missing_are_left_out():
    values = np.array([1, math.nan, 0, 1, math.nan, 0.5])
    found = estimate(values, ["a", "a", "b", "c", "d", "c"])
    assert found.value == pytest.approx(2.5 / 4)
    assert (found.questions, found.clusters) == (4, 3)
    nothing = estimate(np.array([math.nan]))
    assert (nothing.value, nothing.low, nothing.questions) == (None, None, 0)


def test_values_without_bounds_have_students_interval():
    """A reward of one's own: [-1, 2.5, 0.3, 1], t of 3 degrees of freedom; nothing shows how much alike ones vary."""
    found = estimate(np.array([-1.0, 2.5, 0.3, 1.0, math.nan]))
    half = 3.182446 * np.std([-1.0, 2.5, 0.3, 1.0], ddof=1) / 2
    assert (found.low, found.high) == (pytest.approx(0.7 - half), pytest.approx(0.7 + half))
    assert found.method == "Student"
    alike = estimate(np.array([-1.0, -1.0, -1.0]))
    assert (alike.value, alike.low, alike.high) == (-1.0, None, None)


def test_one_cluster_has_a_value_and_no_interval():
    found = estimate(np.array([1.0, 0.0]), ["a", "a"])
    assert (found.value, found.low, found.standard_error) == (0.5, None, None)
    assert "one cluster" in found.method
    assert "one question" in estimate(np.array([1.0])).method


def test_the_bootstrap_of_single_answers_is_binomial():
    """Its percentiles are those of Binomial(n, p) / n, at the levels of the wider t-interval."""
    values = np.array([1.0] * 12 + [0.0] * 28)
    low, high = bootstrap(values, clusters_of(None, 40), resamples=40_000)
    t = 2.0227 * math.sqrt(40 / 39)  # 39 degrees of freedom
    below = 0.5 * math.erfc(t / math.sqrt(2))
    cumulated = np.cumsum([math.comb(40, i) * 0.3**i * 0.7 ** (40 - i) for i in range(41)])
    assert low == np.searchsorted(cumulated, below) / 40
    assert high == np.searchsorted(cumulated, 1 - below) / 40


def test_the_bootstrap_takes_whole_clusters():
    values, names = np.repeat([0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0], 25), [str(i // 25) for i in range(200)]
    alone, together = bootstrap(values, clusters_of(None, 200)), bootstrap(values, clusters_of(names, 200))
    assert together[1] - together[0] > 3 * (alone[1] - alone[0])
    assert bootstrap(values, clusters_of(names, 200)) == together  # seeded


def test_an_average_of_suites_adds_squares():
    one, other = estimate(np.array([1.0] * 20 + [0.0] * 10)), estimate(np.array([1.0] * 40 + [0.0] * 60))
    both = average([one, other])
    assert both.value == pytest.approx((2 / 3 + 0.4) / 2)
    assert both.value - both.low == pytest.approx(math.hypot(one.value - one.low, other.value - other.low) / 2)
    assert both.standard_error == pytest.approx(math.hypot(one.standard_error, other.standard_error) / 2)
    assert average([one, estimate(np.array([1.0]))]).low is None
    assert average([one, estimate(np.array([math.nan]))]).value is None


def test_an_interval_stays_within_0_and_1():
    values = np.random.default_rng(6).binomial(4, 0.97, size=(200, 12)) / 4
    clusters = clusters_of(None, 12)
    low, high = wilson(moments(values, clusters), values, clusters)
    assert (low >= 0).all() and (high <= 1).all() and (low < high).all()


@pytest.mark.parametrize("value", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("clusters", [None, list("aabbccdd")])
def test_values_that_are_all_alike_have_an_interval(value, clusters):
    """Eight questions of avg@4 0.5 each, or clusters of one sum: that is no certainty."""
    found = estimate(np.full(8, value), clusters)
    assert found.low <= value <= found.high and found.high - found.low > 0.1
    mixed = estimate(np.array([1.0, 0.0] * 4), list("aabbccdd"))
    assert mixed.low < 0.3 and mixed.high > 0.7

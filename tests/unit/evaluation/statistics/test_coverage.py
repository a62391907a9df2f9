"""Coverage of the intervals at 95 %, over 10,000 drawn evaluations each.

A question's probability of being solved is Beta, with mean `accuracy` and a + b = 1: most are easy or hard, as of real
suites. The estimand is the mean over the population that questions, or clusters, are drawn from.
"""

from __future__ import annotations

import numpy as np
import pytest

from ixt_rl.evaluation.statistics import VerdictTable, average, avg_at_k, estimate, questions_needed
from ixt_rl.evaluation.statistics.clustered import Clusters, clusters_of, moments
from ixt_rl.evaluation.statistics.intervals import bootstrap, wilson
from ixt_rl.evaluation.statistics.paired import difference_moments, paired_values
from ixt_rl.evaluation.statistics.quantiles import t_quantile

DRAWN = 10_000
REACHED = (0.93, 0.97)
WIDER = (0.93, 1.0)
"""Where data show too little of their own variance, the interval is wide on purpose."""

MINERVA = (24, 35, 20, 50, 12, 41, 30, 8, 52)
"""Nine clusters of unequal size, 272 questions."""


def difficulties(generator, accuracy, shape, spread=1.0):
    return generator.beta(accuracy * spread, (1 - accuracy) * spread, size=shape)


def shares(generator, solved, k):
    return generator.binomial(k, solved) / k


def covered(values: np.ndarray, clusters: Clusters, truth: float) -> float:
    low, high = wilson(moments(values, clusters), values, clusters)
    return float(((low <= truth) & (truth <= high)).mean())


def single(questions: int, k: int, accuracy: float, spread: float = 1.0) -> float:
    generator = np.random.default_rng(questions * 100 + k)
    shape = (DRAWN, questions)
    solved = accuracy if k == 1 else difficulties(generator, accuracy, shape, spread)
    values = generator.binomial(k, solved, size=shape) / k
    return covered(values, clusters_of(None, questions), accuracy)


EXTREME = [(0.05, REACHED), (0.5, REACHED), (0.95, REACHED)]


@pytest.mark.parametrize(("accuracy", "bounds"), EXTREME)
@pytest.mark.parametrize("k", [1, 4, pytest.param(32, marks=pytest.mark.slow)])
@pytest.mark.parametrize("questions", [30, 100, pytest.param(500, marks=pytest.mark.slow)])
def test_of_one_suite(questions, k, accuracy, bounds):
    wide = WIDER if questions == 30 and k > 1 and accuracy != 0.5 else bounds
    assert wide[0] <= single(questions, k, accuracy) <= wide[1]


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.4, 3.0, 1e6])
@pytest.mark.parametrize("accuracy", [0.05, 0.2, 0.5, 0.9])
def test_of_one_suite_whatever_the_difficulties(accuracy, spread):
    assert WIDER[0] <= single(30, 4, accuracy, spread) <= WIDER[1]
    assert REACHED[0] <= single(100, 32, accuracy, spread) <= REACHED[1]


def clustered(sizes, k, accuracy, alike):
    """Values of questions whose clusters' mean difficulty is Beta with intra-cluster correlation `alike`."""
    generator = np.random.default_rng(sum(sizes) + k)
    of_cluster = difficulties(generator, accuracy, (DRAWN, len(sizes)), 1 / alike - 1)
    of_question = np.repeat(np.clip(of_cluster, 1e-9, 1 - 1e-9), sizes, axis=1)
    solved = of_question if k == 1 else generator.beta(of_question, 1 - of_question)
    names = [f"c{g}" for g, size in enumerate(sizes) for _ in range(size)]
    return covered(shares(generator, solved, k), clusters_of(names, sum(sizes)), accuracy)


@pytest.mark.parametrize("alike", [0.02, 0.1, 0.3])
def test_of_few_clusters(alike):
    assert REACHED[0] <= clustered(MINERVA, 1, 0.5, alike) <= REACHED[1]
    assert WIDER[0] <= clustered(MINERVA, 1, 0.95, alike) <= WIDER[1]


@pytest.mark.parametrize("alike", [0.02, 0.3])
@pytest.mark.parametrize("accuracy", [0.05, 0.5])
def test_of_many_clusters(accuracy, alike):
    assert REACHED[0] <= clustered((3,) * 100, 1, accuracy, alike) <= REACHED[1]


@pytest.mark.slow
@pytest.mark.parametrize("alike", [0.02, 0.3])
@pytest.mark.parametrize(("sizes", "k"), [((20,) * 6, 1), ((20,) * 18, 4)], ids=["6", "18"])
def test_of_some_clusters(sizes, k, alike):
    assert REACHED[0] <= clustered(sizes, k, 0.5, alike) <= REACHED[1]
    for accuracy in (0.05, 0.2, 0.95):
        assert WIDER[0] <= clustered(sizes, k, accuracy, alike) <= WIDER[1]


def pair(questions, k, accuracy, shift, sizes=None, spread=1.0):
    """Coverage of the difference of two models that find the same questions hard, but for three of ten."""
    generator = np.random.default_rng(questions + k)
    shape = (DRAWN, questions)
    one = np.clip(difficulties(generator, accuracy, shape, spread), 1e-9, 1 - 1e-9)
    if sizes is not None:
        one = np.repeat(one[:, : len(sizes)], sizes, axis=1)
    other = np.where(generator.random(shape) < 0.7, one, difficulties(generator, accuracy + shift, shape, spread))
    d = shares(generator, one, k) - shares(generator, other, k)
    names = None if sizes is None else [f"c{g}" for g, size in enumerate(sizes) for _ in range(size)]
    middle, error, freedom = difference_moments(d, clusters_of(names, questions))
    return float((np.abs(middle + 0.3 * shift) <= t_quantile(0.975, freedom) * error).mean())


@pytest.mark.parametrize("k", [1, 4, pytest.param(32, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("questions", "shift"), [(30, 0.0), (30, 0.1), pytest.param(100, -0.2, marks=pytest.mark.slow)]
)
def test_of_a_paired_difference(questions, k, shift):
    assert REACHED[0] <= pair(questions, k, 0.5, shift) <= REACHED[1]


@pytest.mark.parametrize("k", [1, 32])
def test_of_a_paired_difference_of_nearly_perfect_models(k):
    assert WIDER[0] <= pair(30, k, 0.95, 0.0) <= WIDER[1]
    assert WIDER[0] <= pair(30, k, 0.95, -0.05) <= WIDER[1]
    assert WIDER[0] <= pair(100, k, 0.05, 0.03) <= WIDER[1]


@pytest.mark.parametrize("sizes", [pytest.param(MINERVA, marks=pytest.mark.slow), (2,) * 30], ids=len)
def test_of_a_paired_difference_in_clusters(sizes):
    assert REACHED[0] <= pair(sum(sizes), 4, 0.5, 0.1, sizes) <= REACHED[1]


def test_of_an_average_of_suites():
    """30 questions at 0.2 and 100 at 0.6, by 1,000 averages of `estimate`."""
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        suites = [
            shares(generator, difficulties(generator, accuracy, count), 8)
            for count, accuracy in ((30, 0.2), (100, 0.6))
        ]
        found = average([_quick(values) for values in suites])
        inside += found.low <= 0.4 <= found.high
    assert REACHED[0] <= inside / 1000 <= REACHED[1]


def test_of_the_bootstrap():
    """Percentiles need more questions: 500 suites of 100 at 0.7."""
    generator = np.random.default_rng(1)
    inside = 0
    clusters = clusters_of(None, 100)
    for _ in range(500):
        values = shares(generator, difficulties(generator, 0.7, 100), 4)
        low, high = bootstrap(values, clusters, resamples=1000, seed=int(generator.integers(2**31)))
        inside += low <= 0.7 <= high
    assert 0.92 <= inside / 500 <= 0.98


@pytest.mark.parametrize(("difference", "k"), [(0.1, 1), (0.08, 8)])
def test_so_many_questions_find_the_difference_in_four_of_five_evaluations(difference, k):
    """`questions_needed` of the true deviation; the t-test of `paired_values` on 2,500 drawn pairs of that size."""
    generator = np.random.default_rng(2)

    def drawn(shape):
        one = difficulties(generator, 0.5, shape)
        other = np.where(generator.random(shape) < 0.5, one, difficulties(generator, 0.5 - 2 * difference, shape))
        return shares(generator, one, k) - shares(generator, other, k)

    needed = questions_needed(difference, float(drawn((1, 200_000)).std()))
    middle, error, freedom = difference_moments(drawn((2500, needed)), clusters_of(None, needed))
    found = (np.abs(middle) > t_quantile(0.975, freedom) * error).mean()
    assert found == pytest.approx(0.8, abs=0.03)


def test_a_pilot_says_how_many_are_needed():
    """From a table of 200 questions, within a quarter of what the true deviation says."""
    generator = np.random.default_rng(3)
    one = difficulties(generator, 0.6, 200)
    a, b = shares(generator, one, 4), shares(generator, one, 4)
    found = paired_values(a, b)
    assert found.deviation == pytest.approx(np.sqrt(2 * (one * (1 - one)).mean() / 4), rel=0.15)
    truth = questions_needed(found.difference, found.deviation)
    assert found.questions_needed() == truth


def _quick(values):
    """`estimate` without its bootstrap, which an average does not read."""
    import ixt_rl.evaluation.statistics.intervals as intervals

    real, intervals.bootstrap = intervals.bootstrap, lambda *_: (0.0, 1.0)
    try:
        return estimate(values)
    finally:
        intervals.bootstrap = real


def test_the_arrays_of_these_simulations_are_what_a_table_gives():
    scores = np.random.default_rng(4).integers(0, 2, (30, 4)).astype(float)
    table = VerdictTable([str(i) for i in range(30)], None, scores, np.zeros((30, 4)), [["x"] * 4] * 30)
    values = avg_at_k(table)
    clusters = clusters_of(None, 30)
    low, high = wilson(moments(values, clusters), values, clusters)
    found = estimate(values)
    assert (found.low, found.high) == (low, high)

"""Paired differences, tests and their corrections, against enumeration and definitions."""

from __future__ import annotations

import math
import sys
from itertools import product

import numpy as np
import pytest

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.statistics import (
    VerdictTable,
    benjamini_hochberg,
    holm,
    paired,
    paired_values,
    questions_needed,
)
from ixt_rl.evaluation.statistics.paired import sign_flip_test, sign_test
from ixt_rl.evaluation.statistics.quantiles import t_quantile


def table(scores, ids=None, clusters=None):
    scores = np.array(scores, float)
    ids = ids or [f"q{i}" for i in range(len(scores))]
    return VerdictTable(ids, clusters, scores, np.zeros(scores.shape, bool), [["x"] * scores.shape[1]] * len(scores))


def test_many_differences_have_the_plain_t_interval():
    a, b = np.array([1.0] * 9 + [0.0] * 4 + [1.0] * 27), np.array([0.0] * 9 + [1.0] * 4 + [1.0] * 27)
    found = paired_values(a, b)
    error = (a - b).std(ddof=1) / math.sqrt(40)
    assert found.difference == pytest.approx(5 / 40)
    assert found.standard_error == pytest.approx(error)
    assert found.low == pytest.approx(5 / 40 - t_quantile(0.975, 39) * error)
    assert found.high == pytest.approx(5 / 40 + t_quantile(0.975, 39) * error)
    assert (found.better, found.worse, found.equal) == (9, 4, 27)


def test_no_difference_has_bonett_and_prices_interval():
    """(0 + 1) and (0 + 1) of n + 2, with a t quantile and n + 1 in the place of z and n + 2."""
    found = paired_values(np.ones(40), np.ones(40))
    assert found.high == pytest.approx(t_quantile(0.975, 39) * math.sqrt(2 / 42 / 41))
    fewer = [paired_values(np.ones(40), np.array([0.0] * n + [1.0] * (40 - n))) for n in range(1, 7)]
    assert all(one.low < 0 < one.high for one in fewer[:4])
    assert fewer[5].low > 0  # 6 of 40 are worse, none better


def test_what_both_find_hard_cancels():
    generator = np.random.default_rng(0)
    hard = generator.beta(0.5, 0.5, 300)
    a, b = (generator.binomial(32, hard) / 32 for _ in range(2))
    found = paired_values(a, b)
    assert found.correlation > 0.9
    assert found.standard_error < 0.3 * math.sqrt(a.var() / 300 + b.var() / 300)
    assert found.low < found.difference < found.high


def test_questions_are_matched_by_id():
    a = table([[1], [0], [1], [1]], ["a", "b", "c", "d"])
    b = table([[1], [1], [0], [math.nan]], ["c", "b", "e", "a"])
    found = paired(a, b)
    assert (found.questions, found.left_out) == (2, 2 + 1)  # b and c; d and e apart, a undecided
    assert found.difference == pytest.approx(-0.5)
    assert (found.better, found.worse, found.equal) == (0, 1, 1)
    assert paired(a.as_wrong(), b.as_wrong()).questions == 3
    with pytest.raises(DataError, match="no question in common"):
        paired(a, table([[1]], ["z"]))


def test_swapped_sides_are_mirrored():
    generator = np.random.default_rng(1)
    a, b = table(generator.integers(0, 2, (40, 3))), table(generator.integers(0, 2, (40, 3)))
    one, other = paired(a, b), paired(b, a)
    assert one.difference == -other.difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert (one.p_value, one.p_permutation, one.p_sign) == pytest.approx(
        (other.p_value, other.p_permutation, other.p_sign)
    )


def test_interval_and_p_value_agree():
    for shift in (0.0, 0.1, 0.2, 0.3):
        generator = np.random.default_rng(2)
        a, b = generator.binomial(4, 0.5 + shift, 60) / 4, generator.binomial(4, 0.5, 60) / 4
        found = paired_values(a, b)
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)


def test_no_difference_seen_is_not_certainty():
    found = paired_values(np.ones(30), np.ones(30))
    assert found.difference == 0
    assert found.high == -found.low > 0.05
    assert (found.p_value, found.p_permutation, found.p_sign) == (1, 1, 1)
    assert found.questions_needed() is None
    assert found.correlation is None


def test_clusters_widen_a_difference():
    generator = np.random.default_rng(3)
    d = np.repeat(generator.normal(0.1, 0.2, 20), 10)
    a, b = 0.5 + d / 2, 0.5 - d / 2
    names = [str(i // 10) for i in range(200)]
    alone, together = paired_values(a, b), paired_values(a, b, names)
    assert together.design_effect == pytest.approx(10, rel=0.1)
    assert together.standard_error > 2.5 * alone.standard_error
    assert together.questions_needed() > 8 * alone.questions_needed()
    assert together.p_permutation == pytest.approx(together.p_value, abs=0.03)
    assert paired_values(a, b, ["one"] * 200).low is None


@pytest.mark.parametrize("seed", range(6))
def test_the_permutation_test_counts_all_signs(seed):
    sums = np.random.default_rng(seed).integers(-3, 4, 8).astype(float)
    reached = [
        abs(sum(s * x for s, x in zip(signs, sums, strict=True))) >= abs(sums.sum())
        for signs in product((1, -1), repeat=8)
    ]
    assert sign_flip_test(sums) == pytest.approx(np.mean(reached))


def test_drawn_signs_come_near_the_counted_ones(monkeypatch):
    sums = np.random.default_rng(7).normal(0.5, 1, 11)
    exact = sign_flip_test(sums)
    monkeypatch.setattr(sys.modules[sign_flip_test.__module__], "EXACT_CLUSTERS", 4)
    assert sign_flip_test(sums) == pytest.approx(exact, abs=0.02)
    assert sign_flip_test(sums) == sign_flip_test(sums)


def test_the_sign_test_is_binomial():
    assert sign_test(0, 0) == 1
    assert sign_test(5, 0) == pytest.approx(2 / 32)
    assert sign_test(2, 8) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert sign_test(4, 4) == 1


def test_holm_and_benjamini_hochberg_by_their_definitions():
    p = [0.01, 0.04, 0.03, 0.005, 0.55]
    assert holm(p) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.55])
    assert benjamini_hochberg(p) == pytest.approx([0.025, 0.05, 0.05, 0.025, 0.55])
    assert holm([]) == benjamini_hochberg([]) == []
    assert holm([0.9, 0.8]) == [1, 1]
    with pytest.raises(DataError, match=r"1\.5"):
        holm([0.1, 1.5])


def test_errors_are_controlled_as_promised():
    """Of 2,000 families of 20 true and 5 false hypotheses: any false finding by Holm, their share by BH."""
    generator = np.random.default_rng(8)
    family, share = [], []
    for _ in range(2000):
        z = generator.normal(size=25)
        z[:5] += 3
        p = [math.erfc(abs(x) / math.sqrt(2)) for x in z]
        family.append(any(q < 0.05 for q in holm(p)[5:]))
        found = np.array(benjamini_hochberg(p)) < 0.05
        share.append(found[5:].sum() / max(found.sum(), 1))
    assert 0.02 < np.mean(family) < 0.06
    assert 0.02 < np.mean(share) < 0.05


def test_more_questions_are_needed_for_less():
    assert questions_needed(0.05, 0.4) == pytest.approx((2.8016 * 0.4 / 0.05) ** 2, abs=5)
    assert questions_needed(0.05, 0.4, design_effect=2) == pytest.approx(2 * questions_needed(0.05, 0.4), rel=0.01)
    assert questions_needed(-0.05, 0.4) == questions_needed(0.05, 0.4)
    with pytest.raises(ConfigError, match="difference 0"):
        questions_needed(0, 0.4)


@pytest.mark.parametrize("number", [6, 8, 30, 300])
@pytest.mark.parametrize("size", [1.0, -1.0, 0.25, 0.1])
def test_differences_that_are_all_alike(number, size):
    """Better on every question by the same: nothing shows how much that varies, and the error is not 0."""
    a, b = np.full(number, max(size, 0.0)), np.full(number, max(-size, 0.0))
    found = paired_values(a, b)
    assert found.difference == pytest.approx(size)
    assert found.standard_error > 0 and found.low < size * number / (number + 2) < found.high
    assert 0 < found.p_value < (0.05 if abs(size) == 1 else 1)
    assert found.questions_needed() == 6


def test_differences_that_are_alike_in_every_cluster():
    a = np.array([1.0, 0.0] * 8)
    found = paired_values(a, np.zeros(16), [str(n // 2) for n in range(16)])
    assert (found.difference, found.clusters) == (0.5, 8)
    assert found.low < 0.5 * 16 / 18 < found.high and 0 < found.p_value < 1


def test_a_difference_of_values_without_bounds_has_their_scale():
    """What is twelve times as large has an interval twelve times as wide, and is as sure."""
    a, b = np.array([-3.0, 2.0, 5.0, 0.0, 1.0, 9.0]), np.array([0.0, 0.0, 1.0, 1.0, -2.0, 3.0])
    one, other = paired_values(a, b), paired_values(a / 12 + 0.25, b / 12 + 0.25)
    for name in ("difference", "low", "high", "standard_error", "deviation"):
        assert getattr(one, name) == pytest.approx(12 * getattr(other, name)), name
    assert one.p_value == pytest.approx(other.p_value)
    assert one.questions_needed() == other.questions_needed()
    far = paired_values(np.array([5.0, 6.0, 7.0]), np.array([0.0, 0.0, 0.5]))
    assert far.low < far.difference < far.high

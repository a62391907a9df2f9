"""Quantiles against closed forms and printed tables."""

from __future__ import annotations

import math

import pytest

from ixt_rl.evaluation.statistics.quantiles import incomplete_beta, normal_quantile, t_cdf, t_quantile

TABLE = {1: 12.7062, 2: 4.3027, 3: 3.1824, 5: 2.5706, 10: 2.2281, 30: 2.0423, 100: 1.9840, 1000: 1.9623}
"""97.5 % quantiles of t as every table has them."""


@pytest.mark.parametrize("freedom", TABLE)
def test_t_quantiles_are_those_of_the_tables(freedom):
    assert t_quantile(0.975, freedom) == pytest.approx(TABLE[freedom], abs=5e-5)


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.8, 0.975, 0.9999])
def test_one_and_two_degrees_have_closed_forms(p):
    assert t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-9, abs=1e-12)
    assert t_quantile(p, 2) == pytest.approx((2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p))), rel=1e-9, abs=1e-12)


def test_many_degrees_are_normal_and_broken_ones_lie_between():
    assert t_quantile(0.975, 1e6) == pytest.approx(normal_quantile(0.975), abs=1e-5)
    assert t_quantile(0.975, 1e9) == normal_quantile(0.975)
    assert t_quantile(0.975, 8) < t_quantile(0.975, 7.5) < t_quantile(0.975, 7)


@pytest.mark.parametrize("freedom", [0.5, 1, 3.3, 40, 5000])
def test_quantile_and_distribution_are_each_other_s_inverse(freedom):
    for p in (0.02, 0.3, 0.9, 0.999):
        assert t_cdf(t_quantile(p, freedom), freedom) == pytest.approx(p, abs=1e-10)


def test_the_incomplete_beta_function_counts_binomially():
    """I_p(a, n - a + 1) = P(Binomial(n, p) >= a)."""
    for n, a, p in ((10, 3, 0.2), (30, 29, 0.95), (400, 180, 0.5)):
        exact = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(a, n + 1))
        assert incomplete_beta(a, n - a + 1, p) == pytest.approx(exact, rel=1e-9)

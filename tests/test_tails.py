"""Tails and quantiles against SciPy's."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import special, stats

from popnet.metrics import tails


@pytest.mark.parametrize("freedom", [1, 1.3, 2, 3.7, 5, 10, 38.2, 99, 199, 200, 201, 1000, 12345.6, 1e6, 1e8])
def test_students_t_is_scipys(freedom: float) -> None:
    for score in (0, 0.01, 0.5, 1, 2, 3, 5, 10, 30, 100):
        assert tails.t_p_value(score, freedom) == pytest.approx(2 * stats.t.sf(score, freedom), rel=1e-8, abs=1e-300)
        assert tails.t_p_value(-score, freedom) == tails.t_p_value(score, freedom)
    for confidence in (0.5, 0.8, 0.9, 0.95, 0.99, 0.9999):
        assert tails.t_reach(confidence, freedom) == pytest.approx(stats.t.ppf((1 + confidence) / 2, freedom), rel=1e-8)


def test_the_normal_and_the_chi_square_distribution_are_scipys() -> None:
    for confidence in (0.5, 0.8, 0.95, 0.9999):
        assert tails.normal_reach(confidence) == pytest.approx(stats.norm.ppf((1 + confidence) / 2), rel=1e-12)
    for freedom in (0.7, 1, 2, 7.3, 50, 999, 12_345):
        for share in (1e-4, 0.025, 0.5, 0.975, 0.9999):
            assert tails.chi_square(share, freedom) == pytest.approx(stats.chi2.ppf(share, freedom), rel=1e-8)


@pytest.mark.parametrize("trials", [1, 2, 5, 20, 62, 201, 1000, 20_000])
def test_the_exact_test_and_its_interval_are_scipys(trials: int) -> None:
    for successes in {0, 1, trials // 3, trials // 2, trials}:
        expected = stats.binomtest(successes, trials)
        p_value = tails.sign_p_value(successes, trials - successes)
        assert p_value == pytest.approx(expected.pvalue, rel=1e-10, abs=1e-300)
        interval = expected.proportion_ci(0.95)
        assert tails.binomial_interval(successes, trials, 0.95) == pytest.approx((interval.low, interval.high))
    assert tails.sign_p_value(0, 0) == 1


def test_the_incomplete_beta_function_is_scipys() -> None:
    for a, b, x in np.random.default_rng(0).random((3000, 3)):
        a, b = 10 ** (5 * a - 1.5), 10 ** (5 * b - 1.5)
        assert tails.incomplete_beta(a, b, x, 1 - x) == pytest.approx(special.betainc(a, b, x), rel=1e-9, abs=1e-13)


def test_it_needs_no_scipy() -> None:
    code = "import sys; from popnet.metrics import tails; tails.t_reach(0.95, 8.0); print('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"

"""Quantiles and tails of Student's t, the normal, the chi-square and the binomial distribution.

SciPy has all of them, and takes half a second of CPU to import, which is much of what a comparison of two small tables
takes. So what that needs stands here, from the incomplete beta and gamma functions; tests hold it to SciPy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

Interval = tuple[float, float]

_TINY = 1e-300
_LARGE = 100.0
"""From here on the series of a ratio of gamma functions is exact to 1e-14, where their difference loses digits."""


def t_reach(confidence: float, freedom: float) -> float:
    """The t within whose amount `confidence` of Student's distribution lies."""
    # Newton's method from the normal distribution's, which is below: the p-value is convex, so no step goes too far.
    score, log_density = normal_reach(confidence), -_log_beta(freedom / 2, 0.5) - 0.5 * math.log(freedom)
    for _ in range(100):
        density = math.exp(log_density - (freedom + 1) / 2 * math.log1p(score * score / freedom))
        step = (t_p_value(score, freedom) - (1 - confidence)) / (2 * density)
        score += step
        if abs(step) <= 1e-14 * score:
            break
    return score


def t_p_value(score: float, freedom: float) -> float:
    """The two-sided p-value of a t."""
    square = score * score
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + square), square / (freedom + square))


def normal_reach(confidence: float) -> float:
    """The z within whose amount `confidence` of the normal distribution lies."""
    return -NormalDist().inv_cdf((1 - confidence) / 2)


def chi_square(share: float, freedom: float) -> float:
    """The value below which this share of a chi-square variable lies."""
    high = freedom + 1.0
    while incomplete_gamma(freedom / 2, high / 2) < share:
        high *= 2
    return _root(lambda value: incomplete_gamma(freedom / 2, value / 2) - share, 0.0, high)


def sign_p_value(first: int, second: int) -> float:
    """The exact two-sided p-value that heads and tails are alike, of `first` and `second` of them; 1 for none."""
    fewer, more = sorted((first, second))
    return min(1.0, 2 * incomplete_beta(more, fewer + 1, 0.5, 0.5)) if more else 1.0


def binomial_interval(successes: int, trials: int, confidence: float) -> Interval:
    """Clopper and Pearson's interval of a share: its ends agree with the exact test."""
    tail, failures = (1 - confidence) / 2, trials - successes
    low, high = 0.0, 1.0
    if successes:
        low = _root(lambda p: incomplete_beta(successes, failures + 1, p, 1 - p) - tail, 0.0, 1.0)
    if failures:
        high = _root(lambda p: tail - incomplete_beta(failures, successes + 1, 1 - p, p), 0.0, 1.0)
    return low, high


def wilson_interval(share: float, trials: int, confidence: float) -> Interval:
    """Wilson's interval of a share of independent trials."""
    square = normal_reach(confidence) ** 2 / trials
    centre = (share + square / 2) / (1 + square)
    reach = math.sqrt(square * share * (1 - share) + square**2 / 4) / (1 + square)
    return (0.0 if share <= 0 else max(centre - reach, 0.0)), (1.0 if share >= 1 else min(centre + reach, 1.0))


def level(confidence: float) -> float:
    """1 - confidence, without the rounding error that would call p = 0.05 smaller than 1 - 0.95."""
    return round(1 - confidence, 12)


def agreeing(interval: Interval, p_value: float, confidence: float) -> Interval:
    """The interval, moved by rounding errors at most, so that it leaves out 0 exactly where p < 1 - confidence."""
    low, high = interval
    if p_value >= level(confidence):
        return min(low, 0.0), max(high, 0.0)
    if low <= 0 <= high:  # by the last bit: both ends are computed from the same score
        return (math.nextafter(0.0, 1.0), high) if low + high > 0 else (low, math.nextafter(0.0, -1.0))
    return low, high


def incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """The regularised incomplete beta function I_x(a, b); `rest` is 1 - x, which has its own digits near x = 1.

    The continued fraction of Press et al. (Numerical Recipes, Section 6.4), by Lentz's method.
    """
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, rest, x)
    logarithms = a * _log(x, rest) + b * _log(rest, x)
    front = math.exp(logarithms - _log_beta(a, b)) / a
    numerator, denominator = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    fraction = denominator
    for step in range(1, 100_000):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        for term in (even, odd):
            denominator = 1 / _away_from_zero(1 + term * denominator)
            numerator = _away_from_zero(1 + term / numerator)
            fraction *= denominator * numerator
        if abs(denominator * numerator - 1) < 1e-16:
            break
    return front * fraction


def incomplete_gamma(a: float, x: float) -> float:
    """The regularised lower incomplete gamma function P(a, x): its series, or its continued fraction (DLMF 8.9.2)."""
    if x <= 0:
        return 0.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        for step in range(1, 100_000):
            term *= x / (a + step)
            total += term
            if term < 1e-17 * total:
                break
        return front * total
    numerator, denominator = 1 / _TINY, 1 / (x + 1 - a)
    fraction = denominator
    for step in range(1, 100_000):
        term, place = -step * (step - a), x + 2 * step + 1 - a
        denominator = 1 / _away_from_zero(term * denominator + place)
        numerator = _away_from_zero(place + term / numerator)
        fraction *= denominator * numerator
        if abs(denominator * numerator - 1) < 1e-16:
            break
    return 1 - front * fraction


def _log(x: float, rest: float) -> float:
    """log x, where x + rest is 1, from the smaller of the two."""
    return math.log(x) if x < rest else math.log1p(-rest)


def _log_beta(a: float, b: float) -> float:
    small, large = sorted((a, b))
    if large < _LARGE:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    if small < _LARGE:
        return math.lgamma(small) - small * math.log(large) + _log_ratio(large, small)
    stirling = 0.5 * math.log(2 * math.pi) + (a - 0.5) * math.log(a / (a + b)) + b * math.log(b / (a + b))
    return stirling - 0.5 * math.log(b) + _remainder(a) + _remainder(b) - _remainder(a + b)


def _log_ratio(large: float, small: float) -> float:
    """log of Gamma(large) / Gamma(large + small) * large^small."""
    total = large + small
    return small - (total - 0.5) * math.log1p(small / large) + _remainder(large) - _remainder(total)


def _remainder(z: float) -> float:
    """What Stirling's formula leaves of log Gamma(z), for z of at least 100."""
    return 1 / (12 * z) - 1 / (360 * z**3) + 1 / (1260 * z**5)


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is 0, by bisection to the last bit or so."""
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return high

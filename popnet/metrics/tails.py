"""Quantiles and tails of Student's t, the normal, the chi-square and the binomial distribution, by scipy.special alone.

scipy.stats gives the same numbers and takes a second to import, which a comparison of two small tables would wait for.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, betaincinv, gammaincinv, ndtri, stdtr, stdtrit

Interval = tuple[float, float]


def t_reach(confidence: float, freedom: float) -> float:
    """The t within whose amount `confidence` of Student's distribution lies."""
    return -float(stdtrit(freedom, (1 - confidence) / 2))


def t_p_value(score: float, freedom: float) -> float:
    """The two-sided p-value of a t."""
    return min(1.0, 2 * float(stdtr(freedom, -abs(score))))


def normal_reach(confidence: float) -> float:
    """The z within whose amount `confidence` of the normal distribution lies."""
    return -float(ndtri((1 - confidence) / 2))


def chi_square(share: NDArray[np.float64] | float, freedom: float) -> NDArray[np.float64]:
    """The values below which these shares of a chi-square variable lie."""
    return np.asarray(2 * gammaincinv(freedom / 2, share))


def sign_p_value(first: int, second: int) -> float:
    """The exact two-sided p-value that heads and tails are alike, of `first` and `second` of them; 1 for none."""
    tosses = first + second
    return min(1.0, 2 * float(bdtr(min(first, second), tosses, 0.5))) if tosses else 1.0


def binomial_interval(successes: int, trials: int, confidence: float) -> Interval:
    """Clopper and Pearson's interval of a share: its ends agree with the exact test."""
    tail = level(confidence) / 2
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
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

"""How many runs does it take? The power of a comparison, from measured SDs or before any repetition."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_MOST_RUNS = 10_000_000


@dataclass(frozen=True)
class ExpectedSd:
    """The SD between runs that calibration implies, as a bracket of error rates: `low` equals `high` for two classes.

    Attributes:
        low, high: in 0..1, not percent.
        assumes: what the numbers rest on, in a sentence.
    """

    low: float
    high: float
    assumes: str


def power(
    difference: float, sd_a: float, sd_b: float, runs_a: int, runs_b: int, alpha: float = 0.05, paired: bool = False
) -> float:
    """The chance that a two-sided t-test finds a difference that is there.

    Exact for normal values: Welch's statistic and degrees of freedom follow from the two sample variances, which are
    scaled chi-square variables and independent of the means; their product distribution is integrated numerically.

    Args:
        difference: between the two means, in any unit.
        sd_a, sd_b: standard deviations between runs, in that unit, not both 0. For `paired`, `sd_a` is that of the
            differences between matched runs, and `runs_a` their number.
        runs_a, runs_b: runs of each, at least 2.
        alpha: the level of the test.

    Raises:
        ValueError: arguments out of these ranges, or not finite.
    """
    from scipy.special import ndtr

    _check(difference, sd_a, 0.0 if paired else sd_b, alpha)
    if runs_a < 2 or (runs_b < 2 and not paired):
        raise ValueError(f"a test needs at least 2 runs of each, not {runs_a} and {runs_b}")
    critical, weights, error = _critical(sd_a, 0.0 if paired else sd_b, runs_a, runs_b, alpha)
    shift = abs(difference) / error
    return float((weights * (ndtr(shift - critical) + ndtr(-shift - critical))).sum())


@lru_cache(maxsize=64)
def _critical(
    sd_a: float, sd_b: float, runs_a: int, runs_b: int, alpha: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """For each pair of sample variances: the difference from which the test rejects, in units of the true error of the
    difference, and the pair's probability; and that error."""
    from scipy.special import gammaincinv, stdtrit

    scale = max(sd_a, sd_b)  # so that no square leaves float64's range
    first, second = (sd_a / scale) ** 2 / runs_a, (sd_b / scale) ** 2 / runs_b
    variance = first + second
    nodes, weights = _nodes()
    sampled = 2 * first * gammaincinv((runs_a - 1) / 2, nodes) / (runs_a - 1)
    if second == 0:
        freedom = np.full(len(nodes), runs_a - 1.0)
    else:
        other = (2 * second * gammaincinv((runs_b - 1) / 2, nodes) / (runs_b - 1))[:, None]
        sampled, weights, alone = sampled + other, weights * weights[:, None], sampled
        freedom = sampled**2 / (alone**2 / (runs_a - 1) + other**2 / (runs_b - 1))
    critical = -stdtrit(freedom, alpha / 2) * np.sqrt(sampled / variance)
    return np.asarray(critical, dtype=np.float64), weights, scale * math.sqrt(variance)


def runs_needed(
    difference: float,
    sd_a: float,
    sd_b: float | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
    paired: bool = False,
) -> int | None:
    """The least number of runs of each arm with which a difference is found with the given power; at least 2.

    Arguments as of `power`; `sd_b` is `sd_a` by default. None where ten million would not do (a difference of 0).
    """
    if not 0 < power < 1:
        raise ValueError(f"power must be between 0 and 1, not {power}")
    other = sd_a if sd_b is None else sd_b
    _check(difference, sd_a, 0.0 if paired else other, alpha)

    def enough(runs: int) -> bool:
        return _power(difference, sd_a, other, runs, runs, alpha, paired) >= power

    if not difference:
        return None
    spread = math.hypot(sd_a, 0.0 if paired else other) / abs(difference)
    normal = NormalDist()
    guess = (normal.inv_cdf(power) - normal.inv_cdf(alpha / 2)) * spread  # the root of what the normal one asks for
    if guess > math.sqrt(_MOST_RUNS):
        return None
    low = max(math.ceil(guess**2) - 2, 1)  # not enough, as Student's asks for more
    high = low + 1
    while not enough(high):
        low, high = high, high + max(high // 8, 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def smallest_difference(
    sd_a: float, sd_b: float, runs_a: int, runs_b: int, power: float = 0.8, alpha: float = 0.05, paired: bool = False
) -> float:
    """The smallest difference that so many runs find with the given power, in the unit of the SDs."""
    _check(0.0, sd_a, 0.0 if paired else sd_b, alpha)
    if not alpha < power < 1:
        raise ValueError(f"power must be between alpha = {alpha} and 1, not {power}")
    high = math.hypot(sd_a / math.sqrt(runs_a), 0.0 if paired else sd_b / math.sqrt(runs_b))
    while _power(high, sd_a, sd_b, runs_a, runs_b, alpha, paired) < power:
        high *= 2
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        found = _power(middle, sd_a, sd_b, runs_a, runs_b, alpha, paired) >= power
        low, high = (low, middle) if found else (middle, high)
    return high


def expected_sd(error: float, examples: int, classes: int = 2, distribution_sd: float = 0.0) -> ExpectedSd:
    """The SD between runs on a test set, from a single run (Jordan 2024, Theorems 3 and 4).

    For two classes the variance is err / (2 n); for k classes it lies between err / (n k) and err / (2 n). The genuine
    variance, which one run does not show, must be assumed, and is added.

    Args:
        error: the error rate of the run, 0..1.
        examples: n, of the test set.
        classes: k.
        distribution_sd: the assumed SD of the error rate on the distribution, 0..1; about 0.0003 for the paper's
            converged CIFAR-10 and ImageNet trainings, 17 times that for short ones.
    """
    from popnet.metrics.theory.variance import binary_variance, variance_lower_bound

    genuine = distribution_sd**2
    high = math.sqrt(binary_variance(error, examples, genuine))
    low = high
    if classes != 2:
        low = math.sqrt(variance_lower_bound(error, examples, classes) + (1 - 1 / examples) * genuine)
    bracket = "" if classes == 2 else f" and that the truth is inside the bracket for {classes} classes"
    assumes = (
        "This assumes that the training is class-wise calibrated (its ensemble's confidences are right), that one "
        "run's error is the mean error, that runs differ in genuine quality by an SD of "
        f"{100 * distribution_sd:.3g} points{bracket}. "
        "Short, unstable or fine-tuned trainings, and test sets unlike the training set, vary more: measure a few runs."
    )
    return ExpectedSd(low, high, assumes)


_power = power  # `runs_needed` and `smallest_difference` have an argument of that name


@cache
def _nodes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Legendre nodes and weights on (0, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(48)
    return (nodes + 1) / 2, weights / 2


def _check(difference: float, sd_a: float, sd_b: float, alpha: float) -> None:
    if not math.isfinite(difference):
        raise ValueError(f"the difference must be finite, not {difference}")
    if not (math.isfinite(sd_a) and math.isfinite(sd_b)) or min(sd_a, sd_b) < 0:
        raise ValueError(f"standard deviations must be finite and at least 0, not {sd_a} and {sd_b}")
    if sd_a == sd_b == 0:
        raise ValueError("an SD of 0 means that runs do not differ: there is nothing that more of them would average")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}")

"""Does luck carry over? Correlation between test sets over runs, and what the luckiest runs gain elsewhere."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from popnet.metrics.theory.packed import PackedErrors, packed
from popnet.metrics.theory.variance import Estimate


@dataclass(frozen=True)
class Correlation:
    """How the members' error rates on two test sets go together.

    Attributes:
        correlation: Pearson's, over members, with Fisher's interval; NaN where a set's error rate never varies.
        p_value: two-sided, that the correlation is 0.
        covariance: of the two error rates (ddof 1). Where both sets come from one distribution and share no example,
            it is itself an unbiased estimate of the distribution-wise variance.
    """

    correlation: Estimate
    p_value: float
    covariance: float

    @property
    def r_squared(self) -> float:
        return self.correlation.value**2


@dataclass(frozen=True)
class LuckyGain:
    """What the best runs on a first test set gain, against the mean run; error rates, so a gain of 0.01 is one point.

    Attributes:
        share: of the runs that were chosen.
        on_first: how much better the chosen runs are on the set by which they were chosen.
        on_second: how much better they are elsewhere, with an interval (Welch): what choosing a seed is worth.
    """

    share: float
    on_first: float
    on_second: Estimate


@dataclass(frozen=True)
class SplitHalves:
    """The examples of even and of odd index as two test sets (Jordan 2024, Section 3.1, Figure 2)."""

    halves: Correlation
    gain: LuckyGain


def correlation(errors_a: Any, errors_b: Any, confidence: float = 0.95) -> Correlation:
    """The correlation over members between the error rates on two test sets.

    Args:
        errors_a, errors_b: bool [members, examples] or `PackedErrors` of the same members in the same order; or any
            scalar of each run, float [members].
    """
    return _correlation(_rates(errors_a), _rates(errors_b), confidence)


def correlations(test_sets: Mapping[str, Any], confidence: float = 0.95) -> dict[tuple[str, str], Correlation]:
    """`correlation` of every pair of test sets, by their names (Jordan 2024, Figure 10)."""
    rates = {name: _rates(errors) for name, errors in test_sets.items()}
    return {(a, b): _correlation(rates[a], rates[b], confidence) for a, b in itertools.combinations(rates, 2)}


def lucky_gain(errors_a: Any, errors_b: Any, share: float = 0.25, confidence: float = 0.95) -> LuckyGain:
    """What the best `share` of the runs on a first test set gain on a second.

    Runs that tie at the edge of the choice count in part, so that the members' order has no influence. Arguments as of
    `correlation`.
    """
    return _lucky_gain(_rates(errors_a), _rates(errors_b), share, confidence)


def split_halves(errors: Any, share: float = 0.25, confidence: float = 0.95) -> SplitHalves:
    """Correlation of the two halves of a test set, and the gain on one of the best `share` of runs on the other.

    Args:
        errors: bool [members, examples] or `PackedErrors`; the even-indexed examples are the first half.
    """
    bits = packed(errors, least_members=4)
    if bits.examples < 2:
        raise ValueError("errors has 1 example: at least 2 are needed for two halves")
    even, odd = bits.halves()
    first, second = even / ((bits.examples + 1) // 2), odd / (bits.examples // 2)
    return SplitHalves(_correlation(first, second, confidence), _lucky_gain(first, second, share, confidence))


def _rates(errors: Any) -> NDArray[np.float64]:
    if isinstance(errors, np.ndarray) and errors.ndim == 1 and errors.dtype.kind in "fiu":
        return errors.astype(np.float64)
    bits: PackedErrors = packed(errors, least_members=4)
    return bits.member_counts() / bits.examples


def _check(first: NDArray[np.float64], second: NDArray[np.float64]) -> None:
    if len(first) != len(second):
        raise ValueError(f"the two test sets have {len(first)} and {len(second)} members: they must be the same runs")
    if len(first) < 4:
        raise ValueError(f"a correlation over members needs at least 4 of them, not {len(first)}")


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64], confidence: float) -> Correlation:
    _check(first, second)
    a, b = first - first.mean(), second - second.mean()
    covariance = float((a * b).sum()) / (len(a) - 1)
    scale = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    if first.min() == first.max() or second.min() == second.max():
        nothing = float("nan")
        return Correlation(Estimate(nothing, nothing, nothing, nothing, confidence), nothing, covariance)
    value = max(-1.0, min(1.0, float((a * b).sum()) / scale))
    error = 1 / math.sqrt(len(a) - 3)
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * error
    middle = math.atanh(max(-1 + 1e-15, min(1 - 1e-15, value)))
    low, high = math.tanh(middle - reach), math.tanh(middle + reach)
    slack = max(1 - value**2, 1e-300)
    p_value = 2 * float(stats.t.sf(abs(value) * math.sqrt((len(a) - 2) / slack), len(a) - 2))
    return Correlation(Estimate(value, slack * error, low, high, confidence), p_value, covariance)


def _lucky_gain(first: NDArray[np.float64], second: NDArray[np.float64], share: float, confidence: float) -> LuckyGain:
    _check(first, second)
    chosen = share * len(first)
    if not 0 < share < 1 or chosen < 2 or len(first) - chosen < 2:
        raise ValueError(f"a share of {share} of {len(first)} members must leave at least 2 in and 2 out")
    edge = np.partition(first, math.ceil(chosen) - 1)[math.ceil(chosen) - 1]
    below, tied = first < edge, first == edge
    weights = below + tied * ((chosen - below.sum()) / tied.sum())
    on_first = float(first.mean() - (weights @ first) / chosen)
    inside = float(weights @ second) / chosen
    outside = float((1 - weights) @ second) / (len(second) - chosen)
    rest = len(second) - chosen
    spread = float(weights @ (second - inside) ** 2) / (chosen - 1) / chosen
    other = float((1 - weights) @ (second - outside) ** 2) / (rest - 1) / rest
    error = (1 - share) * math.sqrt(spread + other)
    freedom = (spread + other) ** 2 / (spread**2 / (chosen - 1) + other**2 / (rest - 1)) if spread + other else 1.0
    gain = float(second.mean()) - inside
    reach = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    return LuckyGain(share, on_first, Estimate(gain, error, gain - reach, gain + reach, confidence))

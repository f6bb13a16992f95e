"""When a claim holds: every number that it speaks of is compared with a bound, errors and all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

from scipy import stats

from popnet.report.quantities import Value

CONFIDENCE = 0.95

LEAST_MEMBERS = 10
"""Members below which nothing is said of how much they vary: the error of an SD of fewer is itself not known."""


class Verdict(StrEnum):
    """What the numbers say of a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    OPEN = "cannot be told"
    NOT_COMPARABLE = "not comparable"


def at_least(values: Sequence[Value], bound: float) -> Verdict:
    """Whether every value is at least `bound`.

    `holds`: each one's 95% interval lies above the bound. `does not hold`: one value's interval lies below it, at
    a level divided by the number of values (Bonferroni), since the lowest was chosen among them. Else it cannot be
    told: the errors are too large. A value without an error decides nothing, and nor does one that is the bound.

    Intervals are Student's, with the freedom of each value: an error that was itself estimated from few runs is often
    too small.
    """
    if not values:
        return Verdict.OPEN
    two_sided, corrected = (1 + CONFIDENCE) / 2, 1 - (1 - CONFIDENCE) / 2 / len(values)
    if any(v.value + _errors(v, corrected) < bound for v in values):
        return Verdict.FAILS
    return Verdict.HOLDS if all(v.value - _errors(v, two_sided) > bound for v in values) else Verdict.OPEN


def _errors(value: Value, level: float) -> float:
    """How far an interval reaches from its value."""
    return float(stats.t.ppf(level, value.freedom)) * value.error


def at_most(values: Sequence[Value], bound: float) -> Verdict:
    """Whether every value is at most `bound`; see `at_least`."""
    return at_least([replace(v, value=-v.value) for v in values], -bound)


def ratio_at_least(above: Value, below: Value, bound: float) -> Verdict:
    """Whether `above` is at least `bound` times `below`; `bound` is positive. See `log_ratio`."""
    return at_least([log_ratio(above, below)], math.log(bound))


def exactly(values: Sequence[Value], wanted: Sequence[float]) -> Verdict:
    """Whether every value equals what is wanted, to the last bit."""
    return Verdict.HOLDS if all(v.value == w for v, w in zip(values, wanted, strict=True)) else Verdict.FAILS


def ratio(above: Value, below: Value) -> Value:
    """One value over another, their errors taken as independent; unknown where the divisor is not clearly positive."""
    if not below.value > 2 * below.error or math.isnan(above.value):
        return Value(math.nan)
    value = above.value / below.value
    error = math.hypot(above.error / below.value, value * below.error / below.value)
    return Value(value, error, freedom=min(above.freedom, below.freedom))


def log_ratio(above: Value, below: Value) -> Value:
    """The logarithm of one value over another, whose error is symmetric where the ratio's own is not.

    The errors are taken as independent. Unknown where the divisor is not clearly positive; minus infinity where the
    upper value is exactly 0.
    """
    if not below.value > 2 * below.error or math.isnan(above.value):
        return Value(math.nan)
    freedom = min(above.freedom, below.freedom)
    if above.value <= 0.0:
        return Value(-math.inf, 0.0 if above.error == 0.0 else math.nan, freedom=freedom)
    error = math.hypot(above.error / above.value, below.error / below.value)
    return Value(math.log(above.value / below.value), error, freedom=freedom)


def difference(first: Value, second: Value) -> Value:
    """One value minus another, their errors taken as independent."""
    error = math.hypot(first.error, second.error)
    return Value(first.value - second.value, error, freedom=min(first.freedom, second.freedom))


def mean_of_related(values: Sequence[Value]) -> Value:
    """The mean of values that were taken from the same runs: their errors are added as if they moved together."""
    value, error = (math.fsum(part) / len(values) for part in zip(*((v.value, v.error) for v in values), strict=True))
    return Value(value, error, freedom=min(v.freedom for v in values))

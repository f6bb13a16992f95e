"""When a claim holds: every number that it speaks of is compared with a bound, errors and all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

from scipy import stats

from popnet.report.quantities import Value

CONFIDENCE = 0.95


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
    told: the errors are too large. A value without an error decides nothing.
    """
    if not values:
        return Verdict.OPEN
    two_sided = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    corrected = float(stats.norm.ppf(1 - (1 - CONFIDENCE) / 2 / len(values)))
    if any(v.value + corrected * v.error < bound for v in values):
        return Verdict.FAILS
    return Verdict.HOLDS if all(v.value - two_sided * v.error >= bound for v in values) else Verdict.OPEN


def at_most(values: Sequence[Value], bound: float) -> Verdict:
    """Whether every value is at most `bound`; see `at_least`."""
    return at_least([Value(-v.value, v.error) for v in values], -bound)


def exactly(values: Sequence[Value], wanted: Sequence[float]) -> Verdict:
    """Whether every value equals what is wanted, to the last bit."""
    return Verdict.HOLDS if all(v.value == w for v, w in zip(values, wanted, strict=True)) else Verdict.FAILS


def ratio(above: Value, below: Value) -> Value:
    """One value over another, their errors taken as independent; unknown where the divisor is not clearly positive."""
    if not below.value > 2 * below.error or math.isnan(above.value):
        return Value(math.nan)
    value = above.value / below.value
    return Value(value, math.hypot(above.error / below.value, value * below.error / below.value))


def difference(first: Value, second: Value) -> Value:
    """One value minus another, their errors taken as independent."""
    return Value(first.value - second.value, math.hypot(first.error, second.error))


def mean_of_related(values: Sequence[Value]) -> Value:
    """The mean of values that were taken from the same runs: their errors are added as if they moved together."""
    return Value(math.fsum(v.value for v in values) / len(values), math.fsum(v.error for v in values) / len(values))

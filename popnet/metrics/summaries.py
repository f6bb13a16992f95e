"""What the runs of one source say of a metric: its mean and its SD between runs, each with an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.metrics.clusters import example_mean
from popnet.metrics.one_run import right_score
from popnet.metrics.samples import Sample, signed_sd
from popnet.metrics.tails import Interval, chi_square, t_reach, wilson_interval

_UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True)
class Description:
    """One metric of the runs of one source.

    Attributes:
        metric, unit: of the values.
        members: how many runs.
        examples: how many, where they are known one by one.
        mean: over runs.
        mean_low, mean_high: its interval over new runs, on this test set; of one run, over new examples. NaN where
            neither is known: one run without examples, or several that are all equal.
        sd: between runs, ddof 1; NaN for one run.
        sd_low, sd_high: its interval; NaN for one run and for runs that are all equal.
        lowest, highest: of the runs.
        distribution_sd: the SD between runs on the distribution itself (Jordan 2024, Theorem 2), the root of the amount
            with the sign of a negative estimate; NaN where nothing is known by example, or for one run.
        confidence: of the intervals.
        clusters: in how many the examples are, where they were given and count: for one run.
    """

    metric: str
    unit: str
    members: int
    examples: int | None
    mean: float
    mean_low: float
    mean_high: float
    sd: float
    sd_low: float
    sd_high: float
    lowest: float
    highest: float
    distribution_sd: float
    confidence: float
    clusters: int | None = None


@dataclass(frozen=True)
class Spread:
    """An SD between runs (ddof 1), its standard error and interval."""

    sd: float
    standard_error: float
    low: float
    high: float


def describe(
    sample: Sample, metric: str = "value", unit: str = "", confidence: float = 0.95, clusters: Any = None
) -> Description:
    """Describe the runs of one source.

    Args:
        sample: one run or more.
        metric, unit: of the values, for tables.
        clusters: an integer [examples], what tells clusters of examples apart; it widens the interval of one run.

    Raises:
        ValueError: a confidence outside 0..1, values that are not finite, fewer than 5 clusters.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    sample.check_finite(metric)
    members = len(sample.values)
    groups = None
    sd = math.nan
    mean_interval = sd_interval = _UNKNOWN
    if members == 1:
        mean_interval, groups = _over_examples(sample, confidence, clusters)
    elif sample.constant:
        sd = 0.0
    else:
        between = spread(sample.values, confidence)
        sd, sd_interval = between.sd, (between.low, between.high)
        reach = t_reach(confidence, members - 1.0) * sd / math.sqrt(members)
        mean_interval = sample.mean - reach, sample.mean + reach
    return Description(
        metric=metric,
        unit=unit,
        members=members,
        examples=None if sample.example_means is None else len(sample.example_means),
        mean=sample.mean,
        mean_low=mean_interval[0],
        mean_high=mean_interval[1],
        sd=sd,
        sd_low=sd_interval[0],
        sd_high=sd_interval[1],
        lowest=float(sample.values.min()),
        highest=float(sample.values.max()),
        distribution_sd=signed_sd(sample.distribution_variance),
        confidence=confidence,
        clusters=groups,
    )


def spread(values: NDArray[np.float64], confidence: float = 0.95) -> Spread:
    """The SD over runs (ddof 1), with the interval of a scaled chi-square variance.

    Its degrees of freedom follow from the jackknife's variance of the variance, so tails heavier than the normal
    distribution's widen it. values: float64 [members], at least 2; of 2, normal values are assumed.
    """
    members = len(values)
    squares = (values - values.mean()) ** 2
    variance = float(squares.sum()) / (members - 1)
    noise = 0.0
    if members > 2:
        noise = members / (members - 1) * float(((squares - squares.mean()) ** 2).sum()) / (members - 2) ** 2
    if variance == 0:
        return Spread(0.0, 0.0, 0.0, 0.0)
    freedom = min(2 * variance**2 / noise, members - 1.0) if noise else members - 1.0
    low, high = (
        math.sqrt(variance * freedom / chi_square((1 + end) / 2, freedom)) for end in (confidence, -confidence)
    )
    return Spread(math.sqrt(variance), math.sqrt(noise) / (2 * math.sqrt(variance)), low, high)


def _over_examples(sample: Sample, confidence: float, clusters: Any) -> tuple[Interval, int | None]:
    """The interval of one run's mean over new examples: Wilson's for right/wrong, else Student's; and the clusters."""
    scores = sample.example_means
    if scores is None or len(scores) < 2:
        return _UNKNOWN, None
    mean = example_mean(scores, clusters)
    scale = right_score(sample, sample)
    if clusters is None and scale is not None:
        low, high = sorted(scale * end for end in wilson_interval(mean.mean / scale, len(scores), confidence))
        return (low, high), None
    if mean.variance == 0:
        return _UNKNOWN, mean.clusters
    return mean.interval(confidence), mean.clusters

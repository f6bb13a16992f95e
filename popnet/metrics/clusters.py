"""Means over examples, and how precisely they are known: of independent examples, or of examples in clusters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.metrics.samples import ROUNDING, TooLittleError
from popnet.metrics.tails import Interval, t_reach

LEAST_CLUSTERS = 5
"""Below so many, a few unlike clusters decide; down to here intervals cover in simulation."""

LEAST_FREEDOM = 1.5
"""Fewer come from one cluster that holds nearly all examples: then p < 0.05 in 15% of comparisons of equals."""


@dataclass(frozen=True)
class ExampleMean:
    """A mean over examples: its variance over new examples (or new clusters of them), with its degrees of freedom.

    Attributes:
        clusters: how many; None for independent examples.
    """

    mean: float
    variance: float
    freedom: float
    clusters: int | None = None

    def interval(self, confidence: float) -> Interval:
        """Student's."""
        reach = t_reach(confidence, self.freedom) * math.sqrt(self.variance)
        return self.mean - reach, self.mean + reach


def example_mean(values: NDArray[np.float64], clusters: Any = None) -> ExampleMean:
    """The mean of values that are known example by example.

    Args:
        values: float64 [examples], at least 2.
        clusters: what tells the clusters apart, an integer [examples]; None: examples are independent.

    Raises:
        ValueError: clusters of another shape; `TooLittleError` for fewer than 2 examples or 5 clusters.
    """
    if len(values) < 2:
        raise TooLittleError("an interval over examples needs at least 2 examples, not 1")
    mean = math.fsum(values) / len(values)
    rounding = ROUNDING * float(np.abs(values).max())
    deviations = values - mean
    if float(np.ptp(values)) <= rounding:
        deviations = np.zeros(len(values))
    if clusters is not None:
        return _clustered(mean, deviations, cluster_codes(clusters, len(values)), rounding)
    variance = float((deviations**2).sum()) / (len(values) - 1) / len(values)
    return ExampleMean(mean, variance, len(values) - 1.0)


def cluster_codes(clusters: Any, examples: int) -> NDArray[np.int64]:
    """The clusters numbered from 0, int64 [examples]. Raises ValueError as `example_mean` does."""
    array = np.asarray(clusters)
    if array.shape != (examples,):
        raise ValueError(f"clusters must be [examples] = [{examples}], but has shape {list(array.shape)}")
    names, codes = np.unique(array, return_inverse=True)
    if len(names) < LEAST_CLUSTERS:
        raise TooLittleError(
            f"an interval over clusters needs at least {LEAST_CLUSTERS} of them, not {len(names)}: they are too few to "
            "tell how clusters vary"
        )
    return np.asarray(codes, dtype=np.int64)


def _clustered(mean: float, deviations: NDArray[np.float64], codes: NDArray[np.int64], rounding: float) -> ExampleMean:
    """Bell and McCaffrey's (2002) variance ("CR2") and Satterthwaite's degrees of freedom, examples alike.

    For G clusters of equal size they are the usual ones, G / (G - 1) times the sum of squares and G - 1. For unequal
    sizes those are too bold: with 10 clusters whose sizes vary by their mean, 10% of null p-values are below 0.05;
    with these, 5%.
    """
    sizes = np.bincount(codes).astype(np.float64)
    sums = np.bincount(codes, deviations)
    sums[np.abs(sums) <= rounding * sizes] = 0.0
    shares = sizes / len(codes)
    weights = 1 / (1 - shares)
    variance = float((weights * sums**2).sum()) / len(codes) ** 2
    freedom = _freedom(shares, weights)
    if freedom < LEAST_FREEDOM:
        raise TooLittleError(
            f"one of {len(sizes)} clusters holds {100 * shares.max():.0f}% of the examples: the others are too few to "
            "tell how clusters vary"
        )
    return ExampleMean(mean, variance, freedom, len(sizes))


def _freedom(shares: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """tr(CB)^2 / tr(CBCB), C the weights and B the covariance of the clusters' sums about the common mean.

    With independent examples of variance 1/n, B is diag(shares) - shares shares'. Expanded, so that no matrix of
    clusters by clusters is formed.
    """
    trace = float((weights * (shares - shares**2)).sum())
    cross = float((weights * shares**2).sum())
    squares = cross**2 + float((weights**2 * (shares**2 - 2 * shares**3)).sum())
    return trace**2 / squares

"""How metrics settle as a population grows: each over seeded subsets of its runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from popnet.metrics.population import standard_deviation
from popnet.random import Source, permutation
from popnet.report.measured import Runs

SUBSETS = 50
_SEED = 1
_MOST_SIZES = 12


@dataclass(frozen=True)
class Convergence:
    """A metric over subsets of a population.

    Attributes:
        sizes: int64 [sizes], ascending, the last one the whole population.
        mean: float64 [sizes], over the subsets of each size.
        low, high: float64 [sizes], between which the middle 90% of the subsets lie; nothing remains of this spread
            towards the whole population, of which there is one subset.
    """

    sizes: NDArray[np.int64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def convergence(runs: Runs, metric: str) -> Convergence:
    """One of the metrics of `Variability`, for as many sizes as are worth a point.

    The subsets are the beginnings of 50 orders of the runs, which popnet's generator draws from a fixed seed: they
    depend on the number of runs alone.
    """
    sizes = subset_sizes(runs.count)
    orders = [permutation(_SEED, draw, runs.count, source=Source.BOOTSTRAP) for draw in range(SUBSETS)]
    values = np.array([[_value(runs, metric, order[:size]) for size in sizes] for order in orders])
    low, high = np.quantile(values, [0.05, 0.95], axis=0)
    return Convergence(np.array(sizes), values.mean(axis=0), low, high)


def subset_sizes(runs: int) -> list[int]:
    """From 2 to `runs`, about evenly spaced by ratio."""
    return sorted({int(size) for size in np.rint(np.geomspace(2, runs, min(_MOST_SIZES, runs - 1)))})


def _value(runs: Runs, metric: str, subset: NDArray[np.int64]) -> float:
    if metric in runs.pairs:
        block = runs.pairs[metric][np.ix_(subset, subset)]
        size = len(subset)
        return float((block.sum() - np.trace(block)) / (size * (size - 1)))
    name, _, kind = metric.rpartition("_")
    values = runs.values[name][subset]
    return standard_deviation(values) if kind == "sd" else float(values.mean())

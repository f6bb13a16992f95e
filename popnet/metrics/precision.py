"""How precisely a population's metrics are known: an interval for each, for its first r runs and any r."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from popnet.metrics.population import accuracy, cross_entropy, pairwise
from popnet.metrics.summaries import spread
from popnet.metrics.theory.variance import Estimate

PAIR_METRICS = ("spearman", "pearson", "ensemble_delta", "ensemble_cross_entropy_delta")
METRICS = ("accuracy_mean", "accuracy_sd", "cross_entropy_mean", "cross_entropy_sd", "disagreement", *PAIR_METRICS)
"""What has an interval; names and units as in `Variability`, but that SDs have ddof 1 here."""


class Precision:
    """The runs of a population, ready to be asked for the interval of a metric over the first r of them.

    Args:
        logits: float32 [members, examples, classes].
        labels: int64 [examples].
        metrics: those that will be asked for; metrics over pairs cost time quadratic in the number of runs.
    """

    def __init__(self, logits: Any, labels: Any, metrics: tuple[str, ...] = METRICS) -> None:
        self._values = {"accuracy": accuracy(logits, labels), "cross_entropy": cross_entropy(logits, labels)}
        self._matrices: dict[str, NDArray[np.float64]] = {}
        if set(metrics) & set(PAIR_METRICS):
            matrices = pairwise(logits, labels)
            self._matrices = {name: getattr(matrices, name) for name in PAIR_METRICS}
        if "disagreement" in metrics:
            self._matrices["disagreement"] = disagreement_matrix(np.asarray(logits).argmax(axis=2))

    def interval(self, metric: str, runs: int, confidence: float = 0.95) -> Estimate:
        """The metric over the first `runs` runs, at least 4, with its interval."""
        if metric in self._matrices:
            return mean_over_pairs_interval(self._matrices[metric][:runs, :runs], confidence)
        name, _, kind = metric.rpartition("_")
        values = self._values[name][:runs]
        return sd_interval(values, confidence) if kind == "sd" else mean_interval(values, confidence)


def mean_interval(values: NDArray[np.float64], confidence: float = 0.95) -> Estimate:
    """The mean over runs, Student's t. values: float64 [members], at least 2."""
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    reach = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return Estimate(mean, error, mean - reach, mean + reach, confidence)


def sd_interval(values: NDArray[np.float64], confidence: float = 0.95) -> Estimate:
    """The SD over runs (ddof 1; the papers' tables, and what stands beside them, have ddof 0), with its interval.

    The interval is that of `popnet.metrics.summaries.spread`. values: float64 [members], at least 3.
    """
    found = spread(values, confidence)
    if found.sd == 0:
        return Estimate(0.0, 0.0, 0.0, 0.0, confidence)
    return Estimate(found.sd, found.standard_error, found.low, found.high, confidence)


def mean_over_pairs_interval(matrix: NDArray[np.float64], confidence: float = 0.95) -> Estimate:
    """The mean over pairs of runs, jackknife over runs, Student's t. matrix: symmetric [members, members], >= 3."""
    members = len(matrix)
    rows = matrix.sum(axis=1) - np.diagonal(matrix)
    total = float(rows.sum()) / 2
    mean = total / (members * (members - 1) / 2)
    without = (total - rows) / ((members - 1) * (members - 2) / 2)
    error = math.sqrt((members - 1) / members * float(((without - without.mean()) ** 2).sum()))
    reach = float(stats.t.ppf((1 + confidence) / 2, members - 1)) * error
    return Estimate(mean, error, mean - reach, mean + reach, confidence)


def disagreement_matrix(predictions: NDArray[Any]) -> NDArray[np.float64]:
    """The share of examples on which each pair differs, percent: float64 [members, members]."""
    agreeing = np.zeros((len(predictions), len(predictions)))
    for label in np.unique(predictions):
        chosen = (predictions == label).astype(np.float32)
        agreeing += chosen @ chosen.T  # counts of examples: exact
    return 100.0 * (1 - agreeing / predictions.shape[1])

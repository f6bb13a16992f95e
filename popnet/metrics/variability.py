"""How much the members of a population differ: the five metrics of Summers & Dinneen (2021), Section 3.1, and kin.

Everywhere logits are float32 [members, examples, classes] and labels int64 [examples], torch (CPU) or NumPy; float16
and bfloat16 widen exactly. An argmax takes the lowest class on ties. Equal members give exactly 0 (correlation 1).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import logsumexp
from scipy.stats import rankdata

from popnet.metrics.inputs import Array, at_least_two, labels_array, logits_array

RESAMPLES = 10_000
REDUCTION_METRICS = ("accuracy_sd", "cross_entropy_sd", "disagreement", "spearman", "ensemble_delta")


@dataclass(frozen=True)
class Variability:
    """One row of Table 1: accuracies, disagreement and accuracy deltas in percent, cross-entropies in nats."""

    members: int
    accuracy_mean: float
    accuracy_sd: float
    accuracy_sd_error: float
    cross_entropy_mean: float
    cross_entropy_sd: float
    cross_entropy_sd_error: float
    disagreement: float
    spearman: float
    pearson: float
    ensemble_delta: float
    ensemble_cross_entropy_delta: float

    def as_dict(self) -> dict[str, float]:
        """The fields by name, one row of a table."""
        return asdict(self)


@dataclass(frozen=True)
class Pairwise:
    """The metrics of every pair of members, each float64 [members, members], symmetric."""

    disagreement: np.ndarray
    spearman: np.ndarray
    pearson: np.ndarray
    ensemble_delta: np.ndarray
    ensemble_cross_entropy_delta: np.ndarray


def accuracy(logits: Array, labels: Array) -> np.ndarray:
    """The accuracy of each member, float64 [members], percent."""
    z, y = _checked(logits, labels)
    return 100.0 * (z.argmax(axis=2) == y).sum(axis=1) / y.size


def cross_entropy(logits: Array, labels: Array) -> np.ndarray:
    """The mean cross-entropy of each member, float64 [members], nats."""
    z, y = _checked(logits, labels)
    result = np.empty(len(z))
    for member, scores in enumerate(z.astype(np.float64, copy=False)):
        losses = logsumexp(scores.astype(np.float64), axis=1) - scores[np.arange(y.size), y]
        result[member] = math.fsum(losses) / y.size
    return result


def disagreement(logits: Array) -> float:
    """The mean over pairs of the share of examples whose argmax differs, percent."""
    z = logits_array(logits)
    at_least_two(len(z), "disagreement")
    predictions = z.argmax(axis=2)
    votes = np.zeros((z.shape[1], z.shape[2]), dtype=np.int64)
    for row in predictions:
        votes[np.arange(row.size), row] += 1
    members = len(z)
    differing = (members * members * z.shape[1] - int((votes**2).sum())) // 2
    return 100.0 * differing / (z.shape[1] * members * (members - 1) // 2)


def spearman(logits: Array) -> float:
    """The mean over pairs of Spearman's rho of the flattened logits, average ranks for ties.

    NaN where a member's logits are all equal.
    """
    z = logits_array(logits)
    at_least_two(len(z), "spearman")
    return _mean_over_pairs(_correlations(_doubled_ranks(z)))


def pearson(logits: Array) -> float:
    """The mean over pairs of Pearson's correlation of the flattened logits; NaN where a member's are all equal."""
    z = logits_array(logits)
    at_least_two(len(z), "pearson")
    return _mean_over_pairs(_correlations(_centred(z)))


def ensemble_delta(
    logits: Array, labels: Array, metric: Literal["accuracy", "cross_entropy"] = "accuracy"
) -> float:
    """The mean over pairs of (metric of the pair's mean logits) - (mean of their two metrics).

    Percent for accuracy, nats for cross_entropy. Pair sums are compared exactly, so no tie appears by rounding.
    """
    z, y = _checked(logits, labels)
    at_least_two(len(z), "ensemble_delta")
    if metric == "accuracy":
        return _mean_over_pairs(_ensemble_accuracy_delta(z, y))
    if metric == "cross_entropy":
        return _mean_over_pairs(_ensemble_cross_entropy_delta(z))
    raise ValueError(f"metric must be 'accuracy' or 'cross_entropy', but is {metric!r}")


def ensemble_cross_entropy_delta(logits: Array, labels: Array) -> float:
    """`ensemble_delta` for cross-entropy, nats."""
    return ensemble_delta(logits, labels, metric="cross_entropy")


def pairwise(logits: Array, labels: Array) -> Pairwise:
    """The [members, members] matrices of every metric over pairs."""
    z, y = _checked(logits, labels)
    at_least_two(len(z), "pairwise")
    predictions = z.argmax(axis=2)
    differing = np.array([(predictions != row).sum(axis=1) for row in predictions])
    return Pairwise(
        disagreement=100.0 * differing / y.size,
        spearman=_correlations(_doubled_ranks(z)),
        pearson=_correlations(_centred(z)),
        ensemble_delta=_ensemble_accuracy_delta(z, y),
        ensemble_cross_entropy_delta=_ensemble_cross_entropy_delta(z),
    )


def variability(
    logits: Array, labels: Array, *, resamples: int = RESAMPLES, bootstrap_seed: int = 1
) -> Variability:
    """Every metric of the population; standard deviations have ddof 0.

    A standard deviation's error is its standard deviation over `resamples` bootstrap resamples of the members.
    """
    z, y = _checked(logits, labels)
    at_least_two(len(z), "variability")
    accuracies, losses = accuracy(z, y), cross_entropy(z, y)
    accuracy_error, loss_error = _bootstrap_errors(np.stack([accuracies, losses]), resamples, bootstrap_seed)
    return Variability(
        members=len(z),
        accuracy_mean=math.fsum(accuracies) / len(z),
        accuracy_sd=standard_deviation(accuracies),
        accuracy_sd_error=accuracy_error,
        cross_entropy_mean=math.fsum(losses) / len(z),
        cross_entropy_sd=standard_deviation(losses),
        cross_entropy_sd_error=loss_error,
        disagreement=disagreement(z),
        spearman=spearman(z),
        pearson=pearson(z),
        ensemble_delta=ensemble_delta(z, y),
        ensemble_cross_entropy_delta=ensemble_cross_entropy_delta(z, y),
    )


def variability_reduction(
    single: Variability | Mapping[str, Any],
    mitigated: Variability | Mapping[str, Any],
    correlation: Literal["complement", "raw"] = "complement",
) -> float:
    """The mean over the five metrics of the relative reduction against the single model, percent (Table 5).

    `complement` lets correlation enter as 1 - rho, which reproduces the paper's column; `raw` counts the relative
    increase of rho itself as the improvement, which reproduces the reproduction report's. A value may be a pair
    [value, error], as in published.yaml.
    """
    if correlation not in ("complement", "raw"):
        raise ValueError(f"correlation must be 'complement' or 'raw', but is {correlation!r}")
    reductions = []
    for name in REDUCTION_METRICS:
        before, after = _value(single, name, "single"), _value(mitigated, name, "mitigated")
        if name == "spearman":
            gain = after - before
            reductions.append(gain / (1.0 - before) if correlation == "complement" else gain / before)
        else:
            reductions.append((before - after) / before)
    return 100.0 * math.fsum(reductions) / len(reductions)


def standard_deviation(values: np.ndarray) -> float:
    """The population standard deviation (ddof 0), the same for any order of `values` and exactly 0 for equal ones."""
    deviations = values - values.min()
    mean = math.fsum(deviations) / values.size
    return math.sqrt(math.fsum((deviations - mean) ** 2) / values.size)


def _checked(logits: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    z = logits_array(logits)
    return z, labels_array(labels, z.shape[1], z.shape[2])


def _value(row: Variability | Mapping[str, Any], name: str, argument: str) -> float:
    value = getattr(row, name, None) if isinstance(row, Variability) else row.get(name)
    if value is None:
        raise ValueError(f"{argument} has no {name}, which variability_reduction needs")
    return float(value[0]) if isinstance(value, (list, tuple)) else float(value)


def _doubled_ranks(z: np.ndarray) -> np.ndarray:
    flat = z.reshape(len(z), -1)
    return np.stack([2.0 * rankdata(row) - (row.size + 1) for row in flat])


def _centred(z: np.ndarray) -> np.ndarray:
    flat = z.reshape(len(z), -1).astype(np.float64)
    constant = flat.min(axis=1) == flat.max(axis=1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    centred[constant] = 0.0
    return centred


def _correlations(centred: np.ndarray) -> np.ndarray:
    """The cosine of every pair of rows; exactly 1 for equal rows, NaN where a row is zero."""
    unique, which = np.unique(centred, axis=0, return_inverse=True)
    products = unique @ unique.T
    squares = np.diagonal(products)
    for member in np.flatnonzero(squares[which.reshape(-1)] == 0):
        warnings.warn(
            f"all logits of member {member} are equal: it correlates with none", RuntimeWarning, stacklevel=3
        )
    with np.errstate(invalid="ignore"):
        cosines = np.clip(products / np.sqrt(np.outer(squares, squares)), -1.0, 1.0)
    np.fill_diagonal(cosines, np.where(squares > 0, 1.0, np.nan))
    which = which.reshape(-1)
    return cosines[np.ix_(which, which)]


def _mean_over_pairs(matrix: np.ndarray) -> float:
    values = matrix[np.triu_indices(len(matrix), 1)]
    return math.fsum(values) / values.size


def _pair_argmax(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The lowest class of the largest exact sum of two float32 arrays [examples, classes]."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    total = a64 + b64
    virtual = total - a64
    error = (a64 - (total - virtual)) + (b64 - virtual)  # two-sum: total + error is the exact sum
    best = total == total.max(axis=1, keepdims=True)
    return np.where(best, error, -np.inf).argmax(axis=1)


def _ensemble_accuracy_delta(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    members = len(z)
    correct = (z.argmax(axis=2) == y).sum(axis=1)
    delta = np.zeros((members, members))
    for i in range(members):
        for j in range(i + 1, members):
            pair = int((_pair_argmax(z[i], z[j]) == y).sum())
            delta[i, j] = delta[j, i] = 50.0 * (2 * pair - int(correct[i] + correct[j])) / y.size
    return delta


def _ensemble_cross_entropy_delta(z: np.ndarray) -> np.ndarray:
    """The labels cancel: with E = exp(z / 2), a pair's delta is the mean of log E_i.E_j - (log E_i.E_i + log E_j.E_j) / 2."""
    members, examples, _ = z.shape
    same = np.array([[np.array_equal(a, b) for b in z] for a in z])
    total = np.zeros((members, members))
    for example in range(examples):
        scores = z[:, example].astype(np.float64)
        half = (scores - scores.max(axis=1, keepdims=True)) / 2
        roots = np.exp(half)
        products = roots @ roots.T
        if products.min() < 1e-250:
            logs = logsumexp(half[:, None] + half[None], axis=2)
        else:
            logs = np.log(products)
        own = np.diagonal(logs)
        total += logs - (own[:, None] + own[None]) / 2
    total /= examples
    total[same] = 0.0
    return total


def _bootstrap_errors(values: np.ndarray, resamples: int, seed: int) -> list[float]:
    rng = np.random.Generator(np.random.Philox(key=seed))
    size = values.shape[1]
    deviations = [[] for _ in values]  # type: list[list[float]]
    for _ in range(resamples):
        draw = rng.integers(0, size, size)
        for row, out in zip(values, deviations):
            out.append(float((row[draw] - row[draw[0]]).std()))
    return [standard_deviation(np.array(row)) for row in deviations]

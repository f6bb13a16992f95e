"""The statistics of a population in bootstrap resamples of its runs: how far each of them is off by chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.metrics.resampling import bootstrap_weights
from popnet.metrics.theory.packed import PackedErrors, check_predictions
from popnet.metrics.theory.tasks import r_squared, sides_of, task_errors

RESAMPLES = 400
_AT_ONCE = 2**24  # weights or counts

Draws = NDArray[np.float64]


@dataclass(frozen=True)
class Resampled:
    """Each statistic in every resample of the runs, float64 [resamples]; rates, and variances of rates.

    In a resample of R runs some come twice, so that its variances are (R - 1) / R of what they estimate: that is made
    up for, as in `distribution_variance_interval`.

    Attributes:
        variance: between runs on this test set.
        independent_variance: if errors were independent.
        distribution_variance: Theorem 2.
        halves_correlation, halves_covariance: of the errors on examples of even and of odd index.
        gain_on_first, gain_on_second: of the best quarter by the even half, there and on the odd half.
        tasks_ratio: the variances of all binary tasks over what err / (2 n) says, summed first.
        tasks_r_squared: as `BinaryTasks.r_squared`.
    """

    variance: Draws
    independent_variance: Draws
    distribution_variance: Draws
    halves_correlation: Draws
    halves_covariance: Draws
    gain_on_first: Draws
    gain_on_second: Draws
    tasks_ratio: Draws
    tasks_r_squared: Draws

    def error_of(self, statistic: Callable[[Resampled], Draws]) -> float:
        """The standard error of what `statistic` takes from the draws; NaN where it is undefined in one of them."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.std(statistic(self)))


def resample(
    predictions: Any, labels: Any, classes: int | None = None, resamples: int = RESAMPLES, seed: int = 1
) -> Resampled:
    """Draw the runs anew, with replacement, on the same test set.

    Args:
        predictions: integers [members, examples], the predicted classes, at least 8 members.
        labels: integers [examples].
        classes: by default the largest class plus 1.
    """
    array, truth = check_predictions(predictions, labels)
    bits = PackedErrors.from_predictions(array, truth)
    if bits.members < 8 or bits.examples < 2:
        raise ValueError(f"predictions is [{bits.members}, {bits.examples}]: at least 8 members and 2 examples")
    wrong = _centred_tasks(array, truth, classes)
    step = max(1, min(resamples, _AT_ONCE // bits.members, _AT_ONCE // bits.examples))
    parts = []
    for first in range(0, resamples, step):
        weights = bootstrap_weights(seed, range(first, min(first + step, resamples)), bits.members)
        parts.append(_over_examples(bits, weights) | _over_halves(bits, weights) | _over_tasks(*wrong, weights, bits))
    return Resampled(
        **{field.name: np.concatenate([part[field.name] for part in parts]) for field in fields(Resampled)}
    )


def _over_examples(bits: PackedErrors, weights: NDArray[np.float32]) -> dict[str, Draws]:
    members, examples = bits.members, bits.examples
    counts = np.zeros((len(weights), examples), np.float32)  # integers, exact below 2^24
    for rows, block in bits.blocks():
        counts += weights[:, rows] @ block.astype(np.float32)
    own = np.array([float((row * (members - row)).sum()) for row in counts.astype(np.float64)])
    wide, totals = weights.astype(np.float64), bits.member_counts() - bits.member_counts().mean()
    spread = members * (wide @ totals**2) - (wide @ totals) ** 2
    unit = (members - 1) ** 2 * examples**2
    return {
        "variance": spread / unit,
        "independent_variance": own / unit,
        "distribution_variance": (spread - own) / unit * examples / (examples - 1),
    }


def _over_halves(bits: PackedErrors, weights: NDArray[np.float32]) -> dict[str, Draws]:
    members, wide = bits.members, weights.astype(np.float64)
    even, odd = bits.halves()
    first, second = even / ((bits.examples + 1) // 2), odd / (bits.examples // 2)
    a, b = first - first.mean(), second - second.mean()
    mean_a, mean_b = wide @ a / members, wide @ b / members
    both = wide @ (a * b) / members - mean_a * mean_b
    variances = (wide @ a**2 / members - mean_a**2) * (wide @ b**2 / members - mean_b**2)
    order = np.argsort(first, kind="stable")
    sorted_weights, chosen = wide[:, order], members / 4
    before = np.cumsum(sorted_weights, axis=1) - sorted_weights
    inside = np.clip(chosen - before, 0, sorted_weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = both / np.sqrt(variances)
    return {
        "halves_correlation": correlation,
        "halves_covariance": both * (members / (members - 1)) ** 2,
        "gain_on_first": mean_a - inside @ a[order] / chosen,
        "gain_on_second": mean_b - inside @ b[order] / chosen,
    }


def _centred_tasks(
    predictions: NDArray[Any], labels: NDArray[np.int64], classes: int | None
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The errors of each run on each binary task less their mean, float32 [members, tasks], and the means; counts."""
    count = max(int(predictions.max()), int(labels.max())) + 1 if classes is None else classes
    sides = sides_of(count)
    wrong = np.empty((len(predictions), len(sides)), np.float32)
    for rows, block in task_errors(predictions, labels, sides):
        wrong[rows] = block  # integers, exact
    means = wrong.mean(axis=0, dtype=np.float64)
    wrong -= means.astype(np.float32)
    return wrong, means


def _over_tasks(
    wrong: NDArray[np.float32], means: NDArray[np.float64], weights: NDArray[np.float32], bits: PackedErrors
) -> dict[str, Draws]:
    members, examples = bits.members, bits.examples
    shift = (weights @ wrong).astype(np.float64) / members
    spread = ((weights @ wrong**2).astype(np.float64) / members - shift**2) * (members / (members - 1)) ** 2
    variance, predicted = spread / examples**2, (means + shift) / (2 * examples**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = variance.sum(axis=1) / predicted.sum(axis=1)
    pairs = zip(np.sqrt(np.maximum(variance, 0)), np.sqrt(np.maximum(predicted, 0)), strict=True)
    return {"tasks_ratio": ratio, "tasks_r_squared": np.array([r_squared(o, p) for o, p in pairs])}

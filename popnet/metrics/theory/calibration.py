"""Class-wise calibration of a training (Jiang et al. 2021; Jordan 2024, Section 3.4), from its members' votes.

If 30% to 40% of the runs call an image a cat, are 30% to 40% of such images cats? Where this holds, pairs of runs
disagree as often as a run errs (Theorem 5), and the variance between runs follows from the error alone (Theorem 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.metrics.theory.packed import check_predictions
from popnet.metrics.theory.variance import Estimate

_VOTERS = 255  # a sum of so many bits fits a byte


@dataclass(frozen=True)
class Calibration:
    """Calibration curves. A cell is a class and an example; its confidence the share of members that vote for it.

    Attributes:
        edges: float64 [bins + 1], of the confidence.
        confidence, frequency: float64 [classes, bins], the mean confidence of a bin's cells, and the share of them
            whose class is the label; NaN where a bin is empty.
        cells: int64 [classes, bins].
        overall_confidence, overall_frequency, overall_cells: the same over all classes, [bins].
        error: the sum over classes and bins of cells / n * |frequency - confidence|.
    """

    edges: NDArray[np.float64]
    confidence: NDArray[np.float64]
    frequency: NDArray[np.float64]
    cells: NDArray[np.int64]
    overall_confidence: NDArray[np.float64]
    overall_frequency: NDArray[np.float64]
    overall_cells: NDArray[np.int64]
    error: float


@dataclass(frozen=True)
class DisagreementCheck:
    """Theorem 5: under class-wise calibration, disagreement equals error.

    Attributes:
        error: the mean error rate of the members.
        disagreement: the mean over pairs of members of the share of examples on which they differ.
        difference: disagreement - error, with an interval over examples.
        ratio: disagreement / error, with an interval over runs and examples: 1 under class-wise calibration. NaN where
            no run errs.
    """

    error: float
    disagreement: float
    difference: Estimate
    ratio: Estimate


def votes(predictions: Any, classes: int | None = None) -> NDArray[np.int64]:
    """How many members predict each class: int64 [examples, classes].

    Args:
        predictions: integers [members, examples], a byte each where there are up to 256 classes.
        classes: by default the largest prediction plus 1.
    """
    array, _ = check_predictions(predictions, np.zeros(np.shape(predictions)[1], np.int64))
    count = int(array.max()) + 1 if classes is None else classes
    if int(array.max()) >= count:
        raise ValueError(f"predictions hold class {int(array.max())}, and {count} classes are 0 to {count - 1}")
    examples = array.shape[1]
    result = np.zeros((examples, count), np.int64)
    if count > 64:
        cells = np.arange(examples) * count
        for row in array:
            result.reshape(-1)[cells + row] += 1
        return result
    for start in range(0, len(array), _VOTERS):
        block = array[start : start + _VOTERS]
        for label in range(count):
            result[:, label] += (block == label).sum(axis=0, dtype=np.uint8)
    return result


def class_calibration(predictions: Any, labels: Any, classes: int | None = None, bins: int = 10) -> Calibration:
    """The calibration curves of a training, by class and over all classes.

    Cells without a vote are left out: they are most, and say little. A vote share is that of finitely many members, so
    curves are flattened where members are few.

    Args:
        predictions: integers [members, examples].
        labels: integers [examples].
    """
    array, truth = check_predictions(predictions, labels)
    least = int(truth.max()) + 1
    counts = votes(array, classes if classes is not None else max(least, int(array.max()) + 1))
    members = len(array)
    shares = counts / members
    right = np.arange(counts.shape[1]) == truth[:, None]
    which = np.minimum(counts * bins // members, bins - 1)
    shape = (counts.shape[1], bins)
    cells, confidence, hits = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)
    for label in range(counts.shape[1]):
        voted = counts[:, label] > 0
        position = which[voted, label]
        cells[label] = np.bincount(position, minlength=bins)
        confidence[label] = np.bincount(position, shares[voted, label], minlength=bins)
        hits[label] = np.bincount(position, right[voted, label], minlength=bins)
    with np.errstate(invalid="ignore"):
        return Calibration(
            edges=np.linspace(0, 1, bins + 1),
            confidence=confidence / cells,
            frequency=hits / cells,
            cells=cells,
            overall_confidence=confidence.sum(axis=0) / cells.sum(axis=0),
            overall_frequency=hits.sum(axis=0) / cells.sum(axis=0),
            overall_cells=cells.sum(axis=0),
            error=float(np.abs(hits - confidence).sum()) / len(truth),
        )


def disagreement_check(predictions: Any, labels: Any, confidence: float = 0.95) -> DisagreementCheck:
    """Disagreement and error, which class-wise calibration makes equal (Jordan 2024, Theorem 5).

    Args:
        predictions: integers [members, examples], at least 2 members.
        labels: integers [examples].
        confidence: of the difference's interval, which is over examples (normal).
    """
    array, truth = check_predictions(predictions, labels)
    members, examples = array.shape
    if members < 2 or examples < 2:
        raise ValueError(f"predictions is [{members}, {examples}]: at least 2 members and 2 examples are needed")
    counts = votes(array, max(int(array.max()), int(truth.max())) + 1)
    right = counts[np.arange(examples), truth]
    errors = 1 - right / members
    differing = 1 - (counts * (counts - 1)).sum(axis=1) / (members * (members - 1))
    gaps = differing - errors
    difference = _interval(float(gaps.mean()), float(gaps.std(ddof=1)) / math.sqrt(examples), confidence)
    if not errors.any():
        nothing = float("nan")
        return DisagreementCheck(0.0, float(differing.mean()), difference, _interval(nothing, nothing, confidence))
    ratio = float(differing.mean() / errors.mean())
    over_examples = float((differing - ratio * errors).std(ddof=1)) / math.sqrt(examples) / float(errors.mean())
    reach = math.hypot(over_examples, _ratio_error_over_runs(array, truth, counts))
    return DisagreementCheck(
        float(errors.mean()), float(differing.mean()), difference, _interval(ratio, reach, confidence)
    )


def _ratio_error_over_runs(predictions: NDArray[Any], labels: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """The standard error of disagreement / error: jackknife over runs. NaN below 3 runs. counts: `votes`."""
    members, examples = predictions.shape
    if members < 3:
        return float("nan")
    places = np.arange(examples)
    agreeing = np.array([counts[places, row].sum() - examples for row in predictions])  # with the others, over examples
    wrong = np.array([(row != labels).sum() for row in predictions])
    differing = examples * (members - 1) - agreeing
    pairs = (int(differing.sum()) - 2 * differing) / ((members - 1) * (members - 2))
    error = (int(wrong.sum()) - wrong) / (members - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        without = pairs / error
    return math.sqrt((members - 1) / members * float(((without - without.mean()) ** 2).sum()))


def _interval(value: float, error: float, confidence: float) -> Estimate:
    reach = error * _normal_quantile(confidence)
    return Estimate(value, error, value - reach, value + reach, confidence)


def _normal_quantile(confidence: float) -> float:
    from scipy.special import ndtri

    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    return float(ndtri((1 + confidence) / 2))


def twin_disagreements(predictions: Any, twins: Any) -> NDArray[np.float64]:
    """The share of examples on which each run differs from its twin, such as the same run with one weight poked.

    Args:
        predictions, twins: integers [members, examples], run r of one belonging to run r of the other.

    Returns:
        float64 [members] (Jordan 2024, Figure 12).
    """
    first, _ = check_predictions(predictions, np.zeros(np.shape(predictions)[1], np.int64))
    second, _ = check_predictions(twins, np.zeros(np.shape(twins)[1], np.int64))
    if first.shape != second.shape:
        raise ValueError(f"runs and twins must be as many, on the same examples, not {first.shape} and {second.shape}")
    return np.asarray((first != second).mean(axis=1))

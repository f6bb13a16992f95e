"""Predicting variance a priori: many binary tasks made of one task with several classes (Jordan 2024, Figure 6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.metrics.resampling import bootstrap_words
from popnet.metrics.theory.calibration import votes
from popnet.metrics.theory.packed import check_predictions

_CELLS = 2**22  # of confusion counts held at a time
_CONFUSION_CLASSES = 32


@dataclass(frozen=True)
class BinaryTasks:
    """Binary tasks that assign each class to one of two sides, all [tasks]. Rates and their variances.

    Attributes:
        sides: bool [tasks, classes]; class 0 is always on side False.
        error: the mean error rate over members.
        variance: between members on the test set (ddof 1).
        predicted: err / (2 n), Equation 6.
        distribution_variance: Theorem 2's estimate; with it, Theorem 3 predicts `predicted_in_full`.
        predicted_in_full: err / (2 n) + (1 - 1/n) * distribution_variance.
        binomial: err (1 - err) / n.
    """

    sides: NDArray[np.bool_]
    error: NDArray[np.float64]
    variance: NDArray[np.float64]
    predicted: NDArray[np.float64]
    distribution_variance: NDArray[np.float64]
    predicted_in_full: NDArray[np.float64]
    binomial: NDArray[np.float64]

    @property
    def r_squared(self) -> float:
        """1 - (squared distance of predicted SDs to the observed) / (their spread): no line is fitted."""
        return r_squared(np.sqrt(self.variance), np.sqrt(self.predicted))

    @property
    def r_squared_of_variances(self) -> float:
        """The same for variances."""
        return r_squared(self.variance, self.predicted)

    @property
    def r_squared_binomial(self) -> float:
        """`r_squared` of the binomial assumption."""
        return r_squared(np.sqrt(self.variance), np.sqrt(self.binomial))

    @property
    def times_nearer_than_binomial(self) -> float:
        """The binomial assumption's mean squared distance to the observed variances, over the formula's."""
        off = float(((self.predicted - self.variance) ** 2).mean())
        return float(((self.binomial - self.variance) ** 2).mean()) / off if off else float("inf")


def binary_tasks(
    predictions: Any, labels: Any, classes: int | None = None, limit: int = 511, seed: int = 1
) -> BinaryTasks:
    """Collapse predictions of several classes to two sides, in every way: 511 for ten classes.

    Args:
        predictions: integers [members, examples], the classes that the members predict.
        labels: integers [examples].
        classes: by default the largest class plus 1.
        limit: where there are more ways, so many of them are drawn, by `seed`.
    """
    array, truth = check_predictions(predictions, labels)
    count = max(int(array.max()), int(truth.max())) + 1 if classes is None else classes
    if count < 2 or int(truth.max()) >= count or len(array) < 2:
        raise ValueError("binary tasks need at least 2 classes, labels below the number of classes, and 2 members")
    members, examples = array.shape
    sides = sides_of(count, limit, seed)
    first, second = _error_sums(array, truth, sides)
    error = first / (members * examples)
    spread = (members * second - first**2) / (members * (members - 1))  # of counts; exact integers below 2^53 first
    positive = votes(array, count).astype(np.float64) @ sides.T.astype(np.float64)
    own = (positive * (members - positive)).sum(axis=0) / (members * (members - 1))
    genuine = (spread - own) / (examples * (examples - 1.0))
    predicted = error / (2 * examples)
    return BinaryTasks(
        sides=sides,
        error=error,
        variance=spread / examples**2,
        predicted=predicted,
        distribution_variance=genuine,
        predicted_in_full=predicted + (1 - 1 / examples) * genuine,
        binomial=error * (1 - error) / examples,
    )


def sides_of(classes: int, limit: int = 511, seed: int = 1) -> NDArray[np.bool_]:
    """bool [tasks, classes], each division into two sides once; where there are more than `limit`, so many, drawn."""
    if classes <= 24 and 2 ** (classes - 1) - 1 <= limit:
        numbers = 2 * np.arange(1, 2 ** (classes - 1))  # bit c is class c's side
        return (numbers[:, None] >> np.arange(classes) & 1).astype(bool)
    drawn = (bootstrap_words(seed, range(4 * limit), classes, stream=2) >> np.uint64(31)).astype(bool)
    drawn ^= drawn[:, :1]  # class 0 on side False
    drawn = drawn[drawn.any(axis=1)]
    _, where = np.unique(drawn, axis=0, return_index=True)
    return np.asarray(drawn[np.sort(where)[:limit]])


def task_errors(
    predictions: NDArray[Any], labels: NDArray[np.int64], sides: NDArray[np.bool_]
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """How many examples each run gets wrong on each task, block by block: integers, float64 [runs of block, tasks]."""
    classes = sides.shape[1]
    if classes > _CONFUSION_CLASSES:
        for run, row in enumerate(predictions):
            yield slice(run, run + 1), (sides[:, row] != sides[:, labels]).sum(axis=1)[None].astype(np.float64)
        return
    differ = (sides[:, :, None] != sides[:, None, :]).reshape(len(sides), -1).T.astype(np.float64)
    step = max(1, min(_CELLS // labels.size, _CELLS // classes**2))
    for start in range(0, len(predictions), step):
        block = predictions[start : start + step]
        cells = block * np.int64(classes) + labels
        cells += np.arange(len(block))[:, None] * classes**2
        confusion = np.bincount(cells.reshape(-1), minlength=len(block) * classes**2).reshape(len(block), -1)
        yield slice(start, start + len(block)), confusion.astype(np.float64) @ differ


def _error_sums(
    predictions: NDArray[Any], labels: NDArray[np.int64], sides: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each task, the sum and the sum of squares over members of the number of errors; float64 [tasks], integers."""
    first, second = np.zeros(len(sides)), np.zeros(len(sides))
    for _, wrong in task_errors(predictions, labels, sides):
        first += wrong.sum(axis=0)
        second += (wrong**2).sum(axis=0)
    return first, second


def r_squared(observed: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """1 - (squared distance of predicted to observed) / (spread of the observed); NaN where they do not vary."""
    spread = float(((observed - observed.mean()) ** 2).sum())
    return 1 - float(((observed - predicted) ** 2).sum()) / spread if spread else float("nan")

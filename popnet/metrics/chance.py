"""Which members of a population have not learnt: at chance, or worse than a model that knows nothing."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from popnet.metrics.inputs import Array, labels_array, thread_count
from popnet.metrics.members import SCORES, members_pass
from popnet.metrics.population import Logits
from popnet.metrics.predictions import as_predictions

SIGMAS = 3.0
"""How many standard deviations of guessing an accuracy must lie above chance."""


def diverged(
    logits: Logits, labels: Array, *, threads: int | None = None, block: int | None = None
) -> NDArray[np.bool_]:
    """Which members are no better than guessing, by accuracy or by cross-entropy: bool [members].

    True where a member is at chance (see `at_chance`), or where its cross-entropy is above ln(classes), that of a model
    that gives every class the same probability.

    logits: [members, examples, classes]; labels: int64 [examples]. Raises ValueError as the other metrics do.
    """
    predictions = as_predictions(logits)
    targets = labels_array(labels, predictions.examples, predictions.classes)
    scores = members_pass(predictions, targets, [SCORES], thread_count(threads), block)
    if predictions.classes < 2:
        return np.zeros(predictions.members, dtype=np.bool_)
    lost = scores.correct <= most_by_chance(targets)
    return lost | (scores.cross_entropy_sums > predictions.examples * math.log(predictions.classes))


def at_chance(accuracy: float, labels: Array) -> bool:
    """Whether an accuracy, percent, is not clearly above that of always naming the commonest label of the examples.

    Clearly: by more than three standard deviations of as many guesses as there are examples (binomial); but a model
    that is always right never is at chance.
    """
    targets = np.asarray(labels)
    return round(accuracy / 100 * len(targets)) <= most_by_chance(targets)


def most_by_chance(labels: Array) -> float:
    """How many right answers guessing gives at most: the mean, and three standard deviations, but not all of them."""
    targets = np.asarray(labels)
    examples = len(targets)
    share = float(np.bincount(targets).max()) / examples
    return min(examples * share + SIGMAS * math.sqrt(examples * share * (1 - share)), examples - 1)

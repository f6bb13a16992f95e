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
    """Which members diverged in training, or learnt nothing: bool [members].

    True where a member's accuracy is not above 1 / classes by more than three standard deviations of as many guesses as
    there are examples (binomial), or where its cross-entropy is above ln(classes), that of a model that gives every
    class the same probability.

    logits: [members, examples, classes]; labels: int64 [examples]. Raises ValueError as the other metrics do.
    """
    predictions = as_predictions(logits)
    targets = labels_array(labels, predictions.examples, predictions.classes)
    scores = members_pass(predictions, targets, [SCORES], thread_count(threads), block)
    if predictions.classes < 2:
        return np.zeros(predictions.members, dtype=np.bool_)
    at_chance = scores.correct <= most_by_chance(predictions.examples, predictions.classes)
    return at_chance | (scores.cross_entropy_sums > predictions.examples * math.log(predictions.classes))


def most_by_chance(examples: int, classes: int) -> float:
    """How many right answers guessing gives at most: the mean, and three standard deviations."""
    share = 1 / classes
    return examples * share + SIGMAS * math.sqrt(examples * share * (1 - share))

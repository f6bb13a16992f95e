"""What varies between the members of a population, and how much."""

from popnet.metrics.similarity import linear_cka
from popnet.metrics.variability import (
    Pairwise,
    Variability,
    accuracy,
    cross_entropy,
    disagreement,
    ensemble_cross_entropy_delta,
    ensemble_delta,
    pairwise,
    pearson,
    spearman,
    variability,
    variability_reduction,
)

__all__ = [
    "Pairwise",
    "Variability",
    "accuracy",
    "cross_entropy",
    "disagreement",
    "ensemble_cross_entropy_delta",
    "ensemble_delta",
    "linear_cka",
    "pairwise",
    "pearson",
    "spearman",
    "variability",
    "variability_reduction",
]

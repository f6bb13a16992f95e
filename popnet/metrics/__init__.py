"""What varies between the members of a population, and how much."""

from popnet.metrics import theory
from popnet.metrics.comparison import Comparison, compare, compare_all, compare_samples, compare_values, holm
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
    "Comparison",
    "Pairwise",
    "Variability",
    "accuracy",
    "compare",
    "compare_all",
    "compare_samples",
    "compare_values",
    "cross_entropy",
    "disagreement",
    "ensemble_cross_entropy_delta",
    "ensemble_delta",
    "holm",
    "linear_cka",
    "pairwise",
    "pearson",
    "spearman",
    "theory",
    "variability",
    "variability_reduction",
]

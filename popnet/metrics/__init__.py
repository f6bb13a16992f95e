"""What varies between the members of a population, and how much.

The theory and the comparisons are imported when first used: they bring scipy.stats, which takes longer to import than
`popnet measure` needs for a hundred members.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from popnet.metrics.language import (
    LanguagePairwise,
    LanguageVariability,
    ensemble_perplexity_delta,
    language_pairwise,
    language_variability,
    perplexity,
    word_disagreement,
)
from popnet.metrics.measure import measure_file
from popnet.metrics.pairs import PairMean
from popnet.metrics.predictions import Predictions, open_labels, open_predictions
from popnet.metrics.similarity import linear_cka, linear_cka_matrix
from popnet.metrics.variability import (
    Pairwise,
    Variability,
    accuracy,
    cross_entropy,
    disagreement,
    ensemble_cross_entropy_delta,
    ensemble_delta,
    ensemble_delta_mean,
    pairwise,
    pearson,
    spearman,
    variability,
    variability_reduction,
)

if TYPE_CHECKING:
    from popnet.metrics import theory
    from popnet.metrics.comparison import Comparison, compare, compare_all, compare_samples, compare_values, holm

_COMPARISON = ("Comparison", "compare", "compare_all", "compare_samples", "compare_values", "holm")

__all__ = [
    "Comparison",
    "LanguagePairwise",
    "LanguageVariability",
    "PairMean",
    "Pairwise",
    "Predictions",
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
    "ensemble_delta_mean",
    "ensemble_perplexity_delta",
    "holm",
    "language_pairwise",
    "language_variability",
    "linear_cka",
    "linear_cka_matrix",
    "measure_file",
    "open_labels",
    "open_predictions",
    "pairwise",
    "pearson",
    "perplexity",
    "spearman",
    "theory",
    "variability",
    "variability_reduction",
    "word_disagreement",
]


def __getattr__(name: str) -> Any:
    if name == "theory":
        return importlib.import_module("popnet.metrics.theory")
    if name in _COMPARISON:
        return getattr(importlib.import_module("popnet.metrics.comparison"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

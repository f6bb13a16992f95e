"""What varies between the members of a population, and how much: functions of arrays, which open no file.

The names here are imported when first used: a comparison of two columns of numbers needs neither torch nor the kernels.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from popnet.metrics import theory
    from popnet.metrics.chance import diverged
    from popnet.metrics.comparison import (
        Comparison,
        TaskComparison,
        compare,
        compare_all,
        compare_samples,
        compare_tasks,
        compare_values,
        holm,
    )
    from popnet.metrics.language import (
        LanguagePairwise,
        LanguageVariability,
        ensemble_perplexity_delta,
        language_pairwise,
        language_variability,
        perplexity,
        word_disagreement,
    )
    from popnet.metrics.pairs import PairMean
    from popnet.metrics.population import (
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
    from popnet.metrics.predictions import Predictions
    from popnet.metrics.samples import Sample
    from popnet.metrics.similarity import Alignment, linear_cka, linear_cka_alignment, linear_cka_matrix

_HOME = {
    "Comparison": "comparison",
    "LanguagePairwise": "language",
    "LanguageVariability": "language",
    "PairMean": "pairs",
    "Pairwise": "population",
    "Predictions": "predictions",
    "Sample": "samples",
    "TaskComparison": "comparison",
    "Variability": "population",
    "accuracy": "population",
    "compare": "comparison",
    "compare_all": "comparison",
    "compare_samples": "comparison",
    "compare_tasks": "comparison",
    "compare_values": "comparison",
    "cross_entropy": "population",
    "disagreement": "population",
    "diverged": "chance",
    "ensemble_cross_entropy_delta": "population",
    "ensemble_delta": "population",
    "ensemble_delta_mean": "population",
    "ensemble_perplexity_delta": "language",
    "holm": "comparison",
    "language_pairwise": "language",
    "language_variability": "language",
    "Alignment": "similarity",
    "linear_cka": "similarity",
    "linear_cka_alignment": "similarity",
    "linear_cka_matrix": "similarity",
    "pairwise": "population",
    "pearson": "population",
    "perplexity": "language",
    "spearman": "population",
    "variability": "population",
    "variability_reduction": "population",
    "word_disagreement": "language",
}
_MODULES = ("theory",)

__all__ = [
    "Alignment",
    "Comparison",
    "LanguagePairwise",
    "LanguageVariability",
    "PairMean",
    "Pairwise",
    "Predictions",
    "Sample",
    "TaskComparison",
    "Variability",
    "accuracy",
    "compare",
    "compare_all",
    "compare_samples",
    "compare_tasks",
    "compare_values",
    "cross_entropy",
    "disagreement",
    "diverged",
    "ensemble_cross_entropy_delta",
    "ensemble_delta",
    "ensemble_delta_mean",
    "ensemble_perplexity_delta",
    "holm",
    "language_pairwise",
    "language_variability",
    "linear_cka",
    "linear_cka_alignment",
    "linear_cka_matrix",
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
    if name in _MODULES:
        return importlib.import_module(f"popnet.metrics.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"popnet.metrics.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

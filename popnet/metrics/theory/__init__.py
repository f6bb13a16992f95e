"""The statistical structure of the errors of repeated trainings.

The formulas are those of Jordan (2024), "On the Variance of Neural Network Training with respect to Test Sets and
Distributions".

Functions take error bits, bool [members, examples] (NumPy's, torch's, or `PackedErrors`, an eighth of the memory), or
predicted classes, integers [members, examples] (a byte each will do), and labels, integers [examples]. Errors are
rates in 0..1, and variances are of such rates. What is a count stays an integer, so results do not depend on threads
or blocks.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from popnet.metrics.theory.calibration import (
        Calibration,
        DisagreementCheck,
        class_calibration,
        disagreement_check,
        twin_disagreements,
        votes,
    )
    from popnet.metrics.theory.decorrelation import (
        Correlation,
        LuckyGain,
        SplitHalves,
        correlation,
        correlations,
        lucky_gain,
        split_halves,
    )
    from popnet.metrics.theory.independence import (
        DependentPairs,
        dependent_pairs,
        example_rates,
        independent_errors_distribution,
        independent_errors_sample,
    )
    from popnet.metrics.theory.packed import PackedErrors
    from popnet.metrics.theory.resampled import Resampled, resample
    from popnet.metrics.theory.summary import Summary, summarise
    from popnet.metrics.theory.tasks import BinaryTasks, binary_tasks
    from popnet.metrics.theory.variance import (
        Estimate,
        binary_variance,
        binomial_variance,
        distribution_variance,
        distribution_variance_interval,
        independent_errors_sd,
        observed_variance,
        signed_sd,
        variance_lower_bound,
    )

_HOME = {
    "BinaryTasks": "tasks",
    "Calibration": "calibration",
    "Correlation": "decorrelation",
    "DependentPairs": "independence",
    "DisagreementCheck": "calibration",
    "Estimate": "variance",
    "LuckyGain": "decorrelation",
    "PackedErrors": "packed",
    "Resampled": "resampled",
    "SplitHalves": "decorrelation",
    "Summary": "summary",
    "binary_tasks": "tasks",
    "binary_variance": "variance",
    "binomial_variance": "variance",
    "class_calibration": "calibration",
    "correlation": "decorrelation",
    "correlations": "decorrelation",
    "dependent_pairs": "independence",
    "disagreement_check": "calibration",
    "distribution_variance": "variance",
    "distribution_variance_interval": "variance",
    "example_rates": "independence",
    "independent_errors_distribution": "independence",
    "independent_errors_sample": "independence",
    "independent_errors_sd": "variance",
    "lucky_gain": "decorrelation",
    "observed_variance": "variance",
    "resample": "resampled",
    "signed_sd": "variance",
    "split_halves": "decorrelation",
    "summarise": "summary",
    "twin_disagreements": "calibration",
    "variance_lower_bound": "variance",
    "votes": "calibration",
}

__all__ = [
    "BinaryTasks",
    "Calibration",
    "Correlation",
    "DependentPairs",
    "DisagreementCheck",
    "Estimate",
    "LuckyGain",
    "PackedErrors",
    "Resampled",
    "SplitHalves",
    "Summary",
    "binary_tasks",
    "binary_variance",
    "binomial_variance",
    "class_calibration",
    "correlation",
    "correlations",
    "dependent_pairs",
    "disagreement_check",
    "distribution_variance",
    "distribution_variance_interval",
    "example_rates",
    "independent_errors_distribution",
    "independent_errors_sample",
    "independent_errors_sd",
    "lucky_gain",
    "observed_variance",
    "resample",
    "signed_sd",
    "split_halves",
    "summarise",
    "twin_disagreements",
    "variance_lower_bound",
    "votes",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"popnet.metrics.theory.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

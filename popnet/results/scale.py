"""Accuracies and error rates in one scale: percent, where fractions are recognised; and what is said of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from popnet.errors import DataError
from popnet.metrics.samples import Sample
from popnet.results.found import Runs, Scale
from popnet.results.names import meaning

_APART = 20.0
"""Values in 0..1 and values that many times as large or more, in one comparison, are taken for two scales."""


def in_one_scale(runs: Sequence[Runs], scale: Scale) -> list[Runs]:
    """The sources with shares (see `names.Kind`) in percent, and a mark where fractions were made so.

    Args:
        runs: of one task.
        scale: `fraction` or `percent` says what shares are; `as-is` leaves all numbers as they are, unchecked; `auto`
            takes shares that all lie in 0..1 for fractions.

    Raises:
        DataError: one source looks like fractions and another like percent; a share outside 0..100.
    """
    if scale == "as-is":
        return list(runs)
    found = list(runs)
    for metric in [m for m in runs[0].samples if all(m in r.samples for r in runs)]:
        if scale == "auto":
            _check_apart(found, metric)
        if meaning(metric).kind == "share":
            found = _share(found, metric, scale)
    return found


def _known_percent(runs: Runs, metric: str) -> bool:
    """Whether the reader computed the accuracy, which is percent then."""
    return metric == "accuracy" and runs.errors is not None


def _share(runs: Sequence[Runs], metric: str, scale: Scale) -> list[Runs]:
    given = [r for r in runs if not _known_percent(r, metric)]
    if not given:
        return list(runs)
    highest = max(float(r.samples[metric].values.max()) for r in given)
    fractions = scale == "fraction" or (scale == "auto" and len(given) == len(runs) and highest <= 1)
    top = 1 if fractions else 100
    for r in given:
        values = r.samples[metric].values
        wrong = values[(values < 0) | (values > top)]
        if wrong.size:
            kind = "fraction" if fractions else "percentage"
            raise DataError(
                f"{r.name}: {metric} is {wrong[0]:g}, outside 0..{top}: say --scale as-is where it is no {kind}"
            )
    return [_in_percent(r, metric) if fractions and not _known_percent(r, metric) else r for r in runs]


def _in_percent(runs: Runs, metric: str) -> Runs:
    sample = runs.samples[metric]
    means = None if sample.example_means is None else 100 * sample.example_means
    percent = Sample(100 * sample.values, means, 1e4 * sample.own_variance)
    mark = f"{metric} was given as fractions"
    return replace(runs, samples={**runs.samples, metric: percent}, marks=(*runs.marks, mark))


def _check_apart(runs: Sequence[Runs], metric: str) -> None:
    """Raises DataError where fractions stand beside percent, in one source or in two."""
    known = meaning(metric)
    if known.kind == "free" and known.higher_is_better is not None:
        return  # a loss may be 0.05 in one and 5 in another
    for r in runs:
        _check_span(r.name, r.samples[metric].values, metric)
    spans = [(float(r.samples[metric].values.min()), float(r.samples[metric].values.max()), r.name) for r in runs]
    for low, high, name in spans:
        for other_low, other_high, other in spans:
            if low >= 0 and 0 < high <= 1 < other_low and other_high <= 100 and other_low / high >= _APART:
                raise DataError(
                    f"{metric} is {low:g} to {high:g} in {name} and {other_low:g} to {other_high:g} in {other}: "
                    "fractions against percent? bring them to one scale, or say --scale as-is"
                )


def _check_span(name: str, values: NDArray[np.float64], metric: str) -> None:
    small, large = values[(values > 0) & (values <= 1)], values[(values > 1) & (values <= 100)]
    if small.size and large.size and values.min() >= 0 and large.min() / small.max() >= _APART:
        raise DataError(
            f"{name}: {metric} is {small.max():g} in one run and {large.min():g} in another: fractions and percent? "
            "bring them to one scale, or say --scale as-is"
        )

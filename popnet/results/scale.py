"""Accuracies and error rates in one scale: percent, where fractions are recognised, and what is said of that.

A file has one convention: what all its tasks hold decides. Sources that may have two conventions are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from popnet.errors import DataError
from popnet.metrics.samples import Sample
from popnet.results.found import Runs, Scale
from popnet.results.names import meaning

_APART = 20.0
"""Values in 0..1 and values so many times as large, under a name that is not known or in one source, are two scales."""


def in_one_scale(sources: Sequence[Sequence[Runs]], scale: Scale) -> list[list[Runs]]:
    """The sources with shares (see `names.Kind`) in percent, and a mark where fractions were made so.

    Args:
        sources: of each, its runs on every task.
        scale: `fraction` or `percent` says what shares are; `as-is` leaves all numbers as they are, unchecked; `auto`
            takes accuracies that all lie in 0..1 for fractions, and shows such error rates as they were given.

    Raises:
        DataError: one source may be fractions and another percent; a share outside 0..100.
    """
    found = [list(tasks) for tasks in sources]
    metrics = dict.fromkeys(metric for tasks in found for runs in tasks for metric in runs.samples)
    for metric in metrics:
        if scale == "auto":
            _check_signs(found, metric)
            _check_apart(found, metric)
        if meaning(metric).kind == "share":
            found = _share(found, metric, scale)
    return found


def _share(found: list[list[Runs]], metric: str, scale: Scale) -> list[list[Runs]]:
    having = [runs for tasks in found for runs in tasks if metric in runs.samples]
    known = [runs for runs in having if _in_percent(runs, metric)]
    given = [runs for runs in having if not _in_percent(runs, metric)]
    if scale == "as-is":
        return _each(found, metric, _as_given)
    small = bool(given) and not known and max(float(r.samples[metric].values.max()) for r in given) <= 1
    if scale == "auto" and small and meaning(metric).higher_is_better is False:
        return _each(found, metric, _ambiguous)  # an error rate of 0.3 is 30%, or 0.3%
    fractions = scale == "fraction" or (scale == "auto" and small)
    for runs in given:
        _check_bounds(runs, metric, 1 if fractions else 100)
    return _each(found, metric, _hundredfold) if fractions else found


def _each(found: list[list[Runs]], metric: str, change: Callable[[Runs, str], Runs]) -> list[list[Runs]]:
    """The sources with a change made to those that have the metric, and not surely in percent."""
    return [
        [change(r, metric) if metric in r.samples and not _in_percent(r, metric) else r for r in tasks]
        for tasks in found
    ]


def _in_percent(runs: Runs, metric: str) -> bool:
    """Whether a metric is surely in percent: computed here, or said so by the file."""
    return metric in runs.percent or (metric == "accuracy" and runs.errors is not None)


def _hundredfold(runs: Runs, metric: str) -> Runs:
    sample = runs.samples[metric]
    means = None if sample.example_means is None else 100 * sample.example_means
    percent = Sample(100 * sample.values, means, 1e4 * sample.own_variance)
    mark = f"{metric} was given as fractions"
    return replace(runs, samples={**runs.samples, metric: percent}, marks=(*runs.marks, mark))


def _as_given(runs: Runs, metric: str) -> Runs:
    return replace(runs, units={**runs.units, metric: ""})


def _ambiguous(runs: Runs, metric: str) -> Runs:
    mark = f"{metric} is shown as it was given: --scale fraction, or --scale percent, shows points"
    return replace(_as_given(runs, metric), marks=(*runs.marks, mark))


def _check_bounds(runs: Runs, metric: str, top: int) -> None:
    values = runs.samples[metric].values
    wrong = values[(values < 0) | (values > top)]
    if wrong.size:
        kind = "fraction" if top == 1 else "percentage"
        raise DataError(
            f"{runs.name}: {metric} is {wrong[0]:g}, outside 0..{top}: say --scale as-is where it is no {kind}"
        )


def _check_signs(found: Sequence[Sequence[Runs]], metric: str) -> None:
    """Raises DataError where one source says that a metric is in percent, and another does not."""
    having = [runs for tasks in found for runs in tasks if metric in runs.samples]
    said = next((runs for runs in having if metric in runs.percent), None)
    other = next((runs for runs in having if not _in_percent(runs, metric)), None)
    if said is not None and other is not None and other.samples[metric].values.max() <= 1:
        raise DataError(
            f"{metric} is in percent in {said.name}, which says so, and {other.samples[metric].values.max():g} or less "
            f"in {other.name}, which does not: bring them to one scale, or say --scale as-is"
        )


def _check_apart(found: Sequence[Sequence[Runs]], metric: str) -> None:
    """Raises DataError where fractions may stand beside percent, in one source or in two."""
    known = meaning(metric)
    if known.kind == "free" and known.higher_is_better is not None:
        return  # a loss may be 0.05 in one and 5 in another
    least = 1.0 if known.kind != "free" else _APART
    spans = []
    for tasks in found:
        having = [runs for runs in tasks if metric in runs.samples]
        for runs in having:
            if not _in_percent(runs, metric):
                _check_span(runs.name, runs.samples[metric].values, metric)
        if having:
            values = np.concatenate([runs.samples[metric].values for runs in having])
            spans.append((having[0].name, float(values.min()), float(values.max())))
    for name, low, high in spans:
        for other, other_low, other_high in spans:
            if low >= 0 and 0 < high <= 1 < other_low and other_high <= 100 and other_low / high >= least:
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

"""Which of Jordan's (2024) figures some populations have the runs for, and these figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from popnet.config import Recipe
from popnet.metrics import theory
from popnet.metrics.precision import disagreement_matrix
from popnet.metrics.theory import Summary
from popnet.report import figures
from popnet.results.found import Runs


@dataclass(frozen=True)
class Drawn:
    """A figure: `kind` names its file."""

    kind: str
    caption: str
    svg: str


def drawn(populations: Mapping[str, Runs], summaries: Mapping[str, Summary]) -> Iterator[Drawn]:
    """Every figure that there are runs for, in the paper's order.

    Args:
        populations: by label, with predicted classes and labels.
        summaries: of the same populations.
    """
    accuracies = {label: runs.samples["accuracy"].values for label, runs in populations.items()}
    yield Drawn("accuracy", "Accuracy over runs", figures.accuracy_distributions(accuracies))
    halves = {label: _halves(runs) for label, runs in populations.items()}
    yield Drawn("halves", "Two halves of the test set", figures.split_halves(halves))
    foreseen = {label: theory.independent_errors_distribution(runs.errors) for label, runs in populations.items()}
    caption = "Accuracy against independent errors"
    yield Drawn("independence", caption, figures.independent_errors(accuracies, foreseen))
    curves = {
        label: theory.class_calibration(runs.predictions, runs.labels, runs.classes)
        for label, runs in populations.items()
    }
    yield Drawn("calibration", "Calibration of the votes", figures.calibration(curves))
    yield from _settings(populations, summaries)
    label, last = list(populations.items())[-1]
    tasks = theory.binary_tasks(last.predictions, last.labels, last.classes)
    yield Drawn("tasks", f"Binary tasks, {label}", figures.binary_tasks(tasks))
    sets = {label: accuracies[label] for label in several_test_sets(populations)}
    if sets:
        yield Drawn("test-sets", "The same runs on several test sets", figures.correlated_test_sets(sets))
    yield from _pokes(populations)


def several_test_sets(populations: Mapping[str, Runs]) -> list[str]:
    """The populations that are the same runs on different test sets: those with the first one's seeds, in its order."""
    first, *others = populations.values()
    if first.seeds is None:
        return []
    same = [label for label, runs in populations.items() if runs.seeds == first.seeds]
    return same if any(not np.array_equal(first.labels, runs.labels) for runs in others) and len(same) > 1 else []  # type: ignore[arg-type]


def _halves(runs: Runs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    assert runs.errors is not None
    even, odd = runs.errors.halves()
    examples = runs.errors.examples
    return 100 * (1 - even / ((examples + 1) // 2)), 100 * (1 - odd / (examples // 2))


_Setting = Callable[[Recipe], float]


def _settings(populations: Mapping[str, Runs], summaries: Mapping[str, Summary]) -> Iterator[Drawn]:
    """SDs by duration (Figure 5) and by learning rate (Figure 8), where recipes differ in that alone."""
    for kind, label, path, setting in (
        ("durations", "epochs", ("epochs",), lambda recipe: float(recipe.epochs)),
        ("learning-rates", "learning rate", ("optimizer", "lr"), lambda recipe: recipe.optimizer.lr),
    ):
        names = _differing_in(populations, path, setting)
        if len(names) < 2:
            continue
        found = [summaries[name] for name in names]
        deviations = {
            "on this test set": [one.sd for one in found],
            "if errors were independent": [one.independent_sd for one in found],
            "genuine": [one.distribution_sd for one in found],
        }
        values = [setting(_recipe(populations[name])) for name in names]
        yield Drawn(kind, f"SD between runs by {label}", figures.deviations_by_setting(values, deviations, label))


def _differing_in(populations: Mapping[str, Runs], path: tuple[str, ...], setting: _Setting) -> list[str]:
    """The largest group of populations whose recipes differ in one key alone, ascending by it, each value once.

    A setting of 0 (no training) has no place on a logarithmic axis.
    """
    groups: dict[str, dict[float, str]] = {}
    for name, runs in populations.items():
        variant = runs.variant
        if variant is None or runs.recipe is None or setting(runs.recipe) <= 0:
            continue
        if variant.views.name != "none" or variant.ensemble > 1 or "bit" in variant.sources:
            continue
        rest = runs.recipe.canonical()
        inner = rest
        for key in path[:-1]:
            inner = inner[key]
        inner.pop(path[-1])
        groups.setdefault(f"{rest} {variant.sources}", {}).setdefault(setting(runs.recipe), name)
    largest = max(groups.values(), key=len, default={})
    return [largest[value] for value in sorted(largest)]


def _pokes(populations: Mapping[str, Runs]) -> Iterator[Drawn]:
    """Runs against their twins of which one weight was changed, and against runs of other seeds (Figure 12)."""
    for name, twin in populations.items():
        pokes = {label: runs for label, runs in populations.items() if _is_poked(runs, twin)}
        if not pokes:
            continue
        differences = {label: _twin_disagreements(runs, twin) for label, runs in pokes.items()}
        others = disagreement_matrix(np.asarray(twin.predictions))
        histograms = {**differences, f"{name}, other seeds": others[np.triu_indices(len(others), 1)]}
        by_step = sorted((runs.variant.perturbation.step, label) for label, runs in pokes.items() if runs.variant)
        steps = [step for step, _ in by_step] if len(by_step) > 1 else []
        means = [float(differences[label].mean()) for _, label in by_step] if steps else []
        word = "-".join(name.split())
        yield Drawn(f"pokes-{word}", f"One weight poked: {name}", figures.disagreements(histograms, steps, means))


def _is_poked(runs: Runs, twin: Runs) -> bool:
    """Whether the first are the second's runs with one weight changed."""
    if runs.variant is None or twin.variant is None or runs.seeds is None or twin.seeds is None:
        return False
    poked = "bit" in runs.variant.sources and "bit" not in twin.variant.sources
    return poked and runs.recipe == twin.recipe and set(_unpoked(runs)) <= set(_unpoked(twin))


def _twin_disagreements(runs: Runs, twin: Runs) -> NDArray[np.float64]:
    """Of each poked run with its own twin, percent."""
    assert runs.predictions is not None
    assert twin.predictions is not None
    place = {seeds: row for row, seeds in enumerate(_unpoked(twin))}
    order = [place[seeds] for seeds in _unpoked(runs)]
    return 100.0 * theory.twin_disagreements(runs.predictions, twin.predictions[order])


def _unpoked(runs: Runs) -> list[object]:
    """Each run's seeds but for the changed weight's."""
    assert runs.seeds is not None
    return [
        tuple(part for part in seeds if not (isinstance(part, tuple) and part[0] == "bit"))
        if isinstance(seeds, tuple)
        else seeds
        for seeds in runs.seeds
    ]


def _recipe(runs: Runs) -> Recipe:
    assert runs.recipe is not None
    return runs.recipe

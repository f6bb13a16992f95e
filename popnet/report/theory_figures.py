"""Which of Jordan's (2024) figures some populations have the runs for, and these figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from popnet.config import Recipe, Variant
from popnet.metrics import theory
from popnet.metrics.precision import disagreement_matrix
from popnet.metrics.theory import Summary
from popnet.report import figures
from popnet.report.settings import DURATION, RATE, differing_in, without_augmentation_and_less_data
from popnet.report.twins import are_twins, change_of, twin_disagreements
from popnet.results.found import Runs

PAPERS_PAIR = (776, 796)
"""Of Figure 4, in the order of CIFAR-10's test set."""

_FIRST_LABELS = (3, 8, 8, 0, 6, 6, 1, 6, 3, 1, 0, 9, 5, 7, 9, 8, 5, 7, 8, 6)
"""Of CIFAR-10's test set in its own order, by which it is known: copies may hold the pictures in another."""

PAIR_RATES = (0.362, 0.607)
"""How often they are predicted right there: of another test set, the two examples nearest to these are drawn."""

Populations = Mapping[str, Runs]
Accuracies = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Drawn:
    """A figure: `kind` names its file."""

    kind: str
    caption: str
    svg: str


def drawn(populations: Populations, summaries: Mapping[str, Summary]) -> Iterator[Drawn]:
    """Every figure that there are runs for, in the paper's order.

    Args:
        populations: by label, with predicted classes and labels.
        summaries: of the same populations.
    """
    accuracies = {label: runs.samples["accuracy"].values for label, runs in populations.items()}
    label, last = list(populations.items())[-1]
    yield Drawn("accuracy", "Accuracy over runs", figures.accuracy_distributions(accuracies))
    halves = {label: _halves(runs) for label, runs in populations.items()}
    yield Drawn("halves", "Two halves of the test set", figures.split_halves(halves))
    yield _independence(populations, summaries, accuracies)
    yield _pair(label, last)
    yield from _settings(populations, summaries)
    tasks = theory.binary_tasks(last.predictions, last.labels, last.classes)
    yield Drawn("tasks", f"Binary tasks, {label}", figures.binary_tasks(tasks))
    curves = {
        label: theory.class_calibration(runs.predictions, runs.labels, runs.classes)
        for label, runs in populations.items()
    }
    yield Drawn("calibration", "Calibration of the votes", figures.calibration(curves))
    yield from _augmentation(populations, accuracies)
    sets = {label: accuracies[label] for label in several_test_sets(populations)}
    if sets:
        yield Drawn("test-sets", "The same runs on several test sets", figures.correlated_test_sets(sets))
    yield from _sources(populations, accuracies)
    yield from _pokes(populations)
    yield from _deviating(label, last, summaries[label])
    foreseen = theory.independent_errors_distribution(last.errors)
    svg = figures.binomial(accuracies[label], foreseen, summaries[label].error / 100)
    yield Drawn("binomial", f"The binomial assumption against the observed accuracies, {label}", svg)


def several_test_sets(populations: Populations) -> list[str]:
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


def _independence(populations: Populations, summaries: Mapping[str, Summary], accuracies: Accuracies) -> Drawn:
    """Figure 3; of several test sets, Figure 9."""
    foreseen = {label: theory.independent_errors_distribution(runs.errors) for label, runs in populations.items()}
    titles = {name: f"{name}\nSD {one.sd:.3f}, genuine {one.distribution_sd:.3f}" for name, one in summaries.items()}
    svg = figures.independent_errors(accuracies, foreseen, titles)
    return Drawn("independence", "Accuracy against independent errors", svg)


def _pair(label: str, runs: Runs) -> Drawn:
    """Figure 4: the paper's pair on CIFAR-10; elsewhere the two examples that are right as often as its two are."""
    assert runs.errors is not None
    right = 1 - runs.errors.example_counts() / runs.errors.members
    first, second = PAPERS_PAIR
    if not _in_papers_order(runs):
        first = int(np.argmin(np.abs(right - PAIR_RATES[0])))
        others = np.abs(right - PAIR_RATES[1])
        others[first] = np.inf
        second = int(np.argmin(others))
    columns = np.array([first, second])
    bits = np.unpackbits(runs.errors.by_example(columns), axis=1, count=runs.errors.members) == 0
    a, b = bits
    observed = [100 * float(mask.mean()) for mask in (a & b, a & ~b, ~a & b, ~a & ~b)]
    p, q = right[first], right[second]
    foreseen = [100 * float(share) for share in (p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q))]
    caption = f"A pair of examples, {first} and {second}, {label}: are their errors independent?"
    return Drawn("pair", caption, figures.one_pair(first, second, observed, foreseen, runs.errors.members))


def _in_papers_order(runs: Runs) -> bool:
    if runs.recipe is None or runs.recipe.dataset.name != "cifar10" or runs.labels is None:
        return False
    return len(runs.labels) == 10_000 and tuple(runs.labels[: len(_FIRST_LABELS)].tolist()) == _FIRST_LABELS


@dataclass(frozen=True)
class _Trained:
    """Runs of which variant and recipe are known."""

    label: str
    variant: Variant
    recipe: Recipe


def _trained(populations: Populations) -> list[_Trained]:
    return [
        _Trained(label, runs.variant, runs.recipe)
        for label, runs in populations.items()
        if runs.variant is not None and runs.recipe is not None
    ]


def _settings(populations: Populations, summaries: Mapping[str, Summary]) -> Iterator[Drawn]:
    """SDs by duration (Figure 5, and 3 right) and by learning rate (Figure 8), where recipes differ in that alone."""
    for kind, label, path in (("durations", "epochs", DURATION), ("learning-rates", "learning rate", RATE)):
        group = max(differing_in(_trained(populations), path), key=len, default=[])
        if not group:
            continue
        found = [summaries[one.label] for one in group]
        deviations = {
            "on this test set": [one.sd for one in found],
            "if errors were independent": [one.independent_sd for one in found],
            "genuine": [one.distribution_sd for one in found],
        }
        values = [float(one.recipe.epochs if path == DURATION else one.recipe.optimizer.lr) for one in group]
        yield Drawn(kind, f"SD between runs by {label}", figures.deviations_by_setting(values, deviations, label))


def _augmentation(populations: Populations, accuracies: Accuracies) -> Iterator[Drawn]:
    """Figure 7, center left."""
    pair = without_augmentation_and_less_data(_trained(populations))
    if pair is not None:
        values = {"No augmentation, and less data": {one.label: accuracies[one.label] for one in pair}}
        yield Drawn("augmentation", "No augmentation against less data", figures.overlaid(values))


def _sources(populations: Populations, accuracies: Accuracies) -> Iterator[Drawn]:
    """Figure 11: for each training, all sources together and each alone."""
    groups: dict[str, list[_Trained]] = {}
    for one in _trained(populations):
        if one.variant.sources and "bit" not in one.variant.sources and one.variant.until_step is None:
            groups.setdefault(one.recipe.digest, []).append(one)
    values = {}
    for group in groups.values():
        counts = sorted(len(one.variant.sources) for one in group)
        if len(group) > 1 and counts[0] == 1 and counts[-1] > 1:
            title = f"{group[0].recipe.epochs} epochs, {group[0].recipe.model.label}"
            values[title if title not in values else f"{title}, {group[0].label}"] = {
                one.label: accuracies[one.label] for one in group
            }
    if values:
        yield Drawn("sources", "One source of randomness against all", figures.overlaid(values))


def _pokes(populations: Populations) -> Iterator[Drawn]:
    """Runs against their twins of which one weight was changed, and against runs of other seeds (Figure 12)."""
    for name, twin in populations.items():
        pokes = {label: runs for label, runs in populations.items() if are_twins(runs, twin)}
        if not pokes:
            continue
        differences = {label: twin_disagreements(runs, twin) for label, runs in pokes.items()}
        others = disagreement_matrix(np.asarray(twin.predictions))
        histograms = {**differences, f"{name}, other seeds": others[np.triu_indices(len(others), 1)]}
        by_step = _by_step(pokes)
        steps = [step for step, _ in by_step] if len(by_step) > 1 else []
        means = [float(differences[label].mean()) for _, label in by_step] if steps else []
        word = "-".join(name.split())
        yield Drawn(f"pokes-{word}", f"One weight poked: {name}", figures.disagreements(histograms, steps, means))


def _by_step(pokes: Populations) -> list[tuple[int, str]]:
    """The rows of one change of a weight, by the step before which it happens; of several changes, the first."""
    poked = [(runs.variant, label) for label, runs in pokes.items() if runs.variant and "bit" in runs.variant.sources]
    plain = [(variant, label) for variant, label in poked if variant.first_step_precision is None]
    alike = [one for one in plain if change_of(one[0]) == change_of(plain[0][0])]
    return sorted((variant.perturbation.step, label) for variant, label in alike)


def _deviating(label: str, runs: Runs, summary: Summary) -> Iterator[Drawn]:
    """Figure 13, where any pair deviates by over 2%."""
    if summary.dependent_pairs == 0:
        return
    pairs = theory.dependent_pairs(runs.errors, limit=10)
    caption = (
        f"The pairs of examples farthest from independence, {label}: {pairs.count:,} of {pairs.pairs:,} deviate by "
        f"over 2%, and {pairs.expected_by_chance:,.0f} would by chance"
    )
    yield Drawn("pairs", caption, figures.deviating_pairs(pairs))

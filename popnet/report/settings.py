"""After Jordan (2024): which rows differ in one setting alone, in duration, learning rate, data or augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol, TypeVar

from popnet.config import Experiment, Recipe, Variant
from popnet.report.quantities import Value
from popnet.report.verdicts import ratio


class Trained(Protocol):
    """A row of a report, or runs of which variant and recipe are known."""

    @property
    def variant(self) -> Variant: ...

    @property
    def recipe(self) -> Recipe: ...


R = TypeVar("R", bound=Trained)

DURATION = ("epochs",)
RATE = ("optimizer", "lr")

_VALUES: dict[tuple[str, ...], Callable[[Recipe], float]] = {
    DURATION: lambda recipe: float(recipe.epochs),
    RATE: lambda recipe: recipe.optimizer.lr,
}


def is_jordans(experiment: Experiment) -> bool:
    """Whether an experiment is after Jordan (2024): it names one of that paper's tables, or is called jordan_..."""
    return any(name.startswith("jordan") for name in (experiment.name, *experiment.published))


def differing_in(rows: Iterable[R], path: tuple[str, ...]) -> list[list[R]]:
    """Groups of at least two rows of single models whose recipes differ in one key alone, ascending by it.

    path: `DURATION`, where rows of 0 epochs are left out, since they are not trained, or `RATE`.
    """
    groups: dict[str, dict[float, R]] = {}
    for row in rows:
        value = _VALUES[path](row.recipe)
        if value > 0 and _is_plain(row.variant):
            constants = sorted(row.variant.constants.items())
            key = f"{without(row.recipe, path)} {row.variant.sources} {constants} {row.variant.part}"
            groups.setdefault(key, {}).setdefault(value, row)
    return [[group[value] for value in sorted(group)] for group in groups.values() if len(group) > 1]


def without(recipe: Recipe, *paths: tuple[str, ...]) -> dict[str, object]:
    """The recipe as plain data, but for some of its keys."""
    plain = recipe.canonical()
    for path in paths:
        inner = plain
        for key in path[:-1]:
            inner = inner[key]
        inner.pop(path[-1], None)
    return plain


def without_augmentation_and_less_data(rows: Iterable[R]) -> tuple[R, R] | None:
    """A row without augmentation and one with fewer training examples, alike in all else; None where there are none."""
    return _pair([row for row in rows if _is_plain(row.variant)])


def their_ensembles(rows: Iterable[R], pair: tuple[R, R]) -> tuple[R, R] | None:
    """The rows of ensembles of the same two trainings, of one size; None where there are none."""
    recipes = [row.recipe for row in pair]
    ensembles = [row for row in rows if row.variant.ensemble > 1 and row.recipe in recipes]
    return _pair(ensembles)


def variance_ratio(above: Value, below: Value) -> Value:
    """The square of one SD over that of another, their errors taken as independent."""
    share = ratio(above, below)
    return replace(share, value=share.value**2, error=2 * abs(share.value) * share.error)


def _is_plain(variant: Variant) -> bool:
    """Whether a row is of single models in which a source varies from the first step to the last, and no weight."""
    single = variant.ensemble == 1 and variant.snapshots is None and variant.views.name == "none"
    throughout = variant.onset == 0 and variant.until_step is None and variant.first_step_precision is None
    return single and throughout and variant.cross is None and bool(variant.sources) and "bit" not in variant.sources


def _pair(rows: list[R]) -> tuple[R, R] | None:
    for bare in (row for row in rows if not row.recipe.augment.any):
        for less in (row for row in rows if row.recipe.augment.any and _size(row.recipe) < _size(bare.recipe)):
            paths = (("augment",), ("train_examples",))
            alike = without(bare.recipe, *paths) == without(less.recipe, *paths)
            if alike and bare.variant.ensemble == less.variant.ensemble:
                return bare, less
    return None


def _size(recipe: Recipe) -> float:
    """Training examples; infinite where all are taken."""
    return math.inf if recipe.train_examples is None else recipe.train_examples

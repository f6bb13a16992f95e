"""Which of Jordan's (2024) printed numbers belong to some runs: by model, data and training, not by names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from popnet.config import Recipe, Variant
from popnet.report.beside import plain_name, published_values
from popnet.report.claims.comparable import unlike
from popnet.report.quantities import Value
from popnet.report.scaled import paper_experiment
from popnet.report.tables import published_references
from popnet.results.found import Runs

TEST_SETS = "jordan_2024.imagenet_resnet18"
_PAIRS = "jordan_2024.imagenet_pairs"
_ROW = (
    "sources",
    "perturbation",
    "until_step",
    "first_step_precision",
    "ensemble",
    "snapshots",
    "views",
    "part",
    "onset",
)


def printed(populations: Mapping[str, Runs]) -> dict[str, dict[str, Value]]:
    """By label, what the paper prints of a population; those of which it prints nothing are left out.

    Runs of a store are known by their recipe. Predictions on other test sets come as files without one: they count as
    the paper's where the same call holds runs of its ImageNet model, and bear its names (`imagenet-v2` or `v2`).
    """
    found = {label: dict(_of_training(label, runs)) for label, runs in populations.items()}
    if any(_is_trained_as(runs, reference=TEST_SETS) for runs in populations.values()):
        rows = published_values(TEST_SETS)
        for label, runs in populations.items():
            if runs.recipe is None and (name := test_set(label)) is not None:
                found[label] = dict(rows[name])
    return {label: values for label, values in found.items() if values}


def printed_r_squared(first: str, second: str) -> Value | None:
    """Of the accuracies on two test sets (Figure 10), where the paper prints it."""
    names = {test_set(first), test_set(second)}
    rows = published_values(_PAIRS).items()
    return next((values["r_squared"] for name, values in rows if set(name.split(" and ")) == names), None)


def test_set(label: str) -> str | None:
    """The paper's name of a test set that bears it, with or without `imagenet`; None for any other."""
    word = plain_name(label)
    return next((name for name in published_values(TEST_SETS) if plain_name(name) in (word, f"imagenet{word}")), None)


def _of_training(label: str, runs: Runs) -> Iterator[tuple[str, Value]]:
    """Every number printed of the same training; where several tables print one, that of a row of the same name."""
    tables = [name for name in published_references() if name.startswith("jordan_2024.") and name != _PAIRS]
    matches = [(name, reference) for reference in tables for name in _rows_like(runs, reference)]
    matches.sort(key=lambda match: plain_name(match[0]) != plain_name(label))
    seen: set[str] = set()
    for name, reference in matches:
        for quantity, value in published_values(reference)[name].items():
            if value.known and quantity not in seen:
                seen.add(quantity)
                yield quantity, value


def _rows_like(runs: Runs, reference: str) -> Iterator[str]:
    full = paper_experiment(reference)
    if full is None or runs.variant is None or runs.recipe is None:
        return
    names = {plain_name(name): name for name in published_values(reference)}
    for variant in full.variants:
        if plain_name(variant.name) in names and _same(runs.recipe, runs.variant, full.recipe_of(variant), variant):
            yield names[plain_name(variant.name)]


def _is_trained_as(runs: Runs, reference: str) -> bool:
    return any(True for _ in _rows_like(runs, reference))


def _same(recipe: Recipe, variant: Variant, theirs: Recipe, row: Variant) -> bool:
    """Whether two rows are the same training of the same model; precision and where data lie do not matter."""
    if recipe.language is not None or unlike(recipe.model_copy(update={"precision": theirs.precision}), theirs):
        return False
    return all(getattr(variant, key) == getattr(row, key) for key in _ROW)

"""What stores hold, measured: a row for each variant, with the error of every number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from popnet.config import Experiment, Recipe, Variant
from popnet.data.choice import phrase
from popnet.errors import DataError
from popnet.metrics import accuracy, cross_entropy, language_pairwise, pairwise, perplexity
from popnet.metrics.population import standard_deviation
from popnet.metrics.precision import mean_over_pairs_interval
from popnet.protocol import Member, Plan, Platform, Population, View
from popnet.report.quantities import Quantity, Value
from popnet.report.scaled import data_name
from popnet.report.similarity import Layer, Similarity
from popnet.results.stores.divergence import divergence_table
from popnet.results.stores.language_populations import LanguagePopulation, language_table, population_predictions
from popnet.results.stores.plans import stored_plans
from popnet.results.stores.populations import (
    AT_CHANCE,
    alignments,
    failed_members,
    finished_members,
    over_pairs,
    population_labels,
    population_logits,
    variability_table,
    why_lost,
)
from popnet.store import Store, open_store

_ACCOUNTING = ("members", "population", "failed", "diverged", "marks", "ensemble_pairs")


@dataclass(frozen=True)
class Runs:
    """What single runs (or ensembles) and their pairs give, from which any subset's metrics follow.

    Attributes:
        values: by metric (accuracy, cross_entropy; of language models ppl), float64 [runs].
        pairs: by metric over pairs, float64 [runs, runs].
    """

    values: Mapping[str, NDArray[np.float64]]
    pairs: Mapping[str, NDArray[np.float64]]

    @property
    def count(self) -> int:
        return len(next(iter(self.values.values())))

    def knows(self, metric: str) -> bool:
        """Whether a metric of `Variability` follows from them."""
        return metric in self.pairs or metric.rpartition("_")[0] in self.values

    @property
    def differ(self) -> bool:
        """Whether any two runs differ."""
        return any(float(np.ptp(sample)) > 0 for sample in self.values.values())


@dataclass(frozen=True)
class Row:
    """One variant of an experiment.

    Attributes:
        recipe: with the variant's own changes.
        members: finished runs, or ensembles of them.
        finished, planned, failed: the runs behind them, those of the whole population, and those that could not be
            trained.
        marks: what a reader must know.
        values: by name of the quantity, with standard errors: bootstrap for SDs, jackknife over runs for pairs.
        runs: None where fewer than two are finished.
        similarity: how alike members represent the test images, by layer; None where that was not asked for.
        curves: test accuracy (percent) and cross-entropy (nats) after each epoch, float64 [members, epochs], by name;
            NaN in epochs that were not evaluated.
        diverged: how many of the finished runs are at chance or know less than nothing (`popnet.metrics.diverged`);
            they count in `values`.
        overconfident: how many of these are clearly more often right than at chance, only their cross-entropy is bad.
    """

    variant: Variant
    recipe: Recipe
    members: int
    finished: int
    planned: int
    failed: int
    marks: tuple[str, ...]
    values: Mapping[str, Value]
    runs: Runs | None = None
    curves: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    similarity: Similarity | None = None
    diverged: int = 0
    overconfident: int = 0

    @property
    def name(self) -> str:
        return self.variant.name

    def value(self, quantity: Quantity) -> Value:
        """The quantity so that more of it means more variability (see `Quantity.variability`)."""
        return quantity.variability(self.values.get(quantity.name, Value(math.nan)))


@dataclass(frozen=True)
class Measured:
    """An experiment as one store holds it.

    Attributes:
        errors: what kept members from being trained, a sentence each.
        divergence: how twins part (`popnet.results.stores.divergence`); None where the experiment does not measure it.
        data: the data set in words.
        images: which of its training images were taken, in words; empty where all were, or the store does not know.
    """

    store: Path
    experiment: Experiment
    platform: Platform
    rows: tuple[Row, ...]
    errors: tuple[str, ...] = ()
    divergence: pd.DataFrame | None = None
    data: str = ""
    images: str = ""

    @property
    def title(self) -> str:
        return self.experiment.description or self.experiment.name

    @property
    def quantities(self) -> set[str]:
        """The names of what at least one row knows."""
        return {name for row in self.rows for name, value in row.values.items() if value.known}


def measure(paths: Sequence[str | Path]) -> list[Measured]:
    """Every experiment of the given stores, in their order.

    Raises StoreError where a folder is no store, DataError where one holds no finished run.
    """
    stores = [open_store(path) for path in dict.fromkeys(map(Path, paths))]
    plans = [(store, plan) for store in stores for plan in _plans(store)]
    return [_experiment(store, plan) for store, plan in plans]


def _plans(store: Store) -> list[Plan]:
    done = store.done()
    plans = [plan for plan in stored_plans(store) if any(m.id in done for m in plan.members)]
    if not plans:
        raise DataError(f"{store.path}: no run of its experiments is finished: `popnet run` goes on where it was")
    return plans


def _experiment(store: Store, plan: Plan) -> Measured:
    language = plan.experiment.recipe.language is not None
    table = language_table(plan, store) if language else variability_table(plan, store)
    done = store.done()
    rows = tuple(
        _row(store, plan, population, table.iloc[position], done)
        for position, population in enumerate(plan.populations)
    )
    errors = (
        *(f"member {key} failed: {error}" for key, error in failed_members(plan, store).items()),
        *_unknown_published(store, plan.experiment),
    )
    divergence = divergence_table(plan, store) if "divergence" in plan.experiment.measure else None
    dataset = plan.experiment.recipe.dataset
    data = data_name(dataset, store.datasets().get(dataset.identity))
    images = _training_images(store, plan.experiment)
    return Measured(store.path, plan.experiment, plan.platform, rows, errors, divergence, data, images)


def _unknown_published(store: Store, experiment: Experiment) -> Iterator[str]:
    for reference in store.experiments()[experiment.name].get("published", ()):
        if reference not in experiment.published:
            yield f"published table {reference!r} is not known to this version of popnet, and left out"


def _training_images(store: Store, experiment: Experiment) -> str:
    recipe = experiment.recipe
    if recipe.train_examples is None or recipe.language is not None:
        return ""
    facts = store.training_set(experiment.name, recipe.dataset.identity)
    return "" if facts is None else phrase(recipe.train_examples, *facts)


def _row(
    store: Store, plan: Plan, population: Population, measured: pd.Series, done: Mapping[str, frozenset[View]]
) -> Row:
    members = finished_members(population, done)
    variant = population.variant
    runs, curves = None, {}
    if len(members) // variant.ensemble >= 2:
        runs = _runs(store, population, members)
        curves = _curves(store, [m.id for m in members])
    return Row(
        variant,
        plan.experiment.recipe_of(variant),
        int(measured["members"]),
        len(members),
        len(population.members),
        int(measured["failed"]),
        tuple(filter(None, str(measured["marks"]).split("; "))),
        _values(measured, runs),
        runs,
        curves,
        _similarity(store, members) if "similarity" in plan.experiment.measure else None,
        int(measured["diverged"]),
        _overconfident(store, members, int(measured["diverged"])),
    )


def _overconfident(store: Store, members: Sequence[Member], diverged: int) -> int:
    """How many of the members that diverged did so by their cross-entropy alone; none of language models."""
    if not diverged or members[0].recipe.language is not None:
        return 0
    return diverged - sum(why_lost(store, m) is AT_CHANCE for m in members if m.recipe.epochs > 0)


def _runs(store: Store, population: Population, members: list[Member]) -> Runs:
    if members[0].recipe.language is not None:
        return _language_runs(population_predictions(store, population, members))
    logits, labels = population_logits(store, population, members), population_labels(store, population, members)
    over_pairs = pairwise(logits, labels)
    return Runs(
        {"accuracy": accuracy(logits, labels), "cross_entropy": cross_entropy(logits, labels)},
        {name: getattr(over_pairs, name) for name in over_pairs.__dataclass_fields__},
    )


def _language_runs(predicted: LanguagePopulation) -> Runs:
    over_pairs = language_pairwise(predicted.log_probabilities, predicted.words)
    pairs = {"ensemble_ppl_delta": over_pairs.ensemble_ppl_delta}
    if over_pairs.disagreement is not None:
        pairs["disagreement"] = over_pairs.disagreement
    return Runs({"ppl": perplexity(predicted.log_probabilities)}, pairs)


def _similarity(store: Store, members: list[Member]) -> Similarity | None:
    found, spec = alignments(store, members), members[0].recipe.features if members else None
    if spec is None or not found:
        return None
    layers = {
        name: Layer(_mean_over_pairs(one.cka), Value(over_pairs(one.floor), over_pairs(one.floor_sd)), len(one.cka))
        for name, one in found.items()
    }
    return Similarity(layers, min(one.examples for one in found.values()), spec.estimator)


def _mean_over_pairs(matrix: NDArray[np.float64]) -> Value:
    if len(matrix) < 3:
        return Value(float(matrix[0, -1]))
    mean = mean_over_pairs_interval(matrix)
    return Value(mean.value, mean.standard_error)


def _values(measured: pd.Series, runs: Runs | None) -> dict[str, Value]:
    """The measured row's numbers, each with its own error where it has one, else with that over runs or pairs."""
    names = [n for n in map(str, measured.index) if n not in _ACCOUNTING and not n.endswith("_error")]
    values = {name: float(measured[name]) for name in names}
    errors = {name: float(measured.get(f"{name}_error", math.nan)) for name in names}
    if runs is not None:
        for metric, sample in runs.values.items():
            errors[f"{metric}_mean"] = standard_deviation(sample) / math.sqrt(runs.count - 1)
        for metric, matrix in runs.pairs.items():
            errors[metric] = _mean_over_pairs(matrix).error
    return {name: Value(values[name], errors[name]) for name in names}


def _curves(store: Store, members: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    histories = [store.history(member_id) for member_id in members]
    if not all(len(history) for history in histories):
        return {}
    return {
        name: np.stack([history[f"test_{name}"].to_numpy() for history in histories])
        for name in ("accuracy", "cross_entropy")
    }

"""The rows of a store as `Runs`, and which row of which store a source names.

A row is written as `runs/base:All Nondeterminism Sources`; an experiment's name or file stands for its store,
`runs/NAME`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet import config
from popnet.errors import ConfigError, DataError, nearest
from popnet.metrics.samples import Sample
from popnet.protocol import Member, Population
from popnet.results.found import Runs
from popnet.results.reduction import of_logits
from popnet.results.sources import split
from popnet.results.stores.plans import stored_plans
from popnet.results.stores.populations import (
    ensemble_groups,
    finished_members,
    member_logits,
    population_labels,
    population_logits,
)
from popnet.store import Store


def stored_population(source: str) -> tuple[Store, Population, list[Member]]:
    """The store and the row that a source names, and the row's finished members, at least one."""
    path, variant = split(source)
    experiment: str | None = None
    if not (path / "store.json").exists():
        if path.is_dir():
            raise DataError(f"{path}: no popnet store, and no file of predictions or numbers")
        experiment = config.load(path, allow_import=True).name  # nothing is trained
        path = Path("runs") / experiment
        if not (path / "store.json").exists():
            raise DataError(
                f"{source}: not trained yet: no store in {path}; `popnet run {source.partition(':')[0]}` makes it"
            )
    store = Store(path)
    population = named_population(store, variant, source, experiment)
    members = finished_members(population, store.done())
    if not members:
        raise DataError(f"{source}: no run of {population.name!r} is finished")
    return store, population, members


def runs_of_store(source: str) -> Runs:
    """The finished runs of the row that a source names. Raises ConfigError, DataError, StoreError."""
    store, population, members = stored_population(source)
    return row_runs(store, population, members)


def row_runs(store: Store, population: Population, members: list[Member]) -> Runs:
    """The runs of a row: its finished members, or ensembles of them."""
    name = f"{store.path}:{population.name}"
    size = population.variant.ensemble
    groups = ensemble_groups(len(members), size) if size > 1 else [[index] for index in range(len(members))]
    behind = tuple(tuple(members[index].id for index in group) for group in groups)
    seeds = None if size > 1 else tuple((*m.seeds.items(), m.replica) for m in members)
    known: dict[str, Any] = {"variant": population.variant, "recipe": members[0].recipe, "members": behind}
    if population.members[0].recipe.language is not None:
        return _language_runs(name, store, population, members, seeds=seeds, **known)
    blocks: Iterator[NDArray[np.float32]] = (
        member_logits(store, members[group[0]], population)
        if size == 1
        else population_logits(store, population, [members[i] for i in group])[0]
        for group in groups
    )
    return of_logits(name, blocks, population_labels(store, population, members), seeds=seeds, **known)


def _language_runs(name: str, store: Store, population: Population, members: list[Member], **known: Any) -> Runs:
    from popnet.metrics.language import perplexity
    from popnet.results.stores.language_populations import population_predictions

    predicted = population_predictions(store, population, members)
    return Runs(name, {"perplexity": Sample.of_values(perplexity(predicted.log_probabilities))}, **known)


def rows_of_store(store: Store) -> list[tuple[str, Population, list[Member]]]:
    """Every row with a finished member: its name, itself, its finished members. Names tell several experiments apart.

    Raises DataError where no row has any.
    """
    done, plans = store.done(), stored_plans(store)
    rows = []
    for plan in plans:
        for population in plan.populations:
            members = finished_members(population, done)
            if members:
                name = population.name if len(plans) == 1 else f"{plan.experiment.name}: {population.name}"
                rows.append((name, population, members))
    if not rows:
        raise DataError(f"{store.path}: no run is finished")
    return rows


def named_population(store: Store, variant: str | None, source: str, experiment: str | None = None) -> Population:
    """The row called `variant` of a store, as the platform that trained it knows its members; None: the only row.

    Raises ConfigError, which begins with `source`, where there is no such row, or more than one.
    """
    populations = [
        population
        for plan in stored_plans(store)
        if experiment in (None, plan.experiment.name)
        for population in plan.populations
    ]
    names = [population.name for population in populations]
    if variant is None:
        if len(names) == 1:
            return populations[0]
        raise ConfigError(f'{source}: holds {len(names)} rows: name one, as in "{source}:{names[0]}"; {_listed(names)}')
    found = [population for population in populations if population.name == variant]
    if not found:
        raise ConfigError(f"{source}: no row is called {variant!r}; {nearest(variant, names)}")
    done = store.done()
    found.sort(key=lambda population: -len(finished_members(population, done)))
    if len(found) > 1 and found[0].members[0].recipe != found[1].members[0].recipe:
        raise ConfigError(
            f"{source}: {len(found)} experiments in this store have a row {variant!r}: keep them in stores of their own"
        )
    return found[0]


def _listed(names: list[str]) -> str:
    return "known: " + ", ".join(names)

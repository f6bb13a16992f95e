"""What a row of a table publishes: its runs, read one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from popnet.errors import ConfigError, DataError, nearest
from popnet.protocol import Member, Population
from popnet.results.stores.plans import stored_plans
from popnet.results.stores.populations import ensemble_groups, finished_members, population_logits
from popnet.store import Store

Logits = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Row:
    """A row with at least one finished run. A run is a member, or an ensemble of several.

    Attributes:
        experiment: its name.
        runs: the members behind each run.
    """

    experiment: str
    population: Population
    runs: tuple[tuple[Member, ...], ...]

    def logits(self, store: Store) -> Iterator[Logits]:
        """Each run's logits, float32 [examples, classes], as the row's metrics see them: means of views and members."""
        for run in self.runs:
            yield population_logits(store, self.population, list(run))[0]

    def table(self) -> pd.DataFrame:
        """A line for each member, in the order of the runs: run, member, replica, and one column per source's seed."""
        lines = [
            {"run": number, "member": m.id, "replica": m.replica, **dict(m.seeds.items())}
            for number, run in enumerate(self.runs)
            for m in run
        ]
        return pd.DataFrame(lines).set_index("run")


def rows_of(store: Store, wanted: list[str] | None = None) -> list[Row]:
    """The rows of a store's experiments that have a finished run, or those of the wanted names.

    Raises:
        ConfigError: a wanted row that is not there.
        DataError: nothing is finished, or a row holds language models, which have no logits [examples, classes].
    """
    done = store.done()
    populations = [
        (plan.experiment.name, population) for plan in stored_plans(store) for population in plan.populations
    ]
    names = [population.name for _, population in populations]
    for name in wanted or ():
        if name not in names:
            raise ConfigError(f"{store.path}: no row is called {name!r}; {nearest(name, names)}")
    rows = []
    for experiment, population in populations:
        runs = _runs(population, finished_members(population, done))
        if not runs or (wanted and population.name not in wanted):
            continue
        if population.members[0].recipe.language is not None:
            raise DataError(
                f"{store.path}: row {population.name!r} holds language models, which have no logits [examples, "
                "classes]: `popnet store export` writes what they predict"
            )
        rows.append(Row(experiment, population, runs))
    if not rows:
        raise DataError(f"{store.path}: no finished run to export")
    return rows


def _runs(population: Population, members: list[Member]) -> tuple[tuple[Member, ...], ...]:
    size = population.variant.ensemble
    if size == 1:
        return tuple((m,) for m in members)
    return tuple(tuple(members[i] for i in group) for group in ensemble_groups(len(members), size))

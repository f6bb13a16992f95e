"""The variability of logits and of stores, row by row: what `popnet measure` says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from popnet.errors import DataError
from popnet.metrics.language import LanguageVariability
from popnet.metrics.population import Variability, variability
from popnet.protocol import ORIGINAL, Member, Population, views_of
from popnet.results.arrays.logits import logits_of_object, open_logits, open_stored
from popnet.results.arrays.runs import holds_logits
from popnet.results.found import Options
from popnet.results.objects import store_of
from popnet.results.sources import form_of, split
from popnet.results.stores import language_populations
from popnet.results.stores.populations import (
    lost_marks,
    population_labels,
    population_logits,
    reasons_lost,
    why_lost,
)
from popnet.results.stores.rows import rows_of_store, stored_population
from popnet.store import Store

SD_COLUMNS = (
    "accuracy_sd",
    "accuracy_sd_error",
    "cross_entropy_sd",
    "cross_entropy_sd_error",
    "ppl_sd",
    "ppl_sd_error",
)


def measured_logits(source: Any, options: Options, *, ensemble_cross_entropy: bool = True) -> pd.DataFrame | None:
    """The rows of a source that holds logits, indexed by `variant`; None where it holds something else.

    Columns: the fields of `Variability`, or for language models of `LanguageVariability`, their SDs with n - 1 in the
    denominator; then population, failed and marks, as `popnet.report.render` prints them.

    Raises:
        ConfigError, DataError, StoreError: what is wrong with the source.
    """
    if not isinstance(source, str | Path):
        store = store_of(source)
        return _store_rows(store, str(store.path)) if store is not None else _object(source, options)
    path, value = split(str(source))
    form = form_of(path)
    if form == "store" or (form == "arrays" and holds_logits(path, options, value)):
        return logits_rows(str(source), options, ensemble_cross_entropy=ensemble_cross_entropy)
    return None


def logits_rows(source: str, options: Options, *, ensemble_cross_entropy: bool = True) -> pd.DataFrame:
    """The same of a path that is known to be a store, or to hold logits."""
    path, value = split(source)
    if form_of(path) == "store":
        return _named_store(source, path, value)
    predictions, labels = open_logits(path, options, value)
    return _one_row(predictions, labels, path.name, ensemble_cross_entropy)


def sample_sds(table: pd.DataFrame) -> pd.DataFrame:
    """The table with n - 1 in the denominator of its SDs; those of `Variability`, as the papers print them, have n."""
    members = table["members"].astype(float)
    factor = np.sqrt(members / (members - 1).where(members > 1))
    columns = [name for name in SD_COLUMNS if name in table]
    return table.assign(**{name: table[name] * factor for name in columns})


def _one_row(predictions: Any, labels: Any, name: str, ensemble_cross_entropy: bool) -> pd.DataFrame:
    try:
        row = variability(predictions, labels, ensemble_cross_entropy=ensemble_cross_entropy)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from None
    return _table({name: row}, {name: list(lost_marks(reasons_lost(predictions, labels), row.members))})


def _object(source: Any, options: Options) -> pd.DataFrame | None:
    if hasattr(source, "columns") or not holds_logits(source, options):
        return None
    predictions, labels = logits_of_object(source, options)
    return _one_row(predictions, labels, "the given runs", True)


def _named_store(source: str, path: Path, value: str | None) -> pd.DataFrame:
    if value is None and (path / "store.json").exists():
        return _store_rows(Store(path), source)
    store, population, members = stored_population(source)
    name = population.name
    measured = _row(store, population, members)
    return _table({name: measured}, {name: _lost_of_store(store, members)}, {name: population})


def _store_rows(store: Store, source: str) -> pd.DataFrame:
    measured, populations, lost = {}, {}, {}
    for name, population, members in rows_of_store(store):
        if len(members) // population.variant.ensemble >= 2:
            measured[name], populations[name] = _row(store, population, members), population
            lost[name] = _lost_of_store(store, members)
    if not measured:
        raise DataError(f"{source}: no row has two finished runs, of which variability is measured")
    return _table(measured, lost, populations)


def _row(store: Store, population: Population, members: list[Member]) -> Variability | LanguageVariability:
    if population.members[0].recipe.language is not None:
        return language_populations.population_predictions(store, population, members).variability()
    labels = population_labels(store, population, members)
    whole = population.variant.part is None
    if whole and population.variant.ensemble == 1 and tuple(views_of(population.variant.views)) == (ORIGINAL,):
        return variability(open_stored(store, [m.id for m in members]), labels, ensemble_cross_entropy=False)
    return variability(population_logits(store, population, members), labels, ensemble_cross_entropy=False)


def _table(
    rows: Mapping[str, Variability | LanguageVariability],
    lost: Mapping[str, list[str]],
    populations: Mapping[str, Population] | None = None,
) -> pd.DataFrame:
    lines = []
    for name, row in rows.items():
        planned = row.members
        if populations is not None:
            planned = len(populations[name].members) // populations[name].variant.ensemble
        lines.append(
            {**row.as_dict(), "population": planned, "failed": 0, "marks": "; ".join([*lost[name], *_marks(row)])}
        )
    return sample_sds(pd.DataFrame(lines, index=pd.Index(list(rows), name="variant")))


def _lost_of_store(store: Store, members: Sequence[Member]) -> list[str]:
    """The marks of a row's trained members that are no better than guessing, on the original images."""
    trained = [m for m in members if m.recipe.epochs > 0]
    reasons = (
        why_lost(store, m) if m.recipe.language is None else language_populations.why_lost(store, m) for m in trained
    )
    return list(lost_marks([reason for reason in reasons if reason is not None], len(members)))


def _marks(row: Variability | LanguageVariability) -> list[str]:
    if row.all_pairs:
        return []
    error = row.ensemble_delta_error if isinstance(row, Variability) else row.ensemble_ppl_delta_error
    return [f"ensembles: {row.ensemble_pairs:,} sampled pairs, Δ ± {error:.1g}"]

"""From stored members to the predictions of a variant, and from these to one row of its table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from popnet.metrics.population import Variability, variability
from popnet.metrics.similarity import linear_cka_matrix
from popnet.protocol import Member, Plan, Population, View, view_weights, views_of
from popnet.random import Source, permutation
from popnet.store import Store

_GROUP_SEED = 1

FEW_ENSEMBLES = 10
FEW = f"fewer than {FEW_ENSEMBLES} ensembles: deviations, and their errors too, are rough"
"""Marks a row whose spread is that of so few ensembles that not even its error bars can be trusted."""


def finished_members(population: Population, done: Mapping[str, frozenset[View]]) -> list[Member]:
    """The members of a population that are in the store, in the population's order.

    `done`: the views that each finished member has, as `Store.done` gives them; one that lacks some of the population's
    is not finished for it.
    """
    needed = frozenset(views_of(population.variant.views))
    return [m for m in population.members if m.id in done and needed <= done[m.id]]


def failed_members(plan: Plan, store: Store) -> dict[str, str]:
    """The errors of the plan's members that could not be trained, or not again for more views, by id."""
    planned = {m.id for m in plan.members}
    return {key: error for key, error in store.failures().items() if key in planned}


def member_logits(store: Store, member: Member, population: Population) -> NDArray[np.float32]:
    """The logits [examples, classes] of one member under the variant's test-time augmentation.

    The mean over views, summed in float64 in the order of `views_of`, rounded to float32 once.
    """
    spec = population.variant.views
    there, stored = store.viewed_predictions(member.id)
    position = {view: index for index, view in enumerate(there)}
    views = views_of(spec)
    if len(views) == 1:
        return stored[position[views[0]]]
    total = np.zeros(stored.shape[1:], dtype=np.float64)
    weights = view_weights(spec)
    for view, weight in zip(views, weights):
        total += weight * stored[position[view]].astype(np.float64)
    return (total / sum(weights)).astype(np.float32)


def ensemble_groups(members: int, size: int) -> list[list[int]]:
    """Disjoint groups of `size` out of `members`, drawn once and for all; what is left over is not used.

    Summers & Dinneen 2021 (Table 5) draw ensembles from one pool of 100 models and do not say how; disjoint groups are
    popnet's choice.
    """
    order = [int(i) for i in permutation(_GROUP_SEED, 0, members, source=Source.GROUPS)]
    return [sorted(order[start : start + size]) for start in range(0, members - size + 1, size)]


def population_logits(store: Store, population: Population, members: list[Member]) -> NDArray[np.float32]:
    """What the variant's metrics are taken over: float32 [members or ensembles, examples, classes].

    An ensemble's logits are the mean of its members', summed in float64 in the members' order, rounded once.
    """
    size = population.variant.ensemble
    if size == 1:
        return np.stack([member_logits(store, m, population) for m in members])
    return np.stack([_mean(store, population, members, group) for group in ensemble_groups(len(members), size)])


def _mean(store: Store, population: Population, members: list[Member], group: list[int]) -> NDArray[np.float32]:
    total: NDArray[np.float64] | None = None
    for index in group:
        logits = member_logits(store, members[index], population).astype(np.float64)
        total = logits if total is None else total + logits
    assert total is not None
    return (total / len(group)).astype(np.float32)


def variability_table(plan: Plan, store: Store) -> pd.DataFrame:
    """One row for each variant, indexed by `variant`: the fields of `Variability`, population, failed and marks.

    A row with fewer than two finished members (or ensembles) has NaN metrics; `marks` says what a reader must know.
    """

    def measured(population: Population, members: list[Member]) -> tuple[dict[str, float], list[str]]:
        logits = population_logits(store, population, members)
        return variability(logits, store.labels(members[0].id)).as_dict(), []

    return population_table(plan, store, [field.name for field in fields(Variability)], measured)


def population_table(
    plan: Plan,
    store: Store,
    columns: Sequence[str],
    measured: Callable[[Population, list[Member]], tuple[Mapping[str, float], Sequence[str]]],
) -> pd.DataFrame:
    """A row for each variant with `columns`, `members` among them, population, failed and marks.

    measured: called where there are at least two finished members (or ensembles); gives the columns and more marks.
    """
    done, failed = store.done(), store.failures()
    rows = {}
    for population in plan.populations:
        members = finished_members(population, done)
        size = population.variant.ensemble
        row: dict[str, object] = dict.fromkeys(columns, float("nan"))
        row["members"] = len(members) // size
        marks = list(_marks(population, len(members)))
        if len(members) // size >= 2:
            values, more = measured(population, members)
            row |= values
            marks += more
        row["population"] = len(population.members)
        row["failed"] = len(failed.keys() & {m.id for m in population.members} - {m.id for m in members})
        row["marks"] = "; ".join(marks)
        rows[population.name] = row
    return pd.DataFrame(list(rows.values()), index=pd.Index(list(rows), name="variant"))


def similarity_table(plan: Plan, store: Store) -> pd.DataFrame:
    """Figure 1 of Summers & Dinneen (2021): for each variant and layer, the mean linear CKA over all pairs of members.

    Indexed by `variant`; a column per layer, and `members`. NaN below two members.
    """
    done = store.done()
    rows: dict[str, dict[str, float]] = {}
    for population in plan.populations:
        members = finished_members(population, done)
        spec = population.members[0].recipe.features
        row: dict[str, float] = {"members": len(members)}
        row |= {layer or "logits": float("nan") for layer in (() if spec is None else spec.layers)}
        for layer, matrix in similarity_matrices(store, members).items():
            row[layer] = float(matrix[np.triu_indices(len(members), 1)].mean())
        rows[population.name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")


def similarity_matrices(store: Store, members: list[Member]) -> dict[str, NDArray[np.float64]]:
    """Linear CKA of every pair of members, float64 [members, members], by layer; empty below two members."""
    spec = members[0].recipe.features if len(members) >= 2 else None
    layers = () if spec is None else spec.layers
    return {layer or "logits": linear_cka_matrix([store.features(m.id)[layer] for m in members]) for layer in layers}


def _marks(population: Population, finished: int) -> Iterator[str]:
    variant, modes = population.variant, {m.recipe.kernels.mode for m in population.members if m.seeds.kernels != 1}
    if "hardware" in modes:
        yield "hardware kernels: not reproducible"
    if "reorder" in modes:
        yield "kernels: reorder proxy"
    if variant.ensemble > 1:
        ensembles = finished // variant.ensemble
        yield f"{ensembles} disjoint ensembles of {variant.ensemble}"
        if ensembles < FEW_ENSEMBLES:
            yield FEW
    if finished < len(population.members):
        yield f"{finished} of {len(population.members)} members"

"""From stored members to the predictions of a variant, and from these to one row of its table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from popnet.config import test_parts
from popnet.errors import DataError
from popnet.metrics.chance import at_chance, diverged
from popnet.metrics.population import Logits, Variability, accuracy, variability
from popnet.metrics.predictions import as_predictions
from popnet.metrics.similarity import Alignment, linear_cka_alignment
from popnet.protocol import Member, Plan, Population, View, view_weights, views_of
from popnet.random import Source, permutation
from popnet.store import Store
from popnet.store.files import mapped_tensor
from popnet.store.store import IMAGE_NUMBERS

_GROUP_SEED = 1

FEW_ENSEMBLES = 10
FEW = f"fewer than {FEW_ENSEMBLES} ensembles: deviations, and their errors too, are rough"
"""Marks a row whose spread is that of so few ensembles that not even its error bars can be trusted."""

Reason = tuple[str, float]
"""By what a finished member is no better than guessing, in words, and its accuracy, percent, where that says more."""

AT_CHANCE: Reason = ("diverged or learnt nothing: at chance", float("nan"))

Lost = Callable[[Member], Reason | None]
"""The reason why a finished member is no better than guessing; None where it is trained."""


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
    stored = stored[:, tested(population, stored.shape[1])]
    if len(views) == 1:
        return stored[position[views[0]]]
    total = np.zeros(stored.shape[1:], dtype=np.float64)
    weights = view_weights(spec)
    for view, weight in zip(views, weights):
        total += weight * stored[position[view]].astype(np.float64)
    return (total / sum(weights)).astype(np.float32)


def population_labels(store: Store, population: Population, members: Sequence[Member]) -> NDArray[np.int64]:
    """The labels, int64 [examples], of the test examples on which the row is measured."""
    labels = store.labels(members[0].id)
    return labels[tested(population, len(labels))]


def tested(population: Population, examples: int) -> slice:
    """Which of a member's test examples the row is measured on. Raises DataError where parts are not all of them."""
    recipe = population.members[0].recipe
    bounds = population.variant.tested(recipe)
    if bounds is None:
        return slice(None)
    total = sum(count for _, count in test_parts(recipe.dataset))
    if total != examples:
        raise DataError(
            f"{population.name}: the parts of its data set hold {total:,} examples, and {examples:,} were tested"
        )
    return slice(*bounds)


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
    """One row for each variant, indexed by `variant`: the fields of `Variability`, population, failed, diverged, marks.

    A row with fewer than two finished members (or ensembles) has NaN metrics; `marks` says what a reader must know.
    """

    def measured(population: Population, members: list[Member]) -> tuple[dict[str, float], list[str]]:
        logits = population_logits(store, population, members)
        return variability(logits, population_labels(store, population, members)).as_dict(), []

    columns = [field.name for field in fields(Variability)]
    return population_table(plan, store, columns, measured, lambda member: why_lost(store, member))


def why_lost(store: Store, member: Member) -> Reason | None:
    """The reason why a finished member of a classifier is no better than guessing; None where it is trained."""
    logits = store.viewed_predictions(member.id)[1][:1]  # of the original images, which come first
    return next(iter(reasons_lost(logits, store.labels(member.id))), None)


def reasons_lost(logits: Logits, labels: NDArray[np.int64]) -> list[Reason]:
    """Of members' logits [members, examples, classes] the reason of each one that is no better than guessing."""
    predictions = as_predictions(logits)
    lost = diverged(predictions, labels)
    if not lost.any():
        return []
    doubtful = f"with cross-entropy above ln {predictions.classes:,}"
    rates = accuracy(predictions, labels)[lost].tolist()
    return [AT_CHANCE if at_chance(right, labels) else (doubtful, right) for right in rates]


def population_table(
    plan: Plan,
    store: Store,
    columns: Sequence[str],
    measured: Callable[[Population, list[Member]], tuple[Mapping[str, float], Sequence[str]]],
    lost: Lost,
) -> pd.DataFrame:
    """A row for each variant with `columns`, `members` among them, population, failed, diverged and marks.

    Args:
        measured: called where there are at least two finished members (or ensembles); gives the columns and more marks.
        lost: asked once of each member that was trained at all. Members that are lost count in the columns.
    """
    done, failed = store.done(), store.failures()
    known: dict[str, Reason | None] = {}
    rows = {}
    for population in plan.populations:
        members = finished_members(population, done)
        size = population.variant.ensemble
        row: dict[str, object] = dict.fromkeys(columns, float("nan"))
        row["members"] = len(members) // size
        for m in members:
            if m.id not in known:
                known[m.id] = lost(m) if m.recipe.epochs > 0 else None
        reasons = [reason for m in members if (reason := known[m.id])]
        marks = list(_marks(population, len(members)))
        marks += lost_marks(reasons, len(members))
        if len(members) // size >= 2:
            values, more = measured(population, members)
            row |= values
            marks += more
        row["population"] = len(population.members)
        row["failed"] = len(failed.keys() & {m.id for m in population.members} - {m.id for m in members})
        row["diverged"] = len(reasons)
        row["marks"] = "; ".join(marks)
        rows[population.name] = row
    return pd.DataFrame(list(rows.values()), index=pd.Index(list(rows), name="variant"))


def lost_marks(reasons: Sequence[Reason], members: int) -> Iterator[str]:
    """One for each reason by which members are no better than guessing, with their accuracies."""
    for text in dict.fromkeys(text for text, _ in reasons):
        known = [percent for reason, percent in reasons if reason == text]
        least, most = (f"{choose(known):.0f}%" for choose in (min, max))
        span = "" if np.isnan(known).any() else f" at {least if least == most else f'{least} to {most}'} accuracy"
        yield f"{len(known)} of {members} {text}{span}"


def similarity_table(plan: Plan, store: Store) -> pd.DataFrame:
    """Figure 1 of Summers & Dinneen (2021): for each variant and layer, the mean linear CKA over all pairs of members.

    Indexed by `variant`; `members`, those of them that were `compared`, on how many `examples`, by which `estimator`;
    a column per layer, then for each layer `floor LAYER`: what unrelated representations would come to on average. NaN
    below two members.
    """
    done = store.done()
    rows: dict[str, dict[str, object]] = {}
    for population in plan.populations:
        members = finished_members(population, done)
        spec = population.members[0].recipe.features
        layers = [] if spec is None else [layer or "logits" for layer in spec.layers]
        found = alignments(store, members)
        compared = [len(one.cka) for one in found.values()] if len(found) == len(layers) else []
        rows[population.name] = {
            "members": len(members),
            "compared": min(compared, default=0),
            "examples": min((one.examples for one in found.values()), default=0),
            "estimator": "" if spec is None else spec.estimator,
            **{layer: over_pairs(found[layer].cka) if layer in found else np.nan for layer in layers},
            **{f"floor {layer}": over_pairs(found[layer].floor) if layer in found else np.nan for layer in layers},
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")


def alignments(store: Store, members: Sequence[Member]) -> dict[str, Alignment]:
    """Linear CKA of every pair of members by layer, in the estimator of their recipe.

    Members are left out of a layer that the store does not have of them (another experiment may have trained them) or
    that is not finite, or that is of other images than most members' is; a layer with fewer than two is left out. Where
    the store has more examples of some, the first ones that it has of all are compared.
    """
    spec = members[0].recipe.features if len(members) >= 2 else None
    found = {}
    for layer in () if spec is None else spec.layers:
        kept = _representations(store, members, layer)
        if spec is not None and len(kept) >= 2:
            found[layer or "logits"] = linear_cka_alignment(kept, estimator=spec.estimator)
    return found


def _representations(store: Store, members: Sequence[Member], layer: str) -> list[torch.Tensor]:
    """Of the same images, by members: most of them, and of equally many those that come first."""
    groups: list[list[tuple[torch.Tensor, torch.Tensor]]] = []
    for path in (path for m in members if (path := store.features_path(m.id)).exists()):
        values, numbers = mapped_tensor(path, layer), mapped_tensor(path, IMAGE_NUMBERS)
        if values is None or not bool(torch.isfinite(values).all()):
            continue
        images = torch.arange(len(values)) if numbers is None else numbers
        group = next((group for group in groups if _begin_alike(images, group[0][1])), None)
        if group is None:
            groups.append([(values, images)])
        else:
            group.append((values, images))
    most = max(groups, key=len, default=[])
    examples = min((len(values) for values, _ in most), default=0)
    return [values[:examples] for values, _ in most]


def _begin_alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether the shorter of two lists of images begins the longer one."""
    common = min(len(one), len(other))
    return torch.equal(one[:common], other[:common])


def over_pairs(matrix: NDArray[np.float64]) -> float:
    """The mean over pairs of a symmetric matrix [n, n]."""
    return float(matrix[np.triu_indices(len(matrix), 1)].mean())


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

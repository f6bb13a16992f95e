"""How twins part: members of one population against its first, epoch by epoch (Summers & Dinneen 2021, Section 4.1).

Where the first member is the unperturbed one (`cross: {bit: [0, 1, 2]}`), this is what one bit grows into.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import torch

from popnet.protocol import Member, Plan, Population
from popnet.store import Store

COLUMNS = (
    "variant",
    "member",
    "epoch",
    "accuracy_difference",
    "cross_entropy_difference",
    "weight_distance",
    "accuracy_condition",
    "cross_entropy_condition",
)


def divergence_table(plan: Plan, store: Store) -> pd.DataFrame:
    """One row for each variant, member after the first, and epoch from 0 (before the first step).

    Columns: accuracy_difference (percent) and cross_entropy_difference (nats), of the test set, this member minus the
    first; weight_distance, the Euclidean distance of their weights; and the condition numbers |difference| /
    |distance before the first step|: how much more the result moved than the weights were moved. NaN where an epoch was
    not evaluated, or the twins began alike.
    """
    done = frozenset(store.done())
    rows = [row for population in plan.populations for row in _rows(population, store, done)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(population: Population, store: Store, done: frozenset[str]) -> Iterator[dict[str, object]]:
    members = [m for m in population.members if m.id in done]
    if not members or members[0] != population.members[0]:
        return
    first = members[0]
    for number, other in enumerate(members[1:], start=2):
        yield from _twins(population.name, number, first, other, store)


def _twins(variant: str, number: int, first: Member, other: Member, store: Store) -> Iterator[dict[str, object]]:
    distances = torch.linalg.vector_norm(
        store.trajectory(other.id).double() - store.trajectory(first.id).double(), dim=1
    )
    difference = store.history(other.id) - store.history(first.id)
    moved = float(distances[0]) or float("nan")
    for epoch, distance in enumerate(distances.tolist()):
        accuracy = difference["test_accuracy"].get(epoch, float("nan"))
        cross_entropy = difference["test_cross_entropy"].get(epoch, float("nan"))
        values = (
            variant,
            number,
            epoch,
            accuracy,
            cross_entropy,
            distance,
            abs(accuracy) / moved,
            abs(cross_entropy) / moved,
        )
        yield dict(zip(COLUMNS, values))

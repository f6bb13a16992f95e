"""From a store back to its plans: the members of each experiment as the platform that trained them knows them."""

from __future__ import annotations

import pandas as pd

from popnet import config, protocol
from popnet.errors import DataError
from popnet.protocol import Plan, Platform
from popnet.store import Store
from popnet.store.rows import versions_of


def stored_plans(store: Store) -> list[Plan]:
    """The plan of every experiment in the store, for the platform that finished most of its members.

    That need not be this machine's, so a store can be read anywhere. Raises DataError where nothing is finished.
    """
    platforms = finished_platforms(store)
    done = store.done()
    plans = []
    for content in store.experiments().values():
        experiment = config.from_store(content, str(store.path))
        candidates = [protocol.plan(experiment, platform) for platform in platforms]
        plans.append(max(candidates, key=lambda plan: sum(m.id in done for m in plan.members)))
    return plans


def finished_platforms(store: Store) -> list[Platform]:
    """The platforms of the finished members, that of most members first. Raises DataError where there is none."""
    ledger = store.members()
    finished = ledger[ledger["status"] == "done"]
    if finished.empty:
        raise DataError(f"{store.path}: no finished runs")
    return _platforms(finished)


def planned_members(store: Store) -> set[str]:
    """The ids of the members that the store's experiments ask for, as each was last run, on every platform in it."""
    experiments = [config.from_store(content, str(store.path)) for content in store.experiments().values()]
    platforms = _platforms(store.members())
    plans = (protocol.plan(experiment, platform) for experiment in experiments for platform in platforms)
    return {m.id for plan in plans for m in plan.members}


def _platforms(ledger: pd.DataFrame) -> list[Platform]:
    counts = ledger.groupby(["device", "versions"], sort=True).size().sort_values(ascending=False, kind="stable")
    return [Platform(device, versions_of(versions)) for device, versions in counts.index]

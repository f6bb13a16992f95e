"""A look at a store while a run goes on: which members are done, in training, failed and still to come.

It reads and never writes, and takes nothing that a run could wait for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path

import pandas as pd

from popnet import config, protocol
from popnet.protocol import Plan, Platform
from popnet.store import open_store, progress
from popnet.store.progress import Progress


class State(Enum):
    """Of the run in a store."""

    WAITED_FOR = "waited for"
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True)
class Counts:
    """Of one row of the experiment, or of all its members."""

    name: str
    done: int
    running: int
    failed: int
    planned: int

    @property
    def to_come(self) -> int:
        return self.planned - self.done - self.running - self.failed


@dataclass(frozen=True)
class Failure:
    """A member that could not be trained, and the rows that miss it."""

    member: str
    rows: tuple[str, ...]
    error: str


@dataclass(frozen=True)
class Look:
    """What one store says at one moment.

    Attributes:
        progress: what the run said last; None where none has said anything.
        all, rows: members of the experiment that is run, each counted once, and row by row; none before it is known.
        failures: in the order in which they were entered; those of earlier runs, which this one trains again, not.
        finished: how many members of any experiment the store holds, and how many failures: what tables depend on.
    """

    store: Path
    state: State
    progress: Progress | None = None
    all: Counts | None = None
    rows: tuple[Counts, ...] = ()
    failures: tuple[Failure, ...] = ()
    finished: tuple[int, int] = (0, 0)


def look(path: Path) -> Look:
    """Raises StoreError where there is something that cannot be read; where there is nothing, it is waited for."""
    if not (path / "store.json").exists():
        return Look(path, State.WAITED_FOR)
    store = open_store(path)
    going_on, told = store.in_use(), progress.read(path)
    if not store.experiments():
        return Look(path, State.WAITED_FOR)
    ledger = store.members()
    finished = int((ledger["status"] == "done").sum()), int((ledger["status"] == "failed").sum())
    if going_on and (told is None or told.ended):
        return Look(path, State.STARTING, finished=finished)
    state = State.RUNNING if going_on else State.ENDED
    if told is None or told.experiment not in store.experiments():
        return Look(path, state, finished=finished)
    experiment = json.dumps(store.experiments()[told.experiment])
    plan = _plan(experiment, str(path), told.device, tuple(sorted(told.versions.items())))
    running = {one.member for one in told.running if not one.beginning} if going_on else set()
    done = {key for key in ledger.index[ledger["status"] == "done"] if key not in running}
    failed = {key: error for key, error in _failed_since(ledger, told).items() if key not in running}
    return Look(
        path,
        state,
        told,
        _counts("all", {m.id for m in plan.members}, done, running, failed),
        tuple(_counts(p.name, [m.id for m in p.members], done, running, failed) for p in plan.populations),
        tuple(_failures(plan, failed)),
        finished,
    )


@lru_cache(maxsize=8)
def _plan(experiment: str, origin: str, device: str, versions: tuple[tuple[str, str], ...]) -> Plan:
    """Of an experiment as JSON; once, since a plan of thousands of members takes seconds."""
    return protocol.plan(config.from_store(json.loads(experiment), origin), Platform(device, versions))


def _failed_since(ledger: pd.DataFrame, told: Progress) -> dict[str, str]:
    """The errors of the members that this run could not train. The ledger knows the second, and so is the rounding."""
    failed = ledger[ledger["status"] == "failed"]
    moments = pd.to_datetime(failed["finished"], utc=True).map(lambda moment: moment.timestamp())
    recent = failed[moments >= math.floor(told.began)] if len(failed) else failed
    return dict(zip(map(str, recent.index), map(str, recent["error"])))


def _counts(name: str, members: Collection[str], done: set[str], running: set[str], failed: dict[str, str]) -> Counts:
    def among(kind: Collection[str]) -> int:
        return sum(key in kind for key in members)

    return Counts(name, among(done), among(running), among(failed), len(members))


def _failures(plan: Plan, failed: dict[str, str]) -> list[Failure]:
    rows: dict[str, list[str]] = {}
    for population in plan.populations:
        for m in population.members:
            if m.id in failed:
                rows.setdefault(m.id, []).append(population.name)
    return [Failure(key, tuple(rows[key]), error) for key, error in failed.items() if key in rows]

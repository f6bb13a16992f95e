"""Trains the missing members of a plan: what can start, what waits for a shared beginning, what to record."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from popnet.engine.jobs import Checkpointed, Died, Done, Event, Failed, Job, Progressed
from popnet.engine.progress import Reporter
from popnet.errors import StoreError
from popnet.protocol import Member, Plan, Trunk, View
from popnet.store import Store

_ATTEMPTS = 3


class Executor(Protocol):
    """Where jobs run: local processes, or anything else that starts jobs and tells what happens to them."""

    @property
    def capacity(self) -> int: ...

    @property
    def running(self) -> Sequence[Job]: ...

    def start(self, job: Job) -> None: ...

    def wait(self, timeout: float) -> list[tuple[Job, Event]]: ...


def missing_members(plan: Plan, store: Store) -> list[Member]:
    """The members of which the store lacks predictions, in a view that the plan needs, or what else is to be kept."""
    done = store.done()

    def complete(m: Member) -> bool:
        kept = [store.weights_path(m.id)] if "weights" in m.recipe.keep else []
        kept += [store.trajectory_path(m.id)] if "trajectory" in m.recipe.keep else []
        kept += [store.features_path(m.id)] if m.recipe.features is not None else []
        views = m.id in done and done[m.id].issuperset(plan.views[m.id])
        return views and all(path.exists() for path in kept)

    return [m for m in plan.members if not complete(m)]


class Training:
    """One run over the missing members.

    Args:
        plan: what is wanted.
        store: locked by this process.
        members: the members to train, in the order in which to start them.
        steps_per_epoch: by recipe digest.
    """

    def __init__(self, plan: Plan, store: Store, members: Sequence[Member], steps_per_epoch: Mapping[str, int]) -> None:
        self._plan, self._store, self._steps = plan, store, steps_per_epoch
        self._ready: deque[Job] = deque()
        self._waiting: dict[Path, list[Job]] = {}
        self._attempts: dict[str, int] = {}
        self._trunks = {
            (trunk.member.id, trunk.views): trunk for trunk in plan.trunks(_forkable(members), steps_per_epoch)
        }
        for trunk in self._trunks.values():
            self._add_trunk(trunk)
        for m in members:
            self._add_member(m)
        self.members = len(members)
        jobs = [*self._ready, *(job for jobs in self._waiting.values() for job in jobs)]
        self.epochs = sum(job.last_epoch - self._first_epoch(job) for job in jobs)

    def run(self, executor: Executor, reporter: Reporter) -> None:
        """Train everything; what ends is entered at once, so an interruption loses only what is under way.

        Raises:
            StoreError: the store cannot be written.
        """
        while self._ready or executor.running:
            while self._ready and executor.capacity > 0:
                executor.start(self._ready.popleft())
            for job, event in executor.wait(timeout=1.0):
                self._handle(job, event, reporter)
        self._store.remove_checkpoints()

    def _views(self, m: Member) -> tuple[View, ...]:
        return self._plan.views[m.id]

    def _add_trunk(self, trunk: Trunk) -> None:
        paths = [(epoch, self._store.checkpoint_path(trunk.id, epoch)) for epoch in trunk.epochs]
        there = [entry for entry in paths if entry[1].exists()]
        rest = tuple(entry for entry in paths if not there or entry[0] > there[-1][0])
        if rest:
            self._ready.append(self._job(trunk.member, trunk.views, there[-1][1] if there else None, rest))

    def _add_member(self, m: Member) -> None:
        trunk = self._trunks.get((m.trunk.id, self._views(m))) if _forkable([m]) else None
        leaves = m.diverges(self._steps[m.recipe.digest])
        epochs = [] if trunk is None else [epoch for epoch in trunk.epochs if epoch <= leaves]
        if trunk is None or not epochs:
            self._ready.append(self._job(m, self._views(m)))
            return
        path = self._store.checkpoint_path(trunk.id, epochs[-1])
        job = self._job(m, self._views(m), fork=path)
        if path.exists():
            self._ready.append(job)
        else:
            self._waiting.setdefault(path, []).append(job)

    def _job(
        self,
        m: Member,
        views: tuple[View, ...],
        fork: Path | None = None,
        checkpoints: tuple[tuple[int, Path], ...] = (),
    ) -> Job:
        return Job(m, views, m.recipe.dataset.model_dump_json(), self._store.path, fork, checkpoints)

    def _first_epoch(self, job: Job) -> int:
        return 0 if job.fork is None else int(job.fork.stem.rpartition("-")[2])

    def _handle(self, job: Job, event: Event, reporter: Reporter) -> None:
        if isinstance(event, Progressed):
            reporter.epoch()
        elif isinstance(event, Checkpointed):
            path = dict(job.checkpoints)[event.epoch]
            self._ready.extendleft(reversed(self._waiting.pop(path, [])))
        elif isinstance(event, Done):
            if event.finished is not None:
                self._store.record_done(job.member, event.finished)
                reporter.member()
        elif isinstance(event, Failed):
            if event.fatal:
                raise StoreError(event.error)
            self._fail(job, event.error, event.seconds, reporter)
        elif isinstance(event, Died):
            self._retry(job, event.reason, reporter)

    def _fail(self, job: Job, error: str, seconds: float, reporter: Reporter) -> None:
        """Enter a failure; a beginning that fails takes with it the members that wait for it."""
        failed = [job]
        if job.checkpoints:
            failed = [waiting for _, path in job.checkpoints for waiting in self._waiting.pop(path, [])]
        for entry in failed:
            self._store.record_failed(entry.member, error, seconds)
            reporter.member(failed=True)
            reporter.message(f"member {entry.member.id} failed: {error}")

    def _retry(self, job: Job, reason: str, reporter: Reporter) -> None:
        key = f"{job.member.id} {bool(job.checkpoints)}"
        self._attempts[key] = self._attempts.get(key, 0) + 1
        if self._attempts[key] >= _ATTEMPTS:
            self._fail(job, f"{reason}, {_ATTEMPTS} times", 0.0, reporter)
            return
        reporter.message(f"member {job.member.id}: {reason}; it is trained again")
        self._ready.appendleft(job)


def _forkable(members: Sequence[Member]) -> list[Member]:
    """Members whose optimiser's state can be checkpointed."""
    return [m for m in members if m.recipe.optimizer.import_path is None]

"""Trains the missing members of a plan: what can start, what waits for a shared beginning, what to record."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from popnet.engine.checkpoints import epoch_of
from popnet.engine.jobs import Checkpointed, Died, Done, Event, Failed, Fingerprinted, Job, Noted, Progressed
from popnet.engine.narration import Narration
from popnet.engine.progress import Reporter
from popnet.errors import StoreError
from popnet.protocol import Member, Plan, Trunk, View, ordered
from popnet.store import Finished, Store
from popnet.store.files import remove, renewed
from popnet.store.progress import Running

_ATTEMPTS = 3
"""How often a member is trained whose worker dies; one that gets further than ever before starts counting anew."""


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
        views = m.id in done and done[m.id].issuperset(plan.views[m.id])
        return views and all(path.exists() for _, path in _outputs(m, store))

    return [m for m in plan.members if not complete(m)]


def kept_views(plan: Plan, done: Mapping[str, frozenset[View]]) -> dict[str, tuple[View, ...]]:
    """The views of each member, by id: what the plan needs, and what the store has already, which stays in it.

    `done`: what `Store.done` gives.
    """
    return {key: ordered({*views, *done.get(key, ())}) for key, views in plan.views.items()}


def _outputs(m: Member, store: Store) -> tuple[tuple[str, Path], ...]:
    """The files of a finished member, by what they hold; its predictions last."""
    kept = [("weights", store.weights_path(m.id))] if "weights" in m.recipe.keep else []
    kept += [("features", store.features_path(m.id))] if m.recipe.features is not None else []
    kept += [("trajectory", store.trajectory_path(m.id))] if "trajectory" in m.recipe.keep else []
    return (*kept, ("predictions", store.predictions_path(m.id)))


class Training:
    """One run over the missing members.

    Args:
        plan: what is wanted.
        store: locked by this process.
        members: the members to train, in the order in which to start them.
        steps_per_epoch: by recipe digest.
        checkpoint_seconds: how often a training that takes long saves how far it is.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        members: Sequence[Member],
        steps_per_epoch: Mapping[str, int],
        checkpoint_seconds: float = float("inf"),
    ) -> None:
        self._store, self._steps = store, steps_per_epoch
        done = store.done()
        self._views = kept_views(plan, done)
        self._renewing = {m.id for m in members} & done.keys()
        self._checkpoint_seconds = checkpoint_seconds
        self._narration = Narration(plan)
        self.at_once: list[int] = []
        """For how many members there was room, each number that held in turn."""
        self._bits = {program: next(iter(found)) for program, found in store.fingerprints().items()}
        self._keys: dict[str, str] = {}
        self._ready: deque[Job] = deque()
        self._waiting: dict[Path, list[Job]] = {}
        self._attempts: dict[str, int] = {}
        self._reached: dict[str, int] = {}
        self._checkpoints = {path.name for path in store.path.glob("checkpoints/*")}
        trunks = plan.trunks(_forkable(members), steps_per_epoch, self._views)
        self._trunks = {(trunk.member.id, trunk.views): trunk for trunk in trunks}
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
            StoreError: the store cannot be written, or a device computes other bits than that of the members in it.
        """
        self._start(executor, reporter)
        while self._ready or executor.running:
            events = executor.wait(timeout=1.0)
            for job, event in events:
                if isinstance(event, Done):
                    reporter.detail(self._narration.ends(job, event.finished))
            self._start(executor, reporter)  # first, so that nobody idles while the disk is waited for
            self._record([(job, event.finished) for job, event in events if isinstance(event, Done)], reporter)
            for job, event in events:
                self._handle(job, event, reporter)
            self._start(executor, reporter)
            reporter.running([self._running(job) for job in executor.running])

    def _start(self, executor: Executor, reporter: Reporter) -> None:
        places = executor.capacity + len(executor.running)
        if self.at_once[-1:] != [places]:
            self.at_once.append(places)
            reporter.detail(self._narration.places(places))
        while self._ready and executor.capacity > 0:
            job = self._ready.popleft()
            sharing = sum(len(self._waiting.get(path, ())) for _, path in job.checkpoints)
            reporter.detail(self._narration.begins(job, self._first_epoch(job), sharing))
            executor.start(job)

    def _add_trunk(self, trunk: Trunk) -> None:
        paths = [(epoch, self._store.checkpoint_path(trunk.id, epoch)) for epoch in trunk.epochs]
        there = [entry for entry in paths if entry[1].exists()]
        rest = tuple(entry for entry in paths if not there or entry[0] > there[-1][0])
        if rest:
            name = f"{trunk.id}-beginning"  # the member whose beginning it is may train on at the same time
            partial = self._store.partial_path(name)
            if epoch_of(partial) > rest[0][0]:  # past a checkpoint that has gone
                remove(partial)
            fork = there[-1][1] if there else None
            self._ready.append(self._job(trunk.member, trunk.views, name, fork, rest))

    def _add_member(self, m: Member) -> None:
        trunk = self._trunks.get((m.trunk.id, self._views[m.id])) if _forkable([m]) else None
        leaves = m.diverges(self._steps[m.recipe.digest])
        epochs = [] if trunk is None else [epoch for epoch in trunk.epochs if epoch <= leaves]
        if trunk is None or not epochs:
            self._ready.append(self._job(m, self._views[m.id], m.id, self._left_behind(m, leaves)))
            return
        path = self._store.checkpoint_path(trunk.id, epochs[-1])
        job = self._job(m, self._views[m.id], m.id, path)
        if path.exists():
            self._ready.append(job)
        else:
            self._waiting.setdefault(path, []).append(job)

    def _left_behind(self, m: Member, leaves: int) -> Path | None:
        """The latest state of a beginning that members share who were finished when a run was cut short."""
        if not self._checkpoints or not _forkable([m]):
            return None
        shared = Trunk(m.trunk, (), self._views[m.id]).id
        paths = (self._store.checkpoint_path(shared, epoch) for epoch in range(leaves, 0, -1))
        return next((path for path in paths if path.name in self._checkpoints), None)

    def _job(
        self,
        m: Member,
        views: tuple[View, ...],
        name: str,
        fork: Path | None = None,
        checkpoints: tuple[tuple[int, Path], ...] = (),
    ) -> Job:
        recipe = m.recipe
        if recipe.digest not in self._keys:
            self._keys[recipe.digest] = recipe.dataset.model_dump_json()
        return Job(
            m,
            views,
            self._keys[recipe.digest],
            outputs=() if checkpoints else self._files_of(m),
            fork=fork,
            checkpoints=checkpoints,
            partial=self._store.partial_path(name) if _forkable([m]) else None,
            checkpoint_seconds=self._checkpoint_seconds,
        )

    def _files_of(self, m: Member) -> tuple[tuple[str, Path], ...]:
        """Where a training leaves its files: of a finished member, which needs more, beside those that it has."""
        outputs = _outputs(m, self._store)
        return tuple((kind, renewed(path)) for kind, path in outputs) if m.id in self._renewing else outputs

    def _first_epoch(self, job: Job) -> int:
        return job.forked_epoch if job.partial is None else max(job.forked_epoch, epoch_of(job.partial))

    def _running(self, job: Job) -> Running:
        reached = max(job.forked_epoch, self._reached.get(_key(job), 0))
        return Running(job.member.id, reached, job.last_epoch, beginning=bool(job.checkpoints))

    def _record(self, ended: Sequence[tuple[Job, Finished | None]], reporter: Reporter) -> None:
        """Enter what is finished, in one transaction; only then do its checkpoints go."""
        finished = [(job.member, made) for job, made in ended if made is not None]
        if finished:
            self._store.record_all_done(finished)
            for renewing in self._renewing & {m.id for m, _ in finished}:
                self._store.put_renewed(renewing)
        for job, _ in ended:
            if job.partial is not None:
                remove(job.partial)
        for _ in finished:
            reporter.member()

    def _handle(self, job: Job, event: Event, reporter: Reporter) -> None:
        if isinstance(event, Progressed):
            self._advance(job, event.epoch)
            reporter.epoch()
        elif isinstance(event, Checkpointed):
            path = dict(job.checkpoints)[event.epoch]
            self._ready.extendleft(reversed(self._waiting.pop(path, [])))
        elif isinstance(event, Noted):
            reporter.message(event.text)
        elif isinstance(event, Fingerprinted):
            self._check_bits(job, event.fingerprint, event.place)
        elif isinstance(event, Failed):
            if event.fatal:
                raise StoreError(event.error)
            self._fail(job, event.error, event.seconds, reporter)
        elif isinstance(event, Died):
            self._retry(job, event, reporter)

    def _check_bits(self, job: Job, fingerprint: str, place: str) -> None:
        """Raises StoreError where graphs compute other bits than those by which members in the store were trained."""
        program, _, bits = fingerprint.partition(":")
        if self._bits.setdefault(program, bits) == bits:
            return
        m = job.member
        imported = m.recipe.model.import_path or m.recipe.loss.import_path
        changed = f"where the code of {imported!r} has changed since, train in another --store; " if imported else ""
        raise StoreError(
            f"{self._store.path}: {place} computes other bits ({bits[:12]}) for model {m.recipe.model.label!r} "
            f"({m.recipe.precision}, batches of {m.recipe.batch_size}) than members here were trained with on "
            f"{m.platform.device} ({self._bits[program][:12]}), so member {m.id} is not trained there: {changed}where "
            "something else fills this GPU's memory, a library chose other kernels: free it and run the same command "
            "again; else use another GPU, or another --store. What is finished is kept"
        )

    def _advance(self, job: Job, epoch: int) -> None:
        if epoch > self._reached.get(_key(job), 0):
            self._reached[_key(job)] = epoch
            self._attempts.pop(_key(job), None)

    def _fail(self, job: Job, error: str, seconds: float, reporter: Reporter) -> None:
        """Enter a failure; a beginning that fails takes with it the members that wait for it."""
        failed = [job]
        if job.partial is not None:
            remove(job.partial)
        if job.checkpoints:
            failed = [waiting for _, path in job.checkpoints for waiting in self._waiting.pop(path, [])]
        for entry in failed:
            self._store.record_failed(entry.member, error, seconds)
            self._store.discard_renewed(entry.member.id)
            reporter.member(failed=True)
            reporter.message(f"member {entry.member.id} failed: {error}")

    def _retry(self, job: Job, death: Died, reporter: Reporter) -> None:
        attempts = self._attempts.get(_key(job), 0) + death.counts
        self._attempts[_key(job)] = attempts
        if attempts >= _ATTEMPTS:
            self._fail(job, f"{death.reason}, {_ATTEMPTS} times", 0.0, reporter)
            return
        reporter.message(f"member {job.member.id}: {death.reason}; it is trained again")
        self._ready.appendleft(job)


def _key(job: Job) -> str:
    return f"{job.member.id} {bool(job.checkpoints)}"


def _forkable(members: Sequence[Member]) -> list[Member]:
    """Members whose optimiser's state can be checkpointed."""
    return [m for m in members if m.recipe.optimizer.import_path is None]

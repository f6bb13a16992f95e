"""Trains one job, wherever a worker runs: it reads and writes through `Files`, and tells of it through `emit`."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save as serialise

from popnet.data.choice import part_of
from popnet.engine import checkpoints
from popnet.engine.jobs import Checkpointed, Done, Event, Failed, Job, Noted, Progressed, Stepped
from popnet.engine.pictures import Shared, images_for
from popnet.engine.sharing import SharedText
from popnet.errors import PopnetError, StoreError
from popnet.protocol import View
from popnet.store import Finished, digest, write_aside
from popnet.training.language import LanguageTrainer
from popnet.training.memory import is_full, is_lost
from popnet.training.trainer import HISTORY, Trainer

_SECONDS_BETWEEN_BEATS = 1.0

AnyTrainer = Trainer | LanguageTrainer
Emit = Callable[[Event], None]


class Files(Protocol):
    """Where a worker reads checkpoints and writes what it made."""

    def read(self, path: Path) -> bytes | None:
        """A file's content; None where there is none."""
        ...

    def write(self, path: Path, content: bytes) -> None:
        """Put a file in place, all or nothing."""
        ...


class StoreFiles:
    """The store's folder itself."""

    def read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror}") from None

    def write(self, path: Path, content: bytes) -> None:
        write_aside(path, content)


def serve(
    job: Job,
    shared: Shared,
    resident: Any,
    files: Files,
    emit: Emit,
    make_trainer: Callable[[Job, Shared, Any], AnyTrainer] | None = None,
) -> None:
    """Train a job; the last event that is emitted is `Done` or `Failed`.

    Args:
        job: what to train.
        shared, resident: its data set, and what `shared.attach()` gave.
        files: where to read and write.
        emit: is called with each event.
        make_trainer: from (job, shared, resident); default: one that trains on this process's CPU.

    Raises:
        Exception: the device is full or lost (see `popnet.training.memory`), for which the member is not to blame;
            nothing is emitted.
    """
    began = time.monotonic()

    def failed(error: Exception, text: str, fatal: bool = False) -> Failed:
        return Failed(text, "".join(traceback.format_exception(error)), time.monotonic() - began, fatal)

    try:
        trainer = (make_trainer or _trainer)(job, shared, resident)
        event: Event = Done(_train(job, trainer, shared.labels_digest, files, emit, began))
    except StoreError as error:
        event = failed(error, str(error), fatal=True)
    except Exception as error:
        if is_full(error) or is_lost(error):
            raise
        event = failed(error, str(error) if isinstance(error, PopnetError) else f"{type(error).__name__}: {error}")
    emit(event)


class _Heart:
    """Emits `Stepped` at most once a second, as training steps call it: a worker that hangs falls silent."""

    def __init__(self, emit: Emit) -> None:
        self._emit, self._last = emit, time.monotonic()

    def beat(self) -> None:
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_BEATS:
            self._last = now
            self._emit(Stepped())


def _trainer(job: Job, shared: Shared, resident: Any) -> AnyTrainer:
    examples = job.member.recipe.train_examples
    torch.set_num_threads(job.member.recipe.threads)
    if isinstance(shared, SharedText):
        return LanguageTrainer(job.member, resident if examples is None else resident.first(examples))
    train, test = images_for(job.member.recipe, shared, resident)
    return Trainer(job.member, part_of(train, examples), test, shared.classes, job.views)


def _train(job: Job, trainer: AnyTrainer, labels: str, files: Files, emit: Emit, began: float) -> Finished | None:
    trainer.on_step = _Heart(emit).beat
    _enter(job, trainer, files, emit)
    saved = time.monotonic()

    def advance(until: int) -> None:
        nonlocal saved
        while trainer.epoch < until:
            trainer.run(until=trainer.epoch + 1, progress=lambda epoch, loss: emit(Progressed(epoch)))
            due = time.monotonic() - saved >= job.checkpoint_seconds and trainer.epoch < job.last_epoch
            if due and job.partial is not None:
                files.write(job.partial, checkpoints.pack(trainer.checkpoint(), job.member.id, job.views))
                saved = time.monotonic()

    if job.checkpoints:
        for epoch, path in job.checkpoints:
            if epoch >= trainer.epoch:  # else it was written before this worker's time
                advance(epoch)
                files.write(path, checkpoints.pack(trainer.checkpoint(), job.member.id, job.views))
            emit(Checkpointed(epoch))
        return None
    advance(job.last_epoch)
    return _finish(job, trainer, labels, files, began)


def _enter(job: Job, trainer: AnyTrainer, files: Files, emit: Emit) -> None:
    """Bring a new trainer as far as this member was before, or to the end of the beginning that it shares."""
    content = None if job.partial is None else files.read(job.partial)
    if job.partial is not None and content is not None:
        try:
            _restore(trainer, content, job.partial, job.member.id, job.views)
            return
        except StoreError as error:
            emit(Noted(f"{error}; member {job.member.id} does without it"))
    if job.fork is not None:
        content = files.read(job.fork)
        if content is None:
            raise StoreError(f"{job.fork}: has gone: run the same command again")
        try:
            _restore(trainer, content, job.fork, job.member.trunk.id, job.views)
        except StoreError as error:
            raise StoreError(f"{error}: remove it and run the same command again") from None


def _restore(trainer: AnyTrainer, content: bytes, path: Path, owner: str, views: Sequence[View]) -> None:
    """Continue from the content of a checkpoint's file. Raises StoreError, which names the file."""
    state = checkpoints.unpack(content, path, owner, views)
    try:
        trainer.restore(state)
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from None


def _finish(job: Job, trainer: AnyTrainer, labels: str, files: Files, began: float) -> Finished:
    """Write the member's files and describe them."""
    weights, predictions = trainer.weights(), trainer.prediction_tensors()
    made = {"weights": lambda: weights, "predictions": lambda: predictions}
    if isinstance(trainer, Trainer):
        made |= {"features": trainer.features, "trajectory": lambda: {"trajectory": trainer.trajectory()}}
    digests = {"weights": digest(weights), "predictions": digest(predictions)}
    for kind, path in job.outputs:
        tensors = made[kind]()
        files.write(path, serialise(tensors))
        digests.setdefault(kind, digest(tensors))
    last = dict(zip(HISTORY, trainer.history[-1])) if trainer.history else {}
    return Finished(
        views=job.views,
        labels=labels,
        accuracy=last.get("test_accuracy", float("nan")),
        cross_entropy=last.get("test_cross_entropy", float("nan")),
        weights_digest=digests["weights"],
        predictions_digest=digests["predictions"],
        history=tuple(trainer.history),
        seconds=time.monotonic() - began,
        features_digest=digests.get("features"),
        trajectory_digest=digests.get("trajectory"),
        fingerprint=trainer.fingerprint if isinstance(trainer, Trainer) else None,
    )

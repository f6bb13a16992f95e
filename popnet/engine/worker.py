"""A worker process: takes jobs from its driver one by one, and reports what happens."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

import torch

from popnet.engine.jobs import Checkpointed, Done, Event, Failed, Job, Progressed
from popnet.engine.sharing import SharedDataset, SharedText
from popnet.errors import PopnetError, StoreError
from popnet.store import Finished, Store, digest, load_tensors, save_tensors
from popnet.training.language import LanguageTrainer
from popnet.training.trainer import HISTORY, Trainer

Shared = SharedDataset | SharedText

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve the driver at the other end of the connection whose descriptor is the first argument."""
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    setup: dict[str, Any] = connection.recv()
    for folder in setup["path"]:
        if folder not in sys.path:
            sys.path.append(folder)
    torch.set_num_interop_threads(1)
    data = {key: (shared, shared.attach()) for key, shared in setup["datasets"].items()}
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        if job is None:
            return
        _serve(job, data[job.dataset], connection)


def _end_with_parent() -> None:
    """Ask Linux to kill this process when the driver dies, whatever it dies of."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def _serve(job: Job, data: tuple[Shared, Any], connection: Connection) -> None:
    began = time.monotonic()
    event: Event
    try:
        event = Done(_train(job, data, connection, began))
    except StoreError as error:
        event = Failed(str(error), traceback.format_exc(), time.monotonic() - began, fatal=True)
    except PopnetError as error:
        event = Failed(str(error), traceback.format_exc(), time.monotonic() - began)
    except Exception as error:
        event = Failed(f"{type(error).__name__}: {error}", traceback.format_exc(), time.monotonic() - began)
    connection.send(event)


def _train(job: Job, data: tuple[Shared, Any], connection: Connection, began: float) -> Finished | None:
    shared, resident = data
    torch.set_num_threads(job.member.recipe.threads)
    trainer = _trainer(job, shared, resident)
    if job.fork is not None:
        trainer.restore(load_tensors(job.fork))

    def report(epoch: int, loss: float) -> None:
        connection.send(Progressed(epoch))

    if job.checkpoints:
        for epoch, path in job.checkpoints:
            trainer.run(until=epoch, progress=report)
            save_tensors(path, trainer.checkpoint())
            connection.send(Checkpointed(epoch))
        return None
    trainer.run(progress=report)
    return _finish(job, trainer, shared, began)


def _trainer(job: Job, shared: Shared, resident: Any) -> Trainer | LanguageTrainer:
    examples = job.member.recipe.train_examples
    if isinstance(shared, SharedText):
        return LanguageTrainer(job.member, resident if examples is None else resident.first(examples))
    train, test = resident
    return Trainer(job.member, train if examples is None else train.first(examples), test, shared.classes, job.views)


def _finish(job: Job, trainer: Trainer | LanguageTrainer, shared: Shared, began: float) -> Finished:
    """Write the member's files and describe them."""
    store = Store(job.store)
    weights = trainer.weights()
    predictions = trainer.prediction_tensors()
    if "weights" in job.member.recipe.keep:
        save_tensors(store.weights_path(job.member.id), weights)
    if isinstance(trainer, Trainer) and job.member.recipe.features is not None:
        save_tensors(store.features_path(job.member.id), trainer.features())
    if isinstance(trainer, Trainer) and "trajectory" in job.member.recipe.keep:
        save_tensors(store.trajectory_path(job.member.id), {"trajectory": trainer.trajectory()})
    save_tensors(store.predictions_path(job.member.id), predictions)
    last = dict(zip(HISTORY, trainer.history[-1])) if trainer.history else {}
    return Finished(
        views=job.views,
        labels=shared.labels_digest,
        accuracy=last.get("test_accuracy", float("nan")),
        cross_entropy=last.get("test_cross_entropy", float("nan")),
        weights_digest=digest(weights),
        predictions_digest=digest(predictions),
        history=tuple(trainer.history),
        seconds=time.monotonic() - began,
    )


if __name__ == "__main__":
    main()

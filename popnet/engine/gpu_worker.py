"""What a worker process does on a GPU: a cohort of slots, on the one device that it sees."""

from __future__ import annotations

import os
import platform as machine
import sys
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch

from popnet.data.choice import part_of
from popnet.data.feeding import DevicePictures, Feed
from popnet.data.pictures import PictureImages
from popnet.data.resident import Images, ResidentImages
from popnet.engine import sizing
from popnet.engine.cohort import Cohort
from popnet.engine.devices import platform
from popnet.engine.jobs import Fingerprinted, Job, Noted, Ready
from popnet.engine.pictures import SharedPictures, images_for
from popnet.engine.serving import Emit, StoreFiles, serve
from popnet.engine.sharing import SharedDataset
from popnet.protocol import Member
from popnet.training.memory import is_lost
from popnet.training.numerics import EXCLUSIVE
from popnet.training.rack import Rack
from popnet.training.slots import Slot

_DEVICE = torch.device("cuda", 0)


class GpuWorker:
    """Trains the driver's jobs in a cohort.

    Args:
        connection: to the driver; messages as of `popnet.engine.worker`.
        data: by key, each data set with what attaching it gave.
        size: members at once; None: from memory and a short measurement, when the first job comes.
    """

    def __init__(
        self, connection: Connection, data: dict[str, tuple[SharedDataset | SharedPictures, Any]], size: int | None
    ) -> None:
        self._connection, self._shared = connection, data
        self._opened: dict[Hashable, tuple[Images | Feed, Images]] = {}
        self._chosen: dict[tuple[str, int], Images] = {}
        self._rack = Rack(_DEVICE)
        self._sized = size is not None
        self._cohort = Cohort(size or 1, self._open, self._train, connection.send, self._announce)

    def run(self) -> None:
        """Serve until the driver ends the connection."""
        threading.excepthook = _end_process
        self._announce(self._cohort.size)
        while True:
            try:
                message = self._connection.recv()
            except EOFError:
                return
            if message is None:
                return
            number, job = message
            if not self._sized:
                try:
                    self._choose_size(number, job)
                except Exception as error:
                    if is_lost(error):
                        self._cohort.give_up(number, error)
                    raise
            self._cohort.start(number, job)

    def _announce(self, size: int) -> None:
        self._connection.send(Ready(size, platform("cuda"), machine.node()))

    def _open(self) -> Slot:
        return Slot(self._rack)

    def _choose_size(self, number: int, job: Job) -> None:
        """Grow the cohort on this job's recipe. What cannot be captured trains one at a time."""
        self._sized = True

        def note(text: str) -> None:
            self._connection.send((number, Noted(text)))

        slots: list[Slot] = []
        try:
            slots.append(self._prepared(job, note))
            if slots[0].graphs is not None:
                slots = sizing.choose(slots[0], lambda: self._prepared(job, note))
        except Exception as error:
            if is_lost(error):
                raise
            for slot in slots:  # the job meets the same error, and reports it
                slot.close()
            return
        for slot in slots:
            self._cohort.adopt(slot)
        self._cohort.size = len(slots)
        self._announce(len(slots))

    def _prepared(self, job: Job, note: Callable[[str], None]) -> Slot:
        slot = self._open()
        slot.warn = note
        try:
            with self._data(job) as data, slot.entered():
                slot.prepare(job.member, *data)
        except BaseException:
            slot.close()
            raise
        return slot

    def _train(self, job: Job, slot: Slot, emit: Emit) -> None:
        slot.warn = lambda text: emit(Noted(text))

        def trainer(job: Job, shared: Any, resident: Any) -> Any:
            train, test, classes = resident
            made = slot.trainer(job.member, train, test, classes, job.views)
            if slot.fingerprint is not None:
                emit(Fingerprinted(slot.fingerprint, _place()))
            return made

        with self._data(job) as data:
            serve(job, self._shared[job.dataset][0], data, StoreFiles(), emit, trainer)

    @contextmanager
    def _data(self, job: Job) -> Iterator[tuple[Images, Images, int]]:
        """The job's training and test images, made on the device or for it, and the number of classes."""
        train, test = self._open_data(job)
        classes = self._shared[job.dataset][0].classes
        if isinstance(train, Feed):
            with train.member(_order(job.member)) as fed:
                yield fed, test, classes
            return
        examples = job.member.recipe.train_examples
        yield train if examples is None else self._part(job.dataset, train, examples), test, classes

    def _part(self, dataset: str, train: Images, examples: int) -> Images:
        """The training images of recipes with `train_examples`, made once."""
        with EXCLUSIVE:
            key = dataset, examples
            if key not in self._chosen:
                self._chosen[key] = part_of(train, examples)
                torch.cuda.synchronize(_DEVICE)
            return self._chosen[key]

    def _open_data(self, job: Job) -> tuple[Images | Feed, Images]:
        """Images in the device's memory, one copy for all recipes; or what reads a recipe's pictures for it."""
        recipe = job.member.recipe
        with EXCLUSIVE:  # a capture in another slot must not meet the synchronisation of the whole device
            train, test = images_for(recipe, *self._shared[job.dataset])
            key = (job.dataset, recipe.digest) if isinstance(train, PictureImages) else job.dataset
            if key not in self._opened:
                fed = (
                    Feed(part_of(train, recipe.train_examples), _DEVICE)
                    if isinstance(train, PictureImages)
                    else _on_device(train)
                )
                self._opened[key] = fed, _on_device(test)
                torch.cuda.synchronize(_DEVICE)
            return self._opened[key]


def _on_device(images: Images) -> Images:
    if isinstance(images, PictureImages):
        return DevicePictures(images, _DEVICE)
    assert isinstance(images, ResidentImages)
    return images.to(_DEVICE)


def _order(m: Member) -> Hashable:
    """What the orders of a member's epochs follow from, beside its recipe."""
    reordered = m.recipe.kernels.mode == "reorder"
    seeds = [(seeds.shuffle, seeds.kernels if reordered else 1) for seeds in (m.seeds, m.base)]
    return *seeds, m.onset, m.until_step


def _place() -> str:
    """The worker's GPU, as the driver named it."""
    return f"GPU {os.environ.get('CUDA_VISIBLE_DEVICES', '0')} of {machine.node()}"


def _end_process(died: threading.ExceptHookArgs) -> None:
    """End a process one of whose threads has died: CUDA computes nothing more in it. The driver starts another one."""
    threading.__excepthook__(died)
    sys.stderr.flush()
    os._exit(1)

"""Pictures for the members that train in one process, on whatever device: read once for all that go through one order.

Members of a group begin an epoch together and take it batch by batch: the next is read when all are done with the last.
Where their augment seeds are equal, all are given the same batch; where they are not, the same decoded pictures, which
each augments by itself. Nothing depends on who is read with whom: a batch has the bytes that it has for a member alone.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from popnet.config import Augment
from popnet.data.pictures import DecodedBatch, PictureImages
from popnet.data.resident import BatchRequest, Buffers
from popnet.protocol import View


class DevicePictures:
    """A loader whose batches, made on the CPU, are wanted on a device.

    Args:
        images: the loader.
        device: where labels and batches are to stand.
    """

    def __init__(self, images: PictureImages, device: torch.device) -> None:
        self._images, self.device = images, device
        self.labels = images.labels.to(device)
        self._staging: dict[tuple[tuple[int, ...], torch.dtype], Tensor] = {}

    def __len__(self) -> int:
        return len(self._images)

    @property
    def train_shape(self) -> tuple[int, int, int]:
        return self._images.train_shape

    @property
    def view_shape(self) -> tuple[int, int, int]:
        return self._images.view_shape

    def first(self, examples: int) -> DevicePictures:
        """The first `examples` of them."""
        return DevicePictures(self._images.first(examples), self.device)

    def chosen(self, numbers: Tensor) -> DevicePictures:
        """Those of the numbers `numbers`, int64 [m], in this order."""
        return DevicePictures(self._images.chosen(numbers), self.device)

    def read(self, requests: Sequence[BatchRequest], augment: Augment, out: Buffers) -> Generator[Tensor, None, None]:
        """As of any loader. Raises DataError naming a picture that cannot be read."""
        batches = self._images.read(requests, augment, lambda number, request: self._like(out(number, request)))
        for number, (request, batch) in enumerate(zip(requests, batches)):
            yield _copied(out(number, request), batch)

    def view_batch(self, indices: Tensor, out: Tensor, view: View) -> Tensor:
        """As of any loader. Raises DataError naming a picture that cannot be read."""
        return _copied(out, self._images.view_batch(indices.cpu(), self._like(out), view))

    def _like(self, out: Tensor) -> Tensor:
        """A buffer on the CPU for what is to go to `out`: itself, if it is there."""
        if out.device.type == "cpu":
            return out
        key = tuple(out.shape), out.dtype
        if key not in self._staging:
            self._staging[key] = _pinned(torch.empty_like(out, device="cpu"))
        return self._staging[key]


def _copied(out: Tensor, batch: Tensor) -> Tensor:
    return out if batch.data_ptr() == out.data_ptr() else out.copy_(batch)


def _pinned(buffer: Tensor) -> Tensor:
    """Memory that a device copies from at full speed, of the same shape and layout."""
    return buffer.pin_memory() if torch.cuda.is_available() else buffer


class Feed:
    """One loader of training pictures for the members of a process.

    Args:
        images: the loader.
        device: where the members train.
    """

    def __init__(self, images: PictureImages, device: torch.device) -> None:
        self.images, self.device = images, device
        self._changed = threading.Condition()
        self._members: list[FedPictures] = []

    @contextmanager
    def member(self, group: Hashable) -> Iterator[FedPictures]:
        """The pictures of one more member, while the block runs.

        Args:
            group: equal for members whose epochs may have equal orders. An epoch of one begins when none of its group
                is between two epochs, so that they find together.
        """
        fed = FedPictures(self, group)
        with self._changed:
            self._members.append(fed)
        try:
            yield fed
        finally:
            with self._changed:
                self._members.remove(fed)
                self._changed.notify_all()

    def begin(self, fed: FedPictures, requests: Sequence[BatchRequest], augment: Augment) -> _Reading:
        """The reading of an epoch that a member asks for, as soon as its group is there."""
        with self._changed:
            fed.wanted = requests
            self._changed.notify_all()
            self._changed.wait_for(lambda: fed.reading is not None or self._here(fed))
            if fed.reading is None:
                self._start(fed.group, requests, augment)
            assert fed.reading is not None
            return fed.reading

    def end(self, fed: FedPictures) -> None:
        """The member is between two epochs."""
        with self._changed:
            fed.left, fed.wanted, fed.reading = fed.reading, None, None
            self._changed.notify_all()

    def _start(self, group: Hashable, requests: Sequence[BatchRequest], augment: Augment) -> None:
        """A reading for all that wait for an epoch of this order."""
        waiting = {m: m.wanted for m in self._members if m.group == group and m.wanted is not None}
        together = {m: wanted for m, wanted in waiting.items() if _same_order(wanted, requests)}
        reading = _Reading(self.images, together, augment)
        for m in together:
            m.wanted, m.reading = None, reading
        self._changed.notify_all()

    def _here(self, fed: FedPictures) -> bool:
        """Whether nobody of the group is between two epochs, or soon will be, coming from the reading that ended."""
        group = [m for m in self._members if m.group == fed.group]
        return all(m.wanted is not None or m.reading not in (None, fed.left) for m in group)


class FedPictures(DevicePictures):
    """A member's place at a feed.

    Attributes:
        wanted: the epoch that it waits for.
        reading: the one that it is in.
        left: the one that it was in before.
    """

    def __init__(self, feed: Feed, group: Hashable) -> None:
        super().__init__(feed.images, feed.device)
        self._feed, self.group = feed, group
        self.wanted: Sequence[BatchRequest] | None = None
        self.reading: _Reading | None = None
        self.left: _Reading | None = None

    def read(self, requests: Sequence[BatchRequest], augment: Augment, out: Buffers) -> Generator[Tensor, None, None]:
        reading = self._feed.begin(self, requests, augment)
        try:
            for number, request in enumerate(requests):
                batch, target = reading.take(self, number), out(number, request)
                if isinstance(batch, DecodedBatch):
                    batch = self._images.augmented(batch, request, augment, self._like(target))
                yield _copied(target, batch)
                reading.done(self)
        finally:
            reading.leave(self)
            self._feed.end(self)


def _same_order(one: Sequence[BatchRequest], other: Sequence[BatchRequest]) -> bool:
    return len(one) == len(other) and all(
        a.epoch == b.epoch and torch.equal(a.indices, b.indices) for a, b in zip(one, other)
    )


class _Reading:
    """One pass over an epoch's batches, by several members side by side.

    Args:
        images: the loader.
        members: what each of them asks for: one order, perhaps several augment seeds.
        augment: of the recipe.
    """

    def __init__(
        self, images: PictureImages, members: Mapping[FedPictures, Sequence[BatchRequest]], augment: Augment
    ) -> None:
        self._changed = threading.Condition()
        self._members, self._behind = set(members), set[FedPictures]()
        self._number = -1
        self._batch: Tensor | DecodedBatch | None = None
        self._error: BaseException | None = None
        requests = next(iter(members.values()))
        seeds = {tuple(request.augment_seed for request in wanted) for wanted in members.values()}
        self._batches: Generator[Tensor | DecodedBatch, None, None]
        if len(seeds) == 1:
            self._batches = images.read(requests, augment, _one_buffer(images, requests))
        else:
            self._batches = images.read_decoded(requests)

    def take(self, member: FedPictures, number: int) -> Tensor | DecodedBatch:
        """The batch of a number, when all are done with the one before. Raises what its reading raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._number == number or self._error is not None or not self._behind)
            if self._number < number and self._error is None:
                self._advance()
            if self._error is not None:
                raise self._error
            assert self._batch is not None
            return self._batch

    def done(self, member: FedPictures) -> None:
        """The member needs the present batch no more."""
        with self._changed:
            self._behind.discard(member)
            self._changed.notify_all()

    def leave(self, member: FedPictures) -> None:
        """The member asks for nothing more."""
        with self._changed:
            self._behind.discard(member)
            self._members.discard(member)
            if not self._members:
                self._batches.close()
            self._changed.notify_all()

    def _advance(self) -> None:
        try:
            self._batch = next(self._batches)
            self._number += 1
            self._behind = set(self._members)
        except Exception as error:
            self._error = error
        self._changed.notify_all()


def _one_buffer(images: PictureImages, requests: Sequence[BatchRequest]) -> Buffers:
    most = max((len(request.indices) for request in requests), default=0)
    buffer = _pinned(torch.empty((most, *images.train_shape), memory_format=torch.channels_last))
    return lambda number, request: buffer[: len(request.indices)]

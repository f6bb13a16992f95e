"""The loader of pictures of any size: decoded or raw, in memory or in a mapped file, framed and augmented natively."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from popnet import native
from popnet.config import Augment, Resize
from popnet.data.resident import BatchRequest, Buffers, operations
from popnet.errors import DataError
from popnet.protocol import View


@dataclass(frozen=True)
class DecodedBatch:
    """A batch before anything random happens to it, for members that augment it by themselves.

    Attributes:
        pictures: raw ones; valid until the next batch is asked for.
        places: int64 [batch], which of them make the batch.
        keys: int64 [batch], the images' numbers in the training set, which their draws depend on.
    """

    pictures: native.Pictures
    places: Tensor
    keys: Tensor


@dataclass(frozen=True, eq=False)
class PictureImages:
    """Pictures and labels, and how they become batches.

    Args:
        pictures: from `native.pictures`.
        labels: int64 [n], or [m] of those that are chosen.
        mean, std: per channel, of pixels in [0, 1].
        resize: how they are brought to one size; None where they have it.
        name_of: what an error calls a picture.
        threads: that make a batch.
        numbers: int64 [m], which of the pictures are chosen; None for all.
    """

    pictures: native.Pictures
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Resize | None
    name_of: Callable[[int], str]
    threads: int = 1
    numbers: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, examples: int) -> PictureImages:
        """The first `examples` of them, without a copy."""
        if self.numbers is not None:
            return replace(self, labels=self.labels[:examples], numbers=self.numbers[:examples])
        part = self.pictures
        fewer = native.pictures(part.bytes, part.table[:examples], part.channels)
        return replace(self, pictures=fewer, labels=self.labels[:examples])

    def chosen(self, numbers: Tensor) -> PictureImages:
        """Those of the numbers `numbers`, int64 [m], in this order, without a copy of the pictures."""
        return replace(self, labels=self.labels[numbers], numbers=self.among_all(numbers))

    def among_all(self, indices: Tensor) -> Tensor:
        """The numbers that images have in the whole set, on which what is drawn for them depends."""
        return indices if self.numbers is None else self.numbers[indices]

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def train_shape(self) -> tuple[int, int, int]:
        return self._shape(None if self.resize is None else self.resize.train)

    @property
    def view_shape(self) -> tuple[int, int, int]:
        return self._shape(None if self.resize is None else self.resize.test)

    def _shape(self, side: int | None) -> tuple[int, int, int]:
        if side is not None:
            return self.pictures.channels, side, side
        height, width = (int(extent) for extent in self.pictures.table[0, 2:4])
        return self.pictures.channels, height, width

    def training_framing(self, augment: Augment) -> Any | None:
        """What `native` takes for a training batch's framing; None where pictures stay as they are."""
        if self.resize is None:
            return None
        side, crop = self.resize.train, augment.resized_crop
        if crop is None:
            return native.central_framing(side, side, self.resize.share)
        return native.random_framing(side, side, crop.area, crop.aspect)

    def read(self, requests: Sequence[BatchRequest], augment: Augment, out: Buffers) -> Generator[Tensor, None, None]:
        for number, (request, batch) in enumerate(zip(requests, self.read_decoded(requests))):
            yield self.augmented(batch, request, augment, out(number, request))

    def read_decoded(self, requests: Sequence[BatchRequest]) -> Generator[DecodedBatch, None, None]:
        """The batches in turn, for `augmented`. Raises DataError as `read` does."""
        for request in requests:
            numbers = self.among_all(request.indices)
            yield DecodedBatch(self.pictures, numbers, numbers)

    def augmented(self, batch: DecodedBatch, request: BatchRequest, augment: Augment, out: Tensor) -> Tensor:
        """Fill `out`, on the CPU, with the batch that `request` asks for."""
        with self.named_errors():
            return native.picture_batch(
                batch.pictures,
                batch.places,
                out,
                self.training_framing(augment),
                mean=self.mean,
                std=self.std,
                seed=request.augment_seed,
                epoch=request.epoch,
                keys=batch.keys,
                threads=self.threads,
                **operations(augment, self.mean),
            )

    def view_batch(self, indices: Tensor, out: Tensor, view: View) -> Tensor:
        """Fill `out` with one view of the pictures `indices`: of resized ones, the square moves by the view's shift.

        A shift is in pixels of the result, and ends at the picture's border.
        """
        numbers = self.among_all(indices)
        constants: dict[str, Any] = {"mean": self.mean, "std": self.std, "flip": view.flip, "threads": self.threads}
        with self.named_errors():
            if self.resize is None:
                return native.picture_view(self.pictures, numbers, out, None, **constants, dy=view.dy, dx=view.dx)
            _, side, _ = out.shape[1:]
            framing = native.central_framing(side, side, self.resize.share, view.dy, view.dx)
            return native.picture_view(self.pictures, numbers, out, framing, **constants)

    @contextmanager
    def named_errors(self) -> Generator[None, None, None]:
        """Turn a picture that cannot be read into a DataError that names it."""
        try:
            yield
        except native.UnreadablePicture as error:
            raise DataError(f"{self.name_of(error.index)}: cannot be decoded: {error.reason}") from None


def uniform_pictures(images: Tensor) -> native.Pictures:
    """Images of one size, uint8 [n, h, w, c], contiguous, as pictures, without a copy."""
    count, height, width, channels = images.shape
    size = height * width * channels
    table = torch.tensor([0, size, height, width, 0]).repeat(count, 1)
    table[:, 0] = torch.arange(count) * size
    return native.pictures(images.reshape(-1), table, channels)

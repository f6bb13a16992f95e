"""The resident loader: the whole uint8 data set stays in memory, and batches are made from it in one native pass."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from popnet import native
from popnet.config import Augment
from popnet.protocol import View
from popnet.random import Source


@dataclass(frozen=True)
class BatchRequest:
    """A training batch to come: int64 [batch] images, and what their augmentation depends on."""

    indices: Tensor
    augment_seed: int
    epoch: int


Buffers = Callable[[int, BatchRequest], Tensor]
"""Gives the tensor to fill for the batch of a number: [batch, c, h, w], contiguous or channels-last."""


class Images(Protocol):
    """Labelled images and how they become batches: what a trainer asks of any loader."""

    @property
    def labels(self) -> Tensor:
        """int64 [n]."""

    @property
    def device(self) -> torch.device:
        """Where batches are made."""

    def __len__(self) -> int: ...

    @property
    def train_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a training batch's images."""

    @property
    def view_shape(self) -> tuple[int, int, int]:
        """The same of `view_batch`'s."""

    def first(self, examples: int) -> Images:
        """The first `examples` of them."""

    def chosen(self, numbers: Tensor) -> Images:
        """Those of the numbers `numbers`, int64 [m], in this order; each is augmented as it is among all."""

    def read(self, requests: Sequence[BatchRequest], augment: Augment, out: Buffers) -> Generator[Tensor, None, None]:
        """The batches in turn, each in the tensor that `out` gives for it, valid until the next is asked for.

        Raises:
            DataError: an image that cannot be read, with its name.
        """

    def view_batch(self, indices: Tensor, out: Tensor, view: View) -> Tensor:
        """Fill `out` with one view of the images `indices`. Raises DataError as `read` does."""


@dataclass(frozen=True)
class ResidentImages:
    """Images and labels held in memory, and how their pixels become numbers.

    Args:
        images: uint8 [n, h, w, c], contiguous.
        labels: int64 [n], or [m] of those that are chosen.
        mean, std: per channel, of pixels in [0, 1].
        numbers: int64 [m], which of the images are chosen; None for all.
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    numbers: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, examples: int) -> ResidentImages:
        """The first `examples` of them, without a copy."""
        if self.numbers is not None:
            return replace(self, labels=self.labels[:examples], numbers=self.numbers[:examples])
        return replace(self, images=self.images[:examples], labels=self.labels[:examples])

    def chosen(self, numbers: Tensor) -> ResidentImages:
        """Those of the numbers `numbers`, int64 [m], in this order, without a copy of the pixels."""
        there = numbers.to(self.device)
        return replace(self, labels=self.labels[there], numbers=self._among_all(there))

    def _among_all(self, indices: Tensor) -> Tensor:
        return indices if self.numbers is None else self.numbers[indices]

    def to(self, device: torch.device) -> ResidentImages:
        """A copy on another device."""
        numbers = None if self.numbers is None else self.numbers.to(device)
        return replace(self, images=self.images.to(device), labels=self.labels.to(device), numbers=numbers)

    def buffer(self, examples: int, dtype: torch.dtype, memory_format: torch.memory_format) -> Tensor:
        """An uninitialised batch [examples, c, h, w] for `training_batch` and `view_batch` to fill."""
        shape = (examples, *self.train_shape)
        return torch.empty(shape, dtype=dtype, device=self.device, memory_format=memory_format)

    @property
    def device(self) -> torch.device:
        return self.images.device

    @property
    def train_shape(self) -> tuple[int, int, int]:
        _, height, width, channels = self.images.shape
        return channels, height, width

    @property
    def view_shape(self) -> tuple[int, int, int]:
        return self.train_shape

    def read(self, requests: Sequence[BatchRequest], augment: Augment, out: Buffers) -> Generator[Tensor, None, None]:
        for number, request in enumerate(requests):
            indices, buffer = request.indices.to(self.device), out(number, request)
            yield self.training_batch(indices, buffer, augment, request.augment_seed, request.epoch)

    def training_batch(
        self, indices: Tensor, out: Tensor, augment: Augment, seed: int, epoch: int, now: Tensor | None = None
    ) -> Tensor:
        """Fill `out` with the augmented, normalised images `indices`; each depends on (seed, epoch, image) alone.

        Seed and epoch are those of `now` where it is given (see `native.augment`).
        """
        return native.augment(
            self.images,
            self._among_all(indices),
            out,
            seed=seed,
            epoch=epoch,
            mean=self.mean,
            std=self.std,
            now=now,
            **operations(augment, self.mean),
        )

    def view_batch(self, indices: Tensor, out: Tensor, view: View) -> Tensor:
        """Fill `out` with the normalised images `indices`, each shifted and flipped as `view` says."""
        return native.view(
            self.images,
            self._among_all(indices),
            out,
            mean=self.mean,
            std=self.std,
            dy=view.dy,
            dx=view.dx,
            flip=view.flip,
        )


@dataclass(frozen=True)
class ResidentText:
    """A text held in memory: tokens, int64 [n] each, in 0 .. vocabulary - 1."""

    train: Tensor
    validation: Tensor
    test: Tensor
    vocabulary: int

    def first(self, tokens: int) -> ResidentText:
        """With the first `tokens` of its training part, without a copy."""
        return replace(self, train=self.train[:tokens])


def operations(augment: Augment, mean: Sequence[float]) -> dict[str, Any]:
    """A recipe's augmentation as arguments of the native functions; cutout fills with the mean pixel by default."""
    fill = augment.fill if augment.fill is not None else tuple(int(255.0 * m) for m in mean)
    return {
        "crop": augment.crop,
        "flip": augment.flip,
        "translate": augment.translate,
        "cutout": augment.cutout,
        "fill": fill,
    }


def batch_order(kernels_seed: int, epoch: int, step: int, indices: Tensor) -> Tensor:
    """The order inside one batch: as given, or permuted by the `kernels` seed (mode `reorder`).

    Args:
        kernels_seed: 1 leaves the batch as it is.
        step: within the epoch.
        indices: int64 [batch].
    """
    if kernels_seed == 1:
        return indices
    order = native.permutation(len(indices), seed=kernels_seed, epoch=epoch, source=Source.KERNELS, block=step)
    return indices[order]

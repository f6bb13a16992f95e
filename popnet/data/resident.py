"""The resident loader: the whole uint8 data set stays in memory, and batches are made from it in one native pass."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from popnet import native
from popnet.config import Augment
from popnet.protocol import View
from popnet.random import Source


@dataclass(frozen=True)
class ResidentImages:
    """Images and labels held in memory, and how their pixels become numbers.

    Args:
        images: uint8 [n, h, w, c], contiguous.
        labels: int64 [n].
        mean, std: per channel, of pixels in [0, 1].
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, examples: int) -> ResidentImages:
        """The first `examples` of them, without a copy."""
        return ResidentImages(self.images[:examples], self.labels[:examples], self.mean, self.std)

    def to(self, device: torch.device) -> ResidentImages:
        """A copy on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def buffer(self, examples: int, dtype: torch.dtype, memory_format: torch.memory_format) -> Tensor:
        """An uninitialised batch [examples, c, h, w] for `training_batch` and `view_batch` to fill."""
        _, height, width, channels = self.images.shape
        return torch.empty(
            (examples, channels, height, width), dtype=dtype, device=self.images.device, memory_format=memory_format
        )

    def training_batch(
        self, indices: Tensor, out: Tensor, augment: Augment, seed: int, epoch: int, now: Tensor | None = None
    ) -> Tensor:
        """Fill `out` with the augmented, normalised images `indices`; each depends on (seed, epoch, image) alone.

        Seed and epoch are those of `now` where it is given (see `native.augment`).
        """
        fill = augment.fill if augment.fill is not None else tuple(int(255.0 * m) for m in self.mean)
        return native.augment(
            self.images,
            indices,
            out,
            seed=seed,
            epoch=epoch,
            mean=self.mean,
            std=self.std,
            crop=augment.crop,
            flip=augment.flip,
            translate=augment.translate,
            cutout=augment.cutout,
            fill=fill,
            now=now,
        )

    def view_batch(self, indices: Tensor, out: Tensor, view: View) -> Tensor:
        """Fill `out` with the normalised images `indices`, each shifted and flipped as `view` says."""
        return native.view(
            self.images, indices, out, mean=self.mean, std=self.std, dy=view.dy, dx=view.dx, flip=view.flip
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

"""An epoch that its steps read from device memory, so that all steps are one and the same sequence of kernels.

`native.begin_step` fetches the batch and the row of the epoch's table at the present position; `native.end_step` keeps
the loss and moves the position on. On the CPU the kernels' twins do the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from popnet import native
from popnet.config import Augment
from popnet.data.resident import ResidentImages
from popnet.training.epochs import EpochPlan
from popnet.training.waiting import on_host


@dataclass(frozen=True)
class BatchBuffers:
    """Where a batch of one size stands: int64 [batch] twice, and the images [batch, channels, height, width]."""

    indices: Tensor
    labels: Tensor
    images: Tensor


class DeviceEpoch:
    """An epoch's plan in the data's memory, and the batch buffers and losses of its steps; one for each slot.

    Args:
        train: the training set.
        augment: of the recipe.
        batch_size: of a whole batch.
        steps: of an epoch.
        dtype, layout: of the images.
    """

    def __init__(
        self,
        train: ResidentImages,
        augment: Augment,
        batch_size: int,
        steps: int,
        dtype: torch.dtype,
        layout: torch.memory_format,
    ) -> None:
        device = train.images.device
        self._train, self._augment, self._batch_size = train, augment, batch_size
        self._dtype, self._layout = dtype, layout
        self._order = torch.zeros(len(train), dtype=torch.int64, device=device)
        self._table = torch.zeros((max(steps, 1), native.STEP_WORDS), dtype=torch.int64, device=device)
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._losses = torch.zeros(max(steps, 1), device=device)
        self.now = torch.zeros(native.STEP_WORDS, dtype=torch.int64, device=device)
        """int64 [STEP_WORDS]: the values of the step that is running."""
        self._batches: dict[int, BatchBuffers] = {}

    def enter(self, plan: EpochPlan) -> None:
        """Take over a plan, to begin at its first step."""
        self._order[: len(plan.order)].copy_(plan.order)
        self._table.copy_(plan.table)
        self._position.zero_()

    def begin(self, count: int) -> BatchBuffers:
        """Enqueue the making of the next batch, `count` examples, and the reading of its step's values."""
        batch = self.batch(count)
        native.begin_step(
            *(self._table, self._order, self._train.labels, self._position, self._batch_size),
            now=self.now,
            indices=batch.indices,
            labels=batch.labels,
        )
        self._train.training_batch(batch.indices, batch.images, self._augment, 0, 0, now=self.now)
        return batch

    def end(self, loss: Tensor) -> None:
        """Enqueue the keeping of the step's loss, and the move to the next."""
        native.end_step(loss.float().reshape(1), self._losses, self._position)

    def rewind(self) -> None:
        """Go back to the epoch's first step."""
        self._position.zero_()

    def losses(self) -> list[float]:
        """The losses of the epoch's steps; waits for them."""
        return [float(loss) for loss in on_host(self._losses)]

    def batch(self, count: int) -> BatchBuffers:
        """The buffers of batches of `count` examples."""
        if count not in self._batches:
            device = self._order.device
            indices, labels = (torch.zeros(count, dtype=torch.int64, device=device) for _ in range(2))
            images = self._train.buffer(count, self._dtype, self._layout)
            self._batches[count] = BatchBuffers(indices, labels, images)
        return self._batches[count]

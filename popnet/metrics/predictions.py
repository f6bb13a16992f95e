"""Predictions as metrics take them: an array, or a reader of blocks of members (`popnet.results.arrays.logits`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from popnet.metrics.inputs import Array, check_finite, logits_tensor

BLOCK_BYTES = 1 << 27
"""What a block of members takes, as float32, where the caller does not say how many."""


class Predictions(ABC):
    """The logits of a population: `members` x `examples` x `classes`; subclasses say how to read some of them.

    Every metric takes one of these in place of an array, and gives the same bits.
    """

    members: int
    examples: int
    classes: int
    device: torch.device = torch.device("cpu")

    @abstractmethod
    def read(self, members: Sequence[int], examples: slice) -> Tensor:
        """float32 [members, examples, classes], contiguous, of the named members and a plain slice of examples."""

    def blocks(self, size: int | None, threads: int) -> Iterator[tuple[int, Tensor]]:
        """(first member, logits of `size` members), in order; ValueError names values that are not finite."""
        size = size or max(1, BLOCK_BYTES // (4 * self.examples * self.classes))
        for first in range(0, self.members, size):
            block = self.read(range(first, min(first + size, self.members)), slice(0, self.examples))
            check_finite(block, first_member=first, threads=threads)
            yield first, block

    def example_slices(
        self, members: Sequence[int], multiple: int, threads: int
    ) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """The named members' logits a slice of examples at a time, each slice but the last a `multiple` long.

        Yields (examples, logits, rows): the members are the `rows` of logits, all of them where that is None.
        """
        bytes_of_one = 4 * len(members) * self.classes
        step = max(multiple, BLOCK_BYTES // bytes_of_one // multiple * multiple)
        for first in range(0, self.examples, step):
            part = slice(first, min(first + step, self.examples))
            logits = self.read(members, part)
            try:
                check_finite(logits, threads=threads)
            except ValueError:
                for row, member in enumerate(members):
                    check_finite(logits[row : row + 1], first_member=member, first_example=first)
            yield part, logits, None


class ArrayPredictions(Predictions):
    """Predictions in memory: a tensor [members, examples, classes] on the CPU or a CUDA device."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.members, self.examples, self.classes = logits.shape
        self.device = logits.device
        self._finite = False

    def read(self, members: Sequence[int], examples: slice) -> Tensor:
        if isinstance(members, range) and members.step == 1:
            chosen = self.logits[members.start : members.stop, examples]
        else:
            chosen = self.logits[torch.tensor(list(members), device=self.device), examples]
        return chosen.to(torch.float32).contiguous()

    def blocks(self, size: int | None, threads: int) -> Iterator[tuple[int, Tensor]]:
        yield from super().blocks(size, threads)
        self._finite = True

    def example_slices(
        self, members: Sequence[int], multiple: int, threads: int
    ) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        if self.logits.dtype != torch.float32 or not self.logits.is_contiguous():
            yield from super().example_slices(members, multiple, threads)
            return
        if not self._finite:
            check_finite(self.logits, threads=threads)
            self._finite = True
        rows = torch.tensor(list(members), dtype=torch.int64, device=self.device)
        yield slice(0, self.examples), self.logits, rows


def as_predictions(logits: Array | Predictions, name: str = "logits") -> Predictions:
    """The logits as `Predictions`; ValueError, naming the argument, where they are not."""
    if isinstance(logits, Predictions):
        return logits
    return ArrayPredictions(logits_tensor(logits, name))

"""Which member errs on which example, one bit each: 60,000 members on 10,000 examples take 75 MB."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 2048  # members unpacked at a time


@dataclass(frozen=True)
class PackedErrors:
    """The error bits err[r, i] of R members on n examples.

    Attributes:
        bits: uint8 [members, ceil(examples / 8)], as `np.packbits(errors, axis=1)` gives them: 1 where the member errs
            on the example; what pads the last byte is 0.
        examples: n.
    """

    bits: NDArray[np.uint8]
    examples: int

    def __post_init__(self) -> None:
        if self.bits.dtype != np.uint8 or self.bits.ndim != 2:
            raise ValueError(f"bits must be uint8 [members, bytes], not {self.bits.dtype} {list(self.bits.shape)}")
        if self.examples < 1 or len(self.bits) < 1 or self.bits.shape[1] != -(-self.examples // 8):
            raise ValueError(f"bits [members, bytes] of {self.examples} examples cannot be {list(self.bits.shape)}")
        padding = 8 * self.bits.shape[1] - self.examples
        if padding and bool((self.bits[:, -1] & np.uint8((1 << padding) - 1)).any()):
            raise ValueError("the bits that pad the last byte must be 0")

    @property
    def members(self) -> int:
        return len(self.bits)

    @classmethod
    def pack(cls, errors: Any) -> PackedErrors:
        """Pack bool [members, examples], NumPy's or torch's: True where the member is wrong."""
        array = as_array(errors)
        if array.dtype != np.bool_ or array.ndim != 2 or 0 in array.shape:
            raise ValueError(f"errors must be bool [members, examples], not {array.dtype} {list(array.shape)}")
        return cls(np.packbits(array, axis=1), array.shape[1])

    @classmethod
    def from_predictions(cls, predictions: Any, labels: Any) -> PackedErrors:
        """From the predicted classes, integers [members, examples], and the labels, integers [examples]."""
        classes, truth = check_predictions(predictions, labels)
        bits = np.empty((len(classes), -(-classes.shape[1] // 8)), np.uint8)
        for start in range(0, len(classes), _BLOCK):
            block = slice(start, start + _BLOCK)
            bits[block] = np.packbits(classes[block] != truth.astype(classes.dtype), axis=1)
        return cls(bits, classes.shape[1])

    def blocks(self, members: int = _BLOCK) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """The bits as uint8 [block of members, examples] of 0 and 1, block by block, with the members' slice."""
        for start in range(0, self.members, members):
            rows = slice(start, min(start + members, self.members))
            yield rows, np.unpackbits(self.bits[rows], axis=1, count=self.examples)

    def member_counts(self) -> NDArray[np.int64]:
        """How many examples each member gets wrong: int64 [members]."""
        return _count_bits(self.bits)

    def example_counts(self) -> NDArray[np.int64]:
        """How many members get each example wrong: int64 [examples]."""
        counts = np.zeros(self.examples, np.int64)
        for _, block in self.blocks(255):  # sums of 255 bits fit a byte, and bytes are summed fast
            counts += block.sum(axis=0, dtype=np.uint8)
        return counts

    def halves(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Errors of each member on the examples of even index and on those of odd index: two int64 [members]."""
        even = _count_bits(self.bits & np.uint8(0b10101010))
        return even, self.member_counts() - even

    def by_example(self, examples: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The transposed bits of some examples: uint8 [len(examples), ceil(members / 8)], padded with 0."""
        out = np.zeros((len(examples), -(-self.members // 8)), np.uint8)
        for rows, block in self.blocks():  # a multiple of 8 members, so that blocks meet at bytes
            packed = np.packbits(block[:, examples], axis=0).T
            out[:, rows.start // 8 : rows.start // 8 + packed.shape[1]] = packed
        return out


def packed(errors: Any, least_members: int = 2) -> PackedErrors:
    """What every function over errors accepts: `PackedErrors`, or bool [members, examples], NumPy's or torch's."""
    result = errors if isinstance(errors, PackedErrors) else PackedErrors.pack(errors)
    if result.members < least_members:
        raise ValueError(f"errors has {result.members} member(s): at least {least_members} are needed")
    return result


def check_predictions(predictions: Any, labels: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Predicted classes [members, examples] (any integer type, kept) and labels int64 [examples], checked."""
    classes, truth = as_array(predictions), as_array(labels)
    if classes.dtype.kind not in "iub" or classes.ndim != 2 or 0 in classes.shape:
        raise ValueError(f"predictions must be integers [members, examples], not {classes.dtype} {list(classes.shape)}")
    if truth.dtype.kind not in "iub" or truth.shape != classes.shape[1:]:
        raise ValueError(f"labels must be integers [{classes.shape[1]}], not {truth.dtype} {list(truth.shape)}")
    if classes.dtype == np.bool_:
        classes = classes.view(np.uint8)
    if truth.min() < 0 or (classes.dtype.kind == "i" and classes.min() < 0):
        raise ValueError("classes are counted from 0, but predictions or labels hold a negative one")
    return classes, np.ascontiguousarray(truth, dtype=np.int64)


def as_array(values: Any) -> NDArray[Any]:
    """A NumPy array of what NumPy reads, or of a torch tensor on any device."""
    torch = sys.modules.get("torch")  # no tensor without it; a table of numbers does not wait for its import
    if torch is not None and isinstance(values, torch.Tensor):
        return np.asarray(values.detach().cpu().numpy())
    return np.asarray(values)


def _count_bits(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    counts = np.empty(len(bits), np.int64)
    for start in range(0, len(bits), _BLOCK):
        block = slice(start, start + _BLOCK)
        counts[block] = np.bitwise_count(bits[block]).sum(axis=1, dtype=np.int64)
    return counts

"""Counter-based random numbers: (seed, source, epoch, index) -> numbers, never a function of what was drawn before.

Philox4x32-10 (Salmon et al., SC 2011) with popnet's convention (csrc/common/philox.h):

    key     = (seed & 0xffffffff, seed >> 32)
    counter = (index, epoch, block, source)

`index` is what the numbers are for: an example, a weight, a group. `block` numbers the draws of one index, four words
at a time. Every source has its own number, so that changing one seed changes nothing that another source draws. Two
uses depart from this, each stated where it is: the epoch permutation takes two indices' keys from one block of words
(csrc/data/permutation.h), and a dropout mask's counter is (element / 4, example, step, layer << 8 | STOCHASTIC)
(csrc/training/dropout.h).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from popnet import native


class Source(IntEnum):
    """What a stream is for: the last word of its counters. Numbers never change, or published bits would."""

    INIT = 1
    SHUFFLE = 2
    AUGMENT = 3
    STOCHASTIC = 4
    KERNELS = 5
    BIT = 6
    BOOTSTRAP = 7
    GROUPS = 8
    SUBSET = 9


def philox4x32(counter: ArrayLike, key: ArrayLike) -> NDArray[np.uint32]:
    """Philox4x32-10: uint32 [4] from a counter of four words and a key of two, each in 0 .. 2^32-1."""
    return np.array(native.philox4x32(_words("counter", counter, 4), _words("key", key, 2)), dtype=np.uint32)


def words(seed: int, source: int, epoch: int, index: int, block: int = 0) -> NDArray[np.uint32]:
    """The four words, uint32 [4], that popnet's convention gives (seed, source, epoch, index, block).

    Args:
        seed: 0 .. 2^64-1.
        source: a `Source`.
        epoch, index, block: each in 0 .. 2^32-1.
    """
    seed = native.check_seed(seed)
    counter = [native.check_word("index", index), native.check_word("epoch", epoch)]
    counter += [native.check_word("block", block), native.check_word("source", source)]
    return np.array(native.philox4x32(counter, [seed % 2**32, seed >> 32]), dtype=np.uint32)


def uniform_integer(word: int, n: int) -> int:
    """A word, uniform in 0 .. 2^32-1, as an integer in 0 .. n-1: (word * n) >> 32. The bias is below n / 2^32."""
    if native.check_word("n", n) == 0:
        raise ValueError("n is 0, but must be at least 1")
    return native.check_word("word", word) * int(n) >> 32


def permutation(
    seed: int, epoch: int, size: int, *, source: int = Source.SHUFFLE, block: int = 0, threads: int = 1
) -> NDArray[np.int64]:
    """The order of `size` examples in an epoch: int64 [size], a permutation of 0 .. size-1.

    Indices sorted by 64-bit Philox keys, smaller index first on equal keys; any epoch is entered directly.
    `native.permutation` gives the same as a tensor, on the CPU or on a CUDA device.
    """
    order = native.permutation(size, seed=seed, epoch=epoch, source=source, block=block, threads=threads)
    return np.asarray(order.numpy(), dtype=np.int64)


def _words(name: str, values: ArrayLike, count: int) -> Sequence[int]:
    array = np.asarray(values)
    if array.shape != (count,):
        raise ValueError(f"{name} must have shape [{count}], not {list(array.shape)}")
    return [native.check_word(f"{name}[{i}]", value) for i, value in enumerate(array.tolist())]

"""Seeded draws for intervals: Philox words in bulk, by popnet's convention, so that they depend on the seed alone."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)

_STEPS = 1 << 40

_BOOTSTRAP = 7  # popnet.random.Source.BOOTSTRAP: fixed, and importing it would load the native module


def bootstrap_words(seed: int, resamples: range, draws: int, stream: int = 0) -> NDArray[np.uint64]:
    """Words for `draws` draws of each resample, uint64 [resamples, draws], each below 2^32.

    Word d of resample r is word d % 4 of (seed, BOOTSTRAP, epoch `stream`, index r, block d // 4), as in the native
    bootstrap of standard deviations; `popnet.random.words` gives the same one by one.
    """
    blocks = -(-draws // 4)
    shape = (len(resamples), blocks)
    index = np.broadcast_to(np.arange(resamples.start, resamples.stop, dtype=np.uint64)[:, None], shape)
    block = np.broadcast_to(np.arange(blocks, dtype=np.uint64), shape)
    state = [index, np.full(shape, stream, np.uint64), block, np.full(shape, _BOOTSTRAP, np.uint64)]
    keys = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        left, right = _MULTIPLIERS[0] * state[0], _MULTIPLIERS[1] * state[2]
        state = [
            (right >> _HALF) ^ state[1] ^ np.uint64(keys[0]),
            right & _LOW,
            (left >> _HALF) ^ state[3] ^ np.uint64(keys[1]),
            left & _LOW,
        ]
        keys = [(key + step) & 0xFFFFFFFF for key, step in zip(keys, _WEYL)]
    return np.stack(state, axis=2).reshape(len(resamples), 4 * blocks)[:, :draws]


def bootstrap_draws(seed: int, resamples: range, members: int, stream: int = 0) -> NDArray[np.int64]:
    """The members of each resample, drawn with replacement: int64 [resamples, members], each below `members`."""
    words = bootstrap_words(seed, resamples, members, stream)
    return ((words * np.uint64(members)) >> _HALF).astype(np.int64)


def bootstrap_weights(seed: int, resamples: range, members: int, stream: int = 0) -> NDArray[np.float32]:
    """How often each member is in each resample: float32 [resamples, members], integers that sum to `members`."""
    weights = np.empty((len(resamples), members), np.float32)
    for row, resample in enumerate(resamples):
        draws = bootstrap_draws(seed, range(resample, resample + 1), members, stream)[0]
        weights[row] = np.bincount(draws, minlength=members)
    return weights


def in_steps(values: NDArray[np.float64]) -> tuple[NDArray[np.int64], float]:
    """Values above the least one as whole steps of their range / 2^40 or less, which the native bootstrap sums exactly.

    Returns the steps, int64 like `values`, and the size of a step.
    """
    above = values - values.min()
    step = 2.0 ** math.ceil(math.log2(above.max())) / _STEPS if above.max() > 0 else 1.0
    return np.rint(above / step).astype(np.int64), step


def uniforms(seed: int, count: int, stream: int = 0) -> NDArray[np.float64]:
    """Uniform numbers in (0, 1), float64 [count], with 53 random bits each."""
    words = bootstrap_words(seed, range(1), 2 * count, stream)[0].reshape(count, 2)
    return (((words[:, 0] << np.uint64(21)) ^ (words[:, 1] >> np.uint64(11))).astype(np.float64) + 0.5) / 2.0**53

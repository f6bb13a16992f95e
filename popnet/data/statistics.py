"""Mean and standard deviation of images, counted in integers: equal pixels give equal floats on every machine."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 20  # pixels that are counted at once

Constants = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation, one float a channel, of pixels scaled to [0, 1]."""

IMAGENET: Constants = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, as everybody uses them."""


def channel_statistics(images: NDArray[np.uint8]) -> Constants:
    """Mean and standard deviation (ddof 0) of each channel of images, uint8 [..., c]; see `statistics_of_counts`."""
    return statistics_of_counts(channel_counts(images))


def channel_counts(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each value occurs in each channel, int64 [c, 256]; counts of parts add up."""
    channels = images.shape[-1]
    pixels = images.reshape(-1, channels)
    counts = np.zeros((channels, 256), np.int64)
    for block in np.split(pixels, range(_BLOCK, len(pixels), _BLOCK)):  # NumPy counts a copy of eight times the size
        for channel, values in zip(counts, block.T):
            channel += np.bincount(values, minlength=256)
    return counts


def statistics_of_counts(counts: NDArray[np.int64]) -> Constants:
    """Mean and standard deviation from int64 [c, 256].

    A channel of one constant value gets 1 as its standard deviation, so that it can be divided by.
    """
    means, stds = [], []
    for channel in counts.tolist():
        total = sum(channel)
        first = Fraction(sum(value * count for value, count in enumerate(channel)), total)
        second = Fraction(sum(value**2 * count for value, count in enumerate(channel)), total)
        variance = (second - first**2) / 255**2
        means.append(float(first / 255))
        stds.append(math.sqrt(float(variance)) if variance else 1.0)
    return tuple(means), tuple(stds)

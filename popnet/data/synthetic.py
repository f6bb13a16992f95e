"""Seeded images of any shape, for tests, benchmarks and machines without data.

An image is a weighted mean of its class's template and noise, pixel by pixel. Everything is integer
arithmetic on the raw words of NumPy's Philox generator, whose stream NumPy guarantees, so that equal
arguments give equal bytes everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TEMPLATES, TRAIN_LABELS, TRAIN_NOISE, TEST_LABELS, TEST_NOISE = range(5)
"""The streams of one seed: the second word of the generator's key."""

_TEMPLATE_CELL = 4  # pixels; templates are flat within a cell, so that small shifts keep the class
_FULL_WEIGHT = 256
_CHUNK_BYTES = 1 << 24


def make_split(
    examples: int,
    shape: tuple[int, int, int],
    classes: int,
    signal: float,
    seed: int,
    labels: int,
    noise: int,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw one split.

    Args:
        examples: how many; the first ones do not depend on it.
        shape: height, width, channels.
        signal: weight of the template in a pixel, 0 to 1, in steps of 1/256; the noise has the rest.
        seed: 0 to 2**64 - 1.
        labels, noise: the split's streams, such as TRAIN_LABELS and TRAIN_NOISE.

    Returns:
        Images, uint8 [examples, height, width, channels], and labels, int64 [examples].
    """
    drawn = _generator(seed, labels).random_raw(examples)
    targets = (np.asarray(drawn, dtype=np.uint64) % np.uint64(classes)).astype(np.int64)
    weight = round(signal * _FULL_WEIGHT)
    templates = _templates(shape, classes, seed).astype(np.uint16) * np.uint16(weight)
    images = np.empty((examples, *shape), dtype=np.uint8)
    generator = _generator(seed, noise)
    chunk = max(1, _CHUNK_BYTES // templates[0].size)
    for start in range(0, examples, chunk):
        stop = min(start + chunk, examples)
        pixels = _bytes_per_example(generator, stop - start, templates[0].size).reshape(-1, *shape)
        mixed = pixels.astype(np.uint16) * np.uint16(_FULL_WEIGHT - weight)
        mixed += templates[targets[start:stop]]
        images[start:stop] = mixed >> 8
    return images, targets


def _templates(shape: tuple[int, int, int], classes: int, seed: int) -> NDArray[np.uint8]:
    """uint8 [classes, height, width, channels]."""
    height, width, channels = shape
    rows, columns = -(-height // _TEMPLATE_CELL), -(-width // _TEMPLATE_CELL)
    cells = _bytes_per_example(_generator(seed, TEMPLATES), classes, rows * columns * channels)
    grown = cells.reshape(classes, rows, columns, channels)
    grown = grown.repeat(_TEMPLATE_CELL, axis=1).repeat(_TEMPLATE_CELL, axis=2)
    return grown[:, :height, :width]


def _generator(seed: int, stream: int) -> np.random.Philox:
    return np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))


def _bytes_per_example(generator: np.random.Philox, examples: int, size: int) -> NDArray[np.uint8]:
    """uint8 [examples, size]; whole words for each, little end first, so that chunks do not matter."""
    words = -(-size // 8)
    raw = np.asarray(generator.random_raw(examples * words), dtype="<u8")
    return raw.view(np.uint8).reshape(examples, words * 8)[:, :size]

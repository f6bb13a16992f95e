"""A seeded text that can be learned, for tests, benchmarks and machines without corpora.

Half of the words follow from the word before, through a table drawn from the seed; the others are drawn with falling
frequencies. Integer arithmetic on NumPy's Philox generator, whose stream NumPy guarantees, so that equal arguments give
equal texts everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from popnet.data.text import END_OF_LINE, Text
from popnet.errors import ConfigError

_SUCCESSORS, _TRAIN, _VALIDATION, _TEST = range(4)
"""The streams of one seed: the second word of the generator's key."""


def make_text(train: int, validation: int, test: int, types: int, seed: int) -> Text:
    """Draw a text.

    Args:
        train, validation, test: tokens of each part; a shorter part is the beginning of a longer one.
        types: size of the vocabulary, `<eos>` included, at least 2.
        seed: 0 to 2**64 - 1.

    Raises:
        ConfigError: naming the argument that is out of range.
    """
    for option, value, least in (
        ("train", train, 1),
        ("validation", validation, 1),
        ("test", test, 1),
        ("types", types, 2),
        ("seed", seed, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**64:
            raise ConfigError(f"data set 'synthetic_text': {option} must be an integer from {least}, not {value!r}")
    successors = _draws(types, types, seed, _SUCCESSORS)[:, 0]
    vocabulary = (END_OF_LINE, *(f"w{number}" for number in range(1, types)))
    train_tokens, validation_tokens, test_tokens = (
        _walk(_draws(size, types, seed, stream), successors)
        for size, stream in ((train, _TRAIN), (validation, _VALIDATION), (test, _TEST))
    )
    return Text("synthetic_text", train_tokens, validation_tokens, test_tokens, vocabulary)


def _draws(count: int, types: int, seed: int, stream: int) -> NDArray[np.int64]:
    """int64 [count, 2]: a type, lower ones more often, and whether it takes the place of the successor."""
    key = np.array([seed, stream], dtype=np.uint64)
    raw = np.asarray(np.random.Philox(key=key).random_raw(count), dtype=np.uint64)
    low, middle, high = raw & np.uint64(0xFFFFFF), (raw >> np.uint64(24)) & np.uint64(0xFFFFFF), raw >> np.uint64(63)
    one, other = low % np.uint64(types), middle % np.uint64(types)
    return np.stack([np.minimum(one, other), high], axis=1).astype(np.int64)


def _walk(draws: NDArray[np.int64], successors: NDArray[np.int64]) -> NDArray[np.int32]:
    """int32 [count]: each token the successor of the one before, or the one drawn."""
    tokens, before = [], 0
    following = successors.tolist()
    for drawn, instead in draws.tolist():
        before = drawn if instead else following[before]
        tokens.append(before)
    return np.array(tokens, dtype=np.int32)

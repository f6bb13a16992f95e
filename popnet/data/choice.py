"""Which examples `train_examples: N` and `features.examples: N` take: the first N, or a fixed draw.

They are drawn where the labels lie in order of class, of which the first N would be of one class, or of few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from popnet import random

if TYPE_CHECKING:
    from popnet.data.resident import Images

_SEED = 1  # of the draw; another one would change the meaning of every recipe with `train_examples`
_LEAST_HALF = 50  # examples: of fewer, mixed ones can seem to be in order

AnyImages = TypeVar("AnyImages", bound="Images")


def in_order_of_class(labels: ArrayLike) -> bool:
    """Whether labels, int [n], of two classes or more, lie in order of class, as those of class folders do.

    They do where none returns to an earlier class, and where they, or those of the first half of 100 examples and more,
    change from one example to the next at most half as often as in a random order.
    """
    given = np.asarray(labels)
    half = len(given) // 2
    return _changes_little(given) or (half >= _LEAST_HALF and _changes_little(given[:half]))


def _changes_little(labels: NDArray[np.int64]) -> bool:
    _, counts = np.unique(labels, return_counts=True)
    changes, examples = int(np.count_nonzero(labels[1:] != labels[:-1])), len(labels)
    if len(counts) < 2:
        return False
    unequal_pairs = examples**2 - int((counts.astype(np.int64) ** 2).sum())
    return changes == len(counts) - 1 or 2 * changes * examples <= unequal_pairs


def chosen_examples(labels: ArrayLike, examples: int) -> NDArray[np.int64] | None:
    """The numbers, int64 [examples], of the training examples that a recipe takes; None for the first ones.

    Of a set in order of class, a fixed shuffle of all is drawn once; a smaller choice is the beginning of a larger one.
    """
    return None if examples >= len(np.asarray(labels)) else looked_at(labels, examples)


def looked_at(labels: ArrayLike, examples: int) -> NDArray[np.int64] | None:
    """The numbers, int64 [examples], of the test examples whose representations are kept; None for the first ones.

    As `chosen_examples`, and all of them are shuffled too: they begin with those of every smaller choice.
    """
    if not in_order_of_class(labels):
        return None
    return random.permutation(_SEED, 0, len(np.asarray(labels)), source=random.Source.SUBSET)[:examples]


def part_of(images: AnyImages, examples: int | None) -> AnyImages:
    """The examples of a recipe's `train_examples`; all for None. Each keeps the augmentation that it has among all."""
    if examples is None:
        return images
    return numbered(images, examples, chosen_examples(images.labels.cpu().numpy(), examples))


def numbered(images: AnyImages, examples: int, numbers: NDArray[np.int64] | None) -> AnyImages:
    """The examples of these numbers, or the first ones for None."""
    part = images.first(examples) if numbers is None else images.chosen(torch.from_numpy(numbers))
    return cast(AnyImages, part)


def described(labels: ArrayLike, examples: int) -> str:
    """A phrase: `the first 2,000 of 50,000 training images`, or `2,000 of 50,000 training images, drawn by ...`."""
    return phrase(examples, len(np.asarray(labels)), chosen_examples(labels, examples) is not None)


def phrase(examples: int, available: int, drawn: bool) -> str:
    """As `described`, of facts that a store keeps."""
    if examples >= available:
        return f"all {available:,} training images"
    if drawn:
        return f"{examples:,} of {available:,} training images, drawn by a fixed shuffle"
    return f"the first {examples:,} of {available:,} training images"

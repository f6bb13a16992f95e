"""Which training examples `train_examples: N` takes: the first N, or a fixed draw where they lie in order of class."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from popnet import random

if TYPE_CHECKING:
    from popnet.data.resident import Images

BY_CLASS = b";in order of class"
"""Ends what the digest of such a training set covers: its subsets are not those that popnet took before it shuffled."""

_SEED = 1  # of the draw; another one would change the meaning of every recipe with `train_examples`

AnyImages = TypeVar("AnyImages", bound="Images")


def in_order_of_class(labels: ArrayLike) -> bool:
    """Whether labels, int [n], change from one example to the next at most half as often as in a random order.

    So they do in class folders, whatever the order of the folders, and in arrays made of such. The first N of these
    would be of one class, or of few.
    """
    given = np.asarray(labels)
    _, counts = np.unique(given, return_counts=True)
    changes, examples = int(np.count_nonzero(given[1:] != given[:-1])), len(given)
    unequal_pairs = examples**2 - int((counts.astype(np.int64) ** 2).sum())
    return len(counts) > 1 and 2 * changes * examples <= unequal_pairs


def chosen_examples(labels: ArrayLike, examples: int) -> NDArray[np.int64] | None:
    """The numbers, int64 [examples], of the training examples that a recipe takes; None for the first ones.

    Of a set in order of class, a fixed shuffle of all is drawn once; a smaller choice is the beginning of a larger one.
    """
    available = len(np.asarray(labels))
    if examples >= available or not in_order_of_class(labels):
        return None
    return random.permutation(_SEED, 0, available, source=random.Source.SUBSET)[:examples]


def part_of(images: AnyImages, examples: int | None) -> AnyImages:
    """The examples of a recipe's `train_examples`; all for None. Each keeps the augmentation that it has among all."""
    if examples is None:
        return images
    numbers = chosen_examples(images.labels.cpu().numpy(), examples)
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

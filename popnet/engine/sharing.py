"""Data sets in anonymous shared memory: loaded once by the driver, mapped by every worker without a copy."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from popnet.config import Component, imported
from popnet.data import Dataset, PictureDataset, Text, from_arrays, load
from popnet.data.resident import ResidentImages, ResidentText
from popnet.errors import ConfigError, DataError, PopnetError

_ALIGNMENT = 64


@dataclass(frozen=True)
class SharedArrays:
    """Arrays in one piece of shared memory: a file descriptor, and for each array its type, shape and offset."""

    descriptor: int
    size: int
    arrays: tuple[tuple[str, str, tuple[int, ...], int], ...]

    def tensors(self) -> dict[str, Tensor]:
        """Map the arrays; the pages are shared until somebody writes, which nobody does."""
        memory = mmap.mmap(self.descriptor, self.size, access=mmap.ACCESS_COPY)
        return {
            name: torch.from_numpy(np.ndarray(shape, dtype, memory, offset))
            for name, dtype, shape, offset in self.arrays
        }


@dataclass(frozen=True)
class SharedDataset:
    """A data set of images in shared memory."""

    memory: SharedArrays
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels_digest: str

    def attach(self) -> tuple[ResidentImages, ResidentImages]:
        """The training and test images."""
        tensors = self.memory.tensors()
        return (
            ResidentImages(tensors["train_images"], tensors["train_labels"], self.mean, self.std),
            ResidentImages(tensors["test_images"], tensors["test_labels"], self.mean, self.std),
        )


@dataclass(frozen=True)
class SharedText:
    """A text in shared memory."""

    memory: SharedArrays
    vocabulary: int
    labels_digest: str

    def attach(self) -> ResidentText:
        """Its three parts."""
        tensors = self.memory.tensors()
        return ResidentText(tensors["train"], tensors["validation"], tensors["test"], self.vocabulary)


def share(dataset: Dataset | Text, labels_digest: str) -> SharedDataset | SharedText:
    """Copy a data set into anonymous shared memory; close the descriptor to give the memory back."""
    if isinstance(dataset, Text):
        parts = {"train": dataset.train_tokens, "validation": dataset.validation_tokens, "test": dataset.test_tokens}
        memory = share_arrays({name: tokens.astype(np.int64) for name, tokens in parts.items()})
        return SharedText(memory, len(dataset.vocabulary), labels_digest)
    names = ("train_images", "train_labels", "test_images", "test_labels")
    return SharedDataset(
        share_arrays({name: np.ascontiguousarray(getattr(dataset, name)) for name in names}),
        dataset.classes,
        tuple(float(value) for value in dataset.mean),
        tuple(float(value) for value in dataset.std),
        labels_digest,
    )


def target_labels(dataset: Dataset | PictureDataset | Text) -> NDArray[np.int64]:
    """What is to be predicted, int64 [n]: the test images' labels, or the test part's tokens but the first."""
    labels = dataset.test_tokens[1:] if isinstance(dataset, Text) else dataset.test_labels
    return np.ascontiguousarray(labels, dtype=np.int64)


def share_arrays(arrays: Mapping[str, np.ndarray]) -> SharedArrays:
    """Copy arrays into one piece of shared memory."""
    layout, size = [], 0
    for name, array in arrays.items():
        layout.append((name, array.dtype.str, array.shape, size))
        size += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    descriptor = os.memfd_create("popnet-dataset")
    os.ftruncate(descriptor, size)
    with mmap.mmap(descriptor, size) as memory:
        for (_, _, _, offset), array in zip(layout, arrays.values()):
            np.ndarray(array.shape, array.dtype, memory, offset)[...] = array
    return SharedArrays(descriptor, size, tuple(layout))


def load_component(component: Component, language: bool = False) -> Dataset | PictureDataset | Text:
    """The data set that a recipe names or imports: a text for a recipe of a `language` model, else images.

    An imported function returns a `popnet.data.Text`, `Dataset` or `PictureDataset`, or (train images, train labels,
    test images, test labels). Raises ConfigError or DataError.
    """
    made = _made(component)
    if language and not isinstance(made, Text):
        raise ConfigError(f"dataset {component.label!r} is no text, and the recipe has a section 'language'")
    if not language and isinstance(made, Text):
        raise ConfigError(f"dataset {component.label!r} is a text, and this recipe trains a model of images")
    return made


def _made(component: Component) -> Dataset | PictureDataset | Text:
    try:
        if component.import_path is None:
            return load(str(component.name), **component.kwargs)
        made = imported(component.import_path)(**component.kwargs)
    except PopnetError:
        raise
    except Exception as error:
        raise DataError(f"dataset {component.label!r} cannot be made: {type(error).__name__}: {error}") from error
    if isinstance(made, (Dataset, PictureDataset, Text)):
        return made
    if isinstance(made, tuple) and len(made) == 4:
        return from_arrays(*made)
    raise DataError(
        f"dataset {component.import_path!r} returned {type(made).__name__}: it must return a popnet.data.Dataset or "
        "Text, or a tuple (train images, train labels, test images, test labels)"
    )

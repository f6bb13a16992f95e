"""Data sets in anonymous shared memory: loaded once by the driver, mapped by every worker without a copy."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from popnet.config import Component, imported
from popnet.data import Dataset, Text, from_arrays, load
from popnet.data.resident import ResidentImages
from popnet.errors import ConfigError, DataError, PopnetError

_ALIGNMENT = 64


@dataclass(frozen=True)
class SharedDataset:
    """Where a data set lies in shared memory: a file descriptor, and for each array its type, shape and offset."""

    descriptor: int
    size: int
    arrays: tuple[tuple[str, str, tuple[int, ...], int], ...]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels_digest: str

    def attach(self) -> tuple[ResidentImages, ResidentImages]:
        """Map the training and test images; the pages are shared until somebody writes, which nobody does."""
        memory = mmap.mmap(self.descriptor, self.size, access=mmap.ACCESS_COPY)
        tensors = {
            name: torch.from_numpy(np.ndarray(shape, dtype, memory, offset))
            for name, dtype, shape, offset in self.arrays
        }
        return (
            ResidentImages(tensors["train_images"], tensors["train_labels"], self.mean, self.std),
            ResidentImages(tensors["test_images"], tensors["test_labels"], self.mean, self.std),
        )


def share(dataset: Dataset, labels_digest: str) -> SharedDataset:
    """Copy a data set into anonymous shared memory; close the descriptor to give the memory back."""
    arrays: Mapping[str, np.ndarray] = {
        name: np.ascontiguousarray(getattr(dataset, name))
        for name in ("train_images", "train_labels", "test_images", "test_labels")
    }
    layout, size = [], 0
    for name, array in arrays.items():
        layout.append((name, array.dtype.str, array.shape, size))
        size += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    descriptor = os.memfd_create("popnet-dataset")
    os.ftruncate(descriptor, size)
    with mmap.mmap(descriptor, size) as memory:
        for (_, _, _, offset), array in zip(layout, arrays.values()):
            memory[offset : offset + array.nbytes] = array.tobytes()
    return SharedDataset(
        descriptor,
        size,
        tuple(layout),
        dataset.classes,
        tuple(float(value) for value in dataset.mean),
        tuple(float(value) for value in dataset.std),
        labels_digest,
    )


def load_component(component: Component) -> Dataset:
    """The data set that a recipe names or imports.

    An imported function returns a `popnet.data.Dataset`, or (train images, train labels, test images, test labels).
    Raises ConfigError or DataError.
    """
    try:
        if component.import_path is None:
            loaded = load(str(component.name), **component.kwargs)
            if isinstance(loaded, Text):
                raise ConfigError(f"dataset {component.label!r} is a text, and this recipe trains a model of images")
            return loaded
        made = imported(component.import_path)(**component.kwargs)
    except PopnetError:
        raise
    except Exception as error:
        raise DataError(f"dataset {component.label!r} cannot be made: {type(error).__name__}: {error}") from error
    if isinstance(made, Dataset):
        return made
    if isinstance(made, tuple) and len(made) == 4:
        return from_arrays(*made)
    raise DataError(
        f"dataset {component.import_path!r} returned {type(made).__name__}: it must return a popnet.data.Dataset or "
        "a tuple (train images, train labels, test images, test labels)"
    )

"""Data sets and folders of pictures to .beton files: `popnet data write`."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from popnet.data.beton import Encoded, write_beton
from popnet.data.datasets import Dataset, load
from popnet.data.decoding import in_order
from popnet.data.folders import filled_class_folders, folder_pictures, labels_of_folders
from popnet.data.picture_sets import PictureDataset, PictureSource
from popnet.errors import ConfigError, DataError, nearest

_ENCODINGS = ("keep", "raw", "jpeg")
_MOST_NAMED = 20


@dataclass(frozen=True)
class Encoding:
    """How images are written.

    Attributes:
        name: `keep` (JPEG files as they are, anything else raw), `raw` or `jpeg`.
        max_resolution: pictures whose longer side has more pixels are scaled down to it, and then encoded anew.
        quality: of JPEG, 1 to 100.
    """

    name: str = "keep"
    max_resolution: int | None = None
    quality: int = 90

    @classmethod
    def checked(cls, name: str, max_resolution: int | None, quality: int) -> Encoding:
        """Raises ConfigError for a name that is none."""
        if name not in _ENCODINGS:
            raise ConfigError(f"unknown encoding {name!r}: {nearest(name, _ENCODINGS)}")
        return cls(name, max_resolution, quality)


@dataclass(frozen=True)
class Written:
    """A file that was written: how many images, how many bytes, and the bytes' SHA-256.

    `notes`: sentences, what was left out or is not as one may expect.
    """

    examples: int
    size: int
    checksum: str
    notes: tuple[str, ...] = ()


def write(
    dataset: str,
    path: Path,
    split: str = "train",
    encoding: Encoding = Encoding(),
    root: Path | None = None,
    force: bool = False,
    classes_of: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Written:
    """Write one half of a data set, or a folder with a folder of pictures for each class.

    Args:
        dataset: a data set's name, or a folder's path; the classes of a folder that have pictures are numbered in the
            order of their names.
        path: of the file.
        split: `train` or `test`, of a data set.
        encoding: kept images give training the same bytes as the data set itself; any other encoding makes a data set
            of its own.
        root: of the data set's files.
        force: overwrite.
        classes_of: for a test set's folder, that of the training set, by whose classes it is labelled (see
            `labels_of_folders`).
        progress: is called with the numbers of images written and to write.

    Raises:
        ConfigError: an argument that does not fit.
        DataError: the file exists, or cannot be written; an image that cannot be read, named.
    """
    if path.exists() and not force:
        raise DataError(f"{path}: exists already; --force overwrites it")
    if not path.parent.is_dir():
        raise DataError(f"{path}: there is no folder {path.parent}")
    images, notes = _source(dataset, split, root, classes_of)
    count = len(images.labels)
    if encoding.name == "jpeg" and images.channels != 3:
        raise ConfigError(f"{dataset}: images of {images.channels} channel(s) cannot be JPEGs here: use encoding raw")
    checksum = write_beton(
        path,
        in_order(partial(_encoded, images, encoding), count),
        images.labels,
        images.channels,
        progress=lambda done: progress(done, count),
    )
    return Written(count, path.stat().st_size, checksum, (*images.notes, *notes))


@dataclass(frozen=True, eq=False)
class _Arrays:
    """Images of one size, as pictures."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    @property
    def channels(self) -> int:
        return int(self.images.shape[3])

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    def encoded(self, index: int) -> Encoded:
        image = self.images[index]
        height, width = image.shape[:2]
        return Encoded(image.reshape(-1), height, width, jpeg=False)

    def decoded(self, index: int) -> NDArray[np.uint8]:
        return self.images[index]


def _source(
    dataset: str, split: str, root: Path | None, classes_of: Path | None
) -> tuple[PictureSource | _Arrays, tuple[str, ...]]:
    """The images, and what is to be said of their labels."""
    if split not in ("train", "test"):
        raise ConfigError(f"unknown split {split!r}: known: test, train")
    folder = Path(dataset).expanduser()
    if folder.is_dir():
        return _labelled_folder(folder, classes_of)
    if os.sep in dataset:
        raise DataError(f"{dataset}: no such folder")
    if classes_of is not None:
        raise ConfigError(f"{dataset}: a data set has its own labels, and classes_of is for a folder: leave it out")
    loaded = load(dataset, root=root)
    if isinstance(loaded, PictureDataset):
        return loaded.train if split == "train" else loaded.test, ()
    if not isinstance(loaded, Dataset):
        raise ConfigError(f"{dataset}: a text has no images to write")
    if split == "train":
        return _Arrays(loaded.train_images, loaded.train_labels), ()
    return _Arrays(loaded.test_images, loaded.test_labels), ()


def _labelled_folder(folder: Path, classes_of: Path | None) -> tuple[PictureSource, tuple[str, ...]]:
    names = filled_class_folders(folder if classes_of is None else classes_of.expanduser())
    labels = labels_of_folders(folder, names)
    listed = [f"{name} = {label}" for name, label in list(labels.items())[:_MOST_NAMED]]
    more = f" and {len(labels) - _MOST_NAMED:,} more" if len(labels) > _MOST_NAMED else ""
    whose = (
        "by the order of its own folders; --classes-of numbers a test set's by the training set's"
        if classes_of is None
        else f"by the folders of {classes_of}"
    )
    return folder_pictures(folder, labels), (f"{folder}: classes {', '.join(listed)}{more}, {whose}",)


def _encoded(images: PictureSource | _Arrays, encoding: Encoding, index: int) -> Encoded:
    kept = images.encoded(index)
    larger = encoding.max_resolution is not None and max(kept.height, kept.width) > encoding.max_resolution
    if not larger and (encoding.name == "keep" or kept.jpeg == (encoding.name == "jpeg")):
        images.decoded(index)  # a picture that cannot be read is named now, and not in the middle of a training
        return kept
    pixels = images.decoded(index)
    if larger:
        pixels = _scaled(pixels, int(encoding.max_resolution or 0))
    height, width = pixels.shape[:2]
    if encoding.name == "jpeg" or (encoding.name == "keep" and kept.jpeg):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=encoding.quality)
        return Encoded(np.frombuffer(file.getvalue(), np.uint8), height, width, jpeg=True)
    return Encoded(np.ascontiguousarray(pixels).reshape(-1), height, width, jpeg=False)


def _scaled(pixels: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """The longer side becomes `longest`; every pixel is the mean of those that it covers."""
    height, width, channels = pixels.shape
    scale = longest / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    planes = [Image.fromarray(pixels[..., c]).resize(size, Image.Resampling.BOX) for c in range(channels)]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)

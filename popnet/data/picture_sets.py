"""Data sets of pictures of any size, in folders, .beton or other files: read only when a loader asks for them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from popnet.data import picture_digests
from popnet.data.beton import Beton, Encoded, open_beton
from popnet.data.decoding import check_jpeg_library, decoded_picture, encoded_picture, picture_row
from popnet.data.folders import (
    FolderPictures,
    class_folders,
    filled_class_folders,
    folder_pictures,
    labels_of_folders,
)
from popnet.data.picture_digests import Decoded, PixelDigest, Tell, decode, decoded_size, stored_digest
from popnet.data.statistics import IMAGENET, Constants, statistics_of_counts
from popnet.errors import ConfigError, DataError
from popnet.memory import available_memory

__all__ = [
    "BetonPictures",
    "FolderPictures",
    "PictureDataset",
    "PictureSource",
    "beton_dataset",
    "check_jpeg_library",
    "class_folders",
    "decoded_picture",
    "encoded_picture",
    "folder_pictures",
    "image_folder",
    "imagenet",
    "labels_of_folders",
    "picture_row",
]

_SHARE_OF_MEMORY = 0.5


class PictureSource(Protocol):
    """Labelled pictures: their sizes are known, their bytes still outside.

    What a source must give: the attributes and methods below, all of them cheap but for `table`, `encoded` and
    `decoded`; `popnet.data.decoding` makes rows and pictures of a file's content. Several threads call `encoded` and
    `decoded` at once, with indices that grow and are at most some hundred apart. Nothing may change while it is read.
    """

    @property
    def table(self) -> NDArray[np.int64]:
        """int64 [n, 5], as `popnet.native.TABLE_COLUMNS`; the size is that of the bytes which `encoded` gives."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 [n], from 0."""

    @property
    def channels(self) -> int:
        """Of every picture."""

    @property
    def files(self) -> Sequence[Path]:
        """All files that pictures come from: what is remembered of the pictures is forgotten when one changes."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the one who starts a run: what was left out, or is used otherwise than one may expect."""

    def name_of(self, index: int) -> str:
        """What an error calls a picture; with the file, and the part of it that pictures are taken from."""

    def encoded(self, index: int) -> Encoded:
        """One picture as it is stored. Raises DataError naming it."""

    def decoded(self, index: int) -> NDArray[np.uint8]:
        """One picture: uint8 [height, width, channels]. Raises DataError naming it."""


@dataclass(frozen=True, eq=False)
class BetonPictures:
    """Pictures in a .beton file."""

    file: Beton

    @property
    def table(self) -> NDArray[np.int64]:
        return self.file.table

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.file.labels

    @property
    def channels(self) -> int:
        return self.file.channels

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file.path,)

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    def name_of(self, index: int) -> str:
        return f"{self.file.path}: image {index}"

    @cached_property
    def _bytes(self) -> NDArray[np.uint8]:
        return self.file.bytes()

    def encoded(self, index: int) -> Encoded:
        offset, size, height, width, jpeg = (int(value) for value in self.table[index])
        return Encoded(self._bytes[offset : offset + size], height, width, bool(jpeg))

    def decoded(self, index: int) -> NDArray[np.uint8]:
        return decoded_picture(self.encoded(index), self.name_of(index), self.channels)


class PictureDataset:
    """A training set and a test set of pictures of any size; a recipe's `resize` makes images of one size of them.

    Args:
        name: what tables call it; not part of the digest.
        train, test: the pictures.
        classes: number of classes.
        mean, std: one float a channel, of pixels scaled to [0, 1]. By default the training set's own, or, where all
            pictures would take more than 4 GiB decoded, ImageNet's (0.5 of other than three channels).
        class_names: one a class, or None; not part of the digest.
        notes: sentences for the one who starts a run, beside those of `train` and `test`.
    """

    def __init__(
        self,
        name: str,
        train: PictureSource,
        test: PictureSource,
        classes: int,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        class_names: tuple[str, ...] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.name, self.train, self.test, self.classes = name, train, test, classes
        self.class_names = class_names
        self._notes, self._given = tuple(notes), (mean, std)
        self._kept: dict[str, Decoded] = {}
        self._identified: tuple[str, Constants] | None = None

    @property
    def train_labels(self) -> NDArray[np.int64]:
        return self.train.labels

    @property
    def test_labels(self) -> NDArray[np.int64]:
        return self.test.labels

    @property
    def mean(self) -> tuple[float, ...]:
        return self._given[0] or self.identify()[1][0]

    @property
    def std(self) -> tuple[float, ...]:
        return self._given[1] or self.identify()[1][1]

    @property
    def digest(self) -> str:
        """SHA-256 over all pictures, labels, classes, mean and std; in hexadecimal.

        Of up to 4 GiB it covers the decoded pixels, and is that of a `Dataset` of the same where all have one size.
        Beyond, it covers the pictures' bytes as they are stored (see `popnet.data.picture_digests`).
        """
        return self.identify()[0]

    @cached_property
    def is_large(self) -> bool:
        """Whether its pictures take more than 4 GiB once they are decoded."""
        return decoded_size(self.train) + decoded_size(self.test) > picture_digests.DECODED_MOST

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the one who starts a run."""
        normalised: tuple[str, ...] = ()
        if self.is_large and None in self._given:
            whose = "ImageNet's" if self.train.channels == 3 else "neutral"
            normalised = (
                f"data set {self.name!r}: normalised by {whose} mean {self.mean} and std {self.std}, since its own "
                "would take long to find; the options mean and std give others",
            )
        return (*self.train.notes, *self.test.notes, *self._notes, *normalised)

    def identify(self, tell: Tell = lambda line: None) -> tuple[str, Constants]:
        """The digest, and the mean and std by which pictures are normalised; found once.

        What was decoded on the way stays in memory, if it takes no more than half of what is free, until `take` or
        `forget`.

        Args:
            tell: is told now and then how far it is.

        Raises:
            DataError: a picture that cannot be read, named.
        """
        if self._identified is None:
            self._identified = self._by_stored_bytes(tell) if self.is_large else self._by_pixels(tell)
        return self._identified

    def _by_pixels(self, tell: Tell) -> tuple[str, Constants]:
        parts = {"train": self.train, "test": self.test}
        sizes = np.concatenate([source.table[:, 2:4] for source in parts.values()])
        state = PixelDigest(one_size=bool((sizes == sizes[0]).all()))
        keep = sum(map(decoded_size, parts.values())) <= _SHARE_OF_MEMORY * available_memory()
        counts = {}
        for part, source in parts.items():
            if keep:
                self._kept[part] = decode(source, tell)
            counts[part] = state.add(source, self._kept.get(part), tell)
        own = statistics_of_counts(counts["train"])
        constants = self._given[0] or own[0], self._given[1] or own[1]
        return state.finished(self.classes, constants), constants

    def _by_stored_bytes(self, tell: Tell) -> tuple[str, Constants]:
        neutral = (0.5,) * self.train.channels
        usual = IMAGENET if self.train.channels == 3 else (neutral, neutral)
        constants = self._given[0] or usual[0], self._given[1] or usual[1]
        return picture_digests.digest_of_stored(self.train, self.test, self.classes, constants, tell), constants

    @cached_property
    def train_stored_digest(self) -> str:
        """SHA-256 over the training pictures as they are stored; in hexadecimal."""
        return stored_digest(self.train)

    @property
    def kept_bytes(self) -> int:
        """Of decoded pictures that are in memory."""
        return sum(decoded.pixels.nbytes for decoded in self._kept.values())

    def take(self, part: str) -> Decoded:
        """The decoded pictures of `train` or `test`, which are not kept any longer. Raises DataError."""
        source = self.train if part == "train" else self.test
        return self._kept.pop(part, None) or decode(source)

    def forget(self) -> None:
        """Give back the memory of what was decoded."""
        self._kept.clear()

    def check_size(self, train_examples: int) -> None:
        """Raises ConfigError if there are not so many training pictures."""
        if not 1 <= train_examples <= len(self.train_labels):
            raise ConfigError(
                f"train_examples must be 1 to {len(self.train_labels)}, the size of {self.name!r}, not {train_examples}"
            )

    def normalised_by(self, mean: Iterable[float] | None, std: Iterable[float] | None) -> PictureDataset:
        """The same pictures with other normalisation constants, one a channel; None keeps those there are.

        Raises:
            ConfigError: another number of constants than channels, or a std that is not above 0.
        """
        channels = self.train.channels
        means = self._given[0] if mean is None else tuple(float(value) for value in mean)
        stds = self._given[1] if std is None else tuple(float(value) for value in std)
        sound = means is None or (len(means) == channels and all(map(math.isfinite, means)))
        sound &= stds is None or (len(stds) == channels and all(0 < value < math.inf for value in stds))
        if not sound:
            raise ConfigError(
                f"mean and std of {self.name!r} need {channels} numbers each, std above 0, not {means} and {stds}"
            )
        return self._with(means, stds)

    def normalised_by_its_own(self) -> PictureDataset:
        """The same pictures, normalised by the training set's own mean and standard deviation.

        Raises:
            ConfigError: there are too many for that.
        """
        if self.is_large:
            most = picture_digests.DECODED_MOST >> 30
            raise ConfigError(
                f"data set {self.name!r}: decoded, its pictures take more than {most} GiB, "
                "and its own mean and std would take long to find: give them as numbers"
            )
        return self._with(None, None)

    def _with(self, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> PictureDataset:
        other = copy.copy(self)
        other._given, other._identified, other._kept = (mean, std), None, {}
        return other


def image_folder(
    train: Path,
    test: Path,
    name: str = "image_folder",
    mapping: Path | None = None,
    constants: Constants | tuple[None, None] = (None, None),
) -> PictureDataset:
    """Two folders, each with a folder for each class; the training set's, sorted, are the classes.

    Folders that are hidden or hold no pictures are left out, and named in `notes`.
    """
    names = filled_class_folders(train)
    training = folder_pictures(train, {folder: number for number, folder in enumerate(names)})
    labels = labels_of_folders(test, names, mapping)
    testing = folder_pictures(test, labels)
    notes = []
    if missing := sorted(set(range(len(names))) - set(labels.values())):
        listed = ", ".join(names[label] for label in missing[:5]) + (" and others" if len(missing) > 5 else "")
        notes.append(f"{test}: {len(missing):,} of {len(names):,} classes have no test pictures: {listed}")
    mean, std = constants
    return PictureDataset(name, training, testing, len(names), mean, std, names, notes)


def beton_dataset(
    train: Path,
    test: Path,
    name: str = "beton",
    classes: int | None = None,
    constants: Constants | tuple[None, None] = (None, None),
) -> PictureDataset:
    """Two .beton files; `classes` is by default the largest label plus 1."""
    training, testing = BetonPictures(open_beton(train)), BetonPictures(open_beton(test))
    if training.channels != testing.channels:
        raise DataError(f"{train} has {training.channels} channels, {test} {testing.channels}")
    least = 1 + int(max(training.labels.max(initial=-1), testing.labels.max(initial=-1)))
    for part in (training, testing):
        if len(part.labels) == 0 or part.labels.min() < 0 or (classes is not None and part.labels.max() >= classes):
            raise DataError(f"{part.file.path}: its labels are not all in 0 .. {(classes or least) - 1}")
    mean, std = constants
    return PictureDataset(name, training, testing, classes or least, mean, std)


def imagenet(root: Path) -> PictureDataset:
    """`train` and `val` below the folder `imagenet` of the root: folders, or train.beton and val.beton."""
    folder = root / "imagenet"
    if (folder / "train.beton").is_file():
        files = folder / "train.beton", folder / "val.beton"
        return beton_dataset(*files, "imagenet", classes=1000, constants=IMAGENET)
    if not (folder / "train").is_dir():
        raise DataError(
            f"data set 'imagenet' was not found in {folder}: it needs train and val there, as folders with a folder "
            "for each class or as train.beton and val.beton (`popnet data write`); popnet cannot download it"
        )
    return image_folder(folder / "train", folder / "val", "imagenet", constants=IMAGENET)

"""Data sets of pictures of any size, in folders or .beton files: read only when a loader asks for them."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from popnet import native
from popnet.data.beton import Beton, Encoded, open_beton
from popnet.errors import ConfigError, DataError
from popnet.untrusted.files import read_bytes
from popnet.untrusted.texts import YAML_BYTES, parse_yaml

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class PictureSource(Protocol):
    """Labelled pictures: their sizes are known, their bytes still outside.

    `table`: int64 [n, 5], as `popnet.native.TABLE_COLUMNS`; `labels`: int64 [n].
    """

    @property
    def table(self) -> NDArray[np.int64]: ...

    @property
    def labels(self) -> NDArray[np.int64]: ...

    @property
    def channels(self) -> int: ...

    def name_of(self, index: int) -> str:
        """What an error calls a picture."""

    def encoded(self, index: int) -> Encoded:
        """One picture as it is stored. Raises DataError naming it."""

    def decoded(self, index: int) -> NDArray[np.uint8]:
        """One picture: uint8 [height, width, channels]. Raises DataError naming it."""


@dataclass(frozen=True, eq=False)
class FolderPictures:
    """Pictures in a folder with a folder for each class.

    Attributes:
        root: the folder.
        paths: of the pictures, by class, then by name.
        labels: int64 [n].
    """

    root: Path
    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    channels: int = 3

    @cached_property
    def table(self) -> NDArray[np.int64]:
        """From the pictures' headers; offset is 0, size that of the JPEG, or of the pixels of anything else."""
        with ThreadPoolExecutor() as pool:
            rows = list(pool.map(_row_of, self.paths, chunksize=64))
        return np.array(rows, np.int64).reshape(-1, 5)

    def name_of(self, index: int) -> str:
        return str(self.paths[index])

    def encoded(self, index: int) -> Encoded:
        return read_picture(self.paths[index])

    def decoded(self, index: int) -> NDArray[np.uint8]:
        picture = self.encoded(index)
        return _decoded(picture, self.name_of(index))


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

    def name_of(self, index: int) -> str:
        return f"{self.file.path}: image {index}"

    @cached_property
    def _bytes(self) -> NDArray[np.uint8]:
        return self.file.bytes()

    def encoded(self, index: int) -> Encoded:
        offset, size, height, width, jpeg = (int(value) for value in self.table[index])
        return Encoded(self._bytes[offset : offset + size], height, width, bool(jpeg))

    def decoded(self, index: int) -> NDArray[np.uint8]:
        return _decoded(self.encoded(index), self.name_of(index), self.channels)


@dataclass(frozen=True, eq=False)
class PictureDataset:
    """A training set and a test set of pictures of any size; a recipe's `resize` makes images of one size of them.

    Attributes:
        name: what tables call it; not part of the digest.
        train, test: the pictures.
        classes: number of classes.
        mean, std: one float a channel, of pixels scaled to [0, 1].
        class_names: one a class, or None; not part of the digest.
    """

    name: str
    train: PictureSource
    test: PictureSource
    classes: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    class_names: tuple[str, ...] | None = None

    @property
    def train_labels(self) -> NDArray[np.int64]:
        return self.train.labels

    @property
    def test_labels(self) -> NDArray[np.int64]:
        return self.test.labels

    @cached_property
    def digest(self) -> str:
        """SHA-256 over labels, sizes and encodings of all pictures, classes, mean and std; in hexadecimal.

        Not over the pictures' bytes, which would have to be read: it tells another data set, or another encoding, but
        no picture that was changed and kept its size. `popnet data write` leaves a checksum of the bytes.
        """
        state = hashlib.sha256()
        for part in (self.train, self.test):
            rows = np.column_stack([part.labels, part.table[:, 1:]]).astype("<i8")
            state.update(f"{rows.shape};".encode())
            state.update(np.ascontiguousarray(rows).data)
        constants = [float(value).hex() for value in (*self.mean, *self.std)]
        state.update(f"{self.classes};{constants}".encode())
        return state.hexdigest()

    def check_size(self, train_examples: int) -> None:
        """Raises ConfigError if there are not so many training pictures."""
        if not 1 <= train_examples <= len(self.train_labels):
            raise ConfigError(
                f"train_examples must be 1 to {len(self.train_labels)}, the size of {self.name!r}, not {train_examples}"
            )

    def normalised_by(self, mean: Iterable[float], std: Iterable[float]) -> PictureDataset:
        """The same pictures with other normalisation constants, one a channel. Raises ConfigError."""
        means, stds = tuple(float(value) for value in mean), tuple(float(value) for value in std)
        if len(means) != self.train.channels or len(stds) != self.train.channels or min(stds) <= 0:
            raise ConfigError(
                f"mean and std of {self.name!r} need {self.train.channels} numbers each, std above 0, "
                f"not {means} and {stds}"
            )
        return dataclasses.replace(self, mean=means, std=stds)


def read_picture(path: Path) -> Encoded:
    """A file's picture: a grey or RGB JPEG as it is, anything else as RGB pixels. Raises DataError naming the file."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
            if _kept(picture):
                return Encoded(np.frombuffer(data, np.uint8), height, width, jpeg=True)
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image: {error}") from error
    return Encoded(np.ascontiguousarray(pixels).reshape(-1), height, width, jpeg=False)


def _kept(picture: Image.Image) -> bool:
    """Whether libturbojpeg turns it into RGB by itself."""
    return picture.format == "JPEG" and picture.mode in ("L", "RGB")


def _row_of(path: Path) -> tuple[int, int, int, int, int]:
    try:
        size = path.stat().st_size
        with Image.open(path) as picture:
            width, height = picture.size
            jpeg = _kept(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image: {error}") from error
    return 0, size if jpeg else height * width * 3, height, width, int(jpeg)


def _decoded(picture: Encoded, name: str, channels: int = 3) -> NDArray[np.uint8]:
    if not picture.jpeg:
        return picture.data.reshape(picture.height, picture.width, channels)
    check_jpeg_library()
    row = torch.tensor([[0, picture.data.size, picture.height, picture.width, 1]])
    try:
        source = native.pictures(torch.from_numpy(np.array(picture.data)), row, 3)
        return native.decode_picture(source, 0).numpy()
    except native.UnreadablePicture as error:
        raise DataError(f"{name}: cannot be decoded: {error.reason}") from None


def check_jpeg_library() -> None:
    """Raises DataError, with what to install, where JPEGs cannot be decoded."""
    error = native.jpeg_library_error()
    if error:
        raise DataError(f"JPEG pictures cannot be decoded, because {error}: `apt-get install libturbojpeg0`")


def class_folders(root: Path) -> tuple[str, ...]:
    """The names of a folder's folders, sorted: its classes. Raises DataError where there are none."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    names = tuple(sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != "."))
    if not names:
        raise DataError(f"{root}: holds no folders: a folder of pictures has one for each class")
    return names


def folder_pictures(root: Path, label_of: Mapping[str, int]) -> FolderPictures:
    """The pictures of the classes in `label_of`, by folder name; other folders are left out. Raises DataError."""
    paths: list[Path] = []
    labels: list[int] = []
    for name, label in label_of.items():
        found = sorted(p for p in (root / name).rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file())
        if not found:
            raise DataError(f"{root / name}: holds no pictures ({', '.join(EXTENSIONS)})")
        paths += found
        labels += [label] * len(found)
    return FolderPictures(root, tuple(paths), np.array(labels, np.int64))


def labels_of_folders(root: Path, class_names: tuple[str, ...], mapping: Path | None = None) -> dict[str, int]:
    """The label of each of a test set's folders, by the training set's classes.

    A folder has a class's name (ImageNet-R, ImageNet-Sketch) or, where all are numbers, its number (ImageNet-V2). A
    mapping, a YAML or JSON file, gives folder by folder a class's name or number; what it leaves out is no part of
    the test set (ObjectNet).

    Raises:
        DataError: a folder or a class that cannot be found, named.
    """
    numbers = {name: number for number, name in enumerate(class_names)}
    folders = class_folders(root)
    if mapping is not None:
        return _mapped(root, folders, numbers, mapping)
    if all(folder.isdecimal() for folder in folders) and not set(folders) <= set(numbers):
        numbers = {folder: int(folder) for folder in folders if int(folder) < len(class_names)}
    for folder in folders:
        if folder not in numbers:
            raise DataError(
                f"{root / folder}: no class has this name or number; give a mapping from folders to classes"
            )
    return {folder: numbers[folder] for folder in folders}


def _mapped(root: Path, folders: tuple[str, ...], numbers: Mapping[str, int], mapping: Path) -> dict[str, int]:
    try:
        content = parse_yaml(read_bytes(mapping, YAML_BYTES).decode())
    except (OSError, ValueError) as error:
        raise DataError(f"{mapping}: cannot be read: {error}") from None
    if not isinstance(content, dict) or not content:
        raise DataError(f"{mapping}: a mapping has lines `folder: class`")
    labels = {}
    for folder, given in content.items():
        label = numbers.get(str(given), given)
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(numbers):
            raise DataError(f"{mapping}: {given!r}, for folder {folder!r}, is no class's name or number")
        if str(folder) not in folders:
            raise DataError(f"{mapping}: folder {folder!r} is not in {root}")
        labels[str(folder)] = label
    return labels


def image_folder(train: Path, test: Path, name: str = "image_folder", mapping: Path | None = None) -> PictureDataset:
    """Two folders, each with a folder for each class; the training set's, sorted, are the classes."""
    names = class_folders(train)
    training = folder_pictures(train, {folder: number for number, folder in enumerate(names)})
    testing = folder_pictures(test, labels_of_folders(test, names, mapping))
    return PictureDataset(name, training, testing, len(names), class_names=names)


def beton_dataset(train: Path, test: Path, name: str = "beton", classes: int | None = None) -> PictureDataset:
    """Two .beton files; `classes` is by default the largest label plus 1."""
    training, testing = BetonPictures(open_beton(train)), BetonPictures(open_beton(test))
    if training.channels != testing.channels:
        raise DataError(f"{train} has {training.channels} channels, {test} {testing.channels}")
    least = 1 + int(max(training.labels.max(initial=-1), testing.labels.max(initial=-1)))
    for part in (training, testing):
        if len(part.labels) == 0 or part.labels.min() < 0 or (classes is not None and part.labels.max() >= classes):
            raise DataError(f"{part.file.path}: its labels are not all in 0 .. {(classes or least) - 1}")
    if training.channels == 3:
        return PictureDataset(name, training, testing, classes or least)
    constants = (0.5,) * training.channels
    return PictureDataset(name, training, testing, classes or least, constants, constants)


def imagenet(root: Path) -> PictureDataset:
    """`train` and `val` below the folder `imagenet` of the root: folders, or train.beton and val.beton."""
    folder = root / "imagenet"
    if (folder / "train.beton").is_file():
        return beton_dataset(folder / "train.beton", folder / "val.beton", "imagenet", classes=1000)
    if not (folder / "train").is_dir():
        raise DataError(
            f"data set 'imagenet' was not found in {folder}: it needs train and val there, as folders with a folder "
            "for each class or as train.beton and val.beton (`popnet data write`); popnet cannot download it"
        )
    return image_folder(folder / "train", folder / "val", "imagenet")

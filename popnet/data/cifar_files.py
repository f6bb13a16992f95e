"""CIFAR's own files: the python batches and the binary ones, in a folder or a .tar.gz that is not unpacked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from popnet.errors import DataError
from popnet.untrusted.archives import read_members
from popnet.untrusted.files import read_bytes
from popnet.untrusted.pickles import parse_pickle

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images [n, height, width, channels] and labels [n]."""

SIDE, CHANNELS = 32, 3
PIXELS = SIDE * SIDE * CHANNELS

_MOST_OF_A_FILE = 1 << 28  # the largest has 155 MB
_MOST_OF_AN_ARCHIVE = 1 << 29


@dataclass(frozen=True)
class Batches:
    """One of the two forms that CIFAR's authors publish.

    Attributes:
        folder: which the archive unpacks to.
        archive: the archive's name.
        train, test: the files of each split, in order.
        names: the file with the classes' names.
        md5: of the files, where torchvision publishes it, else of the archive, where the authors do.
    """

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    md5: Mapping[str, str]


def lacking(folder: Path, form: Batches) -> list[str]:
    """Which files with images a folder does not have."""
    return [name for name in (*form.train, *form.test) if not (folder / name).is_file()]


def read_folder(folder: Path, form: Batches) -> dict[str, bytes]:
    """The files of a form by name. Raises DataError naming what is missing or cannot be read."""
    files = {}
    for name in (*form.train, *form.test, form.names):
        if not (folder / name).exists() and name != form.names:
            raise DataError(f"{folder}: is incomplete: it lacks {name}")
        try:
            files[name] = read_bytes(folder / name, _MOST_OF_A_FILE)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise DataError(f"{folder / name}: cannot be read: {error}") from None
    return files


def read_archive(path: Path, form: Batches) -> dict[str, bytes]:
    """The same from the archive, read in memory. Raises DataError."""
    try:
        files = read_members(path, (*form.train, *form.test, form.names), _MOST_OF_AN_ARCHIVE)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}: delete it and get it again") from None
    absent = [name for name in (*form.train, *form.test) if name not in files]
    if absent:
        raise DataError(f"{path}: is incomplete: it lacks {', '.join(absent)}")
    return files


def not_published(files: Mapping[str, bytes], form: Batches) -> str | None:
    """What of the files is not as published, by their md5; None where all that are checked are."""
    for name, content in files.items():
        if name in form.md5:
            found = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if found != form.md5[name]:
                return f"the md5 of {name} is {found}, and the published file's {form.md5[name]}"
    return None


def is_published_archive(path: Path, form: Batches) -> bool:
    """Whether an archive is, byte for byte, the one whose md5 its authors publish."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == form.md5.get(
            form.archive
        )


def python_splits(where: Path, files: Mapping[str, bytes], form: Batches) -> tuple[Split, Split, list[str] | None]:
    """Training set, test set and names in the python batches' files. Raises DataError naming the file."""
    entries = {name: _entry(where, name, content) for name, content in files.items()}
    train, test = ([_pickled(where, name, entries[name]) for name in part] for part in (form.train, form.test))
    return _joined(train), _joined(test), _listed(entries.get(form.names, {}))


def binary_splits(where: Path, files: Mapping[str, bytes], form: Batches) -> tuple[Split, Split, list[str] | None]:
    """The same of the binary files: of each image its label (of CIFAR-100 a coarse and a fine one), then its pixels."""
    labels = 2 if len(form.train) == 1 else 1
    train, test = ([_records(where, name, files[name], labels) for name in part] for part in (form.train, form.test))
    names = files[form.names].decode("utf-8", "replace").split() if form.names in files else None
    return _joined(train), _joined(test), names


def _entry(where: Path, name: str, content: bytes) -> dict[str, Any]:
    try:
        return parse_pickle(content)
    except ValueError as error:
        raise DataError(f"{where}: {name} cannot be read: {error}") from None


def _pickled(where: Path, name: str, entry: Mapping[str, Any]) -> Split:
    planes, labels = entry.get("data"), entry.get("labels", entry.get("fine_labels"))
    if not isinstance(planes, np.ndarray) or planes.shape[1:] != (PIXELS,) or not _are_numbers(labels):
        raise DataError(f"{where}: {name} holds no images: 'data' must be [n, {PIXELS}], and 'labels' n numbers")
    if len(labels) != len(planes):
        raise DataError(f"{where}: {name} holds {len(planes):,} images, and {len(labels):,} labels")
    return _images(planes), _numbers(where, name, labels)


def _are_numbers(labels: Any) -> TypeGuard[list[int]]:
    return isinstance(labels, list) and all(type(label) is int for label in labels)


def _listed(entry: Mapping[str, Any]) -> list[str] | None:
    names = entry.get("label_names", entry.get("fine_label_names"))
    if not isinstance(names, list):
        return None
    return [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names if _is_text(name)]


def _is_text(name: Any) -> TypeGuard[str | bytes]:
    return type(name) in (str, bytes)


def _records(where: Path, name: str, content: bytes, labels: int) -> Split:
    size = labels + PIXELS
    if len(content) % size:
        raise DataError(f"{where}: {name} has {len(content):,} bytes, which is no multiple of an image's {size:,}")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    return _images(records[:, labels:]), records[:, labels - 1].astype(np.int64)


def _images(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[n, 3 * 32 * 32], a plane for each colour, to [n, 32, 32, 3]."""
    return planes.reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)


def _numbers(where: Path, name: str, labels: list[int]) -> NDArray[np.int64]:
    try:
        return np.array(labels, np.int64)
    except OverflowError:
        raise DataError(f"{where}: {name} holds labels that are no classes' numbers") from None


def _joined(parts: Sequence[Split]) -> Split:
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])

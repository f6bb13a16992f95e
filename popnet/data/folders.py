"""Folders of pictures with a folder for each class: what counts as a picture, and which class a folder is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from popnet.data.beton import Encoded
from popnet.data.decoding import Header, decoded_picture, encoded_picture, header_of
from popnet.errors import DataError
from popnet.untrusted.files import read_bytes
from popnet.untrusted.texts import YAML_BYTES, parse_yaml

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_MOST_NAMED = 5


@dataclass(frozen=True, eq=False)
class FolderPictures:
    """Pictures in a folder with a folder for each class.

    Attributes:
        root: the folder.
        files: of the pictures, by class, then by name.
        labels: int64 [n].
        left_out: sentences, what lies in the folder and is no part of the set.
    """

    root: Path
    files: tuple[Path, ...]
    labels: NDArray[np.int64]
    left_out: tuple[str, ...] = ()
    channels: int = 3

    @cached_property
    def _headers(self) -> tuple[NDArray[np.int64], Counter[str]]:
        rows, remarks = np.zeros((len(self.files), 5), np.int64), Counter[str]()
        with ThreadPoolExecutor() as pool:
            for row, header in zip(rows, pool.map(_header, self.files, chunksize=64)):
                row[1:] = header[:4]
                remarks[header.remark] += 1
        return rows, remarks

    @property
    def table(self) -> NDArray[np.int64]:
        """From the pictures' headers; offset is 0, size that of the JPEG, or of the pixels of anything else."""
        return self._headers[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, and what of the pictures is not used as one may expect."""
        remarks = sorted((remark, count) for remark, count in self._headers[1].items() if remark)
        said = (f"{self.root}: {count:,} of {len(self.files):,} pictures: each {text}" for text, count in remarks)
        return *self.left_out, *said

    def name_of(self, index: int) -> str:
        return str(self.files[index])

    def encoded(self, index: int) -> Encoded:
        path = self.files[index]
        try:
            return encoded_picture(path.read_bytes(), str(path))
        except OSError as error:
            raise DataError(f"{path}: cannot be read as an image: {error}") from error

    def decoded(self, index: int) -> NDArray[np.uint8]:
        return decoded_picture(self.encoded(index), self.name_of(index))


def _header(path: Path) -> Header:
    try:
        return header_of(path, path.stat().st_size, str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read as an image: {error}") from error


@dataclass(frozen=True)
class ClassFolder:
    """A folder that is a class: its pictures, and how many of its files are none, by their endings."""

    name: str
    pictures: tuple[Path, ...]
    others: Mapping[str, int]


def class_folders(root: Path) -> tuple[str, ...]:
    """The names of a folder's folders, sorted, but for hidden ones: its classes. Raises DataError where there are none.

    `.ipynb_checkpoints` is hidden, and so is `__MACOSX`.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    names = tuple(sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not _hidden(entry.name)))
    if not names:
        raise DataError(f"{root}: holds no folders: a folder of pictures has one for each class")
    return names


def folder_pictures(root: Path, label_of: Mapping[str, int]) -> FolderPictures:
    """The pictures of the classes in `label_of`, by folder name. Raises DataError naming one without pictures."""
    found = [_scanned(root, name) for name in label_of]
    for folder in found:
        if not folder.pictures:
            raise DataError(f"{root / folder.name}: holds no pictures ({', '.join(EXTENSIONS)})")
    labels = [label_of[folder.name] for folder in found for _ in folder.pictures]
    paths = tuple(path for folder in found for path in folder.pictures)
    return FolderPictures(root, paths, np.array(labels, np.int64), _left_out(root, found))


def filled_class_folders(root: Path) -> tuple[str, ...]:
    """The classes that have pictures. Raises DataError where none has."""
    filled = tuple(name for name in class_folders(root) if any(_is_picture(path) for path in _files(root / name)))
    if not filled:
        raise DataError(f"{root}: none of its folders holds pictures ({', '.join(EXTENSIONS)})")
    return filled


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not _hidden(path.name)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _files(folder: Path) -> Iterator[Path]:
    """The files in a folder and in the folders below; a hidden folder is given as if it were one."""
    for parent, below, files in os.walk(folder):
        yield from (Path(parent, name) for name in below if _hidden(name))
        below[:] = [name for name in below if not _hidden(name)]
        yield from (Path(parent, name) for name in files)


def _scanned(root: Path, name: str) -> ClassFolder:
    """A class's pictures, sorted."""
    pictures: list[Path] = []
    others: Counter[str] = Counter()
    for path in _files(root / name):
        if _is_picture(path):
            pictures.append(path)
        elif _hidden(path.name):
            others[path.name if path.is_dir() else "hidden"] += 1
        else:
            others[path.suffix or path.name] += 1
    return ClassFolder(name, tuple(sorted(pictures)), others)


def _left_out(root: Path, used: Sequence[ClassFolder]) -> tuple[str, ...]:
    """What lies in a folder and is not used, a sentence for each kind."""
    names = {folder.name for folder in used}
    entries = list(os.scandir(root))
    folders = sorted(entry.name for entry in entries if entry.is_dir() and entry.name not in names)
    loose = sorted(entry.name for entry in entries if not entry.is_dir() and not _hidden(entry.name))
    others = sum((Counter(folder.others) for folder in used), Counter())
    kinds = [f"{count:,} {ending}" for ending, count in sorted(others.items())]
    sentences = []
    if folders:
        what = " or ".join(sorted({_why_left_out(root, name) for name in folders}))
        sentences.append(f"{root}: folders left out ({len(folders):,}; {what}): {_listed(folders)}")
    if loose:
        sentences.append(f"{root}: files left out ({len(loose):,}; they lie in no class's folder): {_listed(loose)}")
    if kinds:
        count = sum(others.values())
        sentences.append(f"{root}: left out of the classes' folders ({count:,}; no pictures): {_listed(kinds)}")
    return tuple(sentences)


def _why_left_out(root: Path, name: str) -> str:
    if _hidden(name):
        return "hidden"
    return "not in the mapping" if any(map(_is_picture, _files(root / name))) else "without pictures"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def labels_of_folders(root: Path, class_names: tuple[str, ...], mapping: Path | None = None) -> dict[str, int]:
    """The label of each of a test set's folders, by the training set's classes; folders without pictures are left out.

    A folder has a class's name (ImageNet-R, ImageNet-Sketch). Where no class is called by a number, it may have a
    class's number instead, counted from 0 (ImageNet-V2). A mapping, a YAML or JSON file, gives folder by folder a
    class's name or number; what it leaves out is no part of the test set (ObjectNet).

    Raises:
        DataError: a folder or a class that cannot be found, or that could be two, named.
    """
    numbers = {name: number for number, name in enumerate(class_names)}
    if mapping is not None:
        return _mapped(root, class_folders(root), numbers, mapping)
    folders = filled_class_folders(root)
    unknown = [folder for folder in folders if folder not in numbers]
    if not unknown:
        return {folder: numbers[folder] for folder in folders}
    if all(map(_is_number, folders)) and not any(map(_is_number, class_names)):
        return _numbered(root, folders, len(class_names))
    raise DataError(f"{root / unknown[0]}: {_why_unknown(unknown[0], folders, class_names)}")


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _numbered(root: Path, folders: Sequence[str], classes: int) -> dict[str, int]:
    labels = {folder: int(folder) for folder in folders}
    for folder, label in labels.items():
        if label >= classes:
            raise DataError(
                f"{root / folder}: no class has this name or number; give a mapping from folders to classes"
            )
    if 0 not in labels.values() or len(set(labels.values())) < len(labels):
        raise DataError(
            f"{root}: its folders are numbers, but none is 0, or two are equal: the classes' numbers count from 0, so "
            "give a mapping from folders to classes"
        )
    return labels


def _why_unknown(folder: str, folders: Sequence[str], class_names: Sequence[str]) -> str:
    twins = [name for name in class_names if name.casefold() == folder.casefold()]
    fix = "rename it, or give a mapping from folders to classes"
    if twins:
        return f"no class has this name, but one is called {twins[0]!r}: {fix}"
    if _is_number(folder) and any(map(_is_number, class_names)):
        return f"no class has this name, and since classes are called by numbers, it is not taken for a position: {fix}"
    if _is_number(folder):
        return f"this is a number, and other folders, such as {_first_name(folders)!r}, are not: {fix}"
    return "no class has this name or number; give a mapping from folders to classes"


def _first_name(folders: Sequence[str]) -> str:
    return next(folder for folder in folders if not _is_number(folder))


def _mapped(root: Path, folders: tuple[str, ...], numbers: Mapping[str, int], mapping: Path) -> dict[str, int]:
    try:
        content = parse_yaml(read_bytes(mapping, YAML_BYTES).decode())
    except (OSError, ValueError) as error:
        raise DataError(f"{mapping}: cannot be read: {error}") from None
    if not isinstance(content, dict) or not content:
        raise DataError(f"{mapping}: a mapping has lines `folder: class`")
    labels = {}
    for folder, given in content.items():
        by_position = None if any(map(_is_number, numbers)) else given
        label = numbers.get(str(given), by_position)
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(numbers):
            raise DataError(f"{mapping}: {given!r}, for folder {folder!r}, is no class's name or number")
        if str(folder) not in folders:
            raise DataError(f"{mapping}: folder {folder!r} is not in {root}")
        labels[str(folder)] = label
    return labels

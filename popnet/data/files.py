"""The benchmark data sets that live in files: where they are looked for, how they are read and how they are
got.

Nothing here downloads unless `fetch` is called.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.data.idx import read_idx
from popnet.errors import DataError

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images [n, height, width, channels] and labels [n]."""

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts its four files."""

_IDX_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_DOWNLOAD_TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True)
class FileSource:
    """A data set in files.

    Attributes:
        name: popnet's name of it.
        torchvision_class: the class in torchvision.datasets that downloads it.
        folder: where torchvision puts it, below the root.
        idx: stored as four IDX files; else as torchvision's pickled batches.
        packaged: a folder outside the root that holds it where a system package is installed.
        package: that package's name.
    """

    name: str
    torchvision_class: str
    folder: str
    idx: bool = False
    packaged: Path | None = None
    package: str | None = None


def default_root() -> Path:
    """The folder that holds data sets: the environment variable POPNET_DATA, else ~/.cache/popnet/data."""
    chosen = os.environ.get("POPNET_DATA")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "popnet" / "data"


def search_path(source: FileSource, root: Path | None) -> list[Path]:
    """The folders that may hold a data set, in order.

    A root that the caller names comes alone; without one, the system's package, then the default root.
    """
    if root is not None:
        return [root / source.folder, root]
    packaged = [source.packaged] if source.packaged is not None else []
    return [*packaged, default_root() / source.folder]


def locate(source: FileSource, root: Path | None) -> Path | None:
    """The first folder of the search path that holds all of the data set's files, unread; or None."""
    for folder in search_path(source, root):
        if not _missing(source, folder):
            return folder
    return None


def how_to_get(source: FileSource, root: Path | None) -> str:
    """The commands that get a data set."""
    place = "" if root is None else f" --root {root}"
    fetch_command = f"`popnet data fetch {source.name}{place}`"
    if source.package is None or root is not None:
        return f"get it with {fetch_command}"
    return f"get it with `apt-get install {source.package}` or {fetch_command}"


def read(source: FileSource, root: Path | None) -> tuple[Split, Split, tuple[str, ...] | None]:
    """Read the training set, the test set, and the classes' names where the files hold them.

    Raises:
        DataError: missing (says where it was looked for and how to get it) or damaged.
    """
    folder = locate(source, root)
    if folder is None:
        raise DataError(f"data set {source.name!r} {_why_not_found(source, root)}: {how_to_get(source, root)}")
    if source.idx:
        return _read_idx_split(folder, "train"), _read_idx_split(folder, "test"), None
    return _read_cifar(source, folder)


def fetch(source: FileSource, root: Path | None) -> Path:
    """Download a data set through torchvision, which verifies checksums; quick where it is already there.

    Returns:
        The folder that holds it.

    Raises:
        DataError: no connection, no space, or a checksum that does not match.
    """
    destination = default_root() if root is None else root
    import torchvision

    dataset_class = getattr(torchvision.datasets, source.torchvision_class)
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT)  # torchvision sets none, and would wait for ever behind a firewall
    try:
        destination.mkdir(parents=True, exist_ok=True)
        for train in (True, False):
            dataset_class(str(destination), train=train, download=True)
    except (OSError, EOFError, HTTPException, RuntimeError) as error:
        raise DataError(
            f"data set {source.name!r} could not be downloaded to {destination} ({error}); "
            f"without a connection, copy {destination / source.folder} from a machine that has one"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
    return destination / source.folder


def _missing(source: FileSource, folder: Path) -> list[str]:
    """What a folder lacks of a data set; inside the pickled batches' folder, torchvision is left to look."""
    if source.idx:
        return [name for pair in _IDX_NAMES.values() for name in pair if _find(folder, name) is None]
    return [] if folder.name == source.folder and folder.is_dir() else [source.folder]


def _why_not_found(source: FileSource, root: Path | None) -> str:
    places = search_path(source, root)
    if source.idx:
        for folder in places:
            missing = _missing(source, folder)
            if len(missing) < 4:
                return f"is incomplete in {folder}, which lacks {', '.join(missing)} (plain or .gz)"
    return "was not found in " + " and ".join(str(place) for place in places)


def _find(folder: Path, name: str) -> Path | None:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def _read_idx_split(folder: Path, split: str) -> Split:
    image_path, label_path = (_find(folder, name) for name in _IDX_NAMES[split])
    if image_path is None or label_path is None:
        raise DataError(f"{folder} lost its {split} files while they were being read")
    images, labels = read_idx(image_path, dimensions=3), read_idx(label_path, dimensions=1)
    if len(images) != len(labels):
        raise DataError(f"{image_path} holds {len(images)} images, and {label_path} {len(labels)} labels")
    return images[..., np.newaxis], labels.astype(np.int64)


def _read_cifar(source: FileSource, folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
    import torchvision

    dataset_class = getattr(torchvision.datasets, source.torchvision_class)
    try:
        train, test = (dataset_class(str(folder.parent), train=train, download=False) for train in (True, False))
    except Exception as error:  # a damaged pickle raises anything; torchvision itself a RuntimeError
        raise DataError(
            f"data set {source.name!r} in {folder} is incomplete or damaged ({error}): "
            f"delete that folder, then {how_to_get(source, folder.parent)}"
        ) from error
    return _cifar_split(train), _cifar_split(test), tuple(train.classes)


def _cifar_split(dataset: Any) -> Split:
    return np.ascontiguousarray(dataset.data), np.asarray(dataset.targets, dtype=np.int64)

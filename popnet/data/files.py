"""Benchmark data sets in files: where they are looked for and how they are got; MNIST and Fashion-MNIST, as read.

Nothing here downloads unless `fetch` is called.
"""

from __future__ import annotations

import hashlib
import os
import socket
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from popnet.data.idx import read_idx
from popnet.errors import DataError

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images [n, height, width, channels] and labels [n]."""

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts its four files."""

IDX_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

PUBLISHED = {
    "1e35582d42a90940c55b956deb61875c020b567ed20e3c5b174f52bf7809ed9b": "mnist",
    "ece172613115fb18b120bec8f6c02271af90b8b8f0a5af5c51cbd5ceed68e619": "fashion_mnist",
}
"""The SHA-256 of all images and labels, and whose they are: the files of both, and of others, have the same names."""

SIZES = 60_000, 10_000
SIDE = 28

_DOWNLOAD_TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True)
class Download:
    """How torchvision gets a data set.

    Attributes:
        name: popnet's name of it.
        torchvision_class: the class in torchvision.datasets that downloads it.
        folder: where torchvision puts it, below the root.
    """

    name: str
    torchvision_class: str
    folder: str


@dataclass(frozen=True)
class IdxSource:
    """A data set in four IDX files.

    Attributes:
        download: how it is got.
        title: its authors' name of it.
        folders: other folders below the root that may hold it.
        packaged: a folder outside the root that holds it where a system package is installed.
        package: that package's name.
    """

    download: Download
    title: str
    folders: tuple[str, ...]
    packaged: Path | None = None
    package: str | None = None

    @property
    def name(self) -> str:
        return self.download.name


def default_root() -> Path:
    """The folder that holds data sets: the environment variable POPNET_DATA, else ~/.cache/popnet/data."""
    chosen = os.environ.get("POPNET_DATA")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "popnet" / "data"


def root_named(root: Path | None) -> str:
    """The end of a sentence that says where a data set was looked for: how another folder is named."""
    if root is not None:
        return ""
    if os.environ.get("POPNET_DATA"):
        return f"; $POPNET_DATA is {default_root()}"
    return "; $POPNET_DATA, which is not set, names another folder"


def search_path(source: IdxSource, root: Path | None) -> list[Path]:
    """The folders that may hold a data set, in order.

    A root that the caller names comes alone; without one, the system's package, then the default root.
    """
    folders = (source.download.folder, *source.folders)
    if root is not None:
        return [*(root / folder for folder in folders), root]
    packaged = [source.packaged] if source.packaged is not None else []
    root = default_root()
    itself = [root] if root.name in source.folders else []
    return [*packaged, *(root / folder for folder in folders), *itself]


def locate(source: IdxSource, root: Path | None) -> Path | None:
    """The first folder of the search path that holds all of the data set's files, unread; or None."""
    for folder in search_path(source, root):
        if not _missing(folder):
            return folder
    return None


def how_to_fetch(download: Download, root: Path | None) -> str:
    """The command that downloads a data set."""
    place = "" if root is None else f" --root {root}"
    return f"get it with `popnet data fetch {download.name}{place}`"


def how_to_get(source: IdxSource, root: Path | None) -> str:
    """All the ways to get a data set, one clause."""
    fetched = how_to_fetch(source.download, root)
    if source.package is not None and root is None:
        fetched = f"get it with `apt-get install {source.package}` or {fetched.removeprefix('get it with ')}"
    place = (default_root() if root is None else root) / source.folders[0]
    return f"{fetched}, or put its four IDX files, plain or gzipped, into {place}"


def not_found(source: IdxSource, root: Path | None) -> str:
    """The sentence that says where a data set was looked for, and all the ways to get it."""
    return f"data set {source.name!r} {_why_not_found(source, root)}: {how_to_get(source, root)}{root_named(root)}"


def read(source: IdxSource, root: Path | None, copy: bool = False) -> tuple[Split, Split, Path | None]:
    """Read the training set and the test set, and where a copy with own pixels was read from; None of the published.

    Raises:
        DataError: missing (says where it was looked for and how to get it), damaged, another data set's, or, without
            `copy`, of other pixels than the published.
    """
    folder = locate(source, root)
    if folder is None:
        raise DataError(not_found(source, root))
    train, test = _read_split(folder, "train"), _read_split(folder, "test")
    whose = PUBLISHED.get(digest_of(train, test))
    if whose == source.name:
        return train, test, None
    if whose is not None:
        raise DataError(f"{folder}: holds the images of data set {whose!r}, and is looked into for {source.name!r}")
    for (images, _), count, which in zip((train, test), SIZES, ("training", "test")):
        if images.shape != (count, SIDE, SIDE, 1):
            found, (height, width) = len(images), images.shape[1:3]
            raise DataError(
                f"{folder}: holds {found:,} {which} images of {height} x {width} pixels, and {source.title} has "
                f"{count:,} of {SIDE} x {SIDE}"
            )
    if not copy:
        raise DataError(
            f"{folder}: its images are not {source.title}'s: take them as '{source.title}, own copy' by `dataset: "
            f"{{name: {source.name}, kwargs: {{copy: true}}}}`, or {how_to_fetch(source.download, root)}"
        )
    return train, test, folder


def digest_of(*splits: Split) -> str:
    """SHA-256 over the bytes of images and labels."""
    state = hashlib.sha256()
    for split in splits:
        for array in split:
            state.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
    return state.hexdigest()


def fetch(download: Download, root: Path | None) -> Path:
    """Download a data set through torchvision, which verifies checksums; quick where it is already there.

    Returns:
        The folder that holds it.

    Raises:
        DataError: no connection, no space, or a checksum that does not match.
    """
    destination = default_root() if root is None else root
    import torchvision

    dataset_class = getattr(torchvision.datasets, download.torchvision_class)
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT)  # torchvision sets none, and would wait for ever behind a firewall
    try:
        destination.mkdir(parents=True, exist_ok=True)
        for train in (True, False):
            dataset_class(str(destination), train=train, download=True)
    except (OSError, EOFError, HTTPException, RuntimeError) as error:
        raise DataError(
            f"data set {download.name!r} could not be downloaded to {destination} ({error}); "
            f"without a connection, copy {destination / download.folder} from a machine that has one"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
    return destination / download.folder


def _missing(folder: Path) -> list[str]:
    """Which of the four files a folder lacks."""
    return [name for pair in IDX_NAMES.values() for name in pair if _find(folder, name) is None]


def _why_not_found(source: IdxSource, root: Path | None) -> str:
    places = search_path(source, root)
    for folder in places:
        missing = _missing(folder)
        if len(missing) < 4:
            return f"is incomplete in {folder}, which lacks {', '.join(missing)} (plain or .gz)"
    return "was not found in " + " and ".join(str(place) for place in places)


def _find(folder: Path, name: str) -> Path | None:
    """A file plain or gzipped; some programs write a point in its name, as in `train-images.idx3-ubyte`."""
    for written in (name, name.replace("-idx", ".idx")):
        for candidate in (folder / written, folder / f"{written}.gz"):
            if candidate.is_file():
                return candidate
    return None


def _read_split(folder: Path, split: str) -> Split:
    image_path, label_path = (_find(folder, name) for name in IDX_NAMES[split])
    if image_path is None or label_path is None:
        raise DataError(f"{folder} lost its {split} files while they were being read")
    images, labels = read_idx(image_path, dimensions=3), read_idx(label_path, dimensions=1)
    if len(images) != len(labels):
        raise DataError(f"{image_path} holds {len(images)} images, and {label_path} {len(labels)} labels")
    return images[..., np.newaxis], labels.astype(np.int64)

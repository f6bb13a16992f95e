"""What tells one data set of pictures from another: digests over their pixels, or over their bytes where they are many.

Up to `DECODED_MOST` bytes of pixels, the digest covers decoded pixels, so that equal pixels in equal order have equal
digests in folders, .beton files, Parquet files and arrays, whatever their encoding. Beyond, it covers the pictures as
they are stored; what was found is kept in a small file of the user's cache, under the files' names, sizes and times.
The boundary depends on the data alone, so that a data set has one digest on all machines and by all loaders.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from popnet.data.decoding import in_order
from popnet.data.statistics import Constants, channel_counts
from popnet.errors import DataError

if TYPE_CHECKING:
    from popnet.data.picture_sets import PictureSource

DECODED_MOST = 1 << 32
_SECONDS_BETWEEN_LINES = 15.0
_VERSION = "1"  # of what the files in the cache mean

Tell = Callable[[str], None]


def cache_folder() -> Path:
    """Where digests of stored pictures are kept; anything in it may be deleted."""
    return Path.home() / ".cache" / "popnet" / "digests"


@dataclass(frozen=True, eq=False)
class Decoded:
    """Decoded pictures: uint8 [m] pixels, and int64 [n, 5] their table (`popnet.native.TABLE_COLUMNS`)."""

    pixels: NDArray[np.uint8]
    table: NDArray[np.int64]


def decoded_size(source: PictureSource) -> int:
    """Bytes that a source's pictures take once they are decoded."""
    return int((source.table[:, 2] * source.table[:, 3]).sum()) * source.channels


def decode(source: PictureSource, tell: Tell = lambda line: None) -> Decoded:
    """All pictures of a source, decoded by all cores. Raises DataError naming one that cannot be read."""
    table = source.table.copy()
    table[:, 1] = table[:, 2] * table[:, 3] * source.channels
    table[:, 0] = np.cumsum(table[:, 1]) - table[:, 1]
    table[:, 4] = 0
    pixels = np.empty(decoded_size(source), np.uint8)

    def enter(index: int) -> None:
        offset, size = table[index, :2]
        pixels[offset : offset + size] = _sized(source, index).reshape(-1)

    progress = _Progress(f"{source.name_of(0)} and on: decoded", len(table), tell)
    for done, _ in enumerate(in_order(enter, len(table)), start=1):
        progress.at(done)
    return Decoded(pixels, table)


def _sized(source: PictureSource, index: int) -> NDArray[np.uint8]:
    picture = source.decoded(index)
    if picture.shape[:2] != tuple(source.table[index, 2:4]):
        raise DataError(f"{source.name_of(index)}: changed its size while it was read")
    return picture


class PixelDigest:
    """The digest of a data set of decoded pictures: that of `popnet.data.Dataset` where all are of one size."""

    def __init__(self, one_size: bool) -> None:
        self._one_size, self._state = one_size, hashlib.sha256()

    def add(self, source: PictureSource, decoded: Decoded | None, tell: Tell) -> NDArray[np.int64]:
        """Enter the training or the test pictures with their labels.

        Args:
            decoded: None decodes one picture after the other, for which no memory is needed.

        Returns:
            How often each value occurs in each channel, int64 [c, 256].
        """
        sizes = source.table[:, 2:4]
        if self._one_size:
            height, width = (int(extent) for extent in sizes[0])
            self._state.update(f"|u1{(len(sizes), height, width, source.channels)};".encode())
        else:
            self._state.update(f"pictures{(len(sizes), source.channels)};".encode())
            self._state.update(np.ascontiguousarray(sizes, "<i8").data)
        if decoded is not None:
            self._state.update(decoded.pixels.data)
            counts = channel_counts(decoded.pixels.reshape(-1, source.channels))
        else:
            counts = self._add_one_by_one(source, tell)
        self._state.update(labels_entry(source.labels))
        return counts

    def _add_one_by_one(self, source: PictureSource, tell: Tell) -> NDArray[np.int64]:
        counts = np.zeros((source.channels, 256), np.int64)
        count = len(source.labels)
        progress = _Progress(f"{source.name_of(0)} and on: decoded", count, tell)
        for done, picture in enumerate(in_order(lambda index: _sized(source, index), count), start=1):
            self._state.update(np.ascontiguousarray(picture).data)
            counts += channel_counts(picture)
            progress.at(done)
        return counts

    def finished(self, classes: int, constants: Constants) -> str:
        """In hexadecimal."""
        self._state.update(closing_entry(classes, constants))
        return self._state.hexdigest()


def labels_entry(labels: NDArray[np.int64]) -> bytes:
    """What a digest covers of labels."""
    portable = np.ascontiguousarray(labels, "<i8")
    return f"{portable.dtype.str}{portable.shape};".encode() + portable.tobytes()


def closing_entry(classes: int, constants: Constants) -> bytes:
    """What a digest covers last: the number of classes, mean and std."""
    numbers = [float(value).hex() for values in constants for value in values]
    return f"{classes};{numbers}".encode()


def stored_digest(source: PictureSource, tell: Tell = lambda line: None) -> str:
    """SHA-256 over a source's pictures as they are stored, each with its size and encoding; in hexadecimal.

    Read once for files of these names, sizes and times, where reading takes long.
    """
    large = decoded_size(source) > DECODED_MOST
    kept = cache_folder() / _key(source) if large else None
    if kept is not None and (known := _known(kept)):
        return known
    state = hashlib.sha256(np.ascontiguousarray(source.table[:, 1:], "<i8").tobytes())
    count, size = len(source.labels), int(source.table[:, 1].sum())
    if kept is not None:
        tell(f"{source.name_of(0)} and on: {size / 1e9:,.1f} GB are read once, for a digest kept in {kept.parent}")
    progress = _Progress(f"{source.name_of(0)} and on: read", count, tell)
    for done, picture in enumerate(in_order(source.encoded, count), start=1):
        if (picture.data.size, picture.height, picture.width) != tuple(source.table[done - 1, 1:4]):
            raise DataError(f"{source.name_of(done - 1)}: changed its size while it was read")
        state.update(np.ascontiguousarray(picture.data).data)
        progress.at(done)
    if kept is not None:
        _keep(kept, state.hexdigest())
    return state.hexdigest()


def digest_of_stored(train: PictureSource, test: PictureSource, classes: int, constants: Constants, tell: Tell) -> str:
    """The digest of a data set of too many pictures to decode them all, in hexadecimal."""
    state = hashlib.sha256(b"pictures as they are stored;")
    for source in (train, test):
        state.update(stored_digest(source, tell).encode() + labels_entry(source.labels))
    state.update(closing_entry(classes, constants))
    return state.hexdigest()


def _key(source: PictureSource) -> str:
    """Names what `stored_digest` would read; another one as soon as a file is written, replaced or moved.

    A file's inode and the time of its last change of any kind are part of it, which no program sets at will.
    """
    state = hashlib.sha256(f"{_VERSION};{type(source).__name__};{source.name_of(0)};".encode())
    state.update(np.ascontiguousarray(source.table, "<i8").data)
    for file in source.files:
        path = file.resolve()
        seen = path.stat()
        state.update(f"{path};{seen.st_size};{seen.st_mtime_ns};{seen.st_ctime_ns};{seen.st_ino};".encode())
    return state.hexdigest()


def _known(file: Path) -> str | None:
    try:
        content = file.read_text().strip()
    except (OSError, ValueError):
        return None
    return content if re.fullmatch("[0-9a-f]{64}", content) else None


def _keep(file: Path, digest: str) -> None:
    """In a folder that cannot be written, the pictures are read again the next time."""
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(f"{digest}\n")
        partial.replace(file)
    with suppress(OSError):
        partial.unlink()  # there only where it could not take the entry's place


class _Progress:
    """Says now and then how many pictures are done."""

    def __init__(self, what: str, count: int, tell: Tell) -> None:
        self._what, self._count, self._tell, self._said = what, count, tell, time.monotonic()

    def at(self, done: int) -> None:
        now = time.monotonic()
        if now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            self._tell(f"{self._what} {done:,} of {self._count:,} pictures")

"""Archives: single members are read into memory, and nothing is unpacked to the disk."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from popnet.untrusted.files import check_regular, read_at_most

_DAMAGED = (EOFError, OverflowError, RecursionError, UnicodeError, gzip.BadGzipFile, tarfile.TarError, zlib.error)


class _Limited(io.RawIOBase):
    """A stream that ends in an error after so many bytes: a small file can unpack to any size."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file, self._left = file, most

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise ValueError("unpacks to more than an archive of this kind holds")
        return content


def read_members(path: Path, wanted: Collection[str], most: int) -> dict[str, bytes]:
    """The regular files of a .tar.gz that have these names, in whatever folder, by name.

    What is not there is left out, as are sparse files, whose holes the archive need not hold. Raises ValueError: it is
    no whole .tar.gz, unpacks to more than `most` bytes, or holds a name twice; and OSError.
    """
    check_regular(path)
    found: dict[str, bytes] = {}
    try:
        with gzip.open(path) as unpacked:
            stream = cast(BinaryIO, _Limited(cast(BinaryIO, unpacked), most))
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    name = PurePosixPath(member.name).name
                    if name not in wanted or not member.isreg() or member.issparse():
                        continue
                    if name in found:
                        raise ValueError(f"holds {name} twice")
                    content = archive.extractfile(member)
                    assert content is not None
                    found[name] = read_at_most(cast(io.BufferedIOBase, content), most)
    except _DAMAGED as error:
        raise ValueError(f"is no whole .tar.gz file ({error})") from None
    return found

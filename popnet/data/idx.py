"""Reader of IDX files, the format of MNIST and Fashion-MNIST, plain or gzipped.

Layout: two zero bytes, the element type (8 = uint8), the number of dimensions, each dimension as a big-endian
32-bit integer, then the elements in row-major order.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from popnet.errors import DataError
from popnet.memory import available_memory

_UINT8 = 8


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read a file of unsigned bytes with the given number of dimensions; gzipped where it is named `.gz`.

    Raises:
        DataError: the file cannot be read, is not such an IDX file, is truncated, or holds more than it
            announces.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read(path, cast(BinaryIO, file), dimensions)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}): delete it and get it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _read(path: Path, file: BinaryIO, dimensions: int) -> NDArray[np.uint8]:
    """What the header announces, and no more than that: a small gzip file can unpack to any size."""
    header_size = 4 + 4 * dimensions
    header = file.read(header_size)
    if len(header) < header_size:
        raise DataError(f"{path} is truncated: {len(header)} bytes, and its header alone takes {header_size}")
    expected_magic = bytes((0, 0, _UINT8, dimensions))
    if header[:4] != expected_magic:
        raise DataError(
            f"{path} is not an IDX file of bytes with {dimensions} dimension(s): "
            f"it begins with {header[:4].hex(' ')} where {expected_magic.hex(' ')} belongs"
        )
    shape = tuple(int(size) for size in np.frombuffer(header, dtype=">u4", count=dimensions, offset=4))
    size, free = math.prod(shape), available_memory() // 2
    if size > free:
        raise DataError(f"{path} announces {size:,} bytes, more than the {free:,} of free memory that it may take")
    content = file.read(size + 1)
    if len(content) != size:
        problem = "is truncated" if len(content) < size else "holds more than it announces"
        there = f"{header_size + len(content)} bytes{'' if len(content) < size else ' and more'}"
        raise DataError(
            f"{path} {problem}: {there}, and its shape {shape} takes {header_size + size}; delete it and get it again"
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape).copy()

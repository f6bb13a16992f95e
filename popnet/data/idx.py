"""Reader of IDX files, the format of MNIST and Fashion-MNIST, plain or gzipped.

Layout: two zero bytes, the element type (8 = uint8), the number of dimensions, each dimension as a big-endian
32-bit integer, then the elements in row-major order.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from popnet.errors import DataError

_UINT8 = 8


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read a file of unsigned bytes with the given number of dimensions; gzipped where it is named `.gz`.

    Raises:
        DataError: the file cannot be read, is not such an IDX file, is truncated, or holds more than it
            announces.
    """
    content = _read(path)
    header_size = 4 + 4 * dimensions
    if len(content) < header_size:
        raise DataError(f"{path} is truncated: {len(content)} bytes, and its header alone takes {header_size}")
    expected_magic = bytes((0, 0, _UINT8, dimensions))
    if content[:4] != expected_magic:
        raise DataError(
            f"{path} is not an IDX file of bytes with {dimensions} dimension(s): "
            f"it begins with {content[:4].hex(' ')} where {expected_magic.hex(' ')} belongs"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, dtype=">u4", count=dimensions, offset=4))
    expected_size = header_size + math.prod(shape)
    if len(content) != expected_size:
        problem = "is truncated" if len(content) < expected_size else "holds more than it announces"
        raise DataError(
            f"{path} {problem}: {len(content)} bytes, and its shape {shape} takes {expected_size}; "
            f"delete it and get it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header_size).reshape(shape).copy()


def _read(path: Path) -> bytes:
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as file:
            return file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}): delete it and get it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error

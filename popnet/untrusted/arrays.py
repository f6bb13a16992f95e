"""Headers of safetensors and .npy files: what they claim is checked against the file before memory is given to it."""

from __future__ import annotations

import ast
import io
import math
import os
import re
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np

from popnet.memory import available_memory
from popnet.untrusted.files import check_regular
from popnet.untrusted.texts import parse_json

SAFETENSORS_TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")

_SAFETENSORS_HEADER_BYTES = 1 << 24
_NPY_HEADER_BYTES = 1024
_NPY_TYPE = re.compile("[<>|=][biufSU][1-9][0-9]{0,6}")
_LARGEST = 1 << 60  # bytes, extents of nothing aside


def check_safetensors(path: Path) -> None:
    """That a safetensors file's header is of bounded size and names types that popnet reads.

    The rest is the library's: that every tensor lies inside the file, and they fill it. Raises ValueError, OSError.
    """
    check_regular(path)
    with path.open("rb") as file:
        _check_header(file, os.fstat(file.fileno()).st_size)


def check_safetensors_content(content: bytes) -> None:
    """The same of a file's content. Raises ValueError."""
    _check_header(io.BytesIO(content), len(content))


def _check_header(file: BinaryIO, size: int) -> None:
    head = file.read(8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > size - 8:
        raise ValueError("no safetensors file, or cut short: its header would be larger than the file")
    if length > _SAFETENSORS_HEADER_BYTES:
        raise ValueError(f"its header has {length:,} bytes, and {_SAFETENSORS_HEADER_BYTES:,} is the most")
    header = parse_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header lists no tensors")
    for name, entry in header.items():
        dtype = entry.get("dtype") if isinstance(entry, dict) else None
        if name != "__metadata__" and dtype not in SAFETENSORS_TYPES:
            raise ValueError(f"tensor {name[:100]!r} is of type {str(dtype)[:20]}, which popnet does not read")


def check_npy(file: BinaryIO, size: int) -> None:
    """That a stream of `size` bytes, at its beginning, is an .npy file of numbers or text which holds what it claims.

    Raises ValueError.
    """
    head = file.read(12)
    if len(head) < 12 or head[:6] != b"\x93NUMPY" or head[6] not in (1, 2, 3):
        raise ValueError("no .npy file, or cut short")
    wide = head[6] > 1  # bytes of the header's length: 4, or 2
    length = int.from_bytes(head[8 : 12 if wide else 10], "little")
    if length > _NPY_HEADER_BYTES:
        raise ValueError(f"its header has {length:,} bytes, and {_NPY_HEADER_BYTES:,} is the most")
    text = (head[12 if wide else 10 :] + file.read(length if wide else max(length - 2, 0)))[:length]
    descr, shape = _npy_header(text)
    held = size - 8 - (4 if wide else 2) - length
    extents = [max(extent, 1) for extent in shape]
    if math.prod(shape) * descr.itemsize > held or math.prod(extents) * descr.itemsize > _LARGEST:
        raise ValueError(f"claims an array of shape {shape} of {descr}, and has {max(held, 0):,} bytes for it")


def _npy_header(text: bytes) -> tuple[np.dtype, tuple[int, ...]]:
    """The type and shape in a header. Raises ValueError for what NumPy does not write of arrays of numbers or text."""
    try:
        header = ast.literal_eval(text.decode("ascii"))
        descr, shape = header["descr"], header["shape"]
        plain = set(header) == {"descr", "fortran_order", "shape"} and type(header["fortran_order"]) is bool
    except (ValueError, SyntaxError, TypeError, LookupError, RecursionError, MemoryError) as error:
        raise ValueError(f"its header is none: {type(error).__name__}") from None  # out of memory: too many brackets
    if not plain or not isinstance(descr, str) or _NPY_TYPE.fullmatch(descr) is None:
        raise ValueError(f"its header is none of numbers or text: {str(header)[:100]}")
    if type(shape) is not tuple or len(shape) > 32 or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"its header holds no shape: {str(shape)[:100]}")
    try:
        return np.dtype(descr), shape
    except TypeError:
        raise ValueError(f"its header names no type: {descr}") from None


def check_npy_file(path: Path) -> None:
    """`check_npy` of a file. Raises ValueError, and OSError."""
    check_regular(path)
    with path.open("rb") as file:
        check_npy(file, os.fstat(file.fileno()).st_size)


def check_npz_file(path: Path, wanted: Collection[str] | None = None) -> None:
    """`check_npy` of every array in an .npz, and that all of them together fit into half of the free memory.

    Of the `wanted` ones alone where they are given. Compression makes a small file stand for a thousand times its size.
    Raises ValueError, zipfile.BadZipFile, OSError.
    """
    check_regular(path)
    with zipfile.ZipFile(path) as archive:
        entries = [e for e in archive.infolist() if wanted is None or e.filename.removesuffix(".npy") in wanted]
        free = available_memory() // 2
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > free:
            raise ValueError(f"unpacks to {unpacked:,} bytes, more than the {free:,} of free memory that it may take")
        for entry in entries:
            with archive.open(entry) as file:
                try:
                    check_npy(file, entry.file_size)  # type: ignore[arg-type]
                except ValueError as error:
                    raise ValueError(f"{entry.filename[:100]!r}: {error}") from None

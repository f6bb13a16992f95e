"""Files that are there in full or not at all, and the digest of what they hold."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from popnet.errors import StoreError
from popnet.untrusted.arrays import check_safetensors

CHECKPOINT_DIGEST = "checkpoint.digest"
"""The tensor of a checkpoint that holds the digest of its others, as UTF-8."""

RENEWED = ".renewed"
"""What the name of a file ends in that is made anew; it begins with a dot."""

_CHUNK = 1 << 20

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which is at `path` once the block has ended well: written aside, flushed to disk, renamed.

    Raises StoreError where it cannot be written; what was at `path` is still there then.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            aside.unlink()
        if isinstance(error, OSError):
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from None
        raise


def write_aside(path: Path, content: bytes) -> None:
    """Write a file so that it is either there in full or not at all. Raises StoreError."""
    with written_aside(path) as file:
        file.write(content)


def renewed(path: Path) -> Path:
    """Where a finished member's file is made anew, until the ledger says so and it takes the old one's place."""
    return path.with_name(f".{path.name}{RENEWED}")


def remove(path: Path) -> None:
    """Remove a file that may be gone already. Raises StoreError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot be removed: {error.strerror}") from None


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk, where its file system lets a folder be flushed (some on networks do not)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as safetensors, all or nothing."""
    write_aside(path, serialise(tensors))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file into memory of torch's own alignment. Raises StoreError."""
    try:
        check_safetensors(path)
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from None


def mapped_tensor(path: Path, name: str) -> Tensor | None:
    """One tensor of a safetensors file, read from the file only as it is looked at; None where it holds none so named.

    It is aligned as the file is, which may change the last bits of what torch computes from it as it lies. Raises
    StoreError.
    """
    try:
        check_safetensors(path)
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name) if name in file.keys() else None  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from None


def tensor_shapes(path: Path) -> dict[str, tuple[list[int], str]]:
    """The shapes and types (F32, I64, ...) of the tensors in a safetensors file, by name. Raises StoreError."""
    try:
        check_safetensors(path)
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {name: (part.get_shape(), part.get_dtype()) for name, part in sorted(slices.items())}
    except (OSError, SafetensorError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from None


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of names."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().contiguous()
        hashed.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        hashed.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def digest_of_file(path: Path) -> str:
    """What `digest` gives for the tensors in a safetensors file, in a mebibyte of memory.

    By plain reads: through a memory map, a sector that cannot be read would end the process. Raises StoreError.
    """
    hashed = hashlib.sha256()
    try:
        check_safetensors(path)
        with safe_open(path, framework="pt"):
            pass  # the header is that of a file of this size
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            header.pop("__metadata__", None)
            for name, tensor in sorted(header.items()):
                hashed.update(f"{name} {_DTYPES[tensor['dtype']]} {tensor['shape']}\n".encode())
                first, end = tensor["data_offsets"]
                file.seek(8 + size + first)
                _hash_part(file, end - first, hashed.update)
    except (OSError, SafetensorError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from None
    return hashed.hexdigest()


def _hash_part(file: BinaryIO, size: int, update: Callable[[bytes], None]) -> None:
    while size > 0:
        part = file.read(min(size, _CHUNK))
        if not part:
            raise OSError("it ends early")
        update(part)
        size -= len(part)

"""Files of arrays: .npy, .npz, .safetensors and .pt, opened as named arrays, read in parts as they are needed.

No pickle is run: NumPy's and torch's own are refused, or read by a reader that builds arrays and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from popnet.errors import DataError
from popnet.results.sources import PICKLES
from popnet.untrusted.arrays import check_npy_file, check_npz_file, check_safetensors
from popnet.untrusted.files import check_regular

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = (".npy", ".npz", ".pt", ".pth", ".safetensors")

Index = tuple[int | slice, ...]


@dataclass(frozen=True)
class StoredArray:
    """An array of a file or of a program, of which parts can be read.

    Attributes:
        name: for errors, as in `runs.npz[logits]`.
        shape: of all of it.
        dtype: of what is read; bfloat16 is read as float32, exactly.
        source: reads what an index of integers and slices, one for each leading axis, names.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    source: Callable[[Index], NDArray[Any]]

    def read(self, index: Index = ()) -> NDArray[Any]:
        """A part of the array, or all of it. Raises DataError naming it, where the file has changed or is damaged."""
        try:
            return np.asarray(self.source(index))
        except DataError:
            raise
        except Exception as error:  # of the file system, zip, torch and safetensors, which share no base
            raise DataError(f"{self.name}: cannot be read: {_first_line(error)}") from None


def natural(name: str) -> list[tuple[int, str]]:
    """A sorting key that puts run_2 before run_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def in_memory(name: str, values: Any) -> StoredArray:
    """An array, a tensor on any device (detached; bfloat16 widens to float32), or lists of numbers or text.

    Raises DataError, naming it, for lists of unequal lengths, for objects that are neither numbers nor text, and for
    masked values.
    """
    if _is_masked(values):
        raise DataError(f"{name}: holds masked values: leave their examples, or runs, out")
    try:
        array = _plain_array(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{name}: is no array: {_first_line(error)}") from None
    if array.dtype.kind == "O":
        raise DataError(f"{name}: must hold numbers or text, all rows of one length, and holds Python objects")
    return StoredArray(name, array.shape, array.dtype, array.__getitem__)


def _is_masked(values: Any) -> bool:
    if isinstance(values, list | tuple):
        return any(_is_masked(value) for value in values if isinstance(value, list | tuple | np.ndarray))
    return isinstance(values, np.ma.MaskedArray) and bool(np.ma.getmaskarray(values).any())


def open_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays of a file by name; the only one of an .npy, or of a bare tensor in a .pt, is called `array`.

    An .npz is unpacked into memory, since it cannot be read in parts. Raises DataError, naming the file.
    """
    readers = {".npy": _npy, ".npz": _npz, ".pt": _pt, ".pth": _pt, ".safetensors": _safetensors}
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise DataError(f"{path}: a pickle runs code when it is read: save the arrays as .npy or .npz")
    if suffix not in readers:
        raise DataError(f"{path}: must be one of {', '.join(FORMATS)}, or a folder of such files")
    if not path.exists():
        raise DataError(f"{path}: there is no such file")
    try:
        return readers[suffix](path)
    except DataError:
        raise
    except Exception as error:  # of the file system, zip, pickle, torch and safetensors, which share no base
        raise DataError(f"{path}: cannot be read as {suffix}: {_reason(error)}") from None


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _reason(error: Exception) -> str:
    text = str(error)
    if "'|O'" in text:
        return "it holds Python objects, and reading these runs code: save numbers or text"
    if "weights_only" in text or "Weights only" in text or "WeightsUnpickler" in text:
        return "it holds more than tensors and arrays, and reading that runs code: save a dictionary of tensors"
    return _first_line(error)


# NumPy's files. What is mapped is let go after each read: there may be more files, or runs, than a process may map.


def _npy(path: Path) -> dict[str, StoredArray]:
    check_npy_file(path)
    found = _mapped(path)
    return {"array": StoredArray(str(path), found.shape, found.dtype, lambda index: np.array(_mapped(path)[index]))}


def _mapped(path: Path) -> NDArray[Any]:
    """The array in a file, mapped, where there is anything to map."""
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError:  # of no elements, which cannot be mapped
        return np.asarray(np.load(path, allow_pickle=False))


def _npz(path: Path) -> dict[str, StoredArray]:
    check_npz_file(path)
    with np.load(path, allow_pickle=False) as archive:
        return {name: in_memory(f"{path}[{name}]", archive[name]) for name in archive.files}


# Safetensors.


def _safetensors(path: Path) -> dict[str, StoredArray]:
    from safetensors import safe_open

    check_safetensors(path)
    arrays = {}
    with safe_open(path, framework="np") as file:  # which checks that every tensor lies inside the file
        for name in list(file.keys()):
            part = file.get_slice(name)
            shape, dtype = tuple(part.get_shape()), str(part.get_dtype())
            read: Callable[[Index], NDArray[Any]] = partial(_safetensors_part, path, name)
            if dtype == "BF16":
                read = partial(_bfloat16_part, path, _begin(path, name), shape)
            arrays[name] = StoredArray(f"{path}[{name}]", shape, _SAFETENSORS_DTYPES[dtype], read)
    return arrays


def _safetensors_part(path: Path, name: str, index: Index) -> NDArray[Any]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        part = file.get_slice(name)
        extents = part.get_shape()
        if not index or not extents:
            return np.asarray(file.get_tensor(name))
        inside = (slice(*i.indices(n)) if isinstance(i, slice) else i for i, n in zip(index, extents))
        return np.asarray(part[tuple(inside)])  # which, unlike NumPy's, refuses slices beyond the end


def _begin(path: Path, name: str) -> int:
    """Where a tensor begins in a file whose header was checked."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return 8 + length + int(json.loads(file.read(length))[name]["data_offsets"][0])


def _bfloat16_part(path: Path, begin: int, shape: tuple[int, ...], index: Index) -> NDArray[np.float32]:
    """Exactly: a bfloat16 is the upper half of a float32, which NumPy has no type for."""
    if 0 in shape:
        return np.empty(shape, np.float32)[index]
    halves = np.memmap(path, np.dtype("<u2"), "r", begin, shape or (1,))
    wide = halves[index].astype(np.uint32) << 16
    return np.asarray(wide.view(np.float32).reshape(wide.shape if shape else ()))


_SAFETENSORS_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(np.float32),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


# Torch's files.


def _pt(path: Path) -> dict[str, StoredArray]:
    import torch

    check_regular(path)
    with torch.serialization.safe_globals(_NUMPY_IN_PICKLES):
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if isinstance(content, list | tuple):
        content = {str(number): value for number, value in enumerate(content)}
    if isinstance(content, torch.Tensor | _PickledArray):
        content = {"array": content}
    if not isinstance(content, Mapping):
        raise DataError(f"{path}: must hold a tensor, or a list or dictionary of tensors")
    arrays = {str(key): _of_pt(f"{path}[{key}]", value) for key, value in content.items() if _is_data(value)}
    if not arrays:
        raise DataError(f"{path}: must hold a tensor, or a list or dictionary of tensors")
    return arrays


def _is_data(value: Any) -> bool:
    """Whether an entry of a file is an array or a list; an epoch's number or a name beside them is not read."""
    import torch

    return isinstance(value, torch.Tensor | _PickledArray) or (isinstance(value, list | tuple) and len(value) > 0)


def _of_pt(name: str, value: Any) -> StoredArray:
    import torch

    if isinstance(value, _PickledArray):
        return in_memory(name, value.array(name))
    if not isinstance(value, torch.Tensor):
        return in_memory(name, [item.array(name) if isinstance(item, _PickledArray) else item for item in value])
    if value.layout != torch.strided or value.is_quantized:
        raise DataError(f"{name}: is a sparse or quantised tensor: save a dense one")
    try:
        dtype = _of_tensor(torch.empty(0, dtype=value.dtype)).dtype
    except TypeError:
        raise DataError(f"{name}: is of type {str(value.dtype).removeprefix('torch.')}, which is not read") from None
    tensor = value.detach()
    return StoredArray(name, tuple(value.shape), dtype, lambda index: _of_tensor(tensor[index]))


def _of_tensor(tensor: Tensor) -> NDArray[Any]:
    import torch

    whole = tensor.detach().cpu()
    return np.asarray((whole.float() if whole.dtype == torch.bfloat16 else whole).numpy())


def _plain_array(values: Any) -> NDArray[Any]:
    if hasattr(values, "detach"):
        return _of_tensor(values)
    if isinstance(values, list | tuple):
        return np.asarray([_plain_array(value) if hasattr(value, "detach") else value for value in values])
    return np.asarray(values)


# NumPy's arrays in torch's pickles. NumPy's own classes, set by a hostile pickle, can be made to point anywhere: torch
# is given these in their place, which keep what they are told and build an array of numbers from it.


class _PickledArray:
    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self, name: str) -> NDArray[Any]:
        """The array. Raises DataError for what NumPy does not write of arrays of numbers."""
        try:
            _, shape, dtype, by_columns, content = self.state
            extents = tuple(int(extent) for extent in shape)
            return np.frombuffer(content, dtype.dtype()).reshape(extents, order="F" if by_columns else "C")
        except (AttributeError, ValueError, TypeError):
            raise DataError(f"{name}: is no array of numbers: save a tensor, or an .npy file") from None


class _PickledType:
    def __init__(self, description: Any, *_: Any) -> None:
        self.description, self.order = description, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        if not isinstance(self.description, str) or re.fullmatch("[biuf][1248]", self.description) is None:
            raise ValueError("no numbers")
        return np.dtype(self.description).newbyteorder(">" if self.order == ">" else "<")


def _reconstruct(*_: Any) -> _PickledArray:
    return _PickledArray()


def _scalar(*_: Any) -> None:
    """A NumPy number beside the arrays, which is not read."""


_NUMPY_IN_PICKLES: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *((_reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    (_PickledArray, "numpy.ndarray"),
    (_PickledType, "numpy.dtype"),
]

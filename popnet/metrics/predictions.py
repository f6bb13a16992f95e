"""Where predictions come from: an array, or a reader that yields blocks of members from files, in bounded memory."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from popnet.errors import DataError
from popnet.metrics.inputs import LOGIT_DTYPES, Array, check_finite, dtype_name, logits_tensor, tensor_of
from popnet.untrusted.arrays import check_npy_file, check_npz_file, check_safetensors

BLOCK_BYTES = 1 << 27
"""What a block of members takes, as float32, where the caller does not say how many."""

FORMATS = (".npy", ".npz", ".pt", ".pth", ".safetensors")


class Predictions(ABC):
    """The logits of a population: `members` x `examples` x `classes`; subclasses say how to read some of them.

    Every metric takes one of these in place of an array, and gives the same bits.
    """

    members: int
    examples: int
    classes: int
    device: torch.device = torch.device("cpu")

    @abstractmethod
    def read(self, members: Sequence[int], examples: slice) -> Tensor:
        """float32 [members, examples, classes], contiguous, of the named members and a plain slice of examples."""

    def blocks(self, size: int | None, threads: int) -> Iterator[tuple[int, Tensor]]:
        """(first member, logits of `size` members), in order; ValueError names values that are not finite."""
        size = size or max(1, BLOCK_BYTES // (4 * self.examples * self.classes))
        for first in range(0, self.members, size):
            block = self.read(range(first, min(first + size, self.members)), slice(0, self.examples))
            check_finite(block, first_member=first, threads=threads)
            yield first, block

    def example_slices(
        self, members: Sequence[int], multiple: int, threads: int
    ) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """The named members' logits a slice of examples at a time, each slice but the last a `multiple` long.

        Yields (examples, logits, rows): the members are the `rows` of logits, all of them where that is None.
        """
        bytes_of_one = 4 * len(members) * self.classes
        step = max(multiple, BLOCK_BYTES // bytes_of_one // multiple * multiple)
        for first in range(0, self.examples, step):
            part = slice(first, min(first + step, self.examples))
            logits = self.read(members, part)
            try:
                check_finite(logits, threads=threads)
            except ValueError:
                for row, member in enumerate(members):
                    check_finite(logits[row : row + 1], first_member=member, first_example=first)
            yield part, logits, None


class ArrayPredictions(Predictions):
    """Predictions in memory: a tensor [members, examples, classes] on the CPU or a CUDA device."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.members, self.examples, self.classes = logits.shape
        self.device = logits.device
        self._finite = False

    def read(self, members: Sequence[int], examples: slice) -> Tensor:
        if isinstance(members, range) and members.step == 1:
            chosen = self.logits[members.start : members.stop, examples]
        else:
            chosen = self.logits[torch.tensor(list(members), device=self.device), examples]
        return chosen.to(torch.float32).contiguous()

    def blocks(self, size: int | None, threads: int) -> Iterator[tuple[int, Tensor]]:
        yield from super().blocks(size, threads)
        self._finite = True

    def example_slices(
        self, members: Sequence[int], multiple: int, threads: int
    ) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        if self.logits.dtype != torch.float32 or not self.logits.is_contiguous():
            yield from super().example_slices(members, multiple, threads)
            return
        if not self._finite:
            check_finite(self.logits, threads=threads)
            self._finite = True
        rows = torch.tensor(list(members), dtype=torch.int64, device=self.device)
        yield slice(0, self.examples), self.logits, rows


class FilePredictions(Predictions):
    """One array [members, examples, classes] of a file, or several arrays [examples, classes], a member each."""

    def __init__(self, parts: Sequence[Callable[[], Lazy]], name: str) -> None:
        self._parts = parts
        first = parts[0]()
        self._whole = len(first.shape) == 3 and not (len(parts) > 1 and first.shape[0] == 1)
        if self._whole and len(parts) > 1:
            raise DataError(f"{first.name}: one member's logits must be [examples, classes], not {list(first.shape)}")
        if len(first.shape) not in (2, 3) or 0 in first.shape:
            raise DataError(
                f"{first.name}: logits must be [members, examples, classes], or [examples, classes] in each of several"
                f" arrays, but the shape is {list(first.shape)}"
            )
        self.name = name
        self.members = first.shape[0] if self._whole else len(parts)
        self.examples, self.classes = first.shape[-2:]
        self._check(first)
        self._first = first

    def read(self, members: Sequence[int], examples: slice) -> Tensor:
        block = torch.empty((len(members), examples.stop - examples.start, self.classes))
        if self._whole and isinstance(members, range) and members.step == 1:
            _copy(block, self._first.read((slice(members.start, members.stop), examples)))
            return block
        for row, member in enumerate(members):
            if self._whole:
                _copy(block[row], self._first.read((slice(member, member + 1), examples)))
                continue
            part = self._parts[member]()
            self._check(part)
            _copy(block[row], part.read((slice(0, 1), examples) if len(part.shape) == 3 else (examples,)))
        return block

    def _check(self, part: Lazy) -> None:
        if part.dtype not in LOGIT_DTYPES:
            raise DataError(
                f"{part.name}: logits must be float32, float16 or bfloat16, but are {dtype_name(part.dtype)}"
            )
        expected = [self.members, self.examples, self.classes] if self._whole else [self.examples, self.classes]
        shape = list(part.shape)
        if shape != expected and not (not self._whole and shape == [1, *expected]):
            raise DataError(f"{part.name}: the shape is {shape}, but that of the first member is {expected}")


class Lazy:
    """An array of a file, of which parts can be read."""

    def __init__(
        self, name: str, shape: Sequence[int], dtype: torch.dtype, read: Callable[[tuple[slice, ...]], Tensor]
    ) -> None:
        self.name, self.shape, self.dtype, self.read = name, tuple(int(n) for n in shape), dtype, read


def _copy(out: Tensor, values: Tensor) -> None:
    """By NumPy where it knows the type: torch would start a team of threads for every small copy."""
    if values.dtype == torch.bfloat16:
        out.copy_(values.reshape(out.shape))
    else:
        np.copyto(out.numpy(), values.reshape(out.shape).numpy())


def as_predictions(logits: Array | Predictions, name: str = "logits") -> Predictions:
    """The logits as `Predictions`; ValueError, naming the argument, where they are not."""
    if isinstance(logits, Predictions):
        return logits
    return ArrayPredictions(logits_tensor(logits, name))


def open_predictions(path: str | Path) -> Predictions:
    """Anyone's predictions, read in parts as they are needed.

    path: .npy, .npz, .pt (read with weights_only), .safetensors, holding one array [members, examples, classes] (the
        one called `logits` or `predictions` where there are several) or one array [examples, classes] for each
        member; or a folder with one such file for each member, in the natural order of names; or a popnet store
        (its finished members, the original view). float16, bfloat16 or float32.

    An .npz is unpacked into memory, since it cannot be read in parts; text in it is skipped. Raises
    DataError, naming the file.
    """
    path = Path(path)
    if (path / "store.json").exists():
        return _store(path)
    if path.is_dir():
        files = sorted((p for p in path.iterdir() if p.suffix in FORMATS), key=lambda p: natural(p.name))
        if not files:
            raise DataError(f"{path}: this folder holds no {', '.join(FORMATS)} file and is no popnet store")
        return FilePredictions([partial(_only, file) for file in files], str(path))
    arrays = _arrays(path)
    named = [arrays[name] for name in ("logits", "predictions") if name in arrays]
    parts = named[:1] or [arrays[name] for name in sorted(arrays, key=natural) if name != "labels"]
    if not parts:
        raise DataError(f"{path}: holds no logits")
    return FilePredictions([partial(_same, part) for part in parts], str(path))


def open_labels(path: str | Path) -> np.ndarray:
    """Integer labels [examples] from .npy, .npz, .pt, .safetensors (the array `labels`, or the only one), or text."""
    path = Path(path)
    if path.suffix in (".txt", ".csv"):
        try:
            return np.loadtxt(path, dtype=np.int64, delimiter="," if path.suffix == ".csv" else None).reshape(-1)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as integer labels: {error}") from None
    arrays = _arrays(path)
    if "labels" not in arrays and len(arrays) != 1:
        raise DataError(f"{path}: holds {sorted(arrays)}, none of them called labels")
    label = arrays["labels"] if "labels" in arrays else next(iter(arrays.values()))
    if label.dtype.is_floating_point or label.dtype == torch.bool:
        raise DataError(f"{path}: labels must be integers, but are {dtype_name(label.dtype)}")
    return np.asarray(label.read((slice(None),) * len(label.shape)).numpy())


def natural(name: str) -> list[tuple[int, str]]:
    """A sorting key that puts run_2 before run_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def predicts_language(path: Path) -> bool:
    """Whether a member's file in a store holds what a language model predicts."""
    return "target_log_probabilities" in _arrays(path)


def _store(path: Path) -> Predictions:
    from popnet.store import open_store

    store = open_store(path)
    members = store.members()
    done = [str(member) for member in members.index[members["status"] == "done"]]
    if not done:
        raise DataError(f"{path}: this store holds no finished member")

    def part(member: str) -> Lazy:
        arrays = _arrays(store.predictions_path(member))
        if "predictions" not in arrays:
            raise DataError(f"{path}: member {member} is a language model, which has no logits of all test tokens")
        whole = arrays["predictions"]  # [views, examples, classes], the original first
        return Lazy(whole.name, whole.shape[1:], whole.dtype, lambda index: whole.read((slice(0, 1), *index))[0])

    return FilePredictions([partial(part, member) for member in done], str(path))


def _same(part: Lazy) -> Lazy:
    return part


def _only(path: Path) -> Lazy:
    arrays = _arrays(path)
    for name in ("logits", "predictions"):
        if name in arrays:
            return arrays[name]
    if len(arrays) != 1:
        raise DataError(f"{path}: holds {sorted(arrays)}, none of them called logits or predictions")
    return next(iter(arrays.values()))


def _arrays(path: Path) -> dict[str, Lazy]:
    """The arrays of a file by name; the only one of an .npy or of a bare tensor is called `array`."""
    readers = {".npy": _npy, ".npz": _npz, ".pt": _pt, ".pth": _pt, ".safetensors": _safetensors}
    if path.suffix not in readers:
        raise DataError(f"{path}: must be one of {', '.join(FORMATS)}, a folder of such files, or a popnet store")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        return readers[path.suffix](path)
    except DataError:
        raise
    except (OSError, ValueError, EOFError, RuntimeError, KeyError, SafetensorError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{path}: cannot be read as {path.suffix}: {reason}") from None
    except Exception as error:  # pickle's and zip's own errors, which share no base
        raise DataError(f"{path}: cannot be read as {path.suffix}: {type(error).__name__}") from None


def _of_numpy(name: str, array: np.ndarray) -> Lazy:
    if array.dtype.kind not in "fiu":
        raise DataError(f"{name}: must hold numbers, but holds {array.dtype}")
    dtype = torch.from_numpy(np.empty(0, array.dtype.newbyteorder("="))).dtype
    return Lazy(name, array.shape, dtype, lambda index: tensor_of(array[index], name))


def _npy(path: Path) -> dict[str, Lazy]:
    check_npy_file(path)
    return {"array": _of_numpy(str(path), np.load(path, mmap_mode="r", allow_pickle=False))}


def _npz(path: Path) -> dict[str, Lazy]:
    check_npz_file(path)
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return {name: _of_numpy(f"{path}[{name}]", array) for name, array in arrays.items() if array.dtype.kind != "U"}


def _pt(path: Path) -> dict[str, Lazy]:
    content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if isinstance(content, (list, tuple)):
        content = {str(i): value for i, value in enumerate(content)}
    if isinstance(content, Tensor):
        content = {"array": content}
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise DataError(f"{path}: must hold a tensor, or a list or dictionary of tensors")
    return {
        str(name): Lazy(f"{path}[{name}]", value.shape, value.dtype, partial(_part, value))
        for name, value in content.items()
    }


def _part(tensor: Tensor, index: tuple[slice, ...]) -> Tensor:
    return tensor[index]


def _safetensors(path: Path) -> dict[str, Lazy]:
    check_safetensors(path)
    arrays = {}
    with safe_open(path, framework="pt") as file:
        for name in list(file.keys()):
            part = file.get_slice(name)
            dtype = _SAFETENSORS_DTYPES.get(part.get_dtype(), torch.float64)
            arrays[name] = Lazy(f"{path}[{name}]", part.get_shape(), dtype, partial(_safetensors_part, path, name))
    return arrays


def _safetensors_part(path: Path, name: str, index: tuple[slice, ...]) -> Tensor:
    with safe_open(path, framework="pt") as file:
        return file.get_slice(name)[index]


_SAFETENSORS_DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
}

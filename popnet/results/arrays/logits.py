"""Logits for the metrics, read from files in blocks, in bounded memory, and from the members of a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from popnet.errors import DataError
from popnet.metrics.predictions import Predictions
from popnet.results.arrays.contents import Content, content_of, open_object, open_path
from popnet.results.arrays.files import open_arrays
from popnet.results.arrays.roles import Row
from popnet.results.arrays.runs import check_probabilities
from popnet.results.arrays.wording import form
from popnet.results.found import Options
from popnet.store import Store

_LOOKED_AT = 256
"""Examples of each run by which logits are told from probabilities when a source is opened."""

_SMALLEST = np.finfo(np.float32).tiny


class FilePredictions(Predictions):
    """The logits of runs that are read a block at a time.

    float16 and bfloat16 widen exactly; float64 is rounded to float32. Probabilities become log p, taken in float64 and
    rounded to float32, where a 0 counts as the smallest normal float32 (1.2e-38).

    Reading raises DataError, naming run and example, for a float64 beyond float32 and for probabilities that do not sum
    to 1; DataError for a run of another shape or type than the first. What is not finite is left to the metrics.
    """

    def __init__(self, name: str, runs: Sequence[Row], probabilities: bool = False) -> None:
        self.name = name
        self._runs = runs
        self._probabilities = probabilities
        first = runs[0]
        self._shape = first.shape
        self.members = len(runs)
        self.examples, self.classes = first.shape
        if first.order is not None:
            self.examples = len(first.order)

    def read(self, members: Sequence[int], examples: slice) -> Tensor:
        block = torch.empty((len(members), examples.stop - examples.start, self.classes))
        values = block.numpy()
        for place, first, count in self._stretches(members):
            row = self._runs[first]
            if count == 1:
                self._copy(values[place], row.read(examples), first, examples.start)
                continue
            index = row.index or 0
            whole = row.array.read((slice(index, index + count), examples))
            for number in range(count):
                self._copy(values[place + number], whole[number], first + number, examples.start)
        return block

    def _stretches(self, members: Sequence[int]) -> list[tuple[int, int, int]]:
        """Members that lie side by side in one array, which are read at once: (place in the block, first, how many)."""
        stretches: list[tuple[int, int, int]] = []
        for place, member in enumerate(members):
            if stretches and self._follows(stretches[-1], member):
                begin, first, count = stretches[-1]
                stretches[-1] = (begin, first, count + 1)
            else:
                stretches.append((place, member, 1))
        return stretches

    def _follows(self, stretch: tuple[int, int, int], member: int) -> bool:
        _, first, count = stretch
        if member != first + count:
            return False
        row, other = self._runs[first], self._runs[member]
        return row.order is None and row.array is other.array and other.index == (row.index or 0) + count

    def _copy(self, out: NDArray[np.float32], values: NDArray[Any], run: int, first_example: int) -> None:
        """By NumPy: torch would start a team of threads for every small copy."""
        if values.shape != out.shape or values.dtype.kind != "f":
            raise DataError(
                f"{self._runs[run].array.name}: logits of run {run} are {values.dtype} {list(values.shape)}, not "
                f"floats {list(out.shape)} as those of the first"
            )
        if self._probabilities:
            self._copy_probabilities(out, values, run, first_example)
            return
        with np.errstate(over="ignore"):
            np.copyto(out, values, casting="same_kind")
        if values.dtype.itemsize > 4:
            wrong = np.argwhere(np.isinf(out) & np.isfinite(values))
            if len(wrong):
                example, column = wrong[0]
                raise DataError(
                    f"{self.name}: logits of run {run}, example {first_example + example}, class {column} is "
                    f"{values[example, column]}, beyond float32, in which metrics are taken"
                )

    def _copy_probabilities(self, out: NDArray[np.float32], values: NDArray[Any], run: int, first_example: int) -> None:
        wrong = np.flatnonzero(((values < 0) | (values > 1.01)).any(axis=1))
        if wrong.size:
            raise DataError(f"{self.name}: probabilities of run {run}, example {first_example + wrong[0]} leave 0..1")
        check_probabilities(self.name, run, values, True, Options(), first_example)
        np.copyto(out, np.log(np.maximum(values.astype(np.float64), _SMALLEST)), casting="same_kind")


def open_logits(source: Path, options: Options, value: str | None = None) -> tuple[Predictions, NDArray[np.int64]]:
    """The logits of a file or folder of arrays, and its labels, int64 [examples].

    Args:
        source, value: see `popnet.results.arrays.contents.open_path`.

    Raises:
        ConfigError, DataError: as `popnet.results.arrays.runs.runs_of_arrays`, and where the source holds no logits.
    """
    return _predictions(content_of(open_path(source, options, value), options), options)


def logits_of_object(
    source: Any, options: Options, name: str = "the given runs"
) -> tuple[Predictions, NDArray[np.int64]]:
    """The logits of arrays in memory, and their labels: as `open_logits`, of what `runs_of_object` takes."""
    return _predictions(content_of(open_object(source, name, options), options), options)


def open_stored(store: Store, member_ids: Sequence[str]) -> Predictions:
    """The original view's logits of stored members. Raises DataError for language models, and where none is named."""
    if not member_ids:
        raise DataError(f"{store.path}: this store holds no finished member")
    return FilePredictions(str(store.path), _StoredRows(store, member_ids))


def _predictions(content: Content, options: Options) -> tuple[Predictions, NDArray[np.int64]]:
    if content.kind not in ("logits", "probabilities") or content.labels is None:
        raise DataError(f"{content.name}: holds {content.kind}, and what varies between runs is measured on logits")
    probabilities = content.kind == "probabilities"
    if not probabilities:
        for run, row in enumerate(content.runs):
            check_probabilities(content.name, run, row.read(slice(0, _LOOKED_AT)), False, options)
    return FilePredictions(content.name, content.runs, probabilities), content.labels


class _StoredRows(Sequence[Row]):
    """The members of a store, each of whose files is opened when it is read: there can be any number."""

    def __init__(self, store: Store, member_ids: Sequence[str]) -> None:
        self._store, self._members = store, member_ids

    def __len__(self) -> int:
        return len(self._members)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        member = self._members[index]
        arrays = open_arrays(self._store.predictions_path(member))
        if "predictions" not in arrays:
            raise DataError(
                f"{self._store.path}: member {member} is a language model, which has no logits of all test tokens"
            )
        views = arrays["predictions"]  # [views, examples, classes], the original first
        if len(views.shape) != 3 or 0 in views.shape:
            raise DataError(f"{views.name}: must hold [views, examples, classes], not {form(views)}")
        return Row(views, 0)

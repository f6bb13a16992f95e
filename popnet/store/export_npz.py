"""Members stacked in the arrays of an .npz, which are written a member at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from typing import IO, Any, BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from popnet.errors import StoreError
from popnet.store.files import load_tensors, tensor_shapes
from popnet.store.store import Store

_HISTORY = ("learning_rate", "train_loss", "test_accuracy", "test_cross_entropy")


def write_npz(store: Store, file: BinaryIO, members: Sequence[str]) -> None:
    """See `popnet.store.export.export`. Raises StoreError naming two members that cannot stand in one array."""
    _check_alike(store, members)
    table = store.members().loc[list(members)]
    views = [view.key for view in store.views(members[0])]
    with zipfile.ZipFile(file, "w") as archive:
        _put(archive, "id", np.array(members))
        for column in table:
            _put(archive, str(column), _column(table[column]))
        _put(archive, "views", np.array(views, dtype=np.int64))
        _put(archive, "labels", store.labels(members[0]))
        _put(archive, "history_columns", np.array(_HISTORY))
        _put(archive, "history", _histories(store, members))
        for name in tensor_shapes(store.predictions_path(members[0])):

            def read(member: str, name: str = name) -> NDArray[Any]:
                return load_tensors(store.predictions_path(member))[name].numpy()

            if name != "predictions":
                _stack(archive, name, members, read)
                continue
            _stack(archive, "logits", members, lambda member: read(member, "predictions")[0])
            if len(views) > 1:
                _stack(archive, "other_views", members, lambda member: read(member, "predictions")[1:])


def _check_alike(store: Store, members: Sequence[str]) -> None:
    def kind(member: str) -> dict[str, Any]:
        entry = store.ledger.entry(member)
        assert entry is not None
        shapes = tensor_shapes(store.predictions_path(member))
        return {"shapes": shapes, "views": store.views(member), "labels": entry.row["labels"]}

    first = kind(members[0])
    for member in members[1:]:
        for what, value in kind(member).items():
            if value != first[what]:
                raise StoreError(
                    f"{store.path}: members {members[0]} and {member} differ in their {what}: name one row (--row), "
                    "or export to .parquet"
                )


def _column(values: pd.Series) -> NDArray[Any]:
    """Numbers as they are; text, and integers beyond 64 bits, as text."""
    array = np.array(values.tolist())
    if pd.api.types.is_numeric_dtype(values) and array.dtype != object:
        return array
    return np.array(["" if pd.isna(value) else str(value) for value in values])


def _histories(store: Store, members: Sequence[str]) -> NDArray[np.float64]:
    found = [store.history(member)[list(_HISTORY)].to_numpy() for member in members]
    array = np.full((len(found), max(len(history) for history in found), len(_HISTORY)), np.nan)
    for row, history in zip(array, found):
        row[: len(history)] = history
    return array


def _put(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    with _entry(archive, name) as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def _stack(archive: zipfile.ZipFile, name: str, members: Sequence[str], read: Callable[[str], NDArray[Any]]) -> None:
    """An array [members, ...] of what `read` gives for each."""
    first = read(members[0])
    header = {"descr": first.dtype.str, "fortran_order": False, "shape": (len(members), *first.shape)}
    with _entry(archive, name) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for member in members:
            file.write(np.ascontiguousarray(read(member)).tobytes())


def _entry(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A file in the archive, dated as `numpy.savez` does: the same members are the same bytes on any day."""
    return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)

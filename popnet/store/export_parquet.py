"""Members as the rows of a .parquet: what the ledger says of each, and its predictions in nested lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from popnet.store.files import load_tensors, tensor_shapes
from popnet.store.store import Store

_GROUP_BYTES = 1 << 26
"""Predictions that share a row group."""

_OWN = {
    "views": pa.list_(pa.struct([("flip", pa.bool_()), ("dy", pa.int32()), ("dx", pa.int32())])),
    "labels": pa.list_(pa.int64()),
    "history": pa.list_(
        pa.struct(
            [("epoch", pa.int32())]
            + [(name, pa.float64()) for name in ("learning_rate", "train_loss", "test_accuracy", "test_cross_entropy")]
        )
    ),
}


def write_parquet(store: Store, file: BinaryIO, members: Sequence[str]) -> None:
    """See `popnet.store.export.export`."""
    ledger = _ledger(store, members)
    tensors = _tensor_types(store, members)
    schema = pa.schema([*ledger.schema, *_OWN.items(), *tensors.items()])
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        group: list[Any] = []
        size = 0
        for index, member in enumerate(members):
            held = {name: value.numpy() for name, value in load_tensors(store.predictions_path(member)).items()}
            columns = [column.combine_chunks() for column in ledger.slice(index, 1).columns]
            columns += [pa.array([value], type=_OWN[name]) for name, value in _own(store, member).items()]
            columns += [_one(held[name]) if name in held else pa.nulls(1, kind) for name, kind in tensors.items()]
            group.append(pa.Table.from_arrays(columns, schema=schema))
            size += sum(array.nbytes for array in held.values())
            if size >= _GROUP_BYTES or index == len(members) - 1:
                writer.write_table(pa.concat_tables(group))
                group, size = [], 0


def _ledger(store: Store, members: Sequence[str]) -> Any:
    table = store.members().loc[list(members)].reset_index()
    for name in table:
        if table[name].dtype == object:  # text, and integers beyond 64 bits
            table[name] = [None if pd.isna(value) else str(value) for value in table[name]]
    made = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    empty = [pa.field(f.name, pa.string()) if pa.types.is_null(f.type) else f for f in made.schema]
    return made.cast(pa.schema(empty))


def _tensor_types(store: Store, members: Sequence[str]) -> dict[str, Any]:
    """The column of each tensor that some member's predictions hold: lists in lists, one for each axis."""
    found: dict[str, Any] = {}
    for member in members:
        for name, (shape, dtype) in tensor_shapes(store.predictions_path(member)).items():
            kind = pa.int32() if dtype == "I32" else pa.float32()
            for _ in shape:
                kind = pa.list_(kind)
            found.setdefault(name, kind)
    return found


def _own(store: Store, member: str) -> dict[str, Any]:
    history = store.history(member).reset_index().astype(object)
    return {
        "views": [{"flip": view.flip, "dy": view.dy, "dx": view.dx} for view in store.views(member)],
        "labels": store.labels(member),
        "history": history.where(history.notna(), None).to_dict("records"),
    }


def _one(array: NDArray[Any]) -> Any:
    """An array as a column of one row."""
    values = pa.array(array.reshape(-1))
    for axis in reversed(range(1, array.ndim)):
        count = int(np.prod(array.shape[:axis]))
        values = pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * array.shape[axis], values)
    return pa.ListArray.from_arrays(np.array([0, len(values)], dtype=np.int32), values)

"""Results that a program holds in memory: numbers, arrays, data frames, evaluations, stores."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.errors import ConfigError, DataError
from popnet.metrics.samples import Sample
from popnet.results.arrays.doubts import check_values
from popnet.results.arrays.files import in_memory
from popnet.results.arrays.series import is_series, seeds_of_series
from popnet.results.found import Options, Runs


def read_object(source: Any, options: Options, name: str) -> list[Runs]:
    """The runs of an object, one `Runs` for each of its tasks.

    Args:
        source: a DataFrame, as a table; numbers of each run (a list, a Series, a 1-D array); an array of more axes or
            a mapping of arrays, as in a file of arrays; a Hugging Face EvalPrediction or a list of them; a list of
            arrays, one a run; a list of records, as the rows of a table; a `popnet.Store` or `Result` with one row.
        name: for tables and errors.

    Raises:
        ConfigError, DataError: what is wrong, and what to do.
    """
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        from popnet.results.tables.files import Table
        from popnet.results.tables.layout import runs_of_table

        return runs_of_table(Table.of_frame(source, name), None, options)
    stored = store_of(source)
    if stored is not None:
        from popnet.results.stores.rows import runs_of_store

        return [runs_of_store(str(stored.path))]
    if hasattr(source, "columns"):
        raise ConfigError(f"{name}: a table must be a pandas DataFrame, not {_type(source)}: give its `to_pandas()`")
    if _is_records(source):
        return _runs_of_records(source, options, name)
    if options.labels is None and (values := _numbers(source, name)) is not None:
        return [_runs_of_numbers(source, values, options, name)]
    from popnet.results.arrays.runs import runs_of_object

    if isinstance(source, Mapping):
        return [runs_of_object(source, name, options)]
    if _is_array(source) or hasattr(source, "label_ids") or isinstance(source, list | tuple):
        return [runs_of_object(source, name, options)]
    raise ConfigError(
        f"{name}: cannot read results from {type(source).__name__}: give a path, numbers of each run, a DataFrame, an "
        "array, a mapping of arrays or an EvalPrediction"
    )


def _runs_of_numbers(source: Any, values: NDArray[np.float64], options: Options, name: str) -> Runs:
    seeds = seeds_of_series(source, name, options.seed_column) if is_series(source) else None
    if not np.isfinite(values).all():
        run = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"{name}: the value of run {run} is {values[run]}")
    metric = options.metrics[0] if options.metrics else "value"
    check_values(name, metric, values, with_seeds=seeds is not None)
    return Runs(name, {metric: Sample.of_values(values)}, seeds=seeds)


def _numbers(source: Any, name: str) -> NDArray[np.float64] | None:
    """One number of each run, where the object is that: float64 [runs]. Truth values are no numbers."""
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        if not source or not all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in source):
            return None
        try:
            return np.asarray(source, dtype=np.float64)
        except OverflowError:
            raise DataError(f"{name}: holds a number beyond 1.8e308") from None
    if _is_array(source) and len(source.shape) == 1 and source.shape[0]:
        array = in_memory(name, source)
        if array.dtype.kind in "iuf":
            return array.read().astype(np.float64)
    return None


def _is_records(source: Any) -> bool:
    """Whether the object is a list of records: mappings from names to single numbers, texts and truth values."""
    if not isinstance(source, list | tuple) or not source:
        return False
    return all(isinstance(one, Mapping) and one and all(_is_cell(cell) for cell in one.values()) for one in source)


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | np.generic)


def _runs_of_records(records: Sequence[Mapping[Any, Any]], options: Options, name: str) -> list[Runs]:
    """The runs of a table whose rows are records."""
    from popnet.results.tables.files import Table
    from popnet.results.tables.layout import runs_of_table

    columns: dict[str, list[Any]] = {}
    for row, record in enumerate(records):
        for key, cell in record.items():
            plain = cell.item() if isinstance(cell, np.generic) else cell
            columns.setdefault(str(key), [None] * len(records))[row] = plain
    return runs_of_table(Table(name, columns, len(records)), None, options)


def _type(source: Any) -> str:
    return f"{type(source).__module__.partition('.')[0]}.{type(source).__name__}"


def _is_array(source: Any) -> bool:
    return hasattr(source, "__array__") and hasattr(source, "shape")


def store_of(source: Any) -> Any:
    """The store behind a `Store` or a `Result`; neither exists where their module was never imported."""
    store, engine = sys.modules.get("popnet.store"), sys.modules.get("popnet.engine")
    if store is not None and isinstance(source, store.Store):
        return source
    if engine is not None and isinstance(source, engine.Result):
        return source.store
    return None

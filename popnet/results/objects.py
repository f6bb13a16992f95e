"""Results that a program holds in memory: numbers, arrays, data frames, evaluations, stores."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.errors import ConfigError, DataError
from popnet.metrics.samples import Sample
from popnet.results.found import Options, Runs


def read_object(source: Any, options: Options, name: str) -> list[Runs]:
    """The runs of an object, one `Runs` for each of its tasks.

    Args:
        source: a DataFrame, as a table; numbers of each run (a list, a Series, a 1-D array); an array of more axes or
            a mapping of arrays, as in a file of arrays; a Hugging Face EvalPrediction or a list of them; a list of
            arrays, one a run; a `popnet.Store` or `Result` with one row.
        name: for tables and errors.

    Raises:
        ConfigError, DataError: what is wrong, and what to do.
    """
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        from popnet.results.tables.files import Table
        from popnet.results.tables.layout import runs_of_table

        return runs_of_table(Table.of_frame(source, name), None, options)
    stored = _store(source)
    if stored is not None:
        from popnet.results.stores.rows import runs_of_store

        return [runs_of_store(str(stored.path))]
    if options.labels is None and (values := _numbers(source)) is not None:
        if not np.isfinite(values).all():
            run = int(np.flatnonzero(~np.isfinite(values))[0])
            raise DataError(f"{name}: the value of run {run} is {values[run]}")
        metric = options.metrics[0] if options.metrics else "value"
        return [Runs(name, {metric: Sample.of_values(values)})]
    from popnet.results.arrays.runs import runs_of_object

    if isinstance(source, Mapping):
        return [runs_of_object(source, name, options)]
    if _is_array(source) or hasattr(source, "label_ids") or isinstance(source, list | tuple):
        return [runs_of_object(source, name, options)]
    raise ConfigError(
        f"{name}: cannot read results from {type(source).__name__}: give a path, numbers of each run, a DataFrame, an "
        "array, a mapping of arrays or an EvalPrediction"
    )


def _numbers(source: Any) -> NDArray[np.float64] | None:
    """One number of each run, where the object is that: float64 [runs]."""
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        if not source or not all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in source):
            return None
        return np.asarray(source, dtype=np.float64)
    if _is_array(source) and np.ndim(source) == 1:
        torch = sys.modules.get("torch")
        tensor = torch is not None and isinstance(source, torch.Tensor)
        array = source.detach().cpu().double().numpy() if tensor else np.asarray(source)
        if array.dtype.kind in "iuf":
            return array.astype(np.float64)
    return None


def _is_array(source: Any) -> bool:
    return hasattr(source, "__array__") and hasattr(source, "shape")


def _store(source: Any) -> Any:
    """The store behind a `Store` or a `Result`; neither exists where their module was never imported."""
    store, engine = sys.modules.get("popnet.store"), sys.modules.get("popnet.engine")
    if store is not None and isinstance(source, store.Store):
        return source
    if engine is not None and isinstance(source, engine.Result):
        return source.store
    return None

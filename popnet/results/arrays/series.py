"""The index of a pandas Series, by which two of them may be in different orders of one test set's examples."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from popnet.errors import ConfigError, DataError
from popnet.results.arrays.doubts import HISTORY, is_part
from popnet.results.arrays.wording import plain_key


def is_series(value: Any) -> bool:
    """Whether this is a pandas Series, which exists where pandas was imported."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.Series)


def check_indices(source: Any, name: str, labels: Any) -> None:
    """Raises ConfigError where the rows of a Series are not known to be in the order of all others.

    An index says which example each row is. Of arrays, position says so: a Series is read where both agree, which an
    index of 0, 1, ... does. Labels with another index are read beside arrays, whose order is theirs to know.

    Args:
        source: what holds the runs: a Series, an array, a mapping or a list of them.
        name: for errors.
        labels: of the examples, in any form.
    """
    found = _series_of(source)
    for series in found:
        if not _counts_rows(series):
            raise ConfigError(
                f"{name}: a Series whose index is not 0, 1, 2, ... in order may be in another order than other "
                "runs or labels: bring all into one order of examples, and give `.to_numpy()` of each"
            )
    if found and is_series(labels) and not _counts_rows(labels):
        raise ConfigError(
            f"{name}: the labels have another index than its Series: bring both into one order of examples, and give "
            "`.to_numpy()` of each"
        )


def seeds_of_series(series: Any, name: str, seed_column: str | None) -> tuple[Hashable, ...] | None:
    """The index of numbers of each run, where its name says that it holds seeds; else None.

    Raises:
        ConfigError: the index says that the numbers are not one of each run: epochs, or groups.
        DataError: two rows of it are equal.
    """
    index = series.index
    if index.nlevels > 1:
        raise ConfigError(f"{name}: its index has {index.nlevels} levels: choose one group, as with `.loc[group]`")
    title = "" if index.name is None else plain_key(str(index.name))
    if title in HISTORY:
        raise ConfigError(f"{name}: its index is `{index.name}`, of a history: give one number for each run")
    if is_part(title):
        raise ConfigError(
            f"{name}: its index is `{index.name}`, of parts of the examples: give one number for each run"
        )
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise DataError(
            f"{name}: its index holds {twice!r} more than once, as where groups are joined: choose one group, or give "
            "`.to_numpy()` of its runs"
        )
    if title not in ("seed", "seeds") and (index.name is None or index.name != seed_column):
        return None
    return tuple(index.tolist())


def _series_of(source: Any) -> list[Any]:
    if is_series(source):
        return [source]
    items = source.values() if isinstance(source, Mapping) else source if isinstance(source, list | tuple) else ()
    found = [series for item in items for series in ([item] if is_series(item) else ())]
    if isinstance(source, list | tuple):
        found += [series for item in source if isinstance(item, Mapping) for series in _series_of(item)]
    return found


def _counts_rows(series: Any) -> bool:
    values = series.index.to_numpy()
    return values.dtype.kind in "iu" and bool(np.array_equal(values, np.arange(len(values))))

"""A store's finished members as one file for other programs: .npz for NumPy, .parquet for data frames."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from popnet.errors import ConfigError, StoreError
from popnet.store.files import written_aside
from popnet.store.store import Store


def export(store: Store, output: Path, members: Sequence[str] | None = None) -> int:
    """Write finished members to one file, a member in memory at a time.

    `.npz` holds an array for `id` and each column of `store.members()`, [members]; `views`, int64 [views, 3] (flip, dy,
    dx); `labels`, int64 [examples]; `history`, float64 [members, epochs, 4] (named by `history_columns`), NaN where
    nothing was measured; `logits`, float32 [members, examples, classes], of the original view, which `popnet measure`
    and `popnet compare` read; and `other_views`, float32 [members, views - 1, examples, classes], where there are any.
    Of language models, in place of the last two, the fields of `popnet.store.LanguagePredictions`, [members, ...] each.
    All members must have the same shapes, views and labels.

    `.parquet` holds a row for each member: the same columns, and as lists its views, labels, history, and the tensors
    of its predictions. Members may differ in everything. Needs pyarrow.

    Args:
        store: is only read.
        output: a file name that ends in .npz or .parquet.
        members: whose; default every finished member, in the order of the ledger.

    Returns:
        How many members the file holds.

    Raises:
        ConfigError: the file has another ending, or pyarrow is missing.
        StoreError: no member is finished, a file cannot be read or written, or members differ that an .npz shall hold.
    """
    if output.suffix not in (".npz", ".parquet"):
        raise ConfigError(f"{output}: must end in .npz or .parquet")
    if output.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ConfigError(f"{output}: .parquet needs pyarrow: pip install 'popnet[parquet]'")
    done = store.done()
    chosen = [str(key) for key in (store.members().index if members is None else members) if key in done]
    if not chosen:
        raise StoreError(f"{store.path}: no finished member to export")
    with written_aside(output) as file:
        if output.suffix == ".npz":
            from popnet.store.export_npz import write_npz

            write_npz(store, file, chosen)
        else:
            from popnet.store.export_parquet import write_parquet

            write_parquet(store, file, chosen)
    return len(chosen)

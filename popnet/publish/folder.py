"""Writes the folder: a folder for each row, with logits.npy, labels.npy and runs.csv; a card and metadata.json."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

import popnet
from popnet.errors import ConfigError, DataError, StoreError, nearest
from popnet.publish.card import card
from popnet.publish.rows import Row, rows_of
from popnet.results.stores.populations import population_labels
from popnet.store import Store
from popnet.untrusted.files import read_bytes
from popnet.untrusted.texts import JSON_BYTES, parse_json

Precision = Literal["fp16", "fp32"]
FORMAT = "popnet predictions 1"
"""Named in metadata.json: only a folder that says so is ever overwritten."""

_DTYPES: dict[str, np.dtype[Any]] = {"fp16": np.dtype("<f2"), "fp32": np.dtype("<f4")}


@dataclass(frozen=True)
class Published:
    """One row as it was written: its folder within the whole, and the shape of its logits."""

    experiment: str
    row: str
    folder: str
    runs: int
    planned: int
    examples: int
    classes: int


def publish(
    store: Store,
    output: Path,
    rows: Sequence[str] | None = None,
    dtype: str = "fp16",
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Published]:
    """Write what the finished runs of each row predict, one run in memory at a time.

    `OUTPUT/EXPERIMENT/ROW/` holds `logits.npy`, float16 or float32 [runs, examples, classes], as the row's metrics see
    them (the mean of its views; of an ensemble, of its members); `labels.npy`, int64 [examples]; and `runs.csv`, a line
    for each member of each run with its seeds.

    Args:
        store: is only read.
        output: a folder; it is there in full, or as it was.
        rows: names of rows; default all that have a finished run.
        dtype: `fp16` or `fp32`.
        force: replace an earlier export; nothing else is ever replaced.
        progress: is told of runs written, and of how many there are.

    Raises:
        ConfigError, DataError, StoreError: what is wrong, before anything is written; DataError also for logits beyond
            fp16's range.
    """
    if dtype not in get_args(Precision):
        raise ConfigError(f"dtype {dtype!r}; {nearest(dtype, _DTYPES)}")
    _check_output(output, force)
    chosen = rows_of(store, list(rows) if rows else None)
    total = sum(len(row.runs) for row in chosen)
    with _written_aside(output) as folder:
        done = 0
        published = []
        for row, name in zip(chosen, _folders(chosen), strict=True):
            told = partial(_told, progress, done, total)
            published.append(_write_row(store, row, folder, name, dtype, told))
            done += len(row.runs)
        experiments = {row.experiment: store.experiments()[row.experiment] for row in chosen}
        metadata = _metadata(chosen, published, experiments, dtype)
        (folder / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(card(published, experiments, dtype), encoding="utf-8")
    return published


def _told(progress: Callable[[int, int], None], before: int, total: int, count: int) -> None:
    progress(before + count, total)


def _write_row(
    store: Store, row: Row, folder: Path, name: str, dtype: str, progress: Callable[[int], None]
) -> Published:
    target = folder / name
    target.mkdir(parents=True)
    labels = population_labels(store, row.population, row.runs[0])
    classes = 0
    with (target / "logits.npy").open("wb") as file:
        for count, logits in enumerate(row.logits(store), start=1):
            if count == 1:
                classes = logits.shape[1]
                shape = (len(row.runs), *logits.shape)
                header = {"descr": _DTYPES[dtype].str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            if dtype == "fp16" and not np.abs(logits).max() <= np.finfo(np.float16).max:
                raise DataError(
                    f"{store.path}: member {row.runs[count - 1][0].id} has logits beyond fp16's range: use --dtype fp32"
                )
            file.write(logits.astype(_DTYPES[dtype]).tobytes())
            progress(count)
    np.save(target / "labels.npy", labels)
    row.table().to_csv(target / "runs.csv")
    planned = len(row.population.members) // row.population.variant.ensemble
    return Published(row.experiment, row.population.name, name, len(row.runs), planned, len(labels), classes)


def _folders(rows: Sequence[Row]) -> list[str]:
    """EXPERIMENT/ROW in letters that every file system and address takes; equal ones are numbered."""
    names: list[str] = []
    for row in rows:
        name = f"{_plain(row.experiment)}/{_plain(row.population.name)}"
        twins = sum(other == name or other.startswith(f"{name}-twin-") for other in names)
        names.append(f"{name}-twin-{twins}" if twins else name)
    return names


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-.") or "row"


def _metadata(
    rows: Sequence[Row], published: Sequence[Published], experiments: dict[str, Any], dtype: str
) -> dict[str, Any]:
    platform = rows[0].runs[0][0].platform
    return {
        "format": FORMAT,
        "popnet": popnet.__version__,
        "dtype": dtype,
        "device": platform.device,
        "versions": dict(platform.versions),
        "experiments": experiments,
        "rows": [asdict(entry) for entry in published],
    }


def _check_output(output: Path, force: bool) -> None:
    if not output.exists():
        return
    if output.is_dir() and not any(output.iterdir()):
        return
    if not _is_export(output):
        raise ConfigError(f"{output}: is there already and no earlier export: choose another name")
    if not force:
        raise ConfigError(f"{output}: holds an earlier export: overwrite it with --force, or choose another name")


def _is_export(folder: Path) -> bool:
    try:
        return bool(parse_json(read_bytes(folder / "metadata.json", JSON_BYTES))["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def _written_aside(output: Path) -> Iterator[Path]:
    """A folder to fill, which replaces `output` once the block has ended well. Raises StoreError."""
    aside = output.parent / f".{output.name}.{os.getpid()}.part"
    try:
        aside.mkdir(parents=True)
        yield aside
        if output.exists():
            shutil.rmtree(output)
        aside.replace(output)
    except OSError as error:
        raise StoreError(f"{output}: cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)

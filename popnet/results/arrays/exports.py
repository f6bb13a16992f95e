"""The folders that `popnet export` writes: which row is meant, and whose runs it holds."""

from __future__ import annotations

import csv
import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

from popnet.errors import ConfigError, DataError, nearest
from popnet.untrusted.files import inside, read_bytes
from popnet.untrusted.texts import JSON_BYTES, parse_json

_FORMAT = "popnet predictions 1"
_RUNS_BYTES = 1 << 28
_BEGINNING = ["run", "member", "replica"]
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)?")


@dataclass(frozen=True)
class Export:
    """One row of an export.

    Attributes:
        folder: with logits.npy and labels.npy.
        name: for tables.
        seeds: of each run, as a store's row gives them; None for ensembles.
        members: behind each run.
    """

    folder: Path
    name: str
    seeds: tuple[Hashable, ...] | None
    members: tuple[tuple[str, ...], ...]


def export_at(folder: Path, row: str | None) -> Export | None:
    """The row of an export, from its folder or by name from the folder of the whole; None for any other folder.

    Raises ConfigError where the row is not there or not named, DataError for files that are not as they were written.
    """
    if (folder / "logits.npy").is_file() and _is_row(folder / "runs.csv"):
        if row is not None:
            raise ConfigError(f"{folder}: is one row of an export, in which {row!r} cannot be picked")
        return Export(folder, str(folder), *_runs(folder / "runs.csv"))
    if not (folder / "metadata.json").is_file():
        return None
    try:
        metadata = parse_json(read_bytes(folder / "metadata.json", JSON_BYTES))
        if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
            return None
        rows = [(str(entry["row"]), str(entry["experiment"]), str(entry["folder"])) for entry in metadata["rows"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{folder / 'metadata.json'}: cannot be read: {error}") from None
    name, place = _named(folder, rows, row)
    if _FOLDER.fullmatch(place) is None:
        raise DataError(f"{folder / 'metadata.json'}: {place[:100]!r} is no row's folder")
    try:
        table = inside(folder / place, "runs.csv")
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / place}: {error}") from None
    return Export(folder / place, f"{folder}:{name}", *_runs(table))


def _named(folder: Path, rows: list[tuple[str, str, str]], wanted: str | None) -> tuple[str, str]:
    """The name and the folder of a row, which may be named with its experiment."""
    names = [row for row, _, _ in rows]
    full = [row if names.count(row) == 1 else f"{experiment}: {row}" for row, experiment, _ in rows]
    if len(set(full)) < len(full):
        full = [place for _, _, place in rows]
    if wanted is None and len(rows) == 1:
        return full[0], rows[0][2]
    if wanted is None:
        raise ConfigError(
            f'{folder}: holds {len(rows)} rows: name one, as in "{folder}:{full[0]}"; known: {"; ".join(full)}'
        )
    for name, (_, _, place) in zip(full, rows):
        if wanted == name:
            return name, place
    raise ConfigError(f"{folder}: no row is called {wanted!r}; {nearest(wanted, full)}")


def _is_row(table: Path) -> bool:
    try:
        with table.open(encoding="utf-8") as file:
            return file.readline(1000).rstrip("\r\n").split(",")[:3] == _BEGINNING
    except (OSError, UnicodeDecodeError):
        return False


def _runs(table: Path) -> tuple[tuple[Hashable, ...] | None, tuple[tuple[str, ...], ...]]:
    """The seeds of each run, as pairs of source and seed and the replica, and its members."""
    try:
        lines = list(csv.reader(read_bytes(table, _RUNS_BYTES).decode().splitlines(), strict=True))
        sources = lines[0][3:]
        members: dict[int, list[str]] = {}
        seeds: list[Hashable] = []
        for line in lines[1:]:
            run, member, replica, *own = line
            members.setdefault(int(run), []).append(member)
            pairs = [(source, int(seed)) for source, seed in zip(sources, own, strict=True)]
            seeds.append((*pairs, int(replica)))
    except (OSError, ValueError, LookupError, csv.Error) as error:
        raise DataError(f"{table}: is not as `popnet export` writes it: {error}") from None
    if lines[0][:3] != _BEGINNING or list(members) != list(range(len(members))) or not members:
        raise DataError(f"{table}: is not as `popnet export` writes it: its runs are not counted from 0")
    alone = len(seeds) == len(members)
    return tuple(seeds) if alone else None, tuple(tuple(behind) for behind in members.values())

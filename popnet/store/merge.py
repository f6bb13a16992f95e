"""Brings the members of one store into another: populations that were trained in parts, on several machines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from popnet.errors import StoreError
from popnet.protocol import HARDWARE
from popnet.store.files import digest_of_file, renewed, written_aside
from popnet.store.ledger import Entry, Row
from popnet.store.rows import seeds_of, views_of
from popnet.store.store import FILE_KINDS, Store
from popnet.store.verify import label_damage, member_damage

_BATCH = 64
"""Members that share a transaction of the ledger."""


@dataclass(frozen=True)
class Merged:
    """How many members came in (or gained views or files), how many were there already, and what was left out, why."""

    taken: int
    known: int
    left: tuple[str, ...]


@dataclass(frozen=True)
class _Piece:
    """A member's entry as it shall be, and the files to copy for it, its predictions last.

    `renews`: beside files that are there, whose places they take once the entry is written.
    """

    row: Row
    history: tuple[tuple[float | None, ...], ...]
    files: tuple[_File, ...]
    renews: bool = False


@dataclass(frozen=True)
class _File:
    """A file of some kind to copy, and how the digest of its tensors begins; None where nobody knows."""

    kind: str
    old: Path
    new: Path
    digest: str | None


def merge(into: Store, source: Store, tell: Callable[[str], None] = lambda text: None) -> Merged:
    """Copy the members that `into` lacks, after their digests were checked; a member of both is the same bits in both.

    Of two entries of a member the one with more views is kept, and weights and other files that one of them lacks. A
    member that failed in one is taken from the other. Killed midway, the same call goes on.

    Args:
        into: locked by this process.
        source: is only read.
        tell: is told of what is left out, since it is damaged.

    Raises:
        StoreError: a member has different bits in the two, or members of both were trained by graphs that compute
            different ones, or an experiment has another recipe or other data under the same name, or the disk is too
            full: before anything is copied.
    """
    damaged: dict[str, str] = {}
    for finding in member_damage(source):
        damaged.setdefault(str(finding.member), finding.text)
    bad_labels = {finding.path.stem: finding.text for finding in label_damage(source)}
    wanted: list[str] = []
    files: set[Path] = set()
    known = 0
    for entry in source.ledger.entries():
        key = str(entry.row["id"])
        if entry.row["status"] == "done" and str(entry.row["labels"]) in bad_labels:
            damaged.setdefault(key, bad_labels[str(entry.row["labels"])])
        if entry.flaw is not None:
            damaged.setdefault(key, f"{source.ledger.path}: {entry.flaw}")
        if key in damaged:
            tell(f"member {key} is left out: {damaged[key]}")
            continue
        piece = _piece(into, source, entry)
        known += piece is None
        if piece is not None:
            wanted.append(key)
            files.update(file.old for file in piece.files)
    _check_fingerprints(into, source, damaged)
    _check_space(into, files)
    into.enter({**source.entered(), **_of_both(into, source)}, source.datasets())
    for first in range(0, len(wanted), _BATCH):
        entries = [source.ledger.entry(key) for key in wanted[first : first + _BATCH]]
        pieces = [piece for entry in entries if entry is not None and (piece := _piece(into, source, entry))]
        _copy_files(pieces)
        into.ledger.write([(piece.row, piece.history) for piece in pieces])
        for piece in pieces:
            if piece.renews:
                into.put_renewed(str(piece.row["id"]))
    return Merged(len(wanted), known, tuple(damaged))


def _of_both(into: Store, source: Store) -> dict[str, dict[str, Any]]:
    """Experiments of both: how many members and which rows, as `into` has it; `enter` compares their recipes."""
    kept = into.entered()
    return {
        name: {**entry, "experiment": kept[name]["experiment"]}
        for name, entry in source.entered().items()
        if name in kept
    }


def _piece(into: Store, source: Store, entry: Entry) -> _Piece | None:
    """What to do for a member of the source; None where there is nothing to do."""
    key, done = str(entry.row["id"]), entry.row["status"] == "done"
    there = into.ledger.entry(key)
    if there is None or there.row["status"] != "done":
        if done:
            return _Piece(entry.row, entry.history, (*_labels(into, source, entry), *_files(into, source, entry)))
        return _Piece(entry.row, entry.history, ()) if there is None and entry.row["status"] == "failed" else None
    if not done:
        return None
    wider = set(_views(entry)) > set(_views(there))
    if seeds_of(entry.row["identity"])["kernels"] != HARDWARE:
        _check_same(into, source, entry, there)
    elif entry.row["weights_digest"] != there.row["weights_digest"]:
        return None  # trained twice, on kernels that no seed controls: one of them is enough
    chosen = entry if wider else there
    either = ("features_digest", "trajectory_digest", "fingerprint")
    row = {**chosen.row, **{name: chosen.row.get(name) or entry.row.get(name) for name in either}}
    files = _files(into, source, entry)
    if wider:
        return _Piece(row, chosen.history, tuple(replace(file, new=renewed(file.new)) for file in files), renews=True)
    lacking = tuple(
        file for file in files if not file.new.exists() and file.digest in (None, row.get(f"{file.kind}_digest"))
    )
    return _Piece(row, chosen.history, lacking) if lacking else None


def _check_same(into: Store, source: Store, entry: Entry, there: Entry) -> None:
    same_views = _views(entry) == _views(there)
    for column in ("weights_digest", *(["predictions_digest"] if same_views else [])):
        if entry.row[column] != there.row[column]:
            raise StoreError(
                f"member {entry.row['id']} has other bits in {source.path} than in {into.path} ({column} "
                f"{str(entry.row[column])[:12]} and {str(there.row[column])[:12]}), and equal members must be equal: "
                "find out which is right by training it again elsewhere, and remove the other store"
            )


def _check_fingerprints(into: Store, source: Store, left_out: Collection[str]) -> None:
    """That members of both were trained by graphs that compute the same bits, where the data are the same."""
    if any(into.datasets().get(name, data) != data for name, data in source.datasets().items()):
        return  # which is refused as such
    there = into.fingerprints()
    for program, found in source.fingerprints().items():
        known = {bits: (keys[0], into.path) for bits, keys in there.get(program, {}).items()}
        for bits, keys in found.items():
            key = next((key for key in keys if key not in left_out), None)
            if key is None or bits in known:
                continue
            if known:
                others, (other, folder) = next(iter(known.items()))
                raise StoreError(
                    f"member {key} in {source.path} was trained by graphs that compute other bits ({bits[:12]}) than "
                    f"those of member {other} in {folder} ({others[:12]}), of the same program on the same kind of "
                    "device: find out which are right by training both again elsewhere, and remove the other store"
                )
            known[bits] = (key, source.path)


def _views(entry: Entry) -> list[tuple[int, int, int]]:
    return [view.key for view in views_of(entry.row["views"])]


def _files(into: Store, source: Store, entry: Entry) -> list[_File]:
    key = str(entry.row["id"])
    files = [
        _File(kind, source.file_of(kind, key), into.file_of(kind, key), entry.row.get(f"{kind}_digest"))
        for kind in FILE_KINDS
    ]
    return [file for file in files if file.old.exists()]


def _labels(into: Store, source: Store, entry: Entry) -> list[_File]:
    name = str(entry.row["labels"])
    new = into.labels_path(name)
    return [] if new.exists() else [_File("labels", source.labels_path(name), new, name)]


def _check_space(into: Store, files: set[Path]) -> None:
    needed = sum(path.stat().st_size for path in files)
    if needed > into.free_bytes():
        raise StoreError(
            f"{into.path}: the disk is too full: {needed / 1e6:,.1f} MB are to be copied, and "
            f"{into.free_bytes() / 1e6:,.1f} MB are free"
        )


def _copy_files(pieces: list[_Piece]) -> None:
    for file in dict.fromkeys(file for piece in pieces for file in piece.files):
        with written_aside(file.new) as aside:
            for part in _parts(file.old):
                aside.write(part)
            aside.flush()
            if file.digest is not None and not digest_of_file(Path(aside.name)).startswith(file.digest):
                raise StoreError(f"{file.old}: changed while it was copied: run the same command again")


def _parts(path: Path) -> Iterator[bytes]:
    """A file's content, a mebibyte at a time. Raises StoreError naming it."""
    try:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                yield part
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None

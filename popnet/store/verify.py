"""What is amiss in a store: files and entries that do not match their digests, and what nothing refers to."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

import torch

from popnet.errors import StoreError
from popnet.store.files import CHECKPOINT_DIGEST, digest, digest_of_file, load_tensors, renewed
from popnet.store.ledger import Entry
from popnet.store.rows import flaw
from popnet.store.store import DAMAGED, FILE_KINDS, Store

Subject = TypeVar("Subject")
Kind = Literal[
    "ledger", "entry", "missing", "damaged", "other bits", "half-written", "orphan", "left over", "set aside"
]

HARMLESS: frozenset[Kind] = frozenset({"half-written", "orphan", "left over", "set aside"})
"""Nothing that a member needs: `popnet store prune` removes it."""

_ENTRIES_AT_ONCE = 256


@dataclass(frozen=True)
class Finding:
    """Something amiss: what kind, which file, what to say, and whose it is."""

    kind: Kind
    path: Path
    text: str
    member: str | None = None


def verify(store: Store) -> list[Finding]:
    """Everything that is amiss in a store; it is only read. What a run that is under way writes is not counted."""
    problem = store.ledger.problem()
    if problem is not None:
        return [Finding("ledger", store.ledger.path, problem)]
    found = [*member_damage(store), *other_bits(store), *label_damage(store), *checkpoint_damage(store)]
    return found if store.in_use() else [*found, *leftovers(store)]


def member_damage(store: Store, member_ids: Collection[str] | None = None) -> Iterator[Finding]:
    """Entries and files of finished members that are not what their digests say, and predictions that are missing.

    Files are read by as many threads as there are cores. `member_ids`: whose; default all.
    """
    entries = (
        entry
        for entry in store.ledger.entries()
        if entry.row["status"] == "done" and (member_ids is None or str(entry.row["id"]) in member_ids)
    )
    while some := list(islice(entries, _ENTRIES_AT_ONCE)):  # few, for they bring their histories
        yield from _damage_of(store, some)


def _damage_of(store: Store, entries: Iterable[Entry]) -> Iterator[Finding]:
    kinds = tuple(reversed(tuple(FILE_KINDS)))  # predictions first
    checks: list[tuple[Entry, str, Path]] = []
    for entry in entries:
        key = str(entry.row["id"])
        if entry.intact:
            checks += [(entry, kind, store.file_of(kind, key)) for kind in kinds]
        else:
            yield Finding("entry", store.ledger.path, f"{store.ledger.path}: {_MISMATCH} in the entry of {key}", key)
    recorded = {path: entry.row.get(f"{kind}_digest") for entry, kind, path in checks}
    for finding in _in_threads(_member_file, checks):
        if finding.kind != "damaged" or not _renewed_meanwhile(store, finding, recorded[finding.path]):
            yield finding


def other_bits(store: Store) -> Iterator[Finding]:
    """Members that were trained by other bits than more members of their program, by what their fingerprints say."""
    for found in store.fingerprints().values():
        most, *others = sorted(found, key=lambda bits: -len(found[bits]))
        for bits in others:
            fewer, more = found[bits], found[most]
            text = (
                f"{store.ledger.path}: {len(fewer)} member(s) such as {fewer[0]} were trained by graphs that compute "
                f"other bits ({bits[:12]}) than those of {len(more)} such as {more[0]} ({most[:12]}), of the same "
                "program on the same kind of device: no command can tell which are right: run the experiment anew in "
                "another store"
            )
            yield Finding("other bits", store.ledger.path, text, fewer[0])


def label_damage(store: Store) -> Iterator[Finding]:
    """Labels that are not what their names say, and labels of finished members that are missing."""
    there = sorted((store.path / "labels").glob("*.safetensors"))
    yield from _in_threads(_label_file, there)
    for name in sorted(_of(store, "labels", "done")):
        if store.labels_path(name) not in there:
            yield Finding("missing", store.labels_path(name), f"{store.labels_path(name)}: missing")


def checkpoint_damage(store: Store) -> Iterator[Finding]:
    """Checkpoints that do not match the digest that they carry."""
    for path in sorted((store.path / "checkpoints").glob("*.safetensors")):
        try:
            tensors = load_tensors(path)
            recorded = tensors.pop(CHECKPOINT_DIGEST, torch.empty(0))
            if bytes(recorded.to(torch.uint8).tolist()) == digest(tensors).encode():
                continue
            yield Finding("damaged", path, f"{path}: {_MISMATCH}")
        except StoreError as error:
            yield Finding("damaged", path, str(error))


def leftovers(store: Store) -> Iterator[Finding]:
    """Files that no entry refers to, and what was set aside."""
    done, damaged = _of(store, "id", "done"), _of(store, "id", "damaged")
    for path in store.half_written():
        yield Finding("half-written", path, f"{path}: half-written by a run that was cut short")
    for folder in FILE_KINDS.values():
        for path in _others(store.path / folder, done | damaged):
            yield Finding("orphan", path, f"{path}: of no finished member")
    for path in _others(store.path / "labels", _of(store, "labels", "done", "damaged")):
        yield Finding("orphan", path, f"{path}: labels of no finished member")
    for path in sorted((store.path / "checkpoints").glob("*.safetensors")):
        if path.stem in done:
            yield Finding("left over", path, f"{path}: of a member that is finished")
    for path in sorted((store.path / DAMAGED).glob("*")):
        yield Finding("set aside", path, f"{path}: set aside as damaged")


_MISMATCH = "does not match its digest"


def _renewed_meanwhile(store: Store, finding: Finding, recorded: str | None) -> bool:
    """Whether a run has made the file anew since the entry was read, and entered that."""
    entry = store.ledger.entry(str(finding.member))
    kind = next(kind for kind, folder in FILE_KINDS.items() if folder == finding.path.parent.name)
    return entry is not None and entry.row.get(f"{kind}_digest") != recorded


def _member_file(check: tuple[Entry, str, Path]) -> Finding | None:
    entry, kind, path = check
    key, recorded = str(entry.row["id"]), entry.row.get(f"{kind}_digest")
    if not path.exists():
        needed = kind == "predictions"
        return Finding("missing", path, f"{path}: cannot be read: it is missing", key) if needed else None
    try:
        matches = recorded is None or digest_of_file(path) == recorded
        new = renewed(path)
        if matches or (new.exists() and digest_of_file(new) == recorded):  # which the next run puts in place
            return None
    except StoreError as error:
        return Finding("damaged", path, str(error), key)
    return Finding("damaged", path, f"{path}: {_MISMATCH}", key)


def _label_file(path: Path) -> Finding | None:
    try:
        matches = digest_of_file(path).startswith(path.stem)
    except StoreError as error:
        return Finding("damaged", path, str(error))
    return None if matches else Finding("damaged", path, f"{path}: {_MISMATCH}")


def _in_threads(check: Callable[[Subject], Finding | None], subjects: Iterable[Subject]) -> Iterator[Finding]:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        yield from (finding for finding in pool.map(check, subjects) if finding is not None)


def _others(folder: Path, known: Collection[str]) -> list[Path]:
    return sorted(path for path in folder.glob("*.safetensors") if path.stem not in known)


def _of(store: Store, column: str, *statuses: str) -> set[str]:
    """What a column holds for members of these statuses."""
    marks = ", ".join("?" * len(statuses))
    with store.ledger.opened() as database:
        found = database.execute(f"SELECT DISTINCT {column} FROM members WHERE status IN ({marks})", statuses)
        return {value for (value,) in found if value is not None and flaw({column: value}) is None}

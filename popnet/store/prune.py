"""Removes from a store what no member needs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from popnet.store.files import remove
from popnet.store.store import FILE_KINDS, Store
from popnet.store.verify import leftovers


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be: files, their bytes in all, and members that are no longer in the ledger."""

    files: tuple[Path, ...]
    size: int
    members: tuple[str, ...]


def prune(
    store: Store, needed: Collection[str] | None = None, checkpoints: bool = False, dry_run: bool = False
) -> Pruned:
    """Remove half-written files, files of no finished member, what was set aside, and checkpoints of finished members.

    Args:
        store: locked by this process.
        needed: also remove every member, whatever became of it, that is not one of these.
        checkpoints: also remove how far unfinished members are, which then begin anew.
        dry_run: remove nothing.

    Raises:
        StoreError: the ledger cannot be written, or a file not removed.
    """
    gone = [] if needed is None else [str(key) for key in store.members().index if key not in needed]
    files = {finding.path for finding in leftovers(store)}
    files |= {path for key in gone for kind in FILE_KINDS if (path := store.file_of(kind, key)).exists()}
    if checkpoints:
        files |= set((store.path / "checkpoints").glob("*.safetensors"))
    pruned = Pruned(tuple(sorted(files)), sum(path.stat().st_size for path in files), tuple(gone))
    if not dry_run:
        store.ledger.remove(gone)  # first: a file without an entry is only in the way, the reverse is damage
        for path in pruned.files:
            remove(path)
    return pruned

"""Brings a store to where the next run trains what is damaged: nothing is deleted, only set aside."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path

from popnet.errors import StoreError
from popnet.store.files import sync_folder, written_aside
from popnet.store.header import DamagedHeader, read_header, write_header
from popnet.store.ledger import Ledger
from popnet.store.lock import Lock
from popnet.store.store import DAMAGED, Store, check_no_links
from popnet.store.verify import Finding, checkpoint_damage, label_damage, member_damage

Tell = Callable[[str], None]


def repair(path: Path, tell: Tell = lambda text: None) -> bool:
    """Set everything damaged aside, and keep of a damaged ledger the entries that match their digests.

    The next run trains again the members that lost something it needs; their bits are the same. A store.json that is
    damaged is replaced by an empty one, which the next run of each experiment fills.

    Args:
        path: the store's folder.
        tell: is told of each thing that is set aside.

    Returns:
        Whether anything was wrong.

    Raises:
        StoreError: there is no store, another run has it, or it cannot be written.
    """
    told: list[str] = []

    def note(text: str) -> None:
        told.append(text)
        tell(text)

    if not ((path / "store.json").exists() or (path / "ledger.sqlite").exists()):
        raise StoreError(f"{path}: no popnet store here (store.json is missing)")
    check_no_links(path)
    lock = Lock(path / "lock")
    lock.acquire()
    try:
        _repair_header(path, note)
        _repair_ledger(path, note)
    except OSError as error:
        raise StoreError(f"{path}: cannot be repaired: {error}") from None
    finally:
        lock.release()
    store = Store(path)
    store.lock()
    try:
        set_damage_aside(store, None, note)
    finally:
        store.unlock()
    return bool(told)


def set_damage_aside(store: Store, member_ids: Collection[str] | None, tell: Tell) -> None:
    """Set the damaged files of members, labels and checkpoints aside, so that what they held is made again.

    Args:
        store: locked by this process.
        member_ids: the members to look at; default all.
        tell: is told of each.

    Raises:
        StoreError: the ledger itself is damaged, or the store cannot be written.
    """
    problem = store.ledger.problem()
    if problem is not None:
        raise StoreError(problem)
    incomplete: dict[str, str] = {}
    for finding in [*member_damage(store, member_ids), *label_damage(store), *checkpoint_damage(store)]:
        text = finding.text
        if finding.kind == "damaged":
            text = f"{text}: set aside as {_move(store.path, finding.path)}"
        tell(text)
        if finding.member is not None and _essential(finding):
            incomplete[finding.member] = text
    if incomplete:
        store.ledger.mark_damaged(incomplete)


def _essential(finding: Finding) -> bool:
    """Whether a member is not finished without it; weights and the like are missed by the recipes that keep them."""
    return finding.kind == "entry" or finding.path.parent.name == "members"


def _repair_header(path: Path, tell: Tell) -> None:
    header = path / "store.json"
    try:
        read_header(path)
    except DamagedHeader:
        was = f"damaged: set aside as {_move(path, header)}" if header.exists() else "missing"
        write_header(path, {})
        tell(f"{header}: {was}: a new one is there, which the next run of each experiment fills")


def _repair_ledger(path: Path, tell: Tell) -> None:
    """Put one of the intact entries in place of a damaged ledger. A kill at any moment leaves one of the two."""
    old = Ledger(path)
    problem = old.problem()
    if problem is None and all(entry.flaw is None for entry in old.entries()):
        return
    aside = path / ".repair"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    new = Ledger(aside)
    new.create()
    with suppress(StoreError):  # of a file that is no ledger at all
        entries = old.salvage() if problem is not None else old.entries()
        new.write((entry.row, entry.history) for entry in entries if entry.flaw is None)
    kept = sum(1 for _ in new.entries())
    copies = _copy(path, _parts(old))
    for part in _parts(old):
        if part != old.path:
            part.unlink()
    new.path.replace(old.path)
    sync_folder(path)
    shutil.rmtree(aside)
    was = f"damaged: copied to {', '.join(map(str, copies))}" if copies else "missing"
    tell(f"{old.path}: {was}: a new one is there, with the {kept} members whose entries are intact")


def _parts(ledger: Ledger) -> list[Path]:
    """The ledger's file, and what SQLite has beside it."""
    return sorted(ledger.path.parent.glob(f"{ledger.path.name}*"))


def _copy(store: Path, paths: Iterable[Path]) -> list[Path]:
    """Copy files into the folder of damaged ones; returns where they are."""
    copies = []
    for path in paths:
        copies.append(_free(store, path.name))
        with path.open("rb") as content, written_aside(copies[-1]) as file:
            shutil.copyfileobj(content, file)
    return copies


def _move(store: Path, path: Path) -> Path:
    """Move a file of a store into its folder of damaged ones; returns where it is."""
    name = path.name if path.parent == store else f"{path.parent.name}-{path.name}"
    target = _free(store, name)
    try:
        path.replace(target)
        for folder in (target.parent, path.parent):
            sync_folder(folder)
    except OSError as error:
        raise StoreError(f"{path}: cannot be set aside: {error.strerror}") from None
    return target


def _free(store: Path, name: str) -> Path:
    """A name in the folder of damaged files that nothing has yet."""
    folder = store / DAMAGED
    try:
        folder.mkdir(exist_ok=True)
        sync_folder(store)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made: {error.strerror}") from None
    names = itertools.chain([name], (f"{number}-{name}" for number in itertools.count(2)))
    return next(folder / free for free in names if not (folder / free).exists())

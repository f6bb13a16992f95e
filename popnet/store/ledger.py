"""The ledger: an SQLite file with a row for each member and its history, each entry under a digest."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popnet.config import SOURCES
from popnet.errors import StoreError
from popnet.store.rows import COLUMNS, HISTORY, flaw
from popnet.untrusted.ledgers import bounded_rows, check_journal, check_schema, limit_work, restrict

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS members (
    id TEXT PRIMARY KEY, status TEXT NOT NULL, {", ".join(f"{source} TEXT NOT NULL" for source in SOURCES)},
    replica INTEGER NOT NULL, onset INTEGER NOT NULL, recipe TEXT NOT NULL, identity TEXT NOT NULL, views TEXT,
    labels TEXT, accuracy REAL, cross_entropy REAL, weights_digest TEXT, predictions_digest TEXT, error TEXT,
    seconds REAL, device TEXT NOT NULL, versions TEXT NOT NULL, finished TEXT NOT NULL,
    features_digest TEXT, trajectory_digest TEXT, entry_digest TEXT, fingerprint TEXT);
CREATE TABLE IF NOT EXISTS history (
    id TEXT NOT NULL, epoch INTEGER NOT NULL, learning_rate REAL, train_loss REAL, test_accuracy REAL,
    test_cross_entropy REAL, PRIMARY KEY (id, epoch));
"""

_TABLES = {"members": COLUMNS, "history": ("id", *HISTORY)}

_ADDED = ("features_digest", "trajectory_digest", "entry_digest", "fingerprint")
"""Columns that a ledger lacks which was begun before they were; added when the next run takes the store."""

_OF_FILES = ("features_digest", "trajectory_digest")
"""They outlive an entry that says nothing of them: the file that they describe is still there."""

_EMPTY = (
    *("views", "labels", "accuracy", "cross_entropy", "weights_digest", "predictions_digest", "error", "seconds"),
    *(*_OF_FILES, "fingerprint"),
)
"""What an entry leaves null where it does not say otherwise."""

_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "fuse.", "9p", "afs")

_SIGNS_OF_DAMAGE = ("malformed", "not a database", "decode to UTF-8", "no such table", "damaged", "a ledger holds")
"""What SQLite says of a file that is no ledger, or no longer."""

Row = dict[str, Any]
History = Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class Entry:
    """A member's row, and its history: (epoch, learning_rate, train_loss, test_accuracy, test_cross_entropy)."""

    row: Row
    history: tuple[tuple[float | None, ...], ...]

    @property
    def digest(self) -> str:
        """SHA-256 of what the row says as JSON, and of the history as float64 (little-endian; NaN for null).

        Nulls of the row do not count, so a column that is added later changes nothing.
        """
        said = {name: value for name, value in self.row.items() if value is not None and name != "entry_digest"}
        hashed = hashlib.sha256(json.dumps(said, sort_keys=True, default=repr).encode())
        values = [math.nan if value is None else value for line in self.history for value in line]
        try:
            hashed.update(struct.pack(f"<{len(values)}d", *values))
        except (struct.error, OverflowError):
            return "no digest: the history holds what is no number"
        return hashed.hexdigest()

    @property
    def intact(self) -> bool:
        """Whether it says what a member's entry can say, and matches its digest, where it has one."""
        return self.flaw is None and self.row.get("entry_digest") in (None, self.digest)

    @property
    def flaw(self) -> str | None:
        """What no entry of a member says."""
        return flaw(self.row) or next(filter(None, (flaw(dict(zip(HISTORY, line))) for line in self.history)), None)


class Ledger:
    """The ledger in a store's folder.

    Every method raises StoreError for whatever SQLite cannot do, a damaged file included.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.sqlite"
        self._held: sqlite3.Connection | None = None

    def create(self) -> None:
        """Make an empty one where there is none. Raises OSError too."""
        self.path.touch()
        with self._named_errors(), closing(self._connect()) as database:
            database.executescript(_SCHEMA)

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """A connection for the block: while held always the same, since closing the last one costs two more flushes.

        It can do what reading the whole ledger takes; what changes it asks for more with `limit_work`.
        """
        with self._named_errors():
            if self._held is not None:
                limit_work(self._held, self._size())
                yield self._held
                return
            with closing(self._connect()) as database:
                limit_work(database, self._size())
                check_schema(database, _TABLES)
                yield database

    def checked(self, found: sqlite3.Cursor) -> Iterator[tuple[Any, ...]]:
        """The rows of a query of `members` or `history`, together no longer than the file. Raises StoreError."""
        names = [column[0] for column in found.description]
        with self._named_errors():
            for row in bounded_rows(found, self._size()):
                wrong = flaw(dict(zip(names, row)))
                if wrong is not None:
                    raise ValueError(f"damaged: {wrong}")
                yield row

    def _size(self) -> int:
        """Bytes of the ledger with what is beside it, and of a page more for what SQLite has in memory alone."""
        return sum(path.stat().st_size for path in self.path.parent.glob(f"{self.path.name}*")) + 65536

    def hold(self) -> None:
        """Keep a connection for the run that has the lock, and bring an older ledger up to date."""
        with self._named_errors():
            database = self._connect()
            try:
                limit_work(database, self._size())
                check_schema(database, _TABLES)
                _add_columns(database)
            except BaseException:
                database.close()
                raise
            self._held = database

    def release(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def write(self, entries: Iterable[tuple[Mapping[str, Any], History]]) -> None:
        """Enter members, each in place of what was there, in one transaction: the disk is waited for once."""
        with self.opened() as database, database:
            for row, history in entries:
                limit_work(database)
                _write(database, row, history)

    def mark_damaged(self, problems: Mapping[str, str]) -> None:
        """Have members trained again, by id, for the reason given."""
        with self.opened() as database, database:
            for key, reason in problems.items():
                limit_work(database)
                database.execute("UPDATE members SET status = 'damaged', error = ? WHERE id = ?", [reason, key])
                _seal(database, key)

    def note(self, member_id: str, error: str) -> None:
        """Put an error beside what is said of a member, which stays as it is."""
        with self.opened() as database, database:
            limit_work(database)
            database.execute("UPDATE members SET error = ? WHERE id = ?", [error, member_id])
            _seal(database, member_id)

    def remove(self, member_ids: Sequence[str]) -> None:
        with self.opened() as database, database:
            for key in member_ids:
                limit_work(database)
                for table in _TABLES:
                    database.execute(f"DELETE FROM {table} WHERE id = ?", [key])

    def entry(self, member_id: str) -> Entry | None:
        """What is said of a member; None where nothing is. Raises StoreError for what no entry says, too."""
        with self.opened() as database:
            found = _entry(database, "id", member_id)
            if found is not None and found.flaw is not None:
                raise ValueError(f"damaged: {found.flaw}")
            return found

    def entries(self) -> Iterator[Entry]:
        """Every entry; bytes that are no text are read as some, which does not match the digest."""
        with self.opened() as database:
            try:
                database.text_factory = _lenient
                for (rowid,) in database.execute("SELECT rowid FROM members ORDER BY rowid").fetchall():
                    if (entry := _entry(database, "rowid", rowid)) is not None:
                        yield entry
            finally:
                database.text_factory = str

    def fingerprints(self) -> list[tuple[str, str]]:
        """Id and fingerprint of each finished member that has one, in the order in which they were entered."""
        with self.opened() as database:
            if "fingerprint" not in _columns(database):
                return []
            try:
                database.text_factory = _lenient
                found = database.execute(
                    "SELECT id, fingerprint FROM members WHERE status = 'done' AND fingerprint IS NOT NULL "
                    "ORDER BY rowid"
                ).fetchall()
            finally:
                database.text_factory = str
        return [(key, text) for key, text in found if flaw({"id": key, "fingerprint": text}) is None]

    def salvage(self) -> Iterator[Entry]:
        """The entries of a damaged file that can be read and match their digests, row by row."""
        with (
            self._named_errors(),
            closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as old,
        ):
            restrict(old)
            limit_work(old, self._size())
            check_schema(old, _TABLES)
            old.text_factory = _lenient
            for rowid in range(1, _largest_rowid(old, self._size()) + 1):
                try:
                    entry = _entry(old, "rowid", rowid)
                except sqlite3.Error:
                    continue
                if entry is not None and entry.intact and "entry_digest" in entry.row and entry.row["entry_digest"]:
                    yield entry

    def problem(self) -> str | None:
        """What SQLite's own check says of the file, or None."""
        try:
            with self.opened() as database:
                (answer,) = database.execute("PRAGMA integrity_check(1)").fetchone()
                for table in ("members", "history"):
                    database.execute(f"SELECT 1 FROM {table} LIMIT 1")
        except StoreError as error:
            return str(error)
        return None if answer == "ok" else f"{self.path}: damaged: {answer.splitlines()[-1]}{self._remedy}"

    @property
    def _remedy(self) -> str:
        return f": `popnet store repair {self.path.parent}` keeps what can be read"

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError) as error:
            damaged = any(words in str(error) for words in _SIGNS_OF_DAMAGE)
            raise StoreError(f"{self.path}: {error}{self._remedy if damaged else ''}") from None

    def _connect(self) -> sqlite3.Connection:
        check_journal(self.path)
        location = self.path.absolute().as_uri()
        if not os.access(self.path.parent, os.W_OK, effective_ids=True) and self.path.exists():
            # Nobody else writes here either; but what a killed run left beside the file must be read with it.
            log = self.path.with_name(f"{self.path.name}-wal")
            unfinished = log.exists() and log.stat().st_size > 0
            database = sqlite3.connect(
                f"{location}?mode=ro{'' if unfinished else '&immutable=1'}", timeout=30, uri=True
            )
            restrict(database)
            return database
        database = sqlite3.connect(f"{location}?mode=rw", timeout=30, uri=True)
        restrict(database)
        local = not _file_system(self.path.parent).startswith(_NETWORK_FILE_SYSTEMS)
        try:
            database.execute(f"PRAGMA journal_mode={'WAL' if local else 'DELETE'}")
            database.execute("PRAGMA synchronous=FULL")
        except sqlite3.Error:
            database.close()
            raise
        return database


def _add_columns(database: sqlite3.Connection) -> None:
    there = _columns(database)
    missing = [column for column in _ADDED if column not in there]
    if not missing:
        return
    database.execute("BEGIN IMMEDIATE")
    with database:
        for column in missing:
            database.execute(f"ALTER TABLE members ADD COLUMN {column} TEXT")
        if "entry_digest" not in missing:
            return  # a new column is null, which changes no digest; a new one would hide that an entry is damaged
        for (key,) in database.execute("SELECT id FROM members").fetchall():
            _seal(database, key)


def _columns(database: sqlite3.Connection) -> set[str]:
    return {row[1] for row in database.execute("PRAGMA table_info(members)")}


def _write(database: sqlite3.Connection, row: Mapping[str, Any], history: History) -> None:
    said = {**dict.fromkeys(_EMPTY), **row}
    marks = ", ".join("?" * len(said))
    kept = {name: f"COALESCE(excluded.{name}, members.{name})" for name in _OF_FILES}
    update = ", ".join(f"{name} = {kept.get(name, f'excluded.{name}')}" for name in said if name != "id")
    database.execute(
        f"INSERT INTO members ({', '.join(said)}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {update}",
        list(said.values()),
    )
    database.execute("DELETE FROM history WHERE id = ?", [said["id"]])
    database.executemany("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)", [(said["id"], *line) for line in history])
    _seal(database, said["id"])


def _seal(database: sqlite3.Connection, member_id: str) -> None:
    """Put the digest of an entry beside it: of what SQLite gives back, where NaN is null."""
    entry = _entry(database, "id", member_id)
    if entry is not None:
        database.execute("UPDATE members SET entry_digest = ? WHERE id = ?", [entry.digest, member_id])


def _entry(database: sqlite3.Connection, column: str, value: Any) -> Entry | None:
    found = database.execute(f"SELECT * FROM members WHERE {column} = ?", [value])
    row = found.fetchone()
    if row is None:
        return None
    named = dict(zip((field[0] for field in found.description), row))
    history = database.execute(
        "SELECT epoch, learning_rate, train_loss, test_accuracy, test_cross_entropy FROM history WHERE id = ? "
        "ORDER BY epoch",
        [named["id"]],
    )
    return Entry(named, tuple(history.fetchall()))


def _largest_rowid(database: sqlite3.Connection, size: int) -> int:
    rows = size // _LEAST_ROW
    try:
        (largest,) = database.execute("SELECT max(rowid) FROM members").fetchone()
    except sqlite3.Error:
        return rows
    return min(int(largest or 0), _TRAININGS_OF_A_MEMBER * rows)


_LEAST_ROW = 256
"""Bytes that a member's row takes at the least: its identity alone is longer."""

_TRAININGS_OF_A_MEMBER = 16
"""Each took a new rowid in the first ledgers; more are not looked for."""


def _lenient(text: bytes) -> str:
    return text.decode(errors="replace")


def _file_system(path: Path) -> str:
    """The type of the file system that holds `path`, from the longest mount point above it; '' where unknown."""
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return ""
    target, best, kind = str(path.resolve()), "", ""
    for line in mounts:
        _, point, name, *_ = line.split(" ")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, name
    return kind

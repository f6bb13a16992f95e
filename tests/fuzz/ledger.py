"""A store's own two files: ledger.sqlite and store.json, with the members' files that they name."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import torch

from popnet.config import from_mapping
from popnet.protocol import ORIGINAL, Platform, plan
from popnet.results.stores.plans import stored_plans
from popnet.results.stores.rows import runs_of_store
from popnet.store import Finished, Store, digest, open_store, save_tensors

from .arrays import every
from .loaders import Loader
from .mutation import mutated

_EXPERIMENT = {
    "name": "tiny",
    "recipe": {
        "dataset": "digits",
        "model": "linear",
        "epochs": 2,
        "batch_size": 16,
        "optimizer": {"name": "sgd", "lr": 0.1},
    },
    "population": 3,
    "variants": [{"name": "Initialization", "vary": ["init"]}, {"name": "Determinism", "replicas": True}],
}
_LABELS = "0123456789abcdef01234567"

_VALUES = (
    *("NULL", "''", "'../../outside'", "'/etc/passwd'", "'[]'", "'{}'", "'[[0,0,0],[1,0]]'", "'[[\"a\",2,3]]'", "'x'"),
    *("-1", "1e999", "x'ff00'", "9223372036854775807", "zeroblob(100000)", "printf('%.*c', 70000, '[')", "'done'"),
    *("'99999999999999999999999'", "char(0, 1, 27)", "hex(zeroblob(20000))", "'{\"torch\": 1}'", "'[1]'", "'null'"),
)
_COLUMNS = (
    *(
        "id",
        "status",
        "init",
        "kernels",
        "bit",
        "replica",
        "onset",
        "recipe",
        "identity",
        "views",
        "labels",
        "accuracy",
    ),
    *("weights_digest", "predictions_digest", "error", "seconds", "device", "versions", "finished"),
)
_STEPS, _LENGTH = 1_000_000, 1 << 20
"""Of SQLite's machine, and in bytes of a value, that a script may take: inputs are to be made in no time."""

_RENAMED = "ALTER TABLE members RENAME TO hidden; "
_PROGRAMS = (
    _RENAMED + "CREATE VIEW members AS SELECT * FROM hidden",
    _RENAMED + "CREATE VIEW members AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT hidden.* FROM n, hidden",
    _RENAMED + "CREATE VIRTUAL TABLE members USING fts5(id, status, views)",
    "CREATE TRIGGER t AFTER INSERT ON members BEGIN DELETE FROM history; END",
    "CREATE TRIGGER t BEFORE UPDATE ON members BEGIN SELECT randomblob(1000000000); END",
    "ALTER TABLE members ADD COLUMN more AS (zeroblob(1000000000))",
    "CREATE TABLE other (a)",
    "CREATE INDEX slow ON members (length(identity))",
    "DROP TABLE history",
    "ALTER TABLE history RENAME COLUMN epoch TO time",
    "ALTER TABLE members DROP COLUMN views",
    "DELETE FROM members",
    "UPDATE history SET epoch = epoch + 1000000, train_loss = 'much'",
    "INSERT INTO history SELECT id, epoch + 50, 'a', x'00', NULL, 1e999 FROM history",
    "PRAGMA writable_schema=ON; "
    "UPDATE sqlite_master SET sql = 'CREATE TABLE members (id, CHECK (id))' WHERE name = 'members'",
    "PRAGMA user_version = 7; PRAGMA application_id = 7",
)  # fmt: skip


def _sql(draw: random.Random, content: bytearray) -> None:
    """The content of the ledger, by SQL: a sound file with other rows or another schema."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(":memory:")) as database:
        database.set_progress_handler(lambda: True, _STEPS)
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LENGTH)
        database.deserialize(bytes(content))
        script = draw.choice(_PROGRAMS)
        if draw.random() < 0.7:
            script = f"UPDATE members SET {draw.choice(_COLUMNS)} = {draw.choice(_VALUES)}"
            script += draw.choice(("", " WHERE rowid = 1"))
        with suppress(sqlite3.Error, UnicodeDecodeError):  # which its own error can raise
            database.executescript(script)
        database.commit()
        content[:] = database.serialize()


def _page(draw: random.Random, content: bytearray) -> None:
    """A page number or an offset at the beginning of a page."""
    size = 512 if len(content) % 4096 else 4096
    begin = draw.randrange(max(len(content) // size, 1)) * size
    place = begin + (100 if begin == 0 else 0) + draw.randrange(24)
    content[place : place + 2] = draw.choice((0, 1, 2, 3, 255, 65535, draw.randrange(65536))).to_bytes(2, "big")


def _copy_page(draw: random.Random, content: bytearray) -> None:
    """A page in another's place: rows that are there twice, pages that refer to themselves."""
    size = 512 if len(content) % 4096 else 4096
    pages = max(len(content) // size, 1)
    a, b = (draw.randrange(pages) * size for _ in range(2))
    content[a : a + size] = content[b : b + size]


def _json(draw: random.Random, content: bytearray) -> None:
    """A value somewhere in store.json."""
    with suppress(ValueError, KeyError, IndexError, TypeError):
        header = json.loads(bytes(content))
        inner = header
        while draw.random() < 0.8:
            following = inner[draw.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))]
            if not isinstance(following, (dict, list)) or not following:
                break
            inner = following
        key = draw.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        values = (None, [], {}, 10**12, -1, 1e308, "x", "../../x", "a" * 1000, True, [[[]]], {"import": "fuzz_trap:x"})
        inner[key] = draw.choice(values)
        content[:] = json.dumps(header).encode()


class Ledger(Loader):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._outside = folder / "outside.safetensors"
        save_tensors(self._outside, {"predictions": torch.zeros(1, 4, 10)})
        self._store = folder / "store" / "here"
        self._ids = _made(self._store)
        path = self._store / "ledger.sqlite"
        self._valid = _pages_of(path, 512), (self._store / "store.json").read_bytes()
        ledgers = _pages_of(path, 4096), self._valid[0]
        self.samples = (*(b"L" + ledger for ledger in ledgers), b"J" + self._valid[1])

    def input(self, seed: int, number: int) -> bytes:
        draw = random.Random(f"{seed} {number}")
        sample = self.samples[draw.choice((0, 1, 1, 2))]
        return sample[:1] + mutated(
            draw, sample[1:], (_json,) if sample[:1] == b"J" else (_sql, _sql, _page, _copy_page)
        )

    def load(self, content: bytes, number: int) -> None:
        of_ledger = content[:1] == b"L"
        for path in self._store.glob("ledger.sqlite*"):
            path.unlink()
        (self._store / "ledger.sqlite").write_bytes(content[1:] if of_ledger else self._valid[0])
        (self._store / "store.json").write_bytes(self._valid[1] if of_ledger else content[1:])
        store = open_store(self._store)
        every(*self._always(store), *self._sometimes(store)[number % 4 :: 4])

    def _always(self, store: Store) -> list[Callable[[], object]]:
        return [store.members, store.done, store.labels, store.experiments]

    def _sometimes(self, store: Store) -> list[Callable[[], object]]:
        first = self._ids[0]
        return [
            lambda: stored_plans(store),
            lambda: runs_of_store(f"{self._store}:Initialization"),
            store.verify,
            lambda: _run(store),
            lambda: store.history(first),
            lambda: store.views(first),
            lambda: store.predictions(first),
            lambda: store.labels(first),
            lambda: [store.history(str(key)) for key in store.members().index],
            lambda: [store.predictions(str(key)) for key in store.members().index],
        ]


def _run(store: Store) -> None:
    """What a run does with a store before and after its trainings."""
    store.lock()
    try:
        experiment = from_mapping(_EXPERIMENT)
        store.register(experiment, {"digits": "0" * 64})
        member = plan(experiment, Platform("cpu", ())).members[0]
        store.record_failed(member, "of the fuzz test", 1.0)
        store.remove_checkpoints()
    finally:
        store.unlock()


def _made(path: Path) -> list[str]:
    """A store of one small experiment, without a training; the ids of its members."""
    path.parent.mkdir()
    store = Store(path, create=True)
    experiment = from_mapping(_EXPERIMENT)
    store.register(experiment, {"digits": "0" * 64})
    members = plan(experiment, Platform("cpu", (("torch", "2"),))).members
    save_tensors(path / "labels" / f"{_LABELS}.safetensors", {"labels": torch.tensor([0, 1, 2, 3])})
    for m in members:
        predictions = {"predictions": torch.rand(1, 4, 10)}
        save_tensors(store.predictions_path(m.id), predictions)
        history = ((1, 0.1, 2.0, 50.0, 1.5), (2, 0.05, 1.0, 75.0, 1.0))
        sealed = Finished((ORIGINAL,), _LABELS, 75.0, 1.0, "0" * 64, digest(predictions), history, 1.0)
        store.record_done(m, sealed)
    return [m.id for m in members]


def _pages_of(path: Path, size: int) -> bytes:
    """The ledger with pages of another size, without a log beside it."""
    aside = path.with_name("aside")
    shutil.copy(path, aside)
    with closing(sqlite3.connect(aside)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute(f"PRAGMA page_size={size}")
        database.execute("VACUUM")
    content = aside.read_bytes()
    aside.unlink()
    return content

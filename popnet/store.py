"""The store: a folder that holds every finished member's predictions, history and provenance.

    store.json                  format version, and the experiments that were run here with their recipes
    ledger.sqlite               one row for each member; only the driver writes it
    lock                        held by the run that writes
    labels/DIGEST.safetensors   the test labels of each data set
    members/ID.safetensors      predictions [views, examples, classes] float32; of a language model: LanguagePredictions
    weights/ID.safetensors      where the recipe keeps weights
    features/ID.safetensors     where it names representations: [examples, ...] float32 of each layer
    trajectories/ID.safetensors where it keeps the weights of every epoch: [epochs + 1, weights] float32
    checkpoints/ID-EPOCH.safetensors   beginnings that unfinished members share; removed when none needs them
    checkpoints/ID-beginning.safetensors   how far the training of such a beginning is
    checkpoints/ID.safetensors         how far an unfinished member is; removed when it is finished
    tables/NAME.csv             what the last run printed

Files are written aside, flushed to disk and renamed, and only then entered in the ledger: whatever the ledger calls
done is there in full, and whatever was cut short is trained again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from popnet.config import SOURCES, Experiment
from popnet.errors import StoreError
from popnet.protocol import ORIGINAL, Member, View

FORMAT = 1
"""Raised when the layout changes; a store of another format is refused."""

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS members (
    id TEXT PRIMARY KEY, status TEXT NOT NULL, {", ".join(f"{source} TEXT NOT NULL" for source in SOURCES)},
    replica INTEGER NOT NULL, onset INTEGER NOT NULL, recipe TEXT NOT NULL, identity TEXT NOT NULL, views TEXT,
    labels TEXT, accuracy REAL, cross_entropy REAL, weights_digest TEXT, predictions_digest TEXT, error TEXT,
    seconds REAL, device TEXT NOT NULL, versions TEXT NOT NULL, finished TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS history (
    id TEXT NOT NULL, epoch INTEGER NOT NULL, learning_rate REAL, train_loss REAL, test_accuracy REAL,
    test_cross_entropy REAL, PRIMARY KEY (id, epoch));
"""

_FOLDERS = ("members", "weights", "features", "trajectories", "checkpoints", "labels", "tables")

_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "fuse.", "9p", "afs")


@dataclass(frozen=True)
class Finished:
    """What a worker reports of a finished member; its files are already in place."""

    views: tuple[View, ...]
    labels: str
    accuracy: float
    cross_entropy: float
    weights_digest: str
    predictions_digest: str
    history: tuple[tuple[float, ...], ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class LanguagePredictions:
    """What a language model predicts for the test tokens. Its views are its snapshots: one where it has none.

    Attributes:
        target_log_probabilities: float32 [views, tokens], nats: of the word that comes.
        argmax: int32 [views, tokens]: the most probable word, the lowest number on ties.
        mean_argmax: int32 [tokens]: the same of the mean of the views' probabilities; None where not kept, and for one
            view `argmax[0]`.
        logits: float32 [views, positions, vocabulary] at fixed positions; None where the recipe keeps none.

    In a member's file these are tensors of the same names.
    """

    target_log_probabilities: NDArray[np.float32]
    argmax: NDArray[np.int32]
    mean_argmax: NDArray[np.int32] | None = None
    logits: NDArray[np.float32] | None = None


class Store:
    """A store opened for reading, or, through `locked`, for one run."""

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        self.path = Path(path)
        self._lock: BinaryIO | None = None
        self._database: sqlite3.Connection | None = None
        header = self.path / "store.json"
        if not header.exists():
            if not create:
                raise StoreError(f"{self.path}: no popnet store here (store.json is missing)")
            if self.path.is_dir() and not all(_left_by_creation(entry) for entry in self.path.iterdir()):
                raise StoreError(
                    f"{self.path}: the folder is not empty and holds no popnet store: choose another --store"
                )
            self._create()
        self._header = self._read_header()

    def _create(self) -> None:
        try:
            for folder in _FOLDERS:
                (self.path / folder).mkdir(parents=True, exist_ok=True)
            (self.path / "ledger.sqlite").touch()
        except OSError as error:
            raise StoreError(f"{self.path}: cannot create a store here: {error.strerror}") from None
        with self._ledger() as database:
            database.executescript(_SCHEMA)
        self._write_header({"format": FORMAT, "experiments": {}})

    def _read_header(self) -> dict[str, Any]:
        path = self.path / "store.json"
        try:
            header = json.loads(path.read_text(encoding="utf-8"))
            version, experiments = header["format"], header.get("experiments")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{path}: damaged: {type(error).__name__}: {error}") from None
        if version != FORMAT:
            raise StoreError(f"{self.path}: store format {version}, but this popnet reads format {FORMAT}")
        if not isinstance(experiments, dict):
            raise StoreError(f"{path}: damaged: it lists no experiments")
        return dict(header)

    def _write_header(self, header: dict[str, Any]) -> None:
        write_aside(self.path / "store.json", (json.dumps(header, indent=1, sort_keys=True) + "\n").encode())
        self._header = header

    @contextmanager
    def _ledger(self) -> Iterator[sqlite3.Connection]:
        """A connection for the block: while locked always the same, since closing the last one costs two more flushes.

        Raises StoreError for whatever SQLite cannot do, a damaged file included.
        """
        try:
            if self._database is not None:
                self._database.row_factory = None
                yield self._database
                return
            with closing(self._connect()) as database:
                yield database
        except (sqlite3.Error, pd.errors.DatabaseError) as error:
            raise StoreError(f"{self.path / 'ledger.sqlite'}: {error}") from None

    def _connect(self) -> sqlite3.Connection:
        path = self.path / "ledger.sqlite"
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", timeout=30, uri=True)
        local = not _file_system(self.path).startswith(_NETWORK_FILE_SYSTEMS)
        database.execute(f"PRAGMA journal_mode={'WAL' if local else 'DELETE'}")
        database.execute("PRAGMA synchronous=FULL")
        return database

    # -- one run at a time ---------------------------------------------------------------------------------------------

    def lock(self) -> None:
        """Take the store for this process. Raises StoreError where another run has it."""
        try:
            handle = (self.path / "lock").open("a+b")
        except OSError as error:
            raise StoreError(f"{self.path / 'lock'}: cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            holder = handle.read().decode(errors="replace").strip()
            handle.close()
            raise StoreError(
                f"{self.path}: in use by another run{f' (process {holder})' if holder else ''}: wait for it, or choose "
                "another --store"
            ) from None
        handle.seek(0)
        handle.truncate()
        handle.write(f"{os.getpid()}\n".encode())
        handle.flush()
        self._header = self._read_header()  # another run may have ended since this store was opened
        self._lock = handle
        try:
            with self._ledger():
                self._database = self._connect()
        except StoreError:
            self.unlock()
            raise

    def unlock(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def register(self, experiment: Experiment, datasets: Mapping[str, str]) -> None:
        """Enter an experiment and the digests of its data sets.

        Raises:
            StoreError: the store holds another recipe, or other data, under the same name.
        """
        known = dict(self._header["experiments"])
        before = known.get(experiment.name)
        recipe = experiment.recipe.canonical()
        if before is not None and before["recipe"] != recipe:
            raise StoreError(
                f"{self.path}: holds another recipe under the name {experiment.name!r} "
                f"({_difference(before['recipe'], recipe)}): choose another --store or another name"
            )
        for label, digest in datasets.items():
            old = self._header.get("datasets", {}).get(label, digest)
            if old != digest:
                raise StoreError(
                    f"{self.path}: was made with other data under the name {label!r} (digest {old[:12]} there, "
                    f"{digest[:12]} now): choose another --store"
                )
        known[experiment.name] = {"recipe": recipe, "experiment": experiment.model_dump(mode="json", by_alias=True)}
        self._write_header(
            {
                "format": FORMAT,
                "experiments": known,
                "datasets": {**self._header.get("datasets", {}), **datasets},
            }
        )

    def experiments(self) -> dict[str, dict[str, Any]]:
        """The experiments run here, by name, as plain data."""
        return {name: entry["experiment"] for name, entry in self._header["experiments"].items()}

    # -- writing, by the driver ----------------------------------------------------------------------------------------

    def record_done(self, member: Member, finished: Finished) -> None:
        """Enter a finished member and its history, in one transaction."""
        self.record_all_done([(member, finished)])

    def record_all_done(self, entries: Sequence[tuple[Member, Finished]]) -> None:
        """Enter several finished members and their histories in one transaction: the disk is waited for once."""
        with self._ledger() as database, database:
            for member, finished in entries:
                _insert(
                    database,
                    member,
                    status="done",
                    views=json.dumps([list(view.key) for view in finished.views]),
                    labels=finished.labels,
                    accuracy=finished.accuracy,
                    cross_entropy=finished.cross_entropy,
                    weights_digest=finished.weights_digest,
                    predictions_digest=finished.predictions_digest,
                    seconds=finished.seconds,
                    history=finished.history,
                )

    def record_failed(self, member: Member, error: str, seconds: float) -> None:
        """Enter a member that could not be trained, with its error."""
        with self._ledger() as database, database:
            _insert(database, member, status="failed", error=error, seconds=seconds, history=())

    def save_labels(self, digest: str, labels: NDArray[np.int64]) -> None:
        path = self.path / "labels" / f"{digest}.safetensors"
        if not path.exists():
            write_aside(path, serialise({"labels": torch.from_numpy(labels.copy())}))

    def save_table(self, name: str, table: pd.DataFrame) -> Path:
        path = self.path / "tables" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        write_aside(path, table.to_csv().encode())
        return path

    def remove_leftovers(self) -> None:
        """Remove what killed runs were writing aside; only for the run that holds the lock."""
        for path in self.path.glob("*/.*.part"):
            path.unlink(missing_ok=True)

    def remove_checkpoints(self) -> None:
        """Give back the space of shared beginnings, once nothing waits for them, and of members that are finished."""
        done = self.done()
        for path in (self.path / "checkpoints").glob("*.safetensors"):
            if "-" in path.stem or path.stem in done:
                path.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.path).free

    # -- files, by workers too -----------------------------------------------------------------------------------------

    def predictions_path(self, member_id: str) -> Path:
        return self.path / "members" / f"{member_id}.safetensors"

    def weights_path(self, member_id: str) -> Path:
        return self.path / "weights" / f"{member_id}.safetensors"

    def features_path(self, member_id: str) -> Path:
        return self.path / "features" / f"{member_id}.safetensors"

    def trajectory_path(self, member_id: str) -> Path:
        return self.path / "trajectories" / f"{member_id}.safetensors"

    def checkpoint_path(self, trunk_id: str, epoch: int) -> Path:
        return self.path / "checkpoints" / f"{trunk_id}-{epoch}.safetensors"

    def partial_path(self, name: str) -> Path:
        """Of a member or a shared beginning that is being trained."""
        return self.path / "checkpoints" / f"{name}.safetensors"

    # -- reading -------------------------------------------------------------------------------------------------------

    def members(self) -> pd.DataFrame:
        """Every member ever finished or failed here, indexed by id.

        Columns: status (`done` or `failed`), one per source with its seed, replica, onset, recipe (digest), accuracy
        (percent), cross_entropy (nats), weights_digest, predictions_digest, error, seconds, device, versions, finished.
        """
        with self._ledger() as database:
            table = pd.read_sql_query("SELECT * FROM members ORDER BY rowid", database, index_col="id")
        for source in SOURCES:
            table[source] = [int(seed) for seed in table[source]]
        return table.drop(columns=["identity", "views", "labels"])

    def done(self) -> dict[str, frozenset[View]]:
        """The finished members whose predictions are there, with the views they hold."""
        with self._ledger() as database:
            rows = database.execute("SELECT id, views FROM members WHERE status = 'done'").fetchall()
        return {key: frozenset(_views(views)) for key, views in rows if self.predictions_path(key).exists()}

    def _row(self, member_id: str) -> dict[str, Any]:
        with self._ledger() as database:
            database.row_factory = sqlite3.Row
            row = database.execute("SELECT * FROM members WHERE id = ?", [member_id]).fetchone()
        if row is None:
            raise StoreError(f"{self.path}: no member {member_id!r}: store.members() lists them")
        return dict(row)

    def views(self, member_id: str) -> tuple[View, ...]:
        """The views along the first axis of `predictions`."""
        return _views(self._row(member_id)["views"] or "[]")

    def predictions(self, member_id: str) -> NDArray[np.float32]:
        """A finished member's logits: float32 [views, examples, classes]. Raises StoreError."""
        tensors = self._predicted(member_id)
        if "predictions" not in tensors:
            raise StoreError(
                f"{self.path}: member {member_id} is a language model: use language_predictions(member_id)"
            )
        return tensors["predictions"].numpy()

    def language_predictions(self, member_id: str) -> LanguagePredictions:
        """What a finished language model predicts. Raises StoreError."""
        found = {name: tensor.numpy() for name, tensor in self._predicted(member_id).items()}
        if not {"target_log_probabilities", "argmax"} <= set(found):
            raise StoreError(f"{self.path}: member {member_id} is no language model: use predictions(member_id)")
        only = found["argmax"][0] if len(found["argmax"]) == 1 else None
        mean_argmax = found.get("mean_argmax", only)
        return LanguagePredictions(found["target_log_probabilities"], found["argmax"], mean_argmax, found.get("logits"))

    def _predicted(self, member_id: str) -> dict[str, Tensor]:
        row = self._row(member_id)
        if row["status"] != "done":
            raise StoreError(f"{self.path}: member {member_id} has no predictions: it failed: {row['error']}")
        return load_tensors(self.predictions_path(member_id))

    def weights(self, member_id: str) -> dict[str, Tensor]:
        """A member's parameters and buffers by name; there where the recipe keeps weights."""
        self._row(member_id)
        return load_tensors(self.weights_path(member_id))

    def features(self, member_id: str) -> dict[str, Tensor]:
        """A member's representations, float32 [examples, ...] by layer; there where the recipe names `features`."""
        self._row(member_id)
        return load_tensors(self.features_path(member_id))

    def trajectory(self, member_id: str) -> Tensor:
        """A member's weights before the first step and after each epoch: float32 [epochs + 1, weights]."""
        self._row(member_id)
        return load_tensors(self.trajectory_path(member_id))["trajectory"]

    def labels(self, member_id: str | None = None) -> NDArray[np.int64]:
        """The test labels, int64 [examples]; where the store holds several data sets, those of the given member."""
        if member_id is not None:
            digest = self._row(member_id)["labels"]
        else:
            with self._ledger() as database:
                found = [
                    row[0] for row in database.execute("SELECT DISTINCT labels FROM members WHERE status = 'done'")
                ]
            if len(found) != 1:
                raise StoreError(
                    f"{self.path}: holds the labels of {len(found)} data sets: name a member, as in labels(member_id)"
                )
            digest = found[0]
        return load_tensors(self.path / "labels" / f"{digest}.safetensors")["labels"].numpy()

    def history(self, member_id: str) -> pd.DataFrame:
        """One row per epoch, indexed by epoch (from 1): learning_rate (of its last step), train_loss (mean, nats),
        test_accuracy (percent), test_cross_entropy (nats)."""
        self._row(member_id)
        with self._ledger() as database:
            return pd.read_sql_query(
                "SELECT epoch, learning_rate, train_loss, test_accuracy, test_cross_entropy FROM history WHERE id = ? "
                "ORDER BY epoch",
                database,
                params=[member_id],
                index_col="epoch",
            ).astype(np.float64)

    def verify(self) -> dict[str, str]:
        """Check every finished member's predictions against its digest; returns what is wrong, by member id."""
        with self._ledger() as database:
            rows = database.execute(
                "SELECT id, predictions_digest, weights_digest FROM members WHERE status = 'done'"
            ).fetchall()
        problems = {}
        for key, predictions_digest, weights_digest in rows:
            try:
                if digest(load_tensors(self.predictions_path(key))) != predictions_digest:
                    problems[key] = f"{self.predictions_path(key)}: does not match its digest"
                elif self.weights_path(key).exists() and digest(load_tensors(self.weights_path(key))) != weights_digest:
                    problems[key] = f"{self.weights_path(key)}: does not match its digest"
            except StoreError as error:
                problems[key] = str(error)
        return problems


def _insert(database: sqlite3.Connection, member: Member, *, history: Sequence[Sequence[float]], **fields: Any) -> None:
    """One member's row and history, in place of what was there."""
    row = {
        "id": member.id,
        **{source: str(seed) for source, seed in member.seeds.items()},
        "replica": member.replica,
        "onset": member.onset,
        "recipe": member.recipe.digest,
        "identity": json.dumps(member.identity, sort_keys=True),
        "device": member.platform.device,
        "versions": json.dumps(dict(member.platform.versions), sort_keys=True),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **fields,
    }
    marks = ", ".join("?" * len(row))
    database.execute(f"INSERT OR REPLACE INTO members ({', '.join(row)}) VALUES ({marks})", list(row.values()))
    database.execute("DELETE FROM history WHERE id = ?", [member.id])
    database.executemany("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)", [(member.id, *h) for h in history])


def _left_by_creation(entry: Path) -> bool:
    """Whether this is what a run leaves that was killed while it created a store: nothing of anybody's."""
    if entry.name in _FOLDERS:
        return entry.is_dir() and not any(entry.iterdir())
    return entry.name == "lock" or entry.name.startswith(("ledger.sqlite", ".store.json."))


def open_store(path: str | Path) -> Store:
    """Open an existing store for reading. Raises StoreError where there is none."""
    return Store(path)


def write_aside(path: Path, content: bytes) -> None:
    """Write a file so that it is either there in full or not at all: aside, flushed to disk, renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from None


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as safetensors, all or nothing."""
    write_aside(path, serialise(tensors))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file into memory of torch's own alignment. Raises StoreError."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from None


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of names."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().contiguous()
        hashed.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        hashed.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def _views(text: str) -> tuple[View, ...]:
    return tuple(View(bool(flip), dy, dx) for flip, dy, dx in json.loads(text)) or (ORIGINAL,)


def _difference(before: Any, now: Any, key: str = "recipe") -> str:
    """The first key in which two recipes differ, with both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in [*before, *(n for n in now if n not in before)]:
            if before.get(name) != now.get(name):
                return _difference(before.get(name), now.get(name), f"{key}.{name}")
    return f"{key} is {before!r} there and {now!r} here"


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

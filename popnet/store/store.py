"""A store, for reading, and for the one run at a time that writes it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from popnet.config import SOURCES, Experiment, from_store
from popnet.errors import ConfigError, StoreError
from popnet.protocol import Member, View
from popnet.store.files import (
    RENEWED,
    digest,
    digest_of_file,
    load_tensors,
    remove,
    renewed,
    save_tensors,
    sync_folder,
    write_aside,
)
from popnet.store.header import read_header, write_header
from popnet.store.ledger import Ledger, Row
from popnet.store.lock import Lock
from popnet.store.rows import views_of
from popnet.untrusted.files import check_folder, inside

FILE_KINDS: Mapping[str, str] = {
    "weights": "weights",
    "features": "features",
    "trajectory": "trajectories",
    "predictions": "members",
}
"""What a member leaves in files, and in which folder; its predictions last, for they make it complete."""

FOLDERS = (*FILE_KINDS.values(), "labels", "checkpoints", "tables")

IMAGE_NUMBERS = "image numbers"
"""Beside the layers in a file of features where test images were drawn: which, int64 [examples]. No module is so named.

A file without it holds the first images, as all did before those of a test set in order of class were drawn.
"""

_LABELS_DIGITS = 24
"""How much of its digest the name of a file of labels has."""

DAMAGED = "damaged"
"""The folder of what did not match its digest; only people look there."""


_SECONDS_TO_RENEW = 0.2
"""Within which a run that has entered new views puts their file in place."""


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
    features_digest: str | None = None
    trajectory_digest: str | None = None
    fingerprint: str | None = None


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
    """A store opened for reading, or, while locked, for one run."""

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        self.path = Path(path)
        check_no_links(self.path)
        self.ledger = Ledger(self.path)
        self._lock = Lock(self.path / "lock")
        header = self.path / "store.json"
        if not header.exists():
            others = self.path.is_dir() and not all(_left_by_creation(entry) for entry in self.path.iterdir())
            if others and self.ledger.path.exists() and not header.exists():
                raise StoreError(f"{header}: missing: `popnet store repair {self.path}` writes a new one")
            if not create:
                raise StoreError(f"{self.path}: no popnet store here (store.json is missing)")
            if others and not header.exists():  # looked at again, since another run may have created it meanwhile
                raise StoreError(
                    f"{self.path}: the folder is not empty and holds no popnet store: choose another --store"
                )
            self._create()
        self._header = read_header(self.path)

    def _create(self) -> None:
        """Make an empty store; of two runs that do so at the same time, one waits for the other."""
        try:
            new = [folder for folder in (self.path, *self.path.absolute().parents) if not folder.exists()]
            self.path.mkdir(parents=True, exist_ok=True)
            for folder in new:
                sync_folder(folder.absolute().parent)
            self._make_folders()
            self._lock.acquire(wait=True)
            if not (self.path / "store.json").exists():
                self.ledger.create()
                write_header(self.path, {})
        except OSError as error:
            raise StoreError(f"{self.path}: cannot create a store here: {error.strerror}") from None
        finally:
            self._lock.release()

    def _make_folders(self) -> None:
        """Those that are missing: copying a store can lose the empty ones."""
        missing = [folder for folder in FOLDERS if not (self.path / folder).is_dir()]
        for folder in missing:
            (self.path / folder).mkdir(exist_ok=True)
        if missing:
            sync_folder(self.path)

    # -- one run at a time ---------------------------------------------------------------------------------------------

    def lock(self, wait: bool = False, tell: Callable[[str], None] = lambda text: None) -> None:
        """Take the store for this process, for writing.

        Args:
            wait: where another run has it, until that ends, however it ends.
            tell: is told before waiting.

        Raises:
            StoreError: another run has it, or it cannot be written.
        """
        self._lock.acquire(wait, tell)
        try:
            self._header = read_header(self.path)  # another run may have ended since this store was opened
            self._make_folders()
            self.ledger.hold()
            self._settle()
        except BaseException as error:
            self._lock.release()
            if isinstance(error, OSError):
                raise StoreError(f"{self.path}: cannot be written: {error.strerror}") from None
            raise

    def unlock(self) -> None:
        self.ledger.release()
        self._lock.release()

    def in_use(self) -> bool:
        """Whether a run has it now, this process's own included."""
        return self._lock.taken()

    def register(
        self,
        experiment: Experiment,
        datasets: Mapping[str, str],
        training_sets: Mapping[str, tuple[int, bool]] | None = None,
    ) -> None:
        """Enter an experiment and the digests of its data sets.

        Args:
            training_sets: of the data sets that recipes take a part of, how many training examples there are, and
                whether the part is drawn by a shuffle.

        Raises:
            StoreError: the store holds another recipe, or other data, under the same name, or members that took the
                first of the training examples that are drawn now.
        """
        entry = {
            "recipe": experiment.recipe.canonical(),
            "experiment": experiment.model_dump(mode="json", by_alias=True),
        }
        if training_sets:
            entry["training_sets"] = {name: list(facts) for name, facts in training_sets.items()}
        self.enter({experiment.name: entry}, datasets)

    def training_set(self, experiment: str, dataset: str) -> tuple[int, bool] | None:
        """What `register` was told of an experiment's training set; None where a store does not know it."""
        entered = self.entered().get(experiment, {}).get("training_sets")
        facts = entered.get(dataset) if isinstance(entered, dict) else None
        if not isinstance(facts, list) or [type(fact) for fact in facts] != [int, bool]:
            return None
        return facts[0], facts[1]

    def enter(self, experiments: Mapping[str, Mapping[str, Any]], datasets: Mapping[str, str]) -> None:
        """Enter experiments as store.json holds them, each with its recipe, in place of those of the same names.

        Raises:
            StoreError: the store holds another recipe, or other data, under the same name, or other parts of the same
                training set; nothing is entered then.
        """
        for name, entry in experiments.items():
            before = self._header["experiments"].get(name)
            if before is not None and before["recipe"] != entry["recipe"]:
                raise StoreError(
                    f"{self.path}: holds another recipe under the name {name!r} "
                    f"({_difference(before['recipe'], entry['recipe'])}): choose another --store or another name"
                )
        for label, now in datasets.items():
            old = self.datasets().get(label, now)
            if old != now:
                raise StoreError(
                    f"{self.path}: was made with other data under the name {label!r} (digest {old[:12]} there, "
                    f"{now[:12]} now): choose another --store"
                )
        self._check_parts(experiments)
        content = {
            "experiments": {**self._header["experiments"], **experiments},
            "datasets": {**self.datasets(), **datasets},
        }
        if any(self._header.get(name) != value for name, value in content.items()):
            write_header(self.path, **content)
            self._header = read_header(self.path)

    def _check_parts(self, experiments: Mapping[str, Mapping[str, Any]]) -> None:
        """That recipes' `train_examples` mean the same examples of a data set as they do in the store's experiments.

        An entry that does not say whether they are drawn is of the time when they never were.
        """
        held = self.entered()
        if not any(map(_says_drawn, (*held.values(), *experiments.values()))):
            return
        drawn = {name: _drawn(entry, str(self.path)) for name, entry in held.items()}
        for entry in experiments.values():
            for label, now in _drawn(entry, str(self.path)).items():
                for name, before in drawn.items():
                    if before.get(label, now) != now:
                        raise StoreError(_other_part(self.path, name, label, now))

    def experiments(self) -> dict[str, dict[str, Any]]:
        """The experiments run here, by name, as plain data."""
        return {name: entry["experiment"] for name, entry in self.entered().items()}

    def entered(self) -> dict[str, dict[str, Any]]:
        """The same, as store.json holds them: each with its recipe."""
        return dict(self._header["experiments"])

    def datasets(self) -> dict[str, str]:
        """The digests of the data sets, by what identifies them."""
        return dict(self._header.get("datasets", {}))

    # -- writing, by the driver ----------------------------------------------------------------------------------------

    def record_done(self, member: Member, finished: Finished) -> None:
        """Enter a finished member and its history, in one transaction."""
        self.record_all_done([(member, finished)])

    def record_all_done(self, entries: Sequence[tuple[Member, Finished]]) -> None:
        """Enter several finished members and their histories in one transaction: the disk is waited for once."""
        self.ledger.write([(_finished_row(member, finished), finished.history) for member, finished in entries])

    def record_failed(self, member: Member, error: str, seconds: float) -> None:
        """Enter a member that could not be trained, with its error.

        One that is finished stays so, with all that it has: it was to be trained again for more views or files, and its
        entry says beside them why it lacks these.
        """
        entry = self.ledger.entry(member.id)
        if entry is not None and entry.row["status"] == "done" and self.predictions_path(member.id).exists():
            self.ledger.note(member.id, error)
        else:
            self.ledger.write([(_row(member, status="failed", error=error, seconds=seconds), ())])

    def put_renewed(self, member_id: str) -> None:
        """Have the files in place that were made anew for a finished member, now that its entry says so.

        The ledger comes first: whatever is cut short, either the old files are those of the entry, or the new ones are
        there whole, and the next run puts them in place.
        """
        for kind in FILE_KINDS:
            path = self.file_of(kind, member_id)
            try:
                renewed(path).replace(path)
                sync_folder(path.parent)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StoreError(f"{path}: cannot be written: {error.strerror}") from None

    def discard_renewed(self, member_id: str) -> None:
        """Remove what was made anew of a finished member, which keeps what it has."""
        for kind in FILE_KINDS:
            remove(renewed(self.file_of(kind, member_id)))

    def _settle(self) -> None:
        """Put in place, or remove, what a run made anew that was cut short."""
        for kind, folder in FILE_KINDS.items():
            for path in (self.path / folder).glob(f".*{RENEWED}"):
                key = path.name[1:].partition(".")[0]
                entry = self.ledger.entry(key)
                if entry is not None and _is_file_of(path, entry.row.get(f"{kind}_digest")):
                    self.put_renewed(key)
                else:
                    remove(path)

    def save_labels(self, labels: NDArray[np.int64]) -> str:
        """Have the test labels of a data set in the store; returns the digest that names them."""
        tensors = {"labels": torch.from_numpy(labels.copy())}
        name = digest(tensors)[:_LABELS_DIGITS]
        if not self.labels_path(name).exists():
            save_tensors(self.labels_path(name), tensors)
        return name

    def save_table(self, name: str, table: pd.DataFrame) -> Path:
        path = self.path / "tables" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        write_aside(path, table.to_csv().encode())
        return path

    def remove_leftovers(self) -> None:
        """Remove what killed runs were writing aside; only for the run that holds the lock."""
        for path in self.half_written():
            remove(path)

    def half_written(self) -> list[Path]:
        """What somebody is writing aside, or was when killed."""
        patterns = (".*.part", "*/.*.part", f"*/.*{RENEWED}")
        return sorted(path for pattern in patterns for path in self.path.glob(pattern))

    def remove_checkpoints(self) -> None:
        """Give back the space of shared beginnings, once nothing waits for them, and of members that are finished."""
        done = self.done()
        for path in (self.path / "checkpoints").glob("*.safetensors"):
            if "-" in path.stem or path.stem in done:
                remove(path)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.path).free

    # -- files, by workers too -----------------------------------------------------------------------------------------

    def file_of(self, kind: str, member_id: str) -> Path:
        """Where a member's file of one of `FILE_KINDS` is, or would be."""
        return self._tensors(FILE_KINDS[kind], member_id)

    def predictions_path(self, member_id: str) -> Path:
        return self.file_of("predictions", member_id)

    def weights_path(self, member_id: str) -> Path:
        return self.file_of("weights", member_id)

    def features_path(self, member_id: str) -> Path:
        return self.file_of("features", member_id)

    def trajectory_path(self, member_id: str) -> Path:
        return self.file_of("trajectory", member_id)

    def labels_path(self, labels_digest: str) -> Path:
        return self._tensors("labels", labels_digest)

    def checkpoint_path(self, trunk_id: str, epoch: int) -> Path:
        return self._tensors("checkpoints", f"{trunk_id}-{epoch}")

    def partial_path(self, name: str) -> Path:
        """Of a member or a shared beginning that is being trained."""
        return self._tensors("checkpoints", name)

    def _tensors(self, folder: str, name: str) -> Path:
        """A file whose name the ledger may have chosen. Raises StoreError for one outside the store."""
        try:
            return inside(self.path / folder, name, ".safetensors")
        except ValueError as error:
            raise StoreError(f"{self.path}: {error}") from None

    # -- reading -------------------------------------------------------------------------------------------------------

    def members(self) -> pd.DataFrame:
        """Every member ever finished or failed here, indexed by id.

        Columns: status (`done`, `failed`, or `damaged`: to be trained again, its `error` says why), one per source with
        its seed, replica, onset, recipe (digest), accuracy (percent), cross_entropy (nats), weights_digest,
        predictions_digest, error (of a finished member: why it could not be trained again for more views or files),
        seconds, device, versions, finished.
        """
        with self.ledger.opened() as database:
            found = database.execute("SELECT * FROM members ORDER BY rowid")
            columns = [column[0] for column in found.description]
            table = pd.DataFrame.from_records(
                list(self.ledger.checked(found)), "id", columns=columns, coerce_float=True
            )
        for source in SOURCES:
            table[source] = [int(seed) for seed in table[source]]
        hidden = ("identity", "views", "labels", "features_digest", "trajectory_digest", "entry_digest", "fingerprint")
        return table.drop(columns=[name for name in hidden if name in table])

    def _repr_html_(self) -> str:
        """The members by what became of them, for a notebook."""
        from popnet.report.answers import table_html

        members = self.members()
        counts = members.groupby("status", sort=True).size().rename("members").to_frame()
        return table_html(counts.rename_axis(f"{self.path}: {', '.join(self.experiments()) or 'no experiment'}"))

    def done(self) -> dict[str, frozenset[View]]:
        """The finished members whose predictions are there, with the views they hold."""
        with self.ledger.opened() as database:
            rows = list(self.ledger.checked(database.execute("SELECT id, views FROM members WHERE status = 'done'")))
        return {key: frozenset(views_of(views)) for key, views in rows if self.predictions_path(key).exists()}

    def failures(self) -> dict[str, str]:
        """The errors of the members that could not be trained, by id: at all, or again for more views or files."""
        with self.ledger.opened() as database:
            found = database.execute("SELECT id, error FROM members WHERE status <> 'damaged' AND error IS NOT NULL")
            return {str(key): str(error) for key, error in self.ledger.checked(found)}

    def fingerprints(self) -> dict[str, dict[str, list[str]]]:
        """What the CUDA graphs computed by which members were trained: by program and bits, the ids of these members.

        A program is a recipe's graphs on one kind of device with one set of library versions, so that several bits of
        one are a fault. Members that were trained on a CPU, or step by step, are left out.
        """
        found: dict[str, dict[str, list[str]]] = {}
        for key, fingerprint in self.ledger.fingerprints():
            program, _, bits = fingerprint.partition(":")
            found.setdefault(program, {}).setdefault(bits, []).append(key)
        return found

    def _row(self, member_id: str) -> dict[str, Any]:
        with self.ledger.opened() as database:
            found = database.execute("SELECT * FROM members WHERE id = ? LIMIT 1", [member_id])
            rows = [dict(zip((column[0] for column in found.description), row)) for row in self.ledger.checked(found)]
        if not rows:
            raise StoreError(f"{self.path}: no member {member_id!r}: store.members() lists them")
        return rows[0]

    def views(self, member_id: str) -> tuple[View, ...]:
        """The views along the first axis of `predictions`."""
        return views_of(self._row(member_id)["views"])

    def predictions(self, member_id: str) -> NDArray[np.float32]:
        """A finished member's logits: float32 [views, examples, classes]. Raises StoreError."""
        return self.viewed_predictions(member_id)[1]

    def viewed_predictions(self, member_id: str) -> tuple[tuple[View, ...], NDArray[np.float32]]:
        """`views` and `predictions` of one moment: a run that adds views changes both. Raises StoreError."""
        views, logits = self._views_and_logits(member_id)
        if len(logits) != len(views):
            time.sleep(_SECONDS_TO_RENEW)
            views, logits = self._views_and_logits(member_id)
        if len(logits) != len(views):
            raise StoreError(
                f"{self.predictions_path(member_id)}: holds {len(logits)} views, and its entry names {len(views)}: "
                f"read again where a run adds views just now, else see `popnet store verify {self.path}`"
            )
        return views, logits

    def _views_and_logits(self, member_id: str) -> tuple[tuple[View, ...], NDArray[np.float32]]:
        row, tensors = self._predicted(member_id)
        if "predictions" not in tensors:
            raise StoreError(
                f"{self.path}: member {member_id} is a language model: use language_predictions(member_id)"
            )
        path = self.predictions_path(member_id)
        return views_of(row["views"]), _of_shape(tensors["predictions"], 3, torch.float32, path).numpy()

    def language_predictions(self, member_id: str) -> LanguagePredictions:
        """What a finished language model predicts. Raises StoreError."""
        _, tensors = self._predicted(member_id)
        if not {"target_log_probabilities", "argmax"} <= set(tensors):
            raise StoreError(f"{self.path}: member {member_id} is no language model: use predictions(member_id)")
        found = {
            name: _of_shape(tensors[name], axes, dtype, self.predictions_path(member_id)).numpy()
            for name, (axes, dtype) in _LANGUAGE_TENSORS.items()
            if name in tensors
        }
        only = found["argmax"][0] if len(found["argmax"]) == 1 else None
        mean_argmax = found.get("mean_argmax", only)
        return LanguagePredictions(found["target_log_probabilities"], found["argmax"], mean_argmax, found.get("logits"))

    def _predicted(self, member_id: str) -> tuple[Row, dict[str, Tensor]]:
        row = self._row(member_id)
        if row["status"] != "done":
            fate = "it failed" if row["status"] == "failed" else f"it is {row['status']}"
            raise StoreError(f"{self.path}: member {member_id} has no predictions: {fate}: {row['error']}")
        return row, load_tensors(self.predictions_path(member_id))

    def weights(self, member_id: str) -> dict[str, Tensor]:
        """A member's parameters and buffers by name; there where the recipe keeps weights."""
        self._row(member_id)
        return load_tensors(self.weights_path(member_id))

    def features(self, member_id: str) -> dict[str, Tensor]:
        """A member's representations, float32 [examples, ...] by layer; there where the recipe names `features`."""
        self._row(member_id)
        found = load_tensors(self.features_path(member_id))
        return {layer: values for layer, values in found.items() if layer != IMAGE_NUMBERS}

    def feature_images(self, member_id: str) -> NDArray[np.int64]:
        """Which test images `features` are of, int64 [examples], in order: the first, or those of a fixed shuffle."""
        self._row(member_id)
        found = load_tensors(self.features_path(member_id))
        examples = min(map(len, found.values()))
        return found.get(IMAGE_NUMBERS, torch.arange(examples)).numpy()

    def trajectory(self, member_id: str) -> Tensor:
        """A member's weights before the first step and after each epoch: float32 [epochs + 1, weights]."""
        self._row(member_id)
        path = self.trajectory_path(member_id)
        return _of_shape(load_tensors(path).get("trajectory"), 2, torch.float32, path)

    def labels(self, member_id: str | None = None) -> NDArray[np.int64]:
        """The test labels, int64 [examples]; where the store holds several data sets, those of the given member."""
        if member_id is not None:
            digest = self._row(member_id)["labels"]
        else:
            with self.ledger.opened() as database:
                rows = database.execute("SELECT DISTINCT labels FROM members WHERE status = 'done'")
                found = [labels for (labels,) in self.ledger.checked(rows)]
            if len(found) != 1:
                raise StoreError(
                    f"{self.path}: holds the labels of {len(found)} data sets: name a member, as in labels(member_id)"
                )
            digest = found[0]
        path = self.labels_path(str(digest))
        return _of_shape(load_tensors(path).get("labels"), 1, torch.int64, path).numpy()

    def history(self, member_id: str) -> pd.DataFrame:
        """One row per epoch, indexed by epoch (from 1): learning_rate (of its last step), train_loss (mean, nats),
        test_accuracy (percent), test_cross_entropy (nats)."""
        self._row(member_id)
        with self.ledger.opened() as database:
            found = database.execute(
                "SELECT epoch, learning_rate, train_loss, test_accuracy, test_cross_entropy FROM history WHERE id = ? "
                "ORDER BY epoch",
                [member_id],
            )
            columns = [column[0] for column in found.description]
            rows = list(self.ledger.checked(found))
        return pd.DataFrame.from_records(rows, "epoch", columns=columns, coerce_float=True).astype(np.float64)

    def verify(self) -> dict[str, str]:
        """Check every finished member's files and entry against their digests; returns what is wrong, by member id.

        See `popnet store verify` for everything else that can be amiss.
        """
        from popnet.store.verify import member_damage

        problems: dict[str, str] = {}
        for finding in member_damage(self):
            problems.setdefault(str(finding.member), finding.text)
        return problems


def _finished_row(member: Member, finished: Finished) -> Row:
    return _row(
        member,
        status="done",
        views=json.dumps([list(view.key) for view in finished.views]),
        labels=finished.labels,
        accuracy=finished.accuracy,
        cross_entropy=finished.cross_entropy,
        weights_digest=finished.weights_digest,
        predictions_digest=finished.predictions_digest,
        features_digest=finished.features_digest,
        trajectory_digest=finished.trajectory_digest,
        fingerprint=finished.fingerprint,
        seconds=finished.seconds,
    )


def _row(member: Member, **fields: Any) -> Row:
    return {
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


def _is_file_of(path: Path, recorded: str | None) -> bool:
    """Whether a file is whole, and the one that an entry speaks of; a link is none."""
    try:
        return not path.is_symlink() and digest_of_file(path) == recorded
    except StoreError:
        return False


def _left_by_creation(entry: Path) -> bool:
    """Whether this is what a run leaves that was killed while it created a store: nothing of anybody's."""
    if entry.name in FOLDERS:
        return entry.is_dir() and not any(entry.iterdir())
    return entry.name == "lock" or entry.name.startswith(("ledger.sqlite", ".store.json."))


def open_store(path: str | Path) -> Store:
    """Open an existing store for reading. Raises StoreError where there is none."""
    return Store(path)


def check_no_links(folder: Path) -> None:
    """That nothing in a store's folder leads out of it, where it is there. Raises StoreError."""
    try:
        check_folder(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (ValueError, OSError) as error:
        raise StoreError(f"{folder}: {error}") from None


_LANGUAGE_TENSORS = {
    "target_log_probabilities": (2, torch.float32),
    "argmax": (2, torch.int32),
    "mean_argmax": (1, torch.int32),
    "logits": (3, torch.float32),
}


def _of_shape(tensor: Tensor | None, axes: int, dtype: torch.dtype, path: Path) -> Tensor:
    """A tensor that is used as [...] of so many axes. Raises StoreError."""
    if tensor is None or tensor.ndim != axes or tensor.dtype != dtype:
        held = "nothing" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
        raise StoreError(f"{path}: damaged: {held} where {dtype} of {axes} axes belongs")
    return tensor


def _says_drawn(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of store.json names a training set, as [examples, drawn], of which parts are drawn."""
    entered = entry.get("training_sets")
    return isinstance(entered, dict) and any(
        isinstance(facts, list) and facts[-1:] == [True] for facts in entered.values()
    )


def _drawn(entry: Mapping[str, Any], origin: str) -> dict[str, bool]:
    """Of each data set that an entered experiment takes a part of, whether this is drawn by a shuffle."""
    try:
        experiment = from_store(entry["experiment"], origin)
    except ConfigError:
        return {}  # nothing that this version could train on
    recipes = [experiment.recipe, *(experiment.recipe_of(variant) for variant in experiment.variants)]
    labels = {recipe.dataset.identity for recipe in recipes if recipe.train_examples is not None}
    entered = entry.get("training_sets")
    known = entered if isinstance(entered, dict) else {}
    return {label: known.get(label, [0, False])[-1:] == [True] for label in labels}


def _other_part(path: Path, experiment: str, label: str, drawn: bool) -> str:
    before, now = ("the first ones", "drawn by a shuffle") if drawn else ("drawn by a shuffle", "the first ones")
    return (
        f"{path}: `train_examples` of {label!r} are {before} in its experiment {experiment!r}, and would be {now} "
        "here: choose another --store"
    )


def _difference(before: Any, now: Any, key: str = "recipe") -> str:
    """The first key in which two recipes differ, with both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in [*before, *(n for n in now if n not in before)]:
            if before.get(name) != now.get(name):
                return _difference(before.get(name), now.get(name), f"{key}.{name}")
    return f"{key} is {before!r} there and {now!r} here"

"""The store: what is read back, what damage is noticed, and that nothing half-written is ever found."""

from __future__ import annotations

import errno
import json
import math
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import popnet
from popnet import data, metrics
from popnet.config import SOURCES
from popnet.errors import DataError, StoreError
from popnet.protocol import ORIGINAL, Member, View, member
from popnet.results.arrays.logits import open_stored
from popnet.store import Store, digest, load_tensors, open_store, save_tensors, write_aside
from popnet.training import learning_rates


def row(result: popnet.Result, name: str) -> tuple[Member, ...]:
    return next(population.members for population in result.plan.populations if population.name == name)


# ---- what a run leaves -----------------------------------------------------------------------------------------------


def test_members(trained):
    table = trained.store.members()
    assert table.index.name == "id"
    assert set(table.index) == {m.id for m in trained.plan.members}
    assert (table.loc[[m.id for m in row(trained, "Initialization")], "init"] == [1, 2, 3, 4]).all()
    for m in trained.plan.members:
        entry = table.loc[m.id]
        assert [entry[source] for source in SOURCES] == [m.seeds[source] for source in SOURCES]
        assert (entry["replica"], entry["onset"]) == (m.replica, m.onset)
        assert entry["recipe"] == m.recipe.digest
        assert entry["device"] == m.platform.device
        assert json.loads(entry["versions"]) == {"torch": torch.__version__}
        assert entry["seconds"] > 0
    broken = {m.id for m in row(trained, "Broken")}
    assert set(table.index[table["status"] == "failed"]) == broken
    assert set(table["status"]) == {"done", "failed"}
    done = table[table["status"] == "done"]
    assert done["error"].isna().all()
    assert done["predictions_digest"].str.fullmatch("[0-9a-f]{64}").all()
    assert done["weights_digest"].str.fullmatch("[0-9a-f]{64}").all()
    assert not {"identity", "views", "labels"} & set(table.columns)


def test_predictions_and_their_views(trained):
    first = row(trained, "Initialization")[0]
    predictions = trained.store.predictions(first.id)
    assert predictions.shape == (2, 30, 3)
    assert predictions.dtype == np.float32
    assert trained.store.views(first.id) == (ORIGINAL, View(flip=True))
    assert not np.array_equal(predictions[0], predictions[1])
    alone = row(trained, "Determinism")[0]
    assert trained.store.predictions(alone.id).shape == (1, 30, 3)
    assert trained.store.views(alone.id) == (ORIGINAL,)


def test_replicas_are_equal_and_other_seeds_are_not(trained):
    table = trained.store.members()
    one, other = (table.loc[m.id] for m in row(trained, "Determinism"))
    first = table.loc[row(trained, "Initialization")[0].id]
    assert one["weights_digest"] == other["weights_digest"] == first["weights_digest"]
    assert one["predictions_digest"] == other["predictions_digest"]
    assert table.loc[[m.id for m in row(trained, "Initialization")], "weights_digest"].nunique() == 4


def test_labels(trained):
    expected = data.load("synthetic", train=40, test=30, height=6, width=6, channels=1, classes=3).test_labels
    labels = trained.store.labels()
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(trained.store.labels(row(trained, "Snapshots")[0].id), expected)


def test_history(trained):
    first = row(trained, "Initialization")[0]
    history = trained.store.history(first.id)
    assert history.index.tolist() == [1, 2, 3, 4]
    assert list(history.columns) == ["learning_rate", "train_loss", "test_accuracy", "test_cross_entropy"]
    rates = learning_rates(first.recipe, 3)
    assert history["learning_rate"].tolist() == rates[[2, 5, 8, 11]].tolist(), "of each epoch's last step"
    assert (history["train_loss"] > 0).all()
    evaluated = history["test_accuracy"].notna()
    assert evaluated.tolist() == [False, False, True, True], "every third epoch, and the last"
    logits, labels = trained.store.predictions(first.id)[:1], trained.store.labels()
    assert history.loc[4, "test_accuracy"] == metrics.accuracy(logits, labels)[0]
    assert history.loc[4, "test_cross_entropy"] == metrics.cross_entropy(logits, labels)[0]
    entry = trained.store.members().loc[first.id]
    assert entry["accuracy"] == history.loc[4, "test_accuracy"]
    assert entry["cross_entropy"] == history.loc[4, "test_cross_entropy"]


def test_snapshots_are_evaluated_at_the_end_of_each_cycle(trained):
    history = trained.store.history(row(trained, "Snapshots")[0].id)
    assert history["test_accuracy"].notna().tolist() == [False, True, True, True]


def test_weights(trained):
    first = row(trained, "Initialization")[0]
    weights = trained.store.weights(first.id)
    assert {name: tuple(value.shape) for name, value in weights.items()} == {"fc.weight": (3, 36), "fc.bias": (3,)}
    assert digest(weights) == trained.store.members().loc[first.id, "weights_digest"]


def test_files_are_plain_safetensors(trained):
    first = row(trained, "Initialization")[0]
    tensors = load_file(trained.store.path / "members" / f"{first.id}.safetensors")
    np.testing.assert_array_equal(tensors["predictions"].numpy(), trained.store.predictions(first.id))


def test_nothing_is_left_lying_about(trained):
    assert list(trained.store.path.rglob("*.part")) == []
    assert list((trained.store.path / "checkpoints").iterdir()) == []


def test_a_failed_member_says_why_it_has_no_predictions(trained):
    failed = row(trained, "Broken")[0]
    with pytest.raises(
        StoreError, match=rf"member {failed.id} has no predictions: it failed: .*(not finite|the loss is)"
    ):
        trained.store.predictions(failed.id)
    assert failed.id not in trained.store.done()


def test_the_table_counts_what_failed(trained):
    table = trained.table()
    assert table.index.tolist() == ["Initialization", "Determinism", "Ensemble (N=2)", "Snapshots", "Broken"]
    assert table["failed"].tolist() == [0, 0, 0, 0, 2]
    assert table["population"].tolist() == [4, 2, 4, 2, 2]
    assert table["members"].tolist() == [4, 2, 2, 2, 0]
    assert math.isnan(table.loc["Broken", "accuracy_sd"])
    assert (table.loc["Determinism", ["accuracy_sd", "cross_entropy_sd", "disagreement"]] == 0).all()
    assert table.loc["Determinism", "spearman"] == 1
    assert table.loc["Initialization", "cross_entropy_sd"] > 0


def test_an_unknown_member_is_named(trained):
    for read in (trained.store.predictions, trained.store.history, trained.store.weights, trained.store.views):
        with pytest.raises(StoreError, match=r"no member 'abc': store.members\(\) lists them"):
            read("abc")


def test_experiments_come_back_as_they_were(trained):
    from popnet.config import from_mapping

    (content,) = trained.store.experiments().values()
    assert from_mapping(content) == trained.plan.experiment


# ---- opening ---------------------------------------------------------------------------------------------------------


def test_reopening_reads_the_same(trained):
    again = open_store(trained.store.path)
    assert again.members().equals(trained.store.members())
    assert again.done() == trained.store.done()


def test_there_must_be_a_store(tmp_path):
    with pytest.raises(StoreError) as caught:
        open_store(tmp_path / "nowhere")
    assert str(caught.value) == f"{tmp_path / 'nowhere'}: no popnet store here (store.json is missing)"
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match=r"the folder is not empty and holds no popnet store: choose another --store"):
        Store(tmp_path, create=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "thesis.tex").unlink()
    (tmp_path / "members").mkdir()
    (tmp_path / "members" / "list.txt").touch()
    with pytest.raises(StoreError, match="not empty and holds no popnet store"):
        Store(tmp_path, create=True)


def test_a_creation_that_was_killed_is_completed(tmp_path):
    Store(tmp_path / "whole", create=True)
    (tmp_path / "whole" / "store.json").rename(tmp_path / "whole" / ".store.json.99.part")
    assert Store(tmp_path / "whole", create=True).members().empty


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot create a store here: (File exists|Not a directory)"):
        Store(tmp_path / "file", create=True)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("{", "store.json: damaged: JSONDecodeError"),
        ("[]", "store.json: damaged: TypeError"),
        ("{}", "store.json: damaged: KeyError: 'format'"),
        ('{"format": 1}', "store.json: damaged: it lists no experiments"),
        ('{"format": 99, "experiments": {}}', "store format 99, but this popnet reads format 1"),
    ],
)
def test_a_damaged_header_is_named(tmp_path, header, expected):
    Store(tmp_path / "store", create=True)
    (tmp_path / "store" / "store.json").write_text(header)
    for create in (True, False):
        with pytest.raises(StoreError) as caught:
            Store(tmp_path / "store", create=create)
        assert expected in str(caught.value)


def test_a_damaged_ledger_is_named(trained_copy):
    ledger = trained_copy / "ledger.sqlite"
    for leftover in trained_copy.glob("ledger.sqlite-*"):
        leftover.unlink()
    ledger.write_bytes(b"not a database" * 100)
    for read in (Store(trained_copy).members, Store(trained_copy).done, Store(trained_copy).labels):
        with pytest.raises(StoreError, match=r"ledger.sqlite: file is not a database"):
            read()


def test_a_missing_ledger_is_named_and_not_replaced_by_an_empty_one(trained_copy):
    for part in trained_copy.glob("ledger.sqlite*"):
        part.unlink()
    with pytest.raises(StoreError, match=r"ledger.sqlite: unable to open database file"):
        open_store(trained_copy).members()
    assert not (trained_copy / "ledger.sqlite").exists()


# ---- one run at a time -----------------------------------------------------------------------------------------------


def test_a_store_belongs_to_one_run(tmp_path):
    one, other = Store(tmp_path / "store", create=True), Store(tmp_path / "store")
    one.lock()
    with pytest.raises(StoreError) as caught:
        other.lock()
    assert str(caught.value) == (
        f"{tmp_path / 'store'}: in use by another run (process {os.getpid()}): wait for it (--wait), or "
        "choose another --store"
    )
    assert other.members().empty, "reading needs no lock"
    one.unlock()
    other.lock()
    other.unlock()
    other.unlock()


def test_a_lock_that_cannot_be_taken_says_why(tmp_path):
    store = Store(tmp_path / "store", create=True)
    (tmp_path / "store" / "lock").unlink()
    (tmp_path / "store" / "lock").mkdir()
    with pytest.raises(StoreError, match="lock: cannot be written: Is a directory"):
        store.lock()


def test_the_lock_sees_what_another_run_registered(tmp_path, trained):
    early = Store(tmp_path / "store", create=True)
    other = Store(tmp_path / "store")
    other.lock()
    other.register(trained.plan.experiment, {"synthetic": "d" * 64})
    other.unlock()
    early.lock()
    assert list(early.experiments()) == ["tiny"]
    early.unlock()


def test_another_recipe_under_the_same_name_is_refused(tmp_path, trained):
    store = Store(tmp_path / "store", create=True)
    experiment = trained.plan.experiment
    store.register(experiment, {})
    store.register(experiment.model_copy(update={"population": 50}), {})
    recipe = experiment.recipe.changed({"optimizer": {"lr": 0.25}})
    with pytest.raises(StoreError) as caught:
        store.register(experiment.model_copy(update={"recipe": recipe}), {})
    assert str(caught.value) == (
        f"{store.path}: holds another recipe under the name 'tiny' (recipe.optimizer.lr is 0.1 there and 0.25 here): "
        "choose another --store or another name"
    )
    store.register(experiment.model_copy(update={"recipe": recipe, "name": "other"}), {})
    assert sorted(open_store(store.path).experiments()) == ["other", "tiny"]


def test_other_data_under_the_same_name_are_refused(tmp_path, trained):
    store = Store(tmp_path / "store", create=True)
    store.register(trained.plan.experiment, {"mine": "a" * 64})
    with pytest.raises(StoreError, match=r"other data under the name 'mine' \(digest aaaaaaaaaaaa there, bbbbbbbbbbbb"):
        store.register(trained.plan.experiment, {"mine": "b" * 64})


def test_recording_a_member_again_replaces_it(trained_copy, trained):
    store = Store(trained_copy)
    failed = row(trained, "Broken")[0]
    store.record_failed(failed, "something else", 1.5)
    entry = store.members().loc[failed.id]
    assert (entry["status"], entry["error"], entry["seconds"]) == ("failed", "something else", 1.5)
    assert len(store.members()) == len(trained.store.members())
    assert store.history(failed.id).empty


def test_seeds_beyond_64_signed_bits_survive(tmp_path, trained):
    store = Store(tmp_path / "store", create=True)
    first = trained.plan.members[0]
    huge = member(first.recipe, first.seeds.changed({"init": 2**64 - 1}), first.base, first.platform)
    store.record_failed(huge, "none", 0.0)
    assert store.members().loc[huge.id, "init"] == 2**64 - 1


# ---- damage ----------------------------------------------------------------------------------------------------------


def flip_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_verify_finds_nothing_in_a_sound_store(trained):
    assert trained.store.verify() == {}


@pytest.mark.parametrize("position", [-1, -200, 3, 20], ids=["last value", "a value", "header size", "header"])
def test_verify_names_a_member_with_one_flipped_bit(trained_copy, trained, position):
    damaged = row(trained, "Initialization")[1].id
    flip_byte(trained_copy / "members" / f"{damaged}.safetensors", position)
    problems = Store(trained_copy).verify()
    assert list(problems) == [damaged]
    assert problems[damaged].startswith(str(trained_copy / "members" / f"{damaged}.safetensors"))
    if position < 0:
        assert problems[damaged].endswith("does not match its digest")


def test_verify_checks_weights_where_they_are_kept(trained_copy, trained):
    damaged = row(trained, "Initialization")[1].id
    flip_byte(trained_copy / "weights" / f"{damaged}.safetensors", -1)
    problems = Store(trained_copy).verify()
    assert list(problems) == [damaged]
    assert "weights" in problems[damaged]


def test_lost_predictions_are_noticed_and_trained_again(trained_copy, trained):
    lost = row(trained, "Initialization")[2]
    (trained_copy / "members" / f"{lost.id}.safetensors").unlink()
    store = Store(trained_copy)
    assert list(store.verify()) == [lost.id]
    assert lost.id not in store.done()
    assert len(store.done()) == len(trained.store.done()) - 1
    with pytest.raises(StoreError, match=f"{lost.id}.safetensors: cannot be read"):
        store.predictions(lost.id)


def test_labels_of_several_data_sets_need_a_member(trained_copy, trained):
    changed = row(trained, "Snapshots")[0].id
    with sqlite3.connect(trained_copy / "ledger.sqlite") as database:
        database.execute("UPDATE members SET labels = 'ffffffffffffffffffffffff' WHERE id = ?", [changed])
    database.close()
    store = Store(trained_copy)
    with pytest.raises(StoreError, match=r"holds the labels of 2 data sets: name a member, as in labels\(member_id\)"):
        store.labels()
    assert len(store.labels(row(trained, "Initialization")[0].id)) == 30


# ---- writing ---------------------------------------------------------------------------------------------------------


def test_write_aside_replaces_the_whole_file(tmp_path):
    path = tmp_path / "file"
    write_aside(path, b"first")
    write_aside(path, b"second, longer")
    assert path.read_bytes() == b"second, longer"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    write_aside(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*{"fsync": (os, "fsync", full), "replace": (Path, "replace", full)}[step])
    with pytest.raises(StoreError) as caught:
        write_aside(path, b"new")
    assert str(caught.value) == f"{path}: cannot be written: No space left on device"
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_file_appears_only_when_it_is_on_disk(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("fsync"), fsync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append("rename"), replace(self, to))[1])
    write_aside(tmp_path / "file", b"content")
    assert order == ["fsync", "rename", "fsync"], "content, then name, then the folder that holds the name"


def test_tensors_survive_a_round_trip(tmp_path):
    tensors = {"a": torch.randn(3, 4), "b": torch.tensor([1, 2**62]), "c": torch.tensor([float("nan"), -0.0])}
    save_tensors(tmp_path / "t.safetensors", tensors)
    read = load_tensors(tmp_path / "t.safetensors")
    assert digest(read) == digest(tensors)
    assert all(value.data_ptr() % 64 == 0 for value in read.values())


def test_the_digest_sees_names_types_shapes_and_bits():
    base = {"a": torch.zeros(2, 3)}
    others = [
        {"b": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": torch.zeros(2, 3), "b": torch.zeros(0)},
        {"a": -torch.zeros(2, 3)},
    ]
    assert len({digest(tensors) for tensors in [base, *others]}) == 6
    laid_out = torch.zeros(3, 2).t()
    assert digest({"a": laid_out}) == digest(base), "the layout in memory does not count"
    ab = {"a": torch.ones(1), "b": torch.zeros(1)}
    assert digest(ab) == digest(dict(reversed(ab.items())))


# ---- language models -------------------------------------------------------------------------------------------------


def test_language_predictions_and_images_are_told_apart(trained_copy, trained):
    store = Store(trained_copy)
    image, language, snapshots = (m.id for m in row(trained, "Initialization")[:3])
    one = {"target_log_probabilities": -torch.rand(1, 5), "argmax": torch.arange(5, dtype=torch.int32)[None]}
    five = {name: value.repeat(5, 1) for name, value in one.items()} | {"logits": torch.rand(5, 2, 7)}
    save_tensors(store.predictions_path(language), one)
    save_tensors(store.predictions_path(snapshots), five)

    found = store.language_predictions(language)
    assert np.array_equal(found.target_log_probabilities, one["target_log_probabilities"].numpy())
    assert np.array_equal(found.mean_argmax, found.argmax[0])
    assert found.logits is None
    found = store.language_predictions(snapshots)
    assert found.logits.shape == (5, 2, 7)
    assert found.mean_argmax is None
    save_tensors(store.predictions_path(snapshots), five | {"mean_argmax": one["argmax"][0]})
    assert store.language_predictions(snapshots).mean_argmax.tolist() == [0, 1, 2, 3, 4]

    with pytest.raises(StoreError, match=r"is a language model: use language_predictions\(member_id\)"):
        store.predictions(language)
    with pytest.raises(StoreError, match=r"is no language model: use predictions\(member_id\)"):
        store.language_predictions(image)
    with pytest.raises(DataError, match=r"is a language model, which has no logits of all test tokens"):
        metrics.accuracy(open_stored(store, [image, language]), store.labels())

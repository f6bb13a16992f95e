"""A finished member that is trained again, for more views or files, never loses what it has, however that ends."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline import inline  # noqa: F401
from test_engine import INIT, Counter, experiment
from test_store_power import lose_power
from test_store_verify import contents

import popnet
from popnet.engine import run, serving
from popnet.engine.jobs import Job
from popnet.errors import StoreError
from popnet.protocol import View
from popnet.report import document
from popnet.results.stores.populations import failed_members
from popnet.store import Store, open_store
from popnet.store import verify as verify_module
from popnet.store.files import renewed
from popnet.store.ledger import Ledger
from popnet.store.verify import verify

pytestmark = pytest.mark.usefixtures("inline")

KEPT = {"keep": ["predictions", "weights"]}
FLIPPED = {"name": "flip", "vary": ["init"], "views": "flip"}
CROPPED = {"name": "crop", "vary": ["init"], "views": "crop9"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> popnet.Result:
    """Two members with one view each."""
    return run(experiment([INIT], 2), tmp_path_factory.mktemp("plain") / "store", workers=1)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> popnet.Result:
    """The same with two views, trained at once."""
    return run(experiment([INIT, FLIPPED], 2), tmp_path_factory.mktemp("wide") / "store", workers=1)


@pytest.fixture
def folder(plain: popnet.Result, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain.store.path, tmp_path / "store"))


def said(store: Store, *left_out: str) -> dict[str, Any]:
    return store.members().drop(columns=["seconds", "finished", *left_out]).to_dict("index")


def widened(folder: Path) -> Counter:
    counter = Counter()
    run(experiment([INIT, FLIPPED], 2), folder, workers=1, reporter=counter)
    return counter


def fail_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every training fail when it has written its files."""
    finish: Callable[..., Any] = serving._finish

    def failing(job: Job, *rest: Any) -> None:
        finish(job, *rest)
        raise RuntimeError("no luck")

    monkeypatch.setattr(serving, "_finish", failing)


def test_a_failure_leaves_what_was_there_and_is_reported(
    plain: popnet.Result, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_late(patch)
        counter = widened(folder)
    assert (counter.trained, counter.failed) == (0, 2)
    store, ids = open_store(folder), [m.id for m in plain.plan.members]
    assert contents(folder) == contents(plain.store.path)
    assert said(store, "error") == said(plain.store, "error")
    assert store.done() == plain.store.done()
    assert (store.verify(), store.half_written()) == ({}, [])
    for key in ids:
        assert store.history(key).equals(plain.store.history(key))
    assert store.failures() == dict.fromkeys(ids, "RuntimeError: no luck")
    result = popnet.Result(popnet.plan(experiment([INIT, FLIPPED], 2)), store)
    assert failed_members(result.plan, store) == store.failures()
    table = result.table()
    assert table[["members", "failed"]].to_dict("index") == {
        "init": {"members": 2, "failed": 0},
        "flip": {"members": 0, "failed": 2},
    }
    assert "RuntimeError: no luck" in str(document.build([folder], figures=False))
    assert (widened(folder).trained, store.failures()) == (2, {})
    assert store.done() == {key: {View(), View(flip=True)} for key in ids}


def test_views_that_other_experiments_asked_for_stay(wide: popnet.Result, tmp_path: Path) -> None:
    folder = shutil.copytree(wide.store.path, tmp_path / "store")
    result = run(experiment([CROPPED], 2), folder, workers=1)
    for m in wide.plan.members:
        views, before = result.store.views(m.id), wide.store.predictions(m.id)
        assert len(views) == 10
        assert views[0] == View()
        places = [views.index(view) for view in wide.store.views(m.id)]
        assert np.array_equal(result.store.predictions(m.id)[places], before)
    assert widened(folder).trained == 0


def test_shared_beginnings_are_shared_by_members_that_have_views_already(tmp_path: Path) -> None:
    late = {"name": "late", "vary": ["shuffle"], "onset": 3}
    run(experiment([{**late, "views": "flip"}], 3, epochs=4), tmp_path / "store", workers=1)
    counter = Counter()
    result = run(experiment([{**late, "views": "crop9"}], 4, epochs=4), tmp_path / "store", workers=1, reporter=counter)
    assert counter.epochs == counter.planned_epochs
    assert (counter.trained, counter.failed) == (4, 0)
    assert [len(result.store.views(m.id)) for m in result.plan.members] == [10, 10, 10, 9]


@pytest.mark.parametrize("entered", [False, True])
def test_a_run_that_is_cut_short_leaves_the_old_files_or_puts_the_new_ones_in_place(
    plain: popnet.Result, wide: popnet.Result, folder: Path, monkeypatch: pytest.MonkeyPatch, entered: bool
) -> None:
    """Cut short before the entry is written, and after it while the old file is still in its place."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    owner, name = (Store, "put_renewed") if entered else (Ledger, "write")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(KeyboardInterrupt):
            widened(folder)
    first = plain.plan.members[0].id
    store = open_store(folder)
    assert renewed(store.predictions_path(first)).exists()
    assert store.predictions_path(first).read_bytes() == plain.store.predictions_path(first).read_bytes()
    assert store.verify() == {}
    if entered:
        with pytest.raises(
            StoreError, match=r"holds 1 views, and its entry names 2: read again where a run adds views"
        ):
            store.predictions(first)
    store.lock()
    store.unlock()
    assert not renewed(store.predictions_path(first)).exists()
    assert len(store.predictions(first)) == len(store.views(first)) == 1 + entered
    assert widened(folder).trained == 2 - entered
    assert contents(folder) == contents(wide.store.path)


def test_adding_views_can_lose_power_at_any_step(wide: popnet.Result, plain: popnet.Result, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    store = Path(shutil.copytree(plain.store.path, tmp_path / "root" / "store"))
    left = lose_power(tmp_path / "root", store, lambda: widened(store), tmp_path)
    for path in random.Random(5).sample(left, 20):
        opened = open_store(path)
        opened.lock()
        opened.unlock()
        for m in plain.plan.members:
            original = plain.store.predictions(m.id)[0]
            assert np.array_equal(opened.predictions(m.id)[0], original)
            assert len(opened.predictions(m.id)) == len(opened.views(m.id))
        widened(path)
        assert contents(path) == contents(wide.store.path)
        assert verify(opened) == []


def test_a_reader_waits_for_the_file_of_views_that_are_just_entered(
    wide: popnet.Result, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = wide.plan.members[0].id
    run_of, there = Store(folder), wide.store.ledger.entry(first)
    assert there is not None
    shutil.copy(wide.store.predictions_path(first), renewed(run_of.predictions_path(first)))
    run_of.ledger.write([(there.row, there.history)])
    monkeypatch.setattr("popnet.store.store.time.sleep", lambda seconds: run_of.put_renewed(first))
    views, logits = open_store(folder).viewed_predictions(first)
    assert (views, len(logits)) == (wide.store.views(first), 2)


def test_what_a_run_makes_anew_meanwhile_is_no_damage(
    wide: popnet.Result, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, running = verify_module._member_file, Store(folder)

    def renewing(subject: Any) -> Any:
        entry = wide.store.ledger.entry(subject[0].row["id"])
        assert entry is not None
        running.ledger.write([(entry.row, entry.history)])
        shutil.copy(wide.store.predictions_path(entry.row["id"]), running.path / "members")
        return check(subject)

    monkeypatch.setattr(verify_module, "_member_file", renewing)
    assert verify(open_store(folder)) == []
    shutil.copy(wide.store.labels_path(next((folder / "labels").iterdir()).stem), next((folder / "members").iterdir()))
    monkeypatch.undo()
    assert [finding.kind for finding in verify(open_store(folder))] == ["damaged"]


def test_a_link_takes_no_files_place(plain: popnet.Result, wide: popnet.Result, folder: Path) -> None:
    store, first = Store(folder), wide.plan.members[0].id
    entry = wide.store.ledger.entry(first)
    assert entry is not None
    store.ledger.write([(entry.row, entry.history)])
    renewed(store.predictions_path(first)).symlink_to(wide.store.predictions_path(first))
    store.lock()
    store.unlock()
    assert not renewed(store.predictions_path(first)).is_symlink()
    assert store.predictions_path(first).read_bytes() == plain.store.predictions_path(first).read_bytes()
    assert list(store.verify()) == [first]


def test_files_that_are_added_do_not_touch_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_ino for path in folder.glob("members/*")}
    with monkeypatch.context() as patch:
        fail_late(patch)
        run(experiment([INIT], 2, **KEPT), folder, workers=1)
    assert {path: path.stat().st_ino for path in folder.glob("members/*")} == before
    assert not list(folder.glob("weights/*"))
    result = run(experiment([INIT], 2, **KEPT), folder, workers=1)
    assert len(list(folder.glob("weights/*.safetensors"))) == 2
    assert (result.store.verify(), result.store.failures()) == ({}, {})

"""Merging: the members of both, bit for bit, or nothing where they contradict. Export: what is read back."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from inline import inline  # noqa: F401
from test_engine import INIT, Counter, experiment
from test_store_verify import contents, flip, set_fingerprints
from typer.testing import CliRunner

import popnet
from popnet import metrics
from popnet.cli import app
from popnet.engine import run
from popnet.errors import ConfigError, StoreError
from popnet.store import Store, open_store, save_tensors
from popnet.store import merge as merge_module
from popnet.store.export import export
from popnet.store.header import write_header
from popnet.store.merge import Merged, merge

pytestmark = pytest.mark.usefixtures("inline")

FLIPPED = {"name": "flip", "vary": ["init"], "views": "flip"}
WEIGHTS = {"keep": ["predictions", "weights"]}


def merged(into: Path, *sources: Path) -> list[Merged]:
    store = Store(into, create=True)
    store.lock()
    try:
        return [merge(store, open_store(source)) for source in sources]
    finally:
        store.unlock()


def rows(folder: Path) -> pd.DataFrame:
    return Store(folder).members().drop(columns=["seconds", "finished"]).sort_index()


def folders(tmp_path: Path, *variants: Any, **recipe: Any) -> list[Path]:
    """Stores that were run one with each list of variants, and one with all that was asked."""
    made = []
    for number, (asked, population) in enumerate(variants):
        made.append(tmp_path / f"part{number}")
        run(experiment(asked, population, **recipe), made[-1], workers=1)
    return made


# ---- merge -----------------------------------------------------------------------------------------------------------


def test_two_parts_make_the_whole(tmp_path: Path) -> None:
    shuffle = {"name": "shuffle", "vary": ["shuffle"]}
    parts = folders(tmp_path, ([INIT], 3), ([shuffle], 2), **WEIGHTS)
    whole = run(experiment([INIT, shuffle], 3, **WEIGHTS), tmp_path / "whole", workers=1)
    # the first member of both has the seeds of the constants
    assert merged(tmp_path / "all", *parts) == [Merged(3, 0, ()), Merged(1, 1, ())]
    assert merged(tmp_path / "all", *parts) == [Merged(0, 3, ()), Merged(0, 2, ())]
    assert Store(tmp_path / "all").verify() == {}
    counter = Counter()
    run(experiment([INIT, shuffle], 3, **WEIGHTS), tmp_path / "all", workers=1, reporter=counter)
    assert counter.trained == 1
    assert rows(tmp_path / "all").equals(rows(whole.store.path))
    assert contents(tmp_path / "all") == contents(whole.store.path)
    for member in whole.plan.members:
        assert Store(tmp_path / "all").history(member.id).equals(whole.store.history(member.id))


def test_more_views_and_more_files_win(tmp_path: Path) -> None:
    plain, wide = folders(tmp_path, ([INIT], 2), ([FLIPPED], 2))
    (kept,) = folders(tmp_path / "kept", ([INIT], 2), **WEIGHTS)
    first = popnet.plan(experiment([INIT], 2)).members[0].id
    assert merged(plain, wide, kept) == [Merged(2, 0, ()), Merged(2, 0, ())]
    assert Store(plain).predictions(first).shape[0] == 2
    assert Store(plain).weights(first)
    assert merged(wide, plain) == [Merged(2, 0, ())], "its weights"
    assert merged(wide, plain, kept) == [Merged(0, 2, ()), Merged(0, 2, ())]
    assert contents(wide) == contents(plain)
    assert Store(wide).verify() == Store(plain).verify() == {}


def test_a_file_that_is_missing_is_taken_only_where_it_is_the_same(tmp_path: Path) -> None:
    plain, wide = folders(tmp_path, ([INIT], 2), ([FLIPPED], 2))
    whole = Store(shutil.copytree(wide, tmp_path / "whole"))
    first, second = whole.members().index
    for key in (first, second):
        Store(wide).predictions_path(key).unlink()
    assert merged(wide, plain) == [Merged(0, 2, ())]
    assert not list((wide / "members").iterdir())
    whole.predictions_path(second).unlink()
    assert merged(wide, whole.path) == [Merged(1, 0, (second,))]
    assert np.array_equal(Store(wide).predictions(first), whole.predictions(first))


def test_a_failed_member_is_taken_from_where_it_succeeded(tmp_path: Path) -> None:
    made = experiment([INIT], 2)
    whole = run(made, tmp_path / "whole", workers=1)
    failed = Store(tmp_path / "failed", create=True)
    for member in whole.plan.members:
        failed.record_failed(member, "no luck", 1.0)
    assert merged(tmp_path / "whole", tmp_path / "failed") == [Merged(0, 2, ())]
    assert merged(tmp_path / "other", tmp_path / "failed", tmp_path / "whole") == [Merged(2, 0, ()), Merged(2, 0, ())]
    assert rows(tmp_path / "other").equals(rows(tmp_path / "whole"))


def test_what_is_damaged_is_left_out(tmp_path: Path) -> None:
    whole = run(experiment([INIT], 3), tmp_path / "whole", workers=1)
    member = whole.plan.members[1].id
    flip(whole.store.predictions_path(member))
    assert merged(tmp_path / "all", whole.store.path) == [Merged(2, 0, (member,))]
    assert member not in Store(tmp_path / "all").members().index
    done = CliRunner().invoke(app, ["store", "merge", str(tmp_path / "again"), str(whole.store.path)])
    assert done.exit_code == 1
    assert f"member {member} is left out: {whole.store.predictions_path(member)}: does not match" in done.output
    assert f"{whole.store.path}: 2 members taken, 0 known\n" in done.output


def test_contradictions_are_refused_before_anything_is_copied(tmp_path: Path) -> None:
    one, other = folders(tmp_path, ([INIT], 2), ([INIT], 3))
    store, member = Store(other), popnet.plan(experiment([INIT], 2)).members[1]
    entry = store.ledger.entry(member.id)
    assert entry is not None
    shutil.copytree(other, tmp_path / "bits")
    Store(tmp_path / "bits").ledger.write([({**entry.row, "weights_digest": "0" * 64}, entry.history)])
    with pytest.raises(StoreError, match=f"member {member.id} has other bits in .*bits than in .*weights_digest 0000"):
        merged(one, tmp_path / "bits")
    shutil.copytree(other, tmp_path / "data")
    write_header(tmp_path / "data", store.entered(), dict.fromkeys(store.datasets(), "f" * 64))
    with pytest.raises(StoreError, match="was made with other data"):
        merged(one, tmp_path / "data")
    (recipe,) = folders(tmp_path / "recipe", ([INIT], 2), epochs=3)
    with pytest.raises(StoreError, match=r"holds another recipe under the name 'engine' \(recipe.epochs is 2 there"):
        merged(one, recipe)
    assert len(Store(one).members()) == len(list((one / "members").iterdir())) == 2


def test_members_trained_by_other_bits_are_not_brought_together(tmp_path: Path) -> None:
    """Of one program on one kind of device, whether they are the same members or others."""
    shuffle = {"name": "shuffle", "vary": ["shuffle"]}
    one, other = folders(tmp_path, ([INIT], 2), ([shuffle], 3))
    program = "a" * 24
    set_fingerprints(Store(one), [f"{program}:{'1' * 64}"] * 2)
    set_fingerprints(Store(other), [f"{program}:{'2' * 64}", None, None])
    first, second = Store(one).members().index[0], Store(other).members().index[0]
    before = contents(one)
    with pytest.raises(StoreError, match=rf"{second} in .*part1 .* other bits \(2{{12}}\) .* {first} in .*part0 \(1"):
        merged(one, other)
    assert contents(one) == before
    set_fingerprints(Store(other), [f"{program}:{'1' * 64}", f"{'b' * 24}:{'2' * 64}", None])
    assert merged(one, other) == [Merged(2, 1, ())], "one is in both"
    assert {bits: len(keys) for bits, keys in Store(one).fingerprints()[program].items()} == {"1" * 64: 2}
    assert len(Store(one).fingerprints()) == 2
    assert merged(tmp_path / "all", one) == [Merged(4, 0, ())]
    assert Store(tmp_path / "all").fingerprints() == Store(one).fingerprints()


def test_a_store_that_disagrees_with_itself_takes_what_agrees_with_some_of_it(tmp_path: Path) -> None:
    """What is wrong there is for `verify` to say."""
    one, other = folders(tmp_path, ([INIT], 2), ([{"name": "shuffle", "vary": ["shuffle"]}], 3))
    set_fingerprints(Store(one), [f"{'a' * 24}:{'1' * 64}", f"{'a' * 24}:{'2' * 64}"])
    set_fingerprints(Store(other), [f"{'a' * 24}:{'2' * 64}", None, None])
    assert merged(one, other)[0].left == ()


def test_what_is_left_out_for_its_damage_says_nothing_of_the_bits(tmp_path: Path) -> None:
    one, other = folders(tmp_path, ([INIT], 2), ([{"name": "shuffle", "vary": ["shuffle"]}], 3))
    set_fingerprints(Store(one), [f"{'a' * 24}:{'1' * 64}"] * 2)
    set_fingerprints(Store(other), [None, f"{'a' * 24}:{'2' * 64}", None])
    damaged = Store(other).members().index[1]
    flip(Store(other).predictions_path(damaged))
    assert merged(one, other)[0].left == (damaged,)
    assert len(Store(one).fingerprints()["a" * 24]) == 1


def change(store: Path, script: str) -> None:
    with closing(sqlite3.connect(store / "ledger.sqlite")) as database:
        database.executescript(script)


@pytest.mark.parametrize("column", ["identity", "views", "versions"])
@pytest.mark.parametrize("value", ["x", "[" * 3000, '{"seeds": 1}', "[[0, 0]]"])
def test_an_entry_of_another_shape_is_left_out_or_named(tmp_path: Path, column: str, value: str) -> None:
    one, other = folders(tmp_path, ([INIT], 2), ([INIT], 2))
    change(other, f"UPDATE members SET {column} = '{value}' WHERE rowid = 1")
    assert merged(one, other)[0].left == (Store(one).members().index[0],)
    with pytest.raises(StoreError, match=rf"ledger\.sqlite: damaged: .* cannot be the {column} of a member.*repair"):
        merged(other, one)


@pytest.mark.parametrize("kind", ["predictions", "labels"])
def test_what_changes_while_it_is_copied_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """By a run that adds views to the source, or by a disk that gives other bytes than before."""
    (part,) = folders(tmp_path, ([INIT], 2))
    victim = "labels" if kind == "labels" else "members"
    read = merge_module._parts

    def other(path: Path) -> Iterator[bytes]:
        content = bytearray(b"".join(read(path)))
        content[-1] ^= path.parent.name == victim
        yield bytes(content)

    with monkeypatch.context() as patch:
        patch.setattr(merge_module, "_parts", other)
        with pytest.raises(StoreError, match=rf"{part}/{victim}/.*: changed while it was copied: run the same command"):
            merged(tmp_path / "all", part)
    assert not list((tmp_path / "all" / victim).iterdir())
    assert Store(tmp_path / "all").done() == {}
    assert merged(tmp_path / "all", part) == [Merged(2, 0, ())]


def test_a_source_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (part,) = folders(tmp_path, ([INIT], 2))
    check_space = merge_module._check_space

    def gone(into: Store, files: set[Path]) -> None:
        check_space(into, files)
        for path in files:
            path.unlink()

    monkeypatch.setattr(merge_module, "_check_space", gone)
    with pytest.raises(StoreError, match=rf"{part}/.*: cannot be read: No such file"):
        merged(tmp_path / "all", part)


def test_a_disk_that_is_too_full_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (part,) = folders(tmp_path, ([INIT], 2))
    monkeypatch.setattr(Store, "free_bytes", lambda self: 10)
    with pytest.raises(StoreError, match=r"the disk is too full: 0.0 MB are to be copied"):
        merged(tmp_path / "all", part)
    assert not list((tmp_path / "all" / "members").iterdir())


# ---- export ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return run(experiment([FLIPPED], 3, **WEIGHTS), tmp_path / "store", workers=1).store


def test_npz(store: Store, tmp_path: Path) -> None:
    ids = list(store.members().index)
    assert export(store, tmp_path / "out.npz") == 3
    with np.load(tmp_path / "out.npz", allow_pickle=False) as archive:
        found = dict(archive)
    assert found["id"].tolist() == ids
    assert found["init"].tolist() == [1, 2, 3]
    assert found["status"].tolist() == ["done"] * 3
    assert found["error"].tolist() == [""] * 3
    assert found["views"].tolist() == [[0, 0, 0], [1, 0, 0]]
    assert np.array_equal(found["labels"], store.labels())
    for index, member in enumerate(ids):
        predictions = store.predictions(member)
        assert np.array_equal(found["logits"][index], predictions[0])
        assert np.array_equal(found["other_views"][index], predictions[1:])
        assert np.array_equal(found["history"][index], store.history(member).to_numpy(), equal_nan=True)
    assert found["history_columns"].tolist() == list(store.history(ids[0]).columns)
    assert found["logits"].dtype == np.float32
    table = popnet.measure(tmp_path / "out.npz")
    assert table["accuracy_mean"].iloc[0] == metrics.variability(found["logits"], found["labels"]).accuracy_mean
    before = (tmp_path / "out.npz").read_bytes()
    export(store, tmp_path / "out.npz")
    assert (tmp_path / "out.npz").read_bytes() == before
    assert [path.name for path in tmp_path.glob("*out*")] == ["out.npz"]


def test_parquet(store: Store, tmp_path: Path) -> None:
    ids = list(store.members().index)
    run(experiment([INIT], 5), store.path, workers=1)
    assert export(store, tmp_path / "out.parquet") == 5, "those of one view stand beside those of two"
    table = pd.read_parquet(tmp_path / "out.parquet").set_index("id")
    assert list(table.index[:3]) == ids
    assert table["init"].tolist() == [1, 2, 3, 4, 5]
    assert table["weights_digest"].tolist() == store.members()["weights_digest"].tolist()
    assert [len(views) for views in table["views"]] == [2, 2, 2, 1, 1]
    for member in table.index:
        nested = [np.stack(list(view)) for view in table.loc[member, "predictions"]]
        assert np.array_equal(np.stack(nested), store.predictions(member))
        assert np.array_equal(table.loc[member, "labels"], store.labels())
        history = pd.DataFrame(list(table.loc[member, "history"])).set_index("epoch").astype(np.float64)
        assert history.equals(store.history(member))


def test_language_models(tmp_path: Path) -> None:
    result = run(experiment([INIT], 2), tmp_path / "store", workers=1)
    made = {}
    for member in result.plan.members:
        made[member.id] = {
            "target_log_probabilities": -torch.rand(1, 5),
            "argmax": torch.arange(5, dtype=torch.int32)[None],
        }
        save_tensors(result.store.predictions_path(member.id), made[member.id])
    export(result.store, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as archive:
        for name in ("target_log_probabilities", "argmax"):
            assert np.array_equal(archive[name], np.stack([tensors[name].numpy() for tensors in made.values()]))
    export(result.store, tmp_path / "out.parquet")
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert table["argmax"][1][0].tolist() == [0, 1, 2, 3, 4]


def test_members_that_differ_need_a_row_or_parquet(store: Store, tmp_path: Path) -> None:
    run(experiment([FLIPPED, {"name": "one", "vary": ["shuffle"]}], 3), store.path, workers=1)
    with pytest.raises(StoreError, match=r"differ in their shapes: name one row \(--row\), or export to .parquet"):
        export(store, tmp_path / "out.npz")
    assert not list(tmp_path.glob("*out*"))
    words = ["store", "export", str(store.path), str(tmp_path / "out.npz")]
    assert CliRunner().invoke(app, [*words, "--row", "flip"]).output == f"{tmp_path / 'out.npz'}: 3 members\n"
    with np.load(tmp_path / "out.npz") as archive:
        assert archive["init"].tolist() == [1, 2, 3]


def test_seeds_beyond_64_bits_are_text(store: Store, tmp_path: Path) -> None:
    entry = store.ledger.entry(store.members().index[0])
    assert entry is not None
    store.ledger.write([(dataclasses.replace(entry, row={**entry.row, "init": str(2**70)}).row, entry.history)])
    export(store, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as archive:
        assert archive["init"].tolist() == [str(2**70), "2", "3"]
    export(store, tmp_path / "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet")["init"].tolist() == [str(2**70), "2", "3"]


def test_what_cannot_be_exported(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"out.csv: must end in .npz or .parquet"):
        export(store, tmp_path / "out.csv")
    with pytest.raises(StoreError, match="no finished member to export"):
        export(Store(tmp_path / "empty", create=True), tmp_path / "out.npz")
    with pytest.raises(StoreError, match=r"out.npz: cannot be written: No such file or directory"):
        export(store, tmp_path / "missing" / "out.npz")

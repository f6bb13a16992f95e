"""Damage is named, set aside and made good by the next run; what nobody needs is found and removed."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from inline import inline  # noqa: F401
from test_engine import INIT, Counter, experiment
from typer.testing import CliRunner

import popnet
from popnet.cli import app
from popnet.engine import checkpoints, run
from popnet.errors import StoreError
from popnet.protocol import View
from popnet.results.stores.plans import planned_members
from popnet.store import Store, digest, open_store, save_tensors
from popnet.store.files import digest_of_file, load_tensors
from popnet.store.prune import prune
from popnet.store.repair import repair
from popnet.store.verify import HARMLESS, Finding, verify

pytestmark = pytest.mark.usefixtures("inline")

KEPT = {"keep": ["predictions", "weights", "trajectory"], "features": {"layers": ["fc"], "examples": 8}}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> popnet.Result:
    """A store whose members leave files of every kind."""
    return run(experiment([INIT], 3, **KEPT), tmp_path_factory.mktemp("sound") / "store", workers=1)


@pytest.fixture
def folder(sound: popnet.Result, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound.store.path, tmp_path / "store"))


def flip(path: Path, position: int = -1, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*.safetensors")}


def again(folder: Path) -> Counter:
    counter = Counter()
    run(experiment([INIT], 3, **KEPT), folder, workers=1, reporter=counter)
    return counter


def kinds(findings: list[Finding]) -> list[str]:
    return [finding.kind for finding in findings]


# ---- digests ---------------------------------------------------------------------------------------------------------


def test_the_digest_of_a_file_is_that_of_its_tensors(tmp_path: Path) -> None:
    types = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    tensors = {str(dtype): torch.randn(3, 700_001).to(dtype) for dtype in types}
    tensors |= {str(dtype): torch.arange(5).to(dtype) for dtype in (torch.int64, torch.int32, torch.uint8, torch.bool)}
    tensors |= {"empty": torch.zeros(0, 3), "scalar": torch.tensor(1.0)}
    save_tensors(tmp_path / "t.safetensors", tensors)
    assert digest_of_file(tmp_path / "t.safetensors") == digest(tensors)


def test_flipped_bits_and_truncations_are_seen(tmp_path: Path) -> None:
    path, tensors = tmp_path / "t.safetensors", {"a": torch.randn(2, 3), "b": torch.arange(4, dtype=torch.int32)}
    save_tensors(path, tensors)
    content, expected = path.read_bytes(), digest(tensors)

    def seen() -> bool:
        try:
            return digest_of_file(path) != expected
        except StoreError:
            return True

    for position in range(len(content)):
        path.write_bytes(content)
        flip(path, position, position % 8)
        assert seen(), position
    for size in range(0, len(content), 3):
        path.write_bytes(content[:size])
        assert seen(), size


def test_every_kind_of_file_has_its_digest_on_record(sound: popnet.Result) -> None:
    for entry in sound.store.ledger.entries():
        assert entry.intact
        assert entry.row["entry_digest"] == entry.digest
        for kind in ("weights", "features", "trajectory", "predictions"):
            assert digest_of_file(sound.store.file_of(kind, entry.row["id"])) == entry.row[f"{kind}_digest"]


# ---- what verify says, and what a run does ---------------------------------------------------------------------------


def test_nothing_is_amiss_in_a_sound_store(sound: popnet.Result) -> None:
    assert verify(sound.store) == []
    assert sound.store.verify() == {}


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("kind", ["weights", "features", "trajectory", "predictions"])
def test_a_damaged_file_is_named_set_aside_and_made_again(
    kind: str, damage: Callable[[Path], None], folder: Path, sound: popnet.Result
) -> None:
    member = sound.plan.members[1].id
    path = Store(folder).file_of(kind, member)
    damage(path)
    expected = [] if damage is Path.unlink and kind != "predictions" else [member]
    assert list(Store(folder).verify()) == expected
    counter = again(folder)
    assert (counter.trained, counter.failed) == (1, 0)
    if damage is not Path.unlink:
        (message,) = counter.messages
        assert str(path) in message
        assert "set aside as" in message
        aside = folder / "damaged" / f"{path.parent.name}-{path.name}"
        assert aside.exists()
        assert aside.read_bytes() != path.read_bytes()
    assert contents(folder) == {**contents(sound.store.path), **contents_of_damaged(folder)}
    assert Store(folder).verify() == {}
    assert again(folder).trained == 0


def contents_of_damaged(folder: Path) -> dict[str, bytes]:
    return {f"damaged/{path.name}": path.read_bytes() for path in (folder / "damaged").glob("*")}


def test_what_this_run_does_not_ask_for_costs_no_training(folder: Path, sound: popnet.Result) -> None:
    """Weights that the recipe does not keep are set aside, and nothing is trained for them."""
    flip(Store(folder).weights_path(sound.plan.members[0].id))
    counter = Counter()
    run(experiment([INIT], 3), folder, workers=1, reporter=counter)
    assert counter.trained == 0
    assert len(counter.messages) == 1
    assert Store(folder).members()["status"].eq("done").all()


def test_a_run_can_leave_the_files_unread(folder: Path, sound: popnet.Result) -> None:
    flip(Store(folder).predictions_path(sound.plan.members[0].id))
    counter = Counter()
    run(experiment([INIT], 3, **KEPT), folder, workers=1, reporter=counter, verify=False)
    assert (counter.trained, counter.messages) == (0, [])


@pytest.mark.parametrize("column", ["accuracy = 12.5", "views = '[[1, 0, 0]]'", "weights_digest = 'abc'", "history"])
def test_an_entry_that_changed_is_named_and_its_member_trained_again(
    column: str, folder: Path, sound: popnet.Result
) -> None:
    member = sound.plan.members[2].id
    with sqlite3.connect(folder / "ledger.sqlite") as database:
        if column == "history":
            database.execute("UPDATE history SET train_loss = 0.5 WHERE id = ? AND epoch = 2", [member])
        else:
            database.execute(f"UPDATE members SET {column} WHERE id = ?", [member])
    database.close()
    assert Store(folder).verify() == {
        member: f"{folder / 'ledger.sqlite'}: does not match its digest in the entry of {member}"
    }
    assert again(folder).trained == 1
    assert contents(folder) == contents(sound.store.path)
    assert Store(folder).history(member).equals(sound.store.history(member))
    assert Store(folder).verify() == {}


def test_a_damaged_member_says_so_until_it_is_trained(folder: Path, sound: popnet.Result) -> None:
    member = sound.plan.members[0].id
    flip(Store(folder).predictions_path(member))
    assert repair(folder)
    assert Store(folder).members().loc[member, "status"] == "damaged"
    with pytest.raises(StoreError, match=f"member {member} has no predictions: it is damaged: .*set aside as"):
        Store(folder).predictions(member)
    assert member not in Store(folder).done()
    assert again(folder).trained == 1


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
def test_labels_are_written_again(damage: Callable[[Path], None], folder: Path, sound: popnet.Result) -> None:
    (path,) = (folder / "labels").iterdir()
    damage(path)
    (finding,) = verify(Store(folder))
    assert finding.kind == ("missing" if damage is Path.unlink else "damaged")
    assert again(folder).trained == 0
    assert (open_store(folder).labels() == sound.store.labels()).all()


def test_a_damaged_beginning_is_trained_again(tmp_path: Path) -> None:
    made = experiment([{"name": "late", "vary": ["shuffle"], "onset": 3}], 3, epochs=4)
    calm = run(made, tmp_path / "calm", workers=1)
    plan = popnet.plan(made)
    store = Store(tmp_path / "store", create=True)
    (trunk,) = plan.trunks(plan.members, {plan.members[0].recipe.digest: 3})
    content = checkpoints.pack({"epoch": torch.tensor([3])}, trunk.member.id, (View(),))
    path = store.checkpoint_path(trunk.id, 3)
    path.write_bytes(content)
    assert verify(store) == []
    flip(path, len(content) // 2)
    assert kinds(verify(store)) == ["damaged"]
    counter = Counter()
    result = run(made, store.path, workers=1, reporter=counter)
    assert str(path) in counter.messages[0]
    assert counter.failed == 0
    columns = ["weights_digest", "predictions_digest"]
    assert result.store.members()[columns].sort_index().equals(calm.store.members()[columns].sort_index())


# ---- the ledger and store.json ---------------------------------------------------------------------------------------


def spoil_pages(folder: Path, seed: int) -> None:
    """Overwrite a part of the ledger after its first page."""
    draw, path = random.Random(seed), folder / "ledger.sqlite"
    content = bytearray(path.read_bytes())
    first = draw.randrange(4096, len(content) - 2000)
    content[first : first + 2000] = draw.randbytes(2000)
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(8))
def test_of_a_damaged_ledger_the_intact_entries_are_kept(seed: int, folder: Path, sound: popnet.Result) -> None:
    spoil_pages(folder, seed)
    store = open_store(folder)
    problem = store.ledger.problem()
    if problem is not None:
        assert kinds(verify(store)) == ["ledger"]
        with pytest.raises(StoreError, match="popnet store repair"):
            again(folder)
    repair(folder)
    kept = len(Store(folder).members())
    assert not list(folder.glob("ledger.sqlite-*"))
    counter = again(folder)
    assert counter.trained >= 3 - kept
    assert contents(folder) == contents(sound.store.path)
    assert Store(folder).verify() == {}
    for member in sound.plan.members:
        assert Store(folder).history(member.id).equals(sound.store.history(member.id))


@pytest.mark.parametrize("ledger", [None, b"", b"not a database" * 100])
def test_a_lost_ledger_is_written_anew(ledger: bytes | None, folder: Path, sound: popnet.Result) -> None:
    (folder / "ledger.sqlite").unlink()
    if ledger is not None:
        (folder / "ledger.sqlite").write_bytes(ledger)
    told: list[str] = []
    assert repair(folder, told.append)
    assert "with the 0 members whose entries are intact" in told[0]
    assert again(folder).trained == 3
    assert contents(folder) == contents(sound.store.path)


@pytest.mark.parametrize("damage", [Path.unlink, truncate, lambda path: flip(path, 300)])
def test_a_damaged_header_is_replaced(damage: Callable[[Path], None], folder: Path) -> None:
    damage(folder / "store.json")
    with pytest.raises(StoreError, match=r"store.json"):
        again(folder)
    assert repair(folder)
    assert Store(folder).experiments() == {}
    assert again(folder).trained == 0
    assert list(Store(folder).experiments()) == ["engine"]


def test_a_header_without_a_digest_is_read(folder: Path) -> None:
    header = json.loads((folder / "store.json").read_text())
    del header["digest"]
    (folder / "store.json").write_text(json.dumps(header))
    assert list(Store(folder).experiments()) == ["engine"]


def test_an_older_ledger_is_read_and_brought_up_to_date(folder: Path, sound: popnet.Result) -> None:
    with sqlite3.connect(folder / "ledger.sqlite") as database:
        for column in ("features_digest", "trajectory_digest", "entry_digest", "fingerprint"):
            database.execute(f"ALTER TABLE members DROP COLUMN {column}")
    database.close()
    assert Store(folder).members().equals(sound.store.members())
    assert Store(folder).verify() == {}
    assert again(folder).trained == 0
    entries = list(Store(folder).ledger.entries())
    assert all(entry.row["entry_digest"] == entry.digest for entry in entries)
    assert all(entry.row["features_digest"] is None for entry in entries)


def set_fingerprints(store: Store, fingerprints: list[str | None]) -> None:
    """As members would have that were trained by graphs on a GPU."""
    entries = list(store.ledger.entries())
    changed = ({**entry.row, "fingerprint": text} for entry, text in zip(entries, fingerprints, strict=True))
    store.ledger.write([(row, entry.history) for row, entry in zip(changed, entries)])


def test_members_trained_by_other_bits_are_named(folder: Path) -> None:
    """By graphs of one program on one kind of device; nobody else is held against them."""
    store = Store(folder)
    program, other = "a" * 24, "b" * 24
    set_fingerprints(store, [f"{program}:{'1' * 64}", f"{program}:{'1' * 64}", f"{other}:{'2' * 64}"])
    assert verify(store) == []
    first, second, third = (str(entry.row["id"]) for entry in store.ledger.entries())
    assert store.fingerprints() == {program: {"1" * 64: [first, second]}, other: {"2" * 64: [third]}}
    set_fingerprints(store, [f"{program}:{'1' * 64}", f"{program}:{'2' * 64}", f"{program}:{'1' * 64}"])
    (finding,) = verify(store)
    assert (finding.kind, finding.member) == ("other bits", second)
    assert f"1 member(s) such as {second} were trained by graphs that compute other bits (222222222222)" in finding.text
    assert f"those of 2 such as {first} (111111111111)" in finding.text
    code, said = popnet_store("verify", folder)
    assert code == 1
    assert said.startswith("other bits: ")
    set_fingerprints(store, [f"{program}:{'1' * 64}", None, None])
    assert verify(store) == []


def test_a_fingerprint_that_is_none_is_damage(folder: Path) -> None:
    with sqlite3.connect(folder / "ledger.sqlite") as database:
        database.execute("UPDATE members SET fingerprint = 'x' WHERE rowid = 1")
    database.close()
    assert kinds(verify(Store(folder))) == ["entry"]
    assert Store(folder).fingerprints() == {}


def test_the_digest_of_features_outlives_a_training_that_keeps_none(folder: Path, sound: popnet.Result) -> None:
    flipped = {"name": "flip", "vary": ["init"], "views": "flip"}
    run(experiment([INIT, flipped], 3), folder, workers=1)
    before = {entry.row["id"]: entry.row["features_digest"] for entry in sound.store.ledger.entries()}
    assert {entry.row["id"]: entry.row["features_digest"] for entry in Store(folder).ledger.entries()} == before
    assert Store(folder).verify() == {}


def test_repair_needs_a_store_that_nobody_uses(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no popnet store here"):
        repair(tmp_path)
    store = Store(folder)
    store.lock()
    with pytest.raises(StoreError, match="in use by another run"):
        repair(folder)
    store.unlock()
    assert not repair(folder)


# ---- what nobody needs -----------------------------------------------------------------------------------------------


def litter(folder: Path) -> set[Path]:
    """Files of every kind that prune removes."""
    store = Store(folder)
    member = store.members().index[0]
    paths = [folder / "members" / ".x.safetensors.77.part", folder / ".store.json.77.part", store.partial_path(member)]
    paths += [store.predictions_path("0" * 24), store.weights_path("0" * 24), store.labels_path("0" * 24)]
    (folder / "damaged").mkdir()
    paths.append(folder / "damaged" / "weights-x.safetensors")
    for path in paths:
        path.write_bytes(checkpoints.pack({}, member, (View(),)))
    save_tensors(store.labels_path(digest({"a": torch.ones(1)})[:24]), {"a": torch.ones(1)})
    return {*paths, store.labels_path(digest({"a": torch.ones(1)})[:24])} - {store.labels_path("0" * 24)}


def test_leftovers_are_found_and_removed(folder: Path, sound: popnet.Result) -> None:
    expected = litter(folder)
    Store(folder).labels_path("0" * 24).unlink()
    findings = verify(Store(folder))
    assert {finding.path for finding in findings} == expected
    assert set(kinds(findings)) == HARMLESS
    store = Store(folder)
    store.lock()
    assert verify(store) == [], "a run is under way: what it writes is not left over"
    assert set(prune(store, dry_run=True).files) == expected
    pruned = prune(store)
    store.unlock()
    assert set(pruned.files) == expected
    assert pruned.size > 0
    assert verify(Store(folder)) == []
    assert contents(folder) == contents(sound.store.path)


def test_prune_removes_checkpoints_and_unplanned_members_when_told(folder: Path, sound: popnet.Result) -> None:
    store = Store(folder)
    partial = store.partial_path("f" * 24)
    partial.write_bytes(checkpoints.pack({}, "f" * 24, (View(),)))
    run(experiment([INIT], 2), folder, workers=1)
    store.lock()
    assert prune(store).files == ()
    assert prune(store, checkpoints=True).files == (partial,)
    pruned = prune(store, planned_members(store))
    store.unlock()
    gone = sound.plan.members[2].id
    assert pruned.members == (gone,)
    assert len(pruned.files) == 4
    assert list(store.members().index) == [m.id for m in sound.plan.members[:2]]
    assert store.verify() == {}
    assert again(folder).trained == 1
    assert contents(folder) == contents(sound.store.path)


# ---- the command line ------------------------------------------------------------------------------------------------


def popnet_store(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["store", *map(str, words)])
    return done.exit_code, done.output


def test_commands(folder: Path, sound: popnet.Result) -> None:
    assert popnet_store("verify", folder) == (
        0,
        f"{folder}: nothing damaged or missing, 0 left over (popnet store prune)\n",
    )
    assert popnet_store("repair", folder) == (0, f"{folder}: nothing is damaged\n")
    path = Store(folder).predictions_path(sound.plan.members[0].id)
    flip(path)
    code, output = popnet_store("verify", folder)
    assert code == 1
    assert f"damaged: {path}: does not match its digest\n" in output
    code, output = popnet_store("repair", folder)
    assert code == 0
    assert output == f"{path}: does not match its digest: set aside as {folder / 'damaged' / f'members-{path.name}'}\n"
    code, output = popnet_store("prune", folder, "--dry-run")
    assert output.startswith(str(folder / "damaged" / f"members-{path.name}"))
    assert output.endswith("1 files, 0.0 MB, and 0 members would be removed\n")
    code, output = popnet_store("prune", folder, "--unplanned", "--checkpoints")
    assert (code, Store(folder).verify(), len(list((folder / "damaged").iterdir()))) == (0, {}, 0)
    assert load_tensors(Store(folder).weights_path(sound.plan.members[0].id))

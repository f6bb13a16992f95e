"""Power loss: what would be on disk is rebuilt before each step of a run, and is a sound store every time.

A disk may keep anything between what was flushed and what was written. `Disk` follows every write, flush, rename and
removal of the test's process, and builds both extremes and mixtures of them: names and contents as they were last
flushed; names as they are now, with contents that were never flushed lost. The ledger's content is taken as it is, and
its log with it: SQLite flushes them itself, each transaction.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from inline import inline  # noqa: F401
from test_engine import INIT, Counter, experiment
from test_store_verify import contents, flip

import popnet
from popnet.engine import run
from popnet.store import Store, open_store
from popnet.store.files import RENEWED
from popnet.store.ledger import Ledger
from popnet.store.merge import merge
from popnet.store.repair import repair
from popnet.store.verify import HARMLESS, verify

pytestmark = pytest.mark.usefixtures("inline")

VARIANTS = [INIT, {"name": "late", "vary": ["shuffle"], "onset": 1}]
KEPT = {"keep": ["predictions", "weights"]}


class Disk:
    """What a loss of power would leave of a folder.

    Args:
        root: the folder, which is itself on disk; what is in it now is too.
        look: is called before every step with a number, and copies what would be left by `leave`.
    """

    def __init__(self, root: Path, look: Callable[[Disk, int], None]) -> None:
        self.root, self._look, self._steps, self._looking = root, look, 0, False
        files = [path for path in root.rglob("*") if path.is_file()]
        self._flushed = {_version(path): path.read_bytes() for path in files}
        self._names = {path: path.read_bytes() for path in files}
        self._folders = {root, *(path for path in root.rglob("*") if path.is_dir())}

    def before_step(self) -> None:
        if not self._looking:
            self._looking = True
            self._look(self, self._steps)
            self._steps += 1
            self._looking = False

    def flushed(self, path: Path) -> None:
        if not path.is_relative_to(self.root):
            return
        if path.is_dir():
            others = {name: content for name, content in self._names.items() if name.parent != path}
            self._names = others | self._written(path.iterdir())
            self._folders |= {entry for entry in path.iterdir() if entry.is_dir()}
        else:
            self._flushed[_version(path)] = path.read_bytes()

    def leave(self, target: Path, now: Callable[[Path], bool]) -> Path:
        """Build in `target` what is left where the names that `now` chooses are as they are now."""
        shutil.rmtree(target, ignore_errors=True)
        for folder in {*self._folders, *(path for path in self.root.rglob("*") if path.is_dir() and now(path))}:
            if self._reachable(folder, now):
                (target / folder.relative_to(self.root)).mkdir(parents=True, exist_ok=True)
        written = self._written(self.root.rglob("*"))
        for path in sorted({*written, *self._names}):
            log = path.name.startswith("ledger.sqlite-")
            names = written if now(path) or log else self._names
            if path in names and self._reachable(path, now):
                ledger = path.name.startswith("ledger.sqlite") and path.exists()
                content = path.read_bytes() if ledger else names[path]
                (target / path.relative_to(self.root)).write_bytes(content)
        return target

    def _reachable(self, path: Path, now: Callable[[Path], bool]) -> bool:
        """Whether every folder above is there."""
        folders = [self.root / folder for folder in path.relative_to(self.root).parents]
        return all(folder in self._folders or now(folder) for folder in folders)

    def _written(self, paths: Iterable[Path]) -> dict[Path, bytes]:
        """Files as they are named now, with what was flushed of them as they are."""
        return {path: self._flushed.get(_version(path), b"") for path in paths if path.is_file()}


def _version(path: Path) -> tuple[int, int, int]:
    """Changes when a file does; the number of a file that is gone is soon another's."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


@contextmanager
def followed(disk: Disk) -> Iterator[None]:
    """Have a disk follow this process."""
    fsync = os.fsync

    def flush(descriptor: int) -> None:
        disk.before_step()
        fsync(descriptor)
        disk.flushed(Path(f"/proc/self/fd/{descriptor}").readlink())

    def stepping(original: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            disk.before_step()
            return original(*arguments, **options)

        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", flush)
        for owner, names in ((Path, ("replace", "unlink", "mkdir")), (Ledger, ("create", "write", "mark_damaged"))):
            for name in names:
                patch.setattr(owner, name, stepping(getattr(owner, name)))
        yield


def extremes(step: int) -> dict[str, Callable[[Path], bool]]:
    draw = random.Random(step)
    choice: dict[str, bool] = {}

    def mixed(path: Path) -> bool:
        """A rename in a folder is one step of its file system, so what is made anew goes with what it becomes."""
        return choice.setdefault(str(path).replace("/.", "/").removesuffix(RENEWED), draw.random() < 0.5)

    return {"flushed": lambda path: False, "written": lambda path: True, "mixed": mixed}


def done(store: Path) -> set[str]:
    return set(open_store(store).done()) if (store / "store.json").exists() else set()


def lose_power(root: Path, store: Path, work: Callable[[], Any], tmp_path: Path, sound: bool = True) -> list[Path]:
    """Do some work on a store; returns the stores that would be left before each step, each checked where `sound`."""
    left: list[Path] = []
    wrong: list[BaseException] = []

    def look(disk: Disk, step: int) -> None:
        try:
            examine(disk, step)
        except BaseException as error:  # raised below, where nothing can take it for a member's failure
            wrong.append(error)

    def examine(disk: Disk, step: int) -> None:
        promised = done(store) if sound else set()
        for name, now in extremes(step).items():
            folder = disk.leave(tmp_path / f"left-{step}-{name}", now) / store.relative_to(root)
            left.append(folder)
            if not sound:
                continue
            if not (folder / "store.json").exists():
                assert not promised, "a finished member is gone with its store"
                Store(folder, create=True)
            else:
                opened = open_store(folder)
                assert [finding for finding in verify(opened) if finding.kind not in HARMLESS] == []
                assert promised <= set(opened.done())

    with followed(Disk(root, look)):
        work()
    if wrong:
        raise wrong[0]
    return left


def check_goes_on(folder: Path, whole: popnet.Result, missing: int | None = None) -> None:
    """A run brings what is left to the same end, and trains only what was not done."""
    counter = Counter()
    missing = len(whole.plan.members) - len(done(folder)) if missing is None else missing
    run(whole.plan.experiment, folder, workers=1, reporter=counter, checkpoint_minutes=1e-9)
    assert (counter.trained, counter.failed) == (missing, 0)
    assert contents(folder).items() >= contents(whole.store.path).items()
    assert not Store(folder).half_written()
    assert Store(folder).verify() == {}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_a_run_can_lose_power_at_any_step(tmp_path: Path, root: Path) -> None:
    made = experiment(VARIANTS, 2, **KEPT)
    store = root / "runs" / "mine"
    left = lose_power(root, store, lambda: run(made, store, workers=1, checkpoint_minutes=1e-9), tmp_path)
    assert len(left) > 150
    whole = run(made, store, workers=1)
    for folder in random.Random(1).sample(left, 8):
        check_goes_on(folder, whole)


def test_setting_aside_can_lose_power_at_any_step(tmp_path: Path, root: Path) -> None:
    made = experiment([INIT], 2, **KEPT)
    whole = run(made, tmp_path / "whole", workers=1)
    store = Store(shutil.copytree(whole.store.path, root / "store"))
    member = whole.plan.members[0].id
    flip(store.predictions_path(member))
    flip(store.weights_path(whole.plan.members[1].id))
    left = lose_power(root, store.path, lambda: repair(store.path), tmp_path, sound=False)
    assert len(left) > 20
    for folder in random.Random(2).sample(left, 6):
        check_goes_on(folder, whole, missing=2)


def test_rewriting_a_ledger_can_lose_power_at_any_step(tmp_path: Path, root: Path) -> None:
    made = experiment([INIT], 2, **KEPT)
    whole = run(made, tmp_path / "whole", workers=1)
    store = shutil.copytree(whole.store.path, root / "store")
    (store / "store.json").unlink()
    content = bytearray((store / "ledger.sqlite").read_bytes())
    content[100:120] = bytes(20)
    (store / "ledger.sqlite").write_bytes(content)
    left = lose_power(root, store, lambda: repair(store), tmp_path, sound=False)
    for folder in random.Random(3).sample(left, 6):
        repair(folder)
        check_goes_on(folder, whole)


@pytest.mark.parametrize("variants", [[INIT], [INIT, {"name": "flip", "vary": ["init"], "views": "flip"}]])
def test_merging_can_lose_power_at_any_step(tmp_path: Path, root: Path, variants: list[Any]) -> None:
    """Of members that come in, and of members that gain views."""
    whole = run(experiment(variants, 3, **KEPT), tmp_path / "whole", workers=1)
    run(experiment([INIT], 2, **KEPT), root / "store", workers=1)

    def work() -> None:
        store = Store(root / "store")
        store.lock()
        merge(store, whole.store)
        store.unlock()

    for folder in random.Random(4).sample(lose_power(root, root / "store", work, tmp_path), 4):
        settled = Store(folder)
        settled.lock()
        settled.unlock()
        wanted = {m.id: set(whole.plan.views[m.id]) for m in whole.plan.members}
        missing = sum(not views <= settled.done().get(key, set()) for key, views in wanted.items())
        check_goes_on(folder, whole, missing)

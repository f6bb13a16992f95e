"""Who may use a store when: two runs at a time, folders that cannot be written, full disks, clocks that jump."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from inline import inline  # noqa: F401
from test_engine import INIT, Counter, experiment
from test_store_verify import contents
from typer.testing import CliRunner

import popnet
from popnet.cli import app
from popnet.engine import run
from popnet.errors import StoreError
from popnet.store import Store, open_store, write_aside
from popnet.store.prune import prune
from popnet.store.repair import repair
from popnet.store.verify import verify

pytestmark = pytest.mark.usefixtures("inline")

NOBODY = 65534


# ---- two runs --------------------------------------------------------------------------------------------------------


class Watched(Counter):
    """Says when something was said."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Event()

    def message(self, text: str) -> None:
        super().message(text)
        self.told.set()


def test_a_second_run_waits_when_told_and_goes_on_from_what_it_finds(tmp_path: Path) -> None:
    first = Store(tmp_path / "store", create=True)
    first.lock()
    with pytest.raises(StoreError, match=rf"in use by another run \(process {os.getpid()}\): wait for it \(--wait\)"):
        run(experiment([INIT], 2), first.path, workers=1)
    watched, results = Watched(), []

    def second() -> None:
        results.append(run(experiment([INIT], 3), first.path, workers=1, reporter=watched, wait=True))

    thread = threading.Thread(target=second)
    thread.start()
    assert watched.told.wait(timeout=60)
    assert watched.messages == [f"{first.path}: in use by another run (process {os.getpid()}): waiting for it"]
    assert not list((first.path / "members").iterdir())
    done = run(experiment([INIT], 2), tmp_path / "other", workers=1)
    for file in contents(done.store.path):
        shutil.copy(done.store.path / file, first.path / file)
    entries = [(entry.row, entry.history) for entry in done.store.ledger.entries()]
    first.ledger.write(entries)
    first.unlock()
    thread.join(timeout=60)
    assert watched.trained == 1, "the others were made while it waited"
    assert list(results[0].store.members()["status"]) == ["done"] * 3


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    Store(tmp_path / "store", create=True)
    program = "import sys, time; from popnet.store import Store; s = Store(sys.argv[1]); s.lock(); print(flush=True); "
    holder = subprocess.Popen(
        [sys.executable, "-c", program + "time.sleep(600)", str(tmp_path / "store")], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert Store(tmp_path / "store").in_use()
    with pytest.raises(StoreError, match=rf"in use by another run \(process {holder.pid}\)"):
        Store(tmp_path / "store").lock()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert not Store(tmp_path / "store").in_use()
    Store(tmp_path / "store").lock()


def test_a_store_can_be_created_by_several_at_once(tmp_path: Path) -> None:
    errors: list[BaseException] = []
    start = threading.Barrier(8)

    def create() -> None:
        try:
            start.wait()
            Store(tmp_path / "deep" / "store", create=True)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Store(tmp_path / "deep" / "store").members().empty


def test_the_command_line_waits_too(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output
    assert "--wait" in found
    assert "--no-verify" in found


# ---- file systems ----------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_flushed_is_no_error_and_a_disk_that_fails_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync

    def refuse(number: int) -> Callable[[int], None]:
        def fsync(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))
            flush(descriptor)

        return fsync

    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))
    write_aside(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(StoreError, match="file: cannot be written: Input/output error"):
        write_aside(tmp_path / "file", b"content")


def test_what_cannot_be_removed_is_named(tmp_path: Path) -> None:
    store = run(experiment([INIT], 2), tmp_path / "store", workers=1).store
    (store.path / "damaged" / "of-somebody").mkdir(parents=True)
    with pytest.raises(StoreError, match="damaged/of-somebody: cannot be removed: Is a directory"):
        prune(store)


# ---- folders that cannot be written ----------------------------------------------------------------------------------


@contextmanager
def without_privileges() -> Iterator[None]:
    """As a user whom permissions stop, where the tests are root's."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A finished store in a folder that cannot be written, where anybody can get at it."""
    above = Path(tempfile.mkdtemp(prefix="popnet-read-only-"))
    above.chmod(0o755)
    store = run(experiment([INIT], 2), above / "store", workers=1).store.path
    folders = [store, *(path for path in store.iterdir() if path.is_dir())]
    for path in store.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    store.chmod(0o555)
    yield store
    for path in folders:
        path.chmod(0o755)
    shutil.rmtree(above)


def test_a_store_in_a_read_only_folder_can_be_read(read_only: Path) -> None:
    before = sorted(path.name for path in read_only.rglob("*"))
    with without_privileges():
        store = open_store(read_only)
        members = store.members()
        assert list(members["status"]) == ["done", "done"]
        assert store.predictions(members.index[0]).shape == (1, 30, 3)
        assert len(store.history(members.index[0])) == 2
        assert len(store.labels()) == 30
        assert verify(store) == []
        for write in (store.lock, lambda: run(experiment([INIT], 3), read_only, workers=1), lambda: repair(read_only)):
            with pytest.raises(StoreError, match="lock: cannot be written: Permission denied"):
                write()
        with pytest.raises(StoreError, match=r"file: cannot be written: Permission denied"):
            write_aside(read_only / "file", b"")
        with pytest.raises(StoreError, match="readonly database"):
            store.ledger.mark_damaged({members.index[0]: "no"})
        with pytest.raises(StoreError, match="cannot create a store here: Permission denied"):
            Store(read_only.parent / "new", create=True)
    assert sorted(path.name for path in read_only.rglob("*")) == before


def test_what_a_killed_run_left_is_read_too(read_only: Path, tmp_path: Path) -> None:
    """The last entries are still in SQLite's log then: they are read, not forgotten."""
    copy = tmp_path / "killed"
    live = Store(shutil.copytree(read_only, copy))
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755)
    live.lock()
    key = live.members().index[0]
    live.ledger.mark_damaged({key: "the last word"})
    read_only.chmod(0o755)
    for path in copy.glob("ledger.sqlite*"):
        target = read_only / path.name
        if target.exists():
            target.chmod(0o644)
        shutil.copy(path, target)
        target.chmod(0o444)
    live.unlock()
    assert (read_only / "ledger.sqlite-wal").stat().st_size > 0
    read_only.chmod(0o555)
    with without_privileges():
        assert open_store(read_only).members().loc[key, "error"] == "the last word"


# ---- full disks ------------------------------------------------------------------------------------------------------


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes, as where a quota is used up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [0, 100, 1000, 8192, 20000])
def test_a_full_disk_is_said_and_what_was_there_stays(size: int, tmp_path: Path) -> None:
    made = experiment([INIT], 4, keep=["predictions", "weights"])
    whole = run(made, tmp_path / "whole", workers=1)
    begun = run(experiment([INIT], 2, keep=["predictions", "weights"]), tmp_path / "store", workers=1)
    with files_of_at_most(size), pytest.raises(StoreError, match=r"cannot be written: File too large|ledger.sqlite: "):
        run(made, begun.store.path, workers=1)
    assert begun.store.verify() == {}
    assert begun.store.members()["status"].iloc[:2].eq("done").all()
    counter = Counter()
    run(made, begun.store.path, workers=1, reporter=counter)
    assert counter.failed == 0
    assert contents(begun.store.path) == contents(whole.store.path)
    assert not begun.store.half_written()


# ---- clocks ----------------------------------------------------------------------------------------------------------


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = experiment([INIT], 3, epochs=3)
    calm = run(made, tmp_path / "calm", workers=1)
    draw = random.Random(5)
    real = time.gmtime
    jumping = draw.randrange
    monkeypatch.setattr(time, "time", lambda: float(jumping(2**31)))
    monkeypatch.setattr(time, "gmtime", lambda seconds=None: real(jumping(2**31) if seconds is None else seconds))
    result = run(experiment([INIT], 2, epochs=3), tmp_path / "store", workers=1, checkpoint_minutes=1e-9)
    for path in (tmp_path / "store").rglob("*"):
        moment = draw.randrange(2**32)
        os.utime(path, (moment, moment))
    counter = Counter()
    run(made, tmp_path / "store", workers=1, reporter=counter, checkpoint_minutes=1e-9)
    assert counter.trained == 1
    for member in calm.plan.members:
        assert np.array_equal(result.store.predictions(member.id), calm.store.predictions(member.id))
        assert result.store.history(member.id).equals(calm.store.history(member.id))
    assert list(result.store.members().index) == list(calm.store.members().index), "in the order in which they ended"
    assert popnet.open_store(tmp_path / "store").verify() == {}

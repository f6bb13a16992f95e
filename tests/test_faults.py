"""Faults at random moments: whatever is killed, the store ends up as if nothing had happened.

Each run is a driver program of its own that says a line for each epoch; at a line drawn from the run's seed something
is killed, or the disk is full; and where it has stopped, files can be damaged. Then the same experiment is run again,
and its members are compared with those of a calm run, bit for bit. Twenty seeds, of which one of each kind is quick.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from test_engine import INIT, Counter, experiment

import popnet
from popnet.engine import run
from popnet.errors import StoreError
from popnet.store.repair import repair

WORKERS = 2
SLOW = [pytest.mark.slow]

DRIVER = f"""
import sys
from test_faults import disturbed
from popnet.engine import run
from popnet.engine.progress import Silent
from popnet.errors import StoreError

class Telling(Silent):
    def epoch(self):
        print("epoch", flush=True)

    def message(self, text):
        print(text, flush=True)

try:
    run(disturbed(), sys.argv[1], workers={WORKERS}, reporter=Telling(), checkpoint_minutes=1e-9)
except StoreError as error:
    print(error, flush=True)
    sys.exit(2)
"""


def disturbed() -> popnet.Experiment:
    """Members of their own and members that share a beginning, which take a while."""
    model = {"import": "user_parts:slow_net", "kwargs": {"seconds": 0.004}}
    variants = [INIT, {"name": "late", "vary": "all", "onset": 5}]
    return experiment(variants, 3, model=model, epochs=8, evaluate_every=3, keep=["predictions", "weights"])


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[popnet.Result, int]:
    """The undisturbed run, and how many epochs it trained."""
    counter = Counter()
    result = run(disturbed(), tmp_path_factory.mktemp("calm") / "store", workers=WORKERS, reporter=counter)
    return result, counter.epochs


class Driver:
    """A run in a process of its own."""

    def __init__(self, store: Path) -> None:
        here = Path(__file__).parent
        environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
        self.lines: list[str] = []
        self.process: Any = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(store)], env=environment, stdout=subprocess.PIPE, text=True
        )

    @property
    def epochs(self) -> int:
        return self.lines.count("epoch\n")

    def listen(self, epochs: int | None = None) -> None:
        """Until so many epochs are over, or to the end."""
        while (epochs is None or self.epochs < epochs) and (line := self.process.stdout.readline()):
            self.lines.append(line)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(child) for child in children.read_text().split()]

    def end(self) -> int:
        self.listen()
        self.process.stdout.close()
        return int(self.process.wait())

    def kill(self) -> None:
        """Kill the driver, and see its workers die with it."""
        workers = self.workers()
        self.process.kill()
        assert self.end() == -signal.SIGKILL
        while any(map(runs, workers)):
            time.sleep(0.01)


def runs(process: int) -> bool:
    """Whether there is such a process, and it is not dead and only waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def finished(store: Path) -> set[str]:
    members = popnet.open_store(store).members()
    return set(members.index[members["status"] == "done"])


def check(store: Path, calm: tuple[popnet.Result, int], at_most: int, damaged: Collection[str] = frozenset()) -> None:
    """Run again what is missing, training at most so many epochs; then all must be as in the calm run.

    `damaged`: finished members that have lost something, which are trained again.
    """
    expected, _ = calm
    opened = popnet.open_store(store)
    done = finished(store).difference(damaged)
    written = {key: opened.predictions_path(key).stat().st_mtime_ns for key in done}
    counter = Counter()
    result = run(disturbed(), store, workers=WORKERS, reporter=counter, checkpoint_minutes=1e-9)
    assert counter.trained == len(expected.plan.members) - len(done)
    assert counter.epochs == counter.planned_epochs <= at_most
    assert {key: opened.predictions_path(key).stat().st_mtime_ns for key in done} == written
    members, wanted = result.store.members(), expected.store.members()
    assert set(members["status"]) == {"done"}
    columns = ["accuracy", "cross_entropy", "weights_digest", "predictions_digest"]
    assert members[columns].sort_index().equals(wanted[columns].sort_index())
    for key in wanted.index:
        for path in ("predictions_path", "weights_path"):
            assert getattr(result.store, path)(key).read_bytes() == getattr(expected.store, path)(key).read_bytes()
        assert result.store.history(key).equals(expected.store.history(key))
    assert not list((store / "checkpoints").iterdir())
    assert not list(store.glob("*/.*.part"))
    assert result.store.verify() == {}


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=SLOW) for seed in (2, 3, 4, 5))])
def test_a_worker_is_killed(seed: int, calm: tuple[popnet.Result, int], tmp_path: Path) -> None:
    draw = random.Random(seed)
    driver = Driver(tmp_path / "store")
    driver.listen(epochs=draw.randint(1, calm[1] - 4))
    os.kill(draw.choice(driver.workers()), signal.SIGKILL)
    assert driver.end() == 0
    assert driver.epochs <= calm[1] + 1, "at most the epoch under way is trained again"
    check(tmp_path / "store", calm, at_most=0)


@pytest.mark.parametrize("seed", [11, *(pytest.param(seed, marks=SLOW) for seed in (12, 13, 14, 15))])
def test_the_driver_is_killed(seed: int, calm: tuple[popnet.Result, int], tmp_path: Path) -> None:
    draw = random.Random(seed)
    driver = Driver(tmp_path / "store")
    moment = draw.randint(1, calm[1])
    driver.listen(epochs=moment)
    driver.kill()
    check(tmp_path / "store", calm, at_most=calm[1] - moment + WORKERS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [21, 22])
def test_driver_and_workers_are_killed_again_and_again(
    seed: int, calm: tuple[popnet.Result, int], tmp_path: Path
) -> None:
    draw = random.Random(seed)
    for _ in range(3):
        driver = Driver(tmp_path / "store")
        driver.listen(epochs=draw.randint(1, 4))
        victims = driver.workers()
        if victims and draw.random() < 0.5:
            os.kill(draw.choice(victims), signal.SIGKILL)
            driver.listen(epochs=driver.epochs + draw.randint(1, 4))
        driver.kill()
    check(tmp_path / "store", calm, at_most=calm[1])


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done(calm: tuple[popnet.Result, int], tmp_path: Path) -> None:
    driver = Driver(tmp_path / "store")
    driver.listen(epochs=14)
    driver.process.send_signal(signal.SIGINT)
    assert driver.end() != 0
    check(tmp_path / "store", calm, at_most=calm[1] - 14 + WORKERS)


# ---- damaged files ---------------------------------------------------------------------------------------------------


def damage(path: Path, draw: random.Random) -> None:
    """Flip a bit, or cut the file off, somewhere."""
    content = bytearray(path.read_bytes())
    position = draw.randrange(len(content))
    if draw.random() < 0.5:
        content[position] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
    else:
        path.write_bytes(content[:position])


def killed_late(store: Path, calm: tuple[popnet.Result, int], draw: random.Random) -> None:
    driver = Driver(store)
    driver.listen(epochs=draw.randint(calm[1] // 2, calm[1] - 1))
    driver.kill()


@pytest.mark.parametrize("seed", [31, *(pytest.param(seed, marks=SLOW) for seed in (32, 33, 34))])
def test_files_are_damaged(seed: int, calm: tuple[popnet.Result, int], tmp_path: Path) -> None:
    """Members' files, labels and checkpoints, after the driver was killed with some members finished."""
    store, draw = tmp_path / "store", random.Random(seed)
    killed_late(store, calm, draw)
    done = finished(store)
    victims = draw.sample(sorted(store.glob("*/*.safetensors")), 4)
    for path in victims:
        damage(path, draw)
    of_members = {path for path in victims if path.parent.name in ("members", "weights")}
    check(store, calm, at_most=calm[1], damaged={path.stem for path in of_members})
    expected = {path for path in victims if path not in of_members or path.stem in done}
    assert {path.name for path in (store / "damaged").iterdir()} == {f"{p.parent.name}-{p.name}" for p in expected}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [35, 36])
def test_ledger_and_header_are_damaged(seed: int, calm: tuple[popnet.Result, int], tmp_path: Path) -> None:
    """What cannot be made good in passing is refused by name, and goes on after a repair with the intact entries."""
    store, draw = tmp_path / "store", random.Random(seed)
    killed_late(store, calm, draw)
    for path in (draw.choice(sorted(store.glob("ledger.sqlite*"))), store / "store.json"):
        damage(path, draw)
    with pytest.raises(StoreError, match=f"`popnet store repair {store}`"):
        run(disturbed(), store, workers=WORKERS)
    assert repair(store)
    check(store, calm, at_most=calm[1])


# ---- full disks ------------------------------------------------------------------------------------------------------


class Tmpfs:
    """A small disk of its own, on which something else takes all the space."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True, capture_output=True)

    def fill(self, driver: Driver, left: int) -> None:
        """Leave so many bytes."""
        with (self.folder / "ballast").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        size = (self.folder / "ballast").stat().st_size
        os.truncate(self.folder / "ballast", max(size - left, 0))

    def free(self) -> None:
        (self.folder / "ballast").unlink()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)


class Quota:
    """A limit on the size of files that is set while the run is under way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def fill(self, driver: Driver, left: int) -> None:
        """Let no file of the run grow beyond so many bytes."""
        for process in (driver.process.pid, *driver.workers()):
            resource.prlimit(process, resource.RLIMIT_FSIZE, (left, left))

    def free(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Tmpfs | Quota]:
    """A small disk; where mounting is not allowed, a limit on the size of files."""
    try:
        disk: Tmpfs | Quota = Tmpfs(tmp_path / "small")
    except (OSError, subprocess.CalledProcessError):
        disk = Quota(tmp_path / "limited")
    yield disk
    disk.close()


def fill_up(disk: Tmpfs | Quota, seed: int, calm: tuple[popnet.Result, int]) -> None:
    store, draw = disk.folder / "store", random.Random(seed)
    driver = Driver(store)
    moment = draw.randint(1, calm[1] // 2)
    driver.listen(epochs=moment)
    disk.fill(driver, left=draw.randrange(8192))
    assert driver.end() == 2, "the run says that it cannot go on"
    assert str(store) in driver.lines[-1]
    disk.free()
    check(store, calm, at_most=calm[1] - moment + WORKERS)


@pytest.mark.parametrize("seed", [41, pytest.param(42, marks=SLOW)])
def test_the_disk_is_full(seed: int, calm: tuple[popnet.Result, int], tmpfs: Tmpfs | Quota) -> None:
    fill_up(tmpfs, seed, calm)


@pytest.mark.slow
def test_files_cannot_grow(calm: tuple[popnet.Result, int], tmp_path: Path) -> None:
    fill_up(Quota(tmp_path / "limited"), 43, calm)

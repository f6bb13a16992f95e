"""The local executor: worker processes on this machine, which take as many members at a time as they say.

Workers are started as programs of their own, never forked: a fork after a parallel region hangs, and a program needs no
`if __name__ == "__main__"` in the caller's script.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from popnet import parts
from popnet.engine.jobs import ENDS, Died, Event, Job, Lost, Ready
from popnet.engine.pictures import Shared
from popnet.engine.silence import Silence

GPU_ENVIRONMENT = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "CUDA_DEVICE_MAX_CONNECTIONS": "32",
}
"""What a process on a GPU needs before CUDA starts: workspaces of one size, without which cuBLAS is not deterministic,
and a hardware queue for each stream."""

_SECONDS_TO_END = 2.0

_MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**28),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Let a worker keep the memory it frees. By default glibc maps every large activation anew and gives it back, which
costs a page fault for each 4 KiB of every tensor of every step: a third of ResNet-14's time at batch 512."""


def environment(threads: int) -> dict[str, str]:
    """What a worker needs in its environment: its threads, and malloc's settings where the user has set none."""
    counts = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {**{name: os.environ.get(name, value) for name, value in _MALLOC.items()}, **counts}


def import_path() -> list[str]:
    """The folders that this program imports from, for workers to import a user's parts from too."""
    return [path or str(Path.cwd()) for path in sys.path]


@dataclass(frozen=True)
class Gpus:
    """The GPUs to train on, a process each, as CUDA_VISIBLE_DEVICES names them; members at once on each, or None."""

    names: tuple[str, ...]
    cohort: int | None = None


@dataclass
class _Worker:
    """A process, its GPU, the jobs it has by number, and when it last gave a sign of progress."""

    process: subprocess.Popen[bytes]
    connection: Connection
    gpu: str | None = None
    jobs: dict[int, Job] = field(default_factory=dict)
    room: int = 1
    silence: Silence = field(default_factory=Silence)


class LocalExecutor:
    """Runs jobs in `workers` processes. Use as a context manager: leaving it ends the workers at once.

    Args:
        workers: how many processes; they are started when the first jobs come.
        datasets: by the key that jobs name.
        threads: of each worker, for the environment that its libraries read.
        hang_seconds: a worker that does no training step for so long is killed (see `Silence`).
        gpus: train there, with as many workers; None: on the CPU.
    """

    def __init__(
        self,
        workers: int,
        datasets: Mapping[str, Shared],
        threads: int = 1,
        hang_seconds: float = float("inf"),
        gpus: Gpus | None = None,
    ) -> None:
        self._gpus = gpus
        self._size, self._datasets, self._threads = workers, dict(datasets), threads
        self._hang_seconds = hang_seconds
        self._workers: list[_Worker] = []
        self._numbers = itertools.count()

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            _end(worker.process)
            worker.connection.close()
        self._workers.clear()

    @property
    def capacity(self) -> int:
        """How many more jobs can start now; a worker that is still to come has room for one."""
        free = sum(worker.room - len(worker.jobs) for worker in self._workers)
        return free + self._size - len(self._workers)

    @property
    def running(self) -> Sequence[Job]:
        return [job for worker in self._workers for job in worker.jobs.values()]

    def start(self, job: Job) -> None:
        """Give a job to a worker that has room, starting one where none has."""
        worker = next((worker for worker in self._workers if len(worker.jobs) < worker.room), None)
        if worker is None:
            worker = self._spawn()
            self._workers.append(worker)
        if not worker.jobs:
            worker.silence.restart()
        number = next(self._numbers)
        worker.jobs[number] = job
        with suppress(OSError):  # of a dead worker, which `wait` reports
            worker.connection.send((number, job))

    def wait(self, timeout: float) -> list[tuple[Job, Event]]:
        """What happened to the running jobs, at the latest after `timeout` seconds."""
        busy = {worker.connection: worker for worker in self._workers if worker.jobs}
        events: list[tuple[Job, Event]] = []
        for ready in wait(list(busy), timeout):
            events += self._hear(busy[ready])  # type: ignore[index]
        for worker in [worker for worker in self._workers if worker.jobs]:
            if worker.silence.exceeds(self._hang_seconds):
                worker.process.kill()
                self._bury(worker)
                reason = f"no training step in {worker.silence.seconds():.0f} s, so the worker process was ended"
                events += [(job, Died(reason)) for job in worker.jobs.values()]
        return events

    def _hear(self, worker: _Worker) -> list[tuple[Job, Event]]:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            reason = self._bury(worker)
            return [(job, Died(reason)) for job in worker.jobs.values()]
        if isinstance(message, Ready):
            worker.room = message.room
            worker.silence.restart()
            return []
        number, event = message
        if isinstance(event, Lost):
            return self._give_back(worker, number, event)
        worker.silence.broken(event)
        job = worker.jobs.pop(number) if isinstance(event, ENDS) else worker.jobs[number]
        return [(job, event)]

    def _give_back(self, worker: _Worker, number: int, last: Lost) -> list[tuple[Job, Event]]:
        """The jobs of a worker whose device is lost: only the one that noticed the error counts."""
        _end(worker.process)
        self._bury(worker)
        reason = f"the device was lost, and the worker process was ended: {last.error}"
        return [(job, Died(reason, counts=other == number)) for other, job in worker.jobs.items()]

    def _spawn(self) -> _Worker:
        ours, theirs = Pipe()
        descriptors = [theirs.fileno(), *(shared.memory.descriptor for shared in self._datasets.values())]
        gpu = None
        variables = {**os.environ, **environment(self._threads)}
        if self._gpus is not None:
            taken = {worker.gpu for worker in self._workers}
            gpu = next(name for name in self._gpus.names if name not in taken)
            variables |= {**GPU_ENVIRONMENT, "CUDA_VISIBLE_DEVICES": gpu}
        process = subprocess.Popen(
            [sys.executable, "-m", "popnet.engine.worker", str(theirs.fileno())],
            pass_fds=descriptors,
            env=variables,
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        worker = _Worker(process, ours, gpu)
        setup = {"datasets": self._datasets, "path": import_path(), "parts": parts.packed(), "gpus": self._gpus}
        with suppress(OSError):  # of a dead worker, which `wait` reports
            ours.send(setup)
        return worker

    def _bury(self, worker: _Worker) -> str:
        """Remove a dead worker; says what it died of."""
        code = worker.process.wait()
        worker.connection.close()
        self._workers.remove(worker)
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (killed, perhaps for lack of memory)" if name == "SIGKILL" else ""
            return f"the worker process was ended by {name}{hint}"
        return f"the worker process ended with exit code {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that was asked to end; one that cannot, for it is stopped or stuck, is killed."""
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

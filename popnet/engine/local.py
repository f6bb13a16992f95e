"""The local executor: worker processes on this machine, each training one member at a time.

Workers are started as programs of their own, never forked: a fork after a parallel region hangs, and a program needs no
`if __name__ == "__main__"` in the caller's script.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from popnet.engine.jobs import Died, Done, Event, Failed, Job
from popnet.engine.sharing import SharedDataset, SharedText

_MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**28),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Let a worker keep the memory it frees. By default glibc maps every large activation anew and gives it back, which
costs a page fault for each 4 KiB of every tensor of every step: a third of ResNet-14's time at batch 512."""


def _environment(threads: int) -> dict[str, str]:
    """A worker's environment: its threads, and malloc's settings where the user has set none."""
    counts = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {**_MALLOC, **os.environ, **counts}


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    job: Job | None = None


class LocalExecutor:
    """Runs jobs in `workers` processes. Use as a context manager: leaving it ends the workers at once.

    Args:
        workers: how many processes; they are started when the first jobs come.
        datasets: by the key that jobs name.
        threads: of each worker, for the environment that its libraries read.
    """

    def __init__(self, workers: int, datasets: Mapping[str, SharedDataset | SharedText], threads: int = 1) -> None:
        self._size, self._datasets, self._threads = workers, dict(datasets), threads
        self._workers: list[_Worker] = []

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
            worker.connection.close()
        self._workers.clear()

    @property
    def capacity(self) -> int:
        """How many more jobs can start now."""
        return self._size - sum(worker.job is not None for worker in self._workers)

    @property
    def running(self) -> Sequence[Job]:
        return [worker.job for worker in self._workers if worker.job is not None]

    def start(self, job: Job) -> None:
        """Give a job to an idle worker, starting one where none is."""
        worker = next((worker for worker in self._workers if worker.job is None), None)
        if worker is None:
            worker = self._spawn()
            self._workers.append(worker)
        worker.job = job
        with suppress(OSError):  # of a dead worker, which `wait` reports
            worker.connection.send(job)

    def wait(self, timeout: float) -> list[tuple[Job, Event]]:
        """What happened to the running jobs, at the latest after `timeout` seconds."""
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
        events: list[tuple[Job, Event]] = []
        for ready in wait(list(busy), timeout):
            worker = busy[ready]  # type: ignore[index]
            job = worker.job
            assert job is not None
            try:
                event: Event = worker.connection.recv()
            except (EOFError, OSError):
                event = Died(self._bury(worker))
            if isinstance(event, (Done, Failed)):
                worker.job = None
            events.append((job, event))
        return events

    def _spawn(self) -> _Worker:
        ours, theirs = Pipe()
        descriptors = [theirs.fileno(), *(shared.memory.descriptor for shared in self._datasets.values())]
        process = subprocess.Popen(
            [sys.executable, "-m", "popnet.engine.worker", str(theirs.fileno())],
            pass_fds=descriptors,
            env=_environment(self._threads),
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        worker = _Worker(process, ours)
        with suppress(OSError):  # of a dead worker, which `wait` reports
            ours.send({"datasets": self._datasets, "path": [path or str(Path.cwd()) for path in sys.path]})
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

"""A worker process: takes jobs from its driver, and reports what happens.

It says `Ready` first; then it receives (number, job), and sends (number, event) for whatever happens. None ends it.
"""

from __future__ import annotations

import ctypes
import os
import platform as machine
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import torch

from popnet import parts
from popnet.engine.devices import platform
from popnet.engine.jobs import Ready
from popnet.engine.serving import Emit, StoreFiles, serve

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve the driver at the other end of the connection whose descriptor is the first argument."""
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    setup: dict[str, Any] = connection.recv()
    extend_path(setup["path"])
    parts.receive(setup["parts"])
    torch.set_num_interop_threads(1)
    data = {key: (shared, shared.attach()) for key, shared in setup["datasets"].items()}
    if setup["gpus"] is not None:
        from popnet.engine.gpu_worker import GpuWorker

        GpuWorker(connection, data, setup["gpus"].cohort).run()
        return
    connection.send(Ready(1, platform("cpu"), machine.node()))
    while True:
        try:
            message = connection.recv()
        except EOFError:
            return
        if message is None:
            return
        number, job = message
        serve(job, *data[job.dataset], StoreFiles(), _sender(connection, number))


def _sender(connection: Connection, number: int) -> Emit:
    return lambda event: connection.send((number, event))


def extend_path(folders: list[str]) -> None:
    """Make what the driver can import importable here."""
    sys.path.extend(folder for folder in folders if folder not in sys.path)


def _end_with_parent() -> None:
    """Ask Linux to kill this process when the driver dies, whatever it dies of."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    main()

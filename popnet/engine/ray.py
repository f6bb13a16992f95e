"""The Ray executor: the CPUs of a Ray cluster train the members, and what they make streams to this driver's store.

Ray decides where workers run; popnet says what each needs, keeps away from nodes of another device kind, and starts a
worker anew whose node was lost. A worker is a Ray actor: a process of its own, with the environment that local workers
have, that trains one member at a time. Data sets travel to each node once, into its shared memory.
"""

from __future__ import annotations

import mmap
import os
import platform as machine
import queue
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.exceptions import ActorUnavailableError, RayError
from torch import Tensor

from popnet import parts
from popnet.engine.devices import DEVICE_VARIABLES, platform
from popnet.engine.jobs import ENDS, Died, Done, Event, Failed, Job, Ready
from popnet.engine.local import environment, import_path
from popnet.engine.pictures import Shared
from popnet.engine.serving import serve
from popnet.engine.sharing import SharedArrays
from popnet.engine.silence import Silence
from popnet.engine.worker import extend_path
from popnet.errors import ConfigError
from popnet.protocol import Platform
from popnet.store import write_aside

_SECONDS_BETWEEN_LOOKS = 5.0
_ALIGNMENT = 64


@dataclass(frozen=True)
class _Wrote:
    """A worker's file for the driver to put in place."""

    path: Path
    content: bytes


Message = Event | Ready | _Wrote


# -- on the nodes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _NodeArrays(SharedArrays):
    """Arrays in the shared memory of a Ray node: every worker there maps the same bytes."""

    content: Any = None

    def tensors(self) -> dict[str, Tensor]:
        content = _aligned(ray.get(self.content))
        arrays = {
            name: content[offset : offset + int(np.prod(shape)) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)
            for name, dtype, shape, offset in self.arrays
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # they cannot be written, and nobody does
            return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _aligned(content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same bytes at a multiple of 64, as a copy where they are not: bits depend on the alignment of tensors."""
    if content.ctypes.data % _ALIGNMENT == 0:
        return content
    memory = np.empty(len(content) + _ALIGNMENT, dtype=np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    memory[start : start + len(content)] = content
    return memory[start : start + len(content)]


class _SentFiles:
    """Files that came with the job, and those that go to the driver."""

    def __init__(self, contents: Mapping[Path, bytes], messages: queue.SimpleQueue[Message]) -> None:
        self._contents, self._messages = contents, messages

    def read(self, path: Path) -> bytes | None:
        return self._contents.get(path)

    def write(self, path: Path, content: bytes) -> None:
        self._messages.put(_Wrote(path, content))


class RayWorker:
    """A worker on some node; Ray makes an actor of it.

    Args:
        datasets: by the key that jobs name.
        path: folders to import from, beside the node's own.
        functions: what the program hands over of its own (`popnet.parts`).
        wanted: the kind of device of the run's members.
    """

    def __init__(
        self, datasets: Mapping[str, Shared], path: list[str], functions: Mapping[str, bytes], wanted: Platform
    ) -> None:
        extend_path(path)
        parts.receive(functions)
        torch.set_num_interop_threads(1)
        self._datasets, self._wanted = datasets, wanted
        self._resident: dict[str, Any] = {}

    def train(self, job: Job, contents: Mapping[Path, bytes]) -> Iterator[list[Message]]:
        """Everything that happens to a job, in order; nothing after `Ready` where the device is of another kind."""
        here = platform("cpu")
        yield [Ready(1, here, f"{ray.get_runtime_context().get_node_id()} {machine.node()}")]
        if here != self._wanted:
            return
        messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        threading.Thread(target=self._train, args=(job, contents, messages), daemon=True).start()
        while True:
            batch = [messages.get()]
            with suppress(queue.Empty):
                while True:
                    batch.append(messages.get_nowait())
            yield batch
            if isinstance(batch[-1], (Done, Failed)):
                return

    def _train(self, job: Job, contents: Mapping[Path, bytes], messages: queue.SimpleQueue[Message]) -> None:
        try:
            if job.dataset not in self._resident:
                self._resident[job.dataset] = self._datasets[job.dataset].attach()
            resident = self._resident[job.dataset]
        except RayError as error:
            messages.put(Failed(f"the data set did not arrive: {error}", str(error), 0.0))
            return
        serve(job, self._datasets[job.dataset], resident, _SentFiles(contents, messages), messages.put)


# -- at the driver -----------------------------------------------------------------------------------------------------


@dataclass
class _Seat:
    """An actor, its job and the stream of what happens to it; `node` (id and name) is empty until it has spoken."""

    actor: Any
    job: Job | None = None
    messages: Any = None
    node: str = ""
    silence: Silence = field(default_factory=Silence)


class RayExecutor:
    """Runs jobs on a Ray cluster. Use as a context manager: leaving it ends the workers at once.

    Connects to the cluster that `RAY_ADDRESS` names or that was started on this machine (`ray start`), else starts Ray
    on this machine alone.

    Args:
        workers: how many; None: as many as the cluster has room for, nodes that come and go included.
        datasets: by the key that jobs name.
        threads: cores for each worker.
        hang_seconds: a worker that does no training step for so long is replaced (see `Silence`).
        wanted: the kind of device of the members; nodes of another kind are refused.
    """

    def __init__(
        self,
        workers: int | None,
        datasets: Mapping[str, Shared],
        threads: int,
        hang_seconds: float,
        wanted: Platform,
    ) -> None:
        self._workers, self._hang_seconds, self._wanted = workers, hang_seconds, wanted
        self._threads = threads
        self._environment = _environment(threads)
        self._started = not ray.is_initialized()
        if self._started:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(include_dashboard=False, log_to_driver=False)
        self._datasets = {key: _put(shared) for key, shared in datasets.items()}
        self._seats: list[_Seat] = []
        self._refused: dict[str, str] = {}
        self._places, self._looked = 0, float("-inf")

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        for seat in list(self._seats):
            self._dismiss(seat)
        if self._started:
            ray.shutdown()

    @property
    def capacity(self) -> int:
        """How many more jobs can start now."""
        return max(self._size() - len(self.running), 0)

    @property
    def running(self) -> Sequence[Job]:
        return [seat.job for seat in self._seats if seat.job is not None]

    def start(self, job: Job) -> None:
        """Give a job to an idle worker, asking Ray for one where none is."""
        seat = next((seat for seat in self._seats if seat.job is None), None)
        if seat is None:
            seat = _Seat(self._actor())
            self._seats.append(seat)
        paths = [path for path in (job.fork, job.partial) if path is not None and path.exists()]
        seat.job = job
        seat.silence.restart()
        seat.messages = seat.actor.train.remote(job, {path: path.read_bytes() for path in paths})

    def wait(self, timeout: float) -> list[tuple[Job, Event]]:
        """What happened to the running jobs, at the latest after `timeout` seconds.

        Raises:
            StoreError: a file cannot be written.
            ConfigError: every node is of another kind.
        """
        self._make_room()
        self._check_nodes()
        busy = {seat.messages: seat for seat in self._seats if seat.job is not None}
        events: list[tuple[Job, Event]] = []
        if busy and ray.wait(list(busy), num_returns=1, timeout=timeout)[0]:
            for stream in ray.wait(list(busy), num_returns=len(busy), timeout=0)[0]:
                events += self._hear(busy[stream])
        for seat in [seat for seat in self._seats if seat.job is not None and seat.node]:
            if seat.silence.exceeds(self._hang_seconds):
                reason = f"no training step in {seat.silence.seconds():.0f} s, so the worker was ended"
                events.append((self._bury(seat), Died(reason)))
        return events

    def _hear(self, seat: _Seat) -> list[tuple[Job, Event]]:
        try:
            messages = ray.get(next(seat.messages))
        except RayError as error:
            return [(self._bury(seat), _death(seat.node, error))]
        events: list[tuple[Job, Event]] = []
        for message in messages:
            assert seat.job is not None
            job = seat.job
            if isinstance(message, _Wrote):
                write_aside(message.path, message.content)
            elif isinstance(message, Ready):
                seat.node = message.machine
                seat.silence.restart()
                if message.platform != self._wanted:
                    return [(job, self._refuse(seat, message.platform))]
            else:
                seat.silence.broken(message)
                events.append((job, message))
                if isinstance(message, ENDS):
                    seat.job = seat.messages = None
        return events

    def _refuse(self, seat: _Seat, there: Platform) -> Died:
        """Send no more jobs to a node of another device kind, whose bits would be others."""
        self._bury(seat)
        self._looked = float("-inf")
        reason = f"node {seat.node} is refused: its device is {_named(there)}, and this run's {_named(self._wanted)}"
        self._refused[seat.node.split()[0]] = reason
        return Died(reason, counts=False)

    def _check_nodes(self) -> None:
        """A worker that waits for a place gets none where all nodes are refused ones.

        To look once, at the refusal, is not enough: Ray lists a lost node for seconds yet.
        """
        waiting = any(seat.job is not None and not seat.node for seat in self._seats)
        if self._refused and waiting and not self._rooms():
            raise ConfigError(f"{'; '.join(self._refused.values())}; no other node is there")

    def _make_room(self) -> None:
        """An idle worker gives up its place where another still waits for one."""
        if any(seat.job is not None and not seat.node for seat in self._seats):
            for seat in [seat for seat in self._seats if seat.job is None]:
                self._dismiss(seat)

    def _size(self) -> int:
        if self._workers is not None:
            return self._workers
        if time.monotonic() - self._looked > _SECONDS_BETWEEN_LOOKS:
            self._places, self._looked = max(sum(self._rooms()), 1), time.monotonic()
        return self._places

    def _rooms(self) -> list[int]:
        """For how many workers each node has cores; nodes that are refused, or have none, left out."""
        rooms = (
            int(node["Resources"].get("CPU", 0) // self._threads)
            for node in ray.nodes()
            if node["Alive"] and node["NodeID"] not in self._refused
        )
        return [room for room in rooms if room > 0]

    def _actor(self) -> Any:
        options: dict[str, Any] = {
            "num_cpus": self._threads,
            "max_restarts": 0,
            "runtime_env": {"env_vars": self._environment},
        }
        if self._refused:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(self._refused)})"}
        worker = ray.remote(RayWorker).options(**options)
        return worker.remote(self._datasets, import_path(), parts.packed(), self._wanted)

    def _bury(self, seat: _Seat) -> Job:
        assert seat.job is not None
        self._dismiss(seat)
        self._looked = float("-inf")
        return seat.job

    def _dismiss(self, seat: _Seat) -> None:
        self._seats.remove(seat)
        with suppress(RayError):
            ray.kill(seat.actor)


def _death(node: str, error: RayError) -> Died:
    """What a worker died of; a member is not to blame for a node that Ray knows to be gone."""
    if node and not any(n["Alive"] and n["NodeID"] == node.split()[0] for n in ray.nodes()):
        return Died(f"node {node} was lost", counts=False)
    if isinstance(error, ActorUnavailableError):
        return Died(f"node {node} was lost or cannot be reached")
    return Died(f"the worker{f' on node {node}' if node else ''} ended: {' '.join(str(error).split())}")


def _put(shared: Shared) -> Shared:
    """The data set with its arrays in Ray's object store."""
    memory = shared.memory
    with mmap.mmap(memory.descriptor, memory.size, access=mmap.ACCESS_READ) as content:
        reference = ray.put(np.frombuffer(content, dtype=np.uint8).copy())
    return replace(shared, memory=_NodeArrays(-1, memory.size, memory.arrays, reference))


def _environment(threads: int) -> dict[str, str]:
    """What local workers have in their environment beside the machine's own, and what decides the kind of device."""
    chosen = {name: os.environ[name] for name in DEVICE_VARIABLES if name in os.environ}
    return {**environment(threads), **chosen}


def _named(there: Platform) -> str:
    return ", ".join([there.device, *(f"{name} {version}" for name, version in there.versions)])

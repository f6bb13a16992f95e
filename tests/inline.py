"""An executor that trains in the test's own process, so that a run takes a tenth of a second and can be watched."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from popnet import engine
from popnet.engine.jobs import Event, Job
from popnet.engine.serving import StoreFiles, serve


class InlineExecutor:
    """Trains one job at a time, when it is waited for."""

    def __init__(self, datasets: Mapping[str, Any]) -> None:
        self._datasets = {key: (shared, shared.attach()) for key, shared in datasets.items()}
        self._jobs: deque[Job] = deque()

    @property
    def capacity(self) -> int:
        return 0 if self._jobs else 1

    @property
    def running(self) -> Sequence[Job]:
        return list(self._jobs)

    def start(self, job: Job) -> None:
        self._jobs.append(job)

    def wait(self, timeout: float) -> list[tuple[Job, Event]]:
        job, events = self._jobs.popleft(), []
        serve(job, *self._datasets[job.dataset], StoreFiles(), lambda event: events.append((job, event)))
        return events


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have `popnet.engine.run` train in this process."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(engine, "_executor", lambda name, workers, datasets, *_: nullcontext(InlineExecutor(datasets)))
    yield
    torch.set_num_threads(threads)

"""A run writes down how far it is, for whoever watches its store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from popnet.engine.progress import Reporter
from popnet.protocol import Plan
from popnet.store import progress
from popnet.store.progress import FINISHED, Progress, Running

_SECONDS_BETWEEN_WRITES = 1.0


class Journal:
    """A reporter that keeps `progress.json` in a store up to date while the block runs, and tells another the same.

    Leaving the block says how the run ended.
    """

    def __init__(self, folder: Path, plan: Plan, reporter: Reporter) -> None:
        now = time.time()
        platform = plan.platform
        self._folder, self._reporter, self._written = folder, reporter, 0.0
        self._progress = Progress(plan.experiment.name, platform.device, dict(platform.versions), now, now)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._write(running=(), ended=FINISHED if error is None else str(error) or type(error).__name__)

    def begin(self, members: int, epochs: int) -> None:
        self._write(members=members, epochs=epochs)
        self._reporter.begin(members, epochs)

    def running(self, members: Sequence[Running]) -> None:
        if time.monotonic() - self._written >= _SECONDS_BETWEEN_WRITES:
            self._write(running=tuple(members))
        self._reporter.running(members)

    def epoch(self) -> None:
        self._progress = replace(self._progress, trained=self._progress.trained + 1)
        self._reporter.epoch()

    def member(self, failed: bool = False) -> None:
        before = self._progress
        self._progress = replace(before, done=before.done + (not failed), failed=before.failed + failed)
        self._reporter.member(failed)

    def message(self, text: str) -> None:
        self._reporter.message(text)

    def detail(self, text: str) -> None:
        self._reporter.detail(text)

    def end(self) -> None:
        self._reporter.end()

    def _write(self, **changes: Any) -> None:
        self._progress = replace(self._progress, updated=time.time(), **changes)
        self._written = time.monotonic()
        progress.write(self._folder, self._progress)

"""How long a worker has done nothing. Its heartbeat is the training step: a process that lives but hangs is found."""

from __future__ import annotations

import time

from popnet.engine.jobs import ENDS, Event, Noted

_PATIENCE_AT_FIRST = 6
"""The first step of a job may take so many times as long: libraries load, kernels are chosen, programs compiled."""


class Silence:
    """Time since a worker's last sign of progress, on a monotonic clock: one that jumps does no harm."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A job begins."""
        self._since, self._stepped = time.monotonic(), False

    def broken(self, event: Event) -> None:
        """The worker gave a sign."""
        if isinstance(event, ENDS):
            self.restart()
        else:
            self._since, self._stepped = time.monotonic(), self._stepped or not isinstance(event, Noted)

    def seconds(self) -> float:
        return time.monotonic() - self._since

    def exceeds(self, seconds: float) -> bool:
        """Whether it has lasted longer than `seconds`, or, before the first step of a job, six times as long."""
        return self.seconds() > seconds * (1 if self._stepped else _PATIENCE_AT_FIRST)

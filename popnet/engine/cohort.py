"""Several members at once in one process: each in a seat of its own, on a thread of its own.

Members begin and end independently, and a seat that is free takes the next. Threads suffice, since a thread's work is
to enqueue replays and to wait; where one computes itself, `popnet.training.numerics.EXCLUSIVE` lets one step through
at a time.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from popnet.engine.jobs import Died, Event, Job
from popnet.engine.serving import Emit
from popnet.errors import DeviceTooSmall

Send = Callable[[Any], None]


class Seat(Protocol):
    """A place for one member after another; `popnet.training.slots.Slot` is one on a GPU."""

    def entered(self) -> AbstractContextManager[None]:
        """Make this the place where the thread works."""
        ...

    def clear(self) -> None:
        """Give back its memory."""
        ...


class Cohort:
    """The seats of one process.

    Args:
        size: how many jobs at once.
        make_seat: opens one more seat.
        train: trains a job in a seat and emits its events; the last one ends the job.
        send: is called with (number, event), by one thread at a time.
        resized: is called with the new size when the device turns out too small, before the job's end is sent.
    """

    def __init__(
        self,
        size: int,
        make_seat: Callable[[], Seat],
        train: Callable[[Job, Any, Emit], None],
        send: Send,
        resized: Callable[[int], None],
    ) -> None:
        self.size = size
        self._make_seat, self._train, self._resized = make_seat, train, resized
        self._send_unlocked = send
        self._sending = threading.Lock()
        self._seats = threading.Lock()
        self._free: list[Seat] = []
        self._open = 0

    def adopt(self, seat: Seat) -> None:
        """Take over a seat that is open already."""
        with self._seats:
            self._free.append(seat)
            self._open += 1

    def start(self, number: int, job: Job) -> None:
        """Begin a job on a thread of its own."""
        thread = threading.Thread(target=self._run, args=(number, job), name=f"member {job.member.id}", daemon=True)
        thread.start()

    def _run(self, number: int, job: Job) -> None:
        seat: Seat | None = None
        try:
            seat = self._take()
            with seat.entered():
                self._train(job, seat, lambda event: self._send(number, event))
        except (DeviceTooSmall, torch.OutOfMemoryError) as error:
            self._shrink(number, seat, error)
            return
        except Exception as error:  # nothing may end a thread in silence
            self._send(number, Died(f"{type(error).__name__}: {error}"))
        if seat is not None:
            self._leave(seat)

    def _take(self) -> Seat:
        with self._seats:
            if self._free:
                return self._free.pop()
            self._open += 1
        try:
            return self._make_seat()
        except BaseException:
            with self._seats:
                self._open -= 1
            raise

    def _leave(self, seat: Seat) -> None:
        with self._seats:
            keep = self._open <= self.size
            if keep:
                self._free.append(seat)
            else:
                self._open -= 1
        if not keep:
            seat.clear()

    def _shrink(self, number: int, seat: Seat | None, error: Exception) -> None:
        """One seat less; the job is trained again later. With a single seat it counts as the member's failure."""
        traceback.clear_frames(error.__traceback__)  # which hold what fills the memory
        if seat is not None:
            seat.clear()
            with self._seats:
                self._open -= 1
        alone = self.size == 1
        self.size = max(self.size - 1, 1)
        self._resized(self.size)
        reason = str(error) if isinstance(error, DeviceTooSmall) else "the device's memory is full"
        self._send(number, Died(f"{reason}; it trains {self.size} at once from here on", counts=alone))

    def _send(self, number: int, event: Event) -> None:
        with self._sending:
            self._send_unlocked((number, event))

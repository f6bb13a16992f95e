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

from popnet.engine.jobs import Died, Event, Job, Lost
from popnet.engine.serving import Emit
from popnet.errors import DeviceTooSmall
from popnet.training.capture import first_line
from popnet.training.memory import is_full, is_lost

Send = Callable[[Any], None]


class Seat(Protocol):
    """A place for one member after another; `popnet.training.slots.Slot` is one on a GPU."""

    def entered(self) -> AbstractContextManager[None]:
        """Make this the place where the thread works."""
        ...

    def close(self) -> None:
        """Give back its memory; nobody sits here again."""
        ...


class Cohort:
    """The seats of one process.

    Args:
        size: how many jobs at once.
        make_seat: opens one more seat.
        train: trains a job in a seat and emits its events; the last one ends the job.
        send: is called with (number, event); `Lost` in place of an event is the last.
        resized: is called with the new size when the device turns out too small, before the job's end is sent. Of both
            there is one call at a time.
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
        self._seats = threading.Condition()
        self._free: list[Seat] = []
        self._open = 0

    def adopt(self, seat: Seat) -> None:
        """Take over a seat that is open already."""
        with self._seats:
            self._free.append(seat)
            self._open += 1

    def start(self, number: int, job: Job) -> None:
        """Begin a job on a thread of its own, which only an error ends after which the device is lost."""
        thread = threading.Thread(target=self._run, args=(number, job), name=f"member {job.member.id}", daemon=True)
        thread.start()

    def _run(self, number: int, job: Job) -> None:
        try:
            self._serve(number, job)
        except Exception as error:
            if is_lost(error):
                self.give_up(number, error)
            raise

    def _serve(self, number: int, job: Job) -> None:
        seat: Seat | None = None
        try:
            seat = self._take()
            with seat.entered():
                self._train(job, seat, lambda event: self._send(number, event))
        except Exception as error:  # nothing may end a thread in silence
            if is_lost(error):
                raise
            if is_full(error):
                self._shrink(number, seat, error)
                return
            self._send(number, Died(f"{type(error).__name__}: {error}"))
        if seat is not None:
            self._leave(seat)

    def give_up(self, number: int, error: Exception) -> None:
        """Say that the device is lost, and which job noticed that; the process must end now."""
        self._send(number, Lost(f"{type(error).__name__}: {first_line(error)}"))

    def _take(self) -> Seat:
        """A free seat, or a new one while there are fewer than `size`.

        The driver may hear of a job's end, and send the next one, before the job's thread has left its seat.
        """
        with self._seats:
            self._seats.wait_for(lambda: self._free or self._open < self.size)
            if self._free:
                return self._free.pop()
            self._open += 1
        try:
            return self._make_seat()
        except BaseException:
            self._forget_one()
            raise

    def _leave(self, seat: Seat) -> None:
        with self._seats:
            keep = self._open <= self.size
            if keep:
                self._free.append(seat)
                self._seats.notify()
        if not keep:
            seat.close()
            self._forget_one()

    def _forget_one(self) -> None:
        with self._seats:
            self._open -= 1
            self._seats.notify()

    def _shrink(self, number: int, seat: Seat | None, error: Exception) -> None:
        """No more seats than are open now; the job is trained again. Without any it counts as the member's failure."""
        traceback.clear_frames(error.__traceback__)  # which hold what fills the memory
        if seat is not None:
            seat.close()
            self._forget_one()
        with self._seats:
            alone = self._open == 0
            self.size = size = max(min(self.size - 1, self._open), 1)
        with self._sending:
            self._resized(size)
        reason = str(error) if isinstance(error, DeviceTooSmall) else "the device's memory is full"
        self._send(number, Died(f"{reason}; it trains {size} at once from here on", counts=alone))

    def _send(self, number: int, event: Event | Lost) -> None:
        with self._sending:
            self._send_unlocked((number, event))

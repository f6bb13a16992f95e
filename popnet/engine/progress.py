"""How far a run is: a live bar on a terminal, a line now and then elsewhere, nothing where nobody wants it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from popnet.store.progress import Running

_SECONDS_BETWEEN_LINES = 15.0


class Reporter(Protocol):
    """Is told of each epoch and each member that ends, and at least once a second of what is in training.

    `message` is for everybody to read, `detail` for those who ask what a run is doing.
    """

    def begin(self, members: int, epochs: int) -> None: ...

    def running(self, members: Sequence[Running]) -> None: ...

    def epoch(self) -> None: ...

    def member(self, failed: bool = False) -> None: ...

    def message(self, text: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def end(self) -> None: ...


class Silent:
    """Reports nothing."""

    def begin(self, members: int, epochs: int) -> None:
        pass

    def running(self, members: Sequence[Running]) -> None:
        pass

    def epoch(self) -> None:
        pass

    def member(self, failed: bool = False) -> None:
        pass

    def message(self, text: str) -> None:
        pass

    def detail(self, text: str) -> None:
        pass

    def end(self) -> None:
        pass


class ConsoleReporter(Silent):
    """Members done, epochs per second and time left, on a rich console; where it is `verbose`, every detail too."""

    def __init__(self, console: Console, verbose: bool = False) -> None:
        self._console, self._verbose = console, verbose
        self._bar: Progress | None = None
        self._members = self._epochs = self._done = self._failed = self._trained = 0
        self._began = self._printed = time.monotonic()

    def begin(self, members: int, epochs: int) -> None:
        """Start counting. `epochs`: to be trained in all, shared beginnings counted once."""
        self._members, self._epochs = members, epochs
        self._began = self._printed = time.monotonic()
        if self._console.is_terminal and members:
            self._bar = Progress(
                TextColumn("members"),
                MofNCompleteColumn(),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=self._console,
            )
            self._task = self._bar.add_task("members", total=members, rate="", left="")
            self._bar.start()

    def epoch(self) -> None:
        self._trained += 1
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, rate=self._rate(), left=self._left())
        elif now - self._printed >= _SECONDS_BETWEEN_LINES:
            self._printed = now
            self._console.print(self._line(), highlight=False)

    def member(self, failed: bool = False) -> None:
        self._done += 1
        self._failed += failed
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)

    def message(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def detail(self, text: str) -> None:
        if self._verbose:
            self.message(text)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._members:
            self._console.print(self._line(), highlight=False)

    def _seconds(self) -> float:
        return max(time.monotonic() - self._began, 1e-9)

    def _rate(self) -> str:
        return f"{self._trained / self._seconds():.3g} epochs/s"

    def _left(self) -> str:
        if not self._trained:
            return ""
        seconds = round((self._epochs - self._trained) * self._seconds() / self._trained)
        minutes, seconds = divmod(max(seconds, 0), 60)
        return (
            f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} left"
            if minutes >= 60
            else f"{minutes}:{seconds:02d} left"
        )

    def _line(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        rest = f", {self._left()}" if self._done < self._members else f" in {self._seconds():.1f} s"
        return f"{self._done} of {self._members} members{failed}, {self._rate()}{rest}"

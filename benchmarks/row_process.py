"""Rows of a benchmark, measured in processes of their own: each is known at once, and none takes others with it.

A process measures several rows and prints a line of JSON for each; what else it prints is passed over.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from types import TracebackType
from typing import Any

Limit = Callable[[], float]
"""How many seconds from now the next row may take."""

Measure = Callable[[Sequence[str], Limit], Generator[dict[str, Any], None, None]]
"""Measures rows, by their keys, and gives what was found for one after the other."""


class RowProcess:
    """A process that measures rows, with all that it starts.

    Args:
        command: the program and its arguments.
        environment: all of its variables.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  # closed in __exit__
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=dict(environment),
            start_new_session=True,  # a group that ends as a whole
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> RowProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(5)
        with suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]
        self._process.stdout.close()  # type: ignore[union-attr]
        self._errors.close()

    def tell(self, text: str) -> None:
        """Write a line to it."""
        with suppress(BrokenPipeError):  # the next `line` says why it ended
            self._process.stdin.write(text + "\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def line(self, seconds: float) -> dict[str, Any]:
        """The next line of JSON.

        Raises:
            TimeoutError: none came within `seconds`.
            RuntimeError: the process ended; with the last line of its errors.
        """
        ends = time.monotonic() + seconds
        while True:
            ended = self._process.poll() is not None
            if ended:
                self._reader.join(1)  # longer, only if something that it started holds its output open
            try:
                text = self._lines.get(timeout=0 if ended else max(0.001, min(0.1, ends - time.monotonic())))
            except queue.Empty:
                if ended:
                    raise RuntimeError(self._last_error()) from None
                if time.monotonic() >= ends:
                    raise TimeoutError(f"took longer than {seconds:.0f} s") from None
                continue
            if text.startswith("{"):
                return json.loads(text)

    def _read(self) -> None:
        for text in self._process.stdout:  # type: ignore[union-attr]
            self._lines.put(text)

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        code = self._process.returncode
        return lines[-1] if lines and code > 0 else f"exit code {code}" + (f" after: {lines[-1]}" if lines else "")


def lines(
    command: Sequence[str], environment: Mapping[str, str], rows: Sequence[str], limit: Limit
) -> Generator[dict[str, Any], None, None]:
    """What a process of `command` prints for each of `rows`. Raises as `RowProcess.line` does."""
    with RowProcess(command, environment) as process:
        for row in rows:
            found = process.line(limit())
            if found.get("row") != row:
                raise RuntimeError(f"{row}: its process printed a line of {found.get('row')!r}")
            yield found


def measure_groups(
    groups: Iterable[Sequence[str]],
    measure: Measure,
    known: Callable[[str], bool],
    enter: Callable[[str, dict[str, Any]], None],
    ends: float,
    row_seconds: float,
) -> None:
    """Measure what is not known yet, and enter each row the moment it is, until the time is over.

    A row that fails, or takes longer than `row_seconds`, is entered as `{"failed": reason}`, and the rest of its group
    goes on without it; after two in succession the rest is left for another call. A row that the end of the time broke
    off is not entered, unless it had all the time there was.

    Args:
        groups: keys of rows that one process measures.
        ends: on the clock `time.monotonic`.
    """
    begun = False
    for group in groups:
        missing = [row for row in group if not known(row)]
        failures = 0
        while missing and failures < 2:
            if time.monotonic() >= ends:
                print(f"time is over; run again to go on from {missing[0]}", flush=True)
                return
            try:
                with closing(measure(tuple(missing), lambda: min(row_seconds, ends - time.monotonic()))) as found:
                    for line in found:
                        enter(missing.pop(0), line)
                        begun, failures = True, 0
            except (TimeoutError, RuntimeError, ValueError, KeyError) as error:
                if isinstance(error, TimeoutError) and begun and time.monotonic() >= ends:
                    continue
                enter(missing.pop(0), {"failed": str(error)})
                begun, failures = True, failures + 1
        if missing:
            print(f"left for another call, after two failures: {', '.join(missing)}", flush=True)

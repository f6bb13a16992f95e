"""Steps that run one after another, each with its own time limit and log; what one has found survives all that follows.

A step is a command. Its output goes straight into the log NAME.log, line by line. When it ends, or is ended at its
limit with its whole process group, it is a line of summary.txt and an entry of summary.json, before the next step
begins. logs.tgz holds all logs; it is renewed after every step, and while one runs every few seconds.

Nothing here imports more than the standard library.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

SUMMARY = "summary.json"
NO_DEVICE = 77
"""The exit code of a step that went as far as it could without a device."""
GRACE = 5.0
"""Seconds between the interrupt at a step's limit, on which pytest still writes its report, and the kill."""
_RENEWED = 10.0
_SHOWN = 30
_SKIPPED = re.compile(r"^SKIPPED \[\d+\] \S+: (.*)$")
_ERROR_OF_NINJA = "FAILED: "
OPTIONAL = "pip install"
"""Stands in the reason of a test that is skipped for lack of an optional package: it says how to have it."""

Status = Literal["ok", "failed", "timed out", "not measured"]


@dataclass(frozen=True)
class Step:
    """A command, run from the folder of the project.

    Args:
        name: of the step and of its log file.
        seconds: it is ended after so long.
        needs: names of steps; unless each has gone through, this one is not tried.
        beside: runs beside the steps that follow, up to one that is `alone`.
        alone: measures time, so it waits until all others have ended.
        on_device: is not tried without a device.
        no_device: the exit code that says that there is no device.
        tests: it is pytest; with a device a skipped test has failed, unless it lacks an optional package.
        variables: of its environment, beside the runner's.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    needs: tuple[str, ...] = ()
    beside: bool = False
    alone: bool = False
    on_device: bool = False
    no_device: int | None = None
    tests: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """What summary.json says of a step."""

    step: str
    status: Status
    exit_code: int | None
    seconds: float
    began: str
    log: str | None
    last_line: str


@dataclass
class _Running:
    step: Step
    process: subprocess.Popen[bytes]
    log: Path
    began: float
    began_at: str
    limit: float
    interrupted: float | None = None


class Runner:
    """Runs steps, and keeps the summary.

    Args:
        out: the folder of the summary and of logs.tgz.
        logs: the folder of the logs.
        root: the folder that the steps run in.
        device: the device's name; None: there is none.
        seconds: for all steps together.
        variables: the steps' environment.
    """

    def __init__(
        self, out: Path, logs: Path, root: Path, device: str | None, seconds: float, variables: Mapping[str, str]
    ) -> None:
        self._out, self._logs, self._root, self._device = out, logs, root, device
        self._variables = variables
        self._began = self._archived = time.monotonic()
        self._ends = self._began + seconds
        self._running: list[_Running] = []
        self._ended: dict[str, Entry] = {}
        for folder in (out, logs):
            folder.mkdir(parents=True, exist_ok=True)
        self._earlier: dict[str, Any] = {}
        if (out / SUMMARY).exists():
            found = json.loads((out / SUMMARY).read_text())
            if found["device"] == device:  # what was found on another one is no part of this one's summary
                self._earlier = {entry["step"]: entry for entry in found["steps"]}

    def run(self, steps: Iterable[Step]) -> bool:
        """Run all; returns whether none has failed or timed out."""
        try:
            for step in steps:
                if step.alone:
                    self._wait(lambda: not self._running)
                obstacle = self._obstacle(step)
                if obstacle is not None:
                    status, reason = obstacle
                    self._enter(Entry(step.name, status, None, 0.0, _now(), None, reason))
                    continue
                running = self._start(step)
                if not step.beside:
                    self._wait(lambda running=running: running not in self._running)  # type: ignore[misc]
            self._wait(lambda: not self._running)
        finally:
            for running in self._running:
                _kill(running.process)
            self._archive()
        return all(entry.status in ("ok", "not measured") for entry in self._ended.values())

    def _obstacle(self, step: Step) -> tuple[Status, str] | None:
        """Why a step cannot be tried, and what that makes of it."""
        for name in step.needs:
            if name in self._ended and self._ended[name].status != "ok":
                return "not measured", f"needs the step {name}"
        if step.on_device and self._device is None:
            return "not measured", "no CUDA device"
        if shutil.which(step.command[0]) is None:
            text = f"there is no {step.command[0]}"
            return ("not measured", f"no CUDA device, and {text}") if self._device is None else ("failed", text)
        if self._ends - time.monotonic() < 1:
            return "failed", "not begun: no time was left"
        return None

    def _start(self, step: Step) -> _Running:
        log, now = self._logs / f"{step.name}.log", time.monotonic()
        with log.open("wb") as stream:
            process = subprocess.Popen(
                step.command,
                cwd=self._root,
                env={**self._variables, **step.variables},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        running = _Running(step, process, log, now, _now(), min(step.seconds, self._ends - now))
        self._running.append(running)
        return running

    def _wait(self, done: Callable[[], bool]) -> None:
        while not done():
            for running in tuple(self._running):
                self._attend(running)
            if time.monotonic() - self._archived > _RENEWED:
                self._archive()
            time.sleep(0.05)

    def _attend(self, running: _Running) -> None:
        """Enter a step that has ended; interrupt it at its limit, and kill it if it does not end then."""
        now = time.monotonic()
        code = running.process.poll()
        if code is None and running.interrupted is None:
            if now - running.began > running.limit:
                running.interrupted = now
                running.process.send_signal(signal.SIGINT)
            return
        if code is None and running.interrupted is not None and now - running.interrupted < GRACE:
            return
        _kill(running.process)
        self._running.remove(running)
        lines = _lines(running.log)
        if running.interrupted is not None:
            said = f"not done after {running.limit:.0f} s; its last line: {_last(lines)}"
            status: Status = "timed out"
        else:
            assert code is not None
            status, said = judged(running.step, code, lines, self._device is not None)
        seconds = round(now - running.began, 1)
        self._enter(Entry(running.step.name, status, code, seconds, running.began_at, running.log.name, said[:300]))
        if status in ("failed", "timed out"):
            for line in telling(lines):
                print(f"    {line[:300]}", flush=True)

    def _enter(self, entry: Entry) -> None:
        self._ended[entry.step] = entry
        at = time.monotonic() - self._began
        code = "" if entry.exit_code in (None, 0) else f", exit code {entry.exit_code}"
        line = f"{entry.step:<24}{entry.status}{code}, {entry.seconds:.1f} s (at {at:.0f} s): {entry.last_line}"
        print(line, flush=True)
        with (self._out / "summary.txt").open("a") as file:
            file.write(line + "\n")
        self._write_summary()
        self._archive()

    def _write_summary(self) -> None:
        """This call's entries beside those of earlier calls for other steps."""
        entries = self._earlier | {name: asdict(entry) for name, entry in self._ended.items()}
        beside = self._out / ".summary.json"
        beside.write_text(json.dumps({"device": self._device, "steps": list(entries.values())}, indent=1) + "\n")
        beside.replace(self._out / SUMMARY)

    def _archive(self) -> None:
        beside = self._out / ".logs.tgz"
        with tarfile.open(beside, "w:gz") as archive:
            for log in sorted(self._logs.glob("*.log")):
                archive.add(log, log.name)
        beside.replace(self._out / "logs.tgz")
        self._archived = time.monotonic()


def judged(step: Step, code: int, lines: list[str], device: bool) -> tuple[Status, str]:
    """What an ended step has shown, and the line that says it.

    Args:
        code: its exit code.
        lines: of its log.
        device: whether there is one; a step that found none has failed then.
    """
    last = _last(lines)
    if code == step.no_device:
        return ("failed" if device else "not measured"), last
    if code:
        return "failed", last
    if step.tests:
        reasons = {match[1] for line in lines if (match := _SKIPPED.match(line)) and OPTIONAL not in match[1]}
        if reasons and device:
            return "failed", f"tests were skipped: {'; '.join(sorted(reasons))} ({last})"
        if reasons:
            return "not measured", last
    return "ok", last


def telling(lines: list[str]) -> list[str]:
    """The lines of a log that say what went wrong: from a build's first failure on, else the last ones."""
    first = next((n for n, line in enumerate(lines) if line.startswith(_ERROR_OF_NINJA)), len(lines) - _SHOWN)
    return lines[max(first, 0) :][: 2 * _SHOWN]


def _lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()


def _last(lines: list[str]) -> str:
    return next((line.strip("= ") for line in reversed(lines) if line.strip("= ")), "")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and all of its group, what it left behind included."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

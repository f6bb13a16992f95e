"""The command: fuzz some loaders, say what was read and refused, and name every input that failed."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import loaders
from .process import REPORT

ROOT = Path(__file__).parent.parent.parent
SECONDS = 10
"""Of processor time that an input may take: a hundred times what the slowest takes."""

_SILENCE = 120.0  # seconds without another input, after which a process hangs where no alarm reaches it


@dataclass
class Outcome:
    """What became of the inputs of a loader. `peak`: bytes that its process had at most."""

    read: int = 0
    refused: int = 0
    failed: int = 0
    failures: list[dict[str, object]] = field(default_factory=list)
    seconds: float = 0.0
    peak: int = 0


def fuzz(name: str, seed: int, begin: int, end: int, seconds: int = SECONDS) -> Outcome:
    """Load the inputs `begin` to `end`, each in so many seconds of processor time.

    One that ends its process, or hangs in it, is a failure, and the others follow.
    """
    outcome = Outcome()
    began = time.monotonic()
    while begin < end:
        begin = _process(name, seed, begin, end, seconds, outcome)
    outcome.seconds = time.monotonic() - began
    return outcome


def _process(name: str, seed: int, begin: int, end: int, seconds: int, outcome: Outcome) -> int:
    """Load inputs in one process until it ends, and enter what became of them; returns the next to be loaded."""
    with tempfile.TemporaryDirectory() as folder:
        report, output = Path(folder, "report"), Path(folder, "output")
        report.write_bytes(REPORT.pack(begin - 1, 0, 0, 0))
        command = [
            sys.executable,
            "-m",
            "tests.fuzz.process",
            name,
            *map(str, (seed, begin, end, seconds)),
            str(report),
        ]
        with output.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, cwd=ROOT)
        hangs, code = _watch(process, report)
        outcome.peak = max(outcome.peak, code[1])
        last, read, refused, _ = REPORT.unpack(report.read_bytes())
        outcome.read, outcome.refused = outcome.read + read, outcome.refused + refused
        outcome.failures += [json.loads(line) for line in output.read_text().splitlines()]
        if code[0]:
            error = f"no answer for {_SILENCE:g} s" if hangs else f"the process ended with code {code[0]}"
            outcome.failures.append({"number": last, "error": error, "trace": ""})
        outcome.failed = len(outcome.failures)
        if last < begin:
            raise SystemExit(f"{name}: the process ended before its first input: {' '.join(command)}")
        return end if last == end else last + 1


def _watch(process: subprocess.Popen[bytes], report: Path) -> tuple[bool, tuple[int, int]]:
    """Wait for a process, but not when it hangs: whether it did, its exit code, and the most bytes it had."""
    seen, since, hangs = b"", time.monotonic(), False
    while True:
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        if found:
            process.returncode = os.waitstatus_to_exitcode(status)
            return hangs, (process.returncode, usage.ru_maxrss * 1024)
        if (current := report.read_bytes()) != seen:
            seen, since = current, time.monotonic()
        elif time.monotonic() - since > _SILENCE and not hangs:
            process.kill()
            hangs = True
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--loader", choices=loaders.NAMES, action="append", help="default: all, one after another")
    parser.add_argument("--inputs", type=int, default=1000, help="of each loader")
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    failed = False
    print(f"{'loader':12} {'inputs':>8} {'read':>8} {'refused':>8} {'failed':>7} {'seconds':>8} {'peak MiB':>9}")
    for name in arguments.loader or loaders.NAMES:
        outcome = fuzz(name, arguments.seed, arguments.first, arguments.first + arguments.inputs)
        total = outcome.read + outcome.refused + outcome.failed
        print(
            f"{name:12} {total:8,} {outcome.read:8,} {outcome.refused:8,} {outcome.failed:7,} {outcome.seconds:8.1f} "
            f"{outcome.peak / 2**20:9.0f}",
            flush=True,
        )
        failed |= bool(outcome.failures)
        kinds: dict[str, list[dict[str, object]]] = {}
        for failure in outcome.failures:
            kinds.setdefault(str(failure["error"])[:60], []).append(failure)
        for error, failures in kinds.items():
            numbers = ", ".join(str(f["number"]) for f in failures[:5])
            print(f"  {len(failures)} x {error}: inputs {numbers}")
            for line in str(failures[0]["trace"]).splitlines():
                print(f"    {line[:160]}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

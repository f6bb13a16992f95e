"""Inputs of one loader in a process of its own, with a bound on time and on memory for each.

    python -m tests.fuzz.process LOADER SEED BEGIN END SECONDS REPORT

REPORT holds four int64: the number of the input that is being loaded, and how many were read, refused and failed; so
whoever started the process knows which input ended it. Failures are lines of JSON on standard output.
"""

from __future__ import annotations

import json
import mmap
import resource
import signal
import struct
import sys
import tempfile
import traceback
from pathlib import Path

from popnet.errors import PopnetError

from . import loaders

REPORT = struct.Struct("<4q")

MEMORY = 1 << 28
"""Bytes that one input may take beyond what valid files took; an input has at most 64 KiB."""


class Hang(BaseException):
    """An input takes too long."""


def _stop(*_: object) -> None:
    raise Hang("an input takes too long")


def main(name: str, seed: int, begin: int, end: int, seconds: int, report: str) -> None:
    """Load inputs `begin` to `end` of a loader; each may take so many seconds of this process's own time."""
    read = refused = failed = 0
    signal.signal(signal.SIGPROF, _stop)
    with tempfile.TemporaryDirectory(dir=_folder()) as folder, Path(report).open("r+b") as file:
        progress = mmap.mmap(file.fileno(), REPORT.size)
        loader = loaders.make(name, Path(folder))
        loader.warm_up()
        before = _virtual_memory()
        resource.setrlimit(resource.RLIMIT_AS, (before + MEMORY, resource.RLIM_INFINITY))
        for number in range(begin, end):
            progress[:] = REPORT.pack(number, read, refused, failed)
            content = loader.input(seed, number)
            signal.setitimer(signal.ITIMER_PROF, seconds)
            try:
                loader.load(content, number)
                read += 1
            except PopnetError as error:
                str(error).encode()  # it can be shown
                refused += 1
            except (Exception, Hang) as error:
                signal.setitimer(signal.ITIMER_PROF, 0)
                failed += 1
                trace = traceback.format_exc(limit=-6)
                shown = f"{type(error).__name__}: {error}"[:300]
                print(json.dumps({"number": number, "error": shown, "trace": trace}), flush=True)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        progress[:] = REPORT.pack(end, read, refused, failed)


def _folder() -> str | None:
    """In memory where there is such a place: inputs are many."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _virtual_memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    loader_name, *numbers, report_path = sys.argv[1:]
    main(loader_name, *map(int, numbers), report_path)

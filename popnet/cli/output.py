"""Where commands write: answers to standard output, everything else to standard error.

An answer is wrapped at the width of the terminal; a message is one line, however long. Both are plain text where the
output is no terminal, or NO_COLOR is set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


def standard_output() -> Console:
    """Standard output."""
    return _console()


def standard_error(quiet: bool = False) -> Console:
    """Standard error, or nothing."""
    return _console(stderr=True, quiet=quiet)


def _console(stderr: bool = False, quiet: bool = False) -> Console:
    plain = bool(os.environ.get("NO_COLOR"))  # by which rich leaves out colours alone, not bold and italics
    return Console(stderr=stderr, quiet=quiet, highlight=False, color_system=None if plain else "auto")


def say(text: str) -> None:
    """A line of the answer, as it is: never wrapped, or read as markup."""
    standard_output().print(text, soft_wrap=True, markup=False)


def warn(text: str) -> None:
    """A message."""
    standard_error().print(text, soft_wrap=True, markup=False)


def teller(as_json: bool) -> Callable[[str], None]:
    """Where the lines of an answer go: beside one in JSON they are messages."""
    return warn if as_json else say


@contextmanager
def counting(what: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while the block runs; gives what is to be told how many are done, and of how many."""
    from rich.progress import Progress

    with Progress(console=standard_error(), disable=quiet) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)

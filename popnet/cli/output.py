"""Where commands write: answers to standard output, everything else to standard error.

An answer is wrapped at the width of the terminal; a message is one line, however long. Both are plain text where the
output is no terminal, or NO_COLOR is set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from popnet.errors import ConfigError


def standard_output() -> Console:
    """Standard output."""
    return _console()


def standard_error(quiet: bool = False) -> Console:
    """Standard error, or nothing."""
    return _console(stderr=True, quiet=quiet)


def _console(stderr: bool = False, quiet: bool = False) -> Console:
    plain = bool(os.environ.get("NO_COLOR"))  # by which rich leaves out colours alone, not bold and italics
    return Console(stderr=stderr, quiet=quiet, highlight=False, emoji=False, color_system=None if plain else "auto")


def say(text: str) -> None:
    """A line of the answer, as it is: never wrapped, or read as markup."""
    standard_output().print(text, soft_wrap=True, markup=False)


def warn(text: str) -> None:
    """A message."""
    standard_error().print(text, soft_wrap=True, markup=False)


def say_what_is_shipped(experiment: str) -> None:
    """Say so where a path of an experiment is no file here, and the shipped one of that name is taken."""
    from popnet import config

    path = Path(experiment)
    if path.parent == Path(config.SHIPPED_FOLDER) and (found := config.find(experiment)) != path:
        warn(f"{experiment}: no such file here, so the shipped experiment is taken: {found}")


def teller(as_json: bool) -> Callable[[str], None]:
    """Where the lines of an answer go: beside one in JSON they are messages."""
    return warn if as_json else say


def check_writable(path: Path | None) -> None:
    """Raises ConfigError where the file cannot be written, before any work is done for it."""
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder: name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


@contextmanager
def counting(what: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal while the block runs; gives what is to be told how many are done, and of how many."""
    from rich.progress import Progress

    console = standard_error()
    with Progress(console=console, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)

"""Where commands write: answers to standard output, everything else to standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


def say(text: str) -> None:
    """A line of the answer, as it is: never wrapped, coloured or read as markup."""
    Console(soft_wrap=True, highlight=False).print(text, markup=False)


def warn(text: str) -> None:
    """The same on standard error."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(text, markup=False)


def teller(as_json: bool) -> Callable[[str], None]:
    """Where the lines of an answer go: beside one in JSON they are messages."""
    return warn if as_json else say


@contextmanager
def counting(what: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while the block runs; gives what is to be told how many are done, and of how many."""
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)

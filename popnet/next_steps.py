"""The commands that are useful after another: every command ends with them, so that nobody needs to look them up."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from popnet.protocol import Plan, Population

MARK = "next: "
"""What a line with such a command begins with."""


def show(console: Console, *commands: Sequence[str]) -> None:
    """Print each command, given as its words, on a line of its own, to be copied whole."""
    for words in commands:
        console.print(f"{MARK}{shlex.join(words)}", highlight=False, soft_wrap=True, markup=False)


def after_run(plan: Plan, store: Path) -> Iterator[list[str]]:
    """The report of a store; of models of images, whether one of two rows that vary the same sources is the better.

    Rows of different sources are no rivals: for them, how many runs it takes to see a difference.
    """
    yield ["popnet", "report", str(store), "--html", f"{store}.html"]
    if plan.experiment.recipe.language is not None:
        return
    rows = [population for population in plan.populations if not population.variant.replicas]
    pairs = ((a.name, b.name) for i, a in enumerate(rows) for b in rows[i + 1 :] if _rivals(a, b))
    rivals = next(pairs, ())
    if rivals:
        yield ["popnet", "compare", *(f"{store}:{name}" for name in rivals)]
    elif rows:
        most = max(rows, key=lambda row: len(row.variant.sources))
        yield ["popnet", "power", "--difference", "0.3", "--from", f"{store}:{most.name}"]


def _rivals(a: Population, b: Population) -> bool:
    """Whether two rows vary the same sources and can be compared: no members in common, or the same ones run by run."""
    if a.variant.vary != b.variant.vary:
        return False
    of_a, of_b = ([m.id for m in row.members] for row in (a, b))
    return not set(of_a) & set(of_b) or (a.variant.ensemble == b.variant.ensemble == 1 and set(of_a) == set(of_b))

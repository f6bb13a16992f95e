"""The commands that are useful after another: every command ends with them, so that nobody needs to look them up."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from popnet.protocol import Plan

MARK = "next: "
"""What a line with such a command begins with."""


def show(console: Console, *commands: Sequence[str]) -> None:
    """Print each command, given as its words, on a line of its own, to be copied whole."""
    for words in commands:
        console.print(f"{MARK}{shlex.join(words)}", highlight=False, soft_wrap=True, markup=False)


def after_run(plan: Plan, store: Path) -> Iterator[list[str]]:
    """The report of a store; and where two rows vary the same sources, whether one is better than the other."""
    yield ["popnet", "report", str(store), "--html", f"{store}.html"]
    rows = [population for population in plan.populations if not population.variant.replicas]
    pairs = ((a.name, b.name) for i, a in enumerate(rows) for b in rows[i + 1 :] if a.variant.vary == b.variant.vary)
    chosen = next(pairs, tuple(row.name for row in rows[:2]))
    if len(chosen) == 2:
        yield ["popnet", "compare", *(f"{store}:{name}" for name in chosen)]

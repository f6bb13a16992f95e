"""Claims on when nondeterminism sets in (Summers & Dinneen 2021, Section 3.4 and Figure 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from popnet.report.claims.claim import Claim, Evidence, Finding, Side, told
from popnet.report.claims.rows import has_papers_bit, is_single
from popnet.report.claims.sources import ALIKE
from popnet.report.measured import Measured, Row
from popnet.report.quantities import Value, quantity
from popnet.report.verdicts import at_least, difference, ratio

_WHERE = "Summers & Dinneen (2021), Section 3.4"


@dataclass(frozen=True)
class Onsets:
    """The rows of one set of sources by the epoch from which they vary, ascending; the first one is 0."""

    sources: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        return self.rows[0].name


def onsets(measured: Measured) -> list[Onsets]:
    """One for each set of sources that was measured from at least two onsets, the beginning among them.

    `init` acts at the beginning alone, so rows with and without it belong together.
    """
    by_sources: dict[tuple[str, ...], list[Row]] = {}
    for row in measured.rows:
        variant = row.variant
        if is_single(row) and row.members >= 2 and variant.sources and has_papers_bit(variant):
            by_sources.setdefault(tuple(s for s in variant.sources if s != "init") or ("init",), []).append(row)
    found = [Onsets(sources, tuple(sorted(rows, key=_epoch))) for sources, rows in by_sources.items()]
    return [one for one in found if _epoch(one.rows[0]) == 0 and _epoch(one.rows[-1]) > 0]


def claims(evidence: Evidence) -> Iterator[Claim]:
    """The claims that the experiment has the rows for."""
    for found in onsets(evidence.measured):
        epochs = found.rows[0].recipe.epochs
        early = [row for row in found.rows[1:] if 10 * _epoch(row) <= epochs]
        if early:
            yield evidence.claim(
                f"Nondeterminism ({found.name}) that sets in after {_share(early[-1])} gives nearly as "
                "much variability as from the beginning",
                _WHERE,
                [early[-1], found.rows[0]],
                _nearly_as_much,
            )
        late = [
            row for row in found.rows if epochs <= 2 * _epoch(row) < 2 * epochs
        ]  # from the last epoch on nothing varies
        if late:
            yield evidence.claim(
                f"The later nondeterminism ({found.name}) sets in, the less final models vary",
                _WHERE,
                [found.rows[0], late[-1]],
                _less_in_the_end,
            )


def _nearly_as_much(rows: Side) -> Finding:
    share, evidence = _compared(rows, ratio)
    return Finding(at_least([share], ALIKE), evidence)


def _less_in_the_end(rows: Side) -> Finding:
    gap, evidence = _compared(rows, difference)
    return Finding(at_least([gap], 0.0), evidence)


def _compared(rows: Side, how: Callable[[Value, Value], Value]) -> tuple[Value, tuple[tuple[str, str], ...]]:
    """The accuracy SD of the first row against that of the second, and the numbers behind it."""
    (first_name, first), (second_name, second) = rows.items()
    metric = quantity("ppl_sd" if "ppl_sd" in first else "accuracy_sd")
    sentence = (
        f"{told(metric, first[metric.name], first_name)} against {told(metric, second[metric.name], second_name)}"
    )
    return how(first[metric.name], second[metric.name]), ((metric.header, sentence),)


def _share(row: Row) -> str:
    return (
        "a tenth of the training"
        if 10 * _epoch(row) == row.recipe.epochs
        else f"{_epoch(row)} of {row.recipe.epochs} epochs"
    )


def _epoch(row: Row) -> int:
    return row.variant.onset

"""Claims on when nondeterminism sets in (Summers & Dinneen 2021, Section 3.4 and Figure 2)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from popnet.report.claims.claim import Claim, Evidence, Finding, Side, told
from popnet.report.claims.rows import is_plain, training_key
from popnet.report.claims.sources import ALIKE
from popnet.report.measured import Measured, Row
from popnet.report.quantities import Quantity, Value, quantity
from popnet.report.verdicts import Verdict, at_least, difference, log_ratio

_WHERE = "Summers & Dinneen (2021), Section 3.4"


@dataclass(frozen=True)
class Onsets:
    """The rows of one set of sources by the epoch from which they vary, ascending; the first one is 0.

    `name` is that of the first row, without "from epoch 0" where that tells them apart as well.
    """

    name: str
    rows: tuple[Row, ...]


def onsets(measured: Measured) -> list[Onsets]:
    """One for each recipe, constants and set of sources measured from at least two onsets, the beginning among them.

    `init` acts at the beginning alone, so rows with and without it belong together.
    """
    alike: dict[tuple[str, tuple[str, ...]], list[Row]] = {}
    for row in measured.rows:
        if is_plain(row, any_onset=True) and row.members >= 2 and row.variant.sources:
            sources = tuple(s for s in row.variant.sources if s != "init") or ("init",)
            alike.setdefault((training_key(row), sources), []).append(row)
    ordered = [tuple(sorted(rows, key=_epoch)) for rows in alike.values()]
    found = [rows for rows in ordered if _epoch(rows[0]) == 0 and _epoch(rows[-1]) > 0]
    names = [rows[0].name for rows in found]
    short = [re.sub(r",? from epoch 0$", "", name) for name in names]
    return [Onsets(*one) for one in zip(short if len({*short}) == len(short) else names, found, strict=True)]


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
                cross_entropy=False,
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
                cross_entropy=False,
            )


def _nearly_as_much(rows: Side) -> Finding:
    share, evidence = _compared(rows, log_ratio)
    return Finding(at_least([share], math.log(ALIKE)), evidence)


def _less_in_the_end(rows: Side) -> Finding:
    gap, evidence = _compared(rows, difference)
    first, metric = next(iter(rows.values())), _metric(rows)
    if first[metric.name].value == 0.0:
        return Finding(Verdict.NOT_COMPARABLE, evidence, "from the beginning on nothing varies, so nothing can fall")
    return Finding(at_least([gap], 0.0), evidence)


def _compared(rows: Side, how: Callable[[Value, Value], Value]) -> tuple[Value, tuple[tuple[str, str], ...]]:
    """The accuracy SD of the first row against that of the second, and the numbers behind it."""
    (first_name, first), (second_name, second) = rows.items()
    metric = _metric(rows)
    sentence = (
        f"{told(metric, first[metric.name], first_name)} against {told(metric, second[metric.name], second_name)}"
    )
    return how(first[metric.name], second[metric.name]), ((metric.header, sentence),)


def _metric(rows: Side) -> Quantity:
    return quantity("ppl_sd" if all("ppl_sd" in row for row in rows.values()) else "accuracy_sd")


def _share(row: Row) -> str:
    return (
        "a tenth of the training"
        if 10 * _epoch(row) == row.recipe.epochs
        else f"{_epoch(row)} of {row.recipe.epochs} epochs"
    )


def _epoch(row: Row) -> int:
    return row.variant.onset

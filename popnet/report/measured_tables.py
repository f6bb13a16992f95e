"""The tables of a report: what was measured, beside what was published, and the reductions in both readings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from popnet.report.beside import Beside, Cell, published_values
from popnet.report.content import Line, Table
from popnet.report.measured import Measured, Row
from popnet.report.quantities import (
    REDUCTIONS,
    THEORY,
    UNKNOWN,
    Quantity,
    Value,
    in_order,
    number,
    percent,
    shown,
    with_error,
)
from popnet.report.reductions import READINGS, Reduction, reduction
from popnet.report.similarity import Similarity
from popnet.report.tables import published
from popnet.report.verdicts import LEAST_MEMBERS

NEAR, APART = 2.0, 3.0
"""Differences below the first are near, above the second far, in units of the combined error."""

_MANY = 1e4
"""Errors from which on a difference is written as a power of ten."""

_UNITS = {"accuracy_mean": " points", "cross_entropy_mean": " nats"}
"""Of differences of means, which are shown as they are."""

_LEFT_OUT = {"pearson", "ensemble_cross_entropy_delta", *REDUCTIONS, *THEORY}


def measured_table(measured: Measured) -> Table:
    """Every row, with its members, means and metrics."""
    columns = in_order(measured.quantities - _LEFT_OUT)
    names, notes = marked_names(measured)
    lines = tuple(
        Line(name, (_members(row), *(_own(q, row.values.get(q.name, UNKNOWN)) for q in columns)))
        for name, row in zip(names, measured.rows, strict=True)
    )
    return Table("Measured", "Variant", ("Members", *(q.header for q in columns)), lines, notes)


def marked_names(measured: Measured) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Each row's name with the raised numbers of its marks, and the notes that say what the numbers stand for."""
    marks = list(dict.fromkeys(mark for row in measured.rows for mark in row.marks))
    names = tuple(_with_marks(row, marks) for row in measured.rows)
    return names, tuple(f"{_raised(marks.index(mark))} {mark}" for mark in marks)


def beside_table(table: Beside) -> Table:
    """Measured and published, and the difference in combined errors where both are of the same data and model."""
    lines = []
    for pair in table.pairs:
        lines.append(Line(pair.row.name, tuple(shown(c.quantity, c.measured) for c in pair.cells)))
        name = "" if pair.published_name == pair.row.name else f" ({pair.published_name})"
        lines.append(Line(f"published{name}", tuple(c.printed for c in pair.cells), "published"))
        if not (pair.other or pair.few):
            tones = tuple(_tone(cell) if pair.same_epochs else "" for cell in pair.cells)
            lines.append(Line("Δ in errors", tuple(map(_units, pair.cells)), "difference", tones))
    notes = list(_departures(table))
    if few := [pair.row.name for pair in table.pairs if pair.few and not pair.other]:
        notes.append(f"{_whose(few, table)}Fewer than {LEAST_MEMBERS} members: no comparison by errors.")
    if table.missing_rows:
        notes.append(f"Published, not measured here: {'; '.join(table.missing_rows)}.")
    if table.missing_columns:
        notes.append(f"Published columns not measured here: {', '.join(table.missing_columns)}.")
    if not table.pairs:
        notes.append("No measured row bears the name of a row of this table.")
    return Table(f"Beside {table.title}", "Variant", tuple(q.header for q in table.columns), tuple(lines), tuple(notes))


def _departures(table: Beside) -> Iterator[str]:
    """Why there is no comparison by errors, and how the rows depart from the table's own: once for rows alike in it."""
    others: dict[str, list[str]] = {}
    departing: dict[str, list[str]] = {}
    for pair in table.pairs:
        if pair.other:
            others.setdefault(pair.other, []).append(pair.row.name)
        elif pair.departs:
            departing.setdefault("; ".join(pair.departs), []).append(pair.row.name)
    for text, rows in others.items():
        yield f"{_whose(rows, table)}{text[0].upper()}{text[1:]}: no comparison by errors."
    for text, rows in departing.items():
        yield f"{_whose(rows, table)}Not as published: {text}."


def _whose(rows: Sequence[str], table: Beside) -> str:
    return "" if len(rows) == len(table.pairs) else f"{'; '.join(rows)}: "


def reductions_table(found: Sequence[Reduction], tables: Sequence[Beside]) -> Table:
    """Each mitigation in both readings: measured, from the published rows, and the percentages that were printed."""
    printed = _printed_reductions(tables)
    lines = [
        Line(
            one.mitigated.name,
            (percent(one.complement), percent(one.raw), *printed.get(one.mitigated.name, ("", "", ""))),
        )
        for one in found
    ]
    space = "\N{NO-BREAK SPACE}"
    complement, raw = f"1{space}-{space}ρ", f"raw{space}ρ"
    headers = (
        f"{complement} (the paper)",
        f"{raw} (the report)",
        f"Published rows, {complement}",
        f"Published rows, {raw}",
        "Printed",
    )
    notes = (f"Against {found[0].single.name}. Percent, the mean over the five metrics.",) if found else ()
    return Table("Variability reduction in both readings", "Mitigation", headers, tuple(lines), notes)


def similarity_table(rows: Sequence[Row]) -> Table | None:
    """The mean CKA of each row and layer, and under it the layer's noise floor; None where no row has any."""
    found = {row.name: row.similarity for row in rows if row.similarity is not None}
    if not found:
        return None
    layers = list(dict.fromkeys(layer for one in found.values() for layer in one.layers))
    lines = []
    for name, one in found.items():
        runs = min((layer.runs for layer in one.layers.values()), default=0)
        own = [one.layers.get(layer) for layer in layers]
        values = ("" if layer is None else with_error(layer.value, 3) for layer in own)
        floors = ("" if layer is None else with_error(layer.floor, 3) for layer in own)
        lines += [Line(name, (str(runs), *values)), Line("noise floor", ("", *floors), "published")]
    headers, notes = ("Compared", *layers), (_similarity_note(found),)
    return Table("Similarity of representations", "Variant", headers, tuple(lines), notes)


def twins_table(divergence: pd.DataFrame) -> Table:
    """How far twins have parted after the first epochs and at the end: medians over the twins of each row."""
    columns = [name for name in divergence.columns if name not in ("variant", "member", "epoch")]
    lines = []
    for variant, twins in divergence.groupby("variant", sort=False):
        last = int(twins["epoch"].max())
        for epoch in sorted({0, 1, 2, 3, last} & set(range(last + 1))):
            medians = twins.loc[twins["epoch"] == epoch, columns].abs().median()
            cells = tuple("" if math.isnan(value) else f"{value:.3g}" for value in medians)
            lines.append(Line(f"{variant}, epoch {epoch}", cells))
    headers = tuple(name.replace("_", " ").capitalize() for name in columns)
    note = (
        "Medians over twins, without sign; condition: the difference over the distance of the initial weights. Summers "
        "& Dinneen (2021, Section 4.1) print of one twin of ResNet-14 on CIFAR-10, 500 epochs: accuracy apart by 0.18, "
        "2.33 and 10.42 points after 1, 2 and 3 epochs, conditions of 2.6e8 (accuracy) and 1.8e7 (cross-entropy) at "
        "the end."
    )
    return Table("How twins part", "Twins", headers, tuple(lines), (note,))


def _similarity_note(found: Mapping[str, Similarity]) -> str:
    ways = dict.fromkeys(f"{one.estimator} estimator, {one.examples:,} test images" for one in found.values())
    return (
        f"Linear CKA ({'; '.join(ways)}), mean over pairs of runs, with jackknife errors; 1: equal up to rotation and "
        "scale. Noise floor: the same estimator's mean for unrelated representations, with the standard deviation of a "
        "single pair. Which estimator and how many images Summers & Dinneen (2021, Figure 1) used, they do not say."
    )


def _printed_reductions(tables: Sequence[Beside]) -> dict[str, tuple[str, str, str]]:
    """By measured row: both readings of the published rows, and what is printed of them."""
    found = {}
    for table in tables:
        values = published_values(table.reference)
        single = values.get("Single Model")
        if single is None:
            continue
        for pair in table.pairs:
            row = values[pair.published_name]
            if row is single:
                continue
            both = tuple(f"{reduction(single, row, reading).value:.0f}" for reading in READINGS)
            found[pair.row.name] = (both[0], both[1], _printed(table.reference, pair.published_name))
    return found


def _printed(reference: str, row: str) -> str:
    table = published(reference)
    values = [float(table.at[row, name]) for name in REDUCTIONS if name in table]  # type: ignore[arg-type]
    return " and ".join(f"{value:.0f}" for value in values if not math.isnan(value))


def _own(kind: Quantity, value: Value) -> str:
    """Means without their errors, which the SDs beside them tell."""
    return number(value.value, kind.decimals) if kind.name.endswith("_mean") else shown(kind, value)


def _units(cell: Cell) -> str:
    if cell.quantity.is_mean and not math.isnan(cell.difference):
        unit = _UNITS.get(cell.quantity.name, "")
        return f"{cell.difference:+.{cell.quantity.decimals}f}{unit}".replace("-", "\N{MINUS SIGN}")
    if math.isnan(cell.units):
        return ""
    text = f"{cell.units:+.1f}" if abs(cell.units) < _MANY else f"{cell.units:+.0e}"
    return text.replace("-", "\N{MINUS SIGN}")


def _tone(cell: Cell) -> str:
    if math.isnan(cell.units):
        return ""
    return "near" if abs(cell.units) < NEAR else "apart" if abs(cell.units) < APART else "far"


def _members(row: Row) -> str:
    counts = {"failed": row.failed, "diverged": row.diverged}
    lost = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"{row.members} ({lost})" if lost else f"{row.members}"


def _with_marks(row: Row, marks: Sequence[str]) -> str:
    numbers = " ".join(_raised(marks.index(mark)) for mark in row.marks)
    return f"{row.name}\N{NO-BREAK SPACE}{numbers}" if numbers else row.name


def _raised(index: int) -> str:
    return str(index + 1).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))

"""The tables of a report: what was measured, beside what was published, and the reductions in both readings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from popnet.report.beside import Beside, Cell, published_values
from popnet.report.content import Line, Table
from popnet.report.measured import Measured, Row
from popnet.report.quantities import REDUCTIONS, UNKNOWN, Quantity, Value, in_order, number, shown
from popnet.report.reductions import READINGS, Reduction, reduction
from popnet.report.tables import published

NEAR, APART = 2.0, 3.0
"""Differences below the first are near, above the second far, in units of the combined error."""

_LEFT_OUT = {"pearson", "ensemble_cross_entropy_delta", *REDUCTIONS}


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
    """Three lines for each row that both have: measured, published, and the difference in combined errors."""
    lines = []
    for pair in table.pairs:
        lines.append(Line(pair.row.name, tuple(shown(c.quantity, c.measured) for c in pair.cells)))
        name = "" if pair.published_name == pair.row.name else f" ({pair.published_name})"
        lines.append(Line(f"published{name}", tuple(shown(c.quantity, c.published) for c in pair.cells), "published"))
        lines.append(Line("Δ in errors", tuple(map(_units, pair.cells)), "difference", tuple(map(_tone, pair.cells))))
    notes = []
    if table.missing_rows:
        notes.append(f"Published, not measured here: {'; '.join(table.missing_rows)}.")
    if table.missing_columns:
        notes.append(f"Published columns not measured here: {', '.join(table.missing_columns)}.")
    if not table.pairs:
        notes.append("No measured row bears the name of a row of this table.")
    return Table(f"Beside {table.title}", "Variant", tuple(q.header for q in table.columns), tuple(lines), tuple(notes))


def reductions_table(found: Sequence[Reduction], tables: Sequence[Beside]) -> Table:
    """Each mitigation in both readings: measured, from the published rows, and the percentages that were printed."""
    printed = _printed_reductions(tables)
    lines = [
        Line(
            one.mitigated.name,
            (_percent(one.complement), _percent(one.raw), *printed.get(one.mitigated.name, ("", "", ""))),
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
        "& Dinneen (2021, Section 4.1) print of one twin: accuracy apart by 0.18, 2.33 and 10.42 points after 1, 2 and "
        "3 epochs, conditions of 2.6e8 (accuracy) and 1.8e7 (cross-entropy) at the end."
    )
    return Table("How twins part", "Twins", headers, tuple(lines), (note,))


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


def _percent(value: Value) -> str:
    return f"{value.value:.0f} ± {value.error:.0f}" if not math.isnan(value.error) else number(value.value, 0)


def _units(cell: Cell) -> str:
    if math.isnan(cell.units):
        return ""
    return f"{cell.units:+.1f}".replace("-", "\N{MINUS SIGN}")


def _tone(cell: Cell) -> str:
    if math.isnan(cell.units):
        return ""
    return "near" if abs(cell.units) < NEAR else "apart" if abs(cell.units) < APART else "far"


def _members(row: Row) -> str:
    return f"{row.members}" + (f" ({row.failed} failed)" if row.failed else "")


def _with_marks(row: Row, marks: Sequence[str]) -> str:
    numbers = " ".join(_raised(marks.index(mark)) for mark in row.marks)
    return f"{row.name}\N{NO-BREAK SPACE}{numbers}" if numbers else row.name


def _raised(index: int) -> str:
    return str(index + 1).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))

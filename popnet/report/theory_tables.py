"""The tables of Jordan's (2024) theory: of a report's rows, and of the same runs on several test sets."""

from __future__ import annotations

from popnet.report.content import Line, Table
from popnet.report.measured import Measured
from popnet.report.quantities import UNKNOWN, quantity, shown

_SHOWN = (
    "independent_errors_sd",
    "distribution_sd",
    "halves_correlation",
    "lucky_quarter_gain",
    "disagreement_ratio",
    "tasks_r_squared",
    "binomial_ratio",
    "twin_disagreement",
    "lucky_part_gain",
)


def theory_table(measured: Measured) -> Table | None:
    """A row for each row of the experiment that the theory was asked of; None where there is none."""
    rows = [row for row in measured.rows if "independent_errors_sd" in row.values]
    if not rows:
        return None
    columns = [quantity(name) for name in _SHOWN if any(row.values.get(name, UNKNOWN).known for row in rows)]
    lines = tuple(
        Line(row.name, tuple(shown(q, row.values[q.name]) if q.name in row.values else "" for q in columns))
        for row in rows
    )
    note = (
        "SDs and gains in points of a percent, with errors over bootstrap resamples of the runs; on the distribution "
        "(Theorem 2) over examples too: of a negative estimate of a variance, minus the root of its amount. Formulas: "
        "Jordan (2024)."
    )
    return Table("How much of the variance is genuine", "Variant", tuple(q.header for q in columns), lines, (note,))

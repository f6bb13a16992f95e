"""The report's numbers as a table in long form: one line for each cell, for any other program to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from popnet.report.beside import beside
from popnet.report.claims import Evidence
from popnet.report.measured import Measured
from popnet.report.quantities import PAPERS_RUNS

COLUMNS = (
    "store",
    "experiment",
    "variant",
    "members",
    "diverged",
    "quantity",
    "measured",
    "error",
    "table",
    "published_row",
    "published",
    "published_error",
    "difference",
    "difference_in_errors",
    "not_comparable",
    "departs",
)

_GROWN = f"grows with the runs, of which the paper has {PAPERS_RUNS:,}"


def long_form(evidence: Sequence[Evidence]) -> pd.DataFrame:
    """A line for each measured cell, and one more for each published table in which it stands; unrounded.

    `published_error` is the printed error bar, but at least half a printed unit; empty where nothing was published.
    `not_comparable`: why there is no difference between the two: other data, another model, or a number that grows
    with the runs. `departs`: how the training departs from the published one.
    """
    lines = [line for one in evidence for line in _lines(one.measured)]
    return pd.DataFrame(lines, columns=pd.Index(COLUMNS))


def _lines(measured: Measured) -> Iterator[dict[str, Any]]:
    published: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for table in beside(measured):
        for pair in table.pairs:
            for cell in pair.cells:
                published.setdefault((pair.row.name, cell.quantity.name), []).append(
                    {
                        "table": table.reference,
                        "published_row": pair.published_name,
                        "published": cell.published.value,
                        "published_error": cell.published.error,
                        "difference": cell.difference,
                        "difference_in_errors": cell.units,
                        "not_comparable": pair.other or (_GROWN if cell.grown else ""),
                        "departs": "; ".join(pair.departs),
                    }
                )
    for row in measured.rows:
        for name, value in row.values.items():
            line = {
                "store": str(measured.store),
                "experiment": measured.experiment.name,
                "variant": row.name,
                "members": row.members,
                "diverged": row.diverged,
                "quantity": name,
                "measured": value.value,
                "error": value.error,
            }
            for other in published.get((row.name, name), [{}]):
                yield line | other

"""Measured rows beside the published ones: cell by cell, with the difference in units of the combined error."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from popnet.config import Experiment, Recipe, Variant
from popnet.report.measured import Measured, Row
from popnet.report.quantities import (
    BELOW,
    GROWS_WITH_RUNS,
    PAPERS_RUNS,
    UNKNOWN,
    Quantity,
    Value,
    in_order,
    quantity,
    shown,
    with_error,
)
from popnet.report.scaled import UNKNOWN_TABLE, other_kind, paper_experiment, row_departures, training_departures
from popnet.report.tables import means_of, printed_ranges, published
from popnet.report.verdicts import LEAST_MEMBERS

_PAPERS = {
    "summers_dinneen_2021": "Summers & Dinneen (2021)",
    "summers_dinneen_2020": "Summers & Dinneen (2020 submission)",
    "reproduction_report": "the reproduction report",
    "jordan_2024": "Jordan (2024)",
}

_SAME_ROW = {"singlemodel": "allnondeterminismsources"}
"""Published rows that a measured row of another name is: a single model with all sources on (Table 5)."""


@dataclass(frozen=True)
class Cell:
    """One number of a table: measured, published, or both.

    Attributes:
        comparable: of the same data and model.
        grown: whether it grows with the runs, and the paper's are of another number of them.
    """

    quantity: Quantity
    measured: Value
    published: Value
    comparable: bool = True
    grown: bool = False

    @property
    def difference(self) -> float:
        """Measured minus published; NaN where one is unknown, or where they cannot be compared.

        Of a printed range 0 inside it, and outside it the distance from its nearer end.
        """
        if self.grown or not self.comparable:
            return math.nan
        apart, within = self.measured.value - self.published.value, self.published.within
        return math.copysign(max(abs(apart) - within, 0.0), apart) if within else apart

    @property
    def combined_error(self) -> float:
        return math.hypot(self.measured.error, self.published.error - self.published.within)

    @property
    def printed(self) -> str:
        """The published number as it is shown: of one that grows with the runs, with how many the paper's are."""
        text = shown(self.quantity, self.published)
        return f"{text} ({PAPERS_RUNS:,} runs)" if text and self.quantity.name in GROWS_WITH_RUNS else text

    @property
    def units(self) -> float:
        """The difference in units of the combined error; 0 where there is neither, NaN where one is unknown.

        NaN of means: the error of a mean over many members is so small that any other training is many of them away.
        """
        if self.quantity.is_mean:
            return math.nan
        if self.difference == 0.0:
            return 0.0
        return self.difference / self.combined_error if self.combined_error > 0.0 else math.nan


@dataclass(frozen=True)
class Pair:
    """A measured row and the published row that it is set against.

    Attributes:
        other: why their numbers cannot be compared by errors: other data, or another model; else empty.
        departs: how else the row, or its training, departs from the published one.
        few: whether the row has too few members for the errors of its numbers to be known.
        same_epochs: whether it is trained as long as the published one.
    """

    row: Row
    published_name: str
    cells: tuple[Cell, ...]
    other: str = ""
    departs: tuple[str, ...] = ()
    few: bool = False
    same_epochs: bool = True


@dataclass(frozen=True)
class Beside:
    """A published table and the measured rows that are in it.

    Attributes:
        reference: e.g. "summers_dinneen_2021.table1".
        pairs: in the order of the measured rows.
        missing_rows: published rows that were not measured.
        missing_columns: published columns that were not measured.
    """

    reference: str
    columns: tuple[Quantity, ...]
    pairs: tuple[Pair, ...]
    missing_rows: tuple[str, ...]
    missing_columns: tuple[str, ...]

    @property
    def title(self) -> str:
        return title(self.reference)


def title(reference: str) -> str:
    """ "summers_dinneen_2021.table6.resnet6" as "Summers & Dinneen (2021), Table 6, resnet6"."""
    paper, *parts = reference.split(".")
    words = [part.replace("table", "Table ").replace("_", " ") for part in parts]
    return ", ".join([_PAPERS.get(paper, paper), *words])


def beside(measured: Measured) -> list[Beside]:
    """A comparison for each table that the experiment refers to."""
    return [_table(measured, reference) for reference in measured.experiment.published]


def published_values(reference: str) -> dict[str, dict[str, Value]]:
    """A published table by row and quantity.

    The error is the printed error bar, but at least half a unit of the last printed decimal, which is all that is
    known of a number without one.
    """
    table, ranges = published(reference), printed_ranges(reference)
    names = [str(name) for name in table.columns if not str(name).endswith(("_error", BELOW))]
    rows: dict[str, dict[str, Value]] = {str(variant): {} for variant in table.index}
    for name in names:
        decimals = _decimals(name, table[name])
        errors = table.get(f"{name}_error", pd.Series(math.nan, table.index))
        bars = {str(variant): float(bar) for variant, bar in errors.items()}
        for variant, cell in table[name].items():
            bar = bars[str(variant)]
            half = 0.5 * 10.0 ** -decimals[str(variant)]
            if (str(variant), name) in ranges:
                rows[str(variant)][name] = _range(ranges[str(variant), name])
                continue
            text = with_error(Value(float(cell), bar), decimals[str(variant)])
            if f"{bar:.6e}".startswith("5.000000e"):  # half a unit: all that tells of the 0 in 71.0
                half = min(half, bar)
            rows[str(variant)][name] = Value(float(cell), half if math.isnan(bar) else max(bar, half), text)
    for name in (str(name) for name in table.columns if str(name).endswith(BELOW)):
        for variant, bound in table[name].dropna().items():
            half = float(bound) / 2
            rows[str(variant)][name.removesuffix(BELOW)] = Value(half, half, f"< {bound:g}", within=half)
    return rows


def _range(text: str) -> Value:
    """A range as it is printed; its error reaches half a printed unit beyond its ends."""
    low, high = map(float, text.split("-"))
    half, unit = (high - low) / 2, 10.0 ** -len(text.rpartition(".")[2])
    return Value((low + high) / 2, half + unit / 2, text, within=half)


def matching(measured: Mapping[str, Row], printed: Mapping[str, object]) -> dict[str, str]:
    """The published row of each measured one, by `plain_name`."""
    by_key = {plain_name(name): name for name in printed}
    found = {name: by_key[plain_name(name)] for name in measured if plain_name(name) in by_key}
    for published_key, measured_key in _SAME_ROW.items():
        if published_key in by_key and by_key[published_key] not in found.values():
            name = next((name for name in measured if plain_name(name) == measured_key and name not in found), None)
            if name is not None:
                found[name] = by_key[published_key]
    return found


def unmatched(measured: Measured, tables: list[Beside]) -> list[str]:
    """Measured rows that stand in none of the published tables."""
    matched = {pair.row.name for table in tables for pair in table.pairs}
    return [row.name for row in measured.rows if row.name not in matched]


def _table(measured: Measured, reference: str) -> Beside:
    printed = published_values(reference)
    rows = {row.name: row for row in measured.rows}
    names = matching(rows, printed)
    theirs = {
        name: {**_means(reference, printed_name, rows[name]), **printed[printed_name]}
        for name, printed_name in names.items()
    }
    known = {name for cells in printed.values() for name, value in cells.items() if value.known}
    means = {name for cells in theirs.values() for name in cells if name.endswith("_mean")}
    columns = tuple(in_order((known | means) & measured.quantities))
    pairs = tuple(
        _pair(measured, reference, rows[name], printed_name, theirs[name], columns)
        for name, printed_name in names.items()
    )
    missing = tuple(name for name in printed if name not in names.values())
    return Beside(reference, columns, pairs, missing, tuple(sorted(known - {q.name for q in columns})))


def _pair(
    measured: Measured,
    reference: str,
    row: Row,
    printed_name: str,
    theirs: Mapping[str, Value],
    columns: Sequence[Quantity],
) -> Pair:
    full, recipe = paper_experiment(reference), paper_recipe(reference, printed_name)
    other, same_epochs, few = UNKNOWN_TABLE, True, row.members < LEAST_MEMBERS
    departs: list[str] = []
    if full is not None and recipe is not None:
        variant = _variant(full, printed_name)
        same_epochs = row.recipe.epochs == recipe.epochs
        other = other_kind(row.recipe, recipe)
        departs = training_departures(row.recipe, recipe, _data(measured, row.recipe))
        departs += [] if variant is None else row_departures(row.variant, variant)
        size = full.population if variant is None else full.population_of(variant)
        if row.finished != size:
            departs.append(f"members: {row.finished:,} instead of {size:,}")
    cells = (
        Cell(q, row.values.get(q.name, UNKNOWN), theirs.get(q.name, UNKNOWN), not (other or few), _grown(q, row))
        for q in columns
    )
    return Pair(row, printed_name, tuple(cells), other, tuple(departs), few, same_epochs)


def _grown(kind: Quantity, row: Row) -> bool:
    """Whether a number is another than the paper's by the number of runs alone."""
    return kind.name in GROWS_WITH_RUNS and row.finished != PAPERS_RUNS


def paper_recipe(reference: str, printed_name: str) -> Recipe | None:
    """The recipe of a published row, as the shipped experiment has it; None where none reproduces the table."""
    full = paper_experiment(reference)
    if full is None:
        return None
    variant = _variant(full, printed_name)
    return full.recipe if variant is None else full.recipe_of(variant)


def _variant(full: Experiment, printed_name: str) -> Variant | None:
    """The row of a shipped experiment that a published row is; by name, as `matching` finds it."""
    keys = {plain_name(printed_name), _SAME_ROW.get(plain_name(printed_name), "")}
    return next((variant for variant in full.variants if plain_name(variant.name) in keys), None)


def _data(measured: Measured, recipe: Recipe) -> str:
    return measured.data if recipe.dataset == measured.experiment.recipe.dataset else ""


def _means(reference: str, printed_name: str, row: Row) -> dict[str, Value]:
    """The means of the table's models, which are those of rows of single models; half a printed unit is their error."""
    variant = row.variant
    single = variant.ensemble == 1 and variant.snapshots is None and variant.views.name == "none"
    found = {}
    for name, mean in means_of(reference, printed_name, whole=single).items():
        decimals = len(str(mean).partition(".")[2])
        found[name] = Value(float(mean), 0.5 * 10.0**-decimals, str(mean))
    return found


def _decimals(name: str, column: pd.Series) -> dict[str, int]:
    """With how many decimals each number was printed: as many as it has, as most of its column have, or as usual."""
    written = {str(variant): _written_decimals(float(cell)) for variant, cell in column.dropna().items()}
    usual = max(statistics.median_low(written.values() or [0]), quantity(name).decimals if name in _USUAL else 0)
    return {str(variant): max(written.get(str(variant), 0), usual) for variant in column.index}


_USUAL = (
    "accuracy_sd",
    "cross_entropy_sd",
    "disagreement",
    "spearman",
    "ensemble_delta",
    "ppl_sd",
    "ensemble_ppl_delta",
)


def _written_decimals(value: float) -> int:
    exponent = f"{value:e}".partition("e")
    digits = exponent[0].rstrip("0").partition(".")[2]
    return max(len(digits) - int(exponent[2]), 0)


_TELLING = re.compile(r"((?<=\d)[^\w\s,]+(?=\d)|(?<![^\W\d_])-(?=\.?\d)|(?<=\de)-(?=\d)|(?<!\w)\.(?=\d))|[\W_]")
"""What parts two numbers, a minus before one and its point are group 1; all else is no letter and no digit."""


def plain_name(name: str) -> str:
    """A row's name without capitals, spaces and points, which do not count where rows are matched.

    What belongs to a number does: `x^-1` is not `x^1`, nor `lr 1.0` the same as `lr 10`.
    """
    return _TELLING.sub(lambda found: found[1] or "", name.casefold().replace("\N{MINUS SIGN}", "-"))

"""How much a mitigation reduces variability: Table 5's column in both of its readings.

Summers & Dinneen (2021) let correlation enter as 1 - rho; the reproduction report counted the relative increase of rho
itself, and took the paper's figures, about a fifth above its own, for a computational error. Both follow from the
printed rows, within their rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from popnet.config import Variant, Views
from popnet.metrics.population import REDUCTION_METRICS, variability_reduction
from popnet.report.measured import Measured, Row
from popnet.report.quantities import REDUCTIONS, Value, quantity

Reading = Literal["complement", "raw"]
READINGS: tuple[Reading, Reading] = ("complement", "raw")


@dataclass(frozen=True)
class Reduction:
    """What a mitigated row reduces against the single model: percent, in each reading."""

    mitigated: Row
    single: Row
    complement: Value
    raw: Value


def reductions(measured: Measured) -> list[Reduction]:
    """One for each mitigated row whose single model was measured too, and varies by each metric."""
    found = []
    for row, single in pairs(measured):
        if _divisible(single.values):
            complement, raw = (reduction(single.values, row.values, reading) for reading in READINGS)
            found.append(Reduction(row, single, complement, raw))
    return found


def pairs(measured: Measured) -> list[tuple[Row, Row]]:
    """Each mitigated row with its single model, where all five metrics of both are known."""
    found = ((row, _single(row, measured)) for row in measured.rows)
    return [(row, one) for row, one in found if one is not None and _complete(row.values) and _complete(one.values)]


def unclear(single: Mapping[str, Value]) -> str:
    """The first of the five metrics that is not clearly above 0, by which nothing can be divided; empty where none."""
    for name in REDUCTION_METRICS:
        value = quantity(name).variability(single[name])
        if not value.value > 0.0 or value.value <= 2 * value.error:
            return quantity(name).header
    return ""


def with_reductions(measured: Measured) -> Measured:
    """The same experiment, its mitigated rows with their reductions among the values."""
    known = {found.mitigated.name: found for found in reductions(measured)}

    def extended(row: Row) -> Row:
        if row.name not in known:
            return row
        found = known[row.name]
        return replace(row, values={**row.values, REDUCTIONS[0]: found.complement, REDUCTIONS[1]: found.raw})

    return replace(measured, rows=tuple(map(extended, measured.rows)))


def reduction(single: Mapping[str, Value], mitigated: Mapping[str, Value], reading: Reading) -> Value:
    """The mean reduction over the five metrics, percent, with its error.

    The five metrics come from the same runs, so their errors are added as if they moved together: the largest that
    the mean's error can be.
    """
    before, after = (
        {name: _unsigned(name, row[name].value) for name in REDUCTION_METRICS} for row in (single, mitigated)
    )
    errors = [_ratio_error(name, single[name], mitigated[name], reading) for name in REDUCTION_METRICS]
    freedom = min(row[name].freedom for row in (single, mitigated) for name in REDUCTION_METRICS)
    percent = variability_reduction(before, after, reading)
    return Value(percent, 100.0 * math.fsum(errors) / len(errors), freedom=freedom)


def _unsigned(name: str, value: float) -> float:
    """Without its sign, which an ensemble's gain may have by chance; a correlation stays as it is."""
    return value if quantity(name).is_correlation else abs(value)


def rounding_range(
    single: Mapping[str, Value], mitigated: Mapping[str, Value], half_units: Mapping[str, float], reading: Reading
) -> tuple[float, float]:
    """The least and the largest reduction, percent, of rows that would be printed as these.

    half_units: half a unit of the last printed decimal, by metric.
    """
    least = most = 0.0
    for name in REDUCTION_METRICS:
        half = half_units[name]
        corners = [
            _relative(name, single[name].value + a * half, mitigated[name].value + b * half, reading)
            for a in (-1, 1)
            for b in (-1, 1)
        ]
        least, most = least + min(corners), most + max(corners)
    return 100.0 * least / len(REDUCTION_METRICS), 100.0 * most / len(REDUCTION_METRICS)


def _relative(name: str, before: float, after: float, reading: Reading) -> float:
    if name == "spearman":
        return (after - before) / (1.0 - before if reading == "complement" else before)
    return (before - after) / before


def _ratio_error(name: str, before: Value, after: Value, reading: Reading) -> float:
    """The error of one metric's relative reduction, the two populations taken as independent."""
    first, second = before.value, after.value
    if name == "spearman" and reading == "complement":
        first, second = 1.0 - first, 1.0 - second
    if first == 0.0:
        return math.nan
    return math.hypot(after.error / first, before.error * second / first**2)


def _single(row: Row, measured: Measured) -> Row | None:
    """The row of the same trainings' sources and recipe that is a single model, unless this row is one itself."""
    if _plain(row.variant) == row.variant.model_copy(update={"name": "", "population": None}):
        return None
    plain = [other for other in measured.rows if not _mitigated(other.variant)]
    return next((other for other in plain if _plain(other.variant) == _plain(row.variant)), None)


def _mitigated(variant: Variant) -> bool:
    return variant.ensemble > 1 or variant.snapshots is not None or variant.views.name != "none"


def _plain(variant: Variant) -> Variant:
    """The variant without its mitigation, name and population: equal for rows of the same sources and recipe."""
    changes = {"name": "", "population": None, "ensemble": 1, "snapshots": None, "views": Views()}
    return variant.model_copy(update=changes)


def _divisible(single: Mapping[str, Value]) -> bool:
    """Whether none of the five metrics, in either reading, is zero."""
    return all(
        single[name].value != 0.0 and quantity(name).variability(single[name]).value > 0.0 for name in REDUCTION_METRICS
    )


def _complete(values: Mapping[str, Value]) -> bool:
    """Whether all five metrics are known."""
    return all(name in values and values[name].known for name in REDUCTION_METRICS)

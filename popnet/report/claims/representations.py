"""Claims on representations (Summers & Dinneen 2021, Figure 1) and on twins that part (Section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from popnet.report.claims.claim import Claim, Evidence, Finding
from popnet.report.claims.rows import is_plain
from popnet.report.measured import Row
from popnet.report.quantities import Value
from popnet.report.verdicts import Verdict, at_least, at_most

DWARFED = 2.0
"""How many times larger what dwarfs is, at least."""

CONDITION_NUMBERS = {"accuracy_condition": 2.6e8, "cross_entropy_condition": 1.8e7}
"""Section 4.1: how much more the result moved than the one weight that was changed."""


def claims(evidence: Evidence) -> Iterator[Claim]:
    """The claims that the experiment has the rows for."""
    rows = [row for row in evidence.measured.rows if is_plain(row) and len(row.similarity) > 1]
    if len(rows) > 1:
        yield Claim(
            "Sources differ little in how alike they leave representations: layers differ more than twice as much",
            "Summers & Dinneen (2021), Section 3.2 and Figure 1",
            tuple(row.name for row in rows),
            _dwarfed(rows),
        )
    for variant, finding in _conditions(evidence):
        yield Claim(
            "One changed bit moves the final result 10,000,000 times as far and more: the condition numbers are those "
            "of the paper, within a factor of ten",
            "Summers & Dinneen (2021), Section 4.1",
            (variant,),
            finding,
        )


def _dwarfed(rows: list[Row]) -> Finding:
    """The least range over layers, of any source, against twice the largest range over sources, of any layer."""
    layers = list(rows[0].similarity)
    by_source = [_range([row.similarity[layer] for layer in layers]) for row in rows]
    by_layer = [_range([row.similarity[layer] for row in rows]) for layer in layers]
    across_layers = min(by_source, key=lambda value: value.value)
    across_sources = max(by_layer, key=lambda value: value.value)
    gap = Value(
        across_layers.value - DWARFED * across_sources.value,
        math.hypot(across_layers.error, DWARFED * across_sources.error),
    )
    evidence = (
        ("Range of CKA over layers, at least", f"{across_layers.value:.3f} ± {across_layers.error:.3f}"),
        ("Range of CKA over sources, at most", f"{across_sources.value:.3f} ± {across_sources.error:.3f}"),
    )
    return Finding(at_least([gap], 0.0), evidence)


def _range(values: list[Value]) -> Value:
    low, high = (choose(values, key=lambda value: value.value) for choose in (min, max))
    return Value(high.value - low.value, math.hypot(high.error, low.error))


def _conditions(evidence: Evidence) -> Iterator[tuple[str, Finding]]:
    """For each row of twins that one bit parts: the mean order of magnitude of both condition numbers."""
    table = evidence.measured.divergence
    if table is None:
        return
    bits = {row.name for row in evidence.measured.rows if row.variant.sources == ("bit",)}
    for variant, twins in table.groupby("variant", sort=False):
        last = twins[twins["epoch"] == twins["epoch"].max()]
        if variant not in bits:
            continue
        orders = {name: _order(last[name].to_numpy(dtype=np.float64)) for name in CONDITION_NUMBERS}
        names = ("Condition number, accuracy", "Condition number, cross-entropy")
        lines = [_told(orders[key], paper) for key, paper in CONDITION_NUMBERS.items()]
        yield str(variant), Finding(_within_ten(orders), tuple(zip(names, lines, strict=True)))


def _order(numbers: np.ndarray) -> Value:
    """The mean decimal logarithm, with its error over twins; of those that moved at all."""
    moved = np.log10(numbers[np.isfinite(numbers) & (numbers > 0)])
    if len(moved) == 0:
        return Value(math.nan)
    error = float(moved.std(ddof=1)) / math.sqrt(len(moved)) if len(moved) > 1 else math.nan
    return Value(float(moved.mean()), error)


def _within_ten(orders: dict[str, Value]) -> Verdict:
    verdicts = []
    for name, paper in CONDITION_NUMBERS.items():
        bound = math.log10(paper)
        verdicts += [at_least([orders[name]], bound - 1), at_most([orders[name]], bound + 1)]
    if Verdict.FAILS in verdicts:
        return Verdict.FAILS
    return Verdict.OPEN if Verdict.OPEN in verdicts else Verdict.HOLDS


def _told(order: Value, paper: float) -> str:
    if not order.known:
        return f"none of the twins moved; {paper:.1e} in the paper"
    factor = "" if math.isnan(order.error) else f", times or over {10**order.error:.2g}"
    return f"{10**order.value:.1e}{factor} (geometric mean); {paper:.1e} in the paper"

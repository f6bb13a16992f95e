"""Claims on representations (Summers & Dinneen 2021, Figure 1) and on twins that part (Section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from popnet.report.claims.claim import Claim, Evidence, Finding
from popnet.report.claims.comparable import unlike, why_not
from popnet.report.claims.rows import groups
from popnet.report.measured import Row
from popnet.report.quantities import Value
from popnet.report.scaled import shipped
from popnet.report.similarity import Similarity
from popnet.report.verdicts import Verdict, at_least, at_most

DWARFED = 2.0
"""How many times larger what dwarfs is, at least."""

CONDITION_NUMBERS = {"accuracy_condition": 2.6e8, "cross_entropy_condition": 1.8e7}
"""Section 4.1: how much more the result moved than the one weight that was changed."""


def claims(evidence: Evidence) -> Iterator[Claim]:
    """The claims that the experiment has the rows for."""
    for group in groups(evidence.measured):
        rows = [(row, row.similarity) for row in group.sources if row.similarity is not None]
        layers = [list(similarity.layers) for _, similarity in rows]
        if len(rows) > 1 and len(layers[0]) > 1 and all(names == layers[0] for names in layers):
            yield Claim(
                "Sources differ little in how alike they leave representations: layers differ more than twice as much",
                "Summers & Dinneen (2021), Section 3.2 and Figure 1",
                tuple(row.name for row, _ in rows),
                _dwarfed(evidence, rows),
            )
    for variant, finding in _conditions(evidence):
        yield Claim(
            "One changed bit moves the final result 10,000,000 times as far and more: the condition numbers are those "
            "of the paper, within a factor of ten",
            "Summers & Dinneen (2021), Section 4.1",
            (variant,),
            finding,
        )


def _dwarfed(evidence: Evidence, rows: Sequence[tuple[Row, Similarity]]) -> Finding:
    """The least range over layers, of any source, against twice the largest range over sources, of any layer.

    Of values above the noise floor, all of them clearly: a biased estimator makes layers differ by their sizes alone.
    """
    why = why_not(evidence.measured, [row for row, _ in rows], cross_entropy=False) or _noise(rows)
    values = [[layer.above_floor for layer in similarity.layers.values()] for _, similarity in rows]
    across_layers = min(map(_range, values), key=lambda value: value.value)
    across_sources = max(map(_range, zip(*values, strict=True)), key=lambda value: value.value)
    gap = Value(
        across_layers.value - DWARFED * across_sources.value,
        math.hypot(across_layers.error, DWARFED * across_sources.error),
    )
    told = (
        ("Range of CKA over layers, at least", f"{across_layers.value:.3f} ± {across_layers.error:.3f}"),
        ("Range of CKA over sources, at most", f"{across_sources.value:.3f} ± {across_sources.error:.3f}"),
    )
    verdict = Verdict.NOT_COMPARABLE if why else at_least([gap], 0.0)
    return Finding(verdict, told, why or "")


def _noise(rows: Sequence[tuple[Row, Similarity]]) -> str:
    """Which rows and layers are no more alike than unrelated representations, in a sentence; empty where none is."""
    found = [
        f"{row.name}, {name} ({layer.value.value:.3f}, floor {layer.floor.value:.3f})"
        for row, similarity in rows
        for name, layer in similarity.layers.items()
        if layer.is_noise
    ]
    if not found:
        return ""
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"CKA is not clearly above its noise floor in {found[0]}{more}"


def _range(values: Sequence[Value]) -> Value:
    low, high = (choose(values, key=lambda value: value.value) for choose in (min, max))
    return Value(high.value - low.value, math.hypot(high.error, low.error))


def _conditions(evidence: Evidence) -> Iterator[tuple[str, Finding]]:
    """For each row of twins that one bit parts: the mean order of magnitude of both condition numbers.

    Not of linear models, of which the paper says that one bit moves nothing (Section 4.2).
    """
    table = evidence.measured.divergence
    if table is None:
        return
    rows = evidence.measured.rows
    bits = {r.name: r for r in rows if r.variant.sources == ("bit",) and r.recipe.model.name != "linear"}
    for variant, twins in table.groupby("variant", sort=False):
        last = twins[twins["epoch"] == twins["epoch"].max()]
        if variant not in bits:
            continue
        why = why_not(evidence.measured, [bits[str(variant)]], least=2) or _not_the_papers(bits[str(variant)])
        orders = {name: _order(last[name].to_numpy(dtype=np.float64)) for name in CONDITION_NUMBERS}
        names = ("Condition number, accuracy", "Condition number, cross-entropy")
        lines = [_told(orders[key], paper) for key, paper in CONDITION_NUMBERS.items()]
        verdict = Verdict.NOT_COMPARABLE if why else _within_ten(orders)
        yield str(variant), Finding(verdict, tuple(zip(names, lines, strict=True)), why or "")


def _not_the_papers(row: Row) -> str:
    """How the twins are trained otherwise than the paper's, whose condition numbers these are; empty where they are."""
    full = shipped("resnet14_twins")
    other = "no shipped experiment to compare with" if full is None else unlike(row.recipe, full.recipe)
    return f"the paper's condition numbers are of ResNet-14 on CIFAR-10 after 500 epochs: {other}" if other else ""


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

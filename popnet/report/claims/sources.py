"""Claims on the sources of nondeterminism: how alike they are, and what remains without any."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

from popnet.report.claims.claim import Claim, Evidence, Finding, Side, metrics_of, told
from popnet.report.claims.rows import Group, groups
from popnet.report.quantities import Quantity, Value, percent
from popnet.report.verdicts import Verdict, at_least, exactly, log_ratio, ratio

Told = Callable[[Value, Value], str]
"""How the distance of a smaller from a larger value is put."""

ALIKE = 0.8
"""What "within a maximum of 20% of each other" asks of the smaller over the larger."""

LEAST_ALIKE = 20
"""Members below which no row is called more than 20% from another: with 10, one in thirteen would be by chance."""


def claims(evidence: Evidence) -> Iterator[Claim]:
    """The claims that the experiment has the rows for."""
    for group in groups(evidence.measured):
        if group.same is not None:
            yield evidence.claim(
                "Without any nondeterminism, runs are the same to the last bit",
                "Reproduction report, Section 4.1",
                [group.same],
                _same,
                trained=False,
            )
        if len(group.sources) > 1 and not group.linear:
            yield from _likeness(evidence, group)


def _percent_apart(low: Value, high: Value) -> str:
    share = ratio(low, high)
    if not share.known:
        return "too uncertain to compare"
    return f"{percent(Value(100 * (1 - share.value), 100 * share.error), '%')} apart"


def _times_apart(low: Value, high: Value) -> str:
    times = ratio(high, low)
    return f"{times.value:.2f} ± {times.error:.2f} times" if times.known else "too uncertain to compare"


def similar(rows: Side, metrics: list[Quantity], least: float, apart: Told = _percent_apart) -> Finding:
    """Whether in each metric every row is at least `least` times every other."""
    ratios, sentences = [], []
    for metric in metrics:
        values = {name: metric.variability(row[metric.name]) for name, row in rows.items()}
        ratios += [log_ratio(values[a], values[b]) for a, b in itertools.permutations(values, 2)]
        low, high = (choose(values, key=lambda name: values[name].value) for choose in (min, max))
        sentences.append(
            (
                metric.header,
                f"{told(metric, rows[low][metric.name], low)} to {told(metric, rows[high][metric.name], high)}: "
                f"{apart(values[low], values[high])}",
            )
        )
    return Finding(at_least(ratios, math.log(least)), tuple(sentences))


def _likeness(evidence: Evidence, group: Group) -> Iterator[Claim]:
    where = "Summers & Dinneen (2021), Section 3.2"
    yield evidence.claim(
        "All sources are within 20% of each other",
        where,
        group.sources,
        lambda rows: similar(rows, metrics_of(*rows.values()), ALIKE),
        least=LEAST_ALIKE,
    )
    yield evidence.claim(
        "No source matters even a factor of two more than another, by any metric",
        where,
        group.sources,
        lambda rows: similar(rows, metrics_of(*rows.values()), 0.5, _times_apart),
    )


def _same(rows: Side) -> Finding:
    (row,) = rows.values()
    metrics = metrics_of(row)
    if not metrics:
        return Finding(Verdict.OPEN, ())
    values = [metric.variability(row[metric.name]) for metric in metrics]
    sentences = tuple((metric.header, f"{row[metric.name].value:g}") for metric in metrics)
    return Finding(exactly(values, [0.0] * len(values)), sentences)

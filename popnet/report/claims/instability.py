"""Claims on instability: what one changed bit does, and that linear models are the exception."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from popnet.report.claims.claim import Claim, Evidence, Finding, Side, metrics_of
from popnet.report.claims.comparable import why_not
from popnet.report.claims.rows import Group, groups
from popnet.report.claims.sources import ALIKE
from popnet.report.measured import Measured, Row
from popnet.report.quantities import Quantity, Value, quantity, shown
from popnet.report.scaled import other_kind, paper_experiment, same_images
from popnet.report.verdicts import Verdict, at_least, at_most, mean_of_related, ratio

LINEAR_CROSS_ENTROPY_SD = 1e-6
"""What "about 1e-7" is taken to allow."""

ORDERS_OF_MAGNITUDE = 100.0
"""How many times more "orders of magnitude" are, at least. The paper observed a factor of about 10,000."""

_LINEAR = "summers_dinneen_2021.table7.linear"


def claims(evidence: Evidence) -> Iterator[Claim]:
    """The claims that the experiment has the rows for."""
    for group in groups(evidence.measured):
        if group.bit is None:
            continue
        if group.linear:
            yield _linear(evidence, group.bit)
            initialised = next((row for row in group.sources if row.variant.sources == ("init",)), None)
            if initialised is not None and group.everything not in (None, initialised):
                yield evidence.claim(
                    "In linear models parameter initialization has less effect than all sources together",
                    "Summers & Dinneen (2021), Appendix A",
                    [initialised, group.everything],  # type: ignore[list-item]
                    _less,
                )
        elif group.everything is not None:
            claim = evidence.claim(
                "Changing one weight by one bit gives nearly as much variability as all sources together",
                "Summers & Dinneen (2021), Section 4.1",
                [group.bit, group.everything],
                _as_much,
            )
            yield _unless_rounded_away(claim, group.bit)


def across(experiments: Sequence[Evidence]) -> Iterator[Claim]:
    """The claim that compares linear with deeper models, which stand in different experiments or recipes."""
    known = [(one.measured, group) for one in experiments for group in groups(one.measured) if _has_bit(group)]
    linear = [(measured, group.bit) for measured, group in known if group.linear and group.bit is not None]
    deeper = [(measured, group.bit) for measured, group in known if not group.linear and group.bit is not None]
    if not linear or not deeper:
        return
    base = next((one for one in linear if _reason(*one) is None), linear[0])
    reasons = {id(row): _reason(measured, row) or _unlike(row, base[1]) for measured, row in deeper}
    compared = [row for _, row in deeper if reasons[id(row)] is None]
    why = _reason(*base) or (None if compared else reasons[id(deeper[0][1])])
    rows = [base[1], *(compared or [row for _, row in deeper])]
    yield Claim(
        "One hidden layer is enough for instability: a changed bit moves cross-entropy by orders of magnitude more "
        f"than in a linear model ({ORDERS_OF_MAGNITUDE:.0f} times at least; the paper observed about 10,000)",
        "Summers & Dinneen (2021), Section 4.2",
        tuple(f"{row.name} ({row.recipe.model.label})" for row in rows),
        _many_times(rows, why),
    )


def _many_times(rows: Sequence[Row], why: str | None) -> Finding:
    """The spread of cross-entropies after a changed bit in deeper models over that in the linear one, the first row."""
    metric = quantity("cross_entropy_sd")
    base, *others = (row.values[metric.name] for row in rows)
    factors = [ratio(value, base) for value in others]
    sentences = [(f"{metric.header}, {rows[0].recipe.model.label}", shown(metric, base))]
    for row, value, factor in zip(rows[1:], others, factors, strict=True):
        times = f", {factor.value:,.0f} ± {factor.error:,.0f} times as much" if factor.known else ""
        sentences.append((f"{metric.header}, {row.recipe.model.label}", shown(metric, value) + times))
    if why is None and base.value == 0.0:
        why = "in the linear model the changed bit left no trace at all, so that there is nothing to compare with"
    if why is not None:
        return Finding(Verdict.NOT_COMPARABLE, tuple(sentences), why)
    return Finding(at_least(factors, ORDERS_OF_MAGNITUDE), tuple(sentences))


def _has_bit(group: Group) -> bool:
    return group.bit is not None and "cross_entropy_sd" in group.bit.values


def _reason(measured: Measured, row: Row) -> str | None:
    return why_not(measured, [row], any_network=True)


def _unlike(row: Row, linear: Row) -> str | None:
    """Why a deeper model cannot be set beside the linear one."""
    if not same_images(row.recipe, linear.recipe):
        return f"{row.recipe.model.label} and {linear.recipe.model.label} are trained on other data"
    if row.recipe.epochs != linear.recipe.epochs:
        return (
            f"{row.recipe.model.label} is trained for {row.recipe.epochs:,} epochs, and {linear.recipe.model.label} "
            f"for {linear.recipe.epochs:,}"
        )
    return None


def _linear(evidence: Evidence, bit: Row) -> Claim:
    """That a linear model is stable; of the paper's own model and data also by how much its cross-entropies differ."""
    full = paper_experiment(_LINEAR)
    papers = full is not None and not other_kind(bit.recipe, full.recipe)
    amount = ", and cross-entropies differ by about 1e-7" if papers else ""
    claim = evidence.claim(
        f"A linear model is stable: after a change of one bit no test prediction changes{amount}",
        "Summers & Dinneen (2021), Section 4.2",
        [bit],
        lambda rows: _stable(rows, LINEAR_CROSS_ENTROPY_SD if papers else float("inf")),
    )
    claim = _unless_rounded_away(claim, bit)
    if claim.measured.verdict is not Verdict.FAILS:
        return claim
    why = (
        "above the edge of stability, (2 + 2 x momentum) / the largest curvature, any change grows in a linear model "
        f"too: the rate is {bit.recipe.optimizer.lr:g}"
    )
    return dataclasses.replace(claim, measured=dataclasses.replace(claim.measured, why=why))


def _unless_rounded_away(claim: Claim, bit: Row) -> Claim:
    """The claim, but without a verdict where low precision may have rounded the changed bit away."""
    metrics = metrics_of(bit.values)
    same = bool(metrics) and all(metric.variability(bit.values[metric.name]).value == 0.0 for metric in metrics)
    if claim.measured.verdict is Verdict.NOT_COMPARABLE or bit.recipe.precision == "fp32" or not same:
        return claim
    why = f"the runs are equal to the last bit: {bit.recipe.precision} rounds the changed bit away"
    return dataclasses.replace(claim, measured=Finding(Verdict.NOT_COMPARABLE, claim.measured.evidence, why))


def _as_much(rows: Side) -> Finding:
    share, sentences = _shares(rows)
    return Finding(at_least([share], ALIKE), sentences)


def _less(rows: Side) -> Finding:
    share, sentences = _shares(rows)
    return Finding(at_most([share], 1.0), sentences)


def _shares(rows: Side) -> tuple[Value, tuple[tuple[str, str], ...]]:
    """The first row's variability over the second's, the mean over the metrics, and the sentences behind it."""
    first, second = rows.values()
    metrics = metrics_of(first, second)
    shares = [ratio(_of(first, metric), _of(second, metric)) for metric in metrics]
    mean = mean_of_related(shares) if shares else Value(float("nan"))
    sentences = [
        (
            metric.header,
            f"{shown(metric, first[metric.name])} against {shown(metric, second[metric.name])}: {_percent(share)}",
        )
        for metric, share in zip(metrics, shares, strict=True)
    ]
    return mean, (("Mean over the metrics", _percent(mean)), *sentences)


def _stable(rows: Side, most: float) -> Finding:
    """Whether no prediction changed, and cross-entropies differ by `most` at most."""
    (row,) = rows.values()
    loss = row.get("cross_entropy_sd")
    changed = row.get("disagreement")
    if loss is None or changed is None or not (loss.known and changed.known):
        return Finding(Verdict.OPEN, ())
    sentences = (
        ("Pairwise Disagree (%)", f"{changed.value:g}"),
        ("Cross-Entropy SD", shown(quantity("cross_entropy_sd"), loss)),
    )
    return Finding(Verdict.HOLDS if changed.value == 0.0 and loss.value <= most else Verdict.FAILS, sentences)


def _of(row: dict[str, Value] | object, metric: Quantity) -> Value:
    return metric.variability(row[metric.name])  # type: ignore[index]


def _percent(share: Value) -> str:
    return f"{100 * share.value:.0f}% ± {100 * share.error:.0f}" if share.known else "too uncertain to compare"

"""Claims on instability: what one changed bit does, and that linear models are the exception."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from popnet.config import Recipe
from popnet.report.claims.claim import Claim, Evidence, Finding, Side, metrics_of, own_values
from popnet.report.claims.comparable import unlike, why_not
from popnet.report.claims.rows import Group, groups
from popnet.report.claims.sources import ALIKE
from popnet.report.measured import Measured, Row
from popnet.report.quantities import Quantity, Value, number, percent, quantity, shown
from popnet.report.scaled import other_kind, paper_experiment, same_images
from popnet.report.verdicts import Verdict, at_least, at_most, log_ratio, mean_of_related, ratio

LINEAR_CROSS_ENTROPY_SD = 1e-6
"""What "about 1e-7" is taken to allow."""

ORDERS_OF_MAGNITUDE = 100.0
"""How many times more "orders of magnitude" are, at least. The paper observed a factor of about 10,000."""

EDGE = 0.027
"""The edge of stability of a linear model on normalised CIFAR-10 with a momentum of 0.9: (2 + 2 x 0.9) / 142.1."""

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


@dataclasses.dataclass(frozen=True)
class _Compared:
    """A deeper model's row beside the linear one's; `why` it cannot be set beside it, or None."""

    base: Row
    row: Row
    why: str | None


def across(experiments: Sequence[Evidence]) -> Iterator[Claim]:
    """The claim that compares linear with deeper models, which stand in different experiments or recipes."""
    known = [(one.measured, group) for one in experiments for group in groups(one.measured) if _has_bit(group)]
    linear = [(measured, group.bit) for measured, group in known if group.linear and group.bit is not None]
    deeper = [(measured, group.bit) for measured, group in known if not group.linear and group.bit is not None]
    if not linear or not deeper:
        return
    pairs = [_beside_linear(measured, row, linear) for measured, row in deeper]
    told = [pair for pair in pairs if pair.why is None] or pairs
    rows = dict.fromkeys([*(id(pair.base) for pair in told), *(id(pair.row) for pair in told)])
    by_id = {id(row): row for pair in told for row in (pair.base, pair.row)}
    yield Claim(
        "One hidden layer is enough for instability: a changed bit moves cross-entropy by orders of magnitude more "
        f"than in a linear model ({ORDERS_OF_MAGNITUDE:.0f} times at least; the paper observed about 10,000)",
        "Summers & Dinneen (2021), Section 4.2",
        tuple(f"{by_id[key].name} ({by_id[key].recipe.model.label})" for key in rows),
        _many_times(told),
    )


def _beside_linear(measured: Measured, row: Row, linear: Sequence[tuple[Measured, Row]]) -> _Compared:
    """The row beside the linear one that suits it best: comparable, and of its own rate or of the nearest one."""
    candidates = [_Compared(base, row, _linear_reason(home, base) or _unlike(row, base)) for home, base in linear]
    best = min(candidates, key=_distance)
    return dataclasses.replace(best, why=_reason(measured, row) or best.why)


def _distance(pair: _Compared) -> tuple[bool, float, str]:
    """Of rows that can be compared before others, and then of near rates; no two recipes are equally far."""
    rates = [row.recipe.optimizer.lr for row in (pair.base, pair.row)]
    return pair.why is not None, abs(rates[0] - rates[1]), pair.base.recipe.digest


def _linear_reason(measured: Measured, base: Row) -> str | None:
    if why := _reason(measured, base):
        return why
    values, metric = own_values(base), quantity("cross_entropy_sd")
    if values[metric.name].value == 0.0:
        return "in the linear model the changed bit left no trace at all, so that there is nothing to compare with"
    changed = values.get("disagreement")
    if changed is not None and changed.value > 0.0:
        return f"the linear model is not stable itself, at a rate of {base.recipe.optimizer.lr:g}"
    return None


def _many_times(pairs: Sequence[_Compared]) -> Finding:
    """The spread of cross-entropies after a changed bit in deeper models over that in the linear ones."""
    metric = quantity("cross_entropy_sd")
    sentences = {id(pair.base): _spread(pair.base, metric) for pair in pairs}
    factors = []
    for pair in pairs:
        value, base = (own_values(row)[metric.name] for row in (pair.row, pair.base))
        times = ratio(value, base)
        text = f", {_whole(times.value)} ± {_whole(times.error)} times as much" if times.known else ""
        name, spread = _spread(pair.row, metric)
        sentences[id(pair.row)] = (name, spread + text)
        factors.append(log_ratio(value, base))
    evidence = tuple(sentences.values())
    if pairs[0].why is not None:
        return Finding(Verdict.NOT_COMPARABLE, evidence, pairs[0].why)
    return Finding(at_least(factors, math.log(ORDERS_OF_MAGNITUDE)), evidence, "; ".join(filter(None, _rates(pairs))))


def _spread(row: Row, metric: Quantity) -> tuple[str, str]:
    return f"{metric.header}, {row.recipe.model.label}", shown(metric, row.values[metric.name])


def _whole(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1.0 else number(value, 0)


def _rates(pairs: Sequence[_Compared]) -> Iterator[str]:
    """Of models of different rates, both."""
    for pair in pairs:
        base, row = pair.base.recipe, pair.row.recipe
        if base.optimizer.lr != row.optimizer.lr:
            rates = f"{row.optimizer.lr:g} ({row.model.label}) and {base.optimizer.lr:g} ({base.model.label})"
            yield f"at different rates: {rates}"


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
    papers = full is not None and not unlike(bit.recipe, full.recipe)
    amount = ", and cross-entropies differ by about 1e-7" if papers else ""
    claim = evidence.claim(
        f"A linear model is stable: after a change of one bit no test prediction changes{amount}",
        "Summers & Dinneen (2021), Section 4.2",
        [bit],
        lambda rows: _stable(rows, LINEAR_CROSS_ENTROPY_SD if papers else float("inf")),
    )
    claim = _unless_rounded_away(claim, bit)
    if claim.measured.verdict is not Verdict.FAILS or full is None or not _above_the_edge(bit, full.recipe):
        return claim
    why = (
        "above the edge of stability, (2 + 2 x momentum) / the largest curvature, any change grows in a linear model "
        f"too: the rate is {bit.recipe.optimizer.lr:g}"
    )
    return dataclasses.replace(claim, measured=dataclasses.replace(claim.measured, why=why))


def _above_the_edge(bit: Row, papers: Recipe) -> bool:
    """Whether a rate is known to be above the edge: it is computed for the paper's data and momentum alone."""
    optimizer = bit.recipe.optimizer
    alike = optimizer.name == papers.optimizer.name and optimizer.momentum == papers.optimizer.momentum
    return alike and optimizer.lr > EDGE and not other_kind(bit.recipe, papers)


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
    return percent(Value(100 * share.value, 100 * share.error), "%") if share.known else "too uncertain to compare"

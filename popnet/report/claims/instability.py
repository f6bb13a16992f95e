"""Claims on instability: what one changed bit does, and that linear models are the exception."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from popnet.report.claims.claim import Claim, Evidence, Finding, Side, metrics_of
from popnet.report.claims.rows import groups
from popnet.report.claims.sources import ALIKE
from popnet.report.quantities import Quantity, Value, quantity, shown
from popnet.report.scaled import original
from popnet.report.verdicts import Verdict, at_least, at_most, mean_of_related, ratio

LINEAR_CROSS_ENTROPY_SD = 1e-6
"""What "about 1e-7" is taken to allow."""


def claims(evidence: Evidence) -> Iterator[Claim]:
    """The claims that the experiment has the rows for."""
    full = original(evidence.measured.experiment)
    ours_alone = Evidence(evidence.measured, {})
    for group in groups(evidence.measured):
        if group.bit is None:
            continue
        linear = evidence if full is not None and full.recipe.model.name == "linear" else ours_alone
        if group.linear:
            yield linear.claim(
                "Linear models are stable: after a change of one bit no test prediction changes, and cross-entropies "
                "differ by about 1e-7",
                "Summers & Dinneen (2021), Section 4.2",
                [group.bit],
                _stable,
            )
        elif group.everything is not None:
            yield evidence.claim(
                "Changing one weight by one bit gives nearly as much variability as all sources together",
                "Summers & Dinneen (2021), Section 4.1",
                [group.bit, group.everything],
                _as_much,
            )
        if group.linear:
            initialised = next((row for row in group.sources if row.variant.sources == ("init",)), None)
            if initialised is not None and group.everything not in (None, initialised):
                yield linear.claim(
                    "In linear models parameter initialization has less effect than all sources together",
                    "Summers & Dinneen (2021), Appendix A",
                    [initialised, group.everything],  # type: ignore[list-item]
                    _less,
                )


def across(experiments: Sequence[Evidence]) -> Iterator[Claim]:
    """The claim that compares linear with deeper models, which stand in different experiments or recipes."""
    bits = [(group.linear, group.bit) for e in experiments for group in groups(e.measured) if group.bit is not None]
    metric = quantity("cross_entropy_sd")
    stable = [row for linear, row in bits if linear and metric.name in row.values]
    others = [row for linear, row in bits if not linear and metric.name in row.values]
    if not stable or not others:
        return
    base = stable[0].values[metric.name]
    factors = [Value(row.values[metric.name].value, row.values[metric.name].error) for row in others]
    floor = 1e4 * (base.value + 2 * base.error)
    sentences = [(f"{metric.header}, linear", shown(metric, base))]
    sentences += [
        (
            f"{metric.header}, {row.recipe.model.label}",
            shown(metric, factor) + (f", {factor.value / base.value:,.0f} times as much" if base.value > 0 else ""),
        )
        for row, factor in zip(others, factors, strict=True)
    ]
    yield Claim(
        "One hidden layer is enough for instability: a changed bit moves cross-entropy 10,000 times as much as in a "
        "linear model",
        "Summers & Dinneen (2021), Section 4.2",
        tuple(f"{row.name} ({row.recipe.model.label})" for row in [*stable[:1], *others]),
        Finding(at_least(factors, floor), tuple(sentences)),
    )


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


def _stable(rows: Side) -> Finding:
    (row,) = rows.values()
    loss = row.get("cross_entropy_sd")
    changed = row.get("disagreement")
    if loss is None or changed is None or not (loss.known and changed.known):
        return Finding(Verdict.OPEN, ())
    small = loss.value <= LINEAR_CROSS_ENTROPY_SD
    sentences = (
        ("Pairwise Disagree (%)", f"{changed.value:g}"),
        ("Cross-Entropy SD", shown(quantity("cross_entropy_sd"), loss)),
    )
    return Finding(Verdict.HOLDS if changed.value == 0.0 and small else Verdict.FAILS, sentences)


def _of(row: dict[str, Value] | object, metric: Quantity) -> Value:
    return metric.variability(row[metric.name])  # type: ignore[index]


def _percent(share: Value) -> str:
    return f"{100 * share.value:.0f}% ± {100 * share.error:.0f}" if share.known else "too small to compare"

"""How comparisons, powers and stability runs are printed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from popnet import prose
from popnet.engine.stability import Stability
from popnet.metrics.comparison import Comparison
from popnet.metrics.planning import PowerPlan


def render_comparison(results: Sequence[Comparison], name_a: str, name_b: str, console: Console) -> None:
    """Two populations: a column for each metric, then the result in plain words."""
    prose.show(console, f"{name_a}, {results[0].members_a} runs", "A: ")
    prose.show(console, f"{name_b}, {results[0].members_b} runs", "B: ")
    console.print()
    percent = f"{100 * results[0].confidence:g}%"
    table = _table("", *(f"{result.metric} ({result.unit})" if result.unit else result.metric for result in results))
    rows: list[tuple[str, Callable[[Comparison], str]]] = [
        ("A, mean ± SD", lambda result: _mean_sd(result.mean_a, result.sd_a)),
        ("B, mean ± SD", lambda result: _mean_sd(result.mean_b, result.sd_b)),
        ("A - B", lambda result: _signed(result.difference)),
        (f"  {percent} interval, new runs", lambda result: _span(result.low, result.high)),
        ("  new runs and new examples", lambda result: _span(result.low_new_examples, result.high_new_examples)),
        ("  p-value", lambda result: _p(result.p_value)),
        ("A beats B", lambda result: f"{100 * result.wins:.0f}% of {_pairs(result)}"),
        (f"  {percent} interval", lambda result: f"{100 * result.wins_low:.0f}% to {100 * result.wins_high:.0f}%"),
        ("genuine SD of A", lambda result: _genuine(result.distribution_sd_a)),
        ("genuine SD of B", lambda result: _genuine(result.distribution_sd_b)),
    ]
    for name, cell in rows:
        cells = [cell(result) for result in results]
        if any(cells):
            table.add_row(name, *cells)
    console.print(table)
    for result in results:
        console.print()
        prose.show(console, result.sentence())


def render_all(
    metric: str, names: Mapping[str, str], results: Mapping[tuple[str, str], tuple[Comparison, float]], console: Console
) -> None:
    """Several populations: a row for each pair, with p-values adjusted for their number."""
    for letter, name in names.items():
        mean_sd = next(
            _mean_sd(result.mean_a, result.sd_a) if a == letter else _mean_sd(result.mean_b, result.sd_b)
            for (a, b), (result, _) in results.items()
            if letter in (a, b)
        )
        prose.show(console, f"{name}: {mean_sd}", f"{letter}: ")
    table = _table(metric, "difference", "interval", "p", "p (Holm)", "first wins")
    for (a, b), (result, adjusted) in results.items():
        table.add_row(
            f"{a} - {b}",
            _signed(result.difference),
            _span(result.low, result.high),
            _p(result.p_value),
            _p(adjusted),
            f"{100 * result.wins:.0f}%",
        )
    console.print(table)
    found = [f"{a} and {b}" for (a, b), (_, adjusted) in results.items() if adjusted < 0.05]
    differ = ", ".join(found) or "none"
    prose.show(console, f"{len(results)} comparisons. After Holm's correction at 5%, these differ: {differ}.")


def render_power(plan: PowerPlan, console: Console) -> None:
    """How many runs of each it takes, what fewer or more would find, and what that rests on."""
    spreads = " to ".join(_pair(s.sd_a, s.sd_b) for s in plan.sds)
    prose.show(console, f"SD between runs: {spreads} ({plan.sds[-1].origin})")
    needed = ["more than any number of" if n is None else f"{n:,}" for n in plan.needed]
    runs = needed[0] if len(set(needed)) == 1 else f"{needed[0]} to {needed[-1]}"
    prose.show(
        console,
        f"A difference of {plan.difference:g} is found with a chance of {100 * plan.power:g}% by {runs} runs of each "
        f"(two-sided test at {100 * plan.alpha:g}%, on one test set).",
    )
    table = _table("runs of each", f"chance to find {plan.difference:g}", f"found with {100 * plan.power:g}%")
    for count, chance, smallest in plan.rows:
        table.add_row(str(count), f"{100 * chance:.0f}%", f"{smallest:.3g}")
    console.print(table)
    if plan.sds[-1].assumes:
        prose.show(console, plan.sds[-1].assumes, "Warning: ")


def render_stability(outcome: Stability, console: Console) -> None:
    """A row for each metric: its value, interval, width, the width asked for and after how many runs it was reached."""
    table = _table("metric", "value", "95% interval", "width", "target", "runs needed")
    for metric in outcome.metrics:
        estimate = metric.estimate
        table.add_row(
            metric.metric,
            f"{estimate.value:.4g}",
            f"{estimate.low:.4g} to {estimate.high:.4g}",
            f"{metric.width:.3g}",
            f"{metric.target:g}",
            f"more than {outcome.runs}" if metric.runs is None else str(metric.runs),
        )
    prose.show(console, f"{outcome.variant}: {outcome.runs} runs")
    console.print(table)


def _table(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title_justify="left")
    table.add_column(headers[0])
    for header in headers[1:]:
        table.add_column(header, justify="right")
    return table


def _genuine(sd: float) -> str:
    """The distribution-wise SD; where the estimate of its variance is negative, that variance."""
    if math.isnan(sd):
        return ""
    return f"{sd:.3g}" if sd >= 0 else f"none (variance -{sd * sd:.2g})"


def _pairs(result: Comparison) -> str:
    return "matched pairs" if result.method.startswith("paired") else "pairs"


def _pair(first: float, second: float) -> str:
    return f"{first:.3g}" if first == second else f"{first:.3g} and {second:.3g}"


def _mean_sd(mean: float, sd: float) -> str:
    decimals = 2 if sd == 0 else max(2, min(1 - math.floor(math.log10(sd)), 5))
    return f"{mean:.{decimals}f} ± {sd:.{decimals}f}"


def _span(low: float, high: float) -> str:
    if math.isnan(low):
        return ""
    return f"{_signed(low)} to {_signed(high)}"


def _signed(value: float) -> str:
    return f"{value:+.3g}" if abs(value) < 1 else f"{value:+.2f}"


def _p(value: float) -> str:
    return "<0.0001" if value < 0.0001 else f"{value:.2g}"

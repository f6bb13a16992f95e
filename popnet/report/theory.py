"""What the theory says of a store's populations, as one Markdown file with its figures beside it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from popnet.errors import ConfigError, DataError
from popnet.metrics import theory
from popnet.metrics.theory import Summary
from popnet.metrics.theory.summary import LEAST_MEMBERS
from popnet.report.claims.shifts import shifted
from popnet.report.quantities import BELOW, GROWS_WITH_RUNS, PAPERS_RUNS, Value
from popnet.report.theory_figures import drawn, several_test_sets
from popnet.report.theory_published import printed, printed_r_squared
from popnet.report.theory_rows import LUCKY_SHARE
from popnet.results.found import Runs
from popnet.results.reading import check_same_test

_ROWS = (
    ("runs", "{members}", ""),
    ("error (%)", "{error:.2f} ± {error_error:.2f}", "accuracy_mean"),
    ("highest minus lowest accuracy", "{accuracy_range:.2f}", "accuracy_range"),
    ("SD between runs, on this test set", "{sd:.3f} ± {sd_error:.3f}", "accuracy_sd"),
    ("... if errors were independent", "{independent_sd:.3f} ± {independent_sd_error:.3f}", "independent_errors_sd"),
    ("... genuine, on the distribution (Theorem 2)", "{distribution_sd:.3f}", "distribution_sd"),
    ("    95% interval", "{distribution_sd_low:.3f} to {distribution_sd_high:.3f}", ""),
    ("share of the variance that is genuine (%)", "{genuine:.0f} ± {genuine_error:.0f}", ""),
    ("calibration: √(err / nk)", "{lower_bound_sd:.3f}", ""),
    ("calibration: √(err / 2n)", "{binary_sd:.3f}", ""),
    ("binomial: √(err (1 - err) / n)", "{binomial_sd:.3f}", ""),
    ("... its variance over the observed", "{binomial_ratio:.2f} ± {binomial_ratio_error:.2f}", "binomial_ratio"),
    ("disagreement of two runs (%)", "{disagreement:.2f}", "disagreement"),
    ("... over the error (Theorem 5: 1)", "{disagreement_ratio:.3f} ± {disagreement_ratio_error:.3f}", ""),
    ("correlation of even and odd half", "{halves_correlation:.2f}", ""),
    ("    95% interval", "{halves_correlation_low:.2f} to {halves_correlation_high:.2f}", ""),
    ("best quarter on even half: gain there", "{gain_on_first:.2f}", ""),
    ("... and on the odd half", "{gain_on_second:.2f}", "lucky_quarter_gain"),
    ("    95% interval", "{gain_on_second_low:.2f} to {gain_on_second_high:.2f}", ""),
    ("pairs of examples over 2% from independence", "{dependent_pairs:,}", "dependent_pairs"),
    ("... by chance, with so many runs", "{pairs_by_chance:,.0f}", ""),
    ("binary tasks: R² of √(err / 2n)", "{tasks_r_squared:.3f} ± {tasks_r_squared_error:.3f}", "tasks_r_squared"),
    ("... their variances over err / 2n", "{tasks_ratio:.2f} ± {tasks_ratio_error:.2f}", ""),
)
"""Of each statistic its name, how it is written, and the paper's number that it is set beside."""

NOTE = (
    "SDs, gains and errors are in points of a percent; n examples, k classes. SDs have ddof 1. After ± stands a "
    "standard error, over bootstrap resamples of the runs; of disagreement over the error and of what is genuine, over "
    "examples too. Of a negative estimate of a variance, minus the root of its amount is shown. Formulas: Jordan "
    "(2024), *On the Variance of Neural Network Training with respect to Test Sets and Distributions*."
)

_COPY = "paper (CIFAR-10's own pixels)"

PAPER_NOTE = "Columns headed *paper* are the numbers that the paper prints of the same training; it prints few."


def table(
    summaries: Mapping[str, Summary],
    printed: Mapping[str, Mapping[str, Value]] | None = None,
    copies: Collection[str] = (),
) -> str:
    """The populations side by side, a row for each statistic, in Markdown.

    Args:
        printed: by label, the paper's numbers; a column beside the population's own where there are any.
        copies: labels of what was trained on a copy of the paper's pictures.
    """
    columns: list[tuple[str, Callable[[tuple[str, str, str]], str]]] = []
    for label, summary in summaries.items():
        values = {**summary.as_dict(), "genuine": 100 * summary.genuine_share}
        values["genuine_error"] = 100 * summary.genuine_share_error
        columns.append((label, partial(_own, values)))
        if printed and label in printed:
            columns.append((_COPY if label in copies else "paper", partial(_printed, printed[label])))
    lines = [f"| | {' | '.join(head for head, _ in columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    lines += [f"| {row[0]} | {' | '.join(cell(row) for _, cell in columns)} |" for row in _ROWS]
    return "\n".join(lines)


def _own(values: Mapping[str, float], row: tuple[str, str, str]) -> str:
    return row[1].format(**values)


def _printed(values: Mapping[str, Value], row: tuple[str, str, str]) -> str:
    name, value = row[2], values.get(row[2])
    if name == "accuracy_mean" and value is not None:
        return f"{100 - value.value:.{len(value.printed.partition('.')[2])}f}"
    text = "" if value is None else value.printed or f"{value.value:g}"
    return f"{text} ({PAPERS_RUNS:,} runs)" if text and name in GROWS_WITH_RUNS else text


def summaries(populations: Sequence[Runs]) -> dict[str, Summary]:
    """The statistics of each population, by what follows the last colon of its name."""
    return {
        runs.name.rpartition(":")[2]: theory.summarise(runs.predictions, runs.labels, runs.classes)
        for runs in populations
    }


def published_of(populations: Sequence[Runs]) -> dict[str, dict[str, float]]:
    """The paper's numbers of the same trainings, by label and the names of published.yaml; nothing of others."""
    found = printed({runs.name.rpartition(":")[2]: runs for runs in populations})
    return {label: dict(_plain(*one) for one in values.items()) for label, values in found.items()}


def _plain(name: str, value: Value) -> tuple[str, float]:
    """A printed number by its name; of a bound ("< 0.01") the bound itself."""
    return (f"{name}{BELOW}", value.value + value.within) if value.printed.startswith("<") else (name, value.value)


def check_enough(populations: Sequence[Runs]) -> None:
    """Raises DataError where a population has fewer runs than the statistics need."""
    for runs in populations:
        if runs.count < LEAST_MEMBERS:
            raise DataError(f"{runs.name}: holds {runs.count} finished run(s), and at least {LEAST_MEMBERS} are needed")


def write(populations: Sequence[Runs], folder: Path, name: str, title: str, text: str = "") -> Path:
    """Write `NAME.md` and its figures, `NAME-*.svg`, into a folder, and return the file.

    Args:
        populations: of one test set, or the same runs on several, with predicted classes; named in the tables by what
            follows the last colon.
        text: what to say between the title and the table.

    Raises:
        DataError: a population without predicted classes.
        ConfigError: other runs on other examples, or two populations of one name.
    """
    by_label = {runs.name.rpartition(":")[2]: runs for runs in populations}
    _check(populations, by_label)
    statistics, paper = summaries(populations), printed(by_label)
    folder.mkdir(parents=True, exist_ok=True)
    notes = [NOTE, "", PAPER_NOTE, ""] if paper else [NOTE, ""]
    copies = {label for label, runs in by_label.items() if runs.recipe and runs.recipe.dataset.kwargs.get("copy")}
    lines = [f"# {title}", "", text, "", table(statistics, paper, copies), "", *notes]
    lines += _of_test_sets(by_label, statistics, paper)
    for figure in drawn(by_label, statistics):
        file = folder / f"{name}-{figure.kind}.svg"
        file.write_text(figure.svg, encoding="utf-8")
        lines += [f"## {figure.caption}", "", f"![{figure.caption}]({file.name})", ""]
    report = folder / f"{name}.md"
    report.write_text("\n".join(lines), encoding="utf-8")
    return report


def _of_test_sets(
    populations: Mapping[str, Runs], statistics: Mapping[str, Summary], paper: Mapping[str, Mapping[str, Value]]
) -> list[str]:
    """What the same runs' accuracies on several test sets have to do with each other; nothing where there is one."""
    labels = several_test_sets(populations)
    if not labels:
        return []
    rates = {label: populations[label].errors for label in labels}
    lines = ["## The same runs on several test sets: does luck carry over?", "", test_sets_table(rates), ""]
    lines += [
        "Gains, in points, of the best 15% of the runs by the first set, there and on the second; p is two-sided.",
        "",
    ]
    for claim in shifted(statistics, paper):
        found = [f"* {claim.statement}: **{claim.measured.verdict}**"]
        found += [f" ({'; '.join(f'{key}: {value}' for key, value in claim.measured.evidence)})"]
        found += [f". {claim.measured.why}"] if claim.measured.why else []
        found += [f". By the paper's numbers: {claim.published.verdict}"] if claim.published else []
        lines += ["".join(found) + f" ({claim.where}).", ""]
    return lines


def test_sets_table(test_sets: Mapping[str, Any]) -> str:
    """Every pair of test sets: R² of the runs' accuracies, and what the luckiest by the first gain, in Markdown.

    test_sets: by name, the errors of the same runs in the same order, bool [members, examples] or `PackedErrors`.
    """
    found = theory.correlations(test_sets)
    known = {pair: printed_r_squared(*pair) for pair in found}
    paper = any(known.values())
    lines = [f"| | R² | {'paper | ' if paper else ''}correlation, 95% interval | p | gain there | gain on the second |"]
    lines.append(f"| --- |{' ---: |' * (6 if paper else 5)}")
    for (first, second), one in found.items():
        value, r = known[first, second], one.correlation
        cells = [f"{one.r_squared:.3f}", *([("" if value is None else f"{value.value:g}")] if paper else [])]
        cells += [f"{r.value:.2f}, {r.low:.2f} to {r.high:.2f}", f"{one.p_value:.2g}"]
        cells += _gains(test_sets[first], test_sets[second])
        lines.append(f"| {first} and {second} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _gains(first: Any, second: Any) -> tuple[str, str]:
    """Of the best 15% of the runs, with the interval's half width; empty where that are too few."""
    runs = len(first) if isinstance(first, np.ndarray) else first.members
    if runs * LUCKY_SHARE < 2:
        return "", ""
    gain = theory.lucky_gain(first, second, share=LUCKY_SHARE)
    here, there = 100 * gain.on_first, gain.on_second
    return f"{here:.2f}", f"{100 * there.value:.2f} ({100 * there.low:.2f} to {100 * there.high:.2f})"


def _check(populations: Sequence[Runs], by_label: Mapping[str, Runs]) -> None:
    for runs in populations:
        if runs.predictions is None or runs.labels is None or runs.errors is None:
            raise DataError(f"{runs.name}: the theory needs predicted classes and labels")
    if len(by_label) < len(populations):
        raise ConfigError(f"two sources are called {', '.join(sorted(by_label))}: rename a file, or name other rows")
    if len(several_test_sets(by_label)) < len(by_label):
        check_same_test(populations)

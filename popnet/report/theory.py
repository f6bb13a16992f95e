"""What the theory says of a store's populations, as one Markdown file with its figures beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from popnet.errors import ConfigError, DataError
from popnet.metrics import theory
from popnet.metrics.theory import Summary
from popnet.metrics.theory.summary import LEAST_MEMBERS
from popnet.report.theory_figures import drawn, several_test_sets
from popnet.results.found import Runs
from popnet.results.reading import check_same_test

_ROWS = (
    ("runs", "{members}"),
    ("error (%)", "{error:.2f}"),
    ("SD between runs, on this test set", "{sd:.3f}"),
    ("... if errors were independent", "{independent_sd:.3f}"),
    ("... genuine, on the distribution (Theorem 2)", "{distribution_sd:.3f}"),
    ("    95% interval", "{distribution_sd_low:.3f} to {distribution_sd_high:.3f}"),
    ("calibration: √(err / nk)", "{lower_bound_sd:.3f}"),
    ("calibration: √(err / 2n)", "{binary_sd:.3f}"),
    ("binomial: √(err (1 - err) / n)", "{binomial_sd:.3f}"),
    ("disagreement of two runs (%)", "{disagreement:.2f}"),
    ("correlation of even and odd half", "{halves_correlation:.2f}"),
    ("    95% interval", "{halves_correlation_low:.2f} to {halves_correlation_high:.2f}"),
    ("best quarter on even half: gain there", "{gain_on_first:.2f}"),
    ("... and on the odd half", "{gain_on_second:.2f}"),
    ("    95% interval", "{gain_on_second_low:.2f} to {gain_on_second_high:.2f}"),
    ("pairs of examples over 2% from independence", "{dependent_pairs:,}"),
    ("... by chance, with so many runs", "{pairs_by_chance:,.0f}"),
    ("binary tasks: R² of √(err / 2n)", "{tasks_r_squared:.3f}"),
)

NOTE = (
    "SDs, gains and errors are in points of a percent; n examples, k classes. Of a negative estimate of a variance, "
    "minus the root of its amount is shown. Formulas: Jordan (2024), *On the Variance of Neural Network Training with "
    "respect to Test Sets and Distributions*."
)


def table(summaries: Mapping[str, Summary]) -> str:
    """The populations side by side, a row for each statistic, in Markdown."""
    lines = [f"| | {' | '.join(summaries)} |", f"| --- |{' ---: |' * len(summaries)}"]
    for name, form in _ROWS:
        cells = [form.format(**summary.as_dict()) for summary in summaries.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def summaries(populations: Sequence[Runs]) -> dict[str, Summary]:
    """The statistics of each population, by what follows the last colon of its name."""
    return {
        runs.name.rpartition(":")[2]: theory.summarise(runs.predictions, runs.labels, runs.classes)
        for runs in populations
    }


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
    statistics = summaries(populations)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"# {title}", "", text, "", table(statistics), "", NOTE, ""]
    for figure in drawn(by_label, statistics):
        file = folder / f"{name}-{figure.kind}.svg"
        file.write_text(figure.svg, encoding="utf-8")
        lines += [f"## {figure.caption}", "", f"![{figure.caption}]({file.name})", ""]
    report = folder / f"{name}.md"
    report.write_text("\n".join(lines), encoding="utf-8")
    return report


def _check(populations: Sequence[Runs], by_label: Mapping[str, Runs]) -> None:
    for runs in populations:
        if runs.predictions is None or runs.labels is None or runs.errors is None:
            raise DataError(f"{runs.name}: the theory needs predicted classes and labels")
    if len(by_label) < len(populations):
        raise ConfigError(f"two sources are called {', '.join(sorted(by_label))}: rename a file, or name other rows")
    if len(several_test_sets(by_label)) < len(by_label):
        check_same_test(populations)

"""What the theory says of a store's populations, as one Markdown file with its figures beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from popnet.errors import DataError
from popnet.metrics import theory
from popnet.metrics.runs import Runs
from popnet.metrics.theory import Summary
from popnet.report import figures

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


def write(populations: Sequence[Runs], folder: Path, name: str, title: str, text: str = "") -> Path:
    """Write `NAME.md` and its figures, `NAME-*.svg`, into a folder, and return the file.

    Args:
        populations: of one test set, with predicted classes; named in the tables by what follows the last colon.
        text: what to say between the title and the table.

    Raises:
        DataError: a population without predicted classes.
    """
    summaries, drawn = {}, _Drawn()
    for runs in populations:
        if runs.predictions is None or runs.labels is None or runs.errors is None:
            raise DataError(f"{runs.name}: the theory needs predicted classes and labels")
        label = runs.name.rpartition(":")[2]
        summaries[label] = theory.summarise(runs.predictions, runs.labels, runs.classes)
        drawn.add(label, runs)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"# {title}", "", text, "", table(summaries), "", NOTE, ""]
    for kind, (caption, svg) in drawn.figures().items():
        file = folder / f"{name}-{kind}.svg"
        file.write_text(svg, encoding="utf-8")
        lines += [f"## {caption}", "", f"![{caption}]({file.name})", ""]
    report = folder / f"{name}.md"
    report.write_text("\n".join(lines), encoding="utf-8")
    return report


class _Drawn:
    """Gathers what the figures show, population by population."""

    def __init__(self) -> None:
        self._accuracies: dict[str, np.ndarray] = {}
        self._halves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._foreseen: dict[str, np.ndarray] = {}
        self._curves: dict[str, theory.Calibration] = {}
        self._tasks: theory.BinaryTasks | None = None

    def add(self, label: str, runs: Runs) -> None:
        assert runs.errors is not None
        even, odd = runs.errors.halves()
        examples = runs.errors.examples
        self._accuracies[label] = runs.samples["accuracy"].values
        self._halves[label] = 100 * (1 - even / ((examples + 1) // 2)), 100 * (1 - odd / (examples // 2))
        self._foreseen[label] = theory.independent_errors_distribution(runs.errors)
        self._curves[label] = theory.class_calibration(runs.predictions, runs.labels, runs.classes)
        self._tasks = theory.binary_tasks(runs.predictions, runs.labels, runs.classes)  # the last population's

    def figures(self) -> dict[str, tuple[str, str]]:
        assert self._tasks is not None
        return {
            "accuracy": ("Accuracy over runs", figures.accuracy_distributions(self._accuracies)),
            "halves": ("Two halves of the test set", figures.split_halves(self._halves)),
            "independence": (
                "Accuracy against independent errors",
                figures.independent_errors(self._accuracies, self._foreseen),
            ),
            "calibration": ("Calibration of the votes", figures.calibration(self._curves)),
            "tasks": (f"Binary tasks, {list(self._accuracies)[-1]}", figures.binary_tasks(self._tasks)),
        }

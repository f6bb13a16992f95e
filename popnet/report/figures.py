"""Figures of the papers as SVG: each function takes numbers and returns one self-contained `<svg>` document."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from popnet.metrics.theory import BinaryTasks, Calibration
from popnet.report.drawing import FAINT, STYLE, svg

Values = NDArray[np.float64]


def accuracy_distributions(values: Mapping[str, Values], title: str = "Accuracy over runs (%)") -> str:
    """Histograms of the runs' accuracies, one panel for each population (Jordan 2024, Figure 1)."""

    def draw(axes: Axes, name: str) -> None:
        axes.hist(values[name], bins="auto", color="C0")
        axes.set_title(f"{name}: SD {values[name].std(ddof=1):.2f}")
        axes.set_xlabel(title)

    return _panels(list(values), draw, "runs")


def split_halves(halves: Mapping[str, tuple[Values, Values]]) -> str:
    """Accuracy on the examples of even index against odd, a dot a run, one panel a population (Jordan 2024, Figure 2).

    halves: by name, the accuracies (percent) of the same runs on the two halves.
    """

    def draw(axes: Axes, name: str) -> None:
        first, second = halves[name]
        axes.plot(first, second, ".", markersize=3, alpha=0.6)
        r = np.corrcoef(first, second)[0, 1] if first.std() and second.std() else math.nan
        axes.set_title(f"{name}: R² = {r * r:.2f}")
        axes.set_xlabel("accuracy, even half (%)")

    return _panels(list(halves), draw, "accuracy, odd half (%)")


def independent_errors(observed: Mapping[str, Values], probabilities: Mapping[str, Values]) -> str:
    """The accuracies of the runs against those of runs with independent errors (Jordan 2024, Figure 3).

    Args:
        observed: by population, the accuracies in percent.
        probabilities: by population, `theory.independent_errors_distribution`: of 0, 1, ... n errors.
    """

    def draw(axes: Axes, name: str) -> None:
        chances, values = probabilities[name], observed[name]
        count = len(chances) - 1
        right = np.round(values * count / 100)  # bins hold equally many of the possible accuracies
        step = max(1, round(float(right.max() - right.min()) / 20))
        edges = 100 / count * (np.arange(right.min() - step, right.max() + 2 * step, step) - 0.5)
        accuracy = 100 * (1 - np.arange(count + 1) / count)
        foreseen = np.histogram(accuracy, edges, weights=chances)[0] * len(values)
        axes.hist(values, edges.tolist(), color="C0", alpha=0.6, label="observed")
        axes.stairs(foreseen, edges, color="C1", linewidth=1.5, label="independent errors")
        axes.set_title(name)
        axes.set_xlabel("accuracy (%)")
        axes.legend(frameon=False, fontsize=7)

    return _panels(list(observed), draw, "runs")


def deviations_by_setting(
    setting: Sequence[float], lines: Mapping[str, Sequence[float]], label: str, logarithmic: bool = True
) -> str:
    """SDs between runs against a setting: durations (Jordan 2024, Figure 5), learning rates (Figure 8).

    Args:
        setting: the numbers along the axis.
        lines: by name, the SDs (points), one for each setting.
        label: what the setting is.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.5, 3.0), layout="constrained")
        axes = figure.subplots()
        for name, values in lines.items():
            axes.plot(setting, values, "o-", markersize=4, label=name)
        if logarithmic:
            axes.set_xscale("log", base=2)
            axes.set_xticks(list(setting), [f"{value:g}" for value in setting])
        axes.axhline(0, color=FAINT, linewidth=0.5)
        axes.set_xlabel(label)
        axes.set_ylabel("SD between runs (points)")
        axes.legend(frameon=False)
        return svg(figure)


def binary_tasks(tasks: BinaryTasks) -> str:
    """The SD that err / (2 n) and the binomial assumption predict, against the observed (Jordan 2024, Figure 6)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.8, 3.6), layout="constrained")
        axes = figure.subplots()
        observed = 100 * np.sqrt(tasks.variance)
        for name, variance in (("err (1 - err) / n, binomial", tasks.binomial), ("err / (2 n)", tasks.predicted)):
            axes.plot(observed, 100 * np.sqrt(variance), ".", markersize=3, label=name)
        most = max(observed.max(), 100 * math.sqrt(tasks.binomial.max()))
        axes.plot([0, most], [0, most], "--", color=FAINT, linewidth=0.8)
        axes.set_xlabel("observed SD between runs (points)")
        axes.set_ylabel("predicted (points)")
        axes.set_title(f"{len(observed)} binary tasks: R² = {tasks.r_squared:.3f}")
        axes.legend(frameon=False)
        return svg(figure)


def calibration(curves: Mapping[str, Calibration]) -> str:
    """How often a class is right against the share of runs that vote for it, over all classes (Section 3.4)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.8, 3.6), layout="constrained")
        axes = figure.subplots()
        for name, curve in curves.items():
            axes.plot(curve.overall_confidence, curve.overall_frequency, "o-", markersize=3, label=name)
        axes.plot([0, 1], [0, 1], "--", color=FAINT, linewidth=0.8)
        axes.set_xlabel("share of runs that vote for a class")
        axes.set_ylabel("share of these votes that are right")
        axes.legend(frameon=False)
        return svg(figure)


def correlated_test_sets(accuracies: Mapping[str, Values]) -> str:
    """Accuracy on each test set against each other, a dot a run (Jordan 2024, Figure 10)."""
    names = [(a, b) for i, a in enumerate(accuracies) for b in list(accuracies)[i + 1 :]]
    titles = {f"{a} and {b}": (a, b) for a, b in names}

    def draw(axes: Axes, title: str) -> None:
        a, b = titles[title]
        axes.plot(accuracies[a], accuracies[b], ".", markersize=3, alpha=0.6)
        axes.set_title(f"R² = {np.corrcoef(accuracies[a], accuracies[b])[0, 1] ** 2:.3f}")
        axes.set_xlabel(f"{a} (%)")
        axes.set_ylabel(f"{b} (%)")

    return _panels(list(titles), draw, "")


def disagreements(histograms: Mapping[str, Values], steps: Sequence[float] = (), means: Sequence[float] = ()) -> str:
    """Disagreement of pairs of runs: histograms, and its mean against the step of a poke (Jordan 2024, Figure 12).

    Args:
        histograms: by name (poked, other seeds), the disagreements of pairs, percent.
        steps, means: the step before which a weight was changed, and the mean disagreement with the twin.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0 if len(steps) else 3.8, 3.0), layout="constrained")
        grid = figure.subplots(1, 2 if len(steps) else 1, squeeze=False)[0]
        for name, values in histograms.items():
            grid[0].hist(values, bins="auto", alpha=0.6, label=name)
        grid[0].set_xlabel("disagreement of two runs (%)")
        grid[0].set_ylabel("pairs")
        grid[0].legend(frameon=False)
        if len(steps):
            grid[1].plot(steps, means, "o-", markersize=4)
            grid[1].set_xlabel("step of the poke")
            grid[1].set_ylabel("disagreement with the twin (%)")
        return svg(figure)


def _panels(names: Sequence[str], draw: Callable[[Axes, str], None], label: str) -> str:
    """One panel for each name, at most four in a row; `draw(axes, name)` fills one."""
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.6 * columns, 2.5 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for position, axes in enumerate(grid.flat):
            if position >= len(names):
                axes.set_axis_off()
                continue
            draw(axes, names[position])
            if position % columns == 0 and label:
                axes.set_ylabel(label)
        return svg(figure)

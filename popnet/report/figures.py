"""Figures of the papers as SVG: each function takes numbers and returns one self-contained `<svg>` document."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from popnet.metrics.theory import BinaryTasks, Calibration, DependentPairs
from popnet.report.drawing import FAINT, INK, STYLE, look, svg

Values = NDArray[np.float64]

_MANY_TICKS = 7


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
        r = np.corrcoef(first, second)[0, 1] if _vary(first, second) else math.nan
        axes.set_title(f"{name}: R² = {r * r:.2f}")
        axes.set_xlabel("accuracy, even half (%)")

    return _panels(list(halves), draw, "accuracy, odd half (%)")


def independent_errors(
    observed: Mapping[str, Values], probabilities: Mapping[str, Values], titles: Mapping[str, str] | None = None
) -> str:
    """The accuracies of the runs against those of runs with independent errors (Jordan 2024, Figures 3 and 9).

    Args:
        observed: by population, the accuracies in percent.
        probabilities: by population, `theory.independent_errors_distribution`: of 0, 1, ... n errors.
        titles: what to write above each panel; default: the population's name.
    """

    def draw(axes: Axes, name: str) -> None:
        chances, values = probabilities[name], observed[name]
        edges = _edges(values, len(chances) - 1)
        axes.hist(values, edges.tolist(), color="C0", alpha=0.6, label="observed")
        foreseen = _foreseen(chances, edges) * len(values)
        axes.stairs(foreseen, edges, color="C1", linewidth=1.5, label="independent errors")
        axes.set_title((titles or {}).get(name, name))
        axes.set_xlabel("accuracy (%)")
        axes.legend(frameon=False, fontsize=7)

    return _panels(list(observed), draw, "runs")


def binomial(values: Values, independent: Values, error: float) -> str:
    """The accuracies of the runs against the binomial assumption and independent errors (Jordan 2024, Figure 14).

    Args:
        values: the accuracies in percent.
        independent: `theory.independent_errors_distribution`: of 0, 1, ... n errors.
        error: the mean error rate, 0..1.
    """
    count = len(independent) - 1
    assumed = stats.binom.pmf(np.arange(count + 1), count, error)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.5, 3.0), layout="constrained")
        axes = figure.subplots()
        edges = _edges(values, count, 100 * math.sqrt(error * (1 - error) / count) * 3)
        axes.hist(values, edges.tolist(), color="C0", alpha=0.6, label=f"observed, SD {values.std(ddof=1):.3f}")
        for colour, name, chances in (("C1", "independent errors", independent), ("C2", "binomial", assumed)):
            accuracy = 100 * (1 - np.arange(count + 1) / count)
            deviation = math.sqrt(float(chances @ accuracy**2 - (chances @ accuracy) ** 2))
            drawn = _foreseen(chances, edges) * len(values)
            dashes = "-" if colour == "C1" else "--"
            label = f"{name}, SD {deviation:.3f}"
            axes.stairs(drawn, edges, color=colour, linewidth=1.5, linestyle=dashes, label=label)
        axes.set_xlabel("accuracy (%)")
        axes.set_ylabel("runs")
        axes.legend(frameon=False, fontsize=7)
        return svg(figure)


def one_pair(first: int, second: int, observed: Sequence[float], foreseen: Sequence[float], runs: int) -> str:
    """On a pair of examples, how often both, one or none are predicted right (Jordan 2024, Figure 4).

    Args:
        first, second: the examples' places in the test set.
        observed, foreseen: the shares of the runs (percent) that are right on both, on the first alone, on the second
            alone and on neither; foreseen by the product of the examples' own rates.
        runs: how many there are, from which the error bars follow (binomial, one standard error).
    """
    names = ("both", f"only {first}", f"only {second}", "neither")
    places = np.arange(len(names))
    errors = [100 * math.sqrt(share / 100 * (1 - share / 100) / runs) for share in foreseen]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.0, 3.0), layout="constrained")
        axes = figure.subplots()
        axes.bar(places - 0.2, observed, width=0.4, color="C0", label="observed")
        axes.bar(places + 0.2, foreseen, width=0.4, color="C1", yerr=errors, ecolor=INK, label="if independent")
        axes.set_xticks(places, names)
        axes.set_xlabel("which of the two examples are predicted right")
        axes.set_ylabel("runs (%)")
        axes.legend(frameon=False)
        return svg(figure)


def deviating_pairs(pairs: DependentPairs, most: int = 10) -> str:
    """The pairs of examples farthest from independence (Jordan 2024, Figure 13): product and joint probability.

    pairs: of which the first `most` are drawn, with the standard error that independent errors would have.
    """
    shown = min(most, len(pairs.first))
    heights = np.arange(shown, 0, -1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 1.1 + 0.27 * max(shown, 1)), layout="constrained")
        axes = figure.subplots()
        product, joint = 100 * pairs.product[:shown], 100 * pairs.joint[:shown]
        axes.hlines(heights, product, joint, color=FAINT, linewidth=1.0)
        errors = 100 * pairs.standard_error[:shown]
        axes.errorbar(product, heights, xerr=errors, fmt="s", color="C1", markersize=4, label="P(first) P(second)")
        axes.plot(joint, heights, "o", color="C0", markersize=5, label="P(both)")
        axes.set_yticks(heights, [f"{a} and {b}" for a, b in zip(pairs.first[:shown], pairs.second[:shown])])
        axes.set_ylim(0.3, shown + 0.7)
        axes.set_xlabel("runs that are right (%)")
        axes.set_ylabel("examples")
        axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=2)
        return svg(figure)


def overlaid(values: Mapping[str, Mapping[str, Values]], label: str = "accuracy (%)") -> str:
    """Histograms over each other, one panel for each title: by source (Jordan 2024, Figure 11), or two trainings (7).

    values: by title and name, the runs' accuracies (percent).
    """

    def draw(axes: Axes, title: str) -> None:
        everything = np.concatenate(list(values[title].values()))
        edges = np.histogram_bin_edges(everything, bins="auto")
        for place, (name, sample) in enumerate(values[title].items()):
            shares = 100 * np.histogram(sample, edges)[0] / len(sample)
            style = look(place)
            shown = f"{name}: SD {sample.std(ddof=1):.2f}"
            axes.stairs(shares, edges, color=style["color"], linestyle=style["linestyle"], linewidth=1.4, label=shown)
        axes.set_title(title)
        axes.set_xlabel(label)
        axes.legend(frameon=False, fontsize=6)

    return _panels(list(values), draw, "runs (%)", columns=2, size=(3.6, 2.8))


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
            axes.set_xticks(list(setting), _ticks(setting))
        axes.axhline(0, color=FAINT, linewidth=0.5)
        axes.set_xlabel(label)
        axes.set_ylabel("SD between runs (points)")
        axes.legend(frameon=False)
        return svg(figure)


def _ticks(settings: Sequence[float]) -> list[str]:
    """As they are; where they are many and all powers of two, as such, which is shorter."""
    split = [math.frexp(value) for value in settings]
    if len(split) > _MANY_TICKS and all(mantissa == 0.5 for mantissa, _ in split):
        return [f"$2^{{{exponent - 1}}}$" for _, exponent in split]
    return [f"{value:g}" for value in settings]


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
    """Accuracy on each test set against each other, a dot a run (Jordan 2024, Figure 10; of validation and test, 7).

    p is two-sided, that the correlation is 0.
    """
    names = [(a, b) for i, a in enumerate(accuracies) for b in list(accuracies)[i + 1 :]]
    titles = {f"{a} and {b}": (a, b) for a, b in names}

    def draw(axes: Axes, title: str) -> None:
        a, b = titles[title]
        axes.plot(accuracies[a], accuracies[b], ".", markersize=3, alpha=0.6)
        r, p_value = (
            stats.pearsonr(accuracies[a], accuracies[b]) if _vary(accuracies[a], accuracies[b]) else (math.nan,) * 2
        )
        axes.set_title(f"R² = {r * r:.3f} (p = {p_value:.2g})")
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


def _edges(values: Values, count: int, reach: float = 0.0) -> Values:
    """Edges of bins that hold equally many of the accuracies which `count` examples allow.

    reach: how far (points) from the mean they are drawn at least.
    """
    right = np.round(values * count / 100)
    middle = float(right.mean())
    low, high = min(right.min(), middle - reach * count / 100), max(right.max(), middle + reach * count / 100)
    step = max(1, round(float(high - low) / 20))
    return np.asarray(100 / count * (np.arange(math.floor(low) - step, high + 2 * step, step) - 0.5))


def _foreseen(chances: Values, edges: Values) -> Values:
    """The probability of each bin, from those of 0, 1, ... n errors."""
    count = len(chances) - 1
    accuracy = 100 * (1 - np.arange(count + 1) / count)
    return np.asarray(np.histogram(accuracy, edges, weights=chances)[0])


def _vary(*samples: Values) -> bool:
    return all(float(np.ptp(sample)) > 0 for sample in samples)


def _panels(
    names: Sequence[str],
    draw: Callable[[Axes, str], None],
    label: str,
    columns: int = 4,
    size: tuple[float, float] = (2.6, 2.5),
) -> str:
    """One panel for each name, at most `columns` in a row; `draw(axes, name)` fills one. size: of one, in inches."""
    columns = min(len(names), columns)
    rows = -(-len(names) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for position, axes in enumerate(grid.flat):
            if position >= len(names):
                axes.set_axis_off()
                continue
            draw(axes, names[position])
            if position % columns == 0 and label:
                axes.set_ylabel(label)
        return svg(figure)

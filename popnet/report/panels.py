"""Panels of lines: small figures of one series for each row of a table, which share one legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from popnet.report.drawing import INK, STYLE, look, svg
from popnet.report.quantities import Value

SIZE = (3.4, 2.5)
"""Inches: as wide as a phone's screen."""


@dataclass(frozen=True)
class Line:
    """A series: points, and optionally a band (low, high) around them or error bars.

    All are sequences of one length; `style` is the series' position in the legend.
    """

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    errors: Sequence[float] | None = None
    style: int = 0


def lines(
    series: Mapping[str, Line],
    title: str,
    label: str,
    *,
    logarithmic_x: bool = False,
    logarithmic_y: bool = False,
    from_zero: bool = False,
) -> str:
    """One panel: a line for each series.

    Args:
        series: by name; the names stand in the legend beside the panels, not in them.
        title: what the y axis shows.
        label: what the x axis shows.
        from_zero: whether the y axis begins at 0.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes: Any = figure.subplots()
        for line in series.values():
            _draw(axes, line)
        if logarithmic_x:
            _ratio_axis(axes, sorted({float(x) for line in series.values() for x in line.x}))
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        if logarithmic_y and all(np.min(line.y) > 0 for line in series.values()):
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            axes.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 300 * low else (1, 2, 5), numticks=8))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        elif from_zero:
            axes.set_ylim(bottom=0)
        axes.set_title(title)
        axes.set_xlabel(label)
        return svg(figure)


def histogram(values: NDArray[np.float64], title: str, label: str, style: int = 0) -> str:
    """One panel: how many of the values lie where, in bins of one width."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes: Any = figure.subplots()
        axes.hist(values, bins="auto", color=look(style)["color"], alpha=0.8)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.set_title(title)
        axes.set_xlabel(label)
        axes.set_ylabel("runs")
        return svg(figure)


def bars(groups: Sequence[str], series: Mapping[str, Sequence[Value]], title: str, floors: Sequence[Value] = ()) -> str:
    """One panel: for each group a bar of each series, with its error.

    floors: for each group a dashed line across its bars, in a band of twice its error to both sides.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(max(SIZE[0], 0.9 + 0.16 * len(groups) * (len(series) + 2)), SIZE[1]), layout="constrained"
        )
        axes: Any = figure.subplots()
        width = 0.8 / max(len(series), 1)
        for position, values in enumerate(series.values()):
            places = np.arange(len(groups)) + (position - (len(series) - 1) / 2) * width
            heights, errors = [v.value for v in values], [v.error for v in values]
            axes.bar(places, heights, width=width, yerr=errors, color=look(position)["color"], ecolor=INK)
        for place, floor in enumerate(floors):
            ends = (place - 0.45, place + 0.45)
            axes.fill_between(ends, floor.value - 2 * floor.error, floor.value + 2 * floor.error, color=INK, alpha=0.2)
            axes.hlines(floor.value, *ends, color=INK, linestyle="dashed", linewidth=1.0, zorder=3)
        axes.set_xticks(np.arange(len(groups)), groups)
        axes.set_title(title)
        return svg(figure)


def dots(values: Mapping[str, Value], title: str) -> str:
    """One panel: for each name, from top to bottom, a dot at its value with a bar of its error. The axis is from 0."""
    with mpl.rc_context(STYLE):
        names = 0.068 * max(map(len, values), default=0)  # inches
        figure = Figure(figsize=(max(3.7, names + 1.55), 0.6 + 0.24 * len(values)), layout="constrained")
        axes: Any = figure.subplots()
        heights = range(len(values), 0, -1)
        errors = [0.0 if math.isnan(v.error) else v.error for v in values.values()]
        places, colour = [v.value for v in values.values()], look(0)["color"]
        axes.hlines(heights, 0, places, color=colour, alpha=0.4, linewidth=0.8)
        axes.errorbar(places, heights, xerr=errors, fmt="o", color=colour, markersize=5, capsize=2, clip_on=False)
        axes.set_yticks(heights, list(values))
        axes.set_ylim(0.4, len(values) + 0.6)
        axes.set_xlim(left=0)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_title(title)
        return svg(figure)


def swatch(position: int) -> str:
    """The series' line and marker, for the legend."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.36, 0.16))
        axes: Any = figure.add_axes((0, 0, 1, 1))
        axes.plot([0, 1, 2], [0, 0, 0], linewidth=1.4, markersize=4, markevery=[1], **look(position))
        axes.set_axis_off()
        return svg(figure)


def _draw(axes: Any, line: Line) -> None:
    style = look(line.style)
    if line.low is not None and line.high is not None:
        axes.fill_between(line.x, line.low, line.high, color=style["color"], alpha=0.12, linewidth=0)
    every = max(1, len(line.x) // 8)
    if line.errors is not None:
        axes.errorbar(line.x, line.y, yerr=line.errors, linewidth=1.3, markersize=4, capsize=2, **style)
    else:
        axes.plot(line.x, line.y, linewidth=1.3, markersize=3.5, markevery=every, **style)


def _ratio_axis(axes: Any, values: Sequence[float]) -> None:
    axes.set_xscale("log")
    ticks = [tick for tick in (2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if values[0] <= tick <= values[-1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())

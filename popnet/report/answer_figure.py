"""The figure of an answer: each run a dot, means and differences with their intervals, as SVG inside a page.

Equal answers give equal bytes, for one version of matplotlib, which is imported here and nowhere else for answers.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from popnet.report.comparisons import Band, Mark, Panel, visible
from popnet.report.drawing import DARK_PALETTE, FAINT, INK, STYLE, look, svg, themed

_WIDTH = 3.6
"""Inches: as wide as a phone's screen."""

_LABEL = 26
"""Characters of a row's name."""

_BINS = 48
"""Dots that fall into one of so many parts of the axis are stacked."""


def draw(panels: Sequence[Panel]) -> str:
    """HTML: a `<figure>` for each panel, in the page's colours: of text, and `--series-0`, ... if it has any."""
    drawn = []
    for position, panel in enumerate(panels):
        caption = f"<figcaption>{escape(visible(panel.caption))}</figcaption>"
        drawn.append(f"<figure>{_inline(panel_svg(panel), position, panel)}{caption}</figure>")
    return f'<div class="figures">{"".join(drawn)}</div>'


def dark_colours() -> str:
    """CSS: the colours of series on a dark page."""
    return " ".join(f"--series-{index}: {colour};" for index, colour in enumerate(DARK_PALETTE))


def panel_svg(panel: Panel) -> str:
    """One panel as an `<svg>` document: its bands from top to bottom."""
    heights = [0.5 + sum(_height(mark) for mark in band.marks) for band in panel.bands]
    style = STYLE | {"text.parse_math": False}  # a column may be called $x$
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's fonts draw it, not matplotlib's
        figure = Figure(figsize=(_WIDTH, 0.3 + sum(heights)), layout="constrained")
        grid: Any = figure.subplots(len(panel.bands), 1, height_ratios=heights, squeeze=False)
        for axes, band in zip(grid[:, 0], panel.bands, strict=True):
            _band(axes, band)
        grid[0, 0].set_title(_short(panel.title, 2 * _LABEL), loc="left")
        return svg(figure)


def _height(mark: Mark) -> float:
    return 0.46 if mark.dots else 0.26


def _band(axes: Any, band: Band) -> None:
    heights = [_height(mark) for mark in band.marks]
    places = sum(heights) - np.cumsum(heights) + np.asarray(heights) / 2
    if band.zero:
        axes.axvline(0, color=FAINT, linewidth=0.9, linestyle=(0, (3, 2)), zorder=0)
    reach = _reach(band)
    for position, (mark, place) in enumerate(zip(band.marks, places, strict=True)):
        style = {"color": INK, "marker": "o"} if band.zero else look(position)
        _mark(axes, mark, float(place), style["color"], style["marker"], reach)
    axes.set_yticks(places, [_short(mark.label, _LABEL) for mark in band.marks])
    axes.set_ylim(0, sum(heights))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(_short(band.axis, 2 * _LABEL))


def _mark(axes: Any, mark: Mark, place: float, colour: str, marker: str, reach: tuple[float, float]) -> None:
    lower = place - 0.1 if mark.dots else place  # below its dots
    for (low, high), width in ((mark.outer, 1.0), ((mark.low, mark.high), 3.0)):
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([low, high], [lower, lower], color=colour, linewidth=width, solid_capstyle="butt")
    if math.isfinite(mark.value):
        axes.plot([mark.value], [lower], marker=marker, color=colour, markersize=5.5, linestyle="none")
    dots = np.asarray([dot for dot in mark.dots if math.isfinite(dot)], dtype=np.float64)
    if dots.size:
        stacked = place + 0.02 + _stacked(dots, reach)
        axes.plot(dots, stacked, marker=marker, color=colour, markersize=3.5, linestyle="none", alpha=0.6, mew=0)


def _reach(band: Band) -> tuple[float, float]:
    """The lowest and the highest dot of the band."""
    dots = [dot for mark in band.marks for dot in mark.dots if math.isfinite(dot)]
    return (min(dots), max(dots)) if dots else (0.0, 0.0)


def _stacked(dots: NDArray[np.float64], reach: tuple[float, float]) -> NDArray[np.float64]:
    """Heights, from 0 to 0.16, at which dots that would hide each other stand above one another, in their order."""
    size = reach[1] - reach[0]
    bins = np.zeros(len(dots), np.int64) if size == 0 else np.floor((dots - reach[0]) / size * _BINS).astype(np.int64)
    seen: dict[int, int] = {}
    levels = np.zeros(len(dots))
    for position, one in enumerate(bins.tolist()):
        levels[position] = seen.get(one, 0)
        seen[one] = seen.get(one, 0) + 1
    return levels * min(0.06, 0.16 / max(1, max(seen.values()) - 1))


def _short(text: str, most: int) -> str:
    text = visible(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _inline(document: str, position: int, panel: Panel) -> str:
    """An `<svg>` for a place inside HTML, an image with a name; its ids are no other figure's."""
    prefix = f"{hashlib.sha256(document.encode()).hexdigest()[:8]}-{position}"
    return str(themed(document, prefix, visible(panel.title), visible(panel.alt), standing_alone=True))

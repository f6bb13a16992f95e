"""How every figure is drawn: one style, one palette, and the way to SVG.

Equal numbers give equal bytes (for one version of matplotlib): no date, no random ids, no global state.
"""

from __future__ import annotations

import io
from typing import Any

from cycler import cycler
from matplotlib.figure import Figure

INK = "#1b1e23"
"""Text and axes."""

PAPER = "#fefefe"
"""The background; the HTML report drops it, and lets INK follow the reader's colours."""

FAINT = "#80858d"
"""Guides and zero lines: legible on light and dark alike."""

PALETTE = ("#0b66b0", "#c4500a", "#0a8266", "#a8407e", "#8a6a00", "#6b4fc4", "#b3261e", "#3f7f97", "#5f6b1f", "#7a4a2b")
"""The colours of series, each with a contrast of at least 3 on white, in an order in which neighbours differ."""

DARK_PALETTE = (
    "#6db4f2",
    "#f0935a",
    "#4cc3a2",
    "#e28fc0",
    "#d6b54a",
    "#b09df2",
    "#f08a80",
    "#86c3d8",
    "#b9c767",
    "#cc9a78",
)
"""What they become on a dark page."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))

STYLE: Any = {
    "svg.hashsalt": "popnet",
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "figure.dpi": 100,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.formatter.useoffset": False,
}


def look(index: int) -> dict[str, Any]:
    """The colour, marker and dashes of the series with that position: told apart without colour, too."""
    return {
        "color": PALETTE[index % len(PALETTE)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index % len(DASHES)],
    }


def svg(figure: Figure) -> str:
    """The figure as one self-contained `<svg>` document."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, facecolor=PAPER)
    return out.getvalue()

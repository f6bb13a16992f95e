"""How every figure is drawn: one style, one palette, and the way to SVG.

Equal numbers give equal bytes (for one version of matplotlib): no date, no random ids, no global state.
"""

from __future__ import annotations

import io
import re
from typing import Any

from cycler import cycler
from markupsafe import Markup, escape
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


def themed(
    document: str, prefix: str, title: str = "", description: str = "", *, standing_alone: bool = False
) -> Markup:
    """An `<svg>` for a place inside HTML: its colours follow the page's, its ids begin with `prefix`.

    With a title it is an image of that name; without, it is decoration. `standing_alone`: series keep their own colours
    where the page gives them none.
    """
    body = document[document.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)
    body = body.replace(f"fill: {PAPER}", "fill: none").replace(INK, "currentColor")
    for index, colour in enumerate(PALETTE):
        body = body.replace(colour, f"var(--series-{index}{f', {colour}' if standing_alone else ''})")
    head, rest = body.split(">", 1)
    box = re.search(r'viewBox="[^"]+"', head)
    width = re.search(r'width="([\d.]+)pt"', head)
    assert box is not None
    assert width is not None
    size = f"width:{float(width.group(1)) * 4 / 3:.0f}px"
    if not title:
        return Markup(f'<svg aria-hidden="true" {box.group()} style="{size}">{rest}')
    labels = f'<title id="{prefix}-title">{escape(title)}</title><desc id="{prefix}-desc">{escape(description)}</desc>'
    return Markup(
        f'<svg role="img" aria-labelledby="{prefix}-title" aria-describedby="{prefix}-desc" {box.group()} '
        f'style="{size}">{labels}{rest}'
    )

"""How every figure is drawn: one style, one palette, and the way to SVG.

Equal numbers give equal bytes (for one version of matplotlib): no date, no random ids, no global state.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
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

_WIDEST, _GAP, _LINE, _LETTER = 760.0, 14.0, 15.0, 4.9
"""Points: the width from which panels go below each other; between names, from name to name, and of a letter."""


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
    body = _apart(document, prefix)
    body = body.replace(f"fill: {PAPER}", "fill: none").replace(INK, "currentColor")
    for index, colour in enumerate(PALETTE):
        body = body.replace(colour, f"var(--series-{index}{f', {colour}' if standing_alone else ''})")
    head, rest = body.split(">", 1)
    box = _box(head)
    size = f"width:{_size(head)[0] * 4 / 3:.0f}px"
    if not title:
        return Markup(f'<svg aria-hidden="true" {box} style="{size}">{rest}')
    labels = f'<title id="{prefix}-title">{escape(title)}</title><desc id="{prefix}-desc">{escape(description)}</desc>'
    return Markup(
        f'<svg role="img" aria-labelledby="{prefix}-title" aria-describedby="{prefix}-desc" {box} '
        f'style="{size}">{labels}{rest}'
    )


def composed(documents: Sequence[str], legend: Sequence[tuple[str, str]], title: str, description: str) -> str:
    """Several `<svg>` documents as one, beside and below each other, with a legend at its foot.

    Args:
        legend: of each series its swatch, an `<svg>` document, and its name.
        title, description: for readers who do not see it.
    """
    sizes = [_size(document) for document in documents]
    width = max(*(one[0] for one in sizes), min(sum(one[0] for one in sizes), _WIDEST))
    placed, bottom = _flow(sizes, width)
    entries = [(_size(sign)[0] + 6 + _LETTER * len(name), _LINE) for sign, name in legend]
    width = max(width, *(one[0] for one in entries), 0.0)
    names, foot = _flow([(one + _GAP, high) for one, high in entries], width + _GAP)
    parts = [_placed(document, f"p{i}", *place) for i, (document, place) in enumerate(zip(documents, placed))]
    for i, ((sign, name), (left, top)) in enumerate(zip(legend, names)):
        across, high = _size(sign)
        parts.append(_placed(sign, f"s{i}", left, bottom + top + (_LINE - high) / 2))
        where = f'x="{left + across + 6:.1f}" y="{bottom + top + 0.7 * _LINE:.1f}"'
        parts.append(f'<text {where} style="font: 9px sans-serif; fill: {INK}">{escape(name)}</text>')
    height = bottom + foot + (4 if legend else 0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'width="{width:.1f}pt" height="{height:.1f}pt" viewBox="0 0 {width:.1f} {height:.1f}">\n'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>\n"
        f'<rect width="100%" height="100%" style="fill: {PAPER}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _flow(sizes: Sequence[tuple[float, float]], width: float) -> tuple[list[tuple[float, float]], float]:
    """Where boxes go that fill lines from the left, and the height of it all."""
    places, left, top, high = [], 0.0, 0.0, 0.0
    for across, tall in sizes:
        if left and left + across > width + 0.1:
            left, top, high = 0.0, top + high, 0.0
        places.append((left, top))
        left, high = left + across, max(high, tall)
    return places, top + high


def _placed(document: str, prefix: str, left: float, top: float) -> str:
    body = _apart(document, prefix)
    width, height = _size(body)
    where = f'x="{left:.1f}" y="{top:.1f}" width="{width:g}" height="{height:g}"'
    return f"<svg {where} {_box(body)}>{body.split('>', 1)[1].rstrip()}"


def _apart(document: str, prefix: str) -> str:
    """The `<svg>` of a document without its metadata, and with ids that begin with `prefix`."""
    body = document[document.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', body)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)


def _box(document: str) -> str:
    found = re.search(r'viewBox="[^"]+"', document)
    assert found is not None
    return found.group()


def _size(document: str) -> tuple[float, float]:
    """In points."""
    found = re.search(r'<svg[^>]*?\bwidth="([\d.]+)pt" height="([\d.]+)pt"', document)
    assert found is not None
    return float(found.group(1)), float(found.group(2))

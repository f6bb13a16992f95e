"""The report as one HTML file: everything inline, readable without a network and without scripts.

While a run goes on, a page carries a few lines of script that load it again (`live.js`); without them the browser does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from popnet.report.content import Figure, Report
from popnet.report.drawing import DARK_PALETTE, INK, PALETTE, PAPER
from popnet.report.live import Live
from popnet.report.panels import swatch
from popnet.report.verdicts import Verdict

_SYMBOLS = {Verdict.HOLDS: "✓", Verdict.FAILS: "✗", Verdict.OPEN: "?"}
_CLASSES = {Verdict.HOLDS: "holds", Verdict.FAILS: "fails", Verdict.OPEN: "open"}


def render_html(report: Report, live: Live | None = None) -> str:
    """The whole file. Equal reports give equal bytes. `live`: what to show above it while runs go on."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    ids = _Ids()
    environment.globals |= {
        "unique": ids.unique,
        "panel": lambda panel, figure: themed(panel.svg, ids.unique("svg"), panel.title, figure.alt),
        "swatch": lambda position: themed(swatch(position), ids.unique("svg")),
        "symbol": _SYMBOLS.get,
        "kind": _CLASSES.get,
        "verdicts": list(Verdict),
        "wide": _wide,
        "light": PALETTE,
        "dark": DARK_PALETTE,
    }
    style, script = Markup(_file("report.css")), Markup(_file("live.js"))
    template = environment.from_string(_file("report.html.jinja"))
    return template.render(report=report, live=live, style=style, script=script)


def _file(name: str) -> str:
    return resources.files("popnet.report").joinpath(name).read_text(encoding="utf-8")


def themed(svg: str, prefix: str, title: str = "", description: str = "") -> Markup:
    """An `<svg>` for a place inside HTML: its colours follow the page's, its ids begin with `prefix`.

    With a title it is an image of that name; without, it is decoration.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)
    for found, replacement in _colours():
        body = body.replace(found, replacement)
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


def _colours() -> Iterator[tuple[str, str]]:
    yield f"fill: {PAPER}", "fill: none"
    yield INK, "currentColor"
    for index, colour in enumerate(PALETTE):
        yield colour, f"var(--series-{index})"


def _wide(figure: Figure) -> bool:
    """Whether a panel is too wide for a phone, so that it scrolls in a box of its own."""
    widths = [float(found) for p in figure.panels for found in re.findall(r'<svg[^>]*?width="([\d.]+)pt"', p.svg)]
    return any(width > 280 for width in widths)


class _Ids:
    """Ids that no two elements of one document share."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def unique(self, text: str) -> str:
        """`text` as an id; where it was given before, with a number."""
        word = re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-") or "part"
        self._used[word] = self._used.get(word, 0) + 1
        return word if self._used[word] == 1 else f"{word}-{self._used[word]}"

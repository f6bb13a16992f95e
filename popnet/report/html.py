"""The report as one HTML file: everything inline, readable without a network and without scripts.

While a run goes on, a page carries a few lines of script that load it again (`live.js`); without them the browser does.
"""

from __future__ import annotations

import re
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from popnet.report.content import Figure, Ids, Report
from popnet.report.drawing import DARK_PALETTE, PALETTE, themed
from popnet.report.live import Live
from popnet.report.panels import swatch
from popnet.report.verdicts import Verdict

_SYMBOLS = {Verdict.HOLDS: "✓", Verdict.FAILS: "✗", Verdict.OPEN: "?", Verdict.NOT_COMPARABLE: "–"}
_CLASSES = {Verdict.HOLDS: "holds", Verdict.FAILS: "fails", Verdict.OPEN: "open", Verdict.NOT_COMPARABLE: "apart"}


def render_html(report: Report, live: Live | None = None) -> str:
    """The whole file. Equal reports give equal bytes. `live`: what to show above it while runs go on."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    ids = Ids()
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


def _wide(figure: Figure) -> bool:
    """Whether a panel is too wide for a phone, so that it scrolls in a box of its own."""
    widths = [float(found) for p in figure.panels for found in re.findall(r'<svg[^>]*?width="([\d.]+)pt"', p.svg)]
    return any(width > 280 for width in widths)

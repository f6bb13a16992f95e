"""The report as a Markdown file with its figures beside it, for a wiki, a README or a site of documentation."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from popnet.report import markdown_text as text
from popnet.report.claims import Claim
from popnet.report.content import Figure, Ids, Report, Section, Table
from popnet.report.drawing import composed
from popnet.report.panels import swatch


def render_markdown(report: Report, stem: str) -> tuple[str, dict[str, str]]:
    """The file's text, and the SVG files that it shows by their names, which begin with `stem`.

    Equal reports give equal bytes.
    """
    figures: dict[str, str] = {}
    ids = Ids()
    blocks = [f"# {text.escaped(report.title)}"]
    if report.generated:
        blocks.append(text.paragraph(report.generated))
    for section in report.sections:
        blocks += _section(section, stem, figures, ids)
    blocks.append("## How to read this")
    blocks += [f"**{text.escaped(name)}.** {text.prose(said)}" for name, said in report.methods]
    return "\n\n".join(blocks) + "\n", figures


def _section(section: Section, stem: str, figures: dict[str, str], ids: Ids) -> Iterator[str]:
    yield f"## {text.escaped(section.title)}"
    if section.scaled:
        yield f"**{text.escaped(section.departs_from)}:**"
        yield "\n".join(f"* {text.prose(line)}" for line in section.scaled)
    yield from map(text.paragraph, section.warnings)
    if section.facts:
        yield "\n".join(f"* **{text.escaped(name)}**: {text.prose(value)}" for name, value in section.facts)
    for table in section.tables:
        yield f"### {text.escaped(table.caption)}"
        yield _table(table)
        yield from map(text.paragraph, table.notes)
    for figure in section.figures:
        name = f"{stem}-{ids.unique(figure.title)}.svg"
        figures[name] = _drawn(figure)
        yield f"### {text.escaped(figure.title)}"
        yield f"![{text.escaped(figure.alt)}]({quote(name)})"
        yield text.paragraph(figure.caption)
    if section.claims:
        yield "### Claims"
        if section.judged:
            yield text.paragraph(section.judged)
        yield "\n".join(map(_claim, section.claims))


def _table(table: Table) -> str:
    rows = []
    for line in table.lines:
        label = text.escaped(line.label)
        cells = [text.escaped(cell) if cell else "–" for cell in line.cells]
        rows.append([label if line.kind == "measured" else f"&emsp;*{label}*", *cells])
    return text.table([text.escaped(header) for header in (table.corner, *table.headers)], rows)


def _claim(claim: Claim) -> str:
    theirs = "" if claim.published is None else f"; by the published numbers: **{claim.published.verdict.value}**"
    where = f"({text.escaped(claim.where)}{theirs})"
    lines = [f"* **{claim.measured.verdict.value}**: {text.prose(claim.statement)} {where}"]
    if claim.measured.why:
        lines.append(f"    * *{text.prose(claim.measured.why)}*")
    lines += [f"    * {text.prose(name)}: {text.prose(said)}" for name, said in claim.measured.evidence]
    return "\n".join(lines)


def _drawn(figure: Figure) -> str:
    legend = figure.legend if len(figure.legend) > 1 else ()
    signs = [(swatch(position), name) for position, name in legend]
    return composed([panel.svg for panel in figure.panels], signs, figure.title, figure.alt)

"""A report's files: HTML, Markdown with its figures, LaTeX, CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from popnet.report.claims import Evidence
from popnet.report.content import Report
from popnet.report.html import render_html
from popnet.report.latex import render_latex
from popnet.report.long_form import long_form
from popnet.report.markdown import render_markdown
from popnet.store import write_aside


def write(
    report: Report,
    evidence: Sequence[Evidence],
    *,
    html: Path | None = None,
    markdown: Path | None = None,
    latex: Path | None = None,
    csv: Path | None = None,
) -> Iterator[Path]:
    """Write the files that are asked for, and yield each path once it is written.

    The figures of a Markdown file go beside it, as `NAME-*.svg`.
    """
    if html is not None:
        put(html, render_html(report))
        yield html
    if markdown is not None:
        page, figures = render_markdown(report, markdown.stem)
        for name, svg in figures.items():
            put(markdown.with_name(name), svg)
            yield markdown.with_name(name)
        put(markdown, page)
        yield markdown
    if latex is not None:
        put(latex, render_latex(report))
        yield latex
    if csv is not None:
        put(csv, long_form(evidence).to_csv(index=False))
        yield csv


def put(path: Path, text: str) -> None:
    """Write a file so that a reader finds it whole at any moment, be it the old one or the new one.

    What is no regular file, such as a pipe, is written into. Raises StoreError.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        target.write_text(text, encoding="utf-8")
    else:
        write_aside(target, text.encode())

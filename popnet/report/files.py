"""A report's files: HTML, LaTeX, CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from popnet.report.claims import Evidence
from popnet.report.content import Report
from popnet.report.html import render_html
from popnet.report.latex import render_latex
from popnet.report.long_form import long_form
from popnet.store import write_aside


def write(
    report: Report, evidence: Sequence[Evidence], html: Path | None, latex: Path | None, csv: Path | None
) -> Iterator[Path]:
    """Write the files that are asked for, and yield each path once it is written."""
    if html is not None:
        put(html, render_html(report))
        yield html
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

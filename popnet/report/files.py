"""A report's files: HTML, LaTeX, CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from popnet.errors import ConfigError
from popnet.report.claims import Evidence
from popnet.report.content import Report
from popnet.report.html import render_html
from popnet.report.latex import render_latex
from popnet.report.long_form import long_form


def check_writable(path: Path | None) -> None:
    """Raises ConfigError where the file cannot be written, before any work is done for it."""
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder: name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


def write(
    report: Report, evidence: Sequence[Evidence], html: Path | None, latex: Path | None, csv: Path | None
) -> Iterator[Path]:
    """Write the files that are asked for, and yield each path once it is written."""
    if html is not None:
        html.write_text(render_html(report), encoding="utf-8")
        yield html
    if latex is not None:
        latex.write_text(render_latex(report), encoding="utf-8")
        yield latex
    if csv is not None:
        csv.write_text(long_form(evidence).to_csv(index=False), encoding="utf-8")
        yield csv

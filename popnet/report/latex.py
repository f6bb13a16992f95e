"""The report's tables and claims as a LaTeX document with booktabs; figures are in the HTML report."""

from __future__ import annotations

import re
from collections.abc import Iterator

from popnet.report.claims import Claim
from popnet.report.content import Line, Report, Section, Table

_PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage{array}
\usepackage{booktabs}
\usepackage{longtable}
\usepackage{textcomp}
\setlength{\tabcolsep}{4pt}
"""

_SYMBOLS = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "ρ": r"$\rho$",
    "\N{MINUS SIGN}": r"$-$",
    "\N{NO-BREAK SPACE}": "~",
    "–": "--",
    **{raised: f"$^{{{digit}}}$" for digit, raised in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}


def render_latex(report: Report) -> str:
    """A whole document, which pdflatex compiles; its tables can be taken out one by one."""
    lines = [_PREAMBLE + r"\title{" + escape(report.title) + "}", r"\date{" + escape(report.generated) + "}"]
    lines += [r"\begin{document}", r"\maketitle"]
    for section in report.sections:
        lines += _section(section)
    lines.append(r"\section*{How to read this}")
    lines += [rf"\paragraph{{{escape(name)}}} {escape(text)}" for name, text in report.methods]
    lines.append(r"\end{document}")
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """The text as LaTeX prints it; characters that no font of the document has become a question mark."""
    return "".join(_SYMBOLS.get(character) or _plain(character) for character in text)


def _plain(character: str) -> str:
    try:
        character.encode("latin-1")
    except UnicodeEncodeError:
        return "?"
    return character if character.isprintable() else " "


def _section(section: Section) -> Iterator[str]:
    yield rf"\section*{{{escape(section.title)}}}"
    if section.scaled:
        yield rf"\textbf{{{escape(section.departs_from)}:}} {escape('; '.join(section.scaled))}.\par"
    for warning in section.warnings:
        yield escape(warning) + r"\par"
    for table in section.tables:
        yield from _table(table)
    if section.claims:
        yield r"\subsection*{Claims}"
        if section.judged:
            yield escape(section.judged) + r"\par"
        yield r"\begin{description}"
        for claim in section.claims:
            yield from _claim(claim)
        yield r"\end{description}"


def _table(table: Table) -> Iterator[str]:
    small = r"\footnotesize" if len(table.headers) > 5 else r"\small"
    yield rf"\begingroup{small}"
    yield r"\begin{longtable}{@{}>{\raggedright\arraybackslash}p{3.6cm}" + "r" * len(table.headers) + "@{}}"
    yield rf"\multicolumn{{{len(table.headers) + 1}}}{{@{{}}l}}{{\textbf{{{escape(table.caption)}}}}}\\[2pt]"
    yield r"\toprule"
    yield " & ".join([escape(table.corner), *map(_header, table.headers)]) + r" \\"
    yield r"\midrule\endhead"
    for position, line in enumerate(table.lines):
        if position and line.kind == "measured" and table.lines[position - 1].kind != "measured":
            yield r"\addlinespace"
        yield _line(line)
    yield r"\bottomrule"
    yield r"\end{longtable}"
    for note in table.notes:
        yield r"\noindent " + escape(note) + r"\par"
    yield r"\endgroup"


def _header(text: str) -> str:
    """A header broken at its spaces, so that columns are as narrow as their numbers."""
    words = re.sub(r" (?=[^(]*\))", "\N{NO-BREAK SPACE}", text).split(" ")
    inner = r"\\".join(map(escape, words))
    return rf"\begin{{tabular}}[b]{{@{{}}r@{{}}}}{inner}\end{{tabular}}"


def _line(line: Line) -> str:
    label = escape(line.label) if line.kind == "measured" else rf"\quad\textit{{{escape(line.label)}}}"
    return " & ".join([label, *map(escape, line.cells)]) + r" \\"


def _claim(claim: Claim) -> Iterator[str]:
    theirs = "" if claim.published is None else f"; by the published numbers: {claim.published.verdict.value}"
    yield (
        rf"\item[{escape(claim.measured.verdict.value)}] {escape(claim.statement)} "
        rf"\textit{{({escape(claim.where + theirs)})}}"
    )
    if claim.measured.why:
        yield rf"\par {escape(claim.measured.why)}"
    for name, text in claim.measured.evidence:
        yield rf"\par\small {escape(name)}: {escape(text)}"

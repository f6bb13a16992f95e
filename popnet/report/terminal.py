"""The report on a terminal: tables as `popnet run` prints them, differences from the published ones, and verdicts."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from popnet import prose
from popnet.report.claims import Claim, Evidence
from popnet.report.content import Report, Section, Table
from popnet.report.measured import Measured
from popnet.report.tables import render
from popnet.report.verdicts import Verdict

_STYLES = {Verdict.HOLDS: "green", Verdict.FAILS: "red", Verdict.OPEN: "yellow", Verdict.NOT_COMPARABLE: "dim"}
_TONES = {"near": "green", "apart": "yellow", "far": "red", "": ""}


def print_report(report: Report, evidence: Sequence[Evidence], console: Console) -> None:
    """Everything but the figures."""
    for position, section in enumerate(report.sections):
        if position:
            console.print()
        if position < len(evidence):
            render(_frame(evidence[position].measured), section.title, console=console)
        else:
            console.print(Text(section.title, style="italic"))
        _remarks(section, console)
        for table in section.tables[1:]:  # the first one is what `render` has printed
            console.print()
            console.print(_table(table, console.width))
            for note in table.notes:
                prose.show(console, note, style="dim")
        if section.claims:
            console.print("\nThe papers' claims", style="bold")
        if section.claims and section.judged:
            prose.show(console, section.judged)
        for claim in section.claims:
            _claim(claim, console)


def _frame(measured: Measured) -> pd.DataFrame:
    """The measured rows as `render` takes them."""
    rows = {}
    for row in measured.rows:
        values: dict[str, object] = {name: value.value for name, value in row.values.items()}
        values |= {f"{name}_error": value.error for name, value in row.values.items()}
        values |= {"members": row.members, "population": row.planned, "failed": row.failed, "diverged": row.diverged}
        values["marks"] = list(row.marks)
        rows[row.name] = values
    return pd.DataFrame(list(rows.values()), index=pd.Index(list(rows), name="variant"))


def _remarks(section: Section, console: Console) -> None:
    if section.scaled:
        text = f"{section.departs_from}: {'; '.join(section.scaled)}."
        prose.show(console, text)
    for warning in section.warnings:
        prose.show(console, warning)


def _table(table: Table, width: int) -> RichTable:
    """The table; on a narrow terminal without the errors, which would not fit."""
    wide = width >= 110
    result = RichTable(
        title=table.caption,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1) if wide else (0, 0),
    )
    result.add_column(table.corner, overflow="fold", min_width=14)
    for header in table.headers:
        words = header.replace(" ", "\n")
        result.add_column(words if wide else re.sub(r"(?<=\w)-(?=\w)", "-\n", words), justify="right", no_wrap=True)
    for line in table.lines:
        style = "" if line.kind == "measured" else "dim"
        label = line.label if line.kind == "measured" else f"  {line.label}"
        cells = [cell if wide else cell.partition(" ± ")[0].replace(" (", "\n(") for cell in line.cells]
        tones = line.tones or ("",) * len(cells)
        result.add_row(
            Text(label, style=style),
            *(Text(cell, style=_TONES[tone] or style) for cell, tone in zip(cells, tones, strict=True)),
        )
    return result


def _claim(claim: Claim, console: Console) -> None:
    verdict = claim.measured.verdict
    head = Text("  ").append(f"{verdict.value:15}", style=_STYLES[verdict])
    line = Text(claim.statement).append(f" ({claim.where}", style="dim")
    if claim.published is not None:
        line.append(f"; by the published numbers: {claim.published.verdict.value}", style="dim")
    prose.show(console, line.append(")", style="dim"), head)
    if claim.measured.why:
        prose.show(console, claim.measured.why, f"{'':17}")
    for name, text in claim.measured.evidence:
        prose.show(console, f"{name}: {text}", f"{'':17}", style="dim")

"""How answers look: on a console, in Markdown and as HTML, all from one form (`comparisons`).

Names of files, columns and tasks are anyone's text: it is shown as it is, and acts in no medium.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from popnet import prose
from popnet.metrics.wording import number
from popnet.report import markdown_text
from popnet.report.comparisons import (
    Answer,
    Row,
    Shown,
    Table,
    letter,
    of_comparisons,
    of_descriptions,
    of_many,
    of_power,
    of_tasks,
    visible,
)
from popnet.report.quantities import Value, with_error

if TYPE_CHECKING:
    import pandas as pd

    from popnet.metrics.comparison import Comparison, TaskComparison
    from popnet.metrics.planning import PowerPlan

__all__ = [
    "Answer",
    "Row",
    "Shown",
    "Table",
    "comparison_html",
    "console",
    "fragment",
    "html",
    "letter",
    "markdown",
    "of_comparisons",
    "of_descriptions",
    "of_many",
    "of_power",
    "of_tasks",
    "power_html",
    "table_html",
    "tasks_html",
    "visible",
]

_GAPS = (3, 2)
"""Columns of a console between two of a table, where there is room and where there is little."""

_MOST_ROWS = 60
"""Of a table in a notebook, as in pandas."""

_STYLE = """
.popnet-answer { line-height: 1.5; max-width: 48rem; }
.popnet-answer p, .popnet-answer dd, .popnet-answer h1 { overflow-wrap: anywhere; }
.popnet-answer p { margin: 0.6rem 0; }
.popnet-answer dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0.2rem 0.7rem; }
.popnet-answer dl, .popnet-answer figure { margin: 0.6rem 0; }
.popnet-answer dt { font-weight: 650; }
.popnet-answer dd { margin: 0; }
.popnet-answer .scroll { overflow-x: auto; margin: 0.9rem 0; }
.popnet-answer table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
.popnet-answer caption { text-align: left; caption-side: bottom; padding-top: 0.3rem; }
.popnet-answer th, .popnet-answer td { padding: 0.22rem 0 0.22rem 0.9rem; text-align: right; white-space: nowrap; }
.popnet-answer th:first-child { padding-left: 0; text-align: left; font-weight: 500; min-width: 7.5rem; }
.popnet-answer th { white-space: normal; overflow-wrap: break-word; }
.popnet-answer tr.part th:first-child { padding-left: 0.9rem; font-weight: 400; }
.popnet-answer thead th { border-bottom: 1.5px solid currentColor; font-weight: 600; vertical-align: bottom; }
.popnet-answer .figures { display: flex; flex-wrap: wrap; gap: 0 1.2rem; }
.popnet-answer .figures svg { max-width: 100%; height: auto; }
.popnet-answer figcaption { max-width: 346px; }
.popnet-answer .note, .popnet-answer caption, .popnet-answer figcaption { font-size: 0.85rem; opacity: 0.8; }
""".strip()

_PAGE_STYLE = """
:root { color-scheme: light dark; --paper: #fdfcf9; --ink: #1b1e23; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #14161a; --ink: #e6e3dc; %s } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%%; }
body { margin: 0; background: var(--paper); color: var(--ink); }
body { font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main.popnet-answer { max-width: 50rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.35rem; line-height: 1.25; margin: 1.6rem 0 0.8rem; }
.popnet-answer .lead { font-size: 1.1rem; }
""".strip()


def console(answer: Answer, out: Console) -> None:
    """Print it; a table that is too wide for the console is printed some columns at a time."""
    for mark, shown in answer.sources:
        head = f"{mark}: " if mark else ""
        prose.show(out, visible(_held(shown)), head)
        if shown.marks:
            prose.show(out, visible("; ".join(shown.marks)), " " * (len(head) or 2))
    for text in answer.opening:
        prose.show(out, visible(text))
    for position, table in enumerate(answer.tables):
        if position or answer.sources or answer.opening:
            out.print()
        for begun, part in enumerate(_fitting(table, out.width)):
            if begun:
                out.print()
            out.print(part)
        for note in table.notes:
            prose.show(out, visible(note), style="dim")
    for sentence in answer.sentences:
        out.print()
        prose.show(out, visible(sentence))
    for warning in answer.warnings:
        prose.show(out, visible(warning), "Warning: ")


def markdown(answer: Answer) -> str:
    """Tables and sentences to paste into a pull request: GitHub's Markdown, with a line's end."""
    blocks = []
    sources = []
    for mark, shown in answer.sources:
        name = markdown_text.code(shown.name) if shown.name else ""
        held = ", ".join(part for part in (name, markdown_text.prose(shown.found)) if part)
        marks = f" ({markdown_text.prose('; '.join(shown.marks))})" if shown.marks else ""
        sources.append(f"- {f'**{mark}**: ' if mark else ''}{held}{marks}")
    if sources:
        blocks.append("\n".join(sources))
    blocks += [markdown_text.paragraph(text) for text in answer.opening]
    for table in answer.tables:
        blocks.append(_markdown_table(table))
        blocks += [markdown_text.paragraph(note) for note in table.notes]
    blocks += [markdown_text.paragraph(text) for text in answer.sentences]
    blocks += [f"**Warning**: {markdown_text.prose(text)}" for text in answer.warnings]
    return "\n\n".join(blocks) + "\n"


def html(answers: Answer | Sequence[Answer], figure: bool = True) -> str:
    """One page for itself: no scripts, no network, light and dark. Without matplotlib it has no figure and says so."""
    parts = [answers] if isinstance(answers, Answer) else list(answers)
    dark, missing = "", ""
    if figure and any(answer.panels for answer in parts):
        if importlib.util.find_spec("matplotlib") is None:
            missing = '<p class="note">The figure is missing: matplotlib is not installed.</p>'
        else:
            from popnet.report import answer_figure

            dark = answer_figure.dark_colours()
    title = escape(visible(parts[0].heading))
    sections = [f"<h1>{_safe(answer.heading)}</h1>\n{_body(answer, figure)}" for answer in parts]
    body = "\n".join([*sections, missing])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>\n{_PAGE_STYLE % dark}\n{_STYLE}\n</style>\n</head>\n"
        f'<body>\n<main class="popnet-answer">\n{body}\n</main>\n</body>\n</html>\n'
    )


def fragment(answer: Answer, figure: bool = True) -> str:
    """A part of a page, for a notebook: its text has the colour of what is around it. No figure without matplotlib."""
    return f'<div class="popnet-answer"><style>{_STYLE}</style>\n{_body(answer, figure)}\n</div>'


def comparison_html(result: Comparison) -> str:
    """A comparison in a notebook."""
    sources = (Shown("", _size(members, result.examples)) for members in (result.members_a, result.members_b))
    return fragment(of_comparisons([result], *sources))


def tasks_html(found: TaskComparison) -> str:
    """A comparison on several tasks in a notebook."""
    first = next(iter(found.tasks.values()))[0]
    sources = (Shown("", _size(members, None)) for members in (first.members_a, first.members_b))
    return fragment(of_tasks(found, *sources))


def power_html(plan: PowerPlan) -> str:
    """A plan of runs in a notebook."""
    return fragment(of_power(plan))


def table_html(frame: pd.DataFrame) -> str:
    """Any table of results in a notebook: `NAME_error` stands behind its `NAME`; rows beyond 60 are only counted."""
    columns = [str(name) for name in frame.columns]
    errors = {name for name in columns if name.removesuffix("_error") in columns and name.endswith("_error")}
    rows = []
    for key, values in zip(frame.index, frame.head(_MOST_ROWS).itertuples(index=False, name=None)):
        row = dict(zip(columns, values, strict=True))
        rows.append(Row(str(key), tuple(_cell(row, name) for name in columns if name not in errors)))
    more = len(frame) - len(rows)
    headers = tuple(name.replace("_", " ") for name in columns if name not in errors)
    notes = (f"{more:,} more rows",) if more else ()
    corner = "" if frame.index.name is None else str(frame.index.name)
    return fragment(Answer("", tables=(Table(corner, headers, tuple(rows), notes),)))


def _cell(row: Mapping[str, Any], name: str) -> str:
    """A value as people write it; what is missing is left empty."""
    import numpy as np
    import pandas as pd

    value = row[name]
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    if not pd.api.types.is_scalar(value) or isinstance(value, str):
        return str(value)
    if pd.isna(value):
        return ""
    if not isinstance(value, float | np.floating):
        return str(value)
    error = row.get(f"{name}_error")
    if error is None or pd.isna(error):
        return number(float(value), 4)
    return with_error(Value(float(value), float(error)), 2)


def _size(members: int, examples: int | None) -> str:
    runs = f"{members:,} run{'' if members == 1 else 's'}"
    return runs if examples is None else f"{runs} x {examples:,} examples"


def _held(shown: Shown) -> str:
    return ", ".join(part for part in (shown.name, shown.found) if part)


def _fitting(table: Table, width: int) -> Iterator[RichTable]:
    """The table in as many parts as the width asks for, each with its rows' labels."""
    labels = max(map(cell_len, [visible(table.corner), *map(_label, table.rows)]))
    first = min(labels, max(width // 2, 14))
    widths = [
        max(cell_len(visible(text)) for text in (header, *(row.cells[column] for row in table.rows)))
        for column, header in enumerate(table.headers)
    ]
    gap = next((g for g in _GAPS if first + sum(g + one for one in widths) <= width), _GAPS[-1])
    start = 0
    while start < len(widths):
        end, taken = start, first
        while end < len(widths) and (end == start or taken + gap + widths[end] <= width):
            taken += gap + widths[end]
            end += 1
        yield _part(table, slice(start, end), first, gap)
        start = end


def _part(table: Table, columns: slice, first: int, gap: int) -> RichTable:
    """Some columns, and the rows that have a cell there."""
    whole = len(table.headers[columns]) == len(table.headers)
    result = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 2, 0, 1))
    result.add_column(Text(visible(table.corner)), width=first, overflow="fold")
    for header in table.headers[columns]:
        result.add_column(Text(visible(header)), justify="right", overflow="fold")
    for row in table.rows:
        cells = row.cells[columns]
        if whole or any(cells):
            result.add_row(Text(_label(row)), *(Text(visible(cell)) for cell in cells))
    return result


def _label(row: Row) -> str:
    return f"{'  ' if row.part else ''}{visible(row.label)}"


def _markdown_table(table: Table) -> str:
    head = [markdown_text.escaped(text) for text in (table.corner, *table.headers)]
    rows = []
    for row in table.rows:
        label = f"{'&emsp;' if row.part else ''}{markdown_text.escaped(row.label)}"
        rows.append([label, *map(markdown_text.escaped, row.cells)])
    return markdown_text.table(head, rows)


def _figures(answer: Answer) -> str:
    if not answer.panels or importlib.util.find_spec("matplotlib") is None:
        return ""
    from popnet.report import answer_figure

    return answer_figure.draw(answer.panels)


def _body(answer: Answer, figure: bool) -> str:
    """The sentences come first: they are the answer."""
    parts = []
    for position, text in enumerate((*answer.opening, *answer.sentences)):
        kind = "text" if position else "lead"
        parts.append(f'<p class="{kind}">{_safe(text)}</p>')
    if any(mark for mark, _ in answer.sources):
        parts.append(f"<dl>{''.join(_source(mark, shown) for mark, shown in answer.sources)}</dl>")
    else:
        parts += [f"<p>{_described(shown)}</p>" for _, shown in answer.sources]
    if figure and (drawn := _figures(answer)):
        parts.append(drawn)
    parts += [_html_table(table) for table in answer.tables]
    parts += [f"<p><strong>Warning:</strong> {_safe(text)}</p>" for text in answer.warnings]
    return "\n".join(parts)


def _source(mark: str, shown: Shown) -> str:
    return f"<dt>{_safe(mark)}</dt><dd>{_described(shown)}</dd>"


def _described(shown: Shown) -> str:
    marks = f'<br><span class="note">{_safe("; ".join(shown.marks))}</span>' if shown.marks else ""
    return f"{_safe(_held(shown))}{marks}"


def _html_table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_safe(text)}</th>' for text in (table.corner, *table.headers))
    rows = "".join(
        f'<tr class="{"part" if row.part else "whole"}"><th scope="row">{_safe(row.label)}</th>'
        f"{''.join(f'<td>{_safe(cell)}</td>' for cell in row.cells)}</tr>\n"
        for row in table.rows
    )
    notes = f"<caption>{_safe(' '.join(table.notes))}</caption>" if table.notes else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="Table"><table>{notes}\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>"
    )


def _safe(text: str) -> str:
    return escape(visible(text))

"""Anyone's text in Markdown: it is shown as it is, and acts in no way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from popnet.report.comparisons import visible


def paragraph(text: str) -> str:
    """One that begins neither a list nor a heading."""
    return re.sub(r"^(\d*)([.)+-])(?=\s)", r"\1\\\2", prose(text))


def prose(text: str) -> str:
    """For Markdown: plain text, in which what stands between two backticks is a code span."""
    parts = re.split(r"`([^`]+)`", text)
    return "".join(code(part) if position % 2 else escaped(part) for position, part in enumerate(parts))


def escaped(text: str) -> str:
    """For Markdown: plain text. GitHub looks for names, issues, emoji and formulas after escapes are gone: these are
    taken apart by a comment, or by a tag around the dollar."""
    text = re.sub(r"[\\`*_\[\]<>|~&#]", lambda m: f"\\{m[0]}", visible(text))
    text = re.sub(r"@(?=\w)|(?<=#)(?=\d)|:(?=[\w+-]+:)", lambda m: f"{m[0]}<!-- -->", text)
    return re.sub(r"(?<=://)|(?<=www)(?=\.)", "<!-- -->", text).replace("$", "<span>$</span>")


def code(text: str) -> str:
    """For Markdown: a code span, in which nothing acts; its fence is longer than any in the text."""
    text = visible(text)
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Of texts that are Markdown already; the first column to the left, the others to the right."""
    rule = f"|{'|'.join([' :-- ', *(' --: ' for _ in head[1:])])}|"
    first, *others = (f"| {' | '.join(cells)} |" for cells in (head, *rows))
    return "\n".join([first, rule, *others])

"""Sentences among the tables: wrapped at the console's width, between words alone, so that a path stays whole."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_LEAST = 24
"""Columns that a text gets beside its head, however narrow the console is."""


def show(console: Console, text: str | Text, head: str | Text = "", style: str = "") -> None:
    """Print a text as it is, never as markup; its lines are indented by the `head` that stands before the first one."""
    first, body = (part if isinstance(part, Text) else Text(part, style) for part in (head, text))
    indent = first.cell_len
    for number, line in enumerate(_lines(body, max(console.width - indent, _LEAST))):
        console.print((Text(" " * indent) if number else first) + line, soft_wrap=True)


def _lines(text: Text, width: int) -> Iterator[Text]:
    for paragraph in text.split(allow_blank=True):
        for line in paragraph.divide(_breaks(paragraph.plain, width)):
            line.rstrip()
            yield line


def _breaks(text: str, width: int) -> Iterator[int]:
    """Where each line but the first begins."""
    start = 0
    for word in re.finditer(r"\S+", text):
        if word.start() > start and cell_len(text[start : word.end()]) > width:
            start = word.start()
            yield start

"""What a report consists of, before any format: sections of tables, figures and claims."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from popnet.report.claims import Claim


@dataclass(frozen=True)
class Line:
    """A row of a table.

    Attributes:
        label: the row's header.
        cells: one text for each column.
        kind: `measured`, `published` or `difference`; the last two belong to the measured line above them.
        tones: for cells of `difference`: `near`, `apart` or `far`; else empty.
    """

    label: str
    cells: tuple[str, ...]
    kind: str = "measured"
    tones: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table: `headers` are those of the columns after the rows' own."""

    caption: str
    corner: str
    headers: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One `<svg>` document of a figure."""

    title: str
    svg: str


@dataclass(frozen=True)
class Figure:
    """A figure of one or more panels.

    Attributes:
        alt: what the figure shows, for readers who do not see it.
        legend: the series' names, in the order of their styles.
    """

    title: str
    caption: str
    alt: str
    panels: tuple[Panel, ...]
    legend: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Section:
    """One experiment, or what several of them show together.

    Attributes:
        facts: pairs of a name and a value: the model, the data, the training.
        scaled: how it departs from the experiment that `departs_from` names.
        departs_from: the heading above them.
        warnings: what is missing or failed.
        judged: of which network the claims are judged, where it is none of the papers'; else empty.
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    scaled: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    claims: tuple[Claim, ...] = ()
    text: tuple[str, ...] = ()
    judged: str = ""
    departs_from: str = "Not the published experiment in full"


@dataclass(frozen=True)
class Report:
    """The whole. `generated` is a date to print, or empty, so that equal stores give equal reports."""

    title: str
    sections: tuple[Section, ...]
    generated: str = ""
    methods: Sequence[tuple[str, str]] = field(default=())

    @property
    def claims(self) -> list[tuple[Section, Claim]]:
        return [(section, claim) for section in self.sections for claim in section.claims]


class Ids:
    """Ids, or file names, that no two parts of one document share."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def unique(self, text: str) -> str:
        """`text` as an id; where it was given before, with a number."""
        word = re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-") or "part"
        self._used[word] = self._used.get(word, 0) + 1
        return word if self._used[word] == 1 else f"{word}-{self._used[word]}"

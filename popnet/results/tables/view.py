"""A part of a table that is looked at: the rows that were picked, and what their columns are."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from popnet.errors import ConfigError, DataError, nearest
from popnet.results.found import Options
from popnet.results.names import meaning
from popnet.results.tables.cells import Numbers, numbers_of, shown, sort_key
from popnet.results.tables.columns import Role, is_summary, plain, role_of
from popnet.results.tables.files import Table

_GIVEN_ROLES = (("seed_column", "seed"), ("id_column", "example"), ("repeat_column", "repeat"), ("task_column", "task"))


@dataclass(frozen=True)
class View:
    """Rows of a table.

    Attributes:
        rows: int64, positions in the table.
        name: of the runs, for tables.
        picked: columns whose value was picked, so that they say nothing more.
        task: the rows' task, or empty.
    """

    table: Table
    rows: NDArray[np.int64]
    options: Options
    name: str
    picked: frozenset[str] = frozenset()
    task: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def file(self) -> str:
        """The path as it was given, for errors."""
        return self.table.name

    def of(self, rows: Iterable[int]) -> View:
        """The same with other rows, as positions in the table."""
        return replace(self, rows=np.fromiter(rows, np.int64))

    def role(self, column: str) -> Role | None:
        """What the options say of a column, else its name."""
        given: Role
        for option, given in _GIVEN_ROLES:  # type: ignore[assignment]
            if getattr(self.options, option) == column:
                return given
        role = role_of(column)
        return None if role == "setting" and plain(column) == "precision" and self._is_share(column) else role

    def _is_share(self, column: str) -> bool:
        """Whether numbers can be a metric's, and not all the width of a data type, as 16 and 32."""
        numbers = self.table.numbers(column)
        if numbers is None or numbers.kind in ("empty", "truth"):
            return False
        values = numbers.values[np.isfinite(numbers.values)]
        return bool(((values >= 0) & (values <= 100)).all()) and not bool(np.isin(values, (4, 8, 16, 32, 64)).all())

    def of_role(self, *roles: Role) -> list[str]:
        """Columns that play one of these parts, in the table's order, neither picked nor ignored."""
        # an option that names one column takes the part from all others: two seeds tell no more than one
        given = {role: getattr(self.options, option) for option, role in _GIVEN_ROLES}
        return [
            column
            for column in self.table.columns
            if column not in self.picked
            and column not in self.options.ignore
            and (role := self.role(column)) in roles
            and given.get(role or "") in (None, column)
        ]

    def keys(self, column: str) -> list[Hashable | None]:
        """What tells the rows' cells apart: [rows]."""
        every = self.table.keys(column)
        return [every[row] for row in self.rows]

    def distinct(self, column: str) -> list[Hashable | None]:
        """The different keys of a column, in their order."""
        return list(dict.fromkeys(self.keys(column)))

    def varies(self, column: str) -> bool:
        """Whether the rows differ in a column."""
        return len(set(self.keys(column))) > 1

    def numbers(self, column: str) -> Numbers | None:
        """The rows' numbers in a column, or None where one of them is text."""
        found = self.table.numbers(column)
        if found is not None:
            return replace(found, values=found.values[self.rows])
        cells = self.table.columns[column]
        # rows that were left out may hold the text
        return self.table.recognised(column, [cells[row] for row in self.rows])

    def is_text(self, column: str) -> bool:
        """Whether a column holds text: no numbers, no lists, and not nothing."""
        if self.numbers(column) is not None:
            return False
        cells = self.table.columns[column]
        return not any(isinstance(cells[row], list | dict) for row in self.rows)

    def place(self, position: int) -> str:
        """Which row of the file one of the view's rows is."""
        return self.table.place(int(self.rows[position]))

    def places(self, positions: Iterable[int]) -> frozenset[Hashable] | None:
        """What identifies some of the view's rows, by which sources that share them are known; None of no file."""
        if not self.table.path:
            return None
        return frozenset((self.table.path, self.table.number(int(self.rows[position]))) for position in positions)

    def cell(self, column: str, position: int) -> str:
        """A cell for an error's sentence."""
        return shown(self.table.columns[column][self.rows[position]])


def pick(table: Table, value: str | None, options: Options) -> View:
    """The rows that `--where` and `FILE:VALUE` pick.

    Raises:
        ConfigError: no such column or value, or a value in several columns.
        DataError: the table has no rows.
    """
    if not table.rows:
        raise DataError(f"{table.name}: has no rows")
    for option in ("seed_column", "id_column", "repeat_column", "task_column", "cluster", "group"):
        column = getattr(options, option)
        if column is not None:
            table.check_column(column, f"--{option.replace('_', '-')}")
    for column in options.ignore:
        table.check_column(column, "--ignore")
    view = View(table, np.arange(table.rows), options, table.title or table.name)
    for column, wanted in options.where:
        view = _where(view, column, wanted)
    return view if value is None else _valued(view, value)


def groups(view: View) -> list[str]:
    """The different values of `--group`, in their order. Raises ConfigError where none is given, or one is empty."""
    column = view.options.group
    if column is None:
        raise ConfigError(f"{view.file}: name the column of the groups with --group")
    view.table.check_column(column, "--group")
    keys = view.keys(column)
    if None in keys:
        raise DataError(f"{view.file}: {view.place(keys.index(None))}: `{column}` is empty")
    return list(dict.fromkeys(view.cell(column, position) for position in range(len(view))))


def listed(values: Iterable[object], most: int = 6) -> str:
    """Values for a sentence, the first few of many."""
    names = [shown(value) for value in values]
    return (
        ", ".join(names) if len(names) <= most else f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    )


def named(columns: Iterable[str], most: int = 6) -> str:
    """Columns for a sentence."""
    return listed((f"`{column}`" for column in columns), most)


def ways_out(view: View, column: str) -> str:
    """What to do about rows that differ in a column."""
    first = next((key for key in view.distinct(column) if key is not None), "VALUE")
    path = view.file
    pick_one = f"{path}:{shown(first)} or " if view.is_text(column) and view.table.title else ""
    return (
        f"pick rows with {pick_one}--where '{column}={shown(first)}', compare all with --group '{column}', or pool "
        f"them with --ignore '{column}'"
    )


def check_no_summary(view: View, column: str, positions: Iterable[int]) -> None:
    """Raises DataError for a row that sums up others, as the mean below a spreadsheet's runs."""
    keys = view.keys(column)
    summaries = {key for key in set(keys) if is_summary(key)}
    for position in positions if summaries else ():
        if keys[position] in summaries:
            raise DataError(
                f"{view.file}: {view.place(position)}: `{column}` is {keys[position]!r}, as if the row summed up "
                "others: leave such rows out"
            )


def is_known_metric(column: str) -> bool:
    return meaning(column).higher_is_better is not None


def ordered(keys: Iterable[Hashable]) -> list[Hashable]:
    """Keys in ascending order, numbers before texts."""
    return sorted(keys, key=sort_key)


def equal_rows(view: View, column: str, wanted: str) -> NDArray[np.int64]:
    """The rows, as positions in the table, whose cell is a text, or a number written in any way."""
    text, cells = wanted.strip(), view.table.columns[column]
    number = numbers_of([text])
    value = number.values[0] if number is not None and not number.fault and number.kind != "empty" else np.nan
    column_numbers = view.table.numbers(column)
    values = column_numbers.values if column_numbers is not None and not column_numbers.fault else None
    return np.array(
        [row for row in view.rows if str(cells[row]).strip() == text or (values is not None and values[row] == value)],
        np.int64,
    )


def _where(view: View, column: str, wanted: str) -> View:
    view.table.check_column(column, "--where")
    rows = equal_rows(view, column, wanted)
    if not len(rows):
        known = listed(view.distinct(column))
        raise ConfigError(f"{view.file}: no row has {column}={wanted}, as --where asks; its values: {known}")
    return _picked(view, rows, {column}, wanted)


def _picked(view: View, rows: NDArray[np.int64], columns: set[str], value: str) -> View:
    """Rows that have a value in some columns; the value of a task's column is their task."""
    task = value if any(view.role(column) == "task" for column in columns) else view.task
    return replace(view, rows=rows, picked=view.picked | columns, task=task)


def _valued(view: View, value: str) -> View:
    """The rows of one group: `FILE:VALUE`."""
    name = f"{view.name}:{value}"
    if view.options.group is not None:
        rows = equal_rows(view, view.options.group, value)
        if not len(rows):
            known = [str(key) for key in view.distinct(view.options.group)]
            raise ConfigError(f"{view.file}: no `{view.options.group}` is {value!r}; {nearest(value, known)}")
        return replace(_picked(view, rows, {view.options.group}, value), name=name)
    columns = [c for c in view.table.columns if view.role(c) != "prose" and view.is_text(c)]
    found = {column: rows for column in columns if len(rows := equal_rows(view, column, value))}
    if not found:
        numeric = [c for c in view.of_role("setting") if c not in columns and len(equal_rows(view, c, value))]
        if numeric:
            raise ConfigError(f"{view.file}: {value!r} is a number in {named(numeric)}: say --group '{numeric[0]}'")
        raise ConfigError(f"{view.file}: no group is called {value!r}; {_groups(view, columns)}")
    first = next(iter(found.values()))
    if not all(np.array_equal(rows, first) for rows in found.values()):
        raise ConfigError(f"{view.file}: {value!r} is a value of {named(found)}: say which with --group")
    return replace(_picked(view, first, set(found), value), name=name)


def _groups(view: View, columns: Sequence[str]) -> str:
    texts = [c for c in columns if 1 < len(view.distinct(c)) < len(view) or view.role(c) == "setting"]
    if not texts:
        return "no column of text names groups: pick rows with --where COLUMN=VALUE, or name the column with --group"
    return "; ".join(f"`{column}` has {listed(view.distinct(column), 8)}" for column in texts[:4])

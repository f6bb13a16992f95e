"""Tables of others, read as they stand: CSV and TSV, JSON Lines and JSON, Parquet, data frames; strictly or not at all.

A row of another width, two possible delimiters, a column without a name: each is refused, since a guess shifts columns.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.errors import ConfigError, DataError, nearest
from popnet.memory import available_memory
from popnet.results.tables.cells import Cells, Numbers, is_number, key_of, may_be_thousands, numbers_of, without_points
from popnet.untrusted.files import check_regular, read_at_most

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_UNNAMED = re.compile(r"(?:Unnamed: \d+)?")  # pandas calls a column without a name so when it reads one
_MEMORY_OF_A_TEXT = 8
"""A table takes about that many times the memory of its text: short cells, each an object."""


@dataclass(frozen=True)
class Table:
    """A table as it stands.

    Attributes:
        name: the path as it was given, for errors.
        columns: by name, one cell a row: text of a CSV file, plain Python values of JSON, typed NumPy of Parquet and
            data frames.
        rows: how many.
        title: the file's name without its folder, for tables; empty where there is no file.
        marks: what was done to read it, each a clause.
        places: the number of each row in the file, from 1 below the header; None where rows were never left out.
        path: of the file, resolved; empty where there is none.
        delimiter: between cells; empty where there is none.
        restarts: whether an index without a name, which is left out, counts the rows more than once.
    """

    name: str
    columns: Mapping[str, Cells]
    rows: int
    title: str = ""
    marks: tuple[str, ...] = ()
    places: tuple[int, ...] | None = None
    path: str = ""
    delimiter: str = ""
    restarts: bool = False
    _numbers: dict[str, Numbers | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    _keys: dict[str, list[Hashable | None]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of_frame(cls, frame: Any, name: str) -> Table:
        """From a pandas DataFrame. A named index is a column; an unnamed one of integers counts rows and is left out.

        Raises DataError for columns of several levels, or two of one name.
        """
        return _of_frame(frame, name)

    def numbers(self, column: str) -> Numbers | None:
        """A column as numbers, or None where it is text."""
        if column not in self._numbers:
            self._numbers[column] = self.recognised(column, self.columns[column])
        return self._numbers[column]

    def keys(self, column: str) -> list[Hashable | None]:
        """What tells the cells of a column apart, as `key_of` has it: [rows]."""
        if column not in self._keys:
            cells = self.columns[column]
            plain = cells.tolist() if isinstance(cells, np.ndarray) else cells
            if all(type(cell) is str for cell in plain):
                known = {cell: key_of(cell) for cell in set(plain)}
                self._keys[column] = [known[cell] for cell in plain]
            else:
                self._keys[column] = [key_of(cell) for cell in plain]
        return self._keys[column]

    def place(self, row: int) -> str:
        """Which row of the file that is, as in `row 3`."""
        return f"row {self.number(row)}"

    def number(self, row: int) -> int:
        """The number of a row in the file, from 1 below the header."""
        return self.places[row] if self.places else row + 1

    def check_column(self, column: str, option: str) -> None:
        """Raises ConfigError where there is no such column, naming the option that asked for it."""
        if column not in self.columns:
            raise ConfigError(
                f"{self.name}: no column {column!r}, which {option} names; {nearest(column, self.columns)}"
            )

    def taken(self, rows: NDArray[np.int64], columns: Mapping[str, Cells]) -> Table:
        """Some rows of some columns, which still know their place."""
        cells = {
            name: column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows]
            for name, column in columns.items()
        }
        places = tuple(self.number(int(row)) for row in rows)
        return replace(self, columns=cells, rows=len(rows), places=places)

    def recognised(self, column: str, cells: Cells) -> Numbers | None:
        """Some cells of a column as numbers, or None where one is text, by what the other columns say of points."""
        found = numbers_of(cells)
        if found is None or found.fault or isinstance(cells, np.ndarray) or not may_be_thousands(cells):
            return found
        whole = without_points(cells)
        large = any(abs(value) >= 100 for value in map(_value, whole))
        if (self.delimiter == ";" and whole) or (self.delimiter == "\t" and large):
            pointed = next(cell.strip() for cell in cells if isinstance(cell, str) and "." in cell)
            fault = f"holds {whole[0]!r} and {pointed!r}, whose point may divide thousands: write numbers without such"
            return Numbers(found.values, found.kind, fault)
        others = (numbers_of(other) for name, other in self.columns.items() if name != column)
        if not any(other is not None and other.comma for other in others):
            return found
        fault = "writes points where other columns have decimal commas: say which are thousands by leaving these out"
        return Numbers(found.values, found.kind, fault)


def read_table(path: Path) -> Table:
    """A file as a table, by its ending: .csv, .tsv, .txt, .jsonl, .ndjson, .json, each also with .gz, and .parquet.

    Raises:
        DataError: the file is missing, is no text, or does not say beyond doubt which cell belongs to which column.
    """
    return replace(_read(path), path=str(path.resolve()))


def _read(path: Path) -> Table:
    endings = [ending.lower() for ending in path.suffixes]
    packed = endings[-1:] == [".gz"]
    ending = (endings[:-1] if packed else endings)[-1:]
    try:
        check_regular(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a table: {_reason(error)}") from None
    if ending == [".parquet"]:
        return _read_parquet(path)
    text = _text(path, packed)
    if ending == [".json"]:
        return _of_json(path, text)
    if ending in ([".jsonl"], [".ndjson"]):
        return _of_json_lines(path, text)
    return _of_delimited(path, text, "\t" if ending == [".tsv"] else None)


def _value(text: str) -> float:
    found = numbers_of([text])
    return 0.0 if found is None else float(found.values[0])


# Text of any encoding that says which it is.


def _text(path: Path, packed: bool) -> str:
    most = available_memory() // (2 * _MEMORY_OF_A_TEXT)
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            content = read_at_most(file, most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as a table: {_reason(error)}") from None
    if len(content) > most:
        raise DataError(f"{path}: has more than {most:,} bytes of text, which would fill half of the available memory")
    encoding = "utf-8-sig"
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        encoding = "utf-32"
    elif content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not {encoding.upper()[:6].rstrip('-')}: save the file as UTF-8"
        ) from None
    if "\0" in text:
        raise DataError(f"{path}: holds NUL characters, as UTF-16 without a mark has: save the file as UTF-8")
    return text


def _reason(error: Exception) -> str:
    return "there is no such file" if isinstance(error, FileNotFoundError) else str(error)


# Delimited text.

_Lines = list[tuple[int, list[str]]]


def _of_delimited(path: Path, text: str, delimiter: str | None) -> Table:
    declared = re.match(r'"?sep=(.)"?\r?\n', text)  # the line that Excel reads and writes
    if declared:
        delimiter, text = declared[1], "\n" + text[declared.end() :]  # a blank line, which is skipped and counted
    delimiter, lines = _split(path, text, delimiter)
    if not lines:
        raise DataError(f"{path}: is empty")
    lines, marks = _without_trailing(lines)
    _check_width(path, lines)
    header = [cell.strip() for cell in lines[0][1]]
    if all(is_number(cell) for cell in header):
        return _bare_numbers(path, header, lines)
    names, body = header, [row for _, row in lines[1:]]
    columns: dict[str, list[str]] = {}
    for position, name in enumerate(names):
        cells = [row[position] for row in body]
        if _UNNAMED.fullmatch(name):
            _check_unnamed(path, position, cells)
            continue
        if name in columns:
            raise DataError(f"{path}: two columns are called {name!r}: give each a name of its own")
        columns[name] = cells
    columns = _named(path, columns)
    return Table(str(path), columns, len(body), path.name, marks, delimiter=delimiter)


def _split(path: Path, text: str, delimiter: str | None) -> tuple[str, _Lines]:
    """The only delimiter that fits all lines, and the cells of each line that is not blank, with its number."""
    if delimiter is not None:
        return delimiter, _cells(path, text, delimiter)
    first = next((line for line in text.splitlines() if line.strip()), "")
    candidates = [one for one in _DELIMITERS if one in first]
    fits: dict[str, _Lines] = {}
    for one in candidates:
        try:
            lines = _cells(path, text, one)
        except DataError:
            continue
        whole, _ = _without_trailing(lines)
        if whole and len(whole[0][1]) > 1 and len({len(row) for _, row in whole}) == 1:
            fits[one] = lines
    if len(fits) > 1:
        names = " and by ".join(_DELIMITERS[one] for one in fits)
        raise DataError(f"{path}: its lines can be split by {names}: save it with a tab between cells, as .tsv")
    if fits:
        return next(iter(fits.items()))
    if candidates:  # one that is in the header and fits not all lines: the error names the first that it does not fit
        likely = max(candidates, key=first.count)
        return likely, _cells(path, text, likely)
    whole = _cells(path, text, ",")
    words = {len(row[0].split()) for _, row in whole if len(row) == 1}
    if len(whole) > 1 and len(words) == 1 and words.pop() > 1 and all(is_number(w) for w in whole[1][1][0].split()):
        raise DataError(f"{path}: its cells are parted by spaces alone: save it with a tab between cells, as .tsv")
    return (",", whole) if any(len(row) > 1 for _, row in whole) else ("", _cells(path, text, "\t"))


def _cells(path: Path, text: str, delimiter: str) -> _Lines:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    lines = []
    try:
        for row in reader:
            if row and (row[0].strip() or any(cell.strip() for cell in row)):
                lines.append((reader.line_num, row))
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} cannot be read: {error}") from None
    return lines


def _without_trailing(lines: _Lines) -> tuple[_Lines, tuple[str, ...]]:
    """Without the empty cell that a delimiter at the end of every line makes."""
    if len(lines) < 2:
        return lines, ()
    header, width = lines[0][1], len(lines[1][1])
    if width < 2 or not all(len(row) == width and not row[-1].strip() for _, row in lines[1:]):
        return lines, ()
    if len(header) == width and not header[-1].strip():
        lines = [(number, row[:-1]) for number, row in lines]
    elif len(header) == width - 1:
        lines = [lines[0], *((number, row[:-1]) for number, row in lines[1:])]
    else:
        return lines, ()
    return lines, ("a delimiter at the end of each line was left out",)


def _check_width(path: Path, lines: _Lines) -> None:
    width = len(lines[0][1])
    if len(lines) > 1 and all(len(row) == width + 1 for _, row in lines[1:]):
        raise DataError(
            f"{path}: the header has {width} names and every line {width + 1} cells: give the first column, the rows' "
            "names, a name too (in R: write.csv(..., row.names = FALSE))"
        )
    for number, row in lines:
        if len(row) != width:
            raise DataError(f"{path}: line {number} has {len(row)} cells, and the header {width}")


def _bare_numbers(path: Path, header: list[str], lines: _Lines) -> Table:
    if len(header) > 1:
        raise DataError(f"{path}: its first line is all numbers: give the {len(header)} columns names in a first line")
    if header[0] == "0" and len(lines) > 1:  # so pandas writes a Series without a name
        raise DataError(f"{path}: its first line, 0, is a number or pandas' name of the column: write a name there")
    return Table(str(path), {"value": [row[0] for _, row in lines]}, len(lines), path.name)


def _check_unnamed(path: Path, position: int, cells: Sequence[Any]) -> None:
    """That a column without a name holds nothing, or is the first and counts the rows, as pandas writes it."""
    if all(isinstance(cell, str) and not cell.strip() for cell in cells):
        return
    keys = [key_of(cell) for cell in cells]
    if not position and _restarts(keys):
        raise DataError(
            f"{path}: its first column has no name and counts the rows more than once, as histories one below the "
            "other do: name it, and add a seed column"
        )
    if position or not any(keys == list(range(start, start + len(keys))) for start in (0, 1)):
        raise DataError(f"{path}: column {position + 1} has no name: name it, or leave it out")


def _restarts(keys: Sequence[Hashable | None]) -> bool:
    """Whether an index holds numbers of rows more than once, as those of tables one below the other do."""
    # tables of one row each have 0 everywhere
    return all(type(key) is int for key in keys) and 1 < len(set(keys)) < len(keys)


def _named(path: Path, columns: dict[str, list[str]]) -> dict[str, list[str]]:
    """The columns, where none is called by a number: that would be a first row, or one column for each seed."""
    if list(columns) == ["0"]:  # pandas' name of a Series without one, its row numbers left out
        return {"value": columns["0"]}
    for name in columns:
        if is_number(name):
            raise DataError(
                f"{path}: a column is called {name!r}: the first line must name the columns, and each run have a row"
            )
    return columns


# JSON.


def _of_json(path: Path, text: str) -> Table:
    from popnet.untrusted.texts import parse_json

    try:
        content = parse_json(text, most=max(len(text), 1))
    except ValueError as error:
        raise DataError(f"{path}: is no JSON: {error}") from None
    if isinstance(content, dict) and content and all(isinstance(cells, list) for cells in content.values()):
        return _of_lists(path, content)
    if not isinstance(content, list):
        raise DataError(f"{path}: must hold a list of objects, one a run or an example, not {_named_kind(content)}")
    return _of_objects(path, content, [f"entry {number}" for number in range(1, len(content) + 1)])


def _of_json_lines(path: Path, text: str) -> Table:
    from popnet.untrusted.texts import parse_json

    objects, places = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                objects.append(parse_json(line, most=max(len(text), 1)))
            except ValueError as error:
                raise DataError(f"{path}: line {number} is no JSON: {error}") from None
            places.append(f"line {number}")
    return _of_objects(path, objects, places)


def _of_lists(path: Path, content: dict[str, list[Any]]) -> Table:
    lengths = {len(cells) for cells in content.values()}
    if len(lengths) > 1:
        raise DataError(f"{path}: its lists have different lengths, {min(lengths)} to {max(lengths)}")
    return Table(str(path), content, lengths.pop(), path.name)


def _of_objects(path: Path, objects: list[Any], places: list[str]) -> Table:
    if not objects:
        raise DataError(f"{path}: is empty")
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in objects):
        return Table(str(path), {"value": objects}, len(objects), path.name)
    columns: dict[str, list[Any]] = {}
    for row, (one, place) in enumerate(zip(objects, places)):
        if not isinstance(one, dict):
            raise DataError(f"{path}: {place} is {_named_kind(one)}, not an object with the names of its values")
        flat: dict[str, Any] = {}
        try:
            _flatten(one, "", flat)
        except (RecursionError, KeyError) as error:
            what = "is nested too deeply" if isinstance(error, RecursionError) else f"holds {error} twice"
            raise DataError(f"{path}: {place} {what}") from None
        for name, cell in flat.items():
            columns.setdefault(name, [None] * len(objects))[row] = cell
    return Table(str(path), columns, len(objects), path.name)


def _flatten(one: Mapping[str, Any], prefix: str, flat: dict[str, Any]) -> None:
    for name, value in one.items():
        whole = f"{prefix}{name}".strip()
        if isinstance(value, dict) and value:
            _flatten(value, f"{whole}.", flat)
        elif whole in flat:
            raise KeyError(whole)
        else:
            flat[whole] = value


def _named_kind(value: Any) -> str:
    kinds = {"dict": "an object", "list": "a list", "str": "a text", "NoneType": "null", "bool": "a truth value"}
    return kinds.get(type(value).__name__, "a number")


# Parquet and data frames.


def _read_parquet(path: Path) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(f"{path}: Parquet files need pyarrow: pip install popnet[parquet]") from None
    try:
        with parquet.ParquetFile(path) as file:
            meta = file.metadata
            groups = sum(meta.row_group(group).total_byte_size for group in range(meta.num_row_groups))
            most = available_memory() // 2
            # what is repeated takes almost nothing in the file, and a cell each in the table
            if max(groups * 2, meta.num_rows * meta.num_columns * _MEMORY_OF_A_TEXT * 8) > most:
                raise DataError(f"{path}: would fill more than half of the available memory")
            table = file.read()
            indices = _named_ranges(table.schema.metadata or {})
            while any(str(column.type).startswith("struct") for column in table.columns):
                table = table.flatten()
    except (OSError, ValueError, TypeError, ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {' '.join(str(error).split())}") from None
    columns: dict[str, Cells] = {name: cells for name, cells in indices.items() if len(cells) == table.num_rows}
    restarts = False
    for position, name in enumerate(table.column_names):
        cells = _of_arrow(table.column(position))
        if re.fullmatch(r"__index_level_\d+__", name):  # pandas' index without a name
            if not all(isinstance(cell, int | np.integer) for cell in cells):
                raise DataError(f"{path}: its index has no name: name it, or leave it out")
            restarts = _restarts([int(cell) for cell in cells])
            continue
        if name in columns:
            raise DataError(f"{path}: two columns are called {name!r}: give each a name of its own")
        columns[name] = cells
    return Table(str(path), columns, table.num_rows, path.name, restarts=restarts)


def _named_ranges(metadata: Mapping[bytes, bytes]) -> dict[str, Cells]:
    """The indices with names that pandas does not store as columns, since they are ranges."""
    from popnet.untrusted.texts import parse_json

    content = parse_json(metadata.get(b"pandas", b"{}"))
    indices = content.get("index_columns", []) if isinstance(content, dict) else []
    ranges = [one for one in indices if isinstance(one, dict) and one.get("name") is not None]
    return {str(one["name"]): range(*(int(one.get(end, 0)) for end in ("start", "stop", "step"))) for one in ranges}


def _of_arrow(column: Any) -> Cells:
    kind = str(column.type)
    if not column.null_count and kind in (
        "bool",
        "float",
        "double",
        *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)),
    ):
        return np.asarray(column.to_numpy())
    cells: list[Any] = column.to_pylist()
    return cells


def _of_frame(frame: Any, name: str) -> Table:
    if getattr(frame.columns, "nlevels", 1) > 1:
        raise DataError(f"{name}: its columns have several levels: give one name to each")
    columns: dict[str, Cells] = {}
    index, restarts = frame.index, False
    for level, title in enumerate(index.names):
        values = index.get_level_values(level)
        if title is not None:
            columns[str(title)] = _of_series(values)
        elif values.dtype.kind not in "iu":
            columns["(index)"] = _of_series(values)
        else:
            restarts = _restarts(values.tolist())
    for position, title in enumerate(frame.columns):
        if str(title) in columns:
            raise DataError(f"{name}: two columns are called {str(title)!r}: give each a name of its own")
        columns[str(title)] = _of_series(frame.iloc[:, position])
    return Table(name, columns, len(frame), restarts=restarts)


def _of_series(series: Any) -> Cells:
    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "biuf":
        return np.asarray(series.to_numpy())
    return [None if missing else value for value, missing in zip(series.tolist(), series.isna())]

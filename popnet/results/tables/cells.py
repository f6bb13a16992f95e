"""Cells of tables as numbers, and as what tells rows apart: in exact forms, refused where two are possible."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Cells = Sequence[Any] | NDArray[Any]
Kind = Literal["truth", "whole", "real", "empty"]

_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_THOUSAND = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:(?:,\d{3})+\.\d+|(?:,\d{3}){2,}|(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})")
_POINT_THOUSAND = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_KEY = re.compile(r"(-?(?:0|[1-9]\d{0,17}))(?:\.0)?")
_MISSING = frozenset(("", "na", "n/a", "#n/a", "null", "none", "<na>", "nat", "-"))
_TRUTH = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Numbers:
    """A column as numbers.

    Attributes:
        values: float64 [rows]; NaN where a cell is missing.
        kind: `truth` of true and false, `whole` where all are integers, `real`, or `empty` where all cells are missing.
        fault: why the numbers cannot be told, a clause; empty where they can.
        mark: what was recognised, a clause, or empty.
        percent: every cell has a percent sign, which the values lack.
        comma: the column has decimal commas.
    """

    values: NDArray[np.float64]
    kind: Kind
    fault: str = ""
    mark: str = ""
    percent: bool = False
    comma: bool = False


def numbers_of(cells: Cells) -> Numbers | None:
    """A column as numbers, or None where a cell is text."""
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "biuf":
        values = cells.astype(np.float64)
        return Numbers(values, "truth" if cells.dtype.kind == "b" else _kind(values))
    fast = _plain_numbers(cells)
    return fast if fast is not None else _any_numbers(list(cells))


def is_number(text: str) -> bool:
    """Whether a text is a number in one of the forms that are recognised."""
    word = text.strip().removesuffix("%")
    return any(form.fullmatch(word) for form in (_PLAIN, _COMMA, _GROUPED, _NOT_FINITE))


def may_be_thousands(cells: Cells) -> bool:
    """Whether all points of a column, as in 1.234, may divide thousands."""
    points = [cell.strip() for cell in cells if isinstance(cell, str) and "." in cell]
    return bool(points) and all(_POINT_THOUSAND.fullmatch(text) for text in points)


def without_points(cells: Cells) -> list[str]:
    """The numbers of a column that are written without a point."""
    texts = (cell.strip() for cell in cells if isinstance(cell, str))
    return [text for text in texts if "." not in text and text.lower() not in _MISSING]


def answer_of(cell: Any) -> Hashable | None:
    """What tells answers apart where labels are numbers or truth values: "7.00" is 7, "TRUE" is True.

    Raises ValueError, a clause, for a number that may be read in two ways, as "1,200".
    """
    found = numbers_of([cell])
    if found is None or found.kind == "empty":
        return key_of(cell)
    if found.fault:
        raise ValueError(found.fault)
    value = float(found.values[0])
    if found.percent:
        return f"{value:.12g}%"
    if found.kind == "truth":
        return bool(value)
    return int(value) if value.is_integer() and abs(value) < 1 << 53 else key_of(cell)


def key_of(cell: Any) -> Hashable | None:
    """What tells a cell from others: "1", 1 and 1.0 are the integer 1; text is stripped; None where it is empty."""
    if isinstance(cell, str):
        text = cell.strip()
        whole = _KEY.fullmatch(text)
        return int(whole[1]) if whole else text or None
    if cell is None or isinstance(cell, bool | int):
        return cell
    if isinstance(cell, float):
        return None if math.isnan(cell) else int(cell) if cell.is_integer() else cell
    return json.dumps(cell, sort_keys=True, default=str) if isinstance(cell, list | dict) else str(cell)


def sort_key(key: Hashable) -> tuple[bool, Any]:
    """Numbers in their order before texts in theirs."""
    return (False, key) if isinstance(key, bool | int | float) else (True, str(key))


def shown(cell: Any) -> str:
    """A cell for an error's sentence."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return "empty"
    text = cell.strip() if isinstance(cell, str) else str(cell)
    return text if len(text) <= 60 else text[:57] + "..."


def _plain_numbers(cells: Cells) -> Numbers | None:
    """The common case, at the speed of `float`: all cells are numbers as Python writes them."""
    if not all(type(cell) is str for cell in cells):
        return None
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return None
    if any("_" in cell or not cell.isascii() for cell in cells):  # float() takes 1_000 and other scripts' digits
        return None
    return Numbers(values, _kind(values)) if len(values) else None


def _any_numbers(cells: list[Any]) -> Numbers | None:
    values = np.full(len(cells), np.nan)
    first: dict[str, str] = {}  # of each form, the first cell
    percents = filled = 0
    for row, cell in enumerate(cells):
        form, value = _number(cell)
        if form == "text":
            return None
        if form != "missing":
            filled += 1
            percents += isinstance(cell, str) and cell.rstrip().endswith("%")
            first.setdefault(form, shown(cell))
            values[row] = value
    if not filled:
        return Numbers(values, "empty")
    fault = _fault(first, percents, filled)
    comma = "comma" in first
    marks = [what for what, is_so in (("decimal commas", comma), ("percent signs", percents > 0)) if is_so]
    kind: Kind = "truth" if "truth" in first else _kind(values[~np.isnan(values)]) if not comma else "real"
    return Numbers(values, kind, fault, " and ".join(marks), percents > 0, comma)


def _fault(first: dict[str, str], percents: int, filled: int) -> str:
    if "grouped" in first:
        return f"holds {first['grouped']!r}: write numbers without thousands separators"
    if "truth" in first and len(first) > 1:
        number = next(text for form, text in first.items() if form != "truth")
        return f"holds both {first['truth']!r} and {number!r}: write one kind of value"
    commas = first.get("comma") or first.get("thousand")
    if commas and "point" in first:
        return f"holds both {first['point']!r} and {commas!r}: write all numbers with a decimal point"
    if commas and "comma" not in first:
        return f"holds {commas!r}, which may be thousands or a decimal comma: write it with a decimal point"
    if 0 < percents < filled:
        return "has a percent sign in some rows and none in others"
    return ""


def _number(cell: Any) -> tuple[str, float]:
    """The form of one cell, and its value."""
    if cell is None:
        return "missing", math.nan
    if isinstance(cell, bool | np.bool_):
        return "truth", float(cell)
    if isinstance(cell, int | float | np.number | Decimal):
        try:
            return "number", float(cell)
        except OverflowError:
            return "number", math.inf
    if not isinstance(cell, str):
        return "text", math.nan
    return _number_of_text(cell.strip())


def _number_of_text(text: str) -> tuple[str, float]:
    low = text.lower()
    if low in _MISSING:
        return "missing", math.nan
    if low in _TRUTH:
        return "truth", _TRUTH[low]
    word = text.removesuffix("%").rstrip()
    if not word.isascii():
        return "text", math.nan
    if _PLAIN.fullmatch(word):
        return "point" if "." in word else "number", float(word)
    if _NOT_FINITE.fullmatch(word):
        return "number", float(word)
    if _GROUPED.fullmatch(word):
        return "grouped", math.nan
    if _COMMA.fullmatch(word):
        return "thousand" if _THOUSAND.fullmatch(word) else "comma", float(word.replace(",", "."))
    return "text", math.nan


def _kind(values: NDArray[np.float64]) -> Kind:
    return "whole" if bool((values == np.floor(values)).all()) and bool(np.isfinite(values).all()) else "real"

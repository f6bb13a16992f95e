"""Answers for machines: JSON on standard output, and nothing else there."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np


def write(answer: Any) -> None:
    """Print one JSON document, indented, with a line's end."""
    sys.stdout.write(json.dumps(plain(answer), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """As JSON knows it: a dataclass is an object of its fields, a table a list of rows; what is not finite is null."""
    pandas = sys.modules.get("pandas")  # no table without it, and its import takes longer than most answers
    if pandas is not None and isinstance(value, pandas.DataFrame):
        named = value.reset_index() if value.index.name else value
        return [{str(name): plain(cell) for name, cell in row.items()} for row in named.to_dict("records")]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, Sequence | set | frozenset):
        return [plain(part) for part in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")

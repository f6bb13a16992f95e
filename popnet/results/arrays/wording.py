"""Arrays and their names in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from popnet.results.arrays.files import StoredArray


def plain_key(key: str) -> str:
    """A key in lower case, its words joined by `_`."""
    return key.lower().replace("-", "_").replace(" ", "_")


def form(array: StoredArray) -> str:
    """Type and shape, for a sentence."""
    return f"{array.dtype.name} {list(array.shape)}"


def listed(names: Mapping[str, Any] | Sequence[str]) -> str:
    """The first names, for a sentence."""
    shown = [f"`{name}`" for name in list(names)[:8]]
    return ", ".join(shown) + (f" and {len(names) - 8} more" if len(names) > 8 else "")

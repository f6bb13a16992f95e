"""Results as tables and figures, beside the published ones.

The names here are imported when first used: an answer about two small files does not wait for pandas.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from popnet.report.tables import published, published_references, render

__all__ = ["published", "published_references", "render"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("popnet.report.tables"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

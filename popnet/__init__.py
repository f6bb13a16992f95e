"""popnet trains populations of small neural networks, bit for bit reproducibly, and says what varies and why.

The names here are imported when first used, so that `import popnet` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from popnet import data, metrics, models, random, training
    from popnet.api import run
    from popnet.config import Experiment, load
    from popnet.engine import Result, plan
    from popnet.errors import ConfigError, DataError, PopnetError, StoreError, TrainingError
    from popnet.questions import compare, measure, power
    from popnet.store import Store, open_store

__version__ = "0.1.0"

_HOME = {
    "load": "config",
    "Experiment": "config",
    "plan": "engine",
    "run": "api",
    "compare": "questions",
    "measure": "questions",
    "power": "questions",
    "Result": "engine",
    "Store": "store",
    "open_store": "store",
    "PopnetError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "StoreError": "errors",
    "TrainingError": "errors",
}
_MODULES = ("data", "metrics", "models", "random", "training")

__all__ = [
    "ConfigError",
    "DataError",
    "Experiment",
    "PopnetError",
    "Result",
    "Store",
    "StoreError",
    "TrainingError",
    "compare",
    "data",
    "load",
    "measure",
    "metrics",
    "models",
    "open_store",
    "plan",
    "power",
    "random",
    "run",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"popnet.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"popnet.{name}")
    raise AttributeError(f"module 'popnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""The loaders under test: for each, valid files, changes of its own format, and what it is to read."""

from __future__ import annotations

import importlib
import random
from abc import ABC, abstractmethod
from pathlib import Path

from popnet.errors import PopnetError

from .mutation import Change, mutated

FAULTY = "faulty"
"""A loader that fails in every way, for the test of the harness."""

_KINDS = {
    "yaml": ("experiments", "Experiments"),
    "ledger": ("ledger", "Ledger"),
    "safetensors": ("arrays", "Safetensors"),
    "beton": ("beton", "BetonHeader"),
    "npy": ("arrays", "Npy"),
    "tables": ("results", "Tables"),
    "logs": ("results", "Logs"),
    FAULTY: ("faulty", "Faulty"),
}
NAMES = tuple(name for name in _KINDS if name != FAULTY)


class Loader(ABC):
    """A loader and its inputs, in a folder of its own.

    Attributes:
        samples: valid files.
        changes: to such files, beyond what `mutation` does to any.
    """

    samples: tuple[bytes, ...]
    changes: tuple[Change, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def load(self, content: bytes, number: int) -> None:
        """Read the content in every way that popnet reads such a file. Raises PopnetError where it is refused."""

    def input(self, seed: int, number: int) -> bytes:
        """The input of this number, which follows from its arguments alone."""
        draw = random.Random(f"{seed} {number}")
        return mutated(draw, draw.choice(self.samples), self.changes)

    def warm_up(self) -> None:
        """Read the valid files; a reader may say that one is not for it, and never that it cannot be read."""
        for sample in self.samples:
            try:
                self.load(sample, 0)
            except PopnetError as error:
                if "cannot be read" in str(error):
                    raise


def make(name: str, folder: Path) -> Loader:
    """The loader of one of `NAMES`; its module alone is imported."""
    module, kind = _KINDS[name]
    found: type[Loader] = getattr(importlib.import_module(f".{module}", __package__), kind)
    return found(folder)

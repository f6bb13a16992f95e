"""Errors that popnet raises on purpose: each is one sentence that names what is wrong and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PopnetError(Exception):
    """Base of every error that popnet raises on purpose; the command line prints it without a traceback."""


class ConfigError(PopnetError):
    """An experiment, override or argument is wrong; raised before any training."""


class DataError(PopnetError):
    """A data set is missing or malformed."""


class StoreError(PopnetError):
    """A store cannot be used: in use, of another experiment or format, damaged, or out of space."""


class TrainingError(PopnetError):
    """A member could not be trained (a loss that is not finite, an operation without a deterministic form)."""


class DeviceTooSmall(PopnetError):
    """A device cannot train one more member at the same time as those that it trains already."""


class CaptureFailed(PopnetError):
    """A CUDA graph could not be captured, which leaves PyTorch's memory pools in this process unusable."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A clause that proposes the nearest known words, or lists them all where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(name) for name in near) + "?"
    return "known: " + ", ".join(names)

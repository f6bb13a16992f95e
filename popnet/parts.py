"""A program's own objects in a recipe, from Python: a model's function, a loss, an optimiser, arrays.

A recipe names such a part `<program>:NAME@DIGEST`, with the digest of `popnet.identity`: equal names are equal parts,
and changed code is another member. The objects themselves go from the program to its workers, by cloudpickle, and
nowhere else: a store keeps their names alone, so reading one runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import cloudpickle

from popnet.errors import ConfigError
from popnet.identity import identity

PROGRAM = "<program>"
"""Stands in a recipe where the module of an import path would."""

_DIGITS = 24


@dataclass(frozen=True)
class Parts:
    """Objects by NAME@DIGEST: `functions`, which workers need, and `datasets`, which they map from shared memory."""

    functions: Mapping[str, Any] = field(default_factory=dict)
    datasets: Mapping[str, Any] = field(default_factory=dict)
    packed: Mapping[str, bytes] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "packed", {key: _packed(key, part) for key, part in self.functions.items()})


_NOTHING = Parts()

_present: ContextVar[Parts] = ContextVar("_present", default=_NOTHING)
"""The driver's, while a run of theirs goes on."""

_received: dict[str, bytes] = {}
_unpacked: dict[str, Any] = {}
"""A worker's, for as long as it lives: what its driver sent, and of that what was asked for."""


def key(part: Any, name: str = "") -> str:
    """NAME@DIGEST of a function, a class or another object that can be called. Raises ConfigError."""
    name = name or getattr(part, "__name__", type(part).__name__)
    return f"{name}@{identity(part, name)[:_DIGITS]}"


@contextmanager
def present(parts: Parts) -> Iterator[None]:
    """While the block runs, recipes that name these parts find them, here and in the workers that are started."""
    token = _present.set(parts)
    try:
        yield
    finally:
        _present.reset(token)


def packed() -> Mapping[str, bytes]:
    """The functions that are present, for `receive` in another process."""
    return _present.get().packed


def handed_on() -> Mapping[str, bytes]:
    """What a worker was sent, or a driver would send, for `receive` in a process that it starts itself."""
    return {**_received, **packed()}


def receive(sent: Mapping[str, bytes]) -> None:
    """Take over a driver's parts."""
    _received.update(sent)


def find(wanted: str) -> Any:
    """The part of this NAME@DIGEST.

    Raises:
        ConfigError: it is not here, or has become another on its way.
    """
    here = _present.get()
    if wanted in here.functions:
        return here.functions[wanted]
    if wanted in here.datasets:
        dataset = here.datasets[wanted]
        return lambda: dataset  # as the function behind an import path would
    if wanted not in _unpacked:
        if wanted not in _received:
            raise ConfigError(
                f"{PROGRAM}:{wanted} was handed over by a Python program, and nothing else can train it: call "
                "popnet.run there again, or put it into a module and name it by 'import'"
            )
        _unpacked[wanted] = _checked(wanted, _received[wanted])
    return _unpacked[wanted]


def _packed(key: str, part: Any) -> bytes:
    try:
        return bytes(cloudpickle.dumps(part))
    except Exception as error:  # an object's own method may raise anything
        raise ConfigError(f"{key.partition('@')[0]}: cannot be sent to a worker process: {error}") from error


def _checked(wanted: str, sent: bytes) -> Any:
    name = wanted.rpartition("@")[0]
    try:
        part = cloudpickle.loads(sent)
    except Exception as error:
        raise ConfigError(f"{name}: a worker process cannot make it: {type(error).__name__}: {error}") from error
    if key(part, name) != wanted:
        raise ConfigError(
            f"{name}: a worker process finds other code than the program has: a module of it was changed after it was "
            "imported: start the program again"
        )
    return part

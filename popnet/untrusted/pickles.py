"""Pickles of plain data and arrays of bytes, as CIFAR's python batches are: read without running anything.

A pickle is a program for a small machine. Only the instructions that build plain data are carried out, and the names
that NumPy's arrays are pickled by stand for what is defined here: nothing of the file's choice is imported or called.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

_INSTRUCTIONS = """
    PROTO FRAME MARK STOP POP POP_MARK INT BININT BININT1 BININT2 LONG LONG1 NONE NEWTRUE NEWFALSE STRING BINSTRING
    SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_DICT
    EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 GLOBAL STACK_GLOBAL MEMOIZE
    BINPUT LONG_BINPUT PUT GET BINGET LONG_BINGET
"""
_MOST_DIMENSIONS = 8
_COPIES = 2
"""Of its content, that reading a pickle may make: text that stands for bytes becomes bytes, and these an array."""


class _ByteType:
    """A dtype: of unsigned bytes, or the pickle is refused."""

    def __init__(self, code: Any, *rest: Any) -> None:
        if type(code) is not str or code not in ("u1", "|u1", "B"):
            told = repr(code[:20]) if type(code) is str else "that is no text"
            raise ValueError(f"an array of type {told}, and unsigned bytes are read")

    def set_state(self, state: Any) -> None:
        """Byte order and the like, which bytes have none of."""


class _Array:
    """An array whose content comes after it."""

    def __init__(self) -> None:
        self.value: NDArray[np.uint8] | None = None

    def set_state(self, state: Any) -> None:
        _, shape, kind, in_columns, content = state
        self.value = _array_of(content, kind, shape, in_columns)


def _array_of(content: Any, kind: Any, shape: Any, in_columns: bool) -> NDArray[np.uint8]:
    if type(content) not in (bytes, bytearray, str):  # bytes(n) makes n of them
        raise ValueError(f"an array of {type(content).__name__}, and unsigned bytes are read")
    data = content.encode("latin1") if isinstance(content, str) else bytes(content)  # Python 2's strings are bytes
    plain = (
        isinstance(shape, tuple) and len(shape) <= _MOST_DIMENSIONS and all(type(n) is int and n >= 0 for n in shape)
    )
    if not isinstance(kind, _ByteType) or not plain or math.prod(shape) != len(data):
        raise ValueError("an array whose bytes are not as many as its shape says")
    return np.frombuffer(data, np.uint8).reshape(shape, order="F" if in_columns else "C")


def _encoded(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or type(encoding) is not str or encoding != "latin1":
        raise ValueError("bytes that are no text in the encoding latin1")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _ByteType,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encoded,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: _Array() for core in ("core", "_core")},
    **{
        (f"numpy.{core}.numeric", "_frombuffer"): lambda content, kind, shape, order: _array_of(
            content, kind, shape, order == "F"
        )
        for core in ("core", "_core")
    },
}


class _Machine(pickle._Unpickler):
    """Python's own, whose memory is a mapping and not a table as long as the file says, with fewer instructions."""

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")  # type: ignore[call-arg]
        self._left = _COPIES * len(content)

    def _count(self, made: Any) -> None:
        """What was made of the content: a few bytes of a pickle can ask for the same again and again."""
        self._left -= len(made) if isinstance(made, bytes) else made.nbytes if isinstance(made, np.ndarray) else 0
        if self._left < 0:
            raise ValueError("it makes more of its content than it holds")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise ValueError(f"it names {f'{module}.{name}'[:100]!r}, and reading it would run code")
        return _KNOWN[module, name]

    def build(self) -> None:
        """Give a state to an array or a type, and to nothing else."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _ByteType):
            raise ValueError("it sets the state of what is no array")
        self.stack[-1].set_state(state)
        self._count(getattr(self.stack[-1], "value", None))

    def reduce(self) -> None:
        """Call one of the names that stand for something here."""
        arguments = self.stack.pop()
        self.stack[-1] = self.stack[-1](*arguments)
        self._count(self.stack[-1])

    def enter(self, items: list[Any]) -> None:
        """Put keys and values into the mapping on top."""
        mapping = self.stack[-1]
        if type(mapping) is not dict or len(items) % 2:
            raise ValueError("it sets the items of what is no mapping")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) not in (str, bytes, int):  # nested tuples take for ever to hash, or all of the stack
                raise ValueError(f"a key is {type(key).__name__}, and text or numbers are keys")
            mapping[key] = value

    def dictionary(self) -> None:
        """A mapping of what lies above the mark."""
        items = self.pop_mark()
        self.append({})
        self.enter(items)

    def item(self) -> None:
        """One key with its value."""
        value, key = self.stack.pop(), self.stack.pop()
        self.enter([key, value])

    def items(self) -> None:
        """The keys and values above the mark."""
        self.enter(self.pop_mark())

    def array_of_bytes(self) -> None:
        """As Python's, which would set aside as much memory as the file says."""
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch: ClassVar[dict[int, Any]] = {
        **{
            getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
            for name in _INSTRUCTIONS.split()
        },
        pickle.DICT[0]: dictionary,
        pickle.SETITEM[0]: item,
        pickle.SETITEMS[0]: items,
        pickle.BUILD[0]: build,
        pickle.REDUCE[0]: reduce,
        pickle.BYTEARRAY8[0]: array_of_bytes,
    }


def parse_pickle(content: bytes) -> dict[str, Any]:
    """The mapping that a pickle holds: its keys as text; lists, numbers and text in it, and uint8 arrays.

    Raises ValueError: anything else is in it, or it is damaged.
    """
    try:
        made = _Machine(content).load()
    except ValueError as error:
        raise ValueError(str(error) or "damaged") from None
    except Exception as error:  # what is not a pickle fails in any way
        raise ValueError(f"no pickle of plain data: {type(error).__name__}") from None
    if not isinstance(made, dict):
        raise ValueError(f"holds no mapping, but {type(made).__name__}")
    text = {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in made.items()}
    return {key: value.value if isinstance(value, _Array) else value for key, value in text.items()}

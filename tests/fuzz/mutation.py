"""Changes to a valid file: of its bytes, and of what its format makes of them."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable

LARGEST = 1 << 16
"""Bytes of an input."""

_NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    127,
    128,
    255,
    256,
    1 << 15,
    (1 << 16) - 1,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
)
_LARGE = (*_NUMBERS, 1 << 40, 1 << 53, (1 << 62) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_WORDS = (
    b"", b"null", b"true", b"NaN", b"-1", b"1e999", b"99999999999999999999", b"..", b"../../etc/passwd", b"\0", b"'",
    b'"', b"\xff\xfe", "\U0001f600".encode(), b"${oc.env:HOME}", b"${", b"{}", b"[]", b"[[[[", b"{\"a\":", b"A" * 300,
)  # fmt: skip

Change = Callable[[random.Random, bytearray], None]


def _flip(draw: random.Random, content: bytearray) -> None:
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


def _replace(draw: random.Random, content: bytearray) -> None:
    content[draw.randrange(len(content))] = draw.randrange(256)


def _number(draw: random.Random, content: bytearray) -> None:
    """A number in the file's own binary form."""
    code = draw.choice(("<B", "<H", "<I", "<Q", ">H", ">I"))
    size = struct.calcsize(code)
    place = draw.randrange(max(len(content) - size, 1))
    content[place : place + size] = struct.pack(code, draw.choice(_LARGE) % (1 << 8 * size))


def _digits(draw: random.Random, content: bytearray) -> None:
    """A number in decimal digits."""
    found = list(re.finditer(rb"-?\d+", content))
    if found:
        begin, end = draw.choice(found).span()
        content[begin:end] = str(draw.choice((-1, 1)) * draw.choice((*_LARGE, 10**30))).encode()


def _word(draw: random.Random, content: bytearray) -> None:
    """A word of the text, by one that formats find awkward or by another of its words."""
    found = list(re.finditer(rb"[A-Za-z_0-9.]+", content))
    if found:
        begin, end = draw.choice(found).span()
        other = draw.choice(found)
        content[begin:end] = draw.choice((*_WORDS, content[other.start() : other.end()]))


def _truncate(draw: random.Random, content: bytearray) -> None:
    del content[draw.randrange(len(content)) :]


def _extend(draw: random.Random, content: bytearray) -> None:
    content.extend(draw.randbytes(draw.choice((1, 8, 100, 4096))))


def _remove(draw: random.Random, content: bytearray) -> None:
    begin = draw.randrange(len(content))
    del content[begin : begin + draw.choice((1, 2, 8, 64))]


def _repeat(draw: random.Random, content: bytearray) -> None:
    begin = draw.randrange(len(content))
    part = bytes(content[begin : begin + draw.choice((1, 8, 64, 512))])
    content[begin:begin] = part * draw.choice((1, 2, 16))


def _insert(draw: random.Random, content: bytearray) -> None:
    begin = draw.randrange(len(content) + 1)
    content[begin:begin] = draw.choice((*_WORDS, draw.randbytes(draw.randrange(1, 16))))


def _swap(draw: random.Random, content: bytearray) -> None:
    size = draw.choice((1, 4, 8, 64))
    a, b = (draw.randrange(max(len(content) - size, 1)) for _ in range(2))
    content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]


def _zero(draw: random.Random, content: bytearray) -> None:
    begin = draw.randrange(len(content))
    size = min(draw.choice((8, 64, 512)), len(content) - begin)
    content[begin : begin + size] = bytes(size)


CHANGES: tuple[Change, ...] = (
    *(_flip, _replace, _number, _digits, _word, _truncate, _extend, _remove, _repeat, _insert, _swap, _zero),
)


def mutated(draw: random.Random, sample: bytes, own: tuple[Change, ...] = ()) -> bytes:
    """The sample after one to eight changes, half of them the format's `own` where it has some; or random bytes."""
    if draw.random() < 0.02:
        return draw.randbytes(draw.choice((0, 1, 8, 64, 1024)))
    content = bytearray(sample)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        if content:
            draw.choice(own if own and draw.random() < 0.5 else CHANGES)(draw, content)
        del content[LARGEST:]
    return bytes(content)

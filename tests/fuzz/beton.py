"""FFCV's files: the header and the tables, and that every image they promise can be read."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from popnet.data.beton import Encoded, open_beton, write_beton

from .loaders import Loader
from .mutation import Change

_PAGE = 1 << 23
_LARGE = (0, 1, 2, 16, 255, 1 << 16, 1 << 20, _PAGE, 1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def _field(offset: int, size: int) -> Change:
    """A number of the header, or of the descriptions and tables behind it."""

    def change(draw: random.Random, content: bytearray) -> None:
        if len(content) >= offset + size:
            number = draw.choice(
                (*_LARGE, int.from_bytes(content[offset : offset + size], "little") + draw.choice((-1, 1)))
            )
            content[offset : offset + size] = (number % (1 << 8 * size)).to_bytes(size, "little")

    return change


def _table(draw: random.Random, content: bytearray) -> None:
    """A word of the table of examples, or of the places at the end."""
    begin = draw.choice((24 + 2 * 1041, max(len(content) - 24 * 5, 0)))
    _field(begin + 8 * draw.randrange(15), 8)(draw, content)


class BetonHeader(Loader):
    """Between the tables and the first page lie megabytes of nothing, which inputs leave out: `load` puts them back."""

    changes = (
        *(_field(offset, size) for offset, size in ((0, 2), (2, 2), (4, 4), (8, 8), (16, 8))),
        *(_field(24 + 1041 * field, 1) for field in range(2)),
        *(_field(24 + 17 + 8 * word, 8) for word in range(4)),
        *(_table,) * 4,
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.samples = tuple(self._sample(channels) for channels in (3, 1))

    def _sample(self, channels: int) -> bytes:
        path = self.folder / "sample.beton"
        draw = np.random.default_rng(channels)
        images = [Encoded(draw.integers(0, 256, 12 * channels, dtype=np.uint8), 3, 4, jpeg=False) for _ in range(5)]
        write_beton(path, images, np.arange(5), channels)
        content = path.read_bytes()
        head = content[:_PAGE].rstrip(b"\0")
        return head.ljust(3072, b"\0") + content[_PAGE:]

    def load(self, content: bytes, number: int) -> None:
        path = self.folder / "input.beton"
        with path.open("wb") as file:
            file.write(content[:3072])
            if len(content) > 3072:
                file.seek(_PAGE)
                file.write(content[3072:])
        read = open_beton(path)
        data = read.bytes()
        assert read.table.shape == (len(read.labels), 5)
        for offset, size, *_ in read.table[:100]:
            assert 0 <= offset <= offset + size <= data.size
            data[offset : offset + min(size, 4096)].sum()

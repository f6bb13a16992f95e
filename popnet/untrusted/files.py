"""Files by names that somebody else chose: none leaves its folder, and none is read past a limit."""

from __future__ import annotations

import re
import stat
from io import BufferedIOBase
from pathlib import Path

_PIECE = 1 << 22
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


def check_regular(path: Path) -> None:
    """That opening a file neither waits nor does anything else. Raises ValueError, and OSError where it is missing."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("is no regular file")


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file. Raises ValueError where it has more than `most` bytes, and OSError."""
    check_regular(path)
    with path.open("rb") as file:
        content = read_at_most(file, most + 1)
    if len(content) > most:
        raise ValueError(f"has more than {most:,} bytes, the most that such a file may have")
    return content


def read_at_most(file: BufferedIOBase, most: int) -> bytes:
    """The next bytes of a file, up to so many; in pieces, since a single read sets memory aside for all of them."""
    pieces = []
    while most > 0 and (piece := file.read(min(most, _PIECE))):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def inside(folder: Path, name: str, suffix: str = "") -> Path:
    """The file `name` + `suffix` of a folder, which need not be there.

    Raises ValueError for a name that is not of letters, digits, `_`, `-` and `.`, and for a link or a device.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name[:100]!r} cannot be a file's name here: letters, digits, '_', '-' and '.' can")
    path = folder / f"{name}{suffix}"
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return path
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is no regular file: links out of the folder are not followed")
    return path


def check_folder(folder: Path) -> None:
    """That nothing directly in a folder is a link or a device. Raises ValueError naming it, and OSError."""
    for entry in folder.iterdir():
        mode = entry.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ValueError(f"{entry} is no regular file or folder: links out of the folder are not followed")

"""FFCV's file format, version 2 (.beton): read without trust, and written so that equal data give equal files.

A header; a description of each field; a table with a row of metadata for each example; the images, on pages; a table of
the places that were given out. FFCV itself is not needed for either.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.errors import DataError

_VERSION = 2
_PAGE = 1 << 23
_PAGE_MOST = 1 << 32  # bytes of a page that a header can name, and an image lies on one
_HEADER = np.dtype(
    [("version", "<u2"), ("fields", "<u2"), ("page", "<u4"), ("examples", "<u8"), ("places", "<u8")], align=True
)
_FIELD = np.dtype([("kind", "u1"), ("name", "u1", 16), ("arguments", "u1", 1024)])
_PLACE = np.dtype([("example", "<u8"), ("offset", "<u8"), ("size", "<u8")])
_IMAGE = np.dtype([("mode", "u1"), ("width", "<u2"), ("height", "<u2"), ("offset", "<u8")])
_ARRAY_ARGUMENTS = np.dtype([("shape", "<u8", 32), ("length", "<u8")])
_FLOAT, _INT, _RGB, _BYTES, _ARRAY, _JSON, _TENSOR = range(7)
_METADATA = {
    _FLOAT: np.dtype("<f8"),
    _INT: np.dtype("<i8"),
    _RGB: _IMAGE,
    _BYTES: np.dtype([("offset", "<u8"), ("size", "<u8")]),
    _ARRAY: np.dtype("<u8"),
    _JSON: np.dtype([("offset", "<u8"), ("size", "<u8")]),
    _TENSOR: np.dtype("<u8"),
}


@dataclass(frozen=True, eq=False)
class Beton:
    """What a .beton file holds of images and labels; every image is known to lie inside the file.

    Attributes:
        path: the file.
        table: int64 [n, 5], as `popnet.native.TABLE_COLUMNS`: offset, size, height, width, jpeg.
        labels: int64 [n].
        channels: of every image.
        image_field: the name of the field, by which FFCV asks for it.
        other_fields: the names of all others.
    """

    path: Path
    table: NDArray[np.int64]
    labels: NDArray[np.int64]
    channels: int
    image_field: str
    other_fields: tuple[str, ...]

    def bytes(self) -> NDArray[np.uint8]:
        """The file, mapped: uint8 [file size], read-only."""
        return np.memmap(self.path, np.uint8, "r")


def open_beton(path: str | os.PathLike[str]) -> Beton:
    """Read a file's tables of images (RGB, or uint8 arrays of 3 dimensions) and of labels (integers).

    Each is the one field of its kind, wherever it stands; of several, the one called `image`, or `label`. A single
    field of integers is taken where its name says that it holds labels.

    Raises:
        DataError: no such file, no .beton file, cut short, without images or labels, or with several fields that could
            be either; the message names the file, and the fields.
    """
    file = Path(path)
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            return _parsed(file, stream.read, size)
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; `popnet data write` makes .beton files") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error


def _parsed(file: Path, read: Callable[[int], bytes], size: int) -> Beton:
    def records(dtype: np.dtype, count: int, what: str) -> NDArray[Any]:
        needed = dtype.itemsize * count
        if needed > size:
            raise DataError(f"{file}: cut short: its {what} would be larger than the file's {size:,} bytes")
        data = read(needed)
        if len(data) < needed:
            raise DataError(f"{file}: cut short inside its {what}: make or copy it again")
        return np.frombuffer(data, dtype)

    if size < _HEADER.itemsize:
        raise DataError(f"{file}: no .beton file: it has {size} bytes")
    header = records(_HEADER, 1, "header")[0]
    page, fields = int(header["page"]), int(header["fields"])
    if header["version"] != _VERSION or not 1 <= fields <= 64 or page < 1 << 20 or page & (page - 1):
        raise DataError(f"{file}: no .beton file of version {_VERSION}; `popnet data write` makes one")
    descriptions = records(_FIELD, fields, "fields")
    kinds = [int(kind) for kind in descriptions["kind"]]
    names = [bytes(name).partition(b"\0")[0].decode("ascii", "replace") for name in descriptions["name"]]
    for kind, name in zip(kinds, names):
        if kind not in _METADATA:
            raise DataError(f"{file}: field {name!r} is of a kind, {kind}, that popnet does not know")
    metadata_type = np.dtype([("", _METADATA[kind]) for kind in kinds], align=True)
    examples = int(header["examples"])
    metadata = records(metadata_type, examples, "table of examples")
    shapes = [_array_shape(field["arguments"]) if field["kind"] == _ARRAY else None for field in descriptions]
    image = _field(file, "image", names, [kind == _RGB or shape is not None for kind, shape in zip(kinds, shapes)])
    label = _field(file, "label", names, [kind == _INT for kind in kinds])
    places = _places(file, size, int(header["places"]))
    shape = shapes[image]
    table = _table(metadata[f"f{image}"], shape)
    _place_images(file, table, places, 3 if shape is None else shape[2])
    labels = np.ascontiguousarray(metadata[f"f{label}"], np.int64)
    others = tuple(name for k, name in enumerate(names) if k != image)
    return Beton(file, table, labels, 3 if shape is None else shape[2], names[image], others)


_KINDS = {"image": "images (RGB, or uint8 arrays [height, width, channels])", "label": "integers"}
_LABEL_NAMES = ("label", "labels", "target", "targets", "class", "y")


def _field(file: Path, wanted: str, names: Sequence[str], possible: Sequence[bool]) -> int:
    """The number of the field of images or labels, by type, and by name where several have it."""
    found = [number for number, fits in enumerate(possible) if fits]
    if not found:
        raise DataError(
            f"{file}: it has no field of {_KINDS[wanted]}, so no {wanted}s; its fields are {', '.join(names)}"
        )
    called = [number for number in found if names[number] == wanted]
    if wanted in names and not called:
        raise DataError(f"{file}: its field {wanted!r} holds no {_KINDS[wanted]}: write it anew")
    if len(found) > 1 and len(called) != 1:
        several = ", ".join(repr(names[number]) for number in found)
        raise DataError(
            f"{file}: any of its fields {several} could be the {wanted}: write it with one called {wanted!r}"
        )
    if wanted == "label" and not called and names[found[0]].lower() not in _LABEL_NAMES:
        raise DataError(
            f"{file}: its field of integers {names[found[0]]!r} need not be the label: write it with one called 'label'"
        )
    return found[0] if len(found) == 1 else called[0]


def _array_shape(arguments: NDArray[np.uint8]) -> tuple[int, int, int] | None:
    """The shape of a field of arrays that can be images; None for any other."""
    header = arguments[: _ARRAY_ARGUMENTS.itemsize].view(_ARRAY_ARGUMENTS)[0]
    description = arguments[_ARRAY_ARGUMENTS.itemsize :][: int(header["length"])].tobytes()
    shape = [int(extent) for extent in header["shape"] if extent]
    if len(shape) != 3 or b"|u1" not in description or math.prod(shape) > _PAGE_MOST:
        return None
    return shape[0], shape[1], shape[2]


def _places(file: Path, size: int, begin: int) -> NDArray[Any]:
    if not 0 < begin <= size or (size - begin) % _PLACE.itemsize:
        raise DataError(f"{file}: cut short: its table of places lies beyond the end; make or copy it again")
    with file.open("rb") as stream:
        stream.seek(begin)
        places = np.frombuffer(stream.read(), _PLACE)
    if (places["offset"] > begin).any() or (places["size"] > begin - places["offset"]).any():
        raise DataError(f"{file}: damaged: an image would lie outside the file; make or copy it again")
    return places[np.argsort(places["offset"], kind="stable")]


def _table(metadata: NDArray[Any], shape: tuple[int, int, int] | None) -> NDArray[np.int64]:
    table = np.zeros((len(metadata), 5), np.int64)
    if shape is not None:
        table[:, 0] = metadata
        table[:, 2:4] = shape[:2]
        return table
    table[:, 0] = metadata["offset"]
    table[:, 2] = metadata["height"]
    table[:, 3] = metadata["width"]
    table[:, 4] = metadata["mode"] == 0
    return table


def _place_images(file: Path, table: NDArray[np.int64], places: NDArray[Any], channels: int) -> None:
    """Enter the images' sizes. Raises DataError for an image without its place."""
    found = np.searchsorted(places["offset"], table[:, 0].astype(np.uint64))
    known = found < len(places)
    known[known] = places["offset"][found[known]] == table[known, 0].astype(np.uint64)
    table[known, 1] = places["size"][found[known]]
    sound = known & (table[:, 2] > 0) & (table[:, 3] > 0)
    sound &= (table[:, 4] == 1) | (table[:, 1] == table[:, 2] * table[:, 3] * channels)
    if not sound.all():
        number = int(np.argmin(sound))
        raise DataError(f"{file}: damaged: image {number} has no place of its size; make or copy the file again")


@dataclass(frozen=True, eq=False)
class Encoded:
    """One image for a file: its bytes, uint8 [m], [height, width, channels] or a JPEG of that size."""

    data: NDArray[np.uint8]
    height: int
    width: int
    jpeg: bool


def write_beton(
    path: Path,
    images: Iterable[Encoded],
    labels: NDArray[np.int64],
    channels: int,
    progress: Callable[[int], None] = lambda done: None,
) -> str:
    """Write a file; images are taken one by one, in order. Equal images and labels give equal bytes.

    With 3 channels as FFCV's RGBImageField, else as an NDArrayField, for which all images have one size. The file
    appears under its name when it is whole; its SHA-256 stands beside it, in `PATH.sha256`, for `sha256sum -c`.

    Returns:
        The SHA-256 of the file, in hexadecimal.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as stream:
            _write(stream, images, labels, channels, progress)
        state = hashlib.sha256()
        with partial.open("rb") as stream:
            while block := stream.read(1 << 22):
                state.update(block)
        partial.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    checksum = state.hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{checksum}  {path.name}\n")
    return checksum


def _write(stream, images, labels, channels, progress) -> None:  # type: ignore[no-untyped-def]
    kind = _RGB if channels == 3 else _ARRAY
    metadata_type = np.dtype([("", _METADATA[kind]), ("", _METADATA[_INT])], align=True)
    metadata = np.zeros(len(labels), metadata_type)
    metadata["f1"] = labels
    places = np.zeros(len(labels), _PLACE)
    begin = _HEADER.itemsize + 2 * _FIELD.itemsize
    position = -(-(begin + metadata.nbytes) // _PAGE) * _PAGE
    shape: tuple[int, int] | None = None
    count = 0
    for count, image in enumerate(images, start=1):
        size = image.data.size
        if size > _PAGE:
            raise DataError(f"image {count - 1} has {size:,} bytes, and {_PAGE:,} is the most: limit its resolution")
        if channels != 3 and shape not in (None, (image.height, image.width)):
            raise DataError(f"image {count - 1} is {image.height} x {image.width}, and others are {shape}")
        shape = image.height, image.width
        if position // _PAGE != (position + size - 1) // _PAGE:
            position = (position // _PAGE + 1) * _PAGE
        stream.seek(position)
        stream.write(image.data.tobytes())
        row = metadata["f0"][count - 1 : count]
        row[:] = (0 if image.jpeg else 1, image.width, image.height, position) if kind == _RGB else position
        places[count - 1] = (count - 1, position, size)
        position += size
        progress(count)
    if count != len(labels):
        raise DataError(f"{count} images came for {len(labels)} labels")
    stream.seek(position)
    stream.write(places.tobytes())
    header = np.array([(_VERSION, 2, _PAGE, len(labels), position)], _HEADER)
    stream.seek(0)
    stream.write(header.tobytes())
    stream.write(_descriptions(kind, shape, channels).tobytes())
    stream.write(metadata.tobytes())


def _descriptions(kind: int, shape: tuple[int, int] | None, channels: int) -> NDArray[Any]:
    fields = np.zeros(2, _FIELD)
    for field, number, name in zip(fields, (kind, _INT), (b"image", b"label")):
        field["kind"] = number
        field["name"][: len(name)] = np.frombuffer(name, np.uint8)
    if kind == _ARRAY:
        description = json.dumps(np.dtype(np.uint8).descr).encode()
        arguments = np.zeros(1, _ARRAY_ARGUMENTS)
        arguments["shape"][0, :3] = (*(shape or (1, 1)), channels)
        arguments["length"] = len(description)
        packed = np.concatenate([arguments.view(np.uint8), np.frombuffer(description, np.uint8)])
        fields[0]["arguments"][: packed.size] = packed
    return fields

"""Small pictures of one size as one array: decoded many at a time, since making each ready alone takes longest."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from popnet import native
from popnet.data.beton import Encoded
from popnet.data.decoding import check_jpeg_library
from popnet.data.picture_sets import PictureSource
from popnet.errors import DataError

_AT_ONCE = 5000
_BYTES_AT_ONCE = 1 << 26  # of JPEG files, which can have any size


def stacked(source: PictureSource, height: int, width: int) -> tuple[NDArray[np.uint8], bool]:
    """All pictures, uint8 [n, height, width, channels], and whether any of them is a JPEG.

    Raises:
        DataError: a picture that has another size or cannot be read, named.
    """
    images = np.empty((len(source.labels), height, width, source.channels), np.uint8)
    compressed = False
    for begin in range(0, len(images), _AT_ONCE):
        compressed |= _fill(images[begin : begin + _AT_ONCE], source, begin)
    return images, compressed


def _fill(images: NDArray[np.uint8], source: PictureSource, begin: int) -> bool:
    jpegs: list[tuple[int, Encoded]] = []
    compressed, size = False, 0
    for place in range(len(images)):
        picture = source.encoded(begin + place)
        if (picture.height, picture.width) != images.shape[1:3]:
            raise DataError(
                f"{source.name_of(begin + place)}: has {picture.height} x {picture.width} pixels, and "
                f"{images.shape[1]} x {images.shape[2]} are needed"
            )
        if picture.jpeg:
            compressed, size = True, size + picture.data.size
            jpegs.append((place, picture))
            if size > _BYTES_AT_ONCE:
                _decode(images, source, begin, jpegs)
                jpegs, size = [], 0
        else:
            images[place] = picture.data.reshape(images.shape[1:])
    if jpegs:
        _decode(images, source, begin, jpegs)
    return compressed


def _decode(images: NDArray[np.uint8], source: PictureSource, begin: int, jpegs: list[tuple[int, Encoded]]) -> None:
    check_jpeg_library()
    data = np.concatenate([picture.data for _, picture in jpegs])
    sizes = np.array([picture.data.size for _, picture in jpegs], np.int64)
    table = np.empty((len(jpegs), len(native.TABLE_COLUMNS)), np.int64)
    table[:, 0], table[:, 1] = np.cumsum(sizes) - sizes, sizes
    table[:, 2:4], table[:, 4] = images.shape[1:3], 1
    pictures = native.pictures(torch.from_numpy(data), torch.from_numpy(table), source.channels)
    for number, (place, _) in enumerate(jpegs):
        try:
            images[place] = native.decode_picture(pictures, number).numpy()
        except native.UnreadablePicture as error:
            raise DataError(f"{source.name_of(begin + place)}: cannot be decoded: {error.reason}") from None

"""Files of pictures to pixels: JPEGs by libturbojpeg, all else by Pillow; what would come out wrong is refused.

A picture is taken as it is stored: an EXIF orientation in a JPEG, PNG or WebP file is not applied (a TIFF file's is, by
Pillow), and no colour profile is. Grey ones become three equal channels.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from popnet import native
from popnet.data.beton import Encoded
from popnet.errors import DataError

_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_ORIENTATION, _PHOTOMETRIC_INTERPRETATION = 0x0112, 262
_AHEAD = 256  # pictures that are made before they are used

Made = TypeVar("Made")

TURNED = "has an EXIF orientation, which is not applied"
CMYK = "is CMYK, converted to RGB without a colour profile"
SEVERAL = "holds more than one picture, of which the first is taken"


class Header(NamedTuple):
    """What a file says of its picture before it is decoded.

    `size`: of the JPEG in bytes, or of the pixels of anything else; `remark`: what its user may not expect, or "".
    """

    size: int
    height: int
    width: int
    jpeg: bool
    remark: str


def header_of(file: Path | io.BytesIO, size: int, name: str) -> Header:
    """The header of a file of `size` bytes. Raises DataError with the name: no picture, or one that is refused."""
    with _named(name), Image.open(file) as picture:
        width, height = picture.size
        reason = _refused(picture)
        if reason:
            raise DataError(f"{name}: {reason}")
        kept = _kept(picture)
        return Header(size if kept else height * width * 3, height, width, kept, _remark(picture))


def picture_row(file: Path | io.BytesIO, size: int, name: str) -> tuple[int, int, int, int, int]:
    """The picture's row of a source's `table`, its offset 0. Raises DataError as `header_of` does."""
    header = header_of(file, size, name)
    return 0, header.size, header.height, header.width, int(header.jpeg)


def encoded_picture(data: bytes, name: str) -> Encoded:
    """A file's picture: a grey or RGB JPEG as it is, anything else as RGB pixels.

    Grey values of 16 bits are divided by 257 and rounded.

    Raises:
        DataError: no picture; more than one; transparent pixels; values whose range is not known, of 32 bits or real
            ones; 12 bits of grey, or 16 from white to black, which Pillow does not scale; 16 bits a colour, of which it
            reads half. The message begins with the name.
    """
    with _named(name), Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
        reason = _refused(picture)
        if reason:
            raise DataError(f"{name}: {reason}")
        if _kept(picture):
            return Encoded(np.frombuffer(data, np.uint8), height, width, jpeg=True)
        pixels = _pixels(picture, name)
    return Encoded(np.ascontiguousarray(pixels).reshape(-1), height, width, jpeg=False)


def decoded_picture(picture: Encoded, name: str, channels: int = 3) -> NDArray[np.uint8]:
    """uint8 [height, width, channels]. Raises DataError with the name."""
    if not picture.jpeg:
        return picture.data.reshape(picture.height, picture.width, channels)
    check_jpeg_library()
    row = torch.tensor([[0, picture.data.size, picture.height, picture.width, 1]])
    try:
        source = native.pictures(torch.from_numpy(np.array(picture.data)), row, 3)
        return native.decode_picture(source, 0).numpy()
    except native.UnreadablePicture as error:
        raise DataError(f"{name}: cannot be decoded: {error.reason}") from None


def check_jpeg_library() -> None:
    """Raises DataError, with what to install, where JPEGs cannot be decoded."""
    error = native.jpeg_library_error()
    if error:
        raise DataError(f"JPEG pictures cannot be decoded, because {error}: `apt-get install libturbojpeg0`")


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: cannot be read as an image: of no kind that Pillow knows, or damaged") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name}: cannot be read as an image: {error}") from error


def _kept(picture: Image.Image) -> bool:
    """Whether libturbojpeg turns it into RGB by itself; an MPO file begins with a whole JPEG."""
    return picture.format in ("JPEG", "MPO") and picture.mode in ("L", "RGB")


def _refused(picture: Image.Image) -> str:
    """Why a picture's pixels would not be what its user means; empty where they are."""
    if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
        return "holds several pictures, an animation or pages: save the one that is meant"
    if picture.mode == "F" or (picture.mode == "I" and picture.format not in ("PNG", "PPM")):
        kind = "real numbers" if picture.mode == "F" else "integers of 32 bits"
        return f"holds {kind}, whose range is not known: save it with 8 or 16 bits a pixel"
    raw_modes = [str(tile[3]) for tile in getattr(picture, "tile", ())]
    if not picture.mode.startswith("I") and any(";16" in mode for mode in raw_modes):
        return "holds 16 bits a colour, of which only 8 would be read: save it with 8 bits a colour"
    if any(";12" in mode for mode in raw_modes):
        return "holds 12 bits a pixel, which would be read as 16: save it with 8 or 16 bits a pixel"
    if picture.mode.startswith("I") and _white_is_zero(picture):
        return "has 16 bits of grey in which 0 is white, and would be read as its negative: save it with 0 as black"
    if picture.mode.startswith("I") and "transparency" in picture.info:
        return "has a transparent grey value: save it without"
    return ""


def _white_is_zero(picture: Image.Image) -> bool:
    """Whether a TIFF file says so; Pillow minds it in pictures of 8 bits and fewer."""
    return isinstance(picture, TiffImageFile) and picture.tag_v2.get(_PHOTOMETRIC_INTERPRETATION) == 0


def _remark(picture: Image.Image) -> str:
    if picture.format == "MPO":
        return SEVERAL
    if picture.mode == "CMYK":
        return CMYK
    if picture.format in ("JPEG", "PNG", "WEBP") and _exif(picture).get(_ORIENTATION, 1) != 1:
        return TURNED
    return ""


def _exif(picture: Image.Image) -> Image.Exif:
    """What stands before the pixels; a PNG file's own method would decode these, to look behind them."""
    return Image.Image.getexif(picture) if picture.format == "PNG" else picture.getexif()


def _pixels(picture: Image.Image, name: str) -> NDArray[np.uint8]:
    """uint8 [height, width, 3]."""
    if picture.mode.startswith("I"):  # 16 bits of grey; `convert` would cut them off at 255
        grey = (np.asarray(picture).astype(np.uint32) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[..., np.newaxis], 3, axis=2)
    if picture.mode not in _WITH_ALPHA and "transparency" not in picture.info:
        return np.asarray(picture.convert("RGB"))
    pixels = np.asarray(picture.convert("RGBA"))
    if (pixels[..., 3] < 255).any():
        raise DataError(f"{name}: has transparent pixels, whose colour is not known: paste it on a background first")
    return pixels[..., :3]


def in_order(make: Callable[[int], Made], count: int) -> Iterator[Made]:
    """What `make` gives for 0 to count - 1, made by as many threads as there are cores, a little ahead of its use."""
    pending: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for index in range(count):
                pending.append(pool.submit(make, index))
                if len(pending) > _AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

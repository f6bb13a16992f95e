"""Images and labels in .npz files, NumPy's and Keras's form: of both splits in one file, or in a file for each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.errors import ConfigError, DataError
from popnet.untrusted.arrays import check_npz_file

_IMAGES = ("images", "x", "data", "image")
_LABELS = ("labels", "y", "targets", "label", "target")
_CHANNELS = (1, 2, 3, 4)
_PIECE = 1 << 22  # values checked at a time
_MOST_CLASSES = 1 << 20

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]


def read_npz(
    path: Path | None, train: Path | None, test: Path | None, names: Mapping[str, str | None] | None = None
) -> Arrays:
    """Training images [n, height, width, channels] and labels [n], then the test set's.

    Args:
        path: of one file that holds both splits.
        train, test: of a file for each.
        names: what arrays are called, by `train_images`, `train_labels`, `test_images` and `test_labels`; by default
            they are found by usual names, such as `x_train` or, in a file of one split, `images`.

    Raises:
        ConfigError: neither one file nor two are given.
        DataError: naming file and array.
    """
    if (path is None) == (train is None and test is None) or (train is None) != (test is None):
        raise ConfigError("data set 'npz' needs either the option 'path', or 'train' and 'test'")
    given = names or {}
    made: list[NDArray[Any]] = []
    used: set[tuple[Path, str]] = set()
    for split, file in (("train", path or train), ("test", path or test)):
        assert file is not None
        with _Archive(file) as archive:
            found = [
                _found(file, archive, split, kind, given.get(f"{split}_{kind}"), path is None)
                for kind in ("images", "labels")
            ]
            for name in found:
                if (file.resolve(), name) in used:
                    raise DataError(f"{file}: array {name!r} is taken twice: training and test set need their own")
                used.add((file.resolve(), name))
            made.append(_as_images(f"{file}: array {found[0]!r}", archive[found[0]]))
            made.append(_as_labels(f"{file}: array {found[1]!r}", archive[found[1]]))
            if split == "train" and made[1].size and made[1].min() > 0:
                raise DataError(
                    f"{file}: array {found[1]!r}: class 0 has no example: do labels count from 1? They count from 0"
                )
    return made[0], made[1], made[2], made[3]


class _Archive:
    """An .npz whose arrays are given one by one. Raises DataError naming the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _Archive:
        try:
            check_npz_file(self._path, ())
            self._archive = np.load(self._path, allow_pickle=False)
        except Exception as error:  # of the file system and of zip, which share no base
            raise self._unreadable(error) from None
        return self

    def __exit__(self, *error: object) -> None:
        self._archive.close()

    @property
    def names(self) -> list[str]:
        return list(self._archive.files)

    def __getitem__(self, name: str) -> NDArray[Any]:
        try:
            check_npz_file(self._path, (name,))
            return np.asarray(self._archive[name])
        except Exception as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> DataError:
        if "'|O'" in str(error):
            return DataError(f"{self._path}: holds Python objects, and reading these runs code: save plain arrays")
        if isinstance(error, FileNotFoundError):
            return DataError(f"{self._path}: no such file")
        return DataError(
            f"{self._path}: cannot be read as .npz: {' '.join(str(error).split()) or type(error).__name__}"
        )


def _found(file: Path, archive: _Archive, split: str, kind: str, given: str | None, alone: bool) -> str:
    """The name of an array in a file, which holds one split `alone` or both."""
    option, every = f"{split}_{kind}", archive.names
    if given is not None:
        if given not in every:
            raise DataError(f"{file}: has no array {given!r}: it holds {', '.join(every)}")
        return given
    words = _IMAGES if kind == "images" else _LABELS
    usual = {f"{split}_{word}" for word in words} | {f"{word}_{split}" for word in words}
    usual |= {f"{split}{word}" for word in words} | {f"{word}{split}" for word in words}
    candidates = [name for name in every if name.lower() in usual]
    if not candidates and alone:
        candidates = [name for name in every if name.lower() in words]
    if len(candidates) == 1:
        return candidates[0]
    if not alone and not candidates and any(name.lower() in words for name in every):
        raise DataError(
            f"{file}: holds {', '.join(every)}, which can be either split: give a file for each by the "
            "options train and test"
        )
    problem = f"can be any of {', '.join(candidates)}" if candidates else f"are none of {', '.join(every)}"
    raise DataError(f"{file}: its {split} {kind} {problem}: name the array by the option {option}")


def _as_images(name: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 [n, height, width, channels]; [n, height, width] has one channel."""
    if array.ndim not in (3, 4) or array.size == 0:
        raise DataError(f"{name} has the shape {array.shape}, and images are [n, height, width, channels]")
    pixels = _as_bytes(name, array)
    last, first = pixels.shape[-1] in _CHANNELS, pixels.shape[1] in _CHANNELS
    if pixels.ndim == 3 and not last and not first:
        return np.ascontiguousarray(pixels[..., np.newaxis])
    if pixels.ndim == 3 or (last and first):
        raise DataError(
            f"{name} of shape {array.shape} can be [n, height, width, channels], [n, channels, height, width] or part "
            "of these: hand it over by a function of your own (`dataset: {import: ...}`)"
        )
    if not last and not first:
        raise DataError(
            f"{name} of shape {array.shape}: neither its second nor its last extent is a number of channels"
        )
    return np.ascontiguousarray(pixels if last else pixels.transpose(0, 2, 3, 1))


def _as_bytes(name: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels as bytes; of another type only where each is a whole number of 0 to 255, and they are not only 0 and 1."""
    if array.dtype == np.uint8:
        if array.max() <= 1:
            raise DataError(f"{name} holds 0 and 1 alone: save its pixels as 0 to 255")
        return array
    if array.dtype.kind not in "iuf":
        raise DataError(f"{name} is of type {array.dtype}, and pixels are uint8")
    flat, largest = array.reshape(-1), 0
    for begin in range(0, len(flat), _PIECE):
        piece = flat[begin : begin + _PIECE]
        right = (piece == np.rint(piece)) & (piece >= 0) & (piece < 256)
        if not right.all():
            raise DataError(
                f"{name} is of type {array.dtype} and holds {piece[~right][0]:g}, and pixels are whole numbers from 0 "
                "to 255: undo the scaling, and save them as uint8"
            )
        largest = max(largest, int(piece.max()))
    if largest <= 1:
        raise DataError(f"{name} is of type {array.dtype} and holds 0 and 1 alone: save its pixels as uint8, 0 to 255")
    return array.astype(np.uint8)


def _as_labels(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """[n]; some write [n, 1]."""
    if array.dtype.kind not in "iu":
        raise DataError(f"{name} is of type {array.dtype}, and labels are whole numbers, one for each image")
    labels = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if labels.ndim != 1:
        raise DataError(f"{name} has the shape {array.shape}, and labels are one number for each image, not a vector")
    if labels.size and labels.max() >= _MOST_CLASSES:
        raise DataError(f"{name} holds {labels.max()}, which is no class's number: labels count classes from 0")
    return labels

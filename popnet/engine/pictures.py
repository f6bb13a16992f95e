"""Which loader reads a recipe's images, checked by the driver; what workers attach to; and the loaders they make."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from popnet import native
from popnet.config import Recipe, Resize
from popnet.data import Dataset, PictureDataset, Text
from popnet.data.beton import Beton, open_beton
from popnet.data.ffcv import FfcvImages, check_ffcv
from popnet.data.picture_digests import Decoded, stored_digest
from popnet.data.picture_sets import BetonPictures, PictureSource, check_jpeg_library
from popnet.data.pictures import PictureImages, uniform_pictures
from popnet.data.resident import Images, ResidentImages
from popnet.engine.sharing import SharedArrays, SharedDataset, SharedText, share, share_arrays
from popnet.errors import ConfigError, DataError
from popnet.memory import available_memory

_SHARE_OF_MEMORY = 0.5


@dataclass(frozen=True)
class SharedPictures:
    """A data set of pictures for workers: labels, and decoded pixels where they are resident, in shared memory.

    Attributes:
        files: of the training and the test set, the .beton file where it is mapped and not resident.
    """

    memory: SharedArrays
    files: tuple[Path | None, Path | None]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels_digest: str

    def attach(self) -> tuple[AttachedPictures, AttachedPictures]:
        """The training and the test pictures."""
        tensors = self.memory.tensors()
        train, test = (
            resident_pictures(tensors[f"{part}_bytes"], tensors[f"{part}_table"], tensors[f"{part}_labels"], self.mean)
            if file is None
            else mapped_pictures(open_beton(file))
            for part, file in zip(("train", "test"), self.files)
        )
        return train, test


@dataclass(frozen=True, eq=False)
class AttachedPictures:
    """Pictures that a worker can read, before any recipe; `file` where they are mapped."""

    pictures: native.Pictures
    labels: Tensor
    name_of: Callable[[int], str]
    file: Beton | None = None


Shared = SharedDataset | SharedPictures | SharedText


def share_any(dataset: Dataset | PictureDataset | Text, labels_digest: str, recipes: Sequence[Recipe]) -> Shared:
    """A data set in shared memory, but for pictures that stay in their files; for the recipes that train on it."""
    if not isinstance(dataset, PictureDataset):
        return share(dataset, labels_digest)
    elsewhere = all(recipe.loader.path is not None for recipe in recipes)
    return share_pictures(dataset, labels_digest, reads_files(recipes, dataset), train=not elsewhere)


def resident_pictures(pixels: Tensor, table: Tensor, labels: Tensor, mean: tuple[float, ...]) -> AttachedPictures:
    """Decoded pictures in memory."""
    return AttachedPictures(native.pictures(pixels, table, len(mean)), labels, lambda index: f"picture {index}")


def mapped_pictures(file: Beton) -> AttachedPictures:
    """The pictures of a .beton file, mapped."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        mapped = torch.from_numpy(file.bytes())
    pictures = native.pictures(mapped, torch.from_numpy(file.table), file.channels)
    return AttachedPictures(pictures, torch.from_numpy(file.labels), BetonPictures(file).name_of, file)


def encoded_pictures(source: PictureSource) -> AttachedPictures:
    """Pictures as they are stored, JPEGs not decoded: mapped where they lie in a .beton file, else read into memory.

    Raises:
        DataError: a picture that cannot be read, named.
    """
    if isinstance(source, BetonPictures):
        return mapped_pictures(source.file)
    table = source.table.copy()
    table[:, 0] = np.cumsum(table[:, 1]) - table[:, 1]
    data = np.empty(int(table[:, 1].sum()), np.uint8)
    for index, (offset, size, *_) in enumerate(table):
        encoded = source.encoded(index)
        if encoded.data.size != size:
            raise DataError(f"{source.name_of(index)}: changed its size while it was read")
        data[offset : offset + size] = encoded.data
    pictures = native.pictures(torch.from_numpy(data), torch.from_numpy(table), source.channels)
    return AttachedPictures(pictures, torch.from_numpy(source.labels), source.name_of)


def image_shape(recipe: Recipe, dataset: Dataset | PictureDataset) -> tuple[int, int, int]:
    """Channels, height and width of the images that the model is trained on.

    Raises:
        ConfigError: pictures of several sizes, and no `resize`.
    """
    if isinstance(dataset, Dataset):
        channels, height, width = dataset.input_shape
    else:
        channels, (height, width) = dataset.train.channels, (0, 0)
        if recipe.resize is None:
            sizes = np.concatenate([dataset.train.table[:, 2:4], dataset.test.table[:, 2:4]])
            if len(sizes) == 0 or (sizes != sizes[0]).any():
                raise ConfigError(
                    f"recipe.resize is needed: the pictures of data set {dataset.name!r} have different sizes; "
                    "`resize: {}` makes them 224 x 224"
                )
            height, width = (int(extent) for extent in sizes[0])
    if recipe.resize is not None:
        return channels, recipe.resize.train, recipe.resize.train
    return channels, height, width


def check_loader(recipe: Recipe, dataset: Dataset | PictureDataset) -> None:
    """Refuse a loader that cannot give the recipe's images. Raises ConfigError or DataError, naming the fix."""
    if isinstance(dataset, PictureDataset) and any((p.table[:, 4] == 1).any() for p in (dataset.train, dataset.test)):
        check_jpeg_library()
    if recipe.loader.name != "ffcv":
        return
    check_ffcv()
    if recipe.loader.path is None:
        _own_file(dataset)
        return
    file = open_beton(Path(recipe.loader.path).expanduser())
    different = _difference(file, dataset)
    if different is not None:
        raise DataError(
            f"{file.path}: does not hold the training images of data set {dataset.name!r}: {different}. Write them "
            f"with `popnet data write`; a file of resized or compressed images is a data set of its own, `beton`"
        )


def _own_file(dataset: Dataset | PictureDataset) -> Beton:
    if isinstance(dataset, PictureDataset) and isinstance(dataset.train, BetonPictures):
        return dataset.train.file
    raise ConfigError(
        f"recipe.loader.path is needed: the .beton file of data set {dataset.name!r}, which `popnet data write` makes"
    )


def _difference(file: Beton, dataset: Dataset | PictureDataset) -> str | None:
    """What the file's images differ in from the training set's; None where they are the same.

    Pictures are compared as they are stored, byte by byte; of many, by digests that are kept (`stored_digest`).
    """
    labels = dataset.train_labels
    if len(file.labels) != len(labels):
        return f"it has {len(file.labels)} images, not {len(labels)}"
    if not np.array_equal(file.labels, labels):
        return "its labels are others"
    if isinstance(dataset, PictureDataset):
        if file.channels != dataset.train.channels or not np.array_equal(file.table[:, 1:], dataset.train.table[:, 1:]):
            return "its images are of other sizes or encodings"
        same = file.path.resolve() in _resolved(dataset.train) or _stored_digest(file) == dataset.train_stored_digest
        return None if same else "its pictures are others"
    shape = dataset.train_images.shape[1:]
    if file.channels != shape[2] or (file.table[:, 2:4] != shape[:2]).any() or file.table[:, 4].any():
        height, width = file.table[0, 2:4]
        return f"its images are not all raw {list(shape)}; the first is {[int(height), int(width), file.channels]}"
    data, size = file.bytes(), int(np.prod(shape))
    for image, offset in zip(dataset.train_images, file.table[:, 0]):
        if not np.array_equal(data[offset : offset + size], image.reshape(-1)):
            return "its pixels are others"
    return None


def _resolved(source: PictureSource) -> set[Path]:
    return {path.resolve() for path in source.files} if isinstance(source, BetonPictures) else set()


def _stored_digest(file: Beton) -> str:
    seen = file.path.stat()
    return _stored_digest_at(file.path, (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino))


@lru_cache(maxsize=4)  # recipes of one run read one file
def _stored_digest_at(path: Path, seen: tuple[int, ...]) -> str:
    return stored_digest(BetonPictures(open_beton(path)))


def reads_files(recipes: Iterable[Recipe], dataset: Dataset | PictureDataset) -> bool:
    """Whether a data set's pictures stay in their .beton file, and are not decoded into memory.

    Raises:
        DataError: they do not fit into memory, and lie in folders, or a recipe asks for the resident loader.
    """
    if isinstance(dataset, Dataset):
        return False
    names = {recipe.loader.name for recipe in recipes}
    from_file = isinstance(dataset.train, BetonPictures)
    if names == {"ffcv"} and from_file:
        return True
    parts: list[PictureSource] = [dataset.train, dataset.test]
    if names == {"ffcv"}:
        parts = [dataset.test]  # the training set is in loader.path
    needed = sum(int((p.table[:, 2] * p.table[:, 3]).sum()) * p.channels for p in parts)
    limit = int(_SHARE_OF_MEMORY * (available_memory() + dataset.kept_bytes))
    if needed <= limit:
        return False
    if from_file and "resident" not in names:
        check_ffcv()
        return True
    raise DataError(
        f"data set {dataset.name!r}: decoded, its pictures take {needed / 1e9:,.1f} GB, and {limit / 1e9:,.1f} GB is "
        "half of the free memory: write them to .beton files with `popnet data write`, and use them as data set "
        "`beton` with `loader: ffcv`"
    )


def share_pictures(dataset: PictureDataset, labels_digest: str, from_files: bool, train: bool = True) -> SharedPictures:
    """Decoded pictures into shared memory, but for what stays in files; what the data set kept of them it gives away.

    Args:
        from_files: leave what lies in .beton files there.
        train: whether the training set is wanted at all.

    Raises:
        DataError: a picture that cannot be read, named.
    """
    mean, std = (tuple(float(value) for value in values) for values in (dataset.mean, dataset.std))
    arrays: dict[str, NDArray[Any]] = {}
    files: list[Path | None] = []
    for part, source in (("train", dataset.train), ("test", dataset.test)):
        arrays[f"{part}_labels"] = source.labels
        if isinstance(source, BetonPictures) and from_files:
            files.append(source.file.path)
            continue
        files.append(None)
        decoded = dataset.take(part) if train or part == "test" else _nothing()
        arrays[f"{part}_bytes"], arrays[f"{part}_table"] = decoded.pixels, decoded.table
    dataset.forget()
    return SharedPictures(share_arrays(arrays), (files[0], files[1]), dataset.classes, mean, std, labels_digest)


def _nothing() -> Decoded:
    return Decoded(np.zeros(1, np.uint8), np.zeros((0, 5), np.int64))


def images_for(
    recipe: Recipe, shared: SharedDataset | SharedPictures, attached: tuple[Any, ...]
) -> tuple[Images, Images]:
    """The recipe's loaders of the training and the test images.

    Args:
        attached: from `shared.attach()`.
    """
    train, test = attached
    if isinstance(shared, SharedDataset):
        images = _framed(recipe, train), _framed(recipe, test)
    else:
        images = _loader(recipe, shared, train), _pictures(recipe, shared, test)
    if recipe.loader.name == "ffcv" and recipe.loader.path is not None:
        reading = recipe.loader.workers, recipe.batch_size
        path = Path(recipe.loader.path).expanduser()
        return _from_file(path, shared.mean, shared.std, recipe.resize, *reading), images[1]
    return images


def _framed(recipe: Recipe, images: ResidentImages) -> Images:
    if recipe.resize is None:
        return images
    pictures = uniform_pictures(images.images)
    constants = images.mean, images.std, recipe.resize
    return PictureImages(pictures, images.labels, *constants, lambda index: f"image {index}", recipe.threads)


def _pictures(recipe: Recipe, shared: SharedPictures, source: AttachedPictures) -> PictureImages:
    constants = shared.mean, shared.std, recipe.resize
    threads = recipe.threads if source.file is None else recipe.loader.workers
    return PictureImages(source.pictures, source.labels, *constants, source.name_of, threads)


def _loader(recipe: Recipe, shared: SharedDataset | SharedPictures, source: AttachedPictures) -> PictureImages:
    if source.file is None:
        assert isinstance(shared, SharedPictures)
        return _pictures(recipe, shared, source)
    reading = recipe.loader.workers, recipe.batch_size
    return _from_file(source.file.path, shared.mean, shared.std, recipe.resize, *reading)


@lru_cache(maxsize=4)  # members of one recipe in one process share what FFCV compiles
def _from_file(
    path: Path, mean: tuple[float, ...], std: tuple[float, ...], resize: Resize | None, workers: int, batch_size: int
) -> FfcvImages:
    source = mapped_pictures(open_beton(path))
    constants = mean, std, resize
    return FfcvImages(
        source.pictures, source.labels, *constants, source.name_of, workers, file=source.file, batch_size=batch_size
    )

"""Data sets by name; image data sets as plain arrays.

`load(name)` returns a `Dataset` of images, or a `Text`; `from_arrays` makes a Dataset of a user's own arrays. Nothing
is downloaded unless `fetch` is called. The `digest` of either identifies everything about it that training sees.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from popnet.data import cifar, files, synthetic, text_files
from popnet.data.choice import chosen_examples
from popnet.data.cifar import Cifar
from popnet.data.corpora import CORPORA, TextName
from popnet.data.files import Download, IdxSource
from popnet.data.npz import read_npz
from popnet.data.parquet import parquet_dataset
from popnet.data.picture_digests import closing_entry
from popnet.data.picture_sets import PictureDataset, beton_dataset, image_folder, imagenet
from popnet.data.statistics import IMAGENET, channel_statistics
from popnet.data.text import Text
from popnet.errors import ConfigError, DataError, nearest

_MODERATE_SIGNAL = 3.5  # weight of a synthetic image's template times the square root of its number of values
_LARGEST_CHANNEL_COUNT = 4  # beyond it, an array of four dimensions is more likely [n, c, h, w]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training set and a test set of equally large images.

    Attributes:
        name: what tables call it; not part of the digest.
        train_images: uint8 [n, height, width, channels], contiguous.
        train_labels: int64 [n], each 0 to classes - 1.
        test_images, test_labels: the same, of m examples.
        classes: number of classes.
        mean, std: one float a channel, of pixels scaled to [0, 1]; training sees (pixel / 255 - mean) / std.
        class_names: one a class, or None; not part of the digest.
        origin: of a copy of a published data set, the files that it was read from; not part of the digest.
    """

    name: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] | None = None
    origin: str | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width: the order in which models take images."""
        _, height, width, channels = self.train_images.shape
        return channels, height, width

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the four arrays with their shapes, the number of classes, mean and std; in hexadecimal.

        Computed once: do not write into the arrays.
        """
        state = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            portable = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            state.update(f"{portable.dtype.str}{portable.shape};".encode())
            state.update(portable.data)
        state.update(closing_entry(self.classes, (self.mean, self.std)))
        return state.hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the one who starts a run: of a copy, what it is and the digest that tells it from others."""
        if self.origin is None:
            return ()
        return (f"data set: {self.name}, from {self.origin}, digest {self.digest}",)

    def check_size(self, train_examples: int) -> None:
        """Raises ConfigError if there are not so many training examples."""
        available = len(self.train_labels)
        if not 1 <= train_examples <= available:
            raise ConfigError(
                f"train_examples must be 1 to {available}, the size of {self.name!r}, not {train_examples}"
            )

    def subset(self, train_examples: int) -> Dataset:
        """The same data set with `train_examples` of its training examples only; mean and std stay.

        The first ones, or, where labels lie in order of class, those of a fixed shuffle (`popnet.data.choice`).

        Raises:
            ConfigError: not between 1 and the number of training examples.
        """
        self.check_size(train_examples)
        if train_examples == len(self.train_labels):
            return self
        numbers = chosen_examples(self.train_labels, train_examples)
        chosen = slice(train_examples) if numbers is None else numbers
        return dataclasses.replace(self, train_images=self.train_images[chosen], train_labels=self.train_labels[chosen])

    def normalised_by(self, mean: Sequence[float], std: Sequence[float]) -> Dataset:
        """The same images with other normalisation constants, one a channel, of pixels scaled to [0, 1].

        Raises:
            ConfigError: another number of constants than channels, or a std that is not above 0.
        """
        channels = self.train_images.shape[-1]
        means, stds = tuple(float(value) for value in mean), tuple(float(value) for value in std)
        if len(means) != channels or len(stds) != channels:
            raise ConfigError(
                f"mean and std of {self.name!r} need one number for each of its {channels} channel(s), "
                f"not {len(means)} and {len(stds)}"
            )
        if not all(math.isfinite(value) for value in means) or not all(0 < value < math.inf for value in stds):
            raise ConfigError(f"mean of {self.name!r} must be finite and std above 0, not {means} and {stds}")
        return dataclasses.replace(self, mean=means, std=stds)


@dataclass(frozen=True)
class Availability:
    """Whether a data set is here.

    Attributes:
        ready: whether `load` will find it.
        where: the folder where it was found, `built in`, or how to get it.
    """

    ready: bool
    where: str


def from_arrays(
    train_images: ArrayLike,
    train_labels: ArrayLike,
    test_images: ArrayLike,
    test_labels: ArrayLike,
    *,
    name: str = "arrays",
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """Make a Dataset of one's own arrays: NumPy's, or what NumPy reads, such as PyTorch's on the CPU.

    Args:
        train_images, test_images: uint8 [n, height, width, channels], or [n, height, width] for one channel.
            Contiguous arrays are kept, not copied.
        train_labels, test_labels: integers [n], counted from 0.
        classes: number of classes; by default the largest label plus 1.
        mean, std: one number a channel, of pixels scaled to [0, 1]; by default those of the training set.

    Raises:
        DataError: an array of another type or shape, or a label out of range; the message names it.
        ConfigError: normalisation constants that do not fit.
    """
    x_train, x_test = _check_images("train_images", train_images), _check_images("test_images", test_images)
    y_train = _check_labels("train_labels", train_labels, len(x_train))
    y_test = _check_labels("test_labels", test_labels, len(x_test))
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(
            f"train_images are {x_train.shape[1:]} (height, width, channels), test_images {x_test.shape[1:]}"
        )
    count = int(max(y_train.max(), y_test.max())) + 1 if classes is None else classes
    for which, labels in (("train_labels", y_train), ("test_labels", y_test)):
        if labels.min() < 0 or labels.max() >= count:
            raise DataError(f"{which} hold {labels.min()} to {labels.max()}, and {count} classes are 0 to {count - 1}")
    if class_names is not None and len(class_names) != count:
        raise DataError(f"class_names holds {len(class_names)} names for {count} classes")
    own_mean, own_std = channel_statistics(x_train) if mean is None or std is None else (mean, std)
    names = None if class_names is None else tuple(class_names)
    dataset = Dataset(name, x_train, y_train, x_test, y_test, count, (), (), names)
    return dataset.normalised_by(own_mean if mean is None else mean, own_std if std is None else std)


def _check_images(which: str, images: ArrayLike) -> NDArray[np.uint8]:
    array = np.asarray(images)
    if array.dtype != np.uint8:
        hint = "; pass the pixels as they are, 0 to 255: popnet normalises them" if array.dtype.kind == "f" else ""
        raise DataError(f"{which} must be uint8, not {array.dtype}{hint}")
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or array.size == 0:
        raise DataError(f"{which} must be [n, height, width] or [n, height, width, channels], not {array.shape}")
    if array.shape[3] > _LARGEST_CHANNEL_COUNT >= array.shape[1]:
        raise DataError(
            f"{which} of shape {array.shape} seem to be [n, channels, height, width]: "
            f"pass [n, height, width, channels], such as images.transpose(0, 2, 3, 1)"
        )
    return np.ascontiguousarray(array)


def _check_labels(which: str, labels: ArrayLike, examples: int) -> NDArray[np.int64]:
    array = np.asarray(labels)
    if array.dtype.kind not in "iu":
        raise DataError(f"{which} must be integers, not {array.dtype}")
    if array.shape != (examples,):
        raise DataError(f"{which} must be [{examples}], one for each image, not {array.shape}")
    return np.ascontiguousarray(array, dtype=np.int64)


# The data sets by name.

_Loader = Callable[..., Dataset | PictureDataset]
_loaders: dict[str, _Loader] = {}  # each takes (root, **options)
_idx: dict[str, IdxSource] = {}
_cifars: dict[str, str] = {}  # by name, the constant of `popnet.data.cifar` that describes it


ImageName = Literal["cifar10", "cifar100", "digits", "fashion_mnist", "mnist", "npz", "synthetic"]

PictureName = Literal["beton", "image_folder", "imagenet", "parquet"]

Root = str | os.PathLike[str] | None


@overload
def load(name: ImageName, root: Root = None, **options: Any) -> Dataset: ...
@overload
def load(name: TextName, root: Root = None, **options: Any) -> Text: ...
@overload
def load(name: PictureName, root: Root = None, **options: Any) -> PictureDataset: ...
@overload
def load(name: str | Mapping[str, Any], root: Root = None, **options: Any) -> Dataset | PictureDataset | Text: ...
def load(name: str | Mapping[str, Any], root: Root = None, **options: Any) -> Dataset | PictureDataset | Text:
    """Load a data set.

    Args:
        name: one of `names()`, or a mapping of `name` and options, as in {"name": "text", "path": "corpus"}.
        root: the folder with the files; it alone is searched. Without it, a system package's folder where
            there is one, then $POPNET_DATA, or ~/.cache/popnet/data.
        **options: `mean` and `std` replace an image data set's normalisation constants, `mean: own` by those of its
            training set, `mean: imagenet` by ImageNet's; the rest is the data set's own, such as `seed` of
            `synthetic` and `path` of `text`.

    Returns:
        A Dataset of images; a PictureDataset for `image_folder`, `beton`, `parquet` and `imagenet`; a Text for `ptb`,
        `bible`, `text` and `synthetic_text`.

    Raises:
        ConfigError: unknown name or option.
        DataError: the files are missing or damaged; the message says where they were looked for and how to
            get them.
    """
    if isinstance(name, Mapping):
        if "name" not in name:
            raise ConfigError(f"a data set needs a name, as in {{'name': 'text', 'path': ...}}, not {dict(name)!r}")
        return load(**{**name, "root": root, **options})
    chosen = None if root is None else Path(root).expanduser()
    if check_name(name) in CORPORA:
        corpus = CORPORA[name]
        _check_options(name, corpus.load, options)
        return corpus.load(chosen, **options)
    loader = _loaders[name]
    mean, std = options.pop("mean", None), options.pop("std", None)
    _check_options(name, loader, options, "mean", "std")
    return normalised(loader(chosen, **options), mean, std)


def normalised(dataset: Dataset | PictureDataset, mean: Any, std: Any) -> Dataset | PictureDataset:
    """A data set by the options `mean` and `std`: None, one number a channel, or for both `own` or `imagenet`.

    Raises ConfigError.
    """
    if isinstance(mean, str) or isinstance(std, str):
        word = mean if std is None else std
        if word not in ("own", "imagenet") or mean not in (None, word):
            raise ConfigError(
                f"data set {dataset.name!r}: mean and std must each be one number a channel, or together `own` or "
                f"`imagenet`, not {mean!r} and {std!r}"
            )
        if word == "imagenet":
            return dataset.normalised_by(*IMAGENET)
        if isinstance(dataset, PictureDataset):
            return dataset.normalised_by_its_own()
        return dataset.normalised_by(*channel_statistics(dataset.train_images))
    for option, values in (("mean", mean), ("std", std)):
        if values is not None and not _are_numbers(values):
            raise ConfigError(
                f"data set {dataset.name!r}: {option} must be a list of one number a channel, not {values!r}"
            )
    if mean is None and std is None:
        return dataset
    if isinstance(dataset, PictureDataset):
        return dataset.normalised_by(mean, std)
    return dataset.normalised_by(dataset.mean if mean is None else mean, dataset.std if std is None else std)


def _are_numbers(values: Any) -> bool:
    if isinstance(values, np.ndarray):
        return values.ndim == 1 and values.dtype.kind in "iuf"
    return isinstance(values, Sequence) and all(
        isinstance(value, (int, float, np.number)) and not isinstance(value, bool) for value in values
    )


def _check_options(name: str, loader: Callable[..., Any], options: Mapping[str, Any], *more: str) -> None:
    """Raises ConfigError for an option that the loader, called with (root, **options), does not have, or lacks."""
    parameters = list(inspect.signature(loader).parameters.values())[1:]
    known = [*(parameter.name for parameter in parameters), *more]
    for option in options:
        if option not in known:
            raise ConfigError(
                f"data set {name!r} has no option {option!r}: {nearest(option, known) if known else 'it has none'}"
            )
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.name not in options:
            raise ConfigError(f"data set {name!r} needs the option {parameter.name!r}")


def names() -> tuple[str, ...]:
    """The data sets that `load` knows, in alphabetical order."""
    return tuple(sorted([*_loaders, *CORPORA]))


def check_name(name: str) -> str:
    """Return the name of a data set that exists, here or to be got.

    Raises:
        ConfigError: no such data set; the message proposes the nearest names.
    """
    if name not in _loaders and name not in CORPORA:
        raise ConfigError(f"unknown dataset {name!r}: {nearest(name, names())}")
    return name


def available(root: str | os.PathLike[str] | None = None) -> dict[str, Availability]:
    """Each data set's name with where it was found, or how to get it; the files are not read."""
    chosen = None if root is None else Path(root).expanduser()
    return {name: _availability(name, chosen) for name in names()}


def _availability(name: str, root: Path | None) -> Availability:
    if name in CORPORA:
        place = CORPORA[name].locate(root)
        return Availability(place is not None, CORPORA[name].how_to_get(root) if place is None else place)
    if name == "imagenet":
        sentence = missing(name, root)
        folder = (files.default_root() if root is None else root) / "imagenet"
        return Availability(sentence is None, sentence or str(folder))
    if name in _IN_OPTIONS:
        return Availability(True, _IN_OPTIONS[name])
    if name in _cifars:
        return _availability_of_cifar(_cifar(name), root)
    if name not in _idx:
        return Availability(True, "built in")
    found = files.locate(_idx[name], root)
    return Availability(found is not None, files.how_to_get(_idx[name], root) if found is None else str(found))


_IN_OPTIONS = {
    "beton": "wherever the options train and test say",
    "image_folder": "wherever the options train and test say",
    "npz": "wherever the option path says, or train and test",
    "parquet": "wherever the options train and test say",
}
"""The data sets that have no place of their own, and where they are."""


def _availability_of_cifar(known: Cifar, root: Path | None) -> Availability:
    found = cifar.containers(known, root)
    if not found:
        return Availability(False, cifar.how_to_get(known, root))
    reasons = []
    for container in found:
        try:
            if not cifar.only_a_copy(known, container):
                return Availability(True, container.where)
            taken = f"only a JPEG copy, {container.where}, which `copy: true` takes"
            reasons.append(f"{taken}; {cifar.how_to_get(known, root)}")
        except DataError as error:
            reasons.append(str(error))
    return Availability(False, reasons[0])


def missing(name: str, root: str | os.PathLike[str] | None = None) -> str | None:
    """The sentence of the DataError that `load` raises where a data set's files are not there; None where they are.

    Files are not read. Data sets whose place is an option, or that are built in, are never missing.

    Raises:
        ConfigError: unknown name.
    """
    chosen = None if root is None else Path(root).expanduser()
    base = files.default_root() if chosen is None else chosen
    if check_name(name) in _cifars:
        known = _cifar(name)
        return None if cifar.containers(known, chosen) else cifar.not_found(known, chosen)
    if name in _idx:
        return None if files.locate(_idx[name], chosen) else files.not_found(_idx[name], chosen)
    if name == "imagenet" and not any((base / name / part).exists() for part in ("train", "train.beton")):
        try:
            imagenet(base)
        except DataError as error:
            return str(error) + files.root_named(chosen)
    if name == "ptb":
        return None if text_files.locate_treebank(chosen) else text_files.not_found_treebank(chosen)
    if name == "bible" and CORPORA[name].locate(chosen) is None:
        return f"data set 'bible' was not found: {CORPORA[name].how_to_get(chosen)}"
    return None


def fetch(name: str, root: str | os.PathLike[str] | None = None) -> Path | None:
    """Download a data set through torchvision, to where `load` with the same root finds it.

    Returns:
        The folder that holds it; None for one that is there without a download.

    Raises:
        ConfigError: unknown name.
        DataError: the download failed, or popnet cannot download this one; the message says how to get it.
    """
    chosen = None if root is None else Path(root).expanduser()
    download = _download(check_name(name))
    if download is not None:
        return files.fetch(download, chosen)
    state = _availability(name, chosen)
    if not state.ready:
        raise DataError(f"data set {name!r} is not downloaded by popnet: {state.where}")
    return None


def _download(name: str) -> Download | None:
    if name in _cifars:
        return _cifar(name).download
    return _idx[name].download if name in _idx else None


def _builtin(name: str) -> Callable[[_Loader], _Loader]:
    def enter(loader: _Loader) -> _Loader:
        _loaders[name] = loader
        return loader

    return enter


@_builtin("digits")
def _digits(root: Path | None) -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8x8: the first 898 train, the last 899 test.

    Pixels of 0 to 16 become 0 to 255, value * 255 / 16 rounded to the nearest, half up. Normalised by the
    training set's own mean and standard deviation.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    values = bunch.images.astype(np.int64)
    images = ((values * 255 + 8) // 16).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    return from_arrays(images[:898], labels[:898], images[898:], labels[898:], name="digits", classes=10)


@_builtin("synthetic")
def _synthetic(
    root: Path | None,
    train: int = 2000,
    test: int = 1000,
    height: int = 32,
    width: int = 32,
    channels: int = 3,
    classes: int = 10,
    signal: float | None = None,
    seed: int = 1,
) -> Dataset:
    """Seeded images of any shape: a template for each class under noise, see `popnet.data.synthetic`.

    `signal`, 0 to 1, is the template's weight; by default 3.5 / sqrt(pixels * channels), at which a linear
    model is right on about three quarters of ten balanced classes. A smaller seeded set is the beginning of a
    larger one. Normalised by the training set's own mean and standard deviation.
    """
    sizes = {
        "train": train,
        "test": test,
        "height": height,
        "width": width,
        "channels": channels,
        "classes": classes,
    }
    for option, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigError(f"data set 'synthetic': {option} must be a positive integer, not {size!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ConfigError(f"data set 'synthetic': seed must be 0 to 2**64 - 1, not {seed!r}")
    if signal is None:
        signal = min(1.0, _MODERATE_SIGNAL / math.sqrt(height * width * channels))
    if not 0 <= signal <= 1:
        raise ConfigError(f"data set 'synthetic': signal must be 0 to 1, not {signal!r}")
    shape = (height, width, channels)
    x_train, y_train = synthetic.make_split(
        train, shape, classes, signal, seed, synthetic.TRAIN_LABELS, synthetic.TRAIN_NOISE
    )
    x_test, y_test = synthetic.make_split(
        test, shape, classes, signal, seed, synthetic.TEST_LABELS, synthetic.TEST_NOISE
    )
    mean, std = channel_statistics(x_train)
    return Dataset("synthetic", x_train, y_train, x_test, y_test, classes, mean, std)


@_builtin("image_folder")
def _image_folder(root: Path | None, train: str, test: str, mapping: str | None = None) -> PictureDataset:
    """Pictures in folders with a folder for each class; `mapping`: from the test set's folders to classes."""
    file = None if mapping is None else _path("image_folder", "mapping", mapping)
    return image_folder(_path("image_folder", "train", train), _path("image_folder", "test", test), mapping=file)


@_builtin("beton")
def _beton(root: Path | None, train: str, test: str, classes: int | None = None) -> PictureDataset:
    """Pictures in two .beton files, FFCV's format."""
    if classes is not None and (isinstance(classes, bool) or not isinstance(classes, int)):
        raise ConfigError(f"data set 'beton': classes must be a whole number, not {classes!r}")
    return beton_dataset(_path("beton", "train", train), _path("beton", "test", test), classes=classes)


@_builtin("imagenet")
def _imagenet(root: Path | None) -> PictureDataset:
    """ImageNet's training and validation pictures, below the folder `imagenet` of the root."""
    sentence = missing("imagenet", root)
    if sentence is not None:
        raise DataError(sentence)
    return imagenet(files.default_root() if root is None else root)


@_builtin("parquet")
def _parquet(
    root: Path | None, train: str, test: str | None = None, image: str | None = None, label: str | None = None
) -> PictureDataset:
    """Pictures in Parquet files, Hugging Face's image layout: files, patterns, or one folder for both splits.

    `image` and `label` name the columns where it is not clear which they are. See `popnet.data.parquet`.
    """
    _check_texts("parquet", image=image, label=label)
    training = _below(root, _path("parquet", "train", train))
    return parquet_dataset(
        training, None if test is None else _below(root, _path("parquet", "test", test)), image, label
    )


@_builtin("npz")
def _npz(
    root: Path | None,
    path: str | None = None,
    train: str | None = None,
    test: str | None = None,
    train_images: str | None = None,
    train_labels: str | None = None,
    test_images: str | None = None,
    test_labels: str | None = None,
) -> Dataset:
    """Arrays in one .npz (`path`) or two (`train` and `test`); the other options name arrays. See `popnet.data.npz`."""
    both, training, testing = (
        None if place is None else _below(root, _path("npz", option, place))
        for option, place in (("path", path), ("train", train), ("test", test))
    )
    arrays = {
        "train_images": train_images,
        "train_labels": train_labels,
        "test_images": test_images,
        "test_labels": test_labels,
    }
    _check_texts("npz", **arrays)
    made = read_npz(both, training, testing, arrays)
    try:
        return from_arrays(*made, name="npz")
    except DataError as error:
        raise DataError(f"{path or f'{train} and {test}'}: {error}") from None


def _path(name: str, option: str, value: Any) -> Path:
    """An option that names a file or folder. Raises ConfigError."""
    if not isinstance(value, (str, os.PathLike)):
        raise ConfigError(
            f"data set {name!r}: {option} must be a path, not {value!r}: for several files give a pattern"
        )
    return Path(value).expanduser()


def _check_texts(name: str, **options: Any) -> None:
    for option, value in options.items():
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"data set {name!r}: {option} must be a name, not {value!r}")


def _below(root: Path | None, path: Path) -> Path:
    return path if root is None else root / path


def _enter_idx(
    source: IdxSource, mean: tuple[float, ...], std: tuple[float, ...], class_names: tuple[str, ...] | None = None
) -> None:
    def loader(root: Path | None, copy: bool = False) -> Dataset:
        _check_copy(source.name, copy)
        train, test, origin = files.read(source, root, copy)
        name = source.name if origin is None else f"{source.title}, own copy"
        made = from_arrays(*(*train, *test), name=name, classes=10, mean=mean, std=std, class_names=class_names)
        return made if origin is None else dataclasses.replace(made, origin=str(origin))

    _loaders[source.name] = loader
    _idx[source.name] = source


def _enter_cifar(name: str, constant: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    def loader(root: Path | None, copy: bool = False) -> Dataset:
        _check_copy(name, copy)
        read = cifar.load(_cifar(name), root, copy)
        names = read.class_names
        made = from_arrays(
            *(*read.train, *read.test), name=read.name, classes=len(names), mean=mean, std=std, class_names=names
        )
        return dataclasses.replace(made, origin=read.origin)

    _loaders[name] = loader
    _cifars[name] = constant


def _check_copy(name: str, copy: Any) -> None:
    if not isinstance(copy, bool):
        raise ConfigError(f"data set {name!r}: copy must be true or false, not {copy!r}")


def _cifar(name: str) -> Cifar:
    known = getattr(cifar, _cifars[name])
    assert isinstance(known, Cifar)
    return known


# Constants: Summers & Dinneen's for CIFAR-10 and MNIST; the data's own, rounded, for the other two.
_enter_cifar("cifar10", "CIFAR10", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_enter_cifar("cifar100", "CIFAR100", (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
_enter_idx(IdxSource(Download("mnist", "MNIST", "MNIST/raw"), "MNIST", ("mnist",)), (0.1307,), (0.3081,))
_enter_idx(
    IdxSource(
        Download("fashion_mnist", "FashionMNIST", "FashionMNIST/raw"),
        "Fashion-MNIST",
        ("fashion_mnist", "fashion-mnist"),
        packaged=files.DEBIAN_FASHION_MNIST,
        package="dataset-fashion-mnist",
    ),
    (0.2860,),
    (0.3530,),
    (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)

"""CIFAR-10 and CIFAR-100 as people have them: the authors' files, Parquet files, or folders of pictures.

Without `copy` the pixels must be the published ones. Of the authors' files their md5 says so; of all others the mean
and standard deviation of each channel, of the training and of the test set, to 8 decimals. A copy has as many images
of each class, and pixels of its own: no number from it is one of CIFAR's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from popnet.data.cifar_files import (
    SIDE,
    Batches,
    Split,
    binary_splits,
    is_published_archive,
    lacking,
    not_published,
    python_splits,
    read_archive,
    read_folder,
)
from popnet.data.files import Download, default_root, how_to_fetch, root_named
from popnet.data.folders import class_folders, folder_pictures
from popnet.data.parquet import (
    ParquetPictures,
    check_both_named,
    column_names,
    find_columns,
    labels_by_name,
    read_split,
    row_count,
    split_files,
)
from popnet.data.picture_sets import PictureSource
from popnet.data.stacking import stacked
from popnet.data.statistics import Constants, channel_statistics
from popnet.errors import DataError

_TOLERANCE = 5.1e-9  # of numbers given to 8 decimals

Kind = Literal["python batches", "python archive", "binary batches", "binary archive", "Parquet", "class folders"]


@dataclass(frozen=True)
class Cifar:
    """One of the two data sets.

    Attributes:
        name, title: popnet's and the authors' name of it.
        class_names: in the order of their numbers.
        a_class: how many training and test images each class has.
        statistics: of the channels of the training and the test set.
        python, binary: the authors' files.
        download: how torchvision gets it.
        folders: below the root, where Parquet files and class folders are looked for.
        label: the column of its labels where a Parquet file has more than one.
        aliases: what else classes are called, as `_plain` writes it.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    a_class: tuple[int, int]
    statistics: tuple[Constants, Constants]
    python: Batches
    binary: Batches
    download: Download
    folders: tuple[str, ...]
    label: str
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each class, by its name and its aliases, as `_plain` writes them."""
        own = {_plain(name): number for number, name in enumerate(self.class_names)}
        return own | {alias: own[_plain(name)] for alias, name in self.aliases.items()}


@dataclass(frozen=True)
class Container:
    """Something below the root that holds the data set, or a copy of it."""

    kind: Kind
    path: Path

    @property
    def where(self) -> str:
        return f"{self.path} ({self.kind})"


@dataclass(frozen=True)
class Images:
    """What was read.

    Attributes:
        name: of the data set, `CIFAR-10, JPEG copy` for one.
        origin: where a copy was read from; None of the published pixels.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    origin: str | None


def load(cifar: Cifar, root: Path | None, copy: bool = False) -> Images:
    """Read the first container below the root with the published pixels, or the only one where a copy is wanted.

    Raises:
        DataError: none is there, all are damaged or of other pixels or sizes (of the first is said why), or there are
            several copies.
    """
    found = containers(cifar, root)
    if not found:
        raise DataError(not_found(cifar, root))
    if copy:
        _check_single(found)
        return read(cifar, found[0], copy)
    reasons = []
    for container in found:
        try:
            return read(cifar, container)
        except DataError as error:
            reasons.append(error)
    raise reasons[0]


def read(cifar: Cifar, container: Container, copy: bool = False) -> Images:
    """Read a container, and check what it holds. Raises DataError."""
    if container.kind in ("Parquet", "class folders"):
        train, test, compressed = _read_pictures(cifar, container, copy)
    else:
        train, test, compressed = *_read_batches(cifar, container, copy), False
    if copy and (compressed or not _is_published(cifar, train, test)):
        name = f"{cifar.title}, {'JPEG' if compressed else 'own'} copy"
        return Images(name, train, test, cifar.class_names, container.where)
    if container.kind in ("Parquet", "class folders", "binary batches"):
        _check_statistics(cifar, container, train, test)
    return Images(cifar.name, train, test, cifar.class_names, None)


# Where it is looked for.


def containers(cifar: Cifar, root: Path | None) -> list[Container]:
    """What there is of the data set below the root, the authors' files first; unread."""
    base = default_root() if root is None else root
    found = []
    for form, folder_kind, archive_kind in (
        (cifar.python, "python batches", "python archive"),
        (cifar.binary, "binary batches", "binary archive"),
    ):
        folder = base if base.name == form.folder else base / form.folder
        if folder.is_dir() and not lacking(folder, form):
            found.append(Container(folder_kind, folder))  # type: ignore[arg-type]
        if (base / form.archive).is_file():
            found.append(Container(archive_kind, base / form.archive))  # type: ignore[arg-type]
    places = [*(base / name for name in cifar.folders), base]
    anything = None if base.name in cifar.folders else base  # a folder where anything may lie
    found += [Container("Parquet", p) for p in places if _has_parquet(cifar, p, p == anything)]
    found += [Container("class folders", p) for p in places if _has_folders(cifar, p, p == anything)]
    return found


def only_a_copy(cifar: Cifar, container: Container) -> bool:
    """Whether a container's first picture is a JPEG, which the published ones are not. Raises DataError."""
    if container.kind == "Parquet":
        files = split_files(container.path, "train", shared=True)
        return read_split(files, label=_label_column(cifar, files[0]))[0].encoded(0).jpeg
    if container.kind == "class folders":
        return _folder_split(cifar, container.path, "train").encoded(0).jpeg
    return False


def not_found(cifar: Cifar, root: Path | None) -> str:
    """The sentence that says where it was looked for, and all the ways to get it."""
    base = default_root() if root is None else root
    for form in (cifar.python, cifar.binary):
        folder = base if base.name == form.folder else base / form.folder
        if folder.is_dir():
            problem = f"is not here: {folder} is incomplete: it lacks {', '.join(lacking(folder, form))}"
            return f"data set {cifar.name!r} {problem}: {how_to_get(cifar, root)}{root_named(root)}"
    return (
        f"data set {cifar.name!r} is not here: {how_to_get(cifar, root)} (looked for in {base} and its "
        f"{', '.join(cifar.folders)}){root_named(root)}"
    )


def how_to_get(cifar: Cifar, root: Path | None) -> str:
    """The ways to get it, one clause."""
    base = default_root() if root is None else root
    return (
        f"{how_to_fetch(cifar.download, root)}, or bring it: {cifar.python.archive} or {cifar.binary.archive} into "
        f"{base}, train*.parquet and test*.parquet or train/CLASS/*.png and test/CLASS/*.png into "
        f"{base / cifar.folders[0]}"
    )


def _has_parquet(cifar: Cifar, folder: Path, is_root: bool) -> bool:
    """Whether a folder holds Parquet files; in the root itself, where anything may lie, this data set's."""
    if not is_root:
        try:
            return folder.is_dir() and bool(split_files(folder, "train", shared=True))
        except DataError:
            return any(folder.glob("*.parquet")) or any(folder.glob("*/*.parquet"))
    if not any(folder.glob("*.parquet")):
        return False
    try:
        first = split_files(folder, "train", shared=True)[0]
        if find_spec("pyarrow") is None:
            return True
        names = find_columns(first, label=_label_column(cifar, first)).class_names
        if names is None:
            return _has_its_rows(cifar, folder)
        return {cifar.numbers.get(_plain(name)) for name in names} == set(cifar.numbers.values())
    except DataError:
        return False


def _has_its_rows(cifar: Cifar, folder: Path) -> bool:
    """Whether Parquet files without names of classes have as many rows and classes. Raises DataError."""
    splits = [split_files(folder, split, shared=True) for split in ("train", "test")]
    rows = tuple(row_count(files) for files in splits)
    if rows != tuple(count * len(cifar.class_names) for count in cifar.a_class):
        return False
    pictures, names = read_split(splits[1], label=_label_column(cifar, splits[1][0]))
    if names is None:
        return int(pictures.labels.max()) == len(cifar.class_names) - 1
    return set(_numbers_of(cifar, names)) == set(names)


def _has_folders(cifar: Cifar, folder: Path, is_root: bool) -> bool:
    if not (folder / "train").is_dir() or not (folder / "test").is_dir():
        return False
    try:
        names = class_folders(folder / "train")
        named = not any(name.isdecimal() for name in names)  # numbers can be any data set's
        return not is_root or (named and len(_folder_labels(cifar, folder / "train", names)) == len(cifar.class_names))
    except DataError:
        return False


def _check_single(found: Sequence[Container]) -> None:
    """Raises DataError where it is not clear which is meant; a folder and the archive that it came from are one."""
    each: dict[tuple[str, Path | None], Container] = {}
    for container in found:
        pictures = container.kind in ("Parquet", "class folders")
        each.setdefault((container.kind.split()[0], container.path if pictures else None), container)
    if len(each) > 1:
        raise DataError(
            f"which copy is meant is not clear: {' and '.join(c.where for c in each.values())} are there: let "
            "$POPNET_DATA name a folder that holds one of them"
        )


# The authors' files.


def _read_batches(cifar: Cifar, container: Container, copy: bool) -> tuple[Split, Split]:
    python = container.kind.startswith("python")
    form = cifar.python if python else cifar.binary
    if container.kind.endswith("archive"):
        files = read_archive(container.path, form)
        problem = not_published(files, form)
        if not python and not is_published_archive(container.path, form):
            problem = f"its md5 is not the published {form.md5[form.archive]}"
    else:
        files = read_folder(container.path, form)
        problem = not_published(files, form)
    again = how_to_fetch(cifar.download, container.path.parent)
    try:
        train, test, names = (python_splits if python else binary_splits)(container.path, files, form)
        if names is not None and [_plain(name) for name in names] != [_plain(name) for name in cifar.class_names]:
            told = ", ".join(names)
            raise DataError(f"{container.path}: {form.names} names other classes than {cifar.title}'s: {told}")
        _check_counts(cifar, container, train[1], test[1])
    except DataError as error:
        raise error if copy or not problem else DataError(f"{error}; {problem}: delete it and {again}") from None
    if problem and not copy:
        raise DataError(
            f"{container.path} is not {cifar.title} as published: {problem}: take it as '{cifar.title}, own copy' by "
            f"{_copy_option(cifar)}, or {again}"
        )
    return train, test


# Pictures.


def _read_pictures(cifar: Cifar, container: Container, copy: bool) -> tuple[Split, Split, bool]:
    """Both splits, and whether any picture is a JPEG."""
    if not copy and only_a_copy(cifar, container):
        raise DataError(
            f"{container.path} holds JPEG pictures, whose pixels are not {cifar.title}'s: take them as "
            f"'{cifar.title}, JPEG copy' by {_copy_option(cifar)}, or "
            f"{how_to_fetch(cifar.download, None)}"
        )
    sources = (_parquet_splits if container.kind == "Parquet" else _folder_splits)(cifar, container.path)
    _check_counts(cifar, container, *(pictures.labels for pictures in sources))
    splits, compressed = [], False
    for pictures in sources:
        images, jpegs = stacked(pictures, SIDE, SIDE)
        splits.append((images, pictures.labels))
        compressed |= jpegs
    return splits[0], splits[1], compressed


def _parquet_splits(cifar: Cifar, folder: Path) -> tuple[ParquetPictures, ParquetPictures]:
    read: list[Any] = []
    for split in ("train", "test"):
        files = split_files(folder, split, shared=True)
        read += read_split(files, label=_label_column(cifar, files[0]))
    training, names, testing, test_names = read
    check_both_named(training, names, testing, test_names)
    return _as_authors(cifar, training, names), _as_authors(cifar, testing, test_names)


def _as_authors(cifar: Cifar, pictures: ParquetPictures, names: Sequence[str] | None) -> ParquetPictures:
    """The pictures with the authors' numbers as labels; bare numbers are these."""
    if names is None:
        names = tuple(str(number) for number in range(int(pictures.labels.max()) + 1))
    return labels_by_name(pictures, names, _numbers_of(cifar, names), f"{cifar.title}'s")


def _numbers_of(cifar: Cifar, names: Sequence[str]) -> dict[str, int]:
    """The class of each name that is known: the classes' names and aliases, or the authors' numbers."""
    numbers = cifar.numbers
    if all(name.isdecimal() for name in names):
        numbers = {str(number): number for number in numbers.values()}
    return {name: numbers[_plain(name)] for name in names if _plain(name) in numbers}


def _label_column(cifar: Cifar, path: Path) -> str | None:
    return cifar.label if cifar.label in column_names(path) else None


def _folder_splits(cifar: Cifar, folder: Path) -> tuple[PictureSource, PictureSource]:
    return _folder_split(cifar, folder, "train"), _folder_split(cifar, folder, "test")


def _folder_split(cifar: Cifar, folder: Path, split: str) -> PictureSource:
    place = folder / split
    return folder_pictures(place, _folder_labels(cifar, place, class_folders(place)))


def _folder_labels(cifar: Cifar, place: Path, names: Sequence[str]) -> dict[str, int]:
    """The class of each folder, by its name, in the order of the classes. Raises DataError naming one of none."""
    numbers = _numbers_of(cifar, names)
    labels: dict[str, int] = {}
    for name in names:
        label = numbers.get(name)
        if label is None or label in labels.values():
            raise DataError(
                f"{place / name}: is named after none of {cifar.title}'s classes, or after the same as another folder: "
                f"{', '.join(cifar.class_names[:10])}{', ...' if len(cifar.class_names) > 10 else ''}"
            )
        labels[name] = label
    return dict(sorted(labels.items(), key=lambda entry: entry[1]))


def _plain(name: str) -> str:
    """A class's name without what people write differently: capitals, spaces, underscores, hyphens."""
    return "".join(character for character in name.casefold() if character.isalnum())


# What it must hold.


def _copy_option(cifar: Cifar) -> str:
    return f"`dataset: {{name: {cifar.name}, kwargs: {{copy: true}}}}`"


def _check_counts(cifar: Cifar, container: Container, *splits: NDArray[np.int64]) -> None:
    """Of the labels, before any picture is decoded. Raises DataError."""
    for labels, wanted, which in zip(splits, cifar.a_class, ("training", "test")):
        classes = len(cifar.class_names)
        right = len(labels) == wanted * classes and labels.min() >= 0 and labels.max() < classes
        if not right or (np.bincount(labels, minlength=classes) != wanted).any():
            raise DataError(
                f"{container.path}: holds {len(labels):,} {which} images, and {cifar.title} has {wanted * classes:,}, "
                f"{wanted:,} of each class"
            )


def _is_published(cifar: Cifar, *splits: Split) -> bool:
    """By the channels' statistics, which are blind to the order of images and of pixels."""
    return all(
        _near(have, want)
        for (images, _), wanted in zip(splits, cifar.statistics)
        for have, want in zip(channel_statistics(images), wanted)
    )


def _check_statistics(cifar: Cifar, container: Container, *splits: Split) -> None:
    for (images, _), wanted, which in zip(splits, cifar.statistics, ("training", "test")):
        found = channel_statistics(images)
        if not all(_near(have, want) for have, want in zip(found, wanted)):
            means = ", ".join(f"{value:.8f}" for value in found[0])
            raise DataError(
                f"{container.path} is not {cifar.title} as published: the channels of its {which} images have the "
                f"means {means}, and {', '.join(f'{value:.8f}' for value in wanted[0])} are right: take own pixels by "
                f"`copy: true`, or {how_to_fetch(cifar.download, None)}"
            )


def _near(have: Sequence[float], want: Sequence[float]) -> bool:
    return bool(np.all(np.abs(np.subtract(have, want)) <= _TOLERANCE))


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))

CIFAR10 = Cifar(
    name="cifar10",
    title="CIFAR-10",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    a_class=(5000, 1000),
    statistics=(
        ((0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)),
        ((0.49421428, 0.48513139, 0.45040909), (0.24665252, 0.24289226, 0.26159238)),
    ),
    python=Batches(
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        _BATCHES,
        ("test_batch",),
        "batches.meta",
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
    ),
    binary=Batches(
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        tuple(f"{name}.bin" for name in _BATCHES),
        ("test_batch.bin",),
        "batches.meta.txt",
        {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
    ),
    download=Download("cifar10", "CIFAR10", "cifar-10-batches-py"),
    folders=("cifar10", "cifar-10", "cifar10-jpeg"),
    label="label",
    aliases={"plane": "airplane", "aeroplane": "airplane", "car": "automobile", "auto": "automobile"},
)

_CIFAR100_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
    dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
    leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
    otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
    road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""

CIFAR100 = Cifar(
    name="cifar100",
    title="CIFAR-100",
    class_names=tuple(_CIFAR100_NAMES.split()),
    a_class=(500, 100),
    statistics=(
        ((0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)),
        ((0.50736203, 0.48668956, 0.44108857), (0.26748815, 0.25659310, 0.27630851)),
    ),
    python=Batches(
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        ("train",),
        ("test",),
        "meta",
        {
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
    ),
    binary=Batches(
        "cifar-100-binary",
        "cifar-100-binary.tar.gz",
        ("train.bin",),
        ("test.bin",),
        "fine_label_names.txt",
        {"cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"},
    ),
    download=Download("cifar100", "CIFAR100", "cifar-100-python"),
    folders=("cifar100", "cifar-100", "cifar100-jpeg"),
    label="fine_label",
    aliases={"cra": "crab"},  # as the copy on Hugging Face's hub spells it
)

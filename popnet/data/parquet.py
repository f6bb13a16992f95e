"""Labelled pictures in Parquet files, as Hugging Face's hub keeps them: a column of pictures, and one of labels.

A picture is a struct with its file's `bytes`, or these alone. Labels are numbers, whose names the schema may hold
(`ClassLabel`), or the names themselves. Files are read by row groups, of which a few are in memory at a time.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.data.beton import Encoded
from popnet.data.decoding import decoded_picture, encoded_picture, picture_row
from popnet.data.picture_sets import PictureDataset
from popnet.errors import DataError
from popnet.memory import available_memory
from popnet.untrusted.texts import parse_json

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label", "coarse_label", "class", "target")

_SPLIT_WORDS = {"train": ("train", "training"), "test": ("test", "testing", "validation", "valid", "val", "dev")}
_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)(?:-[0-9a-f]+)?")
_GROUPS_KEPT = 16  # at most, of small ones
_ROWS_APART = 1024
_MOST_CLASSES = 1 << 20  # that bare numbers can tell apart
_BYTES_A_ROW = 64  # of labels and tables


# Which files.


def split_files(given: Path, split: str, shared: bool = False) -> tuple[Path, ...]:
    """The files of one split, in the order of their rows: shards by their numbers, others by name.

    Args:
        given: a file, a pattern as in `data/train-*.parquet`, or a folder. Of a folder that holds both splits, those
            files are taken whose names have the split's word in them, or that lie in a folder of that name.
        split: `train` or `test`.
        shared: the folder is that of the other split too.

    Raises:
        DataError: no such files, a shard is missing, or it is not clear which are meant.
    """
    if given.is_file():
        return (given,)
    if given.is_dir():
        found = _in_folder(given, split, shared)
        if not found:
            raise DataError(f"{given}: holds no Parquet files of the {split} split, such as {split}.parquet")
        return _whole(_numbered(found))
    if _is_pattern(given):
        matched = sorted((p for p in given.parent.glob(given.name) if p.is_file()), key=_natural)
        if matched:
            return _whole(matched)
    raise DataError(f"{given}: no such file or folder")


def _is_pattern(given: Path) -> bool:
    return any(character in given.name for character in "*?[")


def _in_folder(folder: Path, split: str, shared: bool) -> list[Path]:
    places = [(folder, shared), (folder / split, False), (folder / "data", True)]
    below = [p for p in folder.iterdir() if p.is_dir() and p.name[0] != "." and (p, True) not in places]
    if len(below) == 1:
        places += [(below[0], True), (below[0] / split, False)]  # of the hub: the folder of its configuration
    for place, mixed in places:
        files = sorted((p for p in place.glob("*.parquet") if p.name[0] != "." and p.is_file()), key=_natural)
        by_word = [(_word_of(p), p) for p in files]
        for word in _SPLIT_WORDS[split]:
            if named := [p for found, p in by_word if found == word]:
                return named
        if files and not mixed and all(word is None for word, _ in by_word):
            return files
    return []


def _word_of(path: Path) -> str | None:
    """The word in a file's name that tells its split; None where there is none, or more than one."""
    words = set(re.split("[^a-z]+", path.stem.lower())) & {w for known in _SPLIT_WORDS.values() for w in known}
    return words.pop() if len(words) == 1 else None


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _numbered(files: Sequence[Path]) -> Sequence[Path]:
    """Files of a folder whose names differ in numbers alone, or shards. Raises DataError of any others."""
    plain = [path.stem for path in files if not _SHARD.fullmatch(path.stem)]
    if len({re.sub(r"\d+", "0", stem) for stem in plain}) > 1:
        raise _unclear(files)
    return files


def _unclear(files: Sequence[Path]) -> DataError:
    return DataError(
        f"{files[0].parent}: which of {', '.join(path.name for path in files[:4])} belong together is not clear: "
        "name the files by a pattern"
    )


def _whole(files: Sequence[Path]) -> tuple[Path, ...]:
    shards = [_SHARD.fullmatch(path.stem) for path in files]
    sets = {(shard[1], int(shard[3])) if shard else None for shard in shards}
    if sets == {None}:
        return tuple(files)
    if len(sets) > 1:
        raise _unclear(files)
    ((prefix, count),) = (one for one in sets if one is not None)
    numbers = [int(shard[2]) for shard in shards if shard]
    for number in range(count):
        if number not in numbers:
            width = len(str(shards[0][2])) if shards[0] else 5
            raise DataError(
                f"{files[0].parent}: lacks {prefix}-{number:0{width}d}-of-{count:0{width}d}.parquet, one of its shards"
            )
    if len(files) != count:
        raise _unclear(files)
    return tuple(files)


# Rows of several files as one table.


def _opened(path: Path, dictionary: Sequence[str] = ()) -> Any:
    """A file; values of the columns in `dictionary` that many rows refer to stay one in memory, as in the file."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{path}: Parquet files need pyarrow: pip install 'popnet[hf]'") from None
    with _reading(path):
        return parquet.ParquetFile(path, read_dictionary=list(dictionary))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what pyarrow raises while the block runs into a DataError that names the file."""
    from pyarrow import ArrowException

    try:
        yield
    except (OSError, ValueError, TypeError, ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {' '.join(str(error).split())}") from None


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of Parquet files, one after the other.

    Attributes:
        files: in order.
        groups: of each row group the file's position, its number there, and the file's row that it begins with.
        starts: int64 [groups + 1], the row that each begins with, and how many there are in all.
        kept: how many row groups are to be in memory: those that threads which are some hundred rows apart read.
    """

    files: tuple[Path, ...]
    groups: tuple[tuple[int, int, int], ...]
    starts: NDArray[np.int64]
    kept: int

    @classmethod
    def of(cls, files: Sequence[Path]) -> Rows:
        """Raises DataError: a file that cannot be read, or a row group that is too large for the free memory."""
        groups, counts, most, largest = [], [0], available_memory() // 2, 1
        for position, path in enumerate(files):
            meta, first = _opened(path).metadata, 0
            for number in range(meta.num_row_groups):
                group = meta.row_group(number)
                if max(4 * group.total_byte_size, _BYTES_A_ROW * (counts[-1] + group.num_rows)) > most:
                    raise DataError(
                        f"{path}: row group {number} of {group.num_rows:,} rows and {group.total_byte_size:,} bytes "
                        "would fill more than half of the free memory: write the file with smaller row groups"
                    )
                largest = max(largest, 4 * group.total_byte_size)
                groups.append((position, number, first))
                counts.append(counts[-1] + group.num_rows)
                first += group.num_rows
        if counts[-1] == 0:
            raise DataError(f"{files[0]}: holds no rows")
        kept = max(1, min(2 + _ROWS_APART * len(groups) // counts[-1], _GROUPS_KEPT, most // largest))
        return cls(tuple(files), tuple(groups), np.array(counts, np.int64), kept)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def place(self, index: int) -> tuple[int, int]:
        """The row group that a row lies in, and its position there."""
        group = int(np.searchsorted(self.starts, index, side="right")) - 1
        return group, index - int(self.starts[group])

    def name_of(self, index: int, column: str) -> str:
        """What an error calls a cell."""
        group, offset = self.place(index)
        position, _, first = self.groups[group]
        return f"{self.files[position]}: row {first + offset}, column {column!r}"

    def read(self, group: int, column: str) -> Any:
        """A column of one row group, a pyarrow ChunkedArray. Raises DataError naming the file."""
        position, number, _ = self.groups[group]
        path = self.files[position]
        with _opened(path) as file:
            paths = {file.schema.column(place).path for place in range(len(file.schema))}
        with _reading(path), _opened(path, sorted(paths & {column, f"{column}.bytes"})) as file:
            return file.read_row_group(number, columns=[column]).column(column)

    def columns(self, column: str) -> Iterator[tuple[int, Any]]:
        """Each row group of a column, with the row that it begins with."""
        for group in range(len(self.groups)):
            yield int(self.starts[group]), self.read(group, column)


def row_count(files: Sequence[Path]) -> int:
    """How many rows files hold, by their footers. Raises DataError."""
    return sum(_opened(path).metadata.num_rows for path in files)


# Which columns.


@dataclass(frozen=True)
class Columns:
    """Where pictures and labels are, and the names of numbered classes where the schema has them."""

    image: str
    label: str
    class_names: tuple[str, ...] | None


def column_names(path: Path) -> tuple[str, ...]:
    """Raises DataError."""
    return tuple(_opened(path).schema_arrow.names)


def find_columns(path: Path, image: str | None = None, label: str | None = None) -> Columns:
    """The columns of a file: those that are named, else found by type and usual name.

    Raises:
        DataError: none can be it, or more than one.
    """
    import pyarrow as pa

    schema = _opened(path).schema_arrow
    features = _features(path, schema.metadata or {})
    kinds = {one: (features.get(one) or {}).get("_type") for one in schema.names}
    pictures = [f.name for f in schema if _holds_bytes(pa.types, f.type)]
    usual = [f.name for f in schema if f.name in LABEL_COLUMNS and _labels(pa.types, f.type)]
    labels = [name for name in schema.names if kinds[name] == "ClassLabel" or name in usual]
    found = (
        _chosen(path, "image", image, pictures, schema.names, [one for one in pictures if one in IMAGE_COLUMNS]),
        _chosen(path, "label", label, labels, schema.names, []),
    )
    for option, name, fits in (
        ("image", found[0], found[0] in pictures),
        ("label", found[1], _labels(pa.types, schema.field(found[1]).type)),
    ):
        if not fits:
            holds = "pictures' bytes" if option == "image" else "whole numbers or text"
            raise DataError(f"{path}: column {name!r} is of type {schema.field(name).type}, and {option}s are {holds}")
    return Columns(*found, _names(path, found[1], features.get(found[1]) or {}))


def _chosen(path: Path, option: str, given: str | None, fitting: list[str], every: list[str], usual: list[str]) -> str:
    if given is not None:
        if every.count(given) != 1:
            raise DataError(f"{path}: has no column {given!r}: its columns are {', '.join(every)}")
        return given
    for candidates in (fitting, usual):
        if len(candidates) == 1:
            return candidates[0]
    if fitting:
        raise DataError(
            f"{path}: the {option} can be any of the columns {', '.join(fitting)}: choose one by the option {option}"
        )
    raise DataError(f"{path}: no column is its {option}: name one of {', '.join(every)} by the option {option}")


def _holds_bytes(types: Any, kind: Any) -> bool:
    if types.is_struct(kind):
        return any(f.name == "bytes" and _holds_bytes(types, f.type) for f in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _labels(types: Any, kind: Any) -> bool:
    if types.is_dictionary(kind):
        return _labels(types, kind.value_type)
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return bool(types.is_integer(kind) or text)


def _features(path: Path, metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """What Hugging Face's datasets wrote of each column."""
    if b"huggingface" not in metadata:
        return {}
    try:
        features = parse_json(metadata[b"huggingface"])["info"]["features"]
        if not isinstance(features, dict) or not all(isinstance(one, dict | list) for one in features.values()):
            raise TypeError
    except (ValueError, TypeError, LookupError):
        raise DataError(f"{path}: the entry 'huggingface' of its schema's metadata lists no features") from None
    return {name: one for name, one in features.items() if isinstance(one, dict)}


def _names(path: Path, column: str, feature: dict[str, Any]) -> tuple[str, ...] | None:
    names = feature.get("names")
    if feature.get("_type") != "ClassLabel" or names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise DataError(f"{path}: the schema's class names of column {column!r} are no list of different names")
    return tuple(names)


# Pictures.


@dataclass(frozen=True, eq=False)
class ParquetPictures:
    """Pictures in the rows of Parquet files.

    Attributes:
        rows: the rows.
        column: of the pictures.
        labels: int64 [n].
    """

    rows: Rows
    column: str
    labels: NDArray[np.int64]
    channels: int = 3
    _kept: dict[int, Any] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    @cached_property
    def table(self) -> NDArray[np.int64]:
        """From the pictures' headers; offset is 0, size that of the JPEG, or of the pixels of anything else."""
        made = []
        for index in range(len(self.rows)):
            data = self.content(index)
            made.append(picture_row(io.BytesIO(data), len(data), self.name_of(index)))
        return np.array(made, np.int64).reshape(-1, 5)

    @property
    def files(self) -> tuple[Path, ...]:
        return self.rows.files

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    def name_of(self, index: int) -> str:
        return self.rows.name_of(index, self.column)

    def content(self, index: int) -> bytes:
        """A picture's file. Raises DataError naming it."""
        group, offset = self.rows.place(index)
        content = self._group(group)[offset].as_py()
        if content is None:
            raise DataError(f"{self.name_of(index)}: holds no picture: write the data set with its pictures in it")
        return bytes(content)

    def encoded(self, index: int) -> Encoded:
        return encoded_picture(self.content(index), self.name_of(index))

    def decoded(self, index: int) -> NDArray[np.uint8]:
        name = self.name_of(index)
        return decoded_picture(encoded_picture(self.content(index), name), name)

    def _group(self, group: int) -> Any:
        with self._lock:
            if group not in self._kept:
                while len(self._kept) >= self.rows.kept:
                    del self._kept[next(iter(self._kept))]
                self._kept[group] = _file_bytes(self.rows.read(group, self.column))
            return self._kept[group]


def _file_bytes(column: Any) -> Any:
    """The pictures' bytes: a column of its own, or of a struct."""
    from pyarrow import types

    return column.flatten()[column.type.get_field_index("bytes")] if types.is_struct(column.type) else column


def read_split(
    files: Sequence[Path], image: str | None = None, label: str | None = None
) -> tuple[ParquetPictures, tuple[str, ...] | None]:
    """The pictures in files, and the names of their classes, which labels are counted by; None of bare numbers.

    Names come from the schema, or are the labels themselves, sorted.

    Raises:
        DataError: naming file, row and column.
    """
    rows = Rows.of(files)
    columns = find_columns(files[0], image, label)
    for path in files[1:]:
        other = find_columns(path, columns.image, columns.label)
        if other != columns:
            raise DataError(f"{path}: its classes are not those of {files[0]}: {other.class_names}")
    labels, names = _read_labels(rows, columns)
    return ParquetPictures(rows, columns.image, labels), names


def _read_labels(rows: Rows, columns: Columns) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    labels, numbers = np.empty(len(rows), np.int64), dict[str, int]()
    names = columns.class_names
    most = _MOST_CLASSES if names is None else len(names)
    for begin, column in rows.columns(columns.label):
        start = begin
        for chunk in column.chunks:
            values, codes = _distinct(chunk)
            for code, value in enumerate(values):
                if value is None or (isinstance(value, int) and not 0 <= value < most):
                    told = "none" if value is None else f"{value}, which is no class's number"
                    index = start + int(np.flatnonzero(codes == code)[0])
                    raise DataError(f"{rows.name_of(index, columns.label)}: the label is {told}")
            each = [v if isinstance(v, int) else numbers.setdefault(v, len(numbers)) for v in values]
            labels[start : start + len(codes)] = np.array(each, np.int64)[codes]
            start += len(codes)
    if not numbers:
        return labels, names
    if names is None:
        names = tuple(sorted(numbers))
    own = {name: number for number, name in enumerate(names)}
    lacking = [name for name in numbers if name not in own]
    if lacking:
        raise DataError(f"{rows.files[0]}: label {lacking[0]!r} is none of the classes that its schema names")
    order = np.array([own[name] for name in numbers])
    return order[labels], names


def _distinct(chunk: Any) -> tuple[list[Any], NDArray[np.int64]]:
    """The different values of an array, None for a row that has none, and which of them each row holds."""
    from pyarrow import types

    encoded = chunk if types.is_dictionary(chunk.type) else chunk.dictionary_encode()
    used, codes = np.unique(encoded.indices.fill_null(-1).to_numpy(), return_inverse=True)
    return [None if code < 0 else encoded.dictionary[int(code)].as_py() for code in used], codes


def labels_by_name(
    pictures: ParquetPictures, names: Sequence[str], numbers: dict[str, int], others: str
) -> ParquetPictures:
    """The same pictures with labels counted by other names' numbers.

    Raises:
        DataError: naming the first row of a class that has none; `others` says whose names they are.
    """
    order = np.array([numbers.get(name, -1) for name in names], np.int64)
    labels = order[pictures.labels]
    unknown = np.flatnonzero(labels < 0)
    if len(unknown):
        row, name = int(unknown[0]), names[pictures.labels[unknown[0]]]
        raise DataError(f"{pictures.name_of(row)}: its class {name!r} is none of {others}")
    return ParquetPictures(pictures.rows, pictures.column, labels, pictures.channels)


def check_both_named(
    training: ParquetPictures,
    names: tuple[str, ...] | None,
    testing: ParquetPictures,
    test_names: tuple[str, ...] | None,
) -> None:
    """That the classes of both splits have names, or of neither: bare numbers can be in any order. Raises DataError."""
    if (names is None) != (test_names is None):
        named, bare = (training, testing) if test_names is None else (testing, training)
        raise DataError(
            f"{bare.rows.files[0]}: its classes are bare numbers, and those of {named.rows.files[0]} have names: "
            "labels that cannot be matched"
        )


def parquet_dataset(
    train: Path, test: Path | None = None, image: str | None = None, label: str | None = None
) -> PictureDataset:
    """Pictures in Parquet files: `train` and `test` each as `split_files` takes them, by default one folder for both.

    Test labels are counted by the training set's class names.

    Raises:
        DataError: also where a file is taken for both splits.
    """
    if test is None and (train.is_file() or (_is_pattern(train) and not train.is_dir())):
        raise DataError(f"{train}: is no folder that holds both splits: give `test`")
    places = train, train if test is None else test
    shared = places[0].resolve() == places[1].resolve()
    files, test_files = (split_files(place, split, shared) for place, split in zip(places, ("train", "test")))
    both = {path.resolve() for path in files} & {path.resolve() for path in test_files}
    if both:
        raise DataError(f"{min(both)}: is taken for both splits: give `test`, with other files than `train`")
    training, names = read_split(files, image, label)
    testing, test_names = read_split(test_files, image, label)
    check_both_named(training, names, testing, test_names)
    if names is None or test_names is None:
        classes = 1 + int(max(training.labels.max(), testing.labels.max()))
        return PictureDataset("parquet", training, testing, classes)
    numbers = {name: number for number, name in enumerate(names)}
    testing = labels_by_name(testing, test_names, numbers, f"the classes of {training.rows.files[0]}")
    return PictureDataset("parquet", training, testing, len(names), class_names=names)

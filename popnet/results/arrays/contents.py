"""What a file, a folder or a program's arrays hold: runs with all that is known of them, examples in one order.

Nothing is reduced here: `arrays` compares, `logits` measures.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.errors import ConfigError, DataError
from popnet.results.arrays.doubts import check_names, check_transposed, check_values_beside
from popnet.results.arrays.exports import Export, export_at
from popnet.results.arrays.files import FORMATS, StoredArray, in_memory, natural, open_arrays
from popnet.results.arrays.roles import (
    IDS,
    LABELS,
    NEED_LABELS,
    SEEDS,
    Kind,
    Part,
    Row,
    keys_of,
    named_array,
    part_of,
    unique_keys,
)
from popnet.results.arrays.series import check_indices
from popnet.results.arrays.wording import listed, plain_key
from popnet.results.found import Options
from popnet.results.reduction import check_labels


@dataclass(frozen=True)
class Content:
    """What a source holds.

    Attributes:
        name: for tables and errors.
        rows: the runs, by metric where these are scores or values, else under the kind.
        labels: int64 [examples]; None where there are none.
        ids, matched_by, clusters, seeds, members: as `Runs` has them.
    """

    name: str
    kind: Kind
    rows: Mapping[str, tuple[Row, ...]]
    labels: NDArray[np.int64] | None = None
    ids: tuple[Hashable, ...] | None = None
    matched_by: str | None = None
    clusters: NDArray[np.int64] | None = None
    seeds: tuple[Hashable, ...] | None = None
    members: tuple[tuple[str, ...], ...] | None = None

    @property
    def runs(self) -> tuple[Row, ...]:
        """The rows of the only array, or of the first."""
        return next(iter(self.rows.values()))


@dataclass(frozen=True)
class Opened:
    """A source whose arrays are found and not yet read.

    Attributes:
        parts: one for each file, or for each run in memory.
        beside: what stands beside all of them, by role.
        export: where `popnet export` wrote them.
    """

    name: str
    parts: tuple[Part, ...]
    beside: Mapping[str, StoredArray]
    export: Export | None = None

    @property
    def kind(self) -> Kind:
        """What the runs are."""
        return self.parts[0].kind


def open_path(source: Path, options: Options, value: str | None = None) -> Opened:
    """The arrays of a file or a folder.

    Args:
        source: a file of one of `FORMATS`; a folder with one such file a run, in the natural order of names; a folder
            that `popnet export` wrote, or the folder of one of its rows.
        value: the row of an export, or the array of a file that holds several.

    Raises:
        ConfigError, DataError: what is wrong, or ambiguous, and what to do.
    """
    _check_options(str(source), options)
    if source.is_dir():
        export = export_at(source, value)
        return _open_folder(source, options, value) if export is None else _open_export(export, options)
    _check_no_store(source)
    part = part_of(str(source), open_arrays(source), options, value)
    alone = "labels" in part.aside or part.kind not in (*NEED_LABELS, "values")
    beside = {} if alone else _beside(source.parent, LABELS, but=source)
    return Opened(f"{source.name}:{value}" if value else source.name, (part,), beside)


def open_object(source: Any, name: str, options: Options) -> Opened:
    """Arrays in memory; see `popnet.results.arrays.runs.runs_of_object`."""
    _check_options(name, options)
    check_indices(source, name, options.labels)
    if isinstance(source, list | tuple) and source and all(_holds_arrays(item) for item in source):
        names = [f"{name}[{number}]" for number in range(len(source))]
        parts = [part_of(n, _in_memory(item, n), options, one_run=True) for item, n in zip(source, names)]
        return Opened(name, tuple(parts), {})
    return Opened(name, (part_of(name, _in_memory(source, name), options),), {})


def content_of(opened: Opened, options: Options) -> Content:
    """What a source holds, with the examples of all runs in one order. Raises ConfigError, DataError."""
    content = _joined(opened.name, opened.parts, opened.beside, options)
    export = opened.export
    if export is None:
        return content
    if len(export.members) != len(content.runs):
        raise DataError(
            f"{export.folder}: runs.csv lists {len(export.members)} runs, and logits.npy holds {len(content.runs)}"
        )
    return replace(content, seeds=export.seeds, members=export.members)


def open_labels(path: Path) -> dict[str, StoredArray]:
    """The labels of a file, and its ids where it has them: `labels`, or the only array; or lines of integers."""
    if path.suffix.lower() in (".txt", ".csv"):
        try:
            text = np.loadtxt(path, dtype=np.int64, delimiter="," if path.suffix.lower() == ".csv" else None)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as integer labels: {error}") from None
        return {"labels": in_memory(str(path), text.reshape(-1))}
    arrays = open_arrays(path)
    labels = named_array(arrays, LABELS, str(path))
    if labels is None and len(arrays) != 1:
        raise DataError(f"{path}: holds {listed(arrays)}, and none of them is called labels")
    found = {"labels": arrays[labels or next(iter(arrays))]}
    ids = named_array(arrays, IDS, str(path)) if labels else None
    return found | ({"ids": arrays[ids]} if ids else {})


# A source of one file or several.


def _open_folder(folder: Path, options: Options, value: str | None) -> Opened:
    if value is not None:
        raise ConfigError(f"{folder}: is a folder of arrays, one file a run, in which {value!r} cannot be picked")
    names = {*LABELS, *SEEDS, *IDS}
    entries = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: natural(p.name))
    files = [p for p in entries if p.suffix.lower() in FORMATS and plain_key(p.stem) not in names]
    if not files:
        raise DataError(f"{folder}: this folder holds no {', '.join(FORMATS)} file and is no popnet store")
    twice = [one.stem for one, other in pairwise(files) if one.stem == other.stem]
    if twice:
        raise DataError(f"{folder}: holds one name with several endings, as {twice[0]}: keep one file a run")
    check_names(str(folder), [p.stem for p in files])
    labels, ids = _beside(folder, LABELS), _beside(folder, IDS, "ids")
    if "ids" in labels and ids:
        raise DataError(f"{folder}: the file of labels holds ids, and so does {ids['ids'].name}: keep one of them")
    beside = labels | ids | _beside(folder, SEEDS, "seeds")
    parts = [part_of(str(file), open_arrays(file), options, one_run=True, beside=tuple(beside)) for file in files]
    return Opened(str(folder), tuple(parts), beside)


def _open_export(export: Export, options: Options) -> Opened:
    arrays = {"logits": open_arrays(export.folder / "logits.npy")["array"]}
    part = part_of(str(export.folder), arrays, options)
    return Opened(export.name, (part,), _beside(export.folder, LABELS), export)


def _beside(
    folder: Path, names: Sequence[str], role: str = "labels", but: Path | None = None
) -> dict[str, StoredArray]:
    """The file of this role in a folder, where there is one. Raises DataError where there are several."""
    there = (p for p in folder.iterdir() if p.suffix.lower() in FORMATS and plain_key(p.stem) in names)
    files = sorted(p for p in there if p != but)
    if len(files) > 1:
        raise DataError(f"{folder}: {files[0].name} and {files[1].name} both hold {role}: keep one of them")
    if not files:
        return {}
    if role == "labels":
        return open_labels(files[0])
    arrays = open_arrays(files[0])
    if len(arrays) != 1:
        raise DataError(f"{files[0]}: holds {listed(arrays)}, and one array of {role} was expected")
    return {role: next(iter(arrays.values()))}


def _joined(name: str, parts: Sequence[Part], beside: Mapping[str, StoredArray], options: Options) -> Content:
    """The runs of all parts, on the same examples in the same order."""
    first = parts[0]
    for part in parts:
        if part.kind != first.kind or set(part.rows) != set(first.rows):
            raise DataError(f"{part.name}: holds {_what(part)}, but {first.name} {_what(first)}")
    if first.kind == "values":
        if len({len(rows) for rows in first.rows.values()}) > 1:
            raise DataError(f"{name}: {listed(first.rows)} have different numbers of runs")
        seeds = _seeds(name, parts, beside)
        if seeds is None:
            _check_values(parts, beside, options)
        return Content(name, "values", first.rows, seeds=seeds)
    _check_shapes(parts)
    ids, orders = _orders(name, parts, beside, options)
    rows = {
        key: tuple(replace(row, order=order) for part, order in zip(parts, orders) for row in part.rows[key])
        for key in first.rows
    }
    labels = _labels(name, parts, orders, ids, beside, options)
    clusters = _clusters(name, parts, orders)
    matched_by = None if ids is None else first.matched_by or "ids"
    return Content(name, first.kind, rows, labels, ids, matched_by, clusters, _seeds(name, parts, beside))


def _check_values(parts: Sequence[Part], beside: Mapping[str, StoredArray], options: Options) -> None:
    """Raises ConfigError where what is taken for values of runs may be predictions, since labels are known."""
    given = _given(options)
    for part in parts:
        for source in (given, beside, part.aside):
            if "labels" in source:
                arrays = [rows[0].array for rows in part.rows.values()]
                check_values_beside(arrays, source["labels"], source is given)


def _given(options: Options) -> Mapping[str, StoredArray]:
    """The labels, and their ids, that an option names."""
    if options.labels is None:
        return {}
    if isinstance(options.labels, str | Path):
        return open_labels(Path(options.labels))
    return {"labels": in_memory("labels", options.labels)}


def _check_shapes(parts: Sequence[Part]) -> None:
    first = parts[0].runs[0]
    for part in parts:
        for row in (rows[0] for rows in part.rows.values()):
            _check_shape(row, first, part)
        if len(part.rows) == 1:  # several arrays in one file are a run each
            for row in part.runs[1:]:
                _check_shape(row, first, part)
        if len({len(rows) for rows in part.rows.values()}) > 1:
            raise DataError(f"{part.name}: {listed(part.rows)} have different numbers of runs")


def _check_shape(row: Row, first: Row, part: Part) -> None:
    with_ids = "ids" in part.aside  # then files may hold some examples each, which `keep` chooses from
    same = row.shape[1:] == first.shape[1:] if with_ids else row.shape == first.shape
    if not same:
        expected = f"that of {first.array.name} is {list(first.shape)}"
        raise DataError(f"{row.array.name}: the shape of a run is {list(row.shape)}, but {expected}")


def _orders(
    name: str, parts: Sequence[Part], beside: Mapping[str, StoredArray], options: Options
) -> tuple[tuple[Hashable, ...] | None, list[NDArray[np.int64] | None]]:
    """The ids in ascending order, and where each part holds them."""
    found = [part.aside.get("ids", beside.get("ids")) for part in parts]
    if all(array is None for array in found):
        return None, [None] * len(parts)
    ids: tuple[Hashable, ...] | None = None
    orders: list[NDArray[np.int64] | None] = []
    for part, array in zip(parts, found):
        if array is None:
            raise DataError(f"{part.name}: holds no ids, as other files of {name} do")
        own = unique_keys(array, "id")
        if len(own) != part.examples:
            raise DataError(f"{array.name}: {len(own):,} ids for {part.examples:,} examples")
        kept = [place for place, key in enumerate(own) if options.keep is None or key in options.keep]
        sortable: Any = own  # all integers, or all text
        kept.sort(key=lambda place: sortable[place])
        there = tuple(own[place] for place in kept)
        if ids is not None and there != ids:
            lacking = sorted(set(ids) ^ set(there), key=str)
            raise DataError(
                f"{part.name}: {len(lacking):,} examples are in it or in {parts[0].name} but not in both, as "
                f"{lacking[0]!r}: every run needs the same"
            )
        ids = there
        orders.append(np.array(kept, dtype=np.int64))
    if not ids:
        raise DataError(f"{name}: none of its examples is to be kept")
    return ids, orders


def _labels(
    name: str,
    parts: Sequence[Part],
    orders: Sequence[NDArray[np.int64] | None],
    ids: tuple[Hashable, ...] | None,
    beside: Mapping[str, StoredArray],
    options: Options,
) -> NDArray[np.int64] | None:
    """The labels in the examples' order: those of every place that has them, which must agree."""
    needed = parts[0].kind in NEED_LABELS
    classes = parts[0].runs[0].shape[1] if len(parts[0].runs[0].shape) == 2 else None
    given = _given(options)
    known: list[tuple[str, NDArray[np.int64]]] = []
    for part, order in zip(parts, orders):
        for source in (given, beside, part.aside):
            if "labels" not in source:
                continue
            own = source["labels"]
            _check_length(part, own, source, ids)
            if not needed and (own.dtype.kind not in "iu" or len(own.shape) != 1):
                continue  # of several labels an example: the scores were made from them
            found = _ordered_labels(part, own, order, ids, source, classes)
            known.append((own.name, found))
            _check_equal_labels(known[0], known[-1], ids)
    if known:
        return known[0][1]
    if needed:
        raise DataError(f"{name}: holds no labels: name their file with --labels, or put labels.npy beside it")
    return None


def _ordered_labels(
    part: Part,
    labels: StoredArray,
    order: NDArray[np.int64] | None,
    ids: tuple[Hashable, ...] | None,
    source: Mapping[str, StoredArray],
    classes: int | None,
) -> NDArray[np.int64]:
    if len(labels.shape) > 1:
        raise DataError(
            f"{labels.name}: its labels are {list(labels.shape)}, several for each example, as of tokens or of many "
            "labels: give the scores of each example instead, as an array `f1` [runs, examples]"
        )
    if source is not part.aside and "ids" in source:
        assert ids is not None  # as `_check_length` knows
        place = {key: number for number, key in enumerate(unique_keys(source["ids"], "id"))}
        lacking = [key for key in ids if key not in place]
        if lacking:
            raise DataError(
                f"{labels.name}: holds no label of {len(lacking):,} examples of {part.name}, as {lacking[0]!r}"
            )
        checked = check_labels(labels.name, labels.read(), len(place), classes)
        return checked[[place[key] for key in ids]]
    checked = check_labels(labels.name, labels.read(), part.examples, classes)
    return checked if order is None else checked[order]


def _check_length(
    part: Part, labels: StoredArray, source: Mapping[str, StoredArray], ids: tuple[Hashable, ...] | None
) -> None:
    """Raises DataError where labels and examples are not the same in number, nor matched by ids."""
    if source is part.aside or "ids" not in source:
        run = part.runs[0]
        if len(labels.shape) == 1 or part.kind not in NEED_LABELS:
            check_transposed(run.array, run.index is not None, part.examples, labels)
    elif ids is None:
        raise DataError(f"{labels.name}: its labels are matched by ids, which {part.name} does not hold")


def _check_equal_labels(
    first: tuple[str, NDArray[np.int64]], other: tuple[str, NDArray[np.int64]], ids: tuple[Hashable, ...] | None
) -> None:
    if first[1].shape != other[1].shape:
        raise DataError(f"{other[0]}: {other[1].size:,} labels, and {first[0]} has {first[1].size:,}")
    wrong = np.flatnonzero(first[1] != other[1])
    if wrong.size:
        at = wrong[0] if ids is None else ids[wrong[0]]
        raise DataError(
            f"{other[0]}: the label of example {at} is {other[1][wrong[0]]}, but {first[1][wrong[0]]} in {first[0]}: "
            "runs of one source need one test set, in one order"
        )


def _seeds(name: str, parts: Sequence[Part], beside: Mapping[str, StoredArray]) -> tuple[Hashable, ...] | None:
    """One for each run, each once; None where not all runs have them."""
    runs = sum(len(part.runs) for part in parts)
    if "seeds" in beside:
        found = [beside["seeds"]]
    elif all("seeds" in part.aside for part in parts):
        found = [part.aside["seeds"] for part in parts]
    else:
        return None
    seeds = tuple(key for array in found for key in keys_of(array, "seed"))
    if len(seeds) != runs:
        raise DataError(f"{found[0].name}: {len(seeds)} seeds for {runs} runs")
    twice = [key for key in seeds if seeds.count(key) > 1] if len(set(seeds)) < len(seeds) else []
    if twice:
        raise DataError(f"{name}: seed {twice[0]!r} occurs {seeds.count(twice[0])} times: every run needs its own")
    return seeds


def _clusters(name: str, parts: Sequence[Part], orders: Sequence[NDArray[np.int64] | None]) -> NDArray[np.int64] | None:
    found: NDArray[np.int64] | None = None
    for part, order in zip(parts, orders):
        array = part.aside.get("clusters")
        if array is None:
            return None
        keys = keys_of(array, "group")
        if len(keys) != part.examples:
            raise DataError(f"{array.name}: {len(keys):,} groups for {part.examples:,} examples")
        ordered = keys if order is None else tuple(keys[place] for place in order)
        number = {key: code for code, key in enumerate(dict.fromkeys(ordered))}
        codes = np.array([number[key] for key in ordered], dtype=np.int64)
        if found is not None and not np.array_equal(found, codes):
            raise DataError(f"{part.name}: groups its examples otherwise than {parts[0].name}")
        found = codes
    return found


# What is refused, and what Hugging Face gives.


def _what(part: Part) -> str:
    return part.kind if part.kind not in ("scores", "values") else f"{part.kind} {listed(part.rows)}"


def _check_options(name: str, options: Options) -> None:
    """Raises ConfigError for an option that picks from tables: arrays would be read as if it had not been given."""
    given = {
        "--where": bool(options.where),
        "--group": options.group is not None,
        "--repeat-column": options.repeat_column is not None,
        "--task-column": options.task_column is not None,
        "--last": options.last,
        "--ignore": bool(options.ignore),
    }
    for option, is_given in given.items():
        if is_given:
            raise ConfigError(f"{name}: {option} is for tables, and this source holds arrays")


def _check_no_store(source: Path) -> None:
    if (source.parent.parent / "store.json").is_file():
        raise ConfigError(
            f"{source}: is one member's file in a popnet store, its views and not runs: name the store, "
            f"{source.parent.parent}"
        )


def _holds_arrays(item: Any) -> bool:
    return isinstance(item, Mapping) or hasattr(item, "label_ids") or (hasattr(item, "shape") and len(item.shape) > 0)


def _in_memory(source: Any, name: str) -> dict[str, StoredArray]:
    """The arrays of a mapping, an evaluation, or the only one."""
    evaluated = _evaluation(source, name)
    arrays = source if evaluated is None else evaluated
    if isinstance(arrays, Mapping):
        return {str(key): in_memory(f"{name}[{key}]", value) for key, value in arrays.items()}
    return {"array": in_memory(name, arrays)}


def _evaluation(source: Any, name: str) -> dict[str, Any] | None:
    """The arrays of a Hugging Face EvalPrediction or PredictionOutput; None for anything else."""
    if not hasattr(source, "label_ids") or not hasattr(source, "predictions"):
        return None
    predictions, labels = source.predictions, source.label_ids
    if isinstance(labels, list | tuple | Mapping):
        raise DataError(f"{name}: its label_ids are several arrays: give one, with its predictions, as a dictionary")
    if isinstance(predictions, list | tuple):
        examples = None if labels is None else len(labels)
        fitting = [p for p in predictions if hasattr(p, "shape") and len(p.shape) == 2 and p.shape[0] == examples]
        if len(fitting) != 1:
            raise DataError(
                f"{name}: its predictions are {len(predictions)} arrays, of which {len(fitting)} are [examples, "
                "classes]: give the logits alone"
            )
        predictions = fitting[0]
    arrays = {"predictions": predictions}
    if labels is not None:
        arrays["label_ids"] = labels
    return arrays

"""Which array of a file plays which part: names decide, in any case; where they do not, shape and type do.

What could be two things is refused. Whether numbers are what they are called is for those who read them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from popnet.errors import ConfigError, DataError, nearest
from popnet.results.arrays.doubts import check_names, check_runs, check_scored_labels
from popnet.results.arrays.files import StoredArray, natural
from popnet.results.arrays.wording import form, listed, plain_key
from popnet.results.found import Options
from popnet.results.names import meaning

Kind = Literal["logits", "probabilities", "classes", "errors", "correct", "scores", "values"]

LABELS = ("labels", "label_ids", "targets", "y_true", "label", "target")
SEEDS = ("seeds", "seed")
IDS = ("ids", "example_ids", "example_id", "doc_ids", "doc_id")
GROUPS = ("clusters", "groups", "cluster", "group")
_LOGITS = ("logits",)
_PROBABILITIES = ("probabilities", "probs")
_PREDICTIONS = ("predictions", "preds", "array")
_CORRECT = ("correct", "is_correct")
_ERRORS = ("errors", "is_error")
_DERIVED = ("accuracy", "cross_entropy")  # of logits; no array needs to be called so
NEED_LABELS = ("logits", "probabilities", "classes")


@dataclass(frozen=True)
class Row:
    """One run within an array.

    Attributes:
        index: along the array's first axis; None where the array is one run.
        order: positions of the examples, where they are put into another order; int64 [examples], or None.
    """

    array: StoredArray
    index: int | None
    order: NDArray[np.int64] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the run as it stands in the file."""
        return self.array.shape if self.index is None else self.array.shape[1:]

    def read(self, examples: slice = slice(None)) -> NDArray[Any]:
        """A slice of the run's examples, in their order; where that is not the file's, the whole run is read for it."""
        lead = () if self.index is None else (self.index,)
        if self.order is None:
            return self.array.read((*lead, examples))
        return self.array.read((*lead, slice(None)))[self.order[examples]]


@dataclass(frozen=True)
class Part:
    """One file's content, before its examples are put in order."""

    name: str
    kind: Kind
    rows: Mapping[str, tuple[Row, ...]]
    aside: Mapping[str, StoredArray] = field(default_factory=dict)
    """By what they are: labels, ids, seeds, clusters."""
    matched_by: str | None = None

    @property
    def runs(self) -> tuple[Row, ...]:
        return next(iter(self.rows.values()))

    @property
    def examples(self) -> int:
        return self.runs[0].shape[0]


def part_of(
    name: str,
    arrays: Mapping[str, StoredArray],
    options: Options,
    value: str | None = None,
    one_run: bool = False,
    beside: Collection[str] = (),
) -> Part:
    """The parts that a file's arrays play.

    Args:
        value: the name of the array that is meant.
        one_run: the file is one of several, each of which holds a run.
        beside: the roles of what stands beside the file.

    Raises:
        ConfigError, DataError: what is wrong, or ambiguous.
    """
    keys = {
        "labels": named_array(arrays, LABELS, name),
        "seeds": named_array(arrays, _wanted(options.seed_column, SEEDS, arrays, name), name),
        "ids": named_array(arrays, _wanted(options.id_column, IDS, arrays, name), name),
        "clusters": _wanted(options.cluster, (), arrays, name)[0] if options.cluster else None,
    }
    not_runs = {*keys.values(), *(key for key in arrays if plain_key(key) in GROUPS)}
    rest = {key: array for key, array in arrays.items() if key not in not_runs}
    if value is not None:
        if value not in rest:
            raise ConfigError(f"{name}: no array is called {value!r}; {nearest(value, rest)}")
        rest = {value: rest[value]}
    kind, chosen = _chosen(name, rest, options, one_run)
    aside = {role: arrays[key] for role, key in keys.items() if key is not None}
    rows = {key: _rows(kind, array) for key, array in chosen.items()}
    if kind == "values" and _of_examples(aside, chosen):
        check_scored_labels(chosen, aside, options)
        kind, rows = "scores", {key: (Row(array, None),) for key, array in chosen.items()}
    if kind in ("values", "scores", "correct", "errors"):
        told = [role for role, array in aside.items() if array.shape]  # a label of the whole file tells nothing
        check_runs(name, kind, arrays, chosen, (*told, *beside, *(["labels"] if options.labels is not None else [])))
    else:
        rows = {kind: tuple(row for found in rows.values() for row in found)}
    return Part(name, kind, rows, aside, keys["ids"])


def _chosen(
    name: str, rest: Mapping[str, StoredArray], options: Options, one_run: bool
) -> tuple[Kind, dict[str, StoredArray]]:
    """The arrays that hold the runs, and as what."""
    if not rest:
        raise DataError(f"{name}: holds no predictions, scores or values of runs")
    scores = {key: array for key, array in rest.items() if key in options.metrics or plain_key(key) in options.metrics}
    if scores:
        lacking = [metric for metric in options.metrics if metric not in {*scores, *map(plain_key, scores)}]
        if lacking:
            raise ConfigError(f"{name}: no array is called {lacking[0]!r}; {nearest(lacking[0], rest)}")
        return _scores(name, scores, one_run)
    for said, names in (("logits", _LOGITS), ("probabilities", _PROBABILITIES), ("", _PREDICTIONS)):
        key = named_array(rest, names, name)
        if key is not None:
            return _predictions(name, key, rest[key], said, options, one_run)
    right, wrong = named_array(rest, _CORRECT, name), named_array(rest, _ERRORS, name)
    if right is not None or wrong is not None:
        return ("correct", {"accuracy": rest[right]}) if right else ("errors", {"accuracy": rest[wrong or ""]})
    known = {key: array for key, array in rest.items() if meaning(key).higher_is_better is not None}
    if known:
        return _scores(name, known, one_run)
    if len(rest) == 1:
        key, array = next(iter(rest.items()))
        return _predictions(name, key, array, "", options, one_run)
    return _several(name, rest, options)


def _predictions(
    name: str, key: str, array: StoredArray, named: str, options: Options, one_run: bool
) -> tuple[Kind, dict[str, StoredArray]]:
    """What one array is, whose name says logits or probabilities, or no more than that it holds predictions."""
    metric = options.metrics[0] if len(options.metrics) == 1 else None
    letter, axes = array.dtype.kind, len(array.shape)
    if not named and metric is not None and metric not in _DERIVED and axes < 3:
        return _scores(name, {metric: array}, one_run)
    if letter == "b":
        raise ConfigError(
            f"{array.name}: does not say whether True is right or wrong: name the array `correct` or `errors`"
        )
    if letter == "f" and axes == 1 and not named:
        return _bare_values(name, key, array, metric, one_run)
    if letter == "f" and axes in (2, 3):
        probable = options.probabilities or (named == "probabilities" and options.probabilities is None)
        return "probabilities" if probable else "logits", {key: array}
    if letter in "iu" and not named:
        return "classes", {key: array}
    expected = "[runs, examples, classes] or [examples, classes]"
    raise DataError(f"{array.name}: {named or 'logits'} must be floats {expected}, not {form(array)}")


def _bare_values(
    name: str, key: str, array: StoredArray, metric: str | None, one_run: bool
) -> tuple[Kind, dict[str, StoredArray]]:
    if plain_key(key) in ("predictions", "preds"):
        raise DataError(
            f"{array.name}: must be classes (integers) or logits, not {form(array)}: of a regression give the scores "
            "of each example, as an array `squared_error` [runs, examples]"
        )
    if one_run:
        raise ConfigError(
            f"{array.name}: holds one number for each example, or each run: say which score of each example it is with "
            "--metric, or give the values of all runs in one array"
        )
    return _scores(name, {metric or ("value" if key == "array" else key): array}, one_run)


def _scores(name: str, scores: Mapping[str, StoredArray], one_run: bool) -> tuple[Kind, dict[str, StoredArray]]:
    """Scores of each example where the arrays have an axis of runs and one of examples, else a value of each run."""
    axes = {len(array.shape) for array in scores.values()}
    if len(axes) > 1:
        raise ConfigError(f"{name}: {listed(scores)} have different numbers of axes: say which is meant with --metric")
    for array in scores.values():
        if array.dtype.kind not in "fiub" or not axes <= {1, 2}:
            raise DataError(f"{array.name}: must be numbers [runs, examples], or [runs], not {form(array)}")
    return "scores" if one_run or axes == {2} else "values", dict(scores)


def _several(name: str, rest: Mapping[str, StoredArray], options: Options) -> tuple[Kind, dict[str, StoredArray]]:
    """Arrays that are a run each: numbered names, one shape."""
    keys = sorted(rest, key=natural)
    check_names(name, keys)
    patterns = {re.sub(r"\d+", "#", key) for key in keys}
    if len(patterns) > 1 or "#" not in next(iter(patterns)):
        raise ConfigError(f"{name}: holds {listed(keys)}: name one of them, as in {name}:{keys[0]}")
    arrays = {key: rest[key] for key in keys}
    if all(array.dtype.kind == "f" and len(array.shape) in (2, 3) for array in arrays.values()):
        return "probabilities" if options.probabilities else "logits", arrays
    if all(array.dtype.kind in "iu" and len(array.shape) in (1, 2) for array in arrays.values()):
        return "classes", arrays
    forms = ", ".join(f"`{key}` {form(array)}" for key, array in list(arrays.items())[:4])
    raise DataError(
        f"{name}: several arrays must each be a run's logits [examples, classes] or classes [examples], not {forms}"
    )


def _rows(kind: Kind, array: StoredArray) -> tuple[Row, ...]:
    """The runs in an array."""
    axes = 2 if kind in ("logits", "probabilities") else 1
    if kind == "values":
        axes = 0
    if 0 in array.shape:
        raise DataError(f"{array.name}: is empty: its shape is {list(array.shape)}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        raise DataError(f"{array.name}: is of type {array.dtype}, which is not read: save float64")
    if kind in ("classes", "errors", "correct", "scores") and array.dtype.kind not in "iufb":
        raise DataError(f"{array.name}: must be numbers [runs, examples], not {form(array)}")
    if len(array.shape) == axes:
        return (Row(array, None),)
    if len(array.shape) != axes + 1:
        shape = ["runs", "examples", "classes"][: axes + 1]
        raise DataError(f"{array.name}: must be [{', '.join(shape)}], but its shape is {list(array.shape)}")
    return tuple(Row(array, index) for index in range(array.shape[0]))


def _of_examples(aside: Mapping[str, StoredArray], chosen: Mapping[str, StoredArray]) -> bool:
    """Whether single numbers are one run's scores of its examples: what stands beside them, or their type, says so."""
    if "ids" in aside or "clusters" in aside or all(array.dtype.kind == "b" for array in chosen.values()):
        return True
    labels = aside.get("labels")
    return labels is not None and "seeds" not in aside and all(labels.shape == a.shape for a in chosen.values())


# Names and keys.


def named_array(arrays: Mapping[str, StoredArray], names: Sequence[str], where: str) -> str | None:
    """The array with one of these names. Raises ConfigError where several have."""
    found = [key for key in arrays if key in names or plain_key(key) in names]
    if len(found) > 1:
        raise ConfigError(f"{where}: {listed(found)} may each be meant: keep one of them")
    return found[0] if found else None


def _wanted(given: str | None, names: Sequence[str], arrays: Mapping[str, StoredArray], where: str) -> tuple[str, ...]:
    """The name that an option gives, or the usual ones. Raises ConfigError where no array has the given one."""
    if given is None:
        return tuple(names)
    if given not in arrays:
        raise ConfigError(f"{where}: no array is called {given!r}; {nearest(given, arrays)}")
    return (given,)


def keys_of(array: StoredArray, what: str) -> tuple[Hashable, ...]:
    """Integers and text, as Python has them; whole numbers are integers, however they were written, as in tables."""
    values = array.read().reshape(-1) if len(array.shape) == 0 else array.read()
    if values.ndim != 1 or values.dtype.kind not in "iufUS":
        raise DataError(f"{array.name}: must be integers or text, one for each {what}, not {form(array)}")
    if values.dtype.kind == "f":
        wrong = np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)))
        if wrong.size:
            raise DataError(f"{array.name}: {what} {wrong[0]} is {values[wrong[0]]}, which is no integer")
        return tuple(int(value) for value in values)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind == "U" and all(re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", text) for text in values):
        return tuple(int(text) for text in values)
    return tuple(values.tolist())


def unique_keys(array: StoredArray, what: str) -> tuple[Hashable, ...]:
    """The same, each once. Raises DataError naming one that occurs more than once."""
    keys = keys_of(array, what)
    if len(set(keys)) < len(keys):
        seen: set[Hashable] = set()
        twice = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise DataError(f"{array.name}: {what} {twice!r} occurs more than once")
    return keys

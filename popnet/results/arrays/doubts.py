"""What may be something else than runs, or examples, is refused: epochs, folds, labels, one run's examples."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.errors import ConfigError, DataError
from popnet.results.arrays.files import StoredArray
from popnet.results.arrays.wording import form, listed, plain_key
from popnet.results.found import Options
from popnet.results.names import meaning, plain

HISTORY = ("epoch", "epochs", "step", "steps", "iteration", "iterations", "global_step")
_MANY_RUNS = 100
"""More single numbers than that, without seeds, are rather a test set's."""
_FEW_RUNS = 20
"""Up to so many runs, whole numbers that repeat may be counts of right answers; of more, they are rather classes."""

_TRAINING_TIME = {
    "epoch": r"epochs?[-_ =.]?(\d+)",
    "step": r"(?:global[-_ ])?steps?[-_ =.]?(\d+)",
    "iteration": r"iter(?:ation)?s?[-_ =.]?(\d+)",
    "checkpoint": r"(?:checkpoint|ckpt)[-_ =.]?(\d+)",
}
_PARTS = ("fold", "split", "rank", "shard", "part", "partition", "batch", "worker", "cv", "chunk")
_NUMBERED_PART = re.compile(
    rf"(?<![a-z])(?:k|cv|k[-_ ]|cv[-_ ])?(?P<word>{'|'.join(_PARTS)})s?[-_ =.]{{0,2}}(?P<number>\d+)"
    r"|^(?P<first>\d+)(?:st|nd|rd|th)?[-_ ]?(?P<after>fold)(?![a-z]|[-_ =.]*\d)"
    r"|(?<!\d)(?P<this>\d+)[-_ ]?(?P<of>of)[-_ ]?\d+(?!\d)",
    re.IGNORECASE,
)


# Names.


def check_names(where: str, names: Sequence[str]) -> None:
    """Raises ConfigError where the names of files or arrays, one for each run, tell that they are not alike."""
    for word, pattern in _TRAINING_TIME.items():
        found = [re.search(pattern, name, re.IGNORECASE) for name in names]
        if len({match[1] for match in found if match}) > 1:
            raise ConfigError(f"{where}: {listed(names[:2])} are named by {word}: keep one of each run")
    _check_parts(where, names)
    patterns: dict[str, list[str]] = {}
    for name in names:
        patterns.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    groups = [alike[0] for pattern, alike in patterns.items() if "#" in pattern and len(alike) > 1]
    hashes = all(re.fullmatch(r"[0-9a-fA-F-]{8,}", name) for name in names)
    if groups and len(patterns) > 1 and not hashes:
        other = next(alike[0] for alike in patterns.values() if alike[0] != groups[0])
        raise ConfigError(
            f"{where}: {listed([groups[0], other])} are not named alike: keep runs of one kind together, and no others"
        )


def _check_parts(where: str, names: Sequence[str]) -> None:
    numbers: dict[str, set[int]] = {}
    for match in (match for name in names for match in _NUMBERED_PART.finditer(name)):
        word = next(match[group] for group in ("word", "after", "of") if match[group])
        number = next(match[group] for group in ("number", "first", "this") if match[group])
        numbers.setdefault("part" if word.lower() == "of" else word.lower(), set()).add(int(number))
    for word, found in numbers.items():
        if len(found) > 1:
            raise ConfigError(
                f"{where}: {listed(names[:2])} are named by {word}, as what holds different examples or parts of one "
                "run is: join the parts of each run, and name the runs by seed"
            )


def is_part(key: str) -> bool:
    """Whether a name is that of a column of folds, ranks, shards or other parts of the examples."""
    return plain_key(key).removesuffix("s") in _PARTS


# Single numbers, and scores of examples.


def check_runs(
    name: str, kind: str, arrays: Mapping[str, StoredArray], chosen: Mapping[str, StoredArray], known: Collection[str]
) -> None:
    """Raises ConfigError where what is taken for runs, or examples, may be epochs, folds, or examples.

    Args:
        kind: `values`, `scores`, `correct` or `errors`.
        arrays: all of the file.
        chosen: those that hold the runs.
        known: the roles of what stands beside the chosen arrays, which tells runs or examples apart.
    """
    history = [key for key in arrays if plain_key(key) in HISTORY]
    if history:
        raise ConfigError(f"{name}: holds `{history[0]}`, so its numbers are those of a history: give one for each run")
    if kind == "values":
        _check_others(name, arrays, chosen, known)
    for key, array in chosen.items():
        if kind == "values":
            check_values(array.name, key, array.read(), "seeds" in known)
            continue
        if len(array.shape) == 2 and not {"ids", "clusters", "labels"} & set(known):
            _check_scores(kind, key, array, known)
        if kind == "scores":
            _check_share(key, array)


def check_values(where: str, key: str, values: NDArray[Any], with_seeds: bool) -> None:
    """Raises ConfigError where single numbers, taken for values of runs, are rather one run's examples.

    Args:
        where: for errors.
        key: what the numbers are called.
        values: numbers [runs].
        with_seeds: something says that each number is a run.
    """
    as_scores = f'as "{key if key not in ("array", "value") else "squared_error"}": array [1, examples]'
    two = next((pair for pair in ((0, 1), (0, 100)) if np.isin(values, pair).all()), None)
    if values.size > 1 and two:
        raise ConfigError(
            f"{where}: its {values.size:,} numbers are all {two[0]} or {two[1]}, as scores of examples are and not "
            'values of runs: give right and wrong answers as "correct": array [runs, examples], or [1, examples] of '
            "one run"
        )
    if values.size > _MANY_RUNS and not with_seeds:
        raise ConfigError(
            f"{where}: holds {values.size:,} numbers: give scores of examples as [runs, examples], those of one run "
            f"{as_scores}, and values of as many runs with an array `seeds` beside them"
        )
    if values.size > _FEW_RUNS and not with_seeds and _may_be_classes(values):
        raise ConfigError(
            f"{where}: its {values.size:,} numbers are whole and few of them differ, as classes of examples: save "
            "classes as integers, with their labels, and values of as many runs with an array `seeds` beside them"
        )


def _may_be_classes(values: NDArray[Any]) -> bool:
    return _are_whole(values) and bool(values.min() >= 0) and 2 * len(np.unique(values)) <= values.size


def _are_whole(values: NDArray[Any]) -> bool:
    return bool(np.isfinite(values).all() and (values == np.floor(values)).all())


def _check_others(
    name: str, arrays: Mapping[str, StoredArray], chosen: Mapping[str, StoredArray], known: Collection[str]
) -> None:
    """Raises ConfigError where other arrays tell that the values are not those of runs of one kind."""
    size = next(iter(chosen.values())).shape
    alike = {key: array for key, array in arrays.items() if array.shape == size and np.prod(size) > 1}
    parts = [key for key in alike if is_part(key)]
    if parts:
        raise ConfigError(
            f"{name}: holds `{parts[0]}`, so its numbers are of parts of the examples: give one of each run, of one "
            "test set"
        )
    splits: dict[str, list[str]] = {}
    for key in alike:
        splits.setdefault(plain(key), []).append(key)
    several = [keys for keys in splits.values() if len(keys) > 1]
    if several and "seeds" not in known:
        raise ConfigError(
            f"{name}: holds {listed(several[0])}, as the history of one run does, epoch by epoch: give the last value "
            "of each run, or put `seeds` of the runs beside them"
        )
    for key, array in alike.items():
        if array.dtype.kind in "US" and key not in chosen and 1 < len(np.unique(array.read())) < array.shape[0]:
            raise ConfigError(f"{name}: `{key}` tells its values apart into groups: give the values of one of them")


def _check_scores(kind: str, key: str, array: StoredArray, known: Collection[str]) -> None:
    runs, examples = array.shape
    if runs > examples and "seeds" not in known:
        raise ConfigError(
            f"{array.name}: is [runs, examples] = {[runs, examples]}, more runs than examples: transpose it, or put "
            "`ids` of the examples or `seeds` of the runs beside it"
        )
    of_a_split = plain(key) != "_".join(re.findall("[a-z0-9]+", key.lower()))
    share = meaning(key).kind == "share" and not np.isin(array.read(), (0, 1)).all()
    if kind == "scores" and key != "array" and (of_a_split or share or plain(key) == "loss"):
        raise ConfigError(
            f"{array.name}: is {form(array)}, which may be [runs, examples] or [runs, epochs]: put `ids` of the "
            "examples beside it, or give one number for each run"
        )


def _check_share(key: str, array: StoredArray) -> None:
    """Raises ConfigError where scores that are a share of right answers are whole numbers beyond 1, as classes are."""
    if meaning(key).kind != "share":
        return
    values = array.read()
    if not np.isin(values, (0, 1)).all() and not np.isin(values, (0, 100)).all() and _are_whole(values):
        raise ConfigError(
            f"{array.name}: its numbers are whole and no {key} of an example, but rather classes: save classes as "
            "integers [runs, examples], with their labels"
        )


# Beside labels.


def check_scored_labels(chosen: Mapping[str, StoredArray], aside: Mapping[str, StoredArray], options: Options) -> None:
    """Raises ConfigError where one run's numbers, beside as many labels, are not said to be scores of examples."""
    if "labels" not in aside:
        return
    for key, array in chosen.items():
        named = meaning(key).higher_is_better is not None or key in options.metrics
        right = plain(key) not in ("accuracy", "acc") or array.dtype.kind != "f" or _is_right(array.read())
        if not named or not right:
            _refuse_beside(array, aside["labels"])


def check_values_beside(arrays: Sequence[StoredArray], labels: StoredArray, given: bool) -> None:
    """Raises ConfigError where values of runs without seeds may be classes or probabilities of labelled examples.

    `given`: the labels were named for these very numbers, and do not merely lie beside them.
    """
    for array in arrays:
        values = array.read()
        if given or values.shape == labels.shape or (values.size > 1 and _are_whole(values)):
            _refuse_beside(array, labels)


def _is_right(values: NDArray[Any]) -> bool:
    return bool(np.isin(values, (0, 1)).all() or np.isin(values, (0, 100)).all())


def _refuse_beside(array: StoredArray, labels: StoredArray) -> None:
    what = f"{array.name}: holds {int(np.prod(array.shape)):,} single numbers beside labels ({labels.name})"
    if _are_whole(array.read()):
        raise ConfigError(f"{what}: save classes as integers; values of runs need no labels, but `seeds` beside them")
    raise ConfigError(
        f"{what}: give logits or probabilities of every class, [runs, examples, classes], or scores of examples under "
        "the name of their metric; values of runs need no labels, but `seeds` beside them"
    )


def check_transposed(array: StoredArray, runs_first: bool, examples: int, labels: StoredArray) -> None:
    """Raises DataError where there is another number of labels than of examples, 1-D labels [examples] or of tokens."""
    if not labels.shape or labels.shape[0] == examples:
        return
    what = f"{array.name}: its shape is {list(array.shape)} for {labels.shape[0]:,} labels"
    if runs_first and labels.shape[0] == array.shape[0]:
        raise DataError(f"{what}: transpose it, since runs come first, then examples")
    raise DataError(f"{what} ({labels.name}): {labels.shape[0]:,} labels for predictions of {examples:,} examples")


def check_classes(name: str, predictions: NDArray[Any], labels: NDArray[np.int64]) -> None:
    """Raises ConfigError where classes [runs, examples] may be the labels themselves, or right and wrong answers."""
    if labels.max() > 1 and np.array_equal(np.unique(predictions), (0, 1)):
        raise ConfigError(
            f"{name}: its classes are all 0 or 1, and labels go to {labels.max()}: give right and wrong answers as "
            "`correct` [runs, examples]"
        )
    equal = (predictions == labels).all(axis=1)
    if equal.any() and not equal.all():
        raise ConfigError(
            f"{name}: run {np.flatnonzero(equal)[0]} equals the labels on every example, and may be the labels: leave "
            "it out, or give right and wrong answers as `correct` [runs, examples]"
        )

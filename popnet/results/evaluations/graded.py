"""Answers of evaluation logs, each graded by some metrics: from one answer at a time to `Runs`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.errors import ConfigError, DataError, nearest
from popnet.results.found import Options, Runs
from popnet.results.reduction import of_scores

MISSING = object()
"""What a record gives for a field that it does not have."""


class NothingGraded(DataError):
    """A task without one metric that could be compared, beside which other tasks may have some.

    Attributes:
        why: the reason without the place, for a mark of those others.
    """

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place}: {why}")
        self.why = why


class NotThere(NothingGraded):
    """A task without the metric, or a field's value, that is asked for; no task with it is a wrong option."""


@dataclass(frozen=True)
class Answer:
    """One answer of one run to one example.

    Attributes:
        id: of the example.
        values: by metric, finite numbers.
        unusable: by metric, why it is no finite number here.
        repeat: which of several answers of the run to the example; None where there is one.
        content: what identifies the example's content, or None.
        cluster: the group of the example, as text; None where none was asked for.
    """

    id: int | str
    values: Mapping[str, float]
    unusable: Mapping[str, str]
    repeat: Hashable | None = None
    content: str | None = None
    cluster: str | None = None


@dataclass(frozen=True)
class GradedRun:
    """All answers of one run to one task.

    Attributes:
        place: the file, for errors.
        ids: in ascending order.
        scores: by metric, float64 [examples], the mean over repeats.
        left_out: by metric, why it is not one number on every example.
        contents: by id, or None where one is unknown.
        clusters: by id; None where none was asked for.
        marks: how the answers were read.
    """

    place: str
    ids: tuple[int | str, ...]
    scores: Mapping[str, NDArray[np.float64]]
    left_out: Mapping[str, str]
    contents: Mapping[int | str, str] | None
    clusters: Mapping[int | str, str] | None
    marks: tuple[str, ...] = ()


def number(value: Any) -> float | str:
    """A finite number; or, in words, what the value is instead."""
    if isinstance(value, bool | int | float):
        try:
            wide = float(value)
        except OverflowError:
            return "is beyond the largest number"
        return wide if math.isfinite(wide) else f"is {wide}"
    if value is None:
        return "is null"
    kind = "text" if isinstance(value, str) else "a list" if isinstance(value, list) else "a mapping"
    return f"is {kind}, and no number"


def field(record: Mapping[str, Any], name: str, inside: Sequence[str] = ()) -> Any:
    """A field of a record, `a.b` of a nested one, looked for in its mappings `inside` too; or `MISSING`."""
    for holder in (record, *(record.get(key) for key in inside)):
        found = _descend(holder, name)
        if found is not MISSING:
            return found
    return MISSING


def _descend(holder: Any, name: str) -> Any:
    if not isinstance(holder, Mapping):
        return MISSING
    if name in holder:
        return holder[name]
    head, dot, rest = name.partition(".")
    return _descend(holder[head], rest) if dot and head in holder else MISSING


def text_of(value: Any) -> str:
    """A field's value as it is written on the command line; equal numbers are equal texts."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def same_text(value: Any, wanted: str) -> bool:
    """Whether a field has the value that `--where` names."""
    try:
        return float(wanted) == float(text_of(value))
    except ValueError:
        return text_of(value).lower() == wanted.strip().lower()


def identity(place: str, value: Any, name: str) -> int | str:
    """An example's id. Raises DataError for what cannot be one."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise DataError(f"{place}: {str(value)[:60]!r} cannot be an example's `{name}`: whole numbers and texts can")
    return value


def fingerprint(*parts: str) -> str:
    """Sixteen hexadecimal digits that equal texts share."""
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def collect(
    place: str, answers: Iterable[Answer], options: Options, matched_by: str, marks: tuple[str, ...] = ()
) -> GradedRun:
    """One run's answers to one task, in any order.

    Raises DataError for an example that is answered twice, or that has two contents or clusters.
    """
    found: dict[str, dict[int | str, dict[Hashable, float]]] = {}
    contents: dict[int | str, str | None] = {}
    clusters: dict[int | str, str] = {}
    unusable: dict[str, str] = {}
    for answer in answers:
        if options.keep is not None and answer.id not in options.keep:
            continue
        at = f"`{matched_by}` {answer.id}"
        if contents.setdefault(answer.id, answer.content) != answer.content and "content" not in options.ignore:
            raise DataError(f"{place}: {at} has two contents: they are different examples under one id")
        if answer.cluster is not None and clusters.setdefault(answer.id, answer.cluster) != answer.cluster:
            raise DataError(f"{place}: {at} is of two clusters, {clusters[answer.id]} and {answer.cluster}")
        for metric, why in answer.unusable.items():
            unusable.setdefault(metric, f"{why} on {at}")
        for metric, value in answer.values.items():
            repeats = found.setdefault(metric, {}).setdefault(answer.id, {})
            if answer.repeat in repeats:
                raise DataError(_twice(place, at, metric, answer.repeat))
            repeats[answer.repeat] = value
    ids = _sorted(place, contents, matched_by)
    left_out = dict(unusable)
    for metric in found.keys() - unusable.keys():
        lacking = [key for key in ids if key not in found[metric]]
        if lacking:
            left_out[metric] = (
                f"is missing on {len(lacking):,} of {len(ids):,} examples, as on `{matched_by}` {lacking[0]}"
            )
    scores = {m: _means(by_id, ids) for m, by_id in found.items() if m not in left_out}
    known = {key: text for key, text in contents.items() if text is not None}
    return GradedRun(
        place, ids, scores, left_out, known if len(known) == len(ids) else None, clusters or None,
        marks + _repeats(found),
    )  # fmt: skip


def _twice(place: str, at: str, metric: str, repeat: Hashable | None) -> str:
    if repeat is None:
        return f"{place}: {at} has two values of {metric}: name the field that tells repeats apart with --repeat-column"
    return f"{place}: {at} has two values of {metric} in repeat {repeat}"


def _sorted(place: str, ids: Iterable[int | str], matched_by: str) -> tuple[int | str, ...]:
    try:
        return tuple(sorted(ids))  # type: ignore[type-var]
    except TypeError:
        raise DataError(
            f"{place}: some values of `{matched_by}` are numbers and some are texts: make all of one kind"
        ) from None


def _means(by_id: Mapping[int | str, Mapping[Hashable, float]], ids: Sequence[int | str]) -> NDArray[np.float64]:
    return np.array([math.fsum(by_id[key].values()) / len(by_id[key]) for key in ids], dtype=np.float64)


def _repeats(found: Mapping[str, Mapping[int | str, Mapping[Hashable, float]]]) -> tuple[str, ...]:
    counts = {len(repeats) for by_id in found.values() for repeats in by_id.values()}
    if not counts or max(counts) == 1:
        return ()
    low, high = min(counts), max(counts)
    return (f"each example's score is the mean over {high if low == high else f'{low} to {high}'} repeats",)


def runs_of(
    name: str, task: str, runs: Sequence[GradedRun], options: Options, matched_by: str, seeds: tuple[str, ...] | None
) -> Runs:
    """The runs of one source on one task.

    Raises:
        NothingGraded: no metric, or none of those that are wanted, is one number on every example.
        DataError: the runs were not tested on the same examples.
    """
    _check_same_examples(runs, matched_by, "content" in options.ignore)
    left_out: dict[str, str] = {}
    for run in runs:
        left_out |= {metric: why for metric, why in run.left_out.items() if metric not in left_out}
    for metric in {metric for run in runs for metric in run.scores} - left_out.keys():
        without = [run.place for run in runs if metric not in run.scores]
        if without:
            left_out[metric] = f"is missing in {without[0]}"
    usable = sorted(metric for metric in runs[0].scores if metric not in left_out)  # whatever the order of lines
    wanted = _wanted(name, task, usable, left_out, options.metrics)
    marks = [mark for run in runs for mark in run.marks]
    if not options.metrics:
        marks += [f"{metric} {why}, so it is left out" for metric, why in sorted(left_out.items())]
    contents = None if "content" in options.ignore else runs[0].contents
    return of_scores(
        name,
        {metric: np.stack([run.scores[metric] for run in runs]) for metric in wanted},
        **{"ids": runs[0].ids, "matched_by": matched_by, "seeds": seeds, "task": task, "content": contents},
        **{"clusters": _codes(runs[0]), "marks": tuple(dict.fromkeys(marks))},
    )


def _wanted(
    name: str, task: str, usable: Sequence[str], left_out: Mapping[str, str], metrics: Sequence[str]
) -> Sequence[str]:
    of = f"{name}, task {task!r}" if task else name
    if not metrics:
        if not usable:
            each = "; ".join(f"{metric} {why}" for metric, why in sorted(left_out.items()))
            raise NothingGraded(of, f"no metric is one number on every example{f': {each}' if each else ''}")
        return usable
    for metric in metrics:
        if metric in left_out:
            raise NothingGraded(of, f"{metric} {left_out[metric]}")
        filters = [other for other in usable if other.partition(",")[0] == metric]
        if metric not in usable and filters:
            raise ConfigError(f"{of}: {metric} is by filter: name one of {', '.join(filters)}, or --where filter=NAME")
        if metric not in usable:
            raise NotThere(of, f"no metric {metric!r}; {nearest(metric, [*usable, *left_out])}")
    return metrics


def _codes(run: GradedRun) -> NDArray[np.int64] | None:
    """The clusters as integers, in the order of their texts, so that equal groups have equal codes in every source."""
    if run.clusters is None:
        return None
    code = {text: number for number, text in enumerate(sorted(set(run.clusters.values())))}
    return np.array([code[run.clusters[key]] for key in run.ids], dtype=np.int64)


def _check_same_examples(runs: Sequence[GradedRun], matched_by: str, any_content: bool) -> None:
    first = runs[0]
    for run in runs:
        if not run.ids:
            raise DataError(f"{run.place}: holds no graded answer")
    union = {key for run in runs for key in run.ids}
    for run in runs:
        lacking = sorted(union - set(run.ids), key=str)
        if lacking:
            raise DataError(
                f"{run.place}: lacks {len(lacking):,} of {len(union):,} examples that other runs of its source have, "
                f"as `{matched_by}` {lacking[0]}: evaluate all runs on the same examples, or take this one away"
            )
        if run.clusters != first.clusters:
            raise DataError(f"{first.place} and {run.place}: group their examples differently")
        if any_content or first.contents is None or run.contents is None:
            continue
        other = [key for key in run.ids if run.contents[key] != first.contents[key]]
        if other:
            raise DataError(
                f"{first.place} and {run.place}: {len(other):,} examples of equal `{matched_by}` have different "
                f"contents, as {other[0]}: they are different tests, or shuffled their choices (then --ignore content)"
            )

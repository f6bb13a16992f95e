"""From what runs predicted to `Runs`: one run in memory at a time, each checked, each value named that cannot be."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.errors import DataError
from popnet.metrics.samples import Sample, example_losses
from popnet.metrics.theory.packed import PackedErrors
from popnet.results.found import Runs


def of_logits(
    name: str, blocks: Iterable[NDArray[Any]], labels: NDArray[np.int64], *, probabilities: bool = False, **known: Any
) -> Runs:
    """The accuracy (percent) and cross-entropy (nats) of runs. Copies of one run, equal in every bit, are one run.

    Args:
        blocks: the logits [examples, classes] of one run after another, of any float type, finite.
        labels: int64 [examples], as `check_labels` gives them.
        probabilities: the blocks hold probabilities instead. Where one of the right class is 0, no cross-entropy is
            given, and a mark says why.
        known: other fields of `Runs`; those by run are of all blocks.

    Raises:
        DataError: naming run and example, for a value that is not finite, or a probability outside 0..1; another shape
            than the first run's; no run at all.
    """
    predictions: list[NDArray[Any]] = []
    losses: list[float] = []
    places: dict[bytes, int] = {}  # of each run among the blocks, by its digest
    mean = spread = np.zeros(len(labels))
    classes = run = 0
    for run, logits in enumerate(blocks):
        _check_block(name, run, logits, len(labels), classes, probabilities)
        classes = logits.shape[1]
        if places.setdefault(digest(logits), run) < run:
            continue
        predictions.append(logits.argmax(axis=1).astype(np.min_scalar_type(classes - 1)))
        loss = _losses_of_probabilities(logits, labels) if probabilities else example_losses(logits, labels)
        losses.append(math.fsum(loss) / len(loss))
        with np.errstate(over="ignore", invalid="ignore"):  # of infinite losses, which are left out below
            step = loss - mean
            mean = mean + step / len(losses)  # Welford's recurrence: the spread of each example's loss in one pass
            spread = spread + step * (loss - mean)
    if not predictions:
        raise DataError(f"{name}: holds no finished run")
    stacked = np.stack(predictions)
    errors = PackedErrors.from_predictions(stacked, labels)
    samples = {"accuracy": Sample.of_errors(errors)}
    known = _once(known, run + 1, list(places.values()), "in every bit")
    marks = tuple(known.pop("marks", ()))
    own = float(spread.sum()) / max(len(losses) - 1, 1) / len(labels) ** 2
    if math.isfinite(own):
        samples["cross_entropy"] = Sample(np.array(losses), mean, own)
    else:
        why = "a probability of the right class is 0" if probabilities else "the logits are too large"
        marks += (f"{why}, so the cross-entropy is left out",)
    known |= {"digests": tuple(places), "exact": True, "marks": marks}
    return Runs(name, samples, predictions=stacked, errors=errors, labels=labels, classes=classes, **known)


_TELLING = 10
"""Right answers, and wrong ones, from which on two runs do not have the same ones by chance."""


def _once(known: dict[str, Any], count: int, places: Sequence[int], how: str) -> dict[str, Any]:
    """What is known of `count` runs, of those at `places` alone, and a mark where that leaves copies out."""
    if count == len(places):
        return known
    by_run = {
        field: tuple(known[field][place] for place in places)
        for field in ("seeds", "members")
        if known.get(field) is not None
    }
    mark = f"{count} runs, some of them equal {how}, count as {len(places)}"
    return {**known, **by_run, "marks": (*known.get("marks", ()), mark)}


def _different(digests: Sequence[bytes], telling: Sequence[bool]) -> list[int]:
    """The first places of runs that differ; a run that too little is known of to tell is taken for another one."""
    first: dict[bytes, int] = {}
    return [place for place, key in enumerate(digests) if first.setdefault(key, place) == place or not telling[place]]


def of_classes(name: str, predictions: NDArray[Any], labels: NDArray[np.int64], **known: Any) -> Runs:
    """The accuracy (percent) of predicted classes, integers [runs, examples]. Raises DataError for a negative one."""
    if predictions.min() < 0:
        run, example = np.argwhere(predictions < 0)[0]
        raise DataError(f"{name}: run {run} predicts class {predictions[run, example]} on example {example}")
    classes = int(max(predictions.max(), labels.max())) + 1
    compact = np.ascontiguousarray(predictions, dtype=np.min_scalar_type(classes - 1))
    wrong = (compact != labels).sum(axis=1)
    places = _different([digest(row) for row in compact], _tells(wrong, labels.size))
    known = _once(known, len(compact), places, "on all examples")
    compact = compact[places]
    errors = PackedErrors.from_predictions(compact, labels)
    samples = {"accuracy": Sample.of_errors(errors)}
    known = {"digests": tuple(digest(row) for row in compact), **known}
    return Runs(name, samples, predictions=compact, errors=errors, labels=labels, classes=classes, **known)


def of_errors(name: str, errors: NDArray[np.bool_], **known: Any) -> Runs:
    """The accuracy (percent) from error bits, bool [runs, examples], True where a run is wrong."""
    places = _different([digest(row) for row in errors], _tells(errors.sum(axis=1), errors.shape[1]))
    known = _once(known, len(errors), places, "on all examples")
    bits = PackedErrors.pack(errors[places])
    known = {"digests": tuple(digest(row) for row in bits.bits), **known}
    return Runs(name, {"accuracy": Sample.of_errors(bits)}, errors=bits, **known)


def of_scores(name: str, scores: Mapping[str, NDArray[Any]], **known: Any) -> Runs:
    """Any scores of each example, numbers [runs, examples] by metric. Raises DataError naming what is not finite."""
    for metric, values in scores.items():
        wrong = np.argwhere(~np.isfinite(values))
        if len(wrong):
            run, example = wrong[0]
            raise DataError(f"{name}: {metric} of run {run}, example {example} is {values[run, example]}")
    arrays = {metric: np.asarray(values, dtype=np.float64) for metric, values in scores.items()}
    count = len(next(iter(arrays.values())))
    rows = [np.stack([array[run] for array in arrays.values()]) for run in range(count)]
    digests = [digest(row) for row in rows]
    places = _different(digests, [_scores_tell(row) for row in rows])
    known = _once(known, count, places, "on all examples")
    samples = {metric: Sample.of_losses(array[places]) for metric, array in arrays.items()}
    return Runs(name, samples, **{"digests": tuple(digests[place] for place in places), **known})


def _tells(wrong: NDArray[np.int64], examples: int) -> list[bool]:
    return [bool(_TELLING <= count <= examples - _TELLING) for count in wrong]


def _scores_tell(scores: NDArray[np.float64]) -> bool:
    """Whether scores of a run, [metrics, examples], are its own: enough of them are not the commonest one."""
    return any(row.size - np.unique(row, return_counts=True)[1].max() >= _TELLING for row in scores)


def check_labels(name: str, labels: Any, examples: int | None = None, classes: int | None = None) -> NDArray[np.int64]:
    """The labels as int64 [examples].

    Raises DataError, naming the first that is wrong: no whole number, below 0 (as the -100 of tokens that do not
    count), beyond the classes; another number of examples than there are predictions.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise DataError(f"{name}: labels must be integers [examples], not {array.dtype} {list(array.shape)}")
    if examples is not None and array.size != examples:
        raise DataError(f"{name}: {array.size:,} labels for predictions of {examples:,} examples")
    whole = array.astype(np.int64) if array.dtype.kind in "iu" else _whole(name, array)
    for wrong, why in (
        (whole < 0, "is negative: leave such examples out"),
        (whole >= (classes or np.iinfo(np.int64).max), f"is beyond the {classes} classes"),
    ):
        if wrong.any():
            example = int(np.flatnonzero(wrong)[0])
            raise DataError(f"{name}: the label of example {example} is {whole[example]}, which {why}")
    return whole


def _whole(name: str, labels: NDArray[Any]) -> NDArray[np.int64]:
    wrong = np.flatnonzero(~np.isfinite(labels) | (labels != np.floor(labels)))
    if wrong.size:
        raise DataError(f"{name}: the label of example {wrong[0]} is {labels[wrong[0]]}, which is no class")
    return labels.astype(np.int64)


def digest(array: NDArray[Any]) -> bytes:
    """Sixteen bytes that equal arrays share."""
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()


def _check_block(name: str, run: int, logits: NDArray[Any], examples: int, classes: int, probabilities: bool) -> None:
    what = "probabilities" if probabilities else "logits"
    if logits.ndim != 2 or len(logits) != examples or (classes and logits.shape[1] != classes) or not logits.size:
        expected = f"[{examples}, {classes or 'classes'}]"
        raise DataError(f"{name}: {what} of run {run} have the shape {list(logits.shape)}, not {expected}")
    wrong = np.argwhere(~np.isfinite(logits))
    if len(wrong):
        example, column = wrong[0]
        value = "NaN" if np.isnan(logits[example, column]) else "infinite"
        raise DataError(f"{name}: {what} of run {run}, example {example}, class {column} is {value}")
    if probabilities and (logits.min() < 0 or logits.max() > 1 + 1e-3):
        example, column = np.argwhere((logits < 0) | (logits > 1 + 1e-3))[0]
        raise DataError(
            f"{name}: the probability of run {run}, example {example}, class {column} is {logits[example, column]}"
        )


def _losses_of_probabilities(probabilities: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(probabilities.astype(np.float64)[np.arange(len(labels)), labels]))

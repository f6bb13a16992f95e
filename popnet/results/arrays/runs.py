"""Arrays, in files or in memory, as `Runs`: logits, classes, right or wrong, scores of examples, values of runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.errors import ConfigError, DataError
from popnet.metrics.samples import Sample
from popnet.results.arrays.contents import Content, content_of, open_object, open_path
from popnet.results.arrays.doubts import check_classes
from popnet.results.found import Options, Runs
from popnet.results.reduction import of_classes, of_errors, of_logits, of_scores

_SUM_TOLERANCE = 1e-2
"""Of a row of probabilities, which half precision rounds: 1,000 bfloat16 classes are off by less."""


_MOST_CLASSES = 1 << 20
"""Doubles far beyond are whole numbers too."""


def runs_of_arrays(source: Path, options: Options, value: str | None = None) -> Runs:
    """The runs of a file or folder of arrays.

    Args:
        source: see `popnet.results.arrays.contents.open_path`. What its arrays are, their names say, or shape and type:
            logits or probabilities, floats [runs, examples, classes], or [examples, classes] of one run;
            predicted classes, integers [runs, examples] or [examples]; right or wrong, 0 and 1 [runs, examples],
            named `correct` or `errors`; scores of examples, numbers [runs, examples] named by a known metric or by
            `options.metrics`; values of runs, floats [runs]. Beside them may stand `labels`, `seeds`, `ids`, groups.
        value: the row of an export, or the array of a file that holds several.

    Raises:
        ConfigError, DataError: what is wrong, or ambiguous, and what to do.
    """
    return _reduced(content_of(open_path(source, options, value), options), options)


def runs_of_object(source: Any, name: str, options: Options) -> Runs:
    """The runs of arrays in memory.

    Args:
        source: a mapping of arrays, as a file holds them; an array of any form that `runs_of_arrays` names; a Hugging
            Face EvalPrediction or PredictionOutput, which is one run; or a list of any of these, each one run. NumPy's
            or torch's, on any device, or lists of numbers.
        name: for tables and errors.

    Raises:
        ConfigError, DataError: as `runs_of_arrays`.
    """
    return _reduced(content_of(open_object(source, name, options), options), options)


def holds_logits(source: Any, options: Options, value: str | None = None) -> bool:
    """Whether a path or an object holds logits or probabilities. Raises ConfigError, DataError as the readers do."""
    opened = open_path(source, options, value) if isinstance(source, Path) else open_object(source, "runs", options)
    return opened.kind in ("logits", "probabilities")


def check_probabilities(
    name: str, run: int, block: NDArray[Any], probabilities: bool, options: Options, first_example: int = 0
) -> None:
    """That one run's logits or probabilities [examples, classes] are what they are taken for.

    `first_example`: the number of the block's first.

    Raises:
        ConfigError: for logits that lie in 0..1, or are all whole numbers, unless `options.probabilities` is False.
        DataError: for probabilities of an example that do not sum to 1; one class alone.
    """
    if block.shape[1] < 2:
        raise DataError(
            f"{name}: one class alone: of a regression give scores of each example, as `squared_error`; of one logit "
            "for two classes give two columns, 0 and the logit"
        )
    with np.errstate(invalid="ignore", over="ignore"):
        sums = block.sum(axis=1, dtype=np.float64)
        if probabilities:
            wrong = np.flatnonzero(np.abs(sums - 1) > _SUM_TOLERANCE)
            if wrong.size:
                raise DataError(
                    f"{name}: the probabilities of run {run}, example {first_example + wrong[0]} sum to "
                    f"{sums[wrong[0]]:.6g}, not 1"
                )
            return
        if options.probabilities is False:
            return
        _ask(name, block, sums)


def _ask(name: str, block: NDArray[Any], sums: NDArray[np.float64]) -> None:
    """Raises ConfigError for what is hardly logits; zeros alone are nothing else either."""
    if not block.any():
        return
    if block.min() >= 0 and block.max() <= 1 + _SUM_TOLERANCE:
        if bool((np.abs(sums - 1) <= _SUM_TOLERANCE).all()):
            raise ConfigError(f"{name}: its rows lie in 0..1 and sum to 1: say --probabilities, or --logits")
        raise ConfigError(
            f"{name}: its rows lie in 0..1, as probabilities do, and do not sum to 1: say --logits if they are logits"
        )
    if block.min() >= 0 and bool((np.abs(sums - 100) <= 100 * _SUM_TOLERANCE).all()):
        raise ConfigError(f"{name}: its rows sum to 100, as percentages do: divide them by 100, or say --logits")
    if block.min() >= 0 and block.max() < _MOST_CLASSES and bool((block == np.floor(block)).all()):
        raise ConfigError(
            f"{name}: all its values are whole numbers: save classes as integers [runs, examples], or say --logits"
        )


def _reduced(content: Content, options: Options) -> Runs:
    known: dict[str, Any] = {
        "seeds": content.seeds,
        "ids": content.ids,
        "matched_by": content.matched_by,
        "clusters": content.clusters,
        "members": content.members,
    }
    if content.kind == "values":
        return Runs(content.name, _values(content), seeds=content.seeds)
    if content.kind == "scores":
        scores = {metric: _stacked(content, metric).astype(np.float64) for metric in content.rows}
        return of_scores(content.name, scores, labels=content.labels, **known)
    if content.kind in ("correct", "errors"):
        return of_errors(content.name, _errors(content), labels=content.labels, **known)
    assert content.labels is not None
    if content.kind == "classes":
        predictions = _stacked(content, "classes")
        check_classes(content.name, predictions, content.labels)
        return of_classes(content.name, predictions, content.labels, **known)
    probabilities = content.kind == "probabilities"
    if probabilities:
        known["marks"] = ("its arrays are read as probabilities",)
    blocks = _blocks(content, probabilities, options)
    return of_logits(content.name, blocks, content.labels, probabilities=probabilities, **known)


def _blocks(content: Content, probabilities: bool, options: Options) -> Iterator[NDArray[Any]]:
    for run, row in enumerate(content.runs):
        block = row.read()
        check_probabilities(content.name, run, block, probabilities, options)
        yield block


def _stacked(content: Content, key: str) -> NDArray[Any]:
    """All runs of an array: [runs, examples]."""
    rows = content.rows[key]
    array, order = rows[0].array, rows[0].order
    if rows[0].index is None or any(row.array is not array for row in rows):
        return np.stack([row.read() for row in rows])
    whole = array.read()
    return whole if order is None else whole[:, order]


def _errors(content: Content) -> NDArray[np.bool_]:
    values = _stacked(content, "accuracy")
    wrong = np.argwhere((values != 0) & (values != 1))
    if len(wrong):
        run, example = wrong[0]
        raise DataError(
            f"{content.name}: `{content.kind}` of run {run}, example {example} is {values[run, example]}, neither "
            "0 nor 1: name scores by their metric, as `exact_match`"
        )
    return np.asarray(values == (1 if content.kind == "errors" else 0))


def _values(content: Content) -> Mapping[str, Sample]:
    samples = {}
    for metric, rows in content.rows.items():
        values = rows[0].array.read().reshape(-1).astype(np.float64)
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            raise DataError(f"{content.name}: {metric} of run {wrong[0]} is {values[wrong[0]]}")
        samples[metric] = Sample(values)
    return samples

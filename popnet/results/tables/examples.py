"""Tables with one row an example: what each run answered on each, in one order, and whether it was right."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.errors import ConfigError, DataError, nearest
from popnet.results.found import Runs
from popnet.results.names import meaning
from popnet.results.reduction import of_classes, of_errors, of_scores
from popnet.results.tables.cells import answer_of, is_number, sort_key
from popnet.results.tables.columns import SPLIT_NAMES, SPLITS, names_a_system, plain, says_percent
from popnet.results.tables.view import View, check_no_summary, is_known_metric, listed, named, ordered, ways_out

_MOST_CLASSES = 1 << 16
"""Larger numbers are answers, as those of arithmetic, and not classes."""


@dataclass(frozen=True)
class _Grid:
    """The rows of each run, by example.

    Attributes:
        runs: what identifies each; None where there is one that no column names.
        ids: of the examples, in ascending order; None where they are known by position.
        rows: int64 [rows] by run: positions in the view, those of one example after those of another.
        starts: int64 [examples] by run: where the rows of each example begin.
        repeated: how many rows an example has, at least and at most.
    """

    runs: tuple[Hashable, ...] | None
    ids: tuple[Hashable, ...] | None
    rows: tuple[NDArray[np.int64], ...]
    starts: tuple[NDArray[np.int64], ...]
    repeated: tuple[int, int]

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean over each example's rows: float64 [runs, examples], from values by row of the view."""
        sums = np.stack([np.add.reduceat(values[rows], starts) for rows, starts in zip(self.rows, self.starts)])
        return sums / np.stack([np.diff(starts, append=len(rows)) for rows, starts in zip(self.rows, self.starts)])

    def first(self) -> NDArray[np.int64]:
        """A row of each example: int64 [runs, examples], positions in the view."""
        return np.stack([rows[starts] for rows, starts in zip(self.rows, self.starts)])

    @property
    def examples(self) -> int:
        return len(self.starts[0])


def runs_of_examples(view: View, id_column: str | None) -> Runs:
    """The runs of rows that are examples.

    Args:
        id_column: what identifies an example; None where its position among a run's rows does.

    Raises:
        ConfigError: rows of several models, or epochs; scores of which none is asked for.
        DataError: an example that is missing in a run, or there twice; a label that is no class, or differs.
    """
    run_column = _run_column(view, id_column)
    view, marks = _one_step(view, run_column)
    _check_systems(view, run_column)
    for column, positions in ((run_column, range(len(view))), (id_column, (0, len(view) - 1))):
        if column is not None:
            check_no_summary(view, column, positions)
    grid = _grid(view, run_column, id_column)
    low, high = grid.repeated
    if high > 1:
        marks += (f"the mean of {low if low == high else f'{low} to {high}'} repeats of each example was taken",)
    known: dict[str, Any] = {"seeds": grid.runs, "ids": grid.ids, "matched_by": id_column, "task": view.task}
    known |= {"marks": (*view.table.marks, *marks), "clusters": _clusters(view, grid)}
    known["rows"] = view.places(grid.first()[:, 0].tolist())
    by_answer, scores = _wanted(view)
    found = _of_answers(view, grid, known) if by_answer else None
    if scores:
        values = {column: grid.means(_values(view, column, id_column)) for column in scores}
        labels, content = _labels(view, grid)
        percent = frozenset(c for c in scores if says_percent(c) or ((n := view.numbers(c)) is not None and n.percent))
        known = {**known, "labels": labels, "content": content, "percent": percent}
        more = of_scores(view.name, values, **known)
        found = (
            more
            if found is None
            else replace(found, samples={**found.samples, **more.samples}, percent=found.percent | percent)
        )
    assert found is not None  # there is a score where there are no answers
    return found


def _run_column(view: View, id_column: str | None) -> str | None:
    """The column that tells runs apart, or None where all rows are of one run."""
    if view.options.seed_column is not None:
        return view.options.seed_column
    seeds = [c for c in view.of_role("seed") if c != id_column]
    varying = [c for c in seeds if view.varies(c)]
    if len(varying) > 1 and any(view.keys(column) != view.keys(varying[0]) for column in varying):
        raise ConfigError(f"{view.file}: {named(varying)} differ between rows: say which with --seed-column")
    if seeds:
        return (varying or seeds)[0]
    runs = [c for c in view.of_role("run") if c != id_column and len(view.distinct(c)) < max(len(view), 2)]
    return next((c for c in runs if view.varies(c)), runs[0] if runs else None)


def _one_step(view: View, run_column: str | None) -> tuple[View, tuple[str, ...]]:
    """The rows of each run's last step, where `--last` asks for it and there are several."""
    steps = [c for c in view.of_role("history") if view.varies(c)]
    keys = view.keys(run_column) if run_column else [None] * len(view)
    steps = [c for c in steps if len(set(zip(keys, view.keys(c)))) > len(set(keys))]
    if not steps:
        return view, ()
    step = steps[0]
    if not view.options.last:
        raise ConfigError(
            f"{view.file}: its examples are of several steps, by `{step}` ({listed(view.distinct(step))}): --last "
            f"takes those of each run's last, and --where '{step}={view.cell(step, len(view) - 1)}' those of one"
        )
    numbers = view.numbers(step)
    if numbers is None or numbers.fault or not np.isfinite(numbers.values).all():
        raise DataError(f"{view.file}: `{step}` is not a number in each row")
    last: dict[Hashable, float] = {}
    for key, value in zip(keys, numbers.values):
        last[key] = max(value, last.get(key, value))
    chosen = [row for row, key, value in zip(view.rows, keys, numbers.values) if value == last[key]]
    ends = listed((f"{value:g}" for value in dict.fromkeys(last.values())), 4)
    return view.of(chosen), (f"the last step of each run was taken ({step} {ends})",)


def _check_systems(view: View, run_column: str | None) -> None:
    """Raises ConfigError where a column says that the rows are of several models."""
    told = (run_column, *view.picked, *view.options.ignore, *view.options.metrics)
    told += (view.options.id_column, view.options.repeat_column, view.options.cluster)
    for column in view.table.columns:
        if column not in told and view.varies(column) and (names_a_system(column) or _names_a_split(view, column)):
            values = listed(view.distinct(column))
            raise ConfigError(f"{view.file}: its rows differ in `{column}` ({values}): {ways_out(view, column)}")


def _names_a_split(view: View, column: str) -> bool:
    """Whether a column parts the examples into tests of their own, as train and test, or folds."""
    return plain(column) in SPLITS or all(str(key).lower() in SPLIT_NAMES for key in view.distinct(column))


# Each run's rows, by example.


def _grid(view: View, run_column: str | None, id_column: str | None) -> _Grid:
    runs = _by_run(view, run_column)
    names = None if run_column is None else tuple(runs)
    if id_column is None:
        return _grid_by_position(view, runs, names)
    ids = view.keys(id_column)
    if None in ids:
        raise DataError(f"{view.file}: {view.place(ids.index(None))}: `{id_column}` is empty")
    by_example = [_by_example(view, positions, ids) for positions in runs.values()]
    every = set().union(*by_example)
    _check_same(view, list(runs), by_example, every, id_column)
    order = ordered(every)
    if not order:
        raise DataError(f"{view.file}: none of its examples, by `{id_column}`, is to be kept")
    for run, examples in zip(runs, by_example):
        _check_repeats(view, run if run_column else None, examples, id_column)
    rows = tuple(np.array([p for key in order for p in examples[key]], np.int64) for examples in by_example)
    counts = [np.array([len(examples[key]) for key in order], np.int64) for examples in by_example]
    starts = tuple(np.cumsum(count) - count for count in counts)
    repeated = min(int(count.min()) for count in counts), max(int(count.max()) for count in counts)
    return _Grid(names, tuple(order), rows, starts, repeated)


def _by_run(view: View, run_column: str | None) -> dict[Hashable, list[int]]:
    runs: dict[Hashable, list[int]] = {}
    for position, key in enumerate(view.keys(run_column) if run_column else [0] * len(view)):
        if key is None:
            raise DataError(f"{view.file}: {view.place(position)}: `{run_column}` is empty")
        runs.setdefault(key, []).append(position)
    return runs


def _by_example(view: View, positions: Sequence[int], ids: Sequence[Any]) -> dict[Hashable, list[int]]:
    keep = view.options.keep
    examples: dict[Hashable, list[int]] = {}
    for position in positions:
        if keep is None or ids[position] in keep:
            examples.setdefault(ids[position], []).append(position)
    return examples


def _check_same(
    view: View, runs: Sequence[Hashable], found: Sequence[Mapping[Hashable, Any]], every: set[Hashable], column: str
) -> None:
    for run, examples in zip(runs, found):
        missing = every - set(examples)
        if missing:
            first = min(missing, key=sort_key)
            raise DataError(
                f"{view.file}: run {run} lacks {len(missing):,} of the {len(every):,} examples that its other runs "
                f"have, as `{column}` {first}"
            )


def _check_repeats(view: View, run: Hashable | None, examples: Mapping[Hashable, list[int]], column: str) -> None:
    """Raises DataError where a run has an example twice, and no column numbers the repeats."""
    repeat = next(iter(view.of_role("repeat")), None)
    numbers = None if repeat is None else view.keys(repeat)
    for key, positions in examples.items():
        if len(positions) == 1 or (numbers and len({numbers[p] for p in positions}) == len(positions)):
            continue
        of_run = "" if run is None else f" of run {run}"
        what = f"`{column}` {key}{of_run} is in {len(positions)} rows ({listed(map(view.place, positions), 3)})"
        if numbers is not None:
            raise DataError(f"{view.file}: {what}, and `{repeat}` does not tell them apart: keep one of each")
        same = view.of(view.rows[positions])
        apart = [
            c
            for c in view.table.columns
            if view.role(c) in (None, "setting", "task", "run", "seed", "state") and same.varies(c) and _tells(same, c)
        ]
        if apart:
            raise ConfigError(
                f"{view.file}: {what}, which differ in {named(apart)}: {ways_out(same, apart[0])}; or say "
                f"--seed-column '{apart[0]}' where these are runs, --repeat-column where they are repeats"
            )
        raise DataError(
            f"{view.file}: {what}: keep one of each, or number repeats in a column and name it with --repeat-column"
        )


def _tells(view: View, column: str) -> bool:
    return view.is_text(column) or (view.numbers(column) is not None and not is_known_metric(column))


def _grid_by_position(view: View, runs: Mapping[Hashable, list[int]], names: tuple[Hashable, ...] | None) -> _Grid:
    lengths = {run: len(positions) for run, positions in runs.items()}
    low, high = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
    if lengths[low] != lengths[high]:
        raise DataError(
            f"{view.file}: run {low} has {lengths[low]:,} examples and run {high} {lengths[high]:,}: name what "
            "identifies an example with --id-column"
        )
    if names is None:
        _check_stacked(view)
    rows = tuple(np.array(positions, np.int64) for positions in runs.values())
    return _Grid(names, None, rows, tuple(np.arange(lengths[low]) for _ in rows), (1, 1))


def _check_stacked(view: View) -> None:
    """Raises ConfigError where a column parts the rows into runs on the same examples: their labels repeat in order."""
    label = next(iter(view.of_role("label")), None)
    if label is None:
        return
    labels = view.keys(label)
    for column in view.table.columns:
        if column == label or view.role(column) in ("label", "prediction", "correct", "prose"):
            continue
        parts: dict[Hashable, list[Hashable]] = {}
        for key, truth in zip(view.keys(column), labels):
            parts.setdefault(key, []).append(truth)
        first, *others = parts.values()
        if others and len(first) > 1 and len(set(first)) > 1 and all(part == first for part in others):
            raise ConfigError(
                f"{view.file}: its rows hold the same labels once for each `{column}` ({listed(parts)}): say "
                f"--seed-column '{column}' where these are runs, or {ways_out(view, column)}"
            )


def _clusters(view: View, grid: _Grid) -> NDArray[np.int64] | None:
    """The group of each example, numbered in ascending order of the groups' names: int64 [examples]."""
    column = view.options.cluster
    if column is None:
        return None
    view.table.check_column(column, "--cluster")  # that of a long table's metrics is gone
    keys = _of_examples(view, grid, column)
    if None in keys:
        row = grid.first()[0, keys.index(None)]
        raise DataError(f"{view.file}: {view.place(int(row))}: `{column}` is empty")
    codes = {key: code for code, key in enumerate(ordered({key for key in keys if key is not None}))}
    return np.array([codes[key] for key in keys if key is not None], np.int64)


def _of_examples(
    view: View, grid: _Grid, column: str, keys: Sequence[Hashable | None] | None = None
) -> list[Hashable | None]:
    """The key of each example in a column that must be equal in all its rows: [examples]."""
    keys = view.keys(column) if keys is None else keys
    of_example = [keys[row] for row in grid.first()[0]]
    for rows, starts in zip(grid.rows, grid.starts):
        example = np.repeat(np.arange(grid.examples), np.diff(starts, append=len(rows)))
        for row, number in zip(rows.tolist(), example.tolist()):
            if keys[row] != of_example[number]:
                which = number if grid.ids is None else grid.ids[number]
                raise DataError(
                    f"{view.file}: {view.place(row)}: the `{column}` of example {which} is {view.cell(column, row)}, "
                    f"and {of_example[number]} in another row"
                )
    return of_example


# What the rows say.


def _wanted(view: View) -> tuple[bool, list[str]]:
    """Whether the accuracy of predictions is wanted, and which columns of scores."""
    answers = bool(view.of_role("label") and view.of_role("prediction"))
    known = [c for c in view.table.columns if _may_be_score(view, c)]
    names = [*(["accuracy"] if answers and "accuracy" not in known else []), *known]
    if view.options.metrics:
        for metric in view.options.metrics:
            if metric not in names and metric not in view.table.columns:
                raise ConfigError(f"{view.file}: no column {metric!r}, which --metric names; {nearest(metric, names)}")
        by_answer = answers and "accuracy" in view.options.metrics and "accuracy" not in view.table.columns
        return by_answer, [m for m in view.options.metrics if not (by_answer and m == "accuracy")]
    if answers:
        _check_judged(view)
        return True, []
    scores = known if len(known) == 1 else [c for c in known if is_known_metric(c)]
    if scores:
        return False, scores
    if view.of_role("prediction") and not known:
        raise DataError(f"{view.file}: holds predictions and no labels: add a column `label`, or one `correct`")
    if not known:
        raise DataError(f"{view.file}: holds neither labels and predictions nor a column of scores")
    raise ConfigError(f"{view.file}: holds {named(known, 12)}: say which with --metric")


def _may_be_score(view: View, column: str) -> bool:
    options = view.options
    if column in (options.group, options.cluster, *view.picked, *options.ignore):
        return False
    if view.role(column) not in (None, "correct", "value"):
        return False
    numbers = view.numbers(column)
    return numbers is not None and numbers.kind != "empty"


def _check_judged(view: View) -> None:
    """Raises ConfigError where a column says of an answer that it is right, and the label that it is not."""
    label, prediction = view.of_role("label")[0], view.of_role("prediction")[0]
    columns = view.of_role("correct")
    equal = [a == b for a, b in zip(_answers(view, label), _answers(view, prediction))] if columns else []
    for column in columns:
        numbers = view.numbers(column)
        if numbers is None or numbers.fault or not np.isin(numbers.values, (0.0, 1.0)).all():
            continue
        wrong = np.flatnonzero(numbers.values != np.array(equal))
        if wrong.size:
            raise ConfigError(
                f"{view.file}: `{column}` is not whether `{prediction}` equals `{label}` in {wrong.size:,} rows, as "
                f"{view.place(int(wrong[0]))}: say which with --metric '{column}' or --metric accuracy"
            )


def _values(view: View, column: str, id_column: str | None) -> NDArray[np.float64]:
    """A column of numbers: float64 [rows]. Raises DataError naming what is none."""
    numbers = view.numbers(column)
    if numbers is None:
        raise DataError(
            f"{view.file}: `{column}` is text, and no numbers: {view.place(0)} holds {view.cell(column, 0)}"
        )
    if numbers.fault:
        raise DataError(f"{view.file}: `{column}` {numbers.fault}")
    keep, ids = view.options.keep, view.keys(id_column) if id_column else None
    for at in np.flatnonzero(~np.isfinite(numbers.values)).tolist():
        if keep is None or ids is None or ids[at] in keep:
            which = "" if ids is None else f" ({id_column} {ids[at]})"
            raise DataError(f"{view.file}: {view.place(at)}{which}: {column} is {view.cell(column, at)}")
    if (
        numbers.percent
        and view.options.scale == "auto"
        and meaning(column).kind == "share"
        and numbers.values.max() <= 1
    ):
        raise ConfigError(f"{view.file}: `{column}` is at most {numbers.values.max():g}%: say --scale percent")
    return np.asarray(numbers.values)


def _of_answers(view: View, grid: _Grid, known: Mapping[str, Any]) -> Runs:
    """The accuracy of predicted classes, integers or texts, which equal the label or not."""
    label, prediction = view.of_role("label")[0], view.of_role("prediction")[0]
    for column in (label, prediction):
        _check_filled(view, grid, column)
    truths, predicted = view.numbers(label), view.numbers(prediction)  # compared as texts where one is None
    if truths is not None and truths.fault:
        raise DataError(f"{view.file}: `{label}` {truths.fault}")
    if truths is not None and predicted is not None and (predicted.fault or truths.percent != predicted.percent):
        what = predicted.fault or f"and `{label}` are not both in percent: write one kind of value"
        raise DataError(f"{view.file}: `{prediction}` {what}")
    _check_truth_values(view, label, prediction)
    if truths is not None:
        _check_classes(view, grid, label, truths.values)
    labels, content = _labels(view, grid)
    single = grid.repeated[1] == 1
    if labels is not None and predicted is not None:
        _check_classes(view, grid, prediction, predicted.values)
        if single and max(predicted.values[np.concatenate(grid.rows)].max(), labels.max()) < _MOST_CLASSES:
            return of_classes(view.name, predicted.values[grid.first()].astype(np.int64), labels, **known)
    answers = [_answers(view, column) for column in (label, prediction)]
    right = np.array([a == b for a, b in zip(*answers)])
    if not right.any() and not set(answers[0]) & set(answers[1]):
        one, other = view.cell(prediction, 0), view.cell(label, 0)
        raise DataError(f"{view.file}: no `{prediction}` is one of the labels: {one!r} and {other!r}")
    known = {**known, "labels": labels, "content": content}
    if single:
        return of_errors(view.name, ~right[grid.first()], **known)
    accuracies = 100 * grid.means(right.astype(np.float64))
    if view.options.scale == "auto" and 0 < accuracies.mean(axis=1).max() <= 1:
        raise ConfigError(f"{view.file}: no accuracy is above 1%, as if it were a fraction: say --scale percent")
    return of_scores(view.name, {"accuracy": accuracies}, **known, percent=frozenset(["accuracy"]))


def _answers(view: View, column: str) -> list[Hashable | None]:
    """What tells the answers of a column apart: [rows]; numbers and truth values where the labels are such.

    Raises DataError for a number that may be read in two ways, which would count as wrong.
    """
    keys = view.keys(column)
    label = view.numbers(view.of_role("label")[0])
    if label is None or label.kind == "empty":
        return keys
    cells = view.table.columns[column]
    known: dict[Any, Hashable | None] = {}
    found = []
    truth_values = bool(np.isin(label.values[np.isfinite(label.values)], (0, 1)).all())
    for position, (row, key) in enumerate(zip(view.rows, keys)):
        if (type(key), key) not in known:
            try:
                answer = answer_of(cells[row])
            except ValueError as error:
                raise DataError(f"{view.file}: {view.place(position)}: `{column}` {error}") from None
            if isinstance(answer, str) and answer.endswith("%") and is_number(answer) and not label.percent:
                raise DataError(f"{view.file}: {view.place(position)}: `{column}` is {key}, and the labels no percent")
            known[type(key), key] = key if isinstance(answer, bool) and not truth_values else answer
        found.append(known[type(key), key])
    return found


def _check_truth_values(view: View, label: str, prediction: str) -> None:
    """Raises DataError where one column holds truth values, and the other numbers that are none."""
    both = {column: numbers for column in (label, prediction) if (numbers := view.numbers(column)) is not None}
    if len({numbers.kind == "truth" for numbers in both.values()}) < 2:
        return
    for column, numbers in both.items():
        wrong = np.flatnonzero(np.isfinite(numbers.values) & ~np.isin(numbers.values, (0, 1)))
        if wrong.size:
            row = int(wrong[0])
            raise DataError(
                f"{view.file}: {view.place(row)}: `{column}` is {view.cell(column, row)}, and `{label}` and "
                f"`{prediction}` are not both truth values: write one kind of value"
            )


def _labels(view: View, grid: _Grid) -> tuple[NDArray[np.int64] | None, dict[Hashable, str] | None]:
    """The labels, int64 [examples], where they are classes; else what they say, by id; neither where there are none."""
    columns = view.of_role("label")
    if not columns or (not view.of_role("prediction") and None in view.keys(columns[0])):
        return None, None
    label = columns[0]
    whole = all(type(key) is int for key in view.keys(label))  # the common case, and fast
    keys = _of_examples(view, grid, label, None if whole else _answers(view, label))
    if keys and all(isinstance(key, int) and 0 <= key < 1 << 62 for key in keys):
        return np.array(keys, np.int64), None
    ids = range(grid.examples) if grid.ids is None else grid.ids
    return None, {key: str(truth) for key, truth in zip(ids, keys)}


def _check_filled(view: View, grid: _Grid, column: str) -> None:
    keys = view.keys(column)
    for row in np.concatenate(grid.rows).tolist():
        if keys[row] is None:
            raise DataError(f"{view.file}: {view.place(row)}: `{column}` is empty")


def _check_classes(view: View, grid: _Grid, column: str, values: NDArray[np.float64]) -> None:
    """Raises DataError for a number that is no class: a fraction, or below 0, as the -100 of what is not counted."""
    rows = np.sort(np.concatenate(grid.rows))
    wrong = rows[~(np.isfinite(values[rows]) & (values[rows] >= 0) & (values[rows] == np.floor(values[rows])))]
    if wrong.size:
        row = int(wrong[0])
        raise DataError(
            f"{view.file}: {view.place(row)}: `{column}` is {view.cell(column, row)}, which is no class: leave such "
            "examples out, or name a column of scores with --metric"
        )

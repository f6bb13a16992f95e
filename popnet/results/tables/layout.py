"""Which rows of a table are runs, which are steps of one training, and which are examples: said, or asked.

A wrong reading gives a confident wrong answer, so each needs a column that says so: a seed, an epoch, an example's id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from popnet.errors import ConfigError, DataError, nearest
from popnet.metrics.samples import Sample
from popnet.results.found import Options, Runs
from popnet.results.names import meaning
from popnet.results.reduction import digest
from popnet.results.tables.cells import Numbers, numbers_of
from popnet.results.tables.columns import (
    MAYBE_HISTORIES,
    NAMES,
    PLACES,
    alike_but_for_seeds,
    are_generated,
    plain,
    says_percent,
    without_split,
)
from popnet.results.tables.examples import runs_of_examples
from popnet.results.tables.files import Table
from popnet.results.tables.view import (
    View,
    check_no_summary,
    groups,
    is_known_metric,
    listed,
    named,
    pick,
    ways_out,
)

_MOST_RUNS = 100
"""More rows that no seed tells apart are rather examples than runs."""
_LEAST_STEPS = 5
"""A loss that falls in each of that many rows is taken for that of one training."""


def runs_of_table(table: Table, value: str | None, options: Options) -> list[Runs]:
    """The runs of a table, one `Runs` for each of its tasks.

    Args:
        value: of `FILE:VALUE`: the group whose rows are wanted.

    Raises:
        ConfigError: rows that may not be runs of one population, and what tells how they are meant.
        DataError: a cell that is no number, a seed or an example that is missing or there twice.
    """
    view = pick(table, value, options)
    metrics = _long_metrics(view)
    if metrics is None:
        return [_runs_of_view(part) for part in _by_task(view)]
    found = [[_runs_of_view(part) for part in _by_task(_of_metric(view, metric))] for metric in metrics]
    return [_joined([runs for of_one in found for runs in of_one if runs.task == first.task]) for first in found[0]]


def groups_of_table(table: Table, options: Options) -> list[str]:
    """The different values of the column `--group`, in their order, among the rows that `--where` picks."""
    return groups(pick(table, None, options))


def _runs_of_view(view: View) -> Runs:
    by_example, column = _example_column(view)
    return runs_of_examples(view, column) if by_example else _runs_of_rows(view)


# Tasks, and tables with one metric a row.


def _by_task(view: View) -> list[View]:
    columns = view.of_role("task")
    columns = [column for column in columns if view.varies(column)] or columns[:1]
    if not columns:
        return [view]
    for column in columns:
        check_no_summary(view, column, range(len(view)) if view.varies(column) else ())
    by_task: dict[str, list[int]] = {}
    for position, row in enumerate(view.rows):
        cells = [view.cell(column, position) for column in columns]
        if "empty" in cells:
            raise DataError(f"{view.file}: {view.place(position)}: `{columns[cells.index('empty')]}` is empty")
        by_task.setdefault("/".join(cells), []).append(int(row))
    picked = view.picked | set(columns)
    return [replace(view.of(rows), task=task, picked=picked) for task, rows in by_task.items()]


def _long_metrics(view: View) -> list[str] | None:
    """The metrics that are wanted of a table with one metric a row; None for other tables."""
    names, values = view.of_role("metric"), view.of_role("value")
    if len(names) != 1 or len(values) != 1 or values[0] in view.options.metrics:
        return None
    known = [str(key) for key in view.distinct(names[0])]
    if not view.options.metrics:
        if len(known) > 1:
            raise ConfigError(f"{view.file}: holds {listed(known)}, one a row: say which with --metric")
        return known
    for metric in view.options.metrics:
        if metric not in known:
            raise ConfigError(f"{view.file}: no `{names[0]}` is {metric!r}; {nearest(metric, known)}")
    return list(view.options.metrics)


def _of_metric(view: View, metric: str) -> View:
    """The table of one metric, whose values stand under its name."""
    (name,), (value,) = view.of_role("metric"), view.of_role("value")
    rows = np.array([row for row, key in zip(view.rows, view.keys(name)) if str(key) == metric], np.int64)
    columns = {column: cells for column, cells in view.table.columns.items() if column not in (name, value, metric)}
    table = view.table.taken(rows, {**columns, metric: view.table.columns[value]})
    options = replace(view.options, metrics=(metric,))
    return replace(view, table=table, rows=np.arange(len(rows)), options=options)


def _joined(found: Sequence[Runs]) -> Runs:
    """Runs that were read once for each metric."""
    first = found[0]
    for other in found[1:]:
        if (other.seeds, other.ids, other.count) != (first.seeds, first.ids, first.count):
            one, two = next(iter(first.samples)), next(iter(other.samples))
            raise DataError(f"{first.name}: {one} and {two} are of different runs: compare them one at a time")
    samples = {metric: sample for runs in found for metric, sample in runs.samples.items()}
    digests = None
    if first.digests is not None:
        by_run = zip(*(runs.digests or () for runs in found))
        digests = tuple(digest(np.frombuffer(b"".join(parts), np.uint8)) for parts in by_run)
    marks = tuple(dict.fromkeys(mark for runs in found for mark in runs.marks))
    percent = frozenset().union(*(runs.percent for runs in found))
    rows = None if first.rows is None else frozenset().union(*(runs.rows or () for runs in found))
    return replace(first, samples=samples, digests=digests, marks=marks, percent=percent, rows=rows)


# Runs or examples?


def _example_column(view: View) -> tuple[bool, str | None]:
    """Whether rows are examples, and the column that identifies them: None where it is their position."""
    if view.options.id_column is not None:
        return True, view.options.id_column
    seeds, names = view.of_role("seed"), view.of_role("run")
    answers = bool(view.of_role("label") and view.of_role("prediction"))
    if len(view) > 1 and any(_all_differ(view, c) for c in (seeds if answers else (*seeds, *names))):
        return False, None  # each row is a run
    runs = [c for c in (*seeds, *names) if not _all_differ(view, c)]
    answers = answers or any(_only_0_and_1(view, c) for c in view.of_role("correct"))
    known, maybe = view.of_role("example"), view.of_role("id")
    known = [c for c in known if _identifies(view, c, runs)] or known
    if known:
        return True, known[0]
    if maybe and (answers or (runs and not _all_differ(view, maybe[0]) and _identifies(view, maybe[0], runs))):
        return True, maybe[0]
    if maybe and not runs and not names and _all_differ(view, maybe[0]):
        raise ConfigError(f"{view.file}: `{maybe[0]}` may identify runs or examples: {_either(maybe[0])}")
    if answers and not any(view.varies(column) for column in view.of_role("history")):
        return True, None
    _check_prose(view, runs)
    return False, None


def _either(column: str) -> str:
    return f"say --seed-column '{column}' or --id-column '{column}'"


def _all_differ(view: View, column: str) -> bool:
    return len(view.distinct(column)) == len(view)


def _identifies(view: View, column: str, runs: Sequence[str]) -> bool:
    """Whether each run has each of the column's keys once at most."""
    return len(set(zip(view.keys(column), *(view.keys(c) for c in runs)))) == len(view)


def _only_0_and_1(view: View, column: str) -> bool:
    numbers = view.numbers(column)
    return numbers is not None and not numbers.fault and bool(np.isin(numbers.values, (0.0, 1.0)).all())


def _check_prose(view: View, runs: Sequence[str]) -> None:
    """Raises ConfigError where a column of what examples say differs in every row."""
    for column in view.of_role("prose"):
        if len(view) > 1 and view.is_text(column) and (_identifies(view, column, runs) and view.varies(column)):
            raise ConfigError(
                f"{view.file}: its rows look like examples, by `{column}`: name what identifies them with "
                f"--id-column, or leave `{column}` out with --ignore '{column}' where they are runs"
            )


# One row a run.


def _runs_of_rows(view: View) -> Runs:
    _check_columns_of_runs(view)
    if view.options.cluster is not None:
        raise ConfigError(f"{view.file}: --cluster groups examples, and its rows are runs")
    metrics = _wanted_metrics(view)
    column = _run_column(view, metrics)
    view, marks = _last_rows(view, column, metrics)
    seeds = _seeds(view, column, metrics)
    marks = (*view.table.marks, *marks, *_state_mark(view))
    if column is not None and view.role(column) is None:
        marks += (f"`{column}` was taken for the runs' names",)
    samples, percent = {}, set()
    for metric in metrics:
        numbers = _numbers(view, metric, seeds, column)
        samples[metric] = Sample.of_values(numbers.values)
        marks += (f"`{metric}` has {numbers.mark}",) if numbers.mark else ()
        percent |= {metric} if numbers.percent or says_percent(metric) else set()
    rows = view.places(range(len(view)))
    return Runs(view.name, samples, seeds=seeds, task=view.task, marks=marks, percent=frozenset(percent), rows=rows)


def _wanted_metrics(view: View) -> list[str]:
    """The columns of `--metric`, or the only one that can be meant."""
    columns = list(view.table.columns)
    known = [column for column in columns if _may_be_metric(view, column)]
    for metric in view.options.metrics:
        if metric not in columns:
            raise ConfigError(f"{view.file}: no column {metric!r}, which --metric names; {nearest(metric, known)}")
    if view.options.metrics:
        return list(view.options.metrics)
    if not known:
        raise DataError(
            f"{view.file}: no column of numbers can be a metric among {named(columns)}: name it with --metric"
        )
    if len(known) > 1:
        raise ConfigError(f"{view.file}: holds {named(known, 12)}: say which with --metric")
    return known


def _may_be_metric(view: View, column: str) -> bool:
    options = view.options
    told = (options.group, options.cluster, *view.picked, *options.ignore)
    if column in told or view.role(column) not in (None, "correct", "value"):
        return False
    numbers = view.numbers(column)
    return numbers is not None and numbers.kind != "empty"


def _run_column(view: View, metrics: Sequence[str]) -> str | None:
    """The column that tells runs apart: a seed before a run's name or number; None where there is none."""
    if view.options.seed_column is not None:
        return view.options.seed_column
    seeds = [c for c in view.of_role("seed") if c not in metrics and view.distinct(c) != [None]]
    varying = [column for column in seeds if view.varies(column)]
    if len(varying) > 1 and any(view.keys(column) != view.keys(varying[0]) for column in varying):
        raise ConfigError(f"{view.file}: {named(varying)} differ between rows: say which with --seed-column")
    if seeds:
        return (varying or seeds)[0]
    runs = [c for c in view.of_role("run", "id") if c not in metrics and view.distinct(c) != [None]]
    names = [
        c
        for c in view.table.columns
        if c not in (*view.picked, *view.options.ignore)
        and view.role(c) is None
        and _all_differ(view, c)
        and view.is_text(c)
        and alike_but_for_seeds(map(str, view.keys(c)))
    ]
    apart = [column for column in runs if _all_differ(view, column)]
    return next(iter((*apart, *runs, *(names if len(view) > 1 else ()))), None)


def _seeds(view: View, column: str | None, metrics: Sequence[str]) -> tuple[Hashable, ...] | None:
    """What tells each run apart, where no other column says that they are of several populations."""
    path = view.file
    keys: list[Hashable] = []
    if column is not None:
        found = view.keys(column)
        if None in found:
            raise DataError(f"{path}: {view.place(found.index(None))}: `{column}` is empty")
        check_no_summary(view, column, range(len(view)))
        keys = _with_ignored(view, found)
        _check_repeated(view, column, keys, metrics)
    differing = [c for c in _settings(view, column, metrics) if view.varies(c)]
    if differing:
        raise ConfigError(f"{path}: its rows are not runs of one population: {_differences(view, differing)}")
    _check_not_examples(view, column, metrics)
    if column is None:
        _check_not_steps(view, metrics)
        _check_told_apart(view, metrics)
    elif view.role(column) != "seed":
        _check_names(view, metrics)
    return tuple(keys) if column is not None else None


def _check_not_examples(view: View, column: str | None, metrics: Sequence[str]) -> None:
    """Raises ConfigError where rows without seeds look like examples."""
    role = None if column is None else view.role(column)
    if role == "seed" or len(view) < 3:
        return
    for metric in metrics:
        if _only_0_and_1(view, metric):
            raise ConfigError(
                f"{view.file}: `{metric}` is 0 or 1 in each row, as for examples: name what identifies these with "
                "--id-column, or the runs with --seed-column"
            )
    if column is not None and role is None and len(view) > _MOST_RUNS:
        raise ConfigError(f"{view.file}: `{column}` may name {len(view):,} runs or examples: {_either(column)}")


def _check_told_apart(view: View, metrics: Sequence[str]) -> None:
    """Raises ConfigError where no column says that rows are runs, and one, or their number, that they may be not."""
    if len(view) < 2:
        return
    told = (*metrics, *view.picked, *view.options.ignore)
    for other in view.table.columns:
        role = view.role(other)
        if other in told or (role == "bookkeeping" and plain(other) not in PLACES) or not _all_differ(view, other):
            continue
        if view.numbers(other) is None:
            raise ConfigError(
                f"{view.file}: `{other}` may name runs, examples or models: {_either(other)}, or --ignore '{other}'"
            )
        if role == "bookkeeping" or (not is_known_metric(other) and _counts(view, other)):
            raise ConfigError(
                f"{view.file}: `{other}` may number runs or examples: {_either(other)}, or --ignore '{other}'"
            )
    if len(view) > _MOST_RUNS:
        raise ConfigError(
            f"{view.file}: its {len(view):,} rows may be runs or examples, and no column tells: add one, and name it "
            "with --seed-column or --id-column"
        )


def _check_not_steps(view: View, metrics: Sequence[str]) -> None:
    """Raises ConfigError where rows without a run's column look like epochs, as those of Keras' histories."""
    if len(view) < 2:
        return
    numeric = [c for c in view.table.columns if c in metrics or _may_be_metric(view, c)]
    by_metric: dict[str, list[str]] = {}
    for column in numeric:
        if "final" in plain(column).split("_"):
            continue  # of a run's end
        by_metric.setdefault(without_split(column), []).append(column)
    both = next((columns for columns in by_metric.values() if len(columns) > 1), None)
    falling = next((c for c in numeric if len(numeric) > 1 and _falls(view, c)), None)
    if view.table.restarts:
        why = "an index without a name counts them more than once"
    elif both is not None:
        why = f"they hold {named(both[:2])}"
    elif falling is not None:
        why = f"`{falling}` falls from each to the next"
    else:
        return
    raise ConfigError(
        f"{view.file}: its rows may be epochs, since {why}, and no column tells runs apart: add a seed column, or name "
        "the one that does with --seed-column"
    )


def _falls(view: View, column: str) -> bool:
    numbers, known = view.numbers(column), meaning(column)
    if numbers is None or len(view) < _LEAST_STEPS or known.higher_is_better is not False or known.kind != "free":
        return False
    return bool((np.diff(numbers.values) < 0).all())


def _check_names(view: View, metrics: Sequence[str]) -> None:
    """Raises ConfigError where names that people write tell runs apart, unless they say nothing but that."""
    trackers = any(view.role(c) in ("state", "bookkeeping") or plain(c) in ("id", "run_id") for c in view.table.columns)
    for column in view.of_role("run"):
        if column in metrics or plain(column.rpartition(".")[2]) not in NAMES or not view.varies(column):
            continue
        names = [str(key) for key in view.keys(column)]
        if not (alike_but_for_seeds(names) or (trackers and are_generated(names))):
            raise ConfigError(
                f"{view.file}: `{column}` ({listed(names, 3)}) may name runs, examples or models: {_either(column)}, "
                f"or --ignore '{column}'"
            )


def _counts(view: View, column: str) -> bool:
    """Whether a column may number the rows: all are whole."""
    numbers = view.numbers(column)
    return numbers is not None and numbers.kind == "whole"


def _with_ignored(view: View, keys: Sequence[Hashable]) -> list[Hashable]:
    """The keys of the runs; with the ignored columns where these tell equal ones apart."""
    ignored = [c for c in view.options.ignore if view.varies(c)]
    if len(set(keys)) == len(keys) or not ignored:
        return list(keys)
    return list(zip(keys, *(view.keys(column) for column in ignored)))


def _check_repeated(view: View, column: str, keys: Sequence[Hashable], metrics: Sequence[str]) -> None:
    count = Counter(keys)
    repeated = [key for key in count if count[key] > 1]
    if not repeated:
        return
    path, first = view.file, repeated[0]
    same = view.of(row for row, key in zip(view.rows, keys) if key == first)
    rows = listed(map(same.place, range(len(same))), 3)
    others = f", as {len(repeated) - 1:,} more repeat" if len(repeated) > 1 else ""
    what = f"{path}: `{column}` {first} is in {len(same)} rows ({rows}){others}"
    apart = [c for c in _settings(view, column, metrics) if same.varies(c)] or _other_differences(same, column, metrics)
    if apart:
        raise ConfigError(f"{what}, so they are not runs of one population: {_differences(view, apart)}")
    names = [c for c in view.of_role("run", "id", "example") if c != column and _all_differ(view, c)]
    if names:
        raise ConfigError(
            f"{what}, and no setting differs: say --seed-column '{names[0]}' where rows are runs, or --id-column "
            f"'{names[0]}' where they are examples"
        )
    raise DataError(f"{what}, and no other column tells these apart: keep one row of each run")


def _other_differences(same: View, column: str, metrics: Sequence[str]) -> list[str]:
    """Columns of text, tasks and steps in which rows of equal seeds differ."""
    told = (column, *metrics, *same.picked, *same.options.ignore)
    return [
        c
        for c in same.table.columns
        if c not in told
        and same.varies(c)
        and (same.role(c) in ("task", "history") or (same.role(c) is None and same.is_text(c)))
    ]


def _repeats(view: View, column: str) -> bool:
    """Whether a column of numbers holds each of its values several times, as factors of an experiment do."""
    numbers = view.numbers(column)
    return numbers is not None and numbers.kind != "empty" and min(Counter(view.keys(column)).values()) > 1


def _settings(view: View, column: str | None, metrics: Sequence[str]) -> list[str]:
    """Columns whose different values say that rows are of several populations.

    They are settings by their names, texts that repeat (names of runs, which differ in each row, do not), and numbers
    without a known name that all repeat, as factors of an experiment do.
    """
    told = (column, *metrics, *view.picked, *view.options.ignore)
    found = []
    for other in view.table.columns:
        role = view.role(other)
        if other in told or role in ("seed", "history", "bookkeeping"):
            continue
        if role in ("setting", "state", "repeat"):
            found.append(other)
        elif view.numbers(other) is None:
            found += [other] if not _all_differ(view, other) else []
        elif not is_known_metric(other) and _repeats(view, other):
            found.append(other)
    return found


def _differences(view: View, columns: Sequence[str]) -> str:
    first = columns[0]
    more = f"; also {named(columns[1:])}" if len(columns) > 1 else ""
    return f"they differ in `{first}` ({listed(view.distinct(first))}){more}: {ways_out(view, first)}"


def _state_mark(view: View) -> tuple[str, ...]:
    for column in view.of_role("state"):
        state = view.cell(column, 0)
        if state.lower() not in ("finished", "completed", "complete", "done", "success", "succeeded", "ok", "empty"):
            return (f"the `{column}` of all runs is {state}",)
    return ()


def _numbers(view: View, metric: str, seeds: Sequence[Hashable] | None, column: str | None) -> Numbers:
    """A metric of each run, all finite. Raises DataError naming what is no number."""
    numbers = view.numbers(metric)
    if numbers is None:
        cells = view.table.columns[metric]
        wrong = next(p for p, row in enumerate(view.rows) if numbers_of([cells[row]]) is None)
        raise DataError(
            f"{view.file}: {_whose(view, wrong, seeds, column)}: `{metric}` is {view.cell(metric, wrong)!r}, no number"
        )
    if numbers.fault:
        raise DataError(f"{view.file}: `{metric}` {numbers.fault}")
    bad = np.flatnonzero(~np.isfinite(numbers.values))
    if bad.size:
        at = int(bad[0])
        raise DataError(f"{view.file}: {_whose(view, at, seeds, column)}: {metric} is {view.cell(metric, at)}")
    highest = float(numbers.values.max())
    if numbers.percent and view.options.scale == "auto" and 0 < highest <= 1 and meaning(metric).kind == "share":
        raise ConfigError(f"{view.file}: `{metric}` is at most {highest:g}%: say --scale percent")
    return numbers


def _whose(view: View, position: int, seeds: Sequence[Hashable] | None, column: str | None) -> str:
    if seeds is None or column is None:
        return view.place(position)
    return f"{view.place(position)} ({column} {seeds[position]})"


# Histories.


def _check_columns_of_runs(view: View) -> None:
    """Raises ConfigError for the export of a W&B chart, whose columns are runs."""
    columns = list(view.table.columns)
    wide = [c for c in columns if c.endswith(("__MIN", "__MAX"))]
    steps = [c for c in columns if view.role(c) == "history"]
    endings = Counter(c.rpartition(" - ")[2] for c in columns if " - " in c)
    if wide or (steps and endings and max(endings.values()) > 1):
        column = (wide or [c for c in columns if " - " in c])[0]
        raise ConfigError(
            f"{view.file}: its columns are runs, as {column!r}: export the table of runs instead of a chart, so "
            "that each run has a row"
        )


def _last_rows(view: View, column: str | None, metrics: Sequence[str]) -> tuple[View, tuple[str, ...]]:
    """The view with one row a run: the last of each where `--last` asks for it, and what was done."""
    steps = [c for c in view.of_role("history") if c not in metrics and c != column and view.varies(c)]
    if not steps and view.options.last:
        steps = [c for c in view.of_role("setting") if plain(c) in MAYBE_HISTORIES and view.varies(c)]
    if not steps:
        return view, ()
    step = max(steps, key=lambda c: len(view.distinct(c)))
    path, count = view.file, len(view.distinct(step))
    if column is None:
        raise ConfigError(
            f"{path}: its rows look like steps of training (`{step}` has {count} values), and no column tells runs "
            f"apart: name it with --seed-column, or --ignore '{step}' where each row is a run"
        )
    by_run: dict[Hashable, list[int]] = {}
    for row, key in zip(view.rows, view.keys(column)):
        by_run.setdefault(key, []).append(int(row))
    if len(by_run) == len(view):
        return view, ()
    differing = _settings_within(view, by_run, column, metrics, steps)
    if differing:
        raise ConfigError(f"{path}: the rows of one `{column}` are of several runs: {_differences(view, differing)}")
    if not view.options.last:
        raise ConfigError(
            f"{path}: its rows are steps of {len(by_run)} runs, by `{step}` and `{column}`: --last takes the last row "
            f"of each, and --where '{step}={view.cell(step, len(view) - 1)}' one step"
        )
    chosen = [_last_row(view.of(rows), step, column, metrics) for rows in by_run.values()]
    last = view.of(chosen)
    ends = last.distinct(step)
    which = f"{step} {ends[0]}" if len(ends) == 1 else f"{step} {listed(ends, 4)}: the runs end at different ones"
    return replace(last, picked=last.picked | set(steps)), (f"the last row of each run was taken ({which})",)


def _settings_within(
    view: View, by_run: Mapping[Hashable, Sequence[int]], column: str, metrics: Sequence[str], steps: Sequence[str]
) -> list[str]:
    """Columns of settings, and of text that repeats, in which the rows of one run differ."""
    known = ("setting", "state", "repeat")
    candidates = [
        c
        for c in _settings(view, column, metrics)
        if c not in steps and (view.role(c) in known or view.numbers(c) is None)
    ]
    return [c for c in candidates if any(view.of(rows).varies(c) for rows in by_run.values())]


def _last_row(view: View, step: str, column: str, metrics: Sequence[str]) -> int:
    """The row of a run's last step at which no metric is empty."""
    path, numbers = view.file, view.numbers(step)
    run = view.keys(column)[0]
    if numbers is None or numbers.fault or not np.isfinite(numbers.values).all():
        raise DataError(f"{path}: `{step}` of `{column}` {run} is not a number in each row")
    filled = [p for p in range(len(view)) if all(view.cell(metric, p) != "empty" for metric in metrics)]
    if not filled:
        raise DataError(f"{path}: no row of `{column}` {run} has {named(metrics)}")
    highest = max(numbers.values[p] for p in filled)
    last = [p for p in filled if numbers.values[p] == highest]
    if len(last) > 1:
        same = view.of(view.rows[last])
        raise DataError(
            f"{path}: `{column}` {run} has {len(last)} rows at its last `{step}`, {highest:g} "
            f"({listed(map(same.place, range(len(same))), 3)}): name what tells runs apart with --seed-column"
        )
    return int(view.rows[last[0]])

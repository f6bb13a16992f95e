"""Sources of any form, read for one comparison: the same tasks, metrics, examples and scale, and no run twice."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from popnet.errors import ConfigError, DataError, nearest
from popnet.metrics.samples import Sample
from popnet.results.found import Options, Runs
from popnet.results.scale import in_one_scale
from popnet.results.sources import form_of, form_of_object, split


def read(source: Any, options: Options | None = None, name: str = "the given runs") -> list[Runs]:
    """The runs of one source, one `Runs` for each of its tasks.

    Args:
        source: a path, `PATH:VALUE`, an experiment's name, or an object: numbers of each run, a DataFrame, an array,
            a mapping of arrays, a Hugging Face EvalPrediction, a list of such, a `Store`, a `Result`.
        options: what to read of it.
        name: of an object, for tables and errors.

    Raises:
        ConfigError, DataError, StoreError: what is wrong with the source, and what to do.
    """
    wanted = options or Options()
    if isinstance(source, str | Path):
        found = _read_path(str(source), wanted)
    else:
        from popnet.results.objects import read_object

        found = read_object(source, wanted, name)
    for runs in found:
        _check_finite(runs)
    return found


def _read_path(source: str, options: Options) -> list[Runs]:
    path, value = split(source)
    form = form_of(path)
    if form == "table":
        from popnet.results.tables.files import read_table
        from popnet.results.tables.layout import runs_of_table

        return runs_of_table(read_table(path), value, options)
    if form == "evaluation":
        from popnet.results.evaluations.logs import runs_of_evaluation

        return runs_of_evaluation(path, options, value)
    if form == "arrays":
        from popnet.results.arrays.runs import runs_of_arrays

        return [runs_of_arrays(path, options, value)]
    from popnet.results.stores.rows import runs_of_store

    return [runs_of_store(source)]


def _check_finite(runs: Runs) -> None:
    """Raises DataError, naming metric and run, where a value is not finite."""
    for metric, sample in runs.samples.items():
        wrong = np.flatnonzero(~np.isfinite(sample.values))
        if wrong.size:
            raise DataError(f"{runs.name}: {metric} of run {wrong[0]} is {sample.values[wrong[0]]}")


_TAKEN_BY: dict[str, tuple[str, ...]] = {
    "labels": ("arrays",),
    "probabilities": ("arrays",),
    "where": ("table", "evaluation"),
    "seed_column": ("table", "evaluation"),
    "ignore": ("table", "evaluation"),
    "cluster": ("table", "evaluation", "arrays"),
    "group": ("table",),
    "id_column": ("table",),
    "repeat_column": ("table",),
    "task_column": ("table",),
    "last": ("table",),
}
"""Which forms take an option; the others of `Options` are for all."""


def check_options(sources: Sequence[Any], options: Options) -> None:
    """Raises ConfigError for an option that none of the sources takes: it would be obeyed by nothing."""
    forms = {form_of(split(str(s))[0]) if isinstance(s, str | Path) else form_of_object(s) for s in sources}
    for name, takers in _TAKEN_BY.items():
        given = getattr(options, name)
        unset = given is None or (isinstance(given, bool | tuple) and given in (False, ()) and name != "probabilities")
        if not unset and not forms & set(takers):
            held = " and ".join(sorted(forms))
            raise ConfigError(
                f"--{name.replace('_', '-')} ({name}=) is for {' and '.join(takers)}, and the sources are {held}"
            )


def only(found: Sequence[Runs]) -> Runs:
    """The runs of a source with one task. Raises ConfigError where there are several."""
    if len(found) > 1:
        tasks = ", ".join(runs.task for runs in found)
        raise ConfigError(f"{found[0].name}: holds {len(found)} tasks: name one, as in FILE:TASK; known: {tasks}")
    return found[0]


def read_all(sources: Sequence[Any], options: Options, *, intersect: bool = False) -> dict[str, list[Runs]]:
    """Sources for one comparison: by task, the runs of every source in their order, on the same examples and scale.

    Args:
        sources: at least two, as of `read`.
        intersect: leave out tasks and examples that a source lacks, instead of refusing.

    Raises:
        ConfigError, DataError, StoreError: what is wrong with a source, or where two of them cannot be compared.
    """
    letters = [chr(ord("A") + number) for number in range(len(sources))]  # the names of objects
    _check_different(sources)
    check_options(sources, options)
    found = [{runs.task: runs for runs in read(s, options, name)} for s, name in zip(sources, letters, strict=True)]
    found = _told_apart(found, sources)
    found = _one_named_task(found)
    tasks = _common_tasks(found, intersect)
    found = [{task: _without_other_tasks(one[task], tasks, list(one)) for task in tasks} for one in found]
    common = {task: _common_ids([one[task] for one in found], intersect) for task in tasks}
    by_task = {
        task: [
            one[task] if common[task] is None else _kept(one[task], source, options, name, common[task])
            for one, source, name in zip(found, sources, letters)
        ]
        for task in tasks
    }
    for runs in by_task.values():
        check_same_test(runs)
    _check_shared(list(by_task.values()))
    scaled = in_one_scale([list(tasks) for tasks in zip(*by_task.values(), strict=True)], options.scale)
    return {task: [one[number] for one in scaled] for number, task in enumerate(by_task)}


def common_metrics(runs: Sequence[Runs], wanted: Sequence[str] = ()) -> list[str]:
    """The metrics that all sources know, or those that are wanted. Raises ConfigError where one is not known to all."""
    known = [metric for metric in runs[0].samples if all(metric in r.samples for r in runs)]
    for metric in wanted:
        if metric not in known:
            raise ConfigError(f"metric {metric!r} is not known of every source; {nearest(metric, known)}")
    if not known:
        each = "; ".join(f"{r.name} has {', '.join(r.samples)}" for r in runs)
        raise ConfigError(f"the sources have no metric in common: {each}: name one that all have with --metric")
    return list(wanted or known)


def matched(a: Runs, b: Runs, paired: bool | None) -> tuple[Runs, Runs, bool]:
    """Two sources, the second in the order of the first's seeds where they are to be matched, and whether they are.

    paired: None matches where both have the same seeds, True insists (ConfigError), False never does.
    """
    if a.count == b.count == 1:
        return a, b, False
    partner = None if paired is False else in_order_of(b, a)
    if partner is None and paired:
        raise ConfigError(f"--paired: the runs of {a.name} and {b.name} do not have the same seeds, each once")
    if partner is None and _shared_members(a, b):
        raise ConfigError(
            f"{a.name} and {b.name} are predictions of the same runs, which only matched pairs tell apart: leave out "
            "--unpaired"
        )
    return (a, b, False) if partner is None else (a, partner, True)


def in_order_of(runs: Runs, other: Runs) -> Runs | None:
    """The runs in the order of the other's seeds, where both have the same, each once; else None."""
    if runs.seeds is None or other.seeds is None or len(set(runs.seeds)) < len(runs.seeds):
        return None
    if set(runs.seeds) != set(other.seeds) or len(runs.seeds) != len(other.seeds):
        return None
    place = {seed: position for position, seed in enumerate(runs.seeds)}
    order = [place[seed] for seed in other.seeds]
    samples = {
        metric: Sample(sample.values[order], sample.example_means, sample.own_variance)
        for metric, sample in runs.samples.items()
    }
    by_run: dict[str, Any] = {
        name: tuple(value[i] for i in order)
        for name in ("seeds", "members", "digests")
        if (value := getattr(runs, name)) is not None
    }
    return replace(runs, samples=samples, predictions=None, errors=None, **by_run)


def check_same_test(runs: Sequence[Runs]) -> None:
    """Raises ConfigError where two sources were tested on different examples, which no comparison allows."""
    first = runs[0]
    for other in runs[1:]:
        pair = f"{first.name} and {other.name}"
        if (first.ids is None) != (other.ids is None) and None not in (first.examples, other.examples):
            with_ids, without = (first, other) if first.ids is not None else (other, first)
            raise ConfigError(
                f"{pair}: the examples of {with_ids.name} are matched by `{with_ids.matched_by}`, and those of "
                f"{without.name} have no ids: give ids to both"
            )
        if None not in (first.examples, other.examples) and first.examples != other.examples:
            raise ConfigError(
                f"{pair}: tested on {first.examples:,} and {other.examples:,} examples: compare runs on one test set"
            )
        if first.labels is not None and other.labels is not None:
            wrong = np.flatnonzero(first.labels != other.labels)
            if wrong.size:
                at = f"example {wrong[0]}" if first.ids is None else f"`{first.matched_by}` {first.ids[wrong[0]]}"
                raise ConfigError(
                    f"{pair}: different labels on {wrong.size:,} examples, as on {at} ({first.labels[wrong[0]]} and "
                    f"{other.labels[wrong[0]]}): compare runs on one test set, in one order"
                )
        if first.content is not None and other.content is not None:
            differ = [key for key, text in first.content.items() if other.content.get(key, text) != text]
            if differ:
                raise ConfigError(
                    f"{pair}: {len(differ):,} examples of equal `{first.matched_by}` have different contents, as "
                    f"{differ[0]}: they are different tests"
                )
        if (
            first.clusters is not None
            and other.clusters is not None
            and not np.array_equal(first.clusters, other.clusters)
        ):
            raise ConfigError(f"{pair}: group their examples differently: one --cluster column must hold for all")


def check_distinct(runs: Runs, metric: str) -> None:
    """Raises DataError where all runs of a source are equal, as copies of one run are."""
    values = runs.samples[metric].values
    if len(values) < 2:
        return
    alike = len(set(runs.digests)) == 1 if runs.digests is not None else bool((values == values[0]).all())
    if alike:
        raise DataError(
            f"{runs.name}: all {len(values)} runs are equal ({metric} {values[0]:.6g}): were they trained with "
            "different seeds? copies of one run are one run: give it once"
        )


def _check_different(sources: Sequence[Any]) -> None:
    paths = [str(s) for s in sources if isinstance(s, str | Path)]
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise ConfigError(f"{path}: is given twice: a source does not differ from itself")
    objects = [s for s in sources if not isinstance(s, str | Path)]
    if len({id(s) for s in objects}) < len(objects):
        raise ConfigError("one object is given twice: a source does not differ from itself")


def _told_apart(found: list[dict[str, Runs]], sources: Sequence[Any]) -> list[dict[str, Runs]]:
    """The same, with whole paths for names where files in two folders have one name."""
    names = [next(iter(one.values())).name for one in found]
    return [
        {task: replace(r, name=str(source)) for task, r in one.items()}
        if names.count(name) > 1 and isinstance(source, str | Path)
        else one
        for one, name, source in zip(found, names, sources)
    ]


def _one_named_task(found: list[dict[str, Runs]]) -> list[dict[str, Runs]]:
    """The same, with the task of the others for a source that names none, where each holds one."""
    names = {task for one in found for task in one} - {""}
    if any(len(one) > 1 for one in found) or len(names) != 1:
        return found
    (name,) = names
    return [{name: replace(next(iter(one.values())), task=name)} for one in found]


def _common_tasks(found: Sequence[Mapping[str, Runs]], intersect: bool) -> list[str]:
    common = [task for task in found[0] if all(task in one for one in found)]
    if len({len(one) for one in found} | {len(common)}) == 1:
        return common
    names = [next(iter(one.values())).name for one in found]
    lacking = [
        f"{name} lacks {', '.join(sorted(missing))}"
        for name, one in zip(names, found)
        if (missing := set().union(*found) - set(one))
    ]
    if not common:
        raise DataError(f"the sources have no task in common: {'; '.join(lacking)}")
    if not intersect:
        raise DataError(f"{'; '.join(lacking)}: --intersect compares the {len(common)} tasks that all have")
    return common


def _without_other_tasks(runs: Runs, tasks: Sequence[str], every: Sequence[str]) -> Runs:
    """The runs with a mark for the tasks that are left out, since a source lacks them."""
    gone = [task for task in every if task not in tasks]
    if not gone:
        return runs
    mark = f"task{'s' if len(gone) > 1 else ''} {', '.join(gone)}, which not all sources have, left out"
    return replace(runs, marks=(*runs.marks, mark))


def _common_ids(runs: Sequence[Runs], intersect: bool) -> frozenset[Hashable] | None:
    """The ids that all sources have, where they differ and that is wanted; None where nothing is to be left out."""
    if any(r.ids is None for r in runs) or len({r.ids for r in runs}) == 1:
        return None
    sets = [frozenset(r.ids or ()) for r in runs]
    common = frozenset.intersection(*sets)
    if not common:
        raise DataError(f"{' and '.join(r.name for r in runs)} have no example in common, by `{runs[0].matched_by}`")
    if intersect:
        return common
    union = frozenset().union(*sets)
    lacking = []
    for r, ids in zip(runs, sets):
        missing = sorted(union - ids, key=str)
        if missing:
            lacking.append(
                f"{r.name} lacks {len(missing):,} of {len(union):,} examples, as `{r.matched_by}` {missing[0]}"
            )
    raise DataError(f"{'; '.join(lacking)}: --intersect compares the {len(common):,} that all have")


def _kept(runs: Runs, source: Any, options: Options, name: str, ids: frozenset[Hashable] | None) -> Runs:
    """The same runs on these examples alone: read again, since what was reduced cannot be split."""
    chosen = (
        f"{source}:{runs.task}" if isinstance(source, str | Path) and runs.task and ":" not in str(source) else source
    )
    again = next(r for r in read(chosen, replace(options, keep=ids), name) if r.task == runs.task)
    gone = len(set(runs.ids or ()) - (ids or frozenset()))
    mark = (f"{gone:,} examples that another source lacks are left out",) if gone else ()
    return replace(again, name=runs.name, marks=tuple(dict.fromkeys((*again.marks, *runs.marks, *mark))))


def _shared_members(a: Runs, b: Runs) -> set[str]:
    of = [{member for run in r.members or () for member in run} for r in (a, b)]
    return of[0] & of[1]


def _check_shared(by_task: Sequence[Sequence[Runs]]) -> None:
    """Raises ConfigError where two sources hold the same runs, unless these were made to predict in two ways."""
    count = len(by_task[0])
    for first in range(count):
        for second in range(first + 1, count):
            pairs = [(runs[first], runs[second]) for runs in by_task]
            if all(_equal(a, b) for a, b in pairs):  # on one task of several, equal answers can be an easy task's
                a, b = pairs[0]
                raise ConfigError(f"{a.name} and {b.name}: their runs are equal one by one: is it one source twice?")
            for a, b in pairs:
                _check_pair(a, b, alone=count == 2)


def _equal(a: Runs, b: Runs) -> bool:
    return (a.digests is not None and a.digests == b.digests) or _equal_numbers(a, b)


def _check_pair(a: Runs, b: Runs, alone: bool) -> None:
    pair = f"{a.name} and {b.name}"
    own = "a comparison needs runs of its own for each"
    same = set(a.digests or ()) & set(b.digests or ()) if a.exact and b.exact else set()
    if same:
        raise ConfigError(f"{pair}: {len(same)} runs are the same in both: {own}")
    if a.rows and b.rows and a.rows & b.rows:
        raise ConfigError(f"{pair}: share {len(a.rows & b.rows)} rows of one file: {own}")
    copied = _equal_by_seed(a, b)
    if copied >= _COPIES:
        raise ConfigError(f"{pair}: {copied} runs have the same seed and the same numbers in both: {own}")
    shared = _shared_members(a, b)
    if shared and not (alone and a.members is not None and set(a.members) == set(b.members or ()) and a.seeds):
        raise ConfigError(
            f"{pair}: share {len(shared)} trained members, as {min(shared)}: their runs are not independent; compare "
            "rows that share none"
        )


_COPIES = 2
"""Runs of equal seeds and equal numbers: one can be chance, as of rounded accuracies."""


def _equal_by_seed(a: Runs, b: Runs) -> int:
    """How many runs have the same seed and the same value of every metric in both, where only numbers are known."""
    if a.seeds is None or b.seeds is None or a.digests is not None or set(a.samples) != set(b.samples):
        return 0
    metrics = sorted(a.samples)
    of = [
        {(seed, *(r.samples[metric].values[run] for metric in metrics)) for run, seed in enumerate(r.seeds or ())}
        for r in (a, b)
    ]
    return len(of[0] & of[1])


def _equal_numbers(a: Runs, b: Runs) -> bool:
    """Whether all that is known of both is one number a run, and these are the same, run by run."""
    if a.digests is not None or b.digests is not None or a.count == 1 or set(a.samples) != set(b.samples):
        return False
    return all(np.array_equal(a.samples[metric].values, b.samples[metric].values) for metric in a.samples)

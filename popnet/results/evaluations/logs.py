"""Evaluation logs, of lm-evaluation-harness and of Inspect: a file, or a folder of them with one or more runs.

A run is a folder, as the harness fills one with a file for each task. Folders are runs of one population where their
paths differ in a seed's number alone (`seed0/org__model`, `seed1/org__model`), or where `--seed-column folder` says so:
one output path often holds several models, and these are no seeds. Logs of Inspect may lie side by side.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from popnet.errors import ConfigError, DataError, nearest
from popnet.metrics.samples import Sample
from popnet.results.evaluations import harness, inspect_logs
from popnet.results.evaluations.graded import GradedRun, NothingGraded, NotThere, runs_of, same_text
from popnet.results.found import Options, Runs

Kind = Literal["samples", "results", "inspect"]

_INSPECT_HEAD = re.compile(rb'\s*\{\s*"version"\s*:\s*\d+\s*,\s*"status"\s*:')
_HEAD_BYTES = 256
_MOST_FILES = 20_000
_MOST_MARKS = 3
_SEED = re.compile(
    r"(?<![a-z])(?:seed|run|rep|repeat|repetition|replica|replicate|trial|member)[-_=.]?\d+(?![a-z0-9])", re.IGNORECASE
)
"""What makes folders runs. A number alone can be a training's step, or a model's size."""


@dataclass(frozen=True)
class _Log:
    """A file: its folder below the source, and the task and time that its name gives, or empty."""

    path: Path
    kind: Kind
    folder: str
    task: str = ""
    time: str = ""


def is_evaluation(path: Path) -> bool:
    """Whether a file is a log of an evaluation, by its name and first bytes, or a folder holds one."""
    try:
        return next(_logs(path), None) is not None
    except DataError:
        return False


def runs_of_evaluation(path: Path, options: Options, value: str | None = None) -> list[Runs]:
    """The runs of a log, or of a folder of logs, one `Runs` for each task, in the tasks' alphabetical order.

    Args:
        options: `where` picks by `filter`, by `model` and `task` (of Inspect's logs), and by any field of a sample;
            `seed_column` `folder` takes every folder for a run; `ignore` `content` compares examples by id alone.
        value: the task that is wanted; None takes all.

    Raises:
        DataError: a log that is damaged, holds nothing to compare, or contradicts another.
        ConfigError: a task, metric or field that is not there; a folder that may hold several populations.
    """
    logs = list(_logs(path))
    if not logs:
        raise DataError(f"{path}: holds no log of lm-evaluation-harness or Inspect")
    kinds = {"inspect" if log.kind == "inspect" else "harness" for log in logs}
    if len(kinds) > 1:
        raise DataError(
            f"{path}: holds logs of lm-evaluation-harness and of Inspect: name a folder that holds one kind"
        )
    value = value or next((wanted for name, wanted in options.where if name == "task"), None)
    name = f"{path}:{value}" if value else str(path)
    tasks = (_of_inspect if kinds == {"inspect"} else _of_harness)(path, logs, options)
    if value is not None and value not in tasks:
        raise ConfigError(f"{path}: holds no task {value!r}; {nearest(value, tasks)}")
    return _each(name, {value: tasks[value]} if value is not None else _leaves(tasks))


_Reader = Callable[[str], Runs]
"""From a source's name to its runs of one task."""


@dataclass(frozen=True)
class _Task:
    read: _Reader
    group: bool = False  # its numbers are means of other tasks'


def _leaves(tasks: Mapping[str, _Task]) -> dict[str, _Task]:
    leaves = {task: entry for task, entry in tasks.items() if not entry.group}
    return leaves or dict(tasks)


def _each(name: str, tasks: Mapping[str, _Task]) -> list[Runs]:
    """The runs of every task; where some have nothing to compare, the others' marks say so."""
    found: list[Runs] = []
    lacking: dict[str, NothingGraded] = {}
    for task in sorted(tasks):
        try:
            found.append(tasks[task].read(name))
        except NothingGraded as error:
            lacking[task] = error
    if not found:
        first = next(iter(lacking.values()))
        if all(isinstance(error, NotThere) for error in lacking.values()):
            raise ConfigError(str(first))
        raise first
    shown = list(lacking.items())[:_MOST_MARKS]
    marks = tuple(f"task {task} is left out ({error.why})" for task, error in shown)
    if len(lacking) > len(shown):
        marks += (f"{len(lacking) - len(shown)} more tasks are left out",)
    return [replace(runs, marks=(*runs.marks, *marks)) for runs in found]


def _logs(path: Path) -> Iterator[_Log]:
    if not path.is_dir():
        log = _log(path, "")
        if log is not None:
            yield log
        return
    count = 0
    for folder, below, files in os.walk(path):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for file in sorted(files):
            count += 1
            if count > _MOST_FILES:
                raise DataError(f"{path}: has more than {_MOST_FILES:,} files: name a folder that holds the logs alone")
            log = _log(Path(folder) / file, Path(folder).relative_to(path).as_posix())
            if log is not None:
                yield log


def _log(path: Path, folder: str) -> _Log | None:
    """The log in a file; None where it is another file."""
    if path.suffix not in (".json", ".jsonl", ".eval") or not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path}: {error}") from None
    if path.suffix == ".jsonl":
        named = harness.SAMPLES_NAME.fullmatch(path.name)
        if named:
            return _Log(path, "samples", folder, named["task"], named["time"])
        return _Log(path, "samples", folder) if harness.SAMPLES_HEAD.match(head) else None
    if path.suffix == ".eval":
        return _Log(path, "inspect", folder) if head.startswith(b"PK") else None
    if harness.RESULTS_HEAD.match(head):
        named = harness.RESULTS_NAME.fullmatch(path.name)
        return _Log(path, "results", folder, time=named["time"] if named else "")
    return _Log(path, "inspect", folder) if _INSPECT_HEAD.match(head) else None


def _of_harness(path: Path, logs: Sequence[_Log], options: Options) -> dict[str, _Task]:
    """By task. Samples are read where there are any; results, which are means over samples, elsewhere."""
    results = {log.path: harness.read_results(log.path) for log in logs if log.kind == "results"}
    _check_one_model(path, {found.model for found in results.values() if found.model}, options)
    samples = [_named(log, len(logs) > 1) for log in logs if log.kind == "samples"]
    if not samples:
        return _of_results(path, [(log, results[log.path]) for log in logs], options)
    folders = _runs(path, [log.folder for log in samples], options)
    beside = {(log.folder, log.time): results[log.path] for log in logs if log.kind == "results" and log.time}
    tasks = {}
    for task, by_folder in _by_task(path, [(log.task, log) for log in samples], folders).items():
        chosen = [(log, beside.get((log.folder, log.time)) if log.time else None) for log in by_folder]
        tasks[task] = _Task(_samples_reader(task, chosen, options, _seeds(folders)))
    return tasks


def _named(log: _Log, several: bool) -> _Log:
    """A samples file that was renamed is a task by its own name, beside others."""
    return replace(log, task=log.path.stem.removeprefix("samples_")) if several and not log.task else log


def _samples_reader(
    task: str, logs: Sequence[tuple[_Log, harness.Results | None]], options: Options, seeds: tuple[str, ...] | None
) -> _Reader:
    def read(name: str) -> Runs:
        facts = {str(log.path): results.facts.get(task, ()) for log, results in logs if results is not None}
        runs = [harness.read_samples(log.path, options, results, task) for log, results in logs]
        found = runs_of(name, task, runs, options, options.id_column or "doc_id", seeds)
        return replace(found, marks=(*_agreed(facts, options), *found.marks))

    return read


def _agreed(facts: Mapping[str, tuple[str, ...]], options: Options) -> tuple[str, ...]:
    """What all results say of a task, as marks. Raises DataError where they differ."""
    (first, said), *others = facts.items() or [("", ())]
    for place, other in others:
        if other != said and "versions" not in options.ignore:
            raise DataError(
                f"{first} and {place}: are of different tests, {', version '.join(said)} and "
                f"{', version '.join(other)}: compare runs of one (or --ignore versions)"
            )
    return (", version ".join(said),) if said else ()


def _of_results(path: Path, files: Sequence[tuple[_Log, harness.Results]], options: Options) -> dict[str, _Task]:
    folders = _runs(path, [log.folder for log, _ in files], options)
    entries = [(task, (log, results)) for log, results in files for task in results.metrics]
    groups = frozenset().union(*(results.groups for _, results in files))
    tasks = {}
    chosen = _by_task(path, [(task, replace(log, task=task)) for task, (log, _) in entries], folders, groups)
    by_path = {log.path: results for log, results in files}
    for task, logs in chosen.items():
        tasks[task] = _Task(
            _results_reader(task, [by_path[log.path] for log in logs], options, _seeds(folders)), task in groups
        )
    return tasks


def _results_reader(
    task: str, runs: Sequence[harness.Results], options: Options, seeds: tuple[str, ...] | None
) -> _Reader:
    def read(name: str) -> Runs:
        of = f"{name}, task {task!r}"
        filters = dict(options.where).get("filter")
        by_run = [_plain_names(results.metrics[task], filters) for results in runs]
        common = [metric for metric in by_run[0] if all(metric in run for run in by_run)]
        for metric in options.metrics:
            if metric not in common:
                raise NotThere(of, f"no metric {metric!r}; {nearest(metric, common)}")
        if not common:
            raise NothingGraded(of, "no number in its results")
        samples = {m: Sample.of_values(np.array([run[m] for run in by_run])) for m in options.metrics or common}
        marks = _agreed({results.place: results.facts.get(task, ()) for results in runs}, options)
        marks += ("one number a run: with --log_samples, the harness writes what is compared example by example",)
        return Runs(name=name, samples=samples, seeds=seeds, task=task, marks=marks)

    return read


def _plain_names(metrics: Mapping[str, float], filter_name: str | None) -> dict[str, float]:
    """As the samples' metrics are named: without the filter where it is `none`, or the one that was picked."""
    named = ((name.rpartition(","), value) for name, value in metrics.items())
    kept = ((plain, own, value) for (plain, _, own), value in named if filter_name in (None, own))
    return {plain if own in ("none", filter_name) else f"{plain},{own}": value for plain, own, value in kept}


def _by_task(
    path: Path, logs: Sequence[tuple[str, _Log]], folders: Mapping[str, str], groups: frozenset[str] = frozenset()
) -> dict[str, list[_Log]]:
    """By task, the log of every run, in the runs' order.

    Raises DataError where a run has two logs of a task, or none.
    """
    found: dict[str, dict[str, _Log]] = {}
    for task, log in logs:
        runs = found.setdefault(task, {})
        other = runs.setdefault(log.folder, log)
        if other is not log:
            raise DataError(
                f"{path}: {other.path.name} and {log.path.name} are two evaluations of one run on "
                f"{f'task {task!r}' if task else 'one task'}: name the file that counts, or give each run a folder"
            )
    for task, runs in found.items():
        lacking = [folder for folder in folders if folder not in runs]
        if lacking and task not in groups:
            raise DataError(
                f"{path}: run {lacking[0]!r} has no log of task {task!r}, and {next(iter(runs))!r} has: evaluate all "
                "runs on the same tasks, or name folders that have them"
            )
    return {task: [runs[folder] for folder in folders] for task, runs in found.items() if len(runs) == len(folders)}


def _runs(path: Path, found: Sequence[str], options: Options) -> dict[str, str]:
    """The folders that are runs of one population, in natural order, and the seed of each.

    Raises ConfigError where their names do not say that only seeds differ.
    """
    folders = sorted(set(found), key=_natural)
    if len(folders) == 1:
        return {folders[0]: ""}
    if options.seed_column == "folder":
        return {folder: folder for folder in folders}
    plain = {_without_seeds(folder) for folder in folders}
    if len(plain) > 1:
        raise ConfigError(
            f"{path}: holds logs in {len(folders)} folders, as {folders[0]!r} and {folders[1]!r}, whose names do not "
            "say that they are seeds of one model: name one of them as the source, or say --seed-column folder"
        )
    seeds = {
        folder: "/".join(part[0] for name in folder.split("/") if (part := _SEED.search(name))) for folder in folders
    }
    return seeds if len(set(seeds.values())) == len(folders) else {folder: folder for folder in folders}


def _without_seeds(folder: str) -> str:
    return "/".join(_SEED.sub("#", name) for name in folder.split("/"))


def _natural(folder: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", folder)]


def _seeds(folders: Mapping[str, str]) -> tuple[str, ...] | None:
    return tuple(folders.values()) if len(folders) > 1 else None


def _check_one_model(path: Path, models: set[str], options: Options) -> None:
    """Raises ConfigError where runs are of models whose names differ in more than a seed's number."""
    if len({_without_seeds(model) for model in models}) > 1 and "model" not in options.ignore:
        first, second = sorted(models)[:2]
        raise ConfigError(
            f"{path}: holds evaluations of the models {first!r} and {second!r}: name the folder of one as the source, "
            "or say --ignore model where they are runs of one population"
        )


def _of_inspect(path: Path, logs: Sequence[_Log], options: Options) -> dict[str, _Task]:
    """By task. Several logs of one task in one folder are runs; else each folder is one, as the harness's are."""
    headers = {log.path: inspect_logs.read_header(log.path) for log in logs}
    where = dict(options.where)
    if "model" in where:
        models = {header.model for header in headers.values()}
        headers = {file: header for file, header in headers.items() if same_text(header.model, where["model"])}
        if not headers:
            raise ConfigError(f"{path}: holds no log of model {where['model']!r}; {nearest(where['model'], models)}")
    chosen = [replace(log, task=headers[log.path].task) for log in logs if log.path in headers]
    _check_inspect_models(path, headers, options)
    flat = len({log.folder for log in chosen}) == 1
    folders = {} if flat else _runs(path, [log.folder for log in chosen], options)
    tasks = {}
    for task in sorted({log.task for log in chosen}):
        of_task = [log for log in chosen if log.task == task]
        if not flat:
            of_task = _by_task(path, [(task, log) for log in of_task], folders)[task]
        _check_population(path, task, {log.path: headers[log.path] for log in of_task}, options)
        tasks[task] = _Task(_inspect_reader(task, of_task, headers, options, _seeds(folders)))
    return tasks


def _inspect_reader(
    task: str,
    logs: Sequence[_Log],
    headers: Mapping[Path, inspect_logs.Header],
    options: Options,
    seeds: tuple[str, ...] | None,
) -> _Reader:
    def read(name: str) -> Runs:
        runs: list[GradedRun] = [inspect_logs.read_log(log.path, headers[log.path], options) for log in logs]
        return runs_of(name, task, runs, options, options.id_column or "id", seeds)

    return read


def _check_inspect_models(path: Path, headers: Mapping[Path, inspect_logs.Header], options: Options) -> None:
    models = sorted({header.model for header in headers.values()})
    if len(models) > 1 and "model" not in options.ignore:
        raise ConfigError(
            f"{path}: holds logs of {len(models)} models, {', '.join(models[:5])}: pick one with --where model=NAME"
        )


def _check_population(path: Path, task: str, headers: Mapping[Path, inspect_logs.Header], options: Options) -> None:
    """Raises ConfigError where logs of one task are no runs of one population."""
    (first, said), *others = headers.items()
    ids = [header.task_id for header in headers.values() if header.task_id]
    if len(set(ids)) < len(ids):
        raise ConfigError(
            f"{path}: holds an evaluation of task {task!r} and its retry, which share samples: name the last log "
            "alone, or move the other away"
        )
    for file, header in others:
        for name, text in header.facts.items():
            if text != said.facts[name] and name not in options.ignore:
                raise ConfigError(
                    f"{path}: {first.name} and {file.name} differ in {name} ({said.facts[name][:60] or 'none'}; "
                    f"{text[:60] or 'none'}): they are runs of one population only with --ignore {name}"
                )

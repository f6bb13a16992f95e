"""What lm-evaluation-harness writes: samples_TASK_TIME.jsonl, a line for each answer, and results_TIME.json, the means.

An answer's line has `doc_id`, `doc`, `target`, `filter`, hashes, and its value of each metric beside them. A task's
results are named `exact_match,strict-match`, with the filter after the comma, and `acc,none` without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popnet.errors import ConfigError, DataError, nearest
from popnet.results.evaluations.graded import (
    MISSING,
    Answer,
    GradedRun,
    NotThere,
    collect,
    field,
    fingerprint,
    identity,
    number,
    same_text,
    text_of,
)
from popnet.results.found import Options
from popnet.untrusted.files import check_regular, read_bytes
from popnet.untrusted.texts import JSON_BYTES, parse_json

SAMPLES_NAME = re.compile(r"samples_(?P<task>.+)_(?P<time>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.jsonl")
RESULTS_NAME = re.compile(r".*_(?P<time>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.json")
SAMPLES_HEAD = re.compile(rb'\s*\{\s*"doc_id"\s*:\s*[^,{}\[\]]{1,60},\s*"doc"\s*:')
RESULTS_HEAD = re.compile(rb'\s*\{\s*"results"\s*:\s*\{')

_NOT_METRICS = frozenset(
    {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "length_info"}
    | {"doc_hash", "prompt_hash", "target_hash", "task", "task_name", "native_id", "idx"}
)
_TASK_FACTS = frozenset(["alias", "name", "sample_len", "samples", "sample_count"])


@dataclass(frozen=True)
class Results:
    """A results file.

    Attributes:
        place: the file.
        metrics: by task, then by metric as the harness names it, the values that are numbers.
        groups: tasks whose numbers are means of other tasks'.
        model: its name, or empty.
        facts: by task, what else must be equal for two runs to be of one test.
    """

    place: str
    metrics: Mapping[str, Mapping[str, float]]
    groups: frozenset[str]
    model: str
    facts: Mapping[str, tuple[str, ...]]


def read_samples(path: Path, options: Options, results: Results | None, task: str) -> GradedRun:
    """The answers in one samples file.

    Args:
        results: of the same evaluation: a metric that it does not give as the mean of the samples' is left out.

    Raises:
        DataError: a line that is none of the harness's; what `collect` refuses.
        NotThere: no line has what `--where` names.
        ConfigError: `--cluster`, `--id-column` or `--repeat-column` names a field that a line lacks.
    """
    place, where = str(path), dict(options.where)
    matched_by = options.id_column or "doc_id"
    seen: dict[str, set[str]] = {name: set() for name in where if name != "task"}
    run = collect(place, _answers(path, options, seen), options, matched_by)
    if not run.ids and options.keep is None:
        for name, values in seen.items():
            if where[name] not in values:
                raise NotThere(place, _no_such(name, where[name], values))
        raise DataError(f"{place}: holds no sample{' that --where picks' if where else ''}")
    left_out = dict(run.left_out)
    if (
        results is not None
        and options.keep is None
        and not set(where) - {"filter", "task"}
        and options.repeat_column is None
    ):
        left_out |= _otherwise_aggregated(run, results.metrics.get(task, {}), where.get("filter"))
    scores = {metric: values for metric, values in run.scores.items() if metric not in left_out}
    return GradedRun(place, run.ids, scores, left_out, run.contents, run.clusters, run.marks)


def _answers(path: Path, options: Options, seen: dict[str, set[str]]) -> Iterator[Answer]:
    for at, record in _records(path):
        if not _picked(record, options, seen):
            continue
        filter_name = "none" if "filter" in dict(options.where) else record.get("filter", "none")
        values, unusable = _metrics(record, str(filter_name))
        yield Answer(
            id=identity(at, _required(at, record, options.id_column or "doc_id"), options.id_column or "doc_id"),
            values=values,
            unusable=unusable,
            repeat=text_of(_required(at, record, options.repeat_column)) if options.repeat_column else None,
            content=_content(record),
            cluster=text_of(_required(at, record, options.cluster)) if options.cluster else None,
        )


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines, each with its place. Raises DataError naming the line that is none of the harness's."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            for count in range(1, 1 << 62):
                line = file.readline(JSON_BYTES + 1)
                if not line:
                    return
                if not line.strip():
                    continue
                at = f"{path}, line {count}"
                try:
                    record = parse_json(line)
                except ValueError as error:
                    cut = "" if line.endswith(b"\n") else ": is the file cut short?"
                    raise DataError(f"{at}: is no JSON ({error}){cut}") from None
                if not isinstance(record, dict) or "doc_id" not in record:
                    raise DataError(f"{at}: is no sample of lm-evaluation-harness: it has no `doc_id`")
                yield at, record
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None


def _picked(record: Mapping[str, Any], options: Options, seen: dict[str, set[str]]) -> bool:
    picked = True
    for name, wanted in options.where:
        value = field(record, name, ("doc",))
        if name == "task":
            continue
        if value is MISSING:
            picked = False
        else:
            if len(seen[name]) < 20:
                seen[name].add(text_of(value)[:60])
            picked &= same_text(value, wanted)
            if same_text(value, wanted):
                seen[name].add(wanted)
    return picked


def _no_such(name: str, wanted: str, values: set[str]) -> str:
    if not values:
        return f"--where {name}={wanted}: no sample has a field {name!r}; in `doc`, it is written doc.FIELD"
    return f"--where {name}={wanted}: no sample has this value; {nearest(wanted, values)}"


def _required(at: str, record: Mapping[str, Any], name: str | None) -> Any:
    value = field(record, name or "", ("doc",))
    if value is MISSING:
        doc = record.get("doc")
        known = [*record, *(f"doc.{key}" for key in doc)] if isinstance(doc, dict) else list(record)
        raise ConfigError(f"{at}: has no field {name!r}; {nearest(str(name), known)}")
    return value


def _metrics(record: Mapping[str, Any], filter_name: str) -> tuple[dict[str, float], dict[str, str]]:
    """The numbers of one answer by metric, and why others are none."""
    listed = record.get("metrics")
    names = listed if isinstance(listed, list) else [name for name in record if name not in _NOT_METRICS]
    values: dict[str, float] = {}
    unusable: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str) or name == "bypass":
            continue
        value = number(record.get(name))
        key = name if filter_name == "none" else f"{name},{filter_name}"
        if isinstance(value, str):
            unusable[key] = value
        elif name == "perplexity" and value <= 0:  # the harness logs the log-likelihood, and takes exp(-mean) of it
            values[f"log_{key.replace(name, 'likelihood')}"] = value
            unusable[key] = "is the log-likelihood, compared as log_likelihood,"
        else:
            values[key] = value
    return values, unusable


def _content(record: Mapping[str, Any]) -> str | None:
    hashes = [record.get("doc_hash"), record.get("target_hash")]
    return fingerprint(*map(str, hashes)) if all(hashes) else None


def _otherwise_aggregated(run: GradedRun, results: Mapping[str, float], filter_name: str | None) -> dict[str, str]:
    """Metrics of which the results say another number than the samples' mean, as of medians and of files cut short."""
    found = {}
    for metric, values in run.scores.items():
        plain, _, own = metric.partition(",")
        said = results.get(f"{plain},{filter_name or own or 'none'}")
        mean = float(values.mean())
        if said is not None and abs(mean - said) > 1e-6 * max(1.0, abs(said)):
            found[metric] = f"is {said:.6g} in the harness's results, and {mean:.6g} on average over the samples here"
    return found


def read_results(path: Path) -> Results:
    """A results file. Raises DataError where it is none of the harness's."""
    try:
        content = parse_json(read_bytes(path, JSON_BYTES))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None
    tasks = content.get("results") if isinstance(content, dict) else None
    if not isinstance(tasks, dict) or not tasks or not all(isinstance(entry, dict) for entry in tasks.values()):
        raise DataError(f"{path}: is no results file of lm-evaluation-harness: its `results` holds no metrics by task")
    groups = _mapping(content, "group_subtasks")
    facts = {
        task: tuple(f"{value}{what}" for name, what in (("n-shot", "-shot"), ("versions", "")) if
                    (value := _mapping(content, name).get(task)) is not None)
        for task in tasks
    }  # fmt: skip
    return Results(
        place=str(path),
        metrics={task: _numbers(entry) for task, entry in tasks.items()},
        groups=frozenset(task for task, below in groups.items() if below),
        model=str(content.get("model_name") or ""),
        facts=facts,
    )


def _mapping(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for name, value in entry.items():
        plain, comma, _ = name.partition(",")
        if plain.endswith("_stderr") or plain in _TASK_FACTS or plain == "bypass":
            continue
        value = number(value)
        if not isinstance(value, str):
            found[name if comma else f"{name},none"] = value
    return found

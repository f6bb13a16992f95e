"""Is it real? `popnet.compare`, `popnet.measure` and `popnet.power` on anyone's results, for Python and the shell.

Sources are what `popnet.results.reading.read` takes: paths, numbers, arrays, DataFrames, evaluations, stores.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from popnet.errors import ConfigError, DataError
from popnet.metrics.comparison import Comparison, TaskComparison, compare_all, compare_samples, compare_tasks, holm
from popnet.results import names as metric_names
from popnet.results.found import Options, Runs
from popnet.results.reading import (
    check_distinct,
    check_options,
    common_metrics,
    in_order_of,
    matched,
    only,
    read,
    read_all,
)

if TYPE_CHECKING:
    import pandas as pd

    from popnet.metrics.planning import PowerPlan, Sds
    from popnet.metrics.summaries import Description

Method = Literal["welch", "bootstrap"]


@dataclass(frozen=True)
class Judging:
    """How sources are compared, once they are read.

    Attributes:
        higher_is_better: None: as the metric's name says (`popnet.results.names`), or unknown.
        paired: None: matched by seed where both have the same seeds.
        method, confidence: of the intervals over new runs.
    """

    higher_is_better: bool | None = None
    paired: bool | None = None
    method: Method = "welch"
    confidence: float = 0.95

    def options(self, metric: str, runs: Runs) -> dict[str, Any]:
        """The arguments of `compare_samples` for a metric of a source."""
        known = metric_names.meaning(metric)
        higher = known.higher_is_better if self.higher_is_better is None else self.higher_is_better
        return {
            **{"metric": metric, "unit": runs.units.get(metric, known.unit), "higher_is_better": higher},
            **{"method": self.method, "confidence": self.confidence},
        }


@dataclass(frozen=True)
class Pair:
    """Two sources compared on one task: what was found in each, and a comparison for each metric."""

    a: Runs
    b: Runs
    results: tuple[Comparison, ...]


@dataclass(frozen=True)
class Tasks:
    """Two sources compared on several tasks: their runs on each; by metric, every task that has it, and the mean."""

    a: Sequence[Runs]
    b: Sequence[Runs]
    results: Mapping[str, TaskComparison]


@dataclass(frozen=True)
class Many:
    """More than two sources on one task: by metric, every pair with its p-value and that after Holm's correction."""

    sources: Mapping[str, Runs]
    results: Mapping[str, Mapping[tuple[str, str], tuple[Comparison, float]]]


def compare(
    a: Any,
    b: Any,
    labels: Any = None,
    *,
    metric: str | None = None,
    higher_is_better: bool | None = None,
    paired: bool | None = None,
    method: Method = "welch",
    confidence: float = 0.95,
    intersect: bool = False,
    **reading: Any,
) -> Comparison | TaskComparison:
    """Is A better than B? Two sources of any form, compared in one metric.

    Args:
        a, b: a path or `PATH:VALUE`; numbers of each run (a list, a Series); a DataFrame; logits [runs, examples,
            classes] or predicted classes [runs, examples]; a mapping of arrays; a Hugging Face EvalPrediction or a list
            of them.
        labels: integers [examples], or their file, where the sources hold none.
        metric: a column, array or metric; by default the only one, or accuracy.
        higher_is_better: where the metric's name does not say (`popnet.results.names.KNOWN`), the comparison says which
            is larger and not which is better, unless it is given here.
        paired: match runs by their seeds; by default where both have the same.
        method: `welch`, or `bootstrap` (studentised).
        confidence: of the intervals.
        intersect: leave out examples and tasks that one of them lacks.
        reading: further fields of `popnet.results.found.Options`, such as where={"split": "test"}, group="model".

    Returns:
        A `Comparison`; of sources with several tasks a `TaskComparison`. Both have `sentence()`.

    Raises:
        ConfigError, DataError: what is wrong with a source or a choice, and what to do.
    """
    _check_numbers(confidence=confidence)
    options = reading_options(labels, [metric] if metric is not None else [], **reading)
    judging = Judging(higher_is_better, paired, method, confidence)
    found = compare_sources([a, b], options, judging, intersect=intersect)
    if isinstance(found, Pair):
        return _chosen({result.metric: result for result in found.results}, metric)
    assert isinstance(found, Tasks)  # two sources
    return _chosen(found.results, metric)


def compare_sources(
    sources: Sequence[Any], options: Options, judging: Judging, *, intersect: bool = False
) -> Pair | Tasks | Many:
    """Read sources and compare them in every metric that is wanted, or that all know; see `compare`."""
    if len(sources) < 2:
        raise ConfigError("a comparison needs at least two sources, or one table and --group COLUMN")
    by_task = read_all(sources, options, intersect=intersect)
    try:
        if len(by_task) > 1:
            return _tasks(by_task, options, judging)
        (runs,) = by_task.values()
        return _pair(runs[0], runs[1], options, judging) if len(runs) == 2 else _many(runs, options, judging)
    except ValueError as error:
        names = " and ".join(runs.name for runs in next(iter(by_task.values()))[:2])
        raise DataError(f"{names}: {error}") from None


def measure(
    source: Any,
    labels: Any = None,
    *,
    metric: str | Sequence[str] | None = None,
    confidence: float = 0.95,
    ensemble_cross_entropy: bool = True,
    **reading: Any,
) -> pd.DataFrame:
    """What varies between the runs of a source, and how much.

    Args:
        source, labels, reading: as of `compare`; a store is measured row by row.
        metric: as of `compare`; several may be named.
        confidence: of the intervals of means and SDs.
        ensemble_cross_entropy: of logits: also the cross-entropy of every pair's ensemble.

    Returns:
        Of logits and stores, a row for each population, indexed by `variant`, with the fields of
        `popnet.metrics.Variability`, but SDs with n - 1 in the denominator. Of other results, a row for each metric,
        indexed by `metric`, with the fields of `popnet.metrics.summaries.Description`.
    """
    import pandas as pd

    from popnet.results.measuring import measured_logits

    wanted = [metric] if isinstance(metric, str) else list(metric or ())
    options = reading_options(labels, wanted, **reading)
    check_options([source], options)
    table = measured_logits(source, options, ensemble_cross_entropy=ensemble_cross_entropy)
    if table is not None:
        return table
    rows = [
        {"task": runs.task, **vars(description)}
        for runs, descriptions in describe_source(source, options, confidence)
        for description in descriptions
    ]
    return pd.DataFrame(rows).set_index("metric")


def describe_source(
    source: Any, options: Options, confidence: float = 0.95
) -> list[tuple[Runs, tuple[Description, ...]]]:
    """Mean, SD and intervals of every metric of a source, by task."""
    from popnet.metrics.summaries import describe
    from popnet.results.scale import in_one_scale

    found = []
    for scaled in in_one_scale([read(source, options)], options.scale)[0]:
        metrics = common_metrics([scaled], options.metrics)
        units = {metric: scaled.units.get(metric, metric_names.meaning(metric).unit) for metric in metrics}
        try:
            described = tuple(
                describe(scaled.samples[m], m, units[m], confidence, clusters=scaled.clusters) for m in metrics
            )
        except ValueError as error:
            raise DataError(f"{scaled.name}: {error}") from None
        found.append((scaled, described))
    return found


def power(
    difference: float,
    source: Any = None,
    labels: Any = None,
    *,
    sd: float | Sequence[float] | None = None,
    metric: str | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
    distribution_sd: float = 0.03,
    **reading: Any,
) -> PowerPlan:
    """How many runs of each find a difference?

    Args:
        difference: to be found, above 0, in points or the metric's unit.
        source, labels, reading: where the SDs between runs are measured, as of `compare`; two paths for two arms.
        sd: the SD between runs instead, or a pair of them.
        metric: of the source; by default the only one, or accuracy.
        power: the chance to find it.
        alpha: the level of the two-sided test.
        distribution_sd: where the source holds one run, the assumed genuine SD in points.

    Raises:
        ConfigError, DataError: what is wrong, and what to do.
    """
    from popnet.metrics import planning

    _check_numbers(difference=difference, power=power, alpha=alpha, distribution_sd=distribution_sd)
    if (source is None) == (sd is None):
        raise ConfigError("popnet.power: give a source to measure the SDs in, or sd=, and not both")
    if sd is not None:
        given = [sd] if isinstance(sd, numbers.Real) else list(cast(Sequence[float], sd))
        _check_numbers(**{f"sd[{place}]": value for place, value in enumerate(given)})
        sds, unit = planning.given_sds([float(value) for value in given]), ""
    else:
        arms = (
            source if isinstance(source, list | tuple) and all(isinstance(s, str | Path) for s in source) else [source]
        )
        options = reading_options(labels, [metric] if metric else [], **reading)
        sds, unit = measured_sds(arms, options, distribution_sd)
    return planning.power_plan(float(difference), sds, power, alpha, unit)


def measured_sds(sources: Sequence[Any], options: Options, distribution_sd: float) -> tuple[tuple[Sds, ...], str]:
    """The SDs that `popnet power` works with, from the runs of one source for both arms, or of two; and their unit."""
    from popnet.metrics import planning
    from popnet.results.scale import in_one_scale

    if len(sources) not in (1, 2):
        raise ConfigError("--from: give one source for both arms, or two")
    check_options(sources, options)
    scaled = in_one_scale([[only(read(source, options))] for source in sources], options.scale)
    found = [tasks[0] for tasks in scaled]
    metric = _default_metric(common_metrics(found, options.metrics), found[0].name)
    for runs in found:
        check_distinct(runs, metric)
    arms = [
        planning.Arm(
            _with_marks(runs), runs.samples[metric], runs.examples if runs.errors is not None else None, runs.classes
        )
        for runs in found
    ]
    unit = found[0].units.get(metric, metric_names.meaning(metric).unit)
    return planning.measured_sds(arms, metric, distribution_sd), unit


def _with_marks(runs: Runs) -> str:
    return f"{runs.name} ({'; '.join(runs.marks)})" if runs.marks else runs.name


def reading_options(labels: Any = None, metrics: Sequence[str] = (), **reading: Any) -> Options:
    """`Options` from keyword arguments: `where` may be a mapping, `ignore` a single name. Raises ConfigError."""
    given = {"labels": labels, "metrics": tuple(metrics), **reading}
    if isinstance(given.get("where"), Mapping):
        given["where"] = tuple((str(column), str(value)) for column, value in given["where"].items())
    if isinstance(given.get("ignore"), str):
        given["ignore"] = (given["ignore"],)
    try:
        return Options(**given)
    except TypeError as error:
        raise ConfigError(f"popnet.results.found.Options: {error}") from None


def _check_numbers(**given: Any) -> None:
    """Raises ConfigError, naming the argument, for what is no number."""
    for name, value in given.items():
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            raise ConfigError(f"{name}={value!r}: a number is needed")


def _pair(a: Runs, b: Runs, options: Options, judging: Judging) -> Pair:
    first, second, match = matched(a, b, judging.paired)
    results = []
    for metric in common_metrics([a, b], options.metrics):
        for runs in (a, b):
            check_distinct(runs, metric)
        results.append(
            compare_samples(
                *(first.samples[metric], second.samples[metric]),
                paired=match,
                clusters=a.clusters,
                **judging.options(metric, a),
            )
        )
    told = tuple(replace(result, source_a=a.described(), source_b=b.described()) for result in results)
    return Pair(a, b, told)


def _tasks(by_task: Mapping[str, Sequence[Runs]], options: Options, judging: Judging) -> Tasks:
    if any(len(runs) > 2 for runs in by_task.values()):
        raise ConfigError("several tasks of more than two sources: name one task, as in FILE:TASK, or two sources")
    pairs = {task: matched(runs[0], runs[1], judging.paired) for task, runs in by_task.items()}
    known = dict.fromkeys(metric for a, b, _ in pairs.values() for metric in common_metrics([a, b]))
    results = {}
    for metric in options.metrics or known:
        having: Mapping[str, tuple[Runs, Runs, bool]] = {
            task: (a, b, match) for task, (a, b, match) in pairs.items() if metric in a.samples and metric in b.samples
        }
        if not having:
            raise ConfigError(f"no task has the metric {metric!r} in both sources; known: {', '.join(known)}")
        having, same_runs = _in_one_order(having)
        for a, b, _ in having.values():
            for runs in (a, b):
                check_distinct(runs, metric)
        results[metric] = compare_tasks(
            {task: (a.samples[metric], b.samples[metric]) for task, (a, b, _) in having.items()},
            same_runs=same_runs,
            paired={task: match for task, (_, _, match) in having.items()},
            clusters={task: a.clusters for task, (a, _, _) in having.items()},
            **judging.options(metric, next(iter(having.values()))[0]),
        )
    of_a, of_b = ([runs[side] for runs in by_task.values()] for side in (0, 1))
    told = {
        metric: replace(found, source_a=of_a[0].described(), source_b=of_b[0].described())
        for metric, found in _adjusted_together(results).items()
    }
    return Tasks(of_a, of_b, told)


def _in_one_order(
    pairs: Mapping[str, tuple[Runs, Runs, bool]],
) -> tuple[Mapping[str, tuple[Runs, Runs, bool]], bool]:
    """Every task's runs in the order of the first task's seeds, and whether that makes run r the same run in all."""
    if all(a.count == b.count == 1 for a, b, _ in pairs.values()):
        return pairs, True
    first_a, first_b, _ = next(iter(pairs.values()))
    ordered = {}
    for task, (a, b, match) in pairs.items():
        in_order = in_order_of(a, first_a), in_order_of(b, first_b)
        if in_order[0] is None or in_order[1] is None:
            return pairs, False
        ordered[task] = (in_order[0], in_order[1], match)
    return ordered, True


def _adjusted_together(results: Mapping[str, TaskComparison]) -> Mapping[str, TaskComparison]:
    """Where tasks are compared in several metrics, all their p-values are one family for Holm's correction."""
    every = [(metric, task) for metric, tasks in results.items() for task in tasks.tasks]
    adjusted = holm([results[metric].tasks[task][0].p_value for metric, task in every])
    by_task = {key: float(p) for key, p in zip(every, adjusted)}
    return {
        metric: replace(tasks, tasks={task: (found, by_task[metric, task]) for task, (found, _) in tasks.tasks.items()})
        for metric, tasks in results.items()
    }


def _many(runs: Sequence[Runs], options: Options, judging: Judging) -> Many:
    if judging.paired:
        raise ConfigError("--paired: compares two sources; of more, every pair is compared without matching")
    sources = {chr(ord("A") + number): one for number, one in enumerate(runs)}
    letters = {one.name: letter for letter, one in sources.items()}
    results = {}
    for metric in common_metrics(runs, options.metrics):
        for one in runs:
            check_distinct(one, metric)
        samples = {one.name: one.samples[metric] for one in runs}
        try:
            compared = compare_all(samples, clusters=runs[0].clusters, **judging.options(metric, runs[0]))
        except ValueError as error:  # which names the pair
            raise DataError(str(error)) from None
        results[metric] = {(letters[a], letters[b]): found for (a, b), found in compared.items()}
    return Many(sources, results)


def _chosen(results: Mapping[str, Any], metric: str | None) -> Any:
    if metric is not None:
        return results[metric]
    return results[_default_metric(list(results), "the sources")]


def _default_metric(metrics: Sequence[str], name: str) -> str:
    if len(metrics) == 1 or "accuracy" in metrics:
        return "accuracy" if "accuracy" in metrics else metrics[0]
    raise ConfigError(f"{name}: several metrics are known: name one with --metric (metric=): {', '.join(metrics)}")


__all__ = ["compare", "measure", "power"]

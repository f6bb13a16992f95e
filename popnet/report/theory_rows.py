"""What Jordan's (2024) theory says of each row of an experiment: more numbers beside those of the papers' tables."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from popnet.metrics import theory
from popnet.metrics.theory import Summary
from popnet.metrics.theory.summary import LEAST_MEMBERS
from popnet.report.claims.rows import is_single
from popnet.report.measured import Measured, Row
from popnet.report.quantities import UNKNOWN, Value
from popnet.report.settings import (
    RATE,
    differing_in,
    is_jordans,
    variance_ratio,
    without_augmentation_and_less_data,
)
from popnet.report.twins import are_twins, change_of, twin_disagreements
from popnet.report.verdicts import ratio
from popnet.results.found import Runs
from popnet.results.stores.rows import runs_of_store

LUCKY_SHARE = 0.15
"""Of the runs that Section 4.1 chooses by the validation set."""

_NORMAL = 2 * 1.959964
"""The width of a 95% interval in standard errors."""


def with_theory(measured: Measured) -> Measured:
    """The experiment with what the theory says of its rows of single models, where it is after Jordan's paper.

    Rows are read one after the other: of a row of 60,000 runs on 10,000 examples the predictions are 600 MB. They are
    kept only of rows that are compared run by run, with their twins or on another part of the test set.
    """
    if not is_jordans(measured.experiment):
        return measured
    populations: dict[str, Runs] = {}
    more: dict[str, dict[str, Value]] = {}
    compared = {row.recipe.digest for row in measured.rows if change_of(row.variant) or row.variant.part is not None}
    for name, runs in _each(measured):
        more[name] = values_of(runs)
        if runs.recipe is not None and runs.recipe.digest in compared:
            populations[name] = runs
    for relation in (
        _twins(populations),
        _parts(populations),
        _rates(measured.rows, more),
        _augmentation(measured.rows),
    ):
        for name, values in relation.items():
            more.setdefault(name, {}).update(values)
    rows = (replace(row, values={**row.values, **more.get(row.name, {})}) for row in measured.rows)
    return replace(measured, rows=tuple(rows))


def populations_of(measured: Measured) -> dict[str, Runs]:
    """The runs of each row of single image models with enough of them, by the row's name; all are held in memory."""
    return dict(_each(measured))


def _each(measured: Measured) -> Iterator[tuple[str, Runs]]:
    names = [row.name for row in measured.rows if is_single(row) and row.finished >= LEAST_MEMBERS]
    if measured.experiment.recipe.language is not None or not (measured.store / "store.json").exists():
        return
    for name in names:
        runs = runs_of_store(f"{measured.store}:{name}")
        if runs.count >= LEAST_MEMBERS:
            yield name, runs


def values_of(runs: Runs) -> dict[str, Value]:
    """The statistics of a population as a report's numbers, with their errors, by the names of published.yaml."""
    one = theory.summarise(runs.predictions, runs.labels, runs.classes)
    population = math.sqrt((one.members - 1) / one.members)  # ddof 0, as the report's accuracy SD
    bound = (one.sd / one.lower_bound_sd) ** 2 if one.lower_bound_sd else math.nan
    return {
        "accuracy_range": Value(one.accuracy_range),
        "independent_errors_sd": Value(population * one.independent_sd, population * one.independent_sd_error),
        "independence_distance": Value(one.independence_distance),
        "independence_by_chance": Value(one.independence_by_chance),
        "distribution_sd": _of_interval(one, "distribution_sd"),
        "halves_correlation": _of_interval(one, "halves_correlation"),
        "lucky_quarter_gain_there": Value(one.gain_on_first),
        "lucky_quarter_gain": _of_interval(one, "gain_on_second"),
        "lower_bound_ratio": Value(bound, 2 * bound * one.sd_error / one.sd if one.sd else math.nan),
        "dependent_pairs": Value(one.dependent_pairs),
        "pairs_by_chance": Value(one.pairs_by_chance),
        "distribution_variance": Value(one.distribution_variance, one.distribution_variance_error),
        "lucky_gain_kept": Value(one.gain_kept, one.gain_kept_error),
    } | {
        name: Value(getattr(one, name), getattr(one, f"{name}_error"))
        for name in (
            "independent_share",
            "genuine_share",
            "covariance_share",
            "disagreement_ratio",
            "tasks_r_squared",
            "tasks_ratio",
            "binomial_ratio",
        )
    }


def lucky_part_gain(chosen_on: Runs, judged_on: Runs) -> Value | None:
    """What the best 15% of the runs on one test set gain on another, in points; None where too few runs are there."""
    if chosen_on.count * LUCKY_SHARE < 2:
        return None
    gain = theory.lucky_gain(chosen_on.errors, judged_on.errors, share=LUCKY_SHARE).on_second
    return Value(100 * gain.value, 100 * gain.standard_error)


def _of_interval(one: Summary, name: str) -> Value:
    low, high = getattr(one, f"{name}_low"), getattr(one, f"{name}_high")
    value = one.gain_on_second if name == "gain_on_second" else getattr(one, name)
    return Value(value, (high - low) / _NORMAL)


def _twins(populations: Mapping[str, Runs]) -> dict[str, dict[str, Value]]:
    """How much each row's runs differ from their twins, where it has any."""
    found = {}
    for name, runs in populations.items():
        twin = next((other for other in populations.values() if are_twins(runs, other)), None)
        if twin is not None:
            differing = twin_disagreements(runs, twin)
            error = float(differing.std(ddof=1)) / math.sqrt(len(differing))
            found[name] = {"twin_disagreement": Value(float(differing.mean()), error)}
    return found


def _parts(populations: Mapping[str, Runs]) -> dict[str, dict[str, Value]]:
    """What runs that were chosen by the first part of a test set gain on the others."""
    found: dict[str, dict[str, Value]] = {}
    items = list(populations.items())
    for place, (_, first) in enumerate(items):
        for name, second in items[place + 1 :]:
            if name not in found and _same_runs(first, second) and (gain := lucky_part_gain(first, second)) is not None:
                found[name] = {"lucky_part_gain": gain, "lucky_part_gain_there": _gain_there(first)}
    return found


def _gain_there(runs: Runs) -> Value:
    gain = theory.lucky_gain(runs.errors, runs.errors, share=LUCKY_SHARE).on_second
    return Value(100 * gain.value, 100 * gain.standard_error)


def _same_runs(first: Runs, second: Runs) -> bool:
    """Whether two rows are the same runs on different parts of the test set."""
    if first.variant is None or second.variant is None or first.variant.part is None:
        return False
    return first.variant.part != second.variant.part and first.members == second.members


def _rates(rows: Sequence[Row], more: Mapping[str, Mapping[str, Value]]) -> dict[str, dict[str, Value]]:
    """The variance on the distribution over that at the next lower learning rate."""
    found = {}
    for group in differing_in(rows, RATE):
        for lower, higher in itertools.pairwise(group):
            above, below = (more.get(row.name, {}).get("distribution_variance", UNKNOWN) for row in (higher, lower))
            found[higher.name] = {"distribution_variance_ratio": ratio(above, below)}
    return found


def _augmentation(rows: Sequence[Row]) -> dict[str, dict[str, Value]]:
    """The variance without augmentation over that with less data."""
    pair = without_augmentation_and_less_data(rows)
    if pair is None:
        return {}
    bare, less = (row.values.get("accuracy_sd", UNKNOWN) for row in pair)
    return {pair[0].name: {"variance_ratio_to_less_data": variance_ratio(bare, less)}}

"""Claims on what reduces variability, and on what does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from popnet.config import Recipe
from popnet.report.claims.claim import Claim, Evidence, Finding, Side, Values, metrics_of
from popnet.report.claims.rows import is_plain
from popnet.report.claims.sources import ALIKE, LEAST_ALIKE, similar
from popnet.report.measured import Row
from popnet.report.quantities import IMAGES, Value, number, percent, quantity, shown
from popnet.report.reductions import READINGS, pairs, reduction, unclear
from popnet.report.verdicts import Verdict, at_least, at_most, difference

_SECTION = "Summers & Dinneen (2021), Section 5"

_ADDED = {"averaging", "clip_gradient", "weight_noise"}
"""Keys of a recipe, each of them a remedy of Appendix D where the other recipe has none."""


def claims(evidence: Evidence) -> Iterator[Claim]:
    """The claims that the experiment has the rows for."""
    found = pairs(evidence.measured)
    for mitigated, single in found:
        yield _reduces(evidence, mitigated, single)
    for single in {one.name: one for _, one in found}.values():
        mitigated_rows = [row for row, one in found if one is single]
        yield from _ensembles(evidence, mitigated_rows)
        yield from _combined(evidence, mitigated_rows, single)
    yield from _no_help(evidence)


def _reduces(evidence: Evidence, mitigated: Row, single: Row) -> Claim:
    def check(rows: Side) -> Finding:
        after, before = rows.values()
        if why := _undivided(single.name, before):
            return Finding(Verdict.NOT_COMPARABLE, (), why)
        complement, raw = (reduction(before, after, reading) for reading in READINGS)
        sentences = (
            ("Mean reduction over the five metrics", percent(complement, "%")),
            ("Read as the reproduction report does, by ρ itself", percent(raw, "%")),
        )
        return _with_accuracies(Finding(at_least([complement], 0.0), sentences), rows, [single.name])

    statement = f"{mitigated.name} reduces variability against {single.name}"
    return evidence.claim(statement, _SECTION, [mitigated, single], check)


def _undivided(name: str, single: Values) -> str:
    metric = unclear(single)
    return f"{metric} of {name} is not clearly above 0, so no reduction can be counted" if metric else ""


def _ensembles(evidence: Evidence, mitigated: Sequence[Row]) -> Iterator[Claim]:
    """Accelerated ensembles against ensembles of two: "comparable" in the SDs of accuracy and cross-entropy.

    mitigated: the rows of one single model.
    """
    plain = [row for row in mitigated if row.variant.views.name == "none"]
    two = next((row for row in plain if row.variant.ensemble == 2 and row.variant.snapshots is None), None)
    snapshots = next((row for row in plain if row.variant.ensemble == 1 and row.variant.snapshots), None)
    if two is None or snapshots is None:
        return
    sds = [quantity("accuracy_sd"), quantity("cross_entropy_sd")]
    yield evidence.claim(
        "An accelerated ensemble varies in accuracy and cross-entropy about as much (within 20%) as an ensemble of two",
        _SECTION,
        [snapshots, two],
        lambda rows: _with_accuracies(similar(rows, sds, ALIKE), rows, [two.name]),
        least=LEAST_ALIKE,
    )


def _combined(evidence: Evidence, mitigated: Sequence[Row], single: Row) -> Iterator[Claim]:
    """Accelerated ensembling with test-time augmentation against each of them alone, both of which must be measured."""
    rows = [row for row in mitigated if row.variant.ensemble == 1]
    against = {row.name: _alone(row, rows) for row in rows if row.variant.snapshots and _augmented(row)}
    both = [row for row in rows if against.get(row.name)]
    if not both:
        return
    alone = [row for row in rows if any(row in parts for parts in against.values())]

    def check(side: Side) -> Finding:
        base = side[single.name]
        if why := _undivided(single.name, base):
            return Finding(Verdict.NOT_COMPARABLE, (), why)
        results = {name: reduction(base, values, "complement") for name, values in side.items() if name != single.name}
        gains = [_gain(results[row.name], results[part.name]) for row in both for part in against[row.name]]
        sentences = tuple((f"Reduction by {name}", percent(value, "%")) for name, value in results.items())
        compared = {row.name: side[row.name] for row in [*both, single]}
        return _with_accuracies(Finding(at_least(gains, 0.0), sentences), compared, [single.name])

    yield evidence.claim(
        "Accelerated ensembling together with test-time augmentation reduces variability more than either alone",
        _SECTION,
        [single, *both, *alone],
        check,
    )


def _augmented(row: Row) -> bool:
    return row.variant.views.name != "none"


def _alone(both: Row, rows: Sequence[Row]) -> list[Row]:
    """The rows of each of two mitigations alone; none where one of them was not measured."""
    mine = both.variant
    snapshots = [row for row in rows if row.variant.snapshots == mine.snapshots and not _augmented(row)]
    views = [row for row in rows if row.variant.snapshots is None and row.variant.views == mine.views]
    return [*snapshots, *views] if snapshots and views else []


def _gain(more: Value, less: Value) -> Value:
    """The difference of two reductions against the same single model, so that their errors are added."""
    freedom = min(more.freedom, less.freedom)
    return Value(more.value - less.value, more.error + less.error, freedom=freedom)


def _no_help(evidence: Evidence) -> Iterator[Claim]:
    """The changes that Appendix D names, against the experiment's own recipe, for the same sources."""
    measured = evidence.measured
    plain = [row for row in measured.rows if is_plain(row) and row.members >= 2 and row.variant.sources]
    for row in plain:
        base = _unchanged(row, plain, measured.experiment.recipe.digest)
        if base is None or any(name not in one.values for one in (row, base) for name in IMAGES):
            continue
        yield evidence.claim(
            f"{row.name} does not reduce variability (by a fifth or more) against {base.name}",
            "Summers & Dinneen (2021), Appendix D",
            [row, base],
            lambda rows: _with_accuracies(_by_a_fifth(rows), rows, list(rows)[1:]),
            means_of=[base],
        )


def _with_accuracies(finding: Finding, rows: Side, unmitigated: Sequence[str]) -> Finding:
    """The finding with every row's mean accuracy; where a mitigated row's is lower than all the others', that is said.

    Lower: by more than two of their common errors. Rows whose means are not known add nothing.
    """
    kind = quantity("accuracy_mean")
    means = {name: values[kind.name] for name, values in rows.items() if kind.name in values}
    if len(means) < len(rows):
        return finding
    sentences = tuple((f"Mean accuracy of {name}", f"{shown(kind, mean)}%") for name, mean in means.items())
    least = min((means[name] for name in unmitigated), key=lambda mean: mean.value)
    lower = [name for name in means if name not in unmitigated and _is_lower(means[name], least)]
    why = "; ".join(f"at a lower accuracy: {_points(means[name])} ({name}) against {_points(least)}" for name in lower)
    return Finding(finding.verdict, (*finding.evidence, *sentences), finding.why or why)


def _is_lower(mean: Value, other: Value) -> bool:
    gap = difference(other, mean)
    return gap.value > 0.0 and not gap.value <= 2 * gap.error


def _points(mean: Value) -> str:
    return f"{number(mean.value, 2)}%"


def _by_a_fifth(rows: Side) -> Finding:
    changed, base = rows.values()
    if len(metrics_of(changed, base)) < len(IMAGES):
        return Finding(Verdict.OPEN, ())
    if why := _undivided(list(rows)[1], base):
        return Finding(Verdict.NOT_COMPARABLE, (), why)
    change = reduction(base, changed, "complement")
    sentences = (("Mean reduction over the five metrics", percent(change, "%")),)
    return Finding(at_most([change], 100.0 * (1 - ALIKE)), sentences)


def _unchanged(row: Row, plain: list[Row], digest: str) -> Row | None:
    """The row of the same sources by the experiment's own recipe, of which this one's is a remedy of Appendix D."""
    for other in plain:
        if other.recipe.digest == digest and is_remedy(row.recipe, other.recipe):
            drawn = {"stochastic"} if row.recipe.weight_noise is not None else set()  # what weight noise draws from
            if set(row.variant.sources) - drawn == set(other.variant.sources) - drawn:
                return other
    return None


def is_remedy(changed: Recipe, base: Recipe) -> bool:
    """Whether a recipe differs from another by exactly one of the changes that Appendix D names.

    Other momentum, or Adam (both with a rate that suits), averaged weights, clipped gradients, noise on the weights.
    """
    mine, theirs = changed.canonical(), base.canonical()
    keys = {key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)}
    if keys == {"optimizer"}:
        return _is_other_optimizer(mine["optimizer"], theirs["optimizer"])
    return len(keys) == 1 and keys <= _ADDED and not keys & theirs.keys()


def _is_other_optimizer(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    keys = {key for key in mine if mine[key] != theirs[key]}
    if "name" in keys:
        return mine["name"] == "adam" and theirs["name"] == "sgd" and keys <= {"name", "lr", "momentum", "betas", "eps"}
    return mine["name"] == "sgd" and "momentum" in keys and keys <= {"momentum", "lr"}

"""Claims on what reduces variability, and on what does not."""

from __future__ import annotations

from collections.abc import Iterator

from popnet.report.claims.claim import Claim, Evidence, Finding, Side, Values, metrics_of
from popnet.report.claims.rows import is_plain
from popnet.report.claims.sources import ALIKE, similar
from popnet.report.measured import Row
from popnet.report.quantities import Value, quantity
from popnet.report.reductions import Reduction, reduction, reductions
from popnet.report.verdicts import Verdict, at_least, at_most

_SECTION = "Summers & Dinneen (2021), Section 5"


def claims(evidence: Evidence) -> Iterator[Claim]:
    """The claims that the experiment has the rows for."""
    found = reductions(evidence.measured)
    for one in found:
        yield _reduces(evidence, one)
    yield from _ensembles(evidence, found)
    yield from _combined(evidence, found)
    yield from _no_help(evidence)


def _reduces(evidence: Evidence, found: Reduction) -> Claim:
    def check(rows: Side) -> Finding:
        mitigated, single = rows.values()
        complement, raw = (reduction(single, mitigated, reading) for reading in ("complement", "raw"))  # type: ignore[arg-type]
        sentences = (
            ("Mean reduction over the five metrics", _percent(complement)),
            ("Read as the reproduction report does, by ρ itself", _percent(raw)),
        )
        return Finding(at_least([complement], 0.0), sentences)

    statement = f"{found.mitigated.name} reduces variability against {found.single.name}"
    return evidence.claim(statement, _SECTION, [found.mitigated, found.single], check)


def _ensembles(evidence: Evidence, found: list[Reduction]) -> Iterator[Claim]:
    """Accelerated ensembles against ensembles of two: "comparable" in the SDs of accuracy and cross-entropy."""
    plain = [one.mitigated for one in found if one.mitigated.variant.views.name == "none"]
    two = next((row for row in plain if row.variant.ensemble == 2 and row.variant.snapshots is None), None)
    snapshots = next((row for row in plain if row.variant.ensemble == 1 and row.variant.snapshots), None)
    if two is None or snapshots is None:
        return
    sds = [quantity("accuracy_sd"), quantity("cross_entropy_sd")]
    yield evidence.claim(
        "An accelerated ensemble varies in accuracy and cross-entropy about as much (within 20%) as an ensemble of two",
        _SECTION,
        [snapshots, two],
        lambda rows: similar(rows, sds, ALIKE),
    )


def _combined(evidence: Evidence, found: list[Reduction]) -> Iterator[Claim]:
    """Accelerated ensembling with test-time augmentation against each of them alone."""
    rows = [one.mitigated for one in found if one.mitigated.variant.ensemble == 1]
    both = [row for row in rows if row.variant.snapshots and row.variant.views.name != "none"]
    alone = [row for row in rows if row not in both]
    if not both or not alone:
        return
    single = found[0].single

    def check(side: Side) -> Finding:
        base = side[single.name]
        results = {name: reduction(base, values, "complement") for name, values in side.items() if name != single.name}
        gains = [
            Value(results[a.name].value - results[b.name].value, results[a.name].error + results[b.name].error)
            for a in both
            for b in alone
            if b.variant.snapshots or b.variant.views == a.variant.views
        ]
        return Finding(
            at_least(gains, 0.0), tuple((f"Reduction by {name}", _percent(value)) for name, value in results.items())
        )

    yield evidence.claim(
        "Accelerated ensembling together with test-time augmentation reduces variability more than either alone",
        _SECTION,
        [single, *both, *alone],
        check,
    )


def _no_help(evidence: Evidence) -> Iterator[Claim]:
    """Changes of the recipe against the experiment's own recipe, for the same sources."""
    measured = evidence.measured
    plain = [row for row in measured.rows if is_plain(row) and row.members >= 2 and row.variant.sources]
    for row in plain:
        base = _unchanged(row, plain, measured.experiment.recipe.digest)
        if base is None:
            continue
        yield evidence.claim(
            f"{row.name} does not reduce variability (by a fifth or more) against {base.name}",
            "Summers & Dinneen (2021), Appendix D",
            [row, base],
            lambda rows: _by_a_fifth(*rows.values()),
        )


def _by_a_fifth(changed: Values, base: Values) -> Finding:
    if len(metrics_of(changed, base)) < 5 or any(base[m.name].value == 0.0 for m in metrics_of(changed, base)):
        return Finding(Verdict.OPEN, ())
    change = reduction(base, changed, "complement")
    return Finding(
        at_most([change], 100.0 * (1 - ALIKE)), (("Mean reduction over the five metrics", _percent(change)),)
    )


def _unchanged(row: Row, plain: list[Row], digest: str) -> Row | None:
    """The row of the same sources that is trained by the experiment's own recipe; None where this one is."""
    if row.recipe.digest == digest or row.recipe.model.name is None:
        return None
    same = (other for other in plain if other.recipe.digest == digest)
    found = next((other for other in same if other.variant.sources == row.variant.sources), None)
    if found is None or found.recipe.model != row.recipe.model or found.recipe.dataset != row.recipe.dataset:
        return None
    return found


def _percent(value: Value) -> str:
    return f"{value.value:.0f}% ± {value.error:.0f}"

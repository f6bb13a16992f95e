"""From measured experiments to a report: what stands in it, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from popnet.report import measured_figures
from popnet.report.beside import Beside, beside, unmatched
from popnet.report.claims import Evidence, claims_across, claims_of
from popnet.report.content import Report, Section
from popnet.report.measured import Measured, measure
from popnet.report.measured_tables import beside_table, measured_table, reductions_table, similarity_table, twins_table
from popnet.report.reductions import reductions, with_reductions
from popnet.report.scaled import departs_from, departures, other_kind, paper_experiment, proxy
from popnet.report.tables import published_references
from popnet.report.theory_rows import with_theory
from popnet.report.theory_tables import theory_table

METHODS = (
    (
        "Errors",
        "Standard deviations are population standard deviations (ddof 0); the error of one is its standard deviation "
        "over bootstrap resamples of the runs, as in the papers. The error of a metric over pairs of runs is a "
        "jackknife over runs.",
    ),
    (
        "Differences",
        "Measured minus published, divided by the combined error: the root of the sum of both squared errors. Of a "
        "published number the error is its printed error bar, but at least half a unit of its last printed decimal. "
        "Below 2 the two agree; above 3 they differ. Where data or model are not those of the published table, the "
        "two are not compared by errors, nor are rows of fewer than 10 members. Differences of means are shown as they "
        "are: the error of a mean over many members is so small that any other training is many of them away.",
    ),
    (
        "Verdicts",
        "A claim is a bound on one or more numbers. It holds where the 95% interval of each number lies within the "
        "bound; it does not hold where one lies outside (at a level divided by how many there are, since the worst "
        "of them is looked at); else the errors are too large and it cannot be told. There is no verdict, but the "
        "reason why the two are not comparable, where a row has fewer than 10 members (20, where rows are to be within "
        "20% of each other), where a member is no better than guessing, where a model has not reached its published "
        "mean (its error, or perplexity, more than a tenth above), and where a number of the paper's own model is "
        "asked of another one. The papers' own printed numbers are judged by the same rule. Intervals are Student's, "
        "with as many degrees of freedom as a row has members, less one, and ratios are judged by their logarithms. "
        "Errors of one population's metrics are added as if they moved together; different populations are taken as "
        "independent.",
    ),
    (
        "Variability reduction",
        "The mean over five metrics of the relative reduction against the single model (Summers & Dinneen 2021, "
        "Table 5). The paper counts correlation as 1 - ρ, which is what varies: from ρ = 0.871 to 0.957 it falls by "
        "67%. The reproduction report calls the paper's percentages a computational error and prints figures about a "
        "fifth lower: it counts the relative increase of ρ itself, which is 10% for the same two numbers. Each "
        "metric is a fifth of the mean, so this alone makes 48% into 37%. Both columns follow from the printed "
        "rows within the rounding of these: the arithmetic of neither is wrong, and 1 - ρ is the one that measures "
        "variability.",
    ),
)


def build(
    stores: Sequence[str | Path], title: str = "", generated: str = "", figures: bool = True
) -> tuple[Report, list[Evidence]]:
    """The report on the experiments of some stores, and the numbers it was made from.

    Args:
        stores: folders.
        title: of the report; default: the experiments' descriptions, of more than two the first's.
        generated: a date to print; none by default, so that equal stores give equal reports.
        figures: whether to draw them, which takes a second for each.

    Raises StoreError where a folder is no store, DataError where one holds no finished run.
    """
    experiments = [with_theory(with_reductions(measured)) for measured in measure(stores)]
    evidence = [Evidence.of(measured, beside(measured)) for measured in experiments]
    sections = [_section(one, figures) for one in evidence]
    together = _together(experiments, evidence, figures)
    if together is not None:
        sections.append(together)
    return Report(title or _title(experiments), tuple(sections), generated, METHODS), evidence


def _title(experiments: Sequence[Measured]) -> str:
    first, *others = dict.fromkeys(measured.title for measured in experiments)
    more = others if len(others) <= 1 else [f"{len(others)} more"]
    return " and ".join([first, *more])


def _section(evidence: Evidence, figures: bool) -> Section:
    measured = evidence.measured
    tables = beside(measured)
    found = reductions(measured)
    drawn = [measured_table(measured), *map(beside_table, tables)]
    if found:
        drawn.append(reductions_table(found, tables))
    genuine = theory_table(measured)
    if genuine is not None:
        drawn.append(genuine)
    alike = similarity_table(measured.rows)
    if alike is not None:
        drawn.append(alike)
    if measured.divergence is not None and len(measured.divergence):
        drawn.append(twins_table(measured.divergence))
    return Section(
        measured.title,
        _facts(measured),
        tuple(departures(measured.experiment, measured.data)),
        tuple(_warnings(measured, tables)),
        tuple(drawn),
        tuple(measured_figures.figures_of(measured)) if figures else (),
        tuple(claims_of(evidence)),
        judged=_judged(measured),
        departs_from=departs_from(measured.experiment),
    )


def _judged(measured: Measured) -> str:
    """Of which network the claims are judged, where none of the papers trained it on these data; else empty."""
    recipe = measured.experiment.recipe
    papers = filter(None, map(paper_experiment, published_references()))
    if any(not other_kind(recipe, paper.recipe) for paper in papers):
        return ""
    data = recipe.dataset.label if measured.data == recipe.dataset.identity else measured.data
    return (
        f"Judged of this network itself, {recipe.model.label} on {data}: none of the papers trained it on these data, "
        "so a verdict here says nothing of theirs."
    )


def _together(experiments: Sequence[Measured], evidence: Sequence[Evidence], figures: bool) -> Section | None:
    """What compares experiments, or rows of different recipes."""
    several = [measured for measured in experiments if measured_figures.has_bit_changes(measured)]
    drawn = tuple(measured_figures.bit_changes(several)) if figures and len(several) > 1 else ()
    claims = tuple(claims_across(evidence))
    return Section("Across experiments", figures=drawn, claims=claims) if drawn or claims else None


def _facts(measured: Measured) -> tuple[tuple[str, str], ...]:
    recipe = measured.experiment.recipe
    optimizer = recipe.optimizer
    count = "all" if recipe.train_examples is None else f"{recipe.train_examples:,}"
    images = measured.images or f"{count} training images"
    return (
        ("Model", recipe.model.identity),
        ("Data", f"{measured.data or recipe.dataset.identity}, {images}"),
        (
            "Training",
            f"{recipe.epochs:,} epochs, batch {recipe.batch_size}, {optimizer.name or optimizer.import_path} at "
            f"{optimizer.lr:g} ({recipe.schedule.name}), {recipe.precision}",
        ),
        ("Members a row", f"{measured.experiment.population:,}"),
        ("Device", measured.platform.device),
        ("Versions", ", ".join(f"{name} {version}" for name, version in measured.platform.versions)),
        ("Store", str(measured.store)),
    )


def _warnings(measured: Measured, tables: Sequence[Beside]) -> list[str]:
    partial = [row for row in measured.rows if row.finished + row.failed < row.planned]
    warnings = []
    if partial:
        finished = "; ".join(f"{row.name} {row.finished} of {row.planned}" for row in partial)
        warnings.append(f"Not finished, so this is what there is: {finished}.")
    warnings += measured.errors
    if said := proxy(measured.experiment):
        warnings.append(said)
    if not tables:
        warnings.append("The experiment names no published table, so its numbers stand alone.")
    elif rows := unmatched(measured, list(tables)):
        warnings.append(f"In none of the published tables: {'; '.join(rows)}.")
    return warnings

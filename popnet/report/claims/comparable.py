"""Whether rows can be set against a claim at all; where they cannot, it gets no verdict, and the reason is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from popnet.config import Recipe
from popnet.report.beside import matching, paper_recipe, published_values
from popnet.report.claims.rows import is_single
from popnet.report.measured import Measured, Row
from popnet.report.quantities import Value, number, quantity
from popnet.report.scaled import original, other_kind, paper_experiment, training_departures
from popnet.report.tables import means_of as published_means
from popnet.report.tables import tables_with_means
from popnet.report.verdicts import LEAST_MEMBERS

REACHED = 1.1
"""A model has reached a published mean where its error, or its perplexity, is at most a tenth above it."""


def why_not(
    measured: Measured,
    rows: Sequence[Row],
    least: int = LEAST_MEMBERS,
    *,
    any_network: bool = False,
    means_of: Sequence[Row] | None = None,
    cross_entropy: bool = True,
) -> str | None:
    """Why these rows cannot be set against a claim, in a sentence; None where they can.

    Too few members or ensembles; a member that diverged; a model that is not trained; a published mean of the same
    model and data that is not reached. And, unless the claim makes sense for `any_network`, data, a model or a training
    other than those of the published experiment that this one reproduces, where it names published tables.

    Args:
        least: the members (or ensembles) that each row needs.
        any_network: of a claim that is judged on the network itself, with no number of the paper's own model in it.
        means_of: the rows that must have reached the published mean; all of them by default.
        cross_entropy: whether the claim uses cross-entropies; else one that is bad alone speaks against nothing.
    """
    asked = {row.name for row in (rows if means_of is None else means_of)}
    found = (
        _reason(measured, row, least, any_network, cross_entropy)
        or (short_of_mean(measured, row) if row.name in asked else "")
        for row in rows
    )
    return next((reason for reason in found if reason), None)


def unlike(recipe: Recipe, theirs: Recipe) -> str:
    """How a training differs from a published one, so that its numbers are not the paper's; empty where they are.

    Other data or another model first, and then nothing else.

    A copy of the data, and low-level nondeterminism by its proxy, make no other training.
    """
    if other := other_kind(recipe, theirs):
        return other
    return "; ".join(training_departures(recipe, theirs, stand_ins=False))


def short_of_mean(measured: Measured, row: Row) -> str:
    """The published mean that a row of single models has not reached, in a sentence; empty where it has, or none is.

    The mean is that of the published row that this one is set beside, or of the same training in another table; of a
    row that stands in no table, that of the same model and data.
    """
    if not is_single(row):
        return ""
    for name, mean in _means(measured, row).items():
        value = row.values.get(name)
        if value is not None and value.known and not _reached(name, value, mean):
            kind = quantity(name)
            return (
                f"{row.name} has not reached the published mean: {kind.header} {number(value.value, kind.decimals)}, "
                f"and the paper's is {mean:g}"
            )
    return ""


def _reason(measured: Measured, row: Row, least: int, any_network: bool, cross_entropy: bool) -> str:
    if row.recipe.epochs == 0:
        return f"{row.name} is not trained: its recipe has 0 epochs"
    if hopeless := row.diverged - row.overconfident:
        return f"{hopeless} of {row.finished} members of {row.name} are no better than guessing"
    if row.overconfident and cross_entropy:
        return (
            f"{row.overconfident} of {row.finished} members of {row.name} have a cross-entropy above that of guessing"
        )
    if row.members < least:
        what = "members" if row.variant.ensemble == 1 else "ensembles"
        return f"{row.name} has {row.members} {what}, and at least {least} are needed"
    if not any_network:
        theirs = _published_recipe(measured, row)
        other = "" if theirs is None else unlike(row.recipe, theirs)
        if other:
            return f"{row.name} is trained otherwise than the published model: {other}"
    return ""


def _published_recipe(measured: Measured, row: Row) -> Recipe | None:
    """The recipe of the published row that this one is set beside; None where no published table is named.

    Of a row that stands in none of the tables that is the recipe of the shipped experiment's row of this name, or else
    the shipped experiment's own.
    """
    for reference, printed in _standing(measured, row):
        return paper_recipe(reference, printed)
    full = original(measured.experiment) if measured.experiment.published else None
    if full is None:
        return None
    variant = next((variant for variant in full.variants if variant.name == row.name), None)
    return full.recipe if variant is None else full.recipe_of(variant)


def _means(measured: Measured, row: Row) -> dict[str, float]:
    """By quantity, what a row of single models must reach."""
    standing = list(_standing(measured, row))
    given = [means for means in (published_means(table, printed) for table, printed in standing) if means]
    if given:
        return given[0]
    meant = (_published_recipe(measured, row) if standing else None) or row.recipe
    for reference in tables_with_means():
        full = paper_experiment(reference)
        if full is None or other_kind(row.recipe, full.recipe):
            continue
        if not standing or not unlike(meant, full.recipe):  # a table of other epochs has means of its own, not printed
            return published_means(reference)
    return {}


def _standing(measured: Measured, row: Row) -> Iterator[tuple[str, str]]:
    """The published tables of the same model and data in which a row stands, with its name there."""
    for reference in measured.experiment.published:
        full = paper_experiment(reference)
        if full is not None and not other_kind(row.recipe, full.recipe):
            names = matching({one.name: one for one in measured.rows}, published_values(reference))
            if row.name in names:
                yield reference, names[row.name]


def _reached(name: str, value: Value, mean: float) -> bool:
    """Whether the error (100 minus the accuracy), or the perplexity, is at most a tenth above the published one."""
    if name.startswith("accuracy"):
        return 100.0 - value.value <= REACHED * (100.0 - mean)
    return value.value <= REACHED * mean

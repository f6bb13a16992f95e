"""Which rows of an experiment play which part: told by what varies in them, not by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from popnet.config import Recipe, Variant
from popnet.report.measured import Measured, Row


@dataclass(frozen=True)
class Group:
    """The single-model rows of one recipe, trained from beginning to end with the seeds under test.

    Attributes:
        sources: in which one or more sources vary, a bit change not among them.
        bit: in which one weight changes by a bit, or None.
        everything: in which all sources vary that the recipe draws from, low-level nondeterminism perhaps apart: the
            papers' "All Nondeterminism Sources", or None.
        same: whose seeds are all equal (the reproduction report's "Determinism"), or None.
    """

    sources: tuple[Row, ...]
    bit: Row | None
    everything: Row | None
    same: Row | None
    linear: bool


def groups(measured: Measured) -> list[Group]:
    """The groups of an experiment: rows of equal recipe and constants, in the order of the file."""
    by_recipe: dict[str, list[Row]] = {}
    for row in measured.rows:
        if is_plain(row) and row.members >= 2:
            by_recipe.setdefault(training_key(row), []).append(row)
    return [_group(rows) for rows in by_recipe.values()]


def training_key(row: Row) -> str:
    """Equal for rows of equal recipe and constants."""
    return f"{row.recipe.digest} {sorted(row.variant.constants.items())}"


def is_plain(row: Row, *, any_onset: bool = False) -> bool:
    """Whether a row is of single models, with its seeds from the first step to the last, and the papers' bit change.

    any_onset: whether it may get its seeds later than at the first step.
    """
    variant = row.variant
    throughout = (
        (any_onset or variant.onset == 0) and variant.until_step is None and variant.first_step_precision is None
    )
    return is_single(row) and throughout and variant.cross is None and has_papers_bit(variant)


def has_papers_bit(variant: Variant) -> bool:
    """Whether a row's change of one weight is the papers': by one bit, before the first step, at a random place.

    The papers change the first layer's weights, and of language models do not say which: any tensor may be named. A row
    in which no bit varies has none to ask about.
    """
    change = variant.perturbation
    return "bit" not in variant.sources or (change.kind == "bit" and change.weight == "random" and change.step == 0)


def is_single(row: Row) -> bool:
    """Whether a row is of single models, looked at once."""
    return row.variant.ensemble == 1 and row.variant.snapshots is None and row.variant.views.name == "none"


def _group(rows: Sequence[Row]) -> Group:
    sources = tuple(row for row in rows if row.variant.sources and "bit" not in row.variant.sources)
    complete = [row for row in sources if _drawn_from(row.recipe) <= set(row.variant.sources)]
    return Group(
        sources,
        next((row for row in rows if row.variant.sources == ("bit",)), None),
        max(complete, key=lambda row: len(row.variant.sources), default=None),
        next((row for row in rows if not row.variant.sources and row.variant.replicas), None),
        rows[0].recipe.model.name == "linear",
    )


def _drawn_from(recipe: Recipe) -> set[str]:
    """The sources that every training by this recipe draws from."""
    if recipe.language is not None:
        return {"init", "stochastic"}
    return {"init", "shuffle", "augment"} if recipe.augment.any else {"init", "shuffle"}

"""What a claim is: a sentence of a paper, and what the numbers say of it, ours and the paper's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from popnet.report.beside import Beside
from popnet.report.claims.comparable import why_not
from popnet.report.measured import Measured, Row
from popnet.report.quantities import IMAGES, TEXTS, Quantity, Value, quantity, shown
from popnet.report.verdicts import LEAST_MEMBERS, Verdict

Values = Mapping[str, Value]
Side = Mapping[str, Values]
"""The numbers of the rows that a claim speaks of, by row: either what was measured, or what was printed."""

Check = Callable[[Side], "Finding"]


@dataclass(frozen=True)
class Finding:
    """A verdict, the numbers behind it (what each is of, and what it is), and what must be read with it.

    Attributes:
        why: a sentence shown beside the verdict: why the numbers cannot be set against the claim, or at what price it
            holds; empty where there is nothing to say.
    """

    verdict: Verdict
    evidence: tuple[tuple[str, str], ...]
    why: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim and its findings.

    Attributes:
        statement: the claim, in a sentence.
        where: paper and section.
        about: the rows that it was checked on.
        measured: what our numbers say.
        published: what the paper's own printed numbers say by the same rule; None where it printed none.
    """

    statement: str
    where: str
    about: tuple[str, ...]
    measured: Finding
    published: Finding | None = None


@dataclass(frozen=True)
class Evidence:
    """An experiment with the published rows that its own are set against: those of the same data and model alone."""

    measured: Measured
    printed: Side

    @classmethod
    def of(cls, measured: Measured, tables: Sequence[Beside]) -> Evidence:
        """tables: the experiment's comparisons; where a row stands in several, the first one's numbers count."""
        printed: dict[str, Values] = {}
        for pair in (pair for table in tables for pair in table.pairs if not pair.other):
            cells = {cell.quantity.name: cell.published for cell in pair.cells}
            printed[pair.row.name] = {**cells, **printed.get(pair.row.name, {})}
        return cls(measured, printed)

    def claim(
        self,
        statement: str,
        where: str,
        rows: Sequence[Row],
        check: Check,
        *,
        trained: bool = True,
        least: int = LEAST_MEMBERS,
        means_of: Sequence[Row] | None = None,
        cross_entropy: bool = True,
    ) -> Claim:
        """The claim, checked on the rows' numbers, and on the published ones where all of the rows have them.

        It is one that makes sense for any network, and gets a verdict where `why_not` has nothing against it.

        trained: whether it speaks of trained models, of which there are enough; else of any two runs.
        least: how many members are enough.
        means_of: the rows that must have reached a published mean; all of them by default.
        cross_entropy: whether it uses cross-entropies.
        """
        names = tuple(row.name for row in rows)
        uneven = len({row.members for row in rows}) > 1
        ours = check({row.name: own_values(row, sample=uneven) for row in rows})
        if uneven and ours.evidence:
            ours = replace(ours, evidence=(*ours.evidence, _WITH_FREEDOM))
        why = None
        if trained:
            why = why_not(self.measured, rows, least, any_network=True, means_of=means_of, cross_entropy=cross_entropy)
        if why is not None:
            ours = Finding(Verdict.NOT_COMPARABLE, ours.evidence, why)
        known = all(name in self.printed for name in names)
        theirs = check({name: self.printed[name] for name in names}) if known else None
        return Claim(statement, where, names, ours, theirs)


_WITH_FREEDOM = ("SDs", "with n - 1 in the denominator, since the rows differ in their numbers of members n")


def own_values(row: Row, *, sample: bool = False) -> Values:
    """A row's numbers, with the freedom of their errors, which its members give.

    sample: whether SDs get n - 1 in place of n, without which those of fewer members are smaller.
    """
    freedom = max(row.members - 1, 1)
    factor = math.sqrt(row.members / freedom) if sample else 1.0
    return {name: _own(value, freedom, factor if name.endswith("_sd") else 1.0) for name, value in row.values.items()}


def _own(value: Value, freedom: int, factor: float) -> Value:
    return Value(value.value * factor, value.error * factor, value.printed, freedom)


def metrics_of(*sides: Values) -> list[Quantity]:
    """The papers' metrics that all rows know: the five for images, or the three for texts."""
    texts = all("ppl_sd" in values for values in sides)
    names = TEXTS if texts else IMAGES
    return [quantity(name) for name in names if all(name in values and values[name].known for values in sides)]


def told(kind: Quantity, value: Value, row: str) -> str:
    """A number with the row that it belongs to, for evidence."""
    return f"{shown(kind, value)} ({row})"

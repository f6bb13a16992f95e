"""The papers' claims, checked against what was measured, each with a verdict and the numbers behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from popnet.report.claims import instability, jordan, mitigations, onset, representations, sources
from popnet.report.claims.claim import Claim, Evidence, Finding

__all__ = ["Claim", "Evidence", "Finding", "claims_across", "claims_of"]


_MODULES = (sources, representations, instability, onset, mitigations, jordan)


def claims_of(evidence: Evidence) -> list[Claim]:
    """Every claim that the experiment has the rows for. One that is made of several recipes names its rows."""
    claims = [claim for module in _MODULES for claim in module.claims(evidence)]
    made = Counter(claim.statement for claim in claims)
    return [claim if made[claim.statement] == 1 else _with_rows(claim) for claim in claims]


def _with_rows(claim: Claim) -> Claim:
    return replace(claim, statement=f"{claim.statement} ({', '.join(claim.about)})")


def claims_across(experiments: Sequence[Evidence]) -> list[Claim]:
    """The claims that compare experiments with each other."""
    return list(instability.across(experiments))

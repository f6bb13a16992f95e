"""The papers' claims, checked against what was measured, each with a verdict and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence

from popnet.report.claims import instability, jordan, mitigations, onset, representations, sources
from popnet.report.claims.claim import Claim, Evidence, Finding

__all__ = ["Claim", "Evidence", "Finding", "claims_across", "claims_of"]


_MODULES = (sources, representations, instability, onset, mitigations, jordan)


def claims_of(evidence: Evidence) -> list[Claim]:
    """Every claim that the experiment has the rows for."""
    return [claim for module in _MODULES for claim in module.claims(evidence)]


def claims_across(experiments: Sequence[Evidence]) -> list[Claim]:
    """The claims that compare experiments with each other."""
    return list(instability.across(experiments))

"""The claim of Jordan (2024) on shifted test sets: it compares the same runs on several of them (`popnet theory`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from popnet.metrics.theory import Summary
from popnet.report.claims.claim import Claim, Finding
from popnet.report.claims.jordan import SHARES
from popnet.report.quantities import Value, with_error
from popnet.report.theory_published import test_set
from popnet.report.verdicts import Verdict, at_least

SHIFTED = ("ImageNet-R", "ObjectNet", "ImageNet-Sketch")
"""Test sets whose distribution is not that of the training set, by the paper."""

REFERENCES = ("ImageNet-V2", "ImageNet")
"""What they are set against, the first that is there: new examples of the training set's distribution."""

LEAST = 6.0
"""How many times more variance on the distribution "at least six times" asks (Section 4.4)."""

_SIX_TIMES = "On {shifted} runs differ in genuine quality, by at least six times the variance that they have on {other}"


def shifted(summaries: Mapping[str, Summary], printed: Mapping[str, Mapping[str, Value]]) -> Iterator[Claim]:
    """A claim for each shifted test set that bears the paper's name, with the paper's own numbers where they belong.

    Args:
        summaries: by label, of the same runs on each test set.
        printed: by label, the paper's numbers.
    """
    labels = {name: label for label in summaries if (name := test_set(label)) is not None}
    other = next((labels[name] for name in REFERENCES if name in labels), None)
    if other is None:
        return
    for label in (labels[name] for name in SHIFTED if name in labels):
        ours = {name: _variance(summaries[name]) for name in (label, other)}
        finding = _six_times(ours[label], ours[other])
        members = summaries[label].members
        if members < SHARES:
            why = f"there are {members} runs, and at least {SHARES} are needed"
            finding = Finding(Verdict.NOT_COMPARABLE, finding.evidence, why)
        known = all("distribution_sd" in printed.get(name, {}) for name in (label, other))
        theirs = _six_times(*(_square(printed[name]["distribution_sd"]) for name in (label, other))) if known else None
        statement = _SIX_TIMES.format(shifted=label, other=other)
        yield Claim(statement, "Jordan (2024), Section 4.4 and Appendix C", (label, other), finding, theirs)


def _six_times(above: Value, below: Value) -> Finding:
    rest = Value(above.value - LEAST * below.value, (above.error**2 + (LEAST * below.error) ** 2) ** 0.5)
    text = f"{with_error(above, 4)} against {with_error(below, 4)} points squared"
    return Finding(at_least([rest], 0.0), (("Variance on the distribution", text),))


def _variance(summary: Summary) -> Value:
    return Value(summary.distribution_variance, summary.distribution_variance_error)


def _square(sd: Value) -> Value:
    return Value(sd.value**2, 2 * sd.value * sd.error)

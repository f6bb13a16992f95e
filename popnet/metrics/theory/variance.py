"""How much of the variance between runs is genuine: the variances of Jordan (2024), and formulas that predict them.

Everywhere an error is a rate in 0..1, not percent; a variance is that of such a rate. R members, n examples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from popnet.metrics.resampling import bootstrap_weights
from popnet.metrics.samples import signed_sd as signed_sd
from popnet.metrics.theory.packed import PackedErrors, as_array, packed

RESAMPLES = 1_000


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error and confidence interval."""

    value: float
    standard_error: float
    low: float
    high: float
    confidence: float = 0.95


def observed_variance(errors: Any) -> float:
    """The variance between members of the error rate on this test set (ddof 1). errors: bool [members, examples]."""
    bits = packed(errors)
    return _sample_variance(bits.member_counts()) / bits.examples**2


def distribution_variance(errors: Any) -> float:
    """The unbiased estimate of the variance between members of the error rate on the distribution itself.

    n / (n - 1) * (Var_r(err_r) - sum_i Var_r(err[r, i]) / n^2), all with ddof 1 (Jordan 2024, Theorem 2). It can be
    negative, where the true variance is small. Bits are summed in integers and rounded once.

    Args:
        errors: bool [members, examples], True where wrong, or `PackedErrors`; at least 2 members and 2 examples. Any
            other loss as floats [members, examples] will do, as the theorem assumes nothing about it.
    """
    if not isinstance(errors, PackedErrors) and as_array(errors).dtype.kind == "f":
        return _distribution_variance_of_losses(as_array(errors))
    bits = packed(errors)
    _at_least_two_examples(bits)
    totals, counts = bits.member_counts().tolist(), bits.example_counts().tolist()
    members, examples = bits.members, bits.examples
    excess = members * sum(t * t for t in totals) - sum(totals) ** 2 - sum(c * (members - c) for c in counts)
    return excess / (examples * (examples - 1) * members * (members - 1))


def distribution_variance_interval(
    errors: Any,
    method: Literal["jackknife", "bootstrap"] = "jackknife",
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 1,
) -> Estimate:
    """`distribution_variance` with an interval.

    `jackknife` leaves out members and examples: other runs, and another test set from the same distribution. The noise
    that both leave is counted once. The interval is that of a scaled chi-square variable with the standard error's
    degrees of freedom, for the test-set variance, shifted by what independent errors explain. `bootstrap` resamples
    members, on this test set, and takes percentiles.

    Args:
        errors: bool [members, examples] or `PackedErrors`; at least 3 members and 3 examples.
        seed: of the bootstrap's draws.
    """
    bits = packed(errors, least_members=3)
    _at_least_two_examples(bits, 3)
    value = distribution_variance(bits)
    if method == "bootstrap":
        draws = _bootstrap(bits, resamples, seed)
        low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Estimate(value, float(draws.std()), float(low), float(high), confidence)
    if method != "jackknife":
        raise ValueError(f"method must be 'jackknife' or 'bootstrap', not {method!r}")
    variance = _jackknife_variance(bits)
    explained = _explained(bits)
    total = value + explained
    if total <= 0 or variance == 0:
        return Estimate(value, math.sqrt(variance), value, value, confidence)
    freedom = 2 * total**2 / variance
    tails = np.array([1 + confidence, 1 - confidence]) / 2
    low, high = total * freedom / stats.chi2.ppf(tails, freedom) - explained
    return Estimate(value, math.sqrt(variance), float(low), float(high), confidence)


def independent_errors_sd(errors: Any) -> float:
    """The SD between members if errors were independent: sqrt(sum_i e_i (1 - e_i)) / n (Jordan 2024, Section 3.2).

    e_i is the share of members that are wrong on example i. errors: bool [members, examples] or `PackedErrors`.
    """
    bits = packed(errors, least_members=1)
    counts = bits.example_counts()
    return math.sqrt(int((counts * (bits.members - counts)).sum())) / (bits.members * bits.examples)


def binomial_variance(error: float, examples: int) -> float:
    """err (1 - err) / n, if every run erred on every example alike: the usual assumption, and too much."""
    _check_rate(error, examples)
    return error * (1 - error) / examples


def binary_variance(error: float, examples: int, distribution_variance: float = 0.0) -> float:
    """The variance of a calibrated binary classifier: err / (2 n) + (1 - 1/n) Var(err on the distribution).

    Jordan 2024, Theorem 3; without the second term, Equation 6.

    Args:
        error: the mean error rate, 0..1.
        examples: n, of the test set.
        distribution_variance: where known.
    """
    _check_rate(error, examples)
    return error / (2 * examples) + (1 - 1 / examples) * distribution_variance


def variance_lower_bound(error: float, examples: int, classes: int) -> float:
    """err / (n k): the least variance of a calibrated classifier of k classes (Jordan 2024, Theorem 4)."""
    _check_rate(error, examples)
    if classes < 2:
        raise ValueError(f"classes is {classes}: at least 2 are needed")
    return error / (examples * classes)


def _jackknife_variance(bits: PackedErrors) -> float:
    """The variance of the estimate over members and examples, from one pass; integers throughout, then one formula.

    With z the centred bits, the estimate is the sum over members of g_r = (sum_i z_ri)^2 - sum_i z_ri^2, and the sum
    over examples of h_i = Cov(x_i, T) - Var(x_i), T the errors of a member: leaving one out is one subtraction. The
    jackknife over examples also sees the noise of finitely many members, Var(x_i) Var(T) / R in h_i, which the one
    over members has counted: it is taken off.
    """
    members, examples = bits.members, bits.examples
    totals, counts = bits.member_counts(), bits.example_counts()
    by_member = np.empty(members)  # sum_i x_ri c_i
    by_example = np.zeros(examples)  # sum_r x_ri T_r
    for rows, block in bits.blocks(512):
        values = block.astype(np.float64)  # sums of integers below 2^53: exact in any order
        by_member[rows] = values @ counts.astype(np.float64)
        by_example += totals[rows].astype(np.float64) @ values
    squares = totals - 2 * by_member / members + float((counts.astype(np.float64) ** 2).sum()) / members**2
    g = (totals - totals.mean()) ** 2 - squares
    scale = examples * (examples - 1) * (members - 2)
    over_members = members / (members - 1) * float(((g - g.mean()) ** 2).sum()) / scale**2

    variances = counts * (members - counts) / (members * (members - 1))
    h = (by_example - counts * totals.mean()) / (members - 1) - variances
    scale = (examples - 1) * (examples - 2)
    over_examples = 4 * (examples - 1) / examples * float(((h - h.mean()) ** 2).sum()) / scale**2
    counted = 4 * float(variances.sum()) * _sample_variance(totals) / (examples**2 * scale * members)
    return over_members + max(over_examples - counted, 0.0)


def _bootstrap(bits: PackedErrors, resamples: int, seed: int) -> NDArray[np.float64]:
    """The estimate in each resample of the members; R / (R - 1) makes up for members drawn more than once."""
    members, examples = bits.members, bits.examples
    totals = bits.member_counts().astype(np.float64)
    results = np.empty(resamples)
    step = max(1, min(resamples, 2**24 // members, 2**24 // examples))
    for first in range(0, resamples, step):
        drawn = range(first, min(first + step, resamples))
        weights = bootstrap_weights(seed, drawn, members)
        counts = np.zeros((len(drawn), examples), np.float32 if members < 2**24 else np.float64)
        for rows, block in bits.blocks():
            counts += weights[:, rows].astype(counts.dtype) @ block.astype(counts.dtype)
        wide = weights.astype(np.float64)
        spread = members * (wide @ totals**2) - (wide @ totals) ** 2
        own = np.array([float((c * (members - c)).sum()) for c in counts.astype(np.float64)])
        results[first : first + len(drawn)] = spread - own
    return results * (members / (members - 1)) / (examples * (examples - 1.0) * members * (members - 1))


def _explained(bits: PackedErrors) -> float:
    """What independent errors explain of the test-set variance, in the units of the distribution-wise one."""
    counts = bits.example_counts()
    own = int((counts * (bits.members - counts)).sum())
    return own / (bits.members * (bits.members - 1) * bits.examples * (bits.examples - 1))


def _distribution_variance_of_losses(losses: NDArray[Any]) -> float:
    if losses.ndim != 2 or min(losses.shape) < 2:
        raise ValueError(f"losses must be [members, examples], at least two of each, not {list(losses.shape)}")
    examples = losses.shape[1]
    wide = losses.astype(np.float64)
    excess = wide.mean(axis=1).var(ddof=1) - wide.var(axis=0, ddof=1).sum() / examples**2
    return float(examples / (examples - 1) * excess)


def _sample_variance(counts: NDArray[np.int64]) -> float:
    """The variance (ddof 1) of integers, rounded once."""
    values = counts.tolist()
    size = len(values)
    return (size * sum(v * v for v in values) - sum(values) ** 2) / (size * (size - 1))


def _at_least_two_examples(bits: PackedErrors, least: int = 2) -> None:
    if bits.examples < least:
        raise ValueError(f"errors has {bits.examples} example(s): at least {least} are needed")


def _check_rate(error: float, examples: int) -> None:
    if not 0 <= error <= 1:
        raise ValueError(f"error must be a rate in 0..1, not {error}: divide percent by 100")
    if examples < 1:
        raise ValueError(f"examples is {examples}: at least 1 is needed")

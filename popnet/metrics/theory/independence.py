"""Are errors independent? Their distribution if they were, and the pairs of examples for which they are not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from scipy.special import ndtr

from popnet.metrics.resampling import uniforms
from popnet.metrics.theory.packed import packed

_EXAMPLES = 2048  # in a block of pairs
_MEMBERS = 8_192  # in one matrix product


@dataclass(frozen=True)
class DependentPairs:
    """Pairs of examples whose joint probability of being right differs from the product by more than a threshold.

    The pairs are sorted by the amount of their deviation, largest first, then by index.

    Attributes:
        first, second: int64 [pairs], indices of examples, first < second.
        product, joint: float64 [pairs], P(right on first) P(right on second), and P(right on both), over members.
        deviation: joint - product; also the covariance of the two errors (ddof 0).
        standard_error: float64 [pairs], of the deviation if the errors were independent.
        count: how many pairs exceed the threshold, of which the largest `limit` are listed.
        expected_by_chance: how many would if all errors were independent, from the normal approximation: with few
            members, sampling noise alone exceeds a small threshold.
        pairs: n (n - 1) / 2.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    product: NDArray[np.float64]
    joint: NDArray[np.float64]
    deviation: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    count: int
    expected_by_chance: float
    pairs: int


def independent_errors_distribution(rates: Any) -> NDArray[np.float64]:
    """The distribution of the number of errors if errors are independent (Jordan 2024, Section 3.2), exactly.

    Args:
        rates: float [examples], the share of members that are wrong on each; or errors, bool [members, examples] or
            `PackedErrors`.

    Returns:
        float64 [examples + 1]: the probability of 0, 1, ... n errors. Absolute error about 1e-15.
    """
    coins = example_rates(rates)
    polynomials = [np.array([1 - rate, rate]) for rate in coins]
    while len(polynomials) > 1:
        odd = [polynomials.pop()] if len(polynomials) % 2 else []
        convolve = np.convolve if len(polynomials[0]) < 256 else fftconvolve
        polynomials = [convolve(a, b) for a, b in zip(polynomials[::2], polynomials[1::2])] + odd
    probabilities = np.clip(polynomials[0], 0.0, None)
    return np.asarray(probabilities / math.fsum(probabilities))


def independent_errors_sample(rates: Any, members: int, seed: int = 1) -> NDArray[np.float64]:
    """Error rates of `members` imagined runs with independent errors, float64 [members], as in Jordan's Figure 3."""
    probabilities = independent_errors_distribution(rates)
    counts = np.searchsorted(np.cumsum(probabilities), uniforms(seed, members, stream=1))
    return np.minimum(counts, len(probabilities) - 1) / (len(probabilities) - 1)


def dependent_pairs(errors: Any, threshold: float = 0.02, limit: int = 1000) -> DependentPairs:
    """The pairs of examples that deviate from independence (Jordan 2024, Section 3.2 and Figure 13).

    All pairs are looked at, in blocks: one matrix product of bits each, exact; a block whose examples are too nearly
    always right or always wrong to deviate by the threshold (|Cov| <= SD SD) is passed over.

    Args:
        errors: bool [members, examples] or `PackedErrors`.
        threshold: of |joint - product|; the paper's is 0.02.
        limit: how many pairs to list at most.
    """
    bits = packed(errors)
    members, examples = bits.members, bits.examples
    if threshold < 0 or limit < 1:
        raise ValueError(f"threshold must be at least 0 and limit at least 1, not {threshold} and {limit}")
    rates = bits.example_counts() / members
    spreads = np.sqrt(rates * (1 - rates))
    order = np.lexsort((np.arange(examples), -spreads))
    order = order[spreads[order] * spreads[order[0]] > threshold * (1 - 1e-9)]
    rows = bits.by_example(order)
    counts = bits.example_counts()[order]
    found = np.empty((0, 3), np.int64)
    total, by_chance = 0, 0.0
    for first, second in _block_pairs(spreads[order], threshold):
        deviations = _deviations(rows, counts, members, first, second)
        chance = np.outer(spreads[order[first]], spreads[order[second]])
        keep = np.triu(np.ones(deviations.shape, bool), 1) if first == second else np.ones(deviations.shape, bool)
        with np.errstate(divide="ignore"):
            by_chance += 2 * float(ndtr(-threshold * math.sqrt(members) / chance[keep]).sum())
        i, j = np.nonzero(keep & (np.abs(deviations) > threshold * members**2))
        total += len(i)
        hits = np.stack([order[first][i], order[second][j], deviations[i, j].astype(np.int64)], axis=1)
        hits[:, :2].sort(axis=1)
        found = np.concatenate([found, hits])
        found = found[np.lexsort((found[:, 1], found[:, 0], -np.abs(found[:, 2])))][:limit]
    a, b = found[:, 0], found[:, 1]
    product = (1 - rates[a]) * (1 - rates[b])
    deviation = found[:, 2] / members**2
    error = spreads[a] * spreads[b] / math.sqrt(members)
    pairs = examples * (examples - 1) // 2
    return DependentPairs(a, b, product, product + deviation, deviation, error, total, by_chance, pairs)


def example_rates(errors: Any) -> NDArray[np.float64]:
    """The share of members that are wrong on each example, float64 [examples]; rates are passed through, checked."""
    if isinstance(errors, np.ndarray) and errors.dtype.kind == "f" and errors.ndim == 1:
        if errors.size == 0 or not ((errors >= 0) & (errors <= 1)).all():
            raise ValueError("rates must be in 0..1, at least one")
        return errors.astype(np.float64)
    bits = packed(errors, least_members=1)
    return bits.example_counts() / bits.members


def _block_pairs(spreads: NDArray[np.float64], threshold: float) -> Iterator[tuple[slice, slice]]:
    """Pairs of blocks of examples, sorted by falling spread, that can hold a pair above the threshold."""
    starts = range(0, len(spreads), _EXAMPLES)
    for i in starts:
        for j in range(i, len(spreads), _EXAMPLES):
            if spreads[i] * spreads[j] > threshold * (1 - 1e-9):
                yield slice(i, i + _EXAMPLES), slice(j, j + _EXAMPLES)


def _deviations(
    rows: NDArray[np.uint8], counts: NDArray[np.int64], members: int, first: slice, second: slice
) -> NDArray[np.float64]:
    """R^2 (joint - product) for a block of pairs: R * (members wrong on both) - (wrong on one) * (wrong on other)."""
    both = np.zeros((len(counts[first]), len(counts[second])))
    for start in range(0, rows.shape[1], _MEMBERS // 8):
        part = slice(start, start + _MEMBERS // 8)
        left = np.unpackbits(rows[first, part], axis=1).astype(np.float32)
        right = left if first == second else np.unpackbits(rows[second, part], axis=1).astype(np.float32)
        both += left @ right.T  # counts up to 8,192: exact in float32
    return members * both - np.outer(counts[first], counts[second]).astype(np.float64)

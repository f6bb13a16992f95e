"""Slow, obvious versions of every metric, the oracle of test_metrics*.py: loops, SciPy, exact fractions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
from scipy.special import log_softmax
from scipy.stats import pearsonr, spearmanr


def accuracy(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([100.0 * (member.argmax(axis=1) == y).sum() / y.size for member in z])


def cross_entropy(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([-log_softmax(m.astype(np.float64), axis=1)[np.arange(y.size), y].mean() for m in z])


def disagreement_of_pair(a: np.ndarray, b: np.ndarray) -> float:
    return 100.0 * (a.argmax(axis=1) != b.argmax(axis=1)).mean()


def spearman_of_pair(a: np.ndarray, b: np.ndarray) -> float:
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


def pearson_of_pair(a: np.ndarray, b: np.ndarray) -> float:
    return float(pearsonr(a.ravel().astype(np.float64), b.ravel().astype(np.float64)).statistic)


def exact_argmax(rows: list[np.ndarray]) -> int:
    """The lowest class of the largest exact sum of the rows, each float32 [classes]."""
    sums = [sum((Fraction(float(row[c])) for row in rows), Fraction(0)) for c in range(rows[0].size)]
    return sums.index(max(sums))


def ensemble_delta_of_pair(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> float:
    pair = sum(exact_argmax([a[e], b[e]]) == y[e] for e in range(y.size))
    single = [int((member.argmax(axis=1) == y).sum()) for member in (a, b)]
    return 100.0 * (pair - sum(single) / 2) / y.size


def ensemble_cross_entropy_delta_of_pair(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> float:
    mean = (a.astype(np.float64) + b.astype(np.float64)) / 2
    return float(cross_entropy(mean[None], y)[0] - cross_entropy(np.stack([a, b]), y).mean())


def over_pairs(z: np.ndarray, of_pair: Callable[[np.ndarray, np.ndarray], float]) -> float:
    values = [of_pair(a, b) for a, b in pairs(z)]
    return math.fsum(values) / len(values)


def pairs(z: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for i in range(len(z)):
        for j in range(i + 1, len(z)):
            yield z[i], z[j]


def philox4x32(counter: list[int], key: list[int]) -> list[int]:
    """Ten rounds of Philox4x32 (Salmon et al., 2011)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def bootstrap_sd_error(values: np.ndarray, resamples: int, seed: int) -> float:
    """The standard deviation, over resamples of the members, of the standard deviation of `values`."""
    members, bootstrap = values.size, 7
    deviations = []
    for resample in range(resamples):
        draws: list[int] = []
        for block in range((members + 3) // 4):
            draws += philox4x32([resample, 0, block, bootstrap], [seed & 0xFFFFFFFF, seed >> 32])
        picked = [values[(draw * members) >> 32] for draw in draws[:members]]
        deviations.append(np.std(picked))
    return float(np.std(deviations))


def linear_cka(a: np.ndarray, b: np.ndarray) -> float:
    """Through the Gram matrices, centred with the centring matrix (Kornblith et al., 2019)."""
    n = len(a)
    x, y = a.reshape(n, -1).astype(np.float64), b.reshape(n, -1).astype(np.float64)
    centring = np.eye(n) - 1.0 / n
    k, m = centring @ x @ x.T @ centring, centring @ y @ y.T @ centring
    return float(np.trace(k @ m) / math.sqrt(np.trace(k @ k) * np.trace(m @ m)))

"""One number for each run, and what is known of it example by example: what comparisons take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from popnet.metrics.theory.packed import as_array, packed

ROUNDING = 1e-12
"""Differences below this share of the values are what rounding leaves, and count as none."""

_LARGEST = 1e150
"""Beyond it squares leave float64's range."""


class TooLittleError(ValueError):
    """The results given are sound, but cannot tell what was asked: too few of them, or equal ones."""


@dataclass(frozen=True)
class Sample:
    """One number for each run of a population, and what is known of it example by example.

    Attributes:
        values: float64 [members], the mean over examples of each run.
        example_means: float64 [examples], the mean over runs on each example; None where only `values` are known.
        own_variance: the part of the values' variance that independent examples explain: the sum over examples of the
            variance between runs (ddof 1), over n^2.
    """

    values: NDArray[np.float64]
    example_means: NDArray[np.float64] | None = None
    own_variance: float = 0.0

    @classmethod
    def of_values(cls, values: Any) -> Sample:
        """From any scalar of each run: finite numbers [members]."""
        array = as_array(values)
        if array.ndim != 1 or array.dtype.kind not in "fiu" or not array.size:
            raise ValueError(f"values must be finite numbers [members], not {array.dtype} {list(array.shape)}")
        wrong = np.flatnonzero(~np.isfinite(array))
        if wrong.size:
            raise ValueError(f"values must be finite numbers, but that of run {wrong[0]} is {array[wrong[0]]}")
        return cls(array.astype(np.float64))

    @classmethod
    def of_errors(cls, errors: Any) -> Sample:
        """Accuracies in percent, from errors: bool [members, examples] or `PackedErrors`."""
        bits = packed(errors, least_members=1)
        counts, members = bits.example_counts(), bits.members
        own = int((counts * (members - counts)).sum()) / (members * (members - 1)) if members > 1 else 0.0
        values = 100 * (bits.examples - bits.member_counts()) / bits.examples
        return cls(values, 100 * (1 - counts / members), 1e4 * own / bits.examples**2)

    @classmethod
    def of_losses(cls, losses: NDArray[np.float64]) -> Sample:
        """From the loss, or any score, of each run on each example: float64 [members, examples]."""
        own = float(losses.var(axis=0, ddof=1).sum()) / losses.shape[1] ** 2 if len(losses) > 1 else 0.0
        return cls(losses.mean(axis=1), losses.mean(axis=0), own)

    def check_finite(self, name: str) -> None:
        """Raises ValueError, naming run or example, for a value of the sample `name` beyond computing."""
        for index, value in enumerate(self.values.tolist()):
            if not abs(value) < _LARGEST:
                raise ValueError(f"run {index} of {name} has the value {value}, which is no number to compute with")
        if self.example_means is not None:
            wrong = np.flatnonzero(~(np.abs(self.example_means) < _LARGEST))
            if wrong.size:
                value = self.example_means[wrong[0]]
                raise ValueError(
                    f"example {wrong[0]} of {name} has the value {value}, which is no number to compute with"
                )

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    @property
    def constant(self) -> bool:
        """Whether all runs have the same value, but for rounding."""
        return float(np.ptp(self.values)) <= ROUNDING * float(np.abs(self.values).max())

    @property
    def variance(self) -> float:
        """Between runs, ddof 1; exactly 0 for equal values, NaN for one run."""
        if len(self.values) == 1:
            return math.nan
        deviations = self.values - self.values[0]
        mean = math.fsum(deviations) / len(deviations)
        return math.fsum((deviations - mean) ** 2) / (len(deviations) - 1)

    @property
    def distribution_variance(self) -> float:
        """Theorem 2's estimate (Jordan 2024); NaN where nothing is known by example, or there is one run."""
        if self.example_means is None or len(self.example_means) < 2:
            return math.nan
        examples = len(self.example_means)
        return examples / (examples - 1) * (self.variance - self.own_variance)


def signed_sd(variance: float) -> float:
    """The root of a variance's amount, with its sign: the SD, or a negative number for a negative estimate."""
    return math.copysign(math.sqrt(abs(variance)), variance)


def example_losses(logits: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cross-entropy on each example, nats: float64 [examples], from the logits [examples, classes] of one run."""
    wide = logits.astype(np.float64)
    highest = wide.max(axis=1, keepdims=True)
    total = np.log(np.exp(wide - highest).sum(axis=1)) + highest[:, 0]
    return np.asarray(total - wide[np.arange(len(labels)), labels])

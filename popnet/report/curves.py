"""What changes over training: the spread of a population after each epoch (Summers & Dinneen 2021, Figure 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from popnet.report.measured import Row


@dataclass(frozen=True)
class Spread:
    """How much a population differs after each evaluated epoch.

    Attributes:
        epochs: int64 [points], from 1.
        range: float64 [points], between which the middle 95% of the members lie.
        sd: float64 [points], ddof 0.
    """

    epochs: NDArray[np.int64]
    range: NDArray[np.float64]
    sd: NDArray[np.float64]

    def until(self, epoch: int) -> Spread:
        """The same up to an epoch."""
        kept = self.epochs <= epoch
        return Spread(self.epochs[kept], self.range[kept], self.sd[kept])


def spread(row: Row, metric: str) -> Spread | None:
    """The spread of `accuracy` or `cross_entropy`; None where fewer than three epochs were evaluated in all members."""
    values = row.curves.get(metric)
    if values is None:
        return None
    evaluated = np.flatnonzero(np.isfinite(values).all(axis=0))
    if len(evaluated) < 3:
        return None
    low, high = np.quantile(values[:, evaluated], [0.025, 0.975], axis=0)
    return Spread(evaluated + 1, high - low, values[:, evaluated].std(axis=0))

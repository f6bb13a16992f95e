"""How alike a row's runs represent the test images, layer by layer, beside what unrelated representations come to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from popnet.report.quantities import Value


@dataclass(frozen=True)
class Layer:
    """One layer's linear CKA.

    Attributes:
        value: the mean over pairs of runs, with its jackknife error.
        floor: what the same estimator gives for unrelated representations, averaged over the pairs; its error is the
            standard deviation of a single pair.
        runs: how many were compared.
    """

    value: Value
    floor: Value
    runs: int

    @property
    def above_floor(self) -> Value:
        """On a scale on which the noise floor is 0 and equality 1, whatever the estimator: (CKA - floor) / (1 - floor).

        The error is that of the value; the floor is taken as known.
        """
        rest = 1.0 - self.floor.value
        return Value((self.value.value - self.floor.value) / rest, self.value.error / rest)

    @property
    def is_noise(self) -> bool:
        """Whether the value is not clearly above the floor: by less than twice both errors together, or unknown."""
        errors = [0.0 if math.isnan(error) else error for error in (self.value.error, self.floor.error)]
        return not self.value.value - self.floor.value > 2.0 * math.hypot(*errors)


@dataclass(frozen=True)
class Similarity:
    """A row's layers, by name in the file's order; on how many examples, and by which estimator."""

    layers: Mapping[str, Layer]
    examples: int
    estimator: str

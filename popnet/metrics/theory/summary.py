"""Everything that the theory says of one population, in one row."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from popnet.metrics.theory.calibration import disagreement_check
from popnet.metrics.theory.decorrelation import split_halves
from popnet.metrics.theory.independence import dependent_pairs
from popnet.metrics.theory.packed import PackedErrors
from popnet.metrics.theory.tasks import binary_tasks
from popnet.metrics.theory.variance import (
    binary_variance,
    binomial_variance,
    distribution_variance_interval,
    independent_errors_sd,
    observed_variance,
    signed_sd,
    variance_lower_bound,
)

LEAST_MEMBERS = 8
"""Of which a summary can be made."""


@dataclass(frozen=True)
class Summary:
    """One row of a table; errors, SDs and gains in percent, unlike elsewhere in this package.

    Attributes:
        members, examples, classes.
        error: the mean error.
        sd: between runs on the test set (ddof 1).
        independent_sd: if errors were independent.
        distribution_sd, _low, _high: on the distribution (Theorem 2), with a 95% interval; of a negative variance,
            minus the root of its amount.
        lower_bound_sd, binary_sd, binomial_sd: sqrt(err / (n k)), sqrt(err / (2 n)) and sqrt(err (1 - err) / n).
        disagreement: between pairs of runs; the error, under class-wise calibration (Theorem 5).
        halves_correlation, _low, _high, halves_p_value: of the error on examples of even and odd index, over runs.
        gain_on_first, gain_on_second, _low, _high: what the best quarter of the runs by the first half gain there, and
            on the second half.
        dependent_pairs, pairs_by_chance: of examples whose errors deviate by over 2% from independence, and how many
            independent errors would show with so many runs.
        tasks_r_squared, tasks_r_squared_binomial: of the SDs of the binary tasks as err / (2 n) predicts them.
    """

    members: int
    examples: int
    classes: int
    error: float
    sd: float
    independent_sd: float
    distribution_sd: float
    distribution_sd_low: float
    distribution_sd_high: float
    lower_bound_sd: float
    binary_sd: float
    binomial_sd: float
    disagreement: float
    halves_correlation: float
    halves_correlation_low: float
    halves_correlation_high: float
    halves_p_value: float
    gain_on_first: float
    gain_on_second: float
    gain_on_second_low: float
    gain_on_second_high: float
    dependent_pairs: int
    pairs_by_chance: float
    tasks_r_squared: float
    tasks_r_squared_binomial: float

    def as_dict(self) -> dict[str, float]:
        """The fields by name."""
        return asdict(self)


def summarise(predictions: Any, labels: Any, classes: int | None = None) -> Summary:
    """Every statistic of the theory for one population.

    Args:
        predictions: integers [members, examples], the predicted classes, at least 8 members.
        labels: integers [examples].
        classes: by default the largest class plus 1.
    """
    bits = PackedErrors.from_predictions(predictions, labels)
    check, halves = disagreement_check(predictions, labels), split_halves(bits)
    pairs, tasks = dependent_pairs(bits, limit=1), binary_tasks(predictions, labels, classes)
    genuine, error = distribution_variance_interval(bits), check.error
    count = tasks.sides.shape[1]
    correlation, gain = halves.halves.correlation, halves.gain

    def percent(variance: float) -> float:
        return 100 * signed_sd(variance)

    return Summary(
        members=bits.members,
        examples=bits.examples,
        classes=count,
        error=100 * error,
        sd=100 * math.sqrt(observed_variance(bits)),
        independent_sd=100 * independent_errors_sd(bits),
        distribution_sd=percent(genuine.value),
        distribution_sd_low=percent(genuine.low),
        distribution_sd_high=percent(genuine.high),
        lower_bound_sd=percent(variance_lower_bound(error, bits.examples, count)),
        binary_sd=percent(binary_variance(error, bits.examples)),
        binomial_sd=percent(binomial_variance(error, bits.examples)),
        disagreement=100 * check.disagreement,
        halves_correlation=correlation.value,
        halves_correlation_low=correlation.low,
        halves_correlation_high=correlation.high,
        halves_p_value=halves.halves.p_value,
        gain_on_first=100 * gain.on_first,
        gain_on_second=100 * gain.on_second.value,
        gain_on_second_low=100 * gain.on_second.low,
        gain_on_second_high=100 * gain.on_second.high,
        dependent_pairs=pairs.count,
        pairs_by_chance=pairs.expected_by_chance,
        tasks_r_squared=tasks.r_squared,
        tasks_r_squared_binomial=tasks.r_squared_binomial,
    )

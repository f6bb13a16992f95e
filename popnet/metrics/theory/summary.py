"""Everything that the theory says of one population, in one row."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from popnet.metrics.theory.calibration import disagreement_check
from popnet.metrics.theory.decorrelation import split_halves
from popnet.metrics.theory.independence import dependent_pairs, independent_errors_distribution
from popnet.metrics.theory.packed import PackedErrors
from popnet.metrics.theory.resampled import Resampled, resample
from popnet.metrics.theory.tasks import BinaryTasks, binary_tasks
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

_FARTHEST = 0.957
"""Times 1 / sqrt(runs): the 95% point of the distance between the distribution of runs and the normal one of their own
mean and of known SD, which is the limit of independent errors whose rates are the runs' own. Simulated, 4,000 times
2,000 runs; of a distribution that is known beforehand it is Kolmogorov's 1.358.
"""

_STEPS = 0.583
"""Times the root of the largest step: how much nearer a walk stays that is looked at in steps (Siegmund 1985)."""


@dataclass(frozen=True)
class Summary:
    """One row of a table; errors, SDs and gains in percent, unlike elsewhere in this package.

    A field NAME_error is the standard error of NAME: bootstrap over the runs, on the same test set, where nothing else
    is said.

    Attributes:
        members, examples, classes.
        error, _error: the mean error; over runs.
        accuracy_range: highest minus lowest accuracy.
        sd, _error: between runs on the test set (ddof 1).
        independent_sd, _error: if errors were independent, with ddof 1 as well, so that `sd` can be set against it.
        independent_share, _error: independent_sd / sd.
        independence_distance, independence_by_chance: the largest distance between the runs' cumulative distribution of
            accuracy and that of independent errors, in percent of the runs, and what 95% of as many independent runs
            would stay below, of which the examples' error rates were taken too.
        distribution_sd, _low, _high: on the distribution (Theorem 2), with a 95% interval over runs and examples; of a
            negative variance, minus the root of its amount.
        distribution_variance, _error: the same as a variance, in points squared; over runs and examples.
        genuine_share, _error: distribution_variance over the variance on the test set; over runs and examples.
        covariance_share, _error: the covariance of the two halves' errors, another unbiased estimate of the variance on
            the distribution, over Theorem 2's.
        lower_bound_sd, binary_sd, binomial_sd: sqrt(err / (n k)), sqrt(err / (2 n)) and sqrt(err (1 - err) / n).
        binomial_ratio, _error: the binomial variance over that on the test set.
        disagreement: between pairs of runs; the error, under class-wise calibration (Theorem 5).
        disagreement_ratio, _error: disagreement over error; over runs and examples.
        halves_correlation, _low, _high, halves_p_value: of the error on examples of even and odd index, over runs.
        gain_on_first, gain_on_second, _low, _high: what the best quarter of the runs by the first half gain there, and
            on the second half.
        gain_kept, _error: gain_on_second / gain_on_first.
        dependent_pairs, pairs_by_chance: of examples whose errors deviate by over 2% from independence, and how many
            independent errors would show with so many runs.
        tasks_r_squared, _error, tasks_r_squared_binomial: of the SDs of the binary tasks as err / (2 n) predicts them.
        tasks_ratio, _error: the variances of the binary tasks over what err / (2 n) says, summed over tasks first.
    """

    members: int
    examples: int
    classes: int
    error: float
    error_error: float
    accuracy_range: float
    sd: float
    sd_error: float
    independent_sd: float
    independent_sd_error: float
    independent_share: float
    independent_share_error: float
    independence_distance: float
    independence_by_chance: float
    distribution_sd: float
    distribution_sd_low: float
    distribution_sd_high: float
    distribution_variance: float
    distribution_variance_error: float
    genuine_share: float
    genuine_share_error: float
    covariance_share: float
    covariance_share_error: float
    lower_bound_sd: float
    binary_sd: float
    binomial_sd: float
    binomial_ratio: float
    binomial_ratio_error: float
    disagreement: float
    disagreement_ratio: float
    disagreement_ratio_error: float
    halves_correlation: float
    halves_correlation_low: float
    halves_correlation_high: float
    halves_p_value: float
    gain_on_first: float
    gain_on_second: float
    gain_on_second_low: float
    gain_on_second_high: float
    gain_kept: float
    gain_kept_error: float
    dependent_pairs: int
    pairs_by_chance: float
    tasks_r_squared: float
    tasks_r_squared_error: float
    tasks_r_squared_binomial: float
    tasks_ratio: float
    tasks_ratio_error: float

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
    check, draws = disagreement_check(predictions, labels), resample(predictions, labels, classes)
    pairs = dependent_pairs(bits, limit=1)
    fields = _spread(bits, draws, check.error) | _genuine(bits, draws) | _luck(bits, draws)
    fields |= _tasks(binary_tasks(predictions, labels, classes), draws, check.error, bits.examples)
    return Summary(
        members=bits.members,
        examples=bits.examples,
        error=100 * check.error,
        disagreement=100 * check.disagreement,
        disagreement_ratio=check.ratio.value,
        disagreement_ratio_error=check.ratio.standard_error,
        dependent_pairs=pairs.count,
        pairs_by_chance=pairs.expected_by_chance,
        **fields,
    )


Fields = dict[str, Any]


def _spread(bits: PackedErrors, draws: Resampled, error: float) -> Fields:
    """The spread on the test set, beside independent errors and the binomial assumption."""
    rates = bits.member_counts() / bits.examples
    variance, binomial = observed_variance(bits), binomial_variance(error, bits.examples)
    sd_error = draws.error_of(lambda d: np.sqrt(d.variance))
    independent = independent_errors_sd(bits) * math.sqrt(bits.members / (bits.members - 1))
    return {
        "error_error": 100 * math.sqrt(variance / bits.members),
        "accuracy_range": 100 * float(rates.max() - rates.min()),
        "sd": 100 * math.sqrt(variance),
        "sd_error": 100 * sd_error,
        "independent_sd": 100 * independent,
        "independent_sd_error": 100 * draws.error_of(lambda d: np.sqrt(d.independent_variance)),
        "independent_share": _over(independent, math.sqrt(variance)),
        "independent_share_error": draws.error_of(lambda d: np.sqrt(d.independent_variance / d.variance)),
        "independence_distance": 100 * _distance(bits),
        "independence_by_chance": 100 * _distance_by_chance(bits),
        "binomial_sd": 100 * math.sqrt(binomial),
        "binomial_ratio": _over(binomial, variance),
        "binomial_ratio_error": 2 * _over(binomial, variance) * _over(sd_error, math.sqrt(variance)),
    }


def _genuine(bits: PackedErrors, draws: Resampled) -> Fields:
    """The variance on the distribution, by Theorem 2 and by the covariance of two halves."""
    genuine, variance = distribution_variance_interval(bits), observed_variance(bits)
    covariance = split_halves(bits).halves.covariance
    return {
        "distribution_sd": 100 * signed_sd(genuine.value),
        "distribution_sd_low": 100 * signed_sd(genuine.low),
        "distribution_sd_high": 100 * signed_sd(genuine.high),
        "distribution_variance": 1e4 * genuine.value,
        "distribution_variance_error": 1e4 * genuine.standard_error,
        "genuine_share": _over(genuine.value, variance),
        "genuine_share_error": _over(genuine.standard_error, variance),
        "covariance_share": _over(covariance, genuine.value),
        "covariance_share_error": draws.error_of(lambda d: d.halves_covariance / d.distribution_variance),
    }


def _luck(bits: PackedErrors, draws: Resampled) -> Fields:
    """Whether luck on the examples of even index carries over to those of odd index."""
    halves = split_halves(bits)
    correlation, gain = halves.halves.correlation, halves.gain
    return {
        "halves_correlation": correlation.value,
        "halves_correlation_low": correlation.low,
        "halves_correlation_high": correlation.high,
        "halves_p_value": halves.halves.p_value,
        "gain_on_first": 100 * gain.on_first,
        "gain_on_second": 100 * gain.on_second.value,
        "gain_on_second_low": 100 * gain.on_second.low,
        "gain_on_second_high": 100 * gain.on_second.high,
        "gain_kept": _over(gain.on_second.value, gain.on_first),
        "gain_kept_error": draws.error_of(lambda d: d.gain_on_second / d.gain_on_first),
    }


def _tasks(tasks: BinaryTasks, draws: Resampled, error: float, examples: int) -> Fields:
    """What calibration says of the variance: of all classes a bound, of the binary tasks made of them its size."""
    count = tasks.sides.shape[1]
    return {
        "classes": count,
        "lower_bound_sd": 100 * math.sqrt(variance_lower_bound(error, examples, count)),
        "binary_sd": 100 * math.sqrt(binary_variance(error, examples)),
        "tasks_r_squared": tasks.r_squared,
        "tasks_r_squared_error": draws.error_of(lambda d: d.tasks_r_squared),
        "tasks_r_squared_binomial": tasks.r_squared_binomial,
        "tasks_ratio": _over(float(tasks.variance.sum()), float(tasks.predicted.sum())),
        "tasks_ratio_error": draws.error_of(lambda d: d.tasks_ratio),
    }


def _distance(bits: PackedErrors) -> float:
    """Between the cumulative distributions of the runs' errors and of independent ones, at the farthest."""
    foreseen = np.cumsum(independent_errors_distribution(bits))
    seen = np.cumsum(np.bincount(bits.member_counts(), minlength=len(foreseen))) / bits.members
    return float(np.abs(seen - foreseen).max())


def _distance_by_chance(bits: PackedErrors) -> float:
    """What that distance is below in 95% of populations of independent errors."""
    step = float(independent_errors_distribution(bits).max())
    return (_FARTHEST - _STEPS * math.sqrt(step)) / math.sqrt(bits.members)


def _over(above: float, below: float) -> float:
    """NaN where there is nothing to divide by."""
    return above / below if below else math.nan

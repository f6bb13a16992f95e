"""Is A better than B? Two populations compared, with intervals that say for what: new runs, or new examples as well."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq
from scipy.special import logsumexp

from popnet.metrics.inputs import Array, labels_array, logits_array
from popnet.metrics.power import runs_needed
from popnet.metrics.resampling import bootstrap_draws
from popnet.metrics.theory.packed import PackedErrors, as_array, packed
from popnet.metrics.theory.variance import signed_sd

RESAMPLES = 10_000

Method = Literal["welch", "bootstrap"]
Interval = tuple[float, float]


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
        """From any scalar of each run: numbers [members], at least 2, finite."""
        array = as_array(values)
        if array.ndim != 1 or array.dtype.kind not in "fiu" or array.size < 2 or not np.isfinite(array).all():
            raise ValueError(
                f"values must be finite numbers [members], at least 2, not {array.dtype} {list(array.shape)}"
            )
        return cls(array.astype(np.float64))

    @classmethod
    def of_errors(cls, errors: Any) -> Sample:
        """Accuracies in percent, from errors: bool [members, examples] or `PackedErrors`."""
        bits = packed(errors)
        counts = bits.example_counts()
        own = int((counts * (bits.members - counts)).sum()) / (bits.members * (bits.members - 1))
        values = 100 * (bits.examples - bits.member_counts()) / bits.examples
        return cls(values, 100 * (1 - counts / bits.members), 1e4 * own / bits.examples**2)

    @classmethod
    def of_losses(cls, losses: NDArray[np.float64]) -> Sample:
        """From the loss of each run on each example, float64 [members, examples]."""
        own = float(losses.var(axis=0, ddof=1).sum()) / losses.shape[1] ** 2
        return cls(losses.mean(axis=1), losses.mean(axis=0), own)

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    @property
    def variance(self) -> float:
        """Between runs, ddof 1; exactly 0 for equal values."""
        deviations = self.values - self.values[0]
        mean = math.fsum(deviations) / len(deviations)
        return math.fsum((deviations - mean) ** 2) / (len(deviations) - 1)

    @property
    def distribution_variance(self) -> float:
        """Theorem 2's estimate; NaN where nothing is known by example."""
        if self.example_means is None or len(self.example_means) < 2:
            return math.nan
        examples = len(self.example_means)
        return examples / (examples - 1) * (self.variance - self.own_variance)


@dataclass(frozen=True)
class Comparison:
    """A against B in one metric.

    Attributes:
        metric, unit: what was compared, and its unit (points, nats, ...).
        higher_is_better: which of two values wins.
        members_a, members_b: runs of each.
        mean_a, mean_b, sd_a, sd_b: over runs; SDs have ddof 1.
        difference: mean_a - mean_b.
        low, high: its confidence interval over new runs, on this test set.
        low_new_examples, high_new_examples: over new runs and new examples from the same distribution; NaN where
            nothing is known by example. Never narrower than the other.
        p_value: two-sided, that the difference is 0 on this test set.
        method: `welch`, `bootstrap` (studentised), or `paired` before it where runs were matched.
        wins: the share of pairs of a run of A and one of B in which A is better, ties half; if paired, of the matched
            pairs.
        wins_low, wins_high: its interval (Newcombe 2006; Wilson's for matched pairs).
        distribution_sd_a, distribution_sd_b: the SD between runs on the distribution itself (Jordan 2024, Theorem 2),
            the root of the amount with the sign of a negative estimate; NaN where nothing is known by example.
        sd_differences: of the differences between matched runs (ddof 1); NaN where runs were not matched.
        confidence: of the intervals.
    """

    metric: str
    unit: str
    higher_is_better: bool
    members_a: int
    members_b: int
    mean_a: float
    mean_b: float
    sd_a: float
    sd_b: float
    difference: float
    low: float
    high: float
    low_new_examples: float
    high_new_examples: float
    p_value: float
    method: str
    wins: float
    wins_low: float
    wins_high: float
    distribution_sd_a: float
    distribution_sd_b: float
    sd_differences: float
    confidence: float

    @property
    def interval(self) -> Interval:
        return self.low, self.high

    @property
    def found(self) -> bool:
        """Whether the interval over new runs leaves out 0."""
        return not self.low <= 0 <= self.high

    @property
    def holds_for_new_examples(self) -> bool:
        """Whether the interval over new runs and new examples leaves out 0."""
        return not math.isnan(self.low_new_examples) and not self.low_new_examples <= 0 <= self.high_new_examples

    @cached_property
    def runs_needed(self) -> int | None:
        """How many runs of each find a difference as large as this one with a power of 80%; None for no difference."""
        if not self.difference:
            return None
        if math.isnan(self.sd_differences):
            return runs_needed(self.difference, self.sd_a, self.sd_b)
        return runs_needed(self.difference, self.sd_differences, paired=True)

    def as_dict(self) -> dict[str, Any]:
        """The fields and `runs_needed` by name, one row of a table."""
        return asdict(self) | {"runs_needed": self.runs_needed}

    def sentence(self, name_a: str = "A", name_b: str = "B") -> str:
        """The result in plain words."""
        return " ".join(_sentences(self, name_a, name_b))


def compare(
    logits_a: Array,
    logits_b: Array,
    labels: Array,
    metric: Literal["accuracy", "cross_entropy"] = "accuracy",
    *,
    paired: bool = False,
    method: Method = "welch",
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 1,
) -> Comparison:
    """Compare two populations on the same test set.

    Args:
        logits_a, logits_b: float32 [members, examples, classes], NumPy or torch; at least 2 members of each.
        labels: int64 [examples].
        metric: `accuracy` (points of a percent) or `cross_entropy` (nats).
        paired: run r of A belongs to run r of B (equal seeds).
        method: of the interval over new runs, Welch's t or a studentised bootstrap.
        resamples, seed: of the bootstrap.
    """
    if metric not in ("accuracy", "cross_entropy"):
        raise ValueError(f"metric must be 'accuracy' or 'cross_entropy', not {metric!r}")
    a, b = logits_array(logits_a, "logits_a"), logits_array(logits_b, "logits_b")
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(
            f"logits_a and logits_b must be of the same examples and classes, not {a.shape[1:]} and {b.shape[1:]}"
        )
    truth = labels_array(labels, a.shape[1], a.shape[2])
    samples = [logits_sample(z, truth, metric) for z in (a, b)]
    unit = "points" if metric == "accuracy" else "nats"
    return compare_samples(
        *samples,
        metric=metric,
        unit=unit,
        higher_is_better=metric == "accuracy",
        paired=paired,
        method=method,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


def logits_sample(logits: NDArray[np.float32], labels: NDArray[np.int64], metric: str) -> Sample:
    """The `Sample` of a metric of logits [members, examples, classes], checked before."""
    if metric == "accuracy":
        return Sample.of_errors(PackedErrors.pack(logits.argmax(axis=2) != labels))
    return Sample.of_losses(np.stack([example_losses(member, labels) for member in logits]))


def example_losses(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cross-entropy on each example, nats: float64 [examples], from the logits [examples, classes] of one run."""
    wide = logits.astype(np.float64)
    return np.asarray(logsumexp(wide, axis=1) - wide[np.arange(len(labels)), labels])


def compare_values(
    values_a: Any, values_b: Any, *, metric: str = "value", unit: str = "", **options: Any
) -> Comparison:
    """Compare any scalar of each run: numbers [members]. Options as of `compare_samples`."""
    return compare_samples(Sample.of_values(values_a), Sample.of_values(values_b), metric=metric, unit=unit, **options)


def compare_samples(
    a: Sample,
    b: Sample,
    *,
    metric: str = "value",
    unit: str = "",
    higher_is_better: bool = True,
    paired: bool = False,
    method: Method = "welch",
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 1,
) -> Comparison:
    """Compare two samples; what `compare` and `compare_values` do after reading theirs."""
    if min(len(a.values), len(b.values)) < 2:
        raise ValueError(f"a comparison needs at least 2 runs of each, not {len(a.values)} and {len(b.values)}")
    if paired and len(a.values) != len(b.values):
        raise ValueError(f"paired: A has {len(a.values)} runs and B {len(b.values)}: each needs its partner")
    if method not in ("welch", "bootstrap"):
        raise ValueError(f"method must be 'welch' or 'bootstrap', not {method!r}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    parts = _Parts.of(a, b, paired)
    if method == "bootstrap" and parts.variance > 0:
        (low, high), p_value = _bootstrap_t(a, b, parts, paired, confidence, resamples, seed)
    else:
        (low, high), p_value = _student(parts, confidence)
    wins = _wins(a.values, b.values, higher_is_better, paired)
    wins_low, wins_high = _wins_interval(wins, len(a.values), len(b.values), paired, confidence)
    new_low, new_high = _new_examples(a, b, parts, paired, confidence)
    return Comparison(
        metric=metric,
        unit=unit,
        higher_is_better=higher_is_better,
        members_a=len(a.values),
        members_b=len(b.values),
        mean_a=a.mean,
        mean_b=b.mean,
        sd_a=math.sqrt(a.variance),
        sd_b=math.sqrt(b.variance),
        difference=parts.difference,
        low=low,
        high=high,
        low_new_examples=min(new_low, low),
        high_new_examples=max(new_high, high),
        p_value=p_value,
        method=f"paired {method}" if paired and method == "bootstrap" else "paired" if paired else method,
        wins=wins,
        wins_low=wins_low,
        wins_high=wins_high,
        distribution_sd_a=signed_sd(a.distribution_variance),
        distribution_sd_b=signed_sd(b.distribution_variance),
        sd_differences=math.sqrt(parts.variance * len(a.values)) if paired else math.nan,
        confidence=confidence,
    )


def compare_all(samples: Mapping[str, Sample], **options: Any) -> dict[tuple[str, str], tuple[Comparison, float]]:
    """Every pair of several populations, with its p-value adjusted for their number (Holm). Options as above."""
    pairs = list(itertools.combinations(samples, 2))
    results = [compare_samples(samples[a], samples[b], **options) for a, b in pairs]
    adjusted = holm([result.p_value for result in results])
    return {pair: (result, float(p)) for pair, result, p in zip(pairs, results, adjusted)}


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Holm's adjusted p-values, in the order given: below alpha where Holm's test at level alpha rejects."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


@dataclass(frozen=True)
class _Parts:
    """The difference of two means, the variance of that difference over new runs, and its degrees of freedom."""

    difference: float
    variance: float
    freedom: float

    @classmethod
    def of(cls, a: Sample, b: Sample, paired: bool) -> _Parts:
        if paired:
            differences = Sample(a.values - b.values)
            return cls(differences.mean, differences.variance / len(a.values), len(a.values) - 1.0)
        first, second = a.variance / len(a.values), b.variance / len(b.values)
        total = first + second
        scale = first**2 / (len(a.values) - 1) + second**2 / (len(b.values) - 1)
        freedom = total**2 / scale if scale else float(len(a.values) + len(b.values) - 2)
        return cls(a.mean - b.mean, total, freedom)


def _student(parts: _Parts, confidence: float) -> tuple[Interval, float]:
    error = math.sqrt(parts.variance)
    reach = float(stats.t.ppf((1 + confidence) / 2, parts.freedom)) * error
    if error == 0:
        return (parts.difference, parts.difference), 0.0 if parts.difference else 1.0
    p_value = 2 * float(stats.t.sf(abs(parts.difference) / error, parts.freedom))
    return (parts.difference - reach, parts.difference + reach), p_value


def _bootstrap_t(
    a: Sample, b: Sample, parts: _Parts, paired: bool, confidence: float, resamples: int, seed: int
) -> tuple[Interval, float]:
    """The studentised bootstrap: quantiles of (d* - d) / error* over resamples; those of equal runs are left out."""
    arms = [a.values - b.values] if paired else [a.values, b.values]
    means, variances = np.zeros(resamples), np.zeros(resamples)
    for number, values in enumerate(arms):
        sign = -1.0 if number else 1.0
        step = max(1, 2**22 // len(values))
        for first in range(0, resamples, step):
            rows = range(first, min(first + step, resamples))
            drawn = values[bootstrap_draws(seed, rows, len(values), stream=16 + number)]
            means[rows.start : rows.stop] += sign * drawn.mean(axis=1)
            variances[rows.start : rows.stop] += drawn.var(axis=1, ddof=1) / len(values)
    usable = variances > 1e-12 * parts.variance
    scores = (means[usable] - parts.difference) / np.sqrt(variances[usable])
    if not scores.size:
        return _student(parts, confidence)
    error = math.sqrt(parts.variance)
    low, high = np.quantile(scores, [(1 - confidence) / 2, (1 + confidence) / 2])
    beyond = int((np.abs(scores) >= abs(parts.difference) / error).sum())
    interval = (parts.difference - float(high) * error, parts.difference - float(low) * error)
    return interval, (beyond + 1) / (scores.size + 1)


def _new_examples(a: Sample, b: Sample, parts: _Parts, paired: bool, confidence: float) -> Interval:
    """The interval over new runs and new examples. The noise that both leave is counted once.

    Var = Var over runs + Var_i(difference on example i) / n - what independent examples explain of the first. For
    matched runs, whose noise on an example may be shared, the last term is left in: a little too wide.
    """
    if a.example_means is None or b.example_means is None:
        return math.nan, math.nan
    examples = len(a.example_means)
    if len(b.example_means) != examples or examples < 2:
        return math.nan, math.nan
    over_examples = float((a.example_means - b.example_means).var(ddof=1)) / examples
    counted = 0.0 if paired else a.own_variance / len(a.values) + b.own_variance / len(b.values)
    variance = max(parts.variance + over_examples - counted, parts.variance, over_examples)
    if variance == 0:
        return parts.difference, parts.difference
    freedom = variance**2 / (parts.variance**2 / parts.freedom + over_examples**2 / (examples - 1))
    reach = float(stats.t.ppf((1 + confidence) / 2, max(freedom, 1.0))) * math.sqrt(variance)
    return parts.difference - reach, parts.difference + reach


def _wins(a: NDArray[np.float64], b: NDArray[np.float64], higher_is_better: bool, paired: bool) -> float:
    if not higher_is_better:
        a, b = -a, -b
    if paired:
        return float(((a > b).sum() + 0.5 * (a == b).sum()) / len(a))
    ranked = np.sort(b)
    below = np.searchsorted(ranked, a, side="left").sum()
    not_above = np.searchsorted(ranked, a, side="right").sum()
    return float(below + not_above) / (2 * len(a) * len(b))


def _wins_interval(wins: float, runs_a: int, runs_b: int, paired: bool, confidence: float) -> Interval:
    """The shares p with (wins - p)^2 <= z^2 Var(p): Wilson's for matched pairs, else Newcombe's (2006, method 5)."""
    square = float(stats.norm.ppf((1 + confidence) / 2)) ** 2

    def variance(p: float) -> float:
        if paired:
            return p * (1 - p) / runs_a
        others = (runs_a + runs_b) / 2 - 1
        return p * (1 - p) * (1 + others * ((1 - p) / (2 - p) + p / (1 + p))) / (runs_a * runs_b)

    def outside(p: float) -> float:
        return (wins - p) ** 2 - square * variance(p)

    edge = 1e-12  # at 0 and 1 the share itself is a root
    low = 0.0 if wins <= 0 else float(brentq(outside, 0.0, min(wins, 1 - edge)))
    high = 1.0 if wins >= 1 else float(brentq(outside, max(wins, edge), 1.0))
    return low, high


def _sentences(result: Comparison, name_a: str, name_b: str) -> list[str]:
    ahead = result.difference > 0
    first, second = (name_a, name_b) if ahead == result.higher_is_better else (name_b, name_a)
    unit = f" {result.unit}" if result.unit else ""
    quantity = result.metric.replace("_", "-")
    percent = f"{100 * result.confidence:g}%"
    numbers = (
        f"{percent} interval {_signed(result.low)} to {_signed(result.high)}, {_p(result.p_value)}, "
        f"{result.members_a} and {result.members_b} runs"
    )
    size = f"{_digits(abs(result.difference))}{unit} of {quantity}"
    if not result.difference:
        return [f"{name_a} and {name_b} have the same mean {quantity} ({numbers})."]
    if result.found:
        lines = [f"{first} is better than {second} by {size} ({name_a} minus {name_b}: {numbers})."]
    else:
        lines = [f"These runs do not tell {name_a} from {name_b}: {first} is ahead by {size} ({numbers})."]
        if result.runs_needed is not None:
            lines.append(f"A true difference of that size would take about {result.runs_needed:,} runs of each to see.")
    pairs = "matched pairs of runs" if result.method.startswith("paired") else "pairs of runs"
    lines.append(
        f"{name_a} beats {name_b} in {100 * result.wins:.0f}% of {pairs} "
        f"({100 * result.wins_low:.0f}% to {100 * result.wins_high:.0f}%)."
    )
    if not math.isnan(result.low_new_examples):
        interval = f"{_signed(result.low_new_examples)} to {_signed(result.high_new_examples)}"
        if result.holds_for_new_examples:
            lines.append(f"Other test examples would show it too: for new runs on new examples, {interval}.")
        elif result.found:
            lines.append(
                f"That is a fact about these test examples: for new runs on new examples the interval is {interval}, "
                "and a larger test set, not more runs, would narrow it."
            )
        else:
            lines.append(f"For new runs on new examples, {interval}.")
    return lines


def _digits(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"


def _signed(value: float) -> str:
    return f"{value:+.3g}" if abs(value) < 1 else f"{value:+.2f}"


def _p(value: float) -> str:
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.2g}"

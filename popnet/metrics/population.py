"""How much the members of a population differ: the five metrics of Summers & Dinneen (2021), Section 3.1, and kin.

Everywhere logits are [members, examples, classes], float32 or exactly widened float16 and bfloat16: a torch tensor on
the CPU or a CUDA device, a NumPy array, or a reader of files (`popnet.results.arrays.logits`), of which only blocks are
in memory; labels are int64 [examples]. An argmax takes the lowest class on ties. Equal members give exactly 0
(correlation 1). No result depends on `threads`, on `block` (members that are looked at together), on the order of the
members (but for the resamples and the sample of pairs, which number them) or on the device; `pearson` and the matrix
`Pairwise.pearson` are equal between devices to 1e-9 at least.

ValueError names the argument that is wrong, and the member and example of a value that is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from popnet import native
from popnet.metrics import pairs
from popnet.metrics.correlation import correlation_matrix, rank_correlation_matrix
from popnet.metrics.inputs import Array, at_least_two, labels_array, thread_count
from popnet.metrics.members import DISAGREEMENT, PEARSON, SCORES, SPEARMAN, MembersPass, members_pass
from popnet.metrics.predictions import Predictions, as_predictions
from popnet.metrics.resampling import in_steps

RESAMPLES = 10_000
REDUCTION_METRICS = ("accuracy_sd", "cross_entropy_sd", "disagreement", "spearman", "ensemble_delta")

Logits = Array | Predictions
Metric = Literal["accuracy", "cross_entropy"]


@dataclass(frozen=True)
class Variability:
    """One row of Table 1: accuracies, disagreement and accuracy deltas in percent, cross-entropies in nats.

    Attributes:
        accuracy_sd, cross_entropy_sd: population standard deviations (ddof 0); their `_error` is their standard
            deviation over bootstrap resamples of the members.
        ensemble_delta, ensemble_cross_entropy_delta: means over `ensemble_pairs` pairs; where these are a sample
            (above 2,000 members), `_error` is the mean's standard error, else 0. NaN where not asked for.
    """

    members: int
    accuracy_mean: float
    accuracy_sd: float
    accuracy_sd_error: float
    cross_entropy_mean: float
    cross_entropy_sd: float
    cross_entropy_sd_error: float
    disagreement: float
    spearman: float
    pearson: float
    ensemble_delta: float
    ensemble_cross_entropy_delta: float
    ensemble_pairs: int
    ensemble_delta_error: float = 0.0
    ensemble_cross_entropy_delta_error: float = 0.0

    @property
    def all_pairs(self) -> bool:
        """Whether the ensemble deltas are means over all pairs rather than over a sample."""
        return self.ensemble_pairs == self.members * (self.members - 1) // 2

    def as_dict(self) -> dict[str, float]:
        """The fields by name, one row of a table."""
        return asdict(self)


@dataclass(frozen=True)
class Pairwise:
    """The metrics of every pair of members, each float64 [members, members], symmetric; units as in `Variability`."""

    disagreement: NDArray[np.float64]
    spearman: NDArray[np.float64]
    pearson: NDArray[np.float64]
    ensemble_delta: NDArray[np.float64]
    ensemble_cross_entropy_delta: NDArray[np.float64]


def accuracy(
    logits: Logits, labels: Array, *, threads: int | None = None, block: int | None = None
) -> NDArray[np.float64]:
    """The accuracy of each member, float64 [members], percent."""
    predictions, targets = _checked(logits, labels)
    return _accuracies(members_pass(predictions, targets, [SCORES], thread_count(threads), block), targets.size)


def cross_entropy(
    logits: Logits, labels: Array, *, threads: int | None = None, block: int | None = None
) -> NDArray[np.float64]:
    """The mean cross-entropy of each member, float64 [members], nats; the examples' are summed exactly."""
    predictions, targets = _checked(logits, labels)
    scores = members_pass(predictions, targets, [SCORES], thread_count(threads), block)
    return scores.cross_entropy_sums / targets.size


def disagreement(logits: Logits, *, threads: int | None = None, block: int | None = None) -> float:
    """The mean over pairs of the share of examples whose argmax differs, percent; from votes, so exact."""
    return _unlabelled(logits, DISAGREEMENT, threads, block).disagreement


def spearman(logits: Logits, *, threads: int | None = None, block: int | None = None) -> float:
    """The mean over pairs of Spearman's rho of the flattened logits, average ranks for ties; errs by below 1e-12.

    NaN, with a RuntimeWarning that names the member, where a member's logits are all equal.
    """
    return _unlabelled(logits, SPEARMAN, threads, block).spearman


def pearson(logits: Logits, *, threads: int | None = None, block: int | None = None) -> float:
    """The mean over pairs of Pearson's correlation of the flattened logits; NaN as for `spearman`."""
    return _unlabelled(logits, PEARSON, threads, block).pearson


def ensemble_delta(
    logits: Logits,
    labels: Array,
    metric: Metric = "accuracy",
    *,
    size: int = 2,
    seed: int = 1,
    threads: int | None = None,
) -> float:
    """The mean over ensembles of (metric of the members' mean logits) - (mean of the members' metrics).

    Percent for accuracy, nats for cross_entropy. See `ensemble_delta_mean` for its standard error.
    """
    return ensemble_delta_mean(logits, labels, metric, size=size, seed=seed, threads=threads).mean


def ensemble_delta_mean(
    logits: Logits,
    labels: Array,
    metric: Metric = "accuracy",
    *,
    size: int = 2,
    seed: int = 1,
    threads: int | None = None,
) -> pairs.PairMean:
    """`ensemble_delta` with its standard error and the number of ensembles.

    Args:
        size: 2 for all pairs, whose sums are compared exactly, so that no tie appears by rounding (above 2,000
            members, a sample fixed by (members, seed)); more for disjoint groups of that many, fixed likewise.
        seed: of the sample or the groups.
    """
    if metric not in ("accuracy", "cross_entropy"):
        raise ValueError(f"metric must be 'accuracy' or 'cross_entropy', but is {metric!r}")
    predictions, targets = _checked(logits, labels)
    at_least_two(predictions.members, "ensemble_delta")
    if size < 2:
        raise ValueError(f"size must be at least 2, but is {size}")
    count = thread_count(threads)
    if size > 2:
        value_of = _accuracy_of if metric == "accuracy" else _cross_entropy_of
        return pairs.group_delta(predictions, targets, size, value_of, seed=seed, threads=count)
    if metric == "accuracy":
        return pairs.accuracy_delta(predictions, targets, seed=seed, threads=count)
    return pairs.cross_entropy_delta(predictions, seed=seed, threads=count)


def ensemble_cross_entropy_delta(logits: Logits, labels: Array, *, seed: int = 1, threads: int | None = None) -> float:
    """`ensemble_delta` for cross-entropy, nats."""
    return ensemble_delta(logits, labels, "cross_entropy", seed=seed, threads=threads)


def pairwise(logits: Logits, labels: Array, *, threads: int | None = None) -> Pairwise:
    """The [members, members] matrices of every metric over pairs; all logits and their ranks are held in memory."""
    predictions, targets = _checked(logits, labels)
    at_least_two(predictions.members, "pairwise")
    count = thread_count(threads)
    _, block = next(predictions.blocks(predictions.members, count))
    scores = native.member_scores(block, torch.from_numpy(targets).to(block.device), threads=count)
    differing = native.differing_matrix(scores.predictions, threads=count).cpu().numpy()
    vectors = block.reshape(len(block), -1)
    resident = as_predictions(block)
    return Pairwise(
        disagreement=100.0 * differing / targets.size,
        spearman=rank_correlation_matrix(vectors, count),
        pearson=correlation_matrix(vectors),
        ensemble_delta=pairs.accuracy_delta_matrix(resident, targets, scores.correct.cpu().numpy(), count),
        ensemble_cross_entropy_delta=pairs.cross_entropy_delta_matrix(resident, range(predictions.members), count),
    )


def variability(
    logits: Logits,
    labels: Array,
    *,
    ensemble_cross_entropy: bool = True,
    resamples: int = RESAMPLES,
    bootstrap_seed: int = 1,
    pairs_seed: int = 1,
    threads: int | None = None,
    block: int | None = None,
) -> Variability:
    """Every metric of the population.

    Args:
        ensemble_cross_entropy: whether to evaluate the cross-entropy of ensembles too, the most expensive metric.
        resamples, bootstrap_seed: of the bootstrap behind the standard deviations' errors.
        pairs_seed: of the sample of pairs, above 2,000 members.
        threads: CPU threads; all cores this process may use if not given.
        block: members that are looked at together; as many as fit in 128 MB if not given.
    """
    predictions, targets = _checked(logits, labels)
    at_least_two(predictions.members, "variability")
    count = thread_count(threads)
    one = members_pass(predictions, targets, [SCORES, DISAGREEMENT, SPEARMAN, PEARSON], count, block)
    accuracies, losses = _accuracies(one, targets.size), one.cross_entropy_sums / targets.size
    accuracy_error, loss_error = _bootstrap_errors(one, targets.size, resamples, bootstrap_seed, count)
    delta = pairs.accuracy_delta(predictions, targets, seed=pairs_seed, threads=count)
    loss_delta = pairs.PairMean(math.nan, 0.0, delta.pairs)
    if ensemble_cross_entropy:
        loss_delta = pairs.cross_entropy_delta(predictions, seed=pairs_seed, threads=count)
    return Variability(
        members=predictions.members,
        accuracy_mean=100 * int(one.correct.sum()) / (targets.size * one.correct.size),
        accuracy_sd=standard_deviation(accuracies),
        accuracy_sd_error=accuracy_error,
        cross_entropy_mean=math.fsum(losses) / losses.size,
        cross_entropy_sd=standard_deviation(losses),
        cross_entropy_sd_error=loss_error,
        disagreement=one.disagreement,
        spearman=one.spearman,
        pearson=one.pearson,
        ensemble_delta=delta.mean,
        ensemble_cross_entropy_delta=loss_delta.mean,
        ensemble_pairs=delta.pairs,
        ensemble_delta_error=delta.error,
        ensemble_cross_entropy_delta_error=loss_delta.error,
    )


def variability_reduction(
    single: Variability | Mapping[str, Any],
    mitigated: Variability | Mapping[str, Any],
    correlation: Literal["complement", "raw"] = "complement",
) -> float:
    """The mean over the five metrics of the relative reduction against the single model, percent (Table 5).

    `complement` lets correlation enter as 1 - rho, which reproduces the paper's column; `raw` counts the relative
    increase of rho itself as the improvement, which reproduces the reproduction report's. A value may be a pair
    [value, error], as in published.yaml.
    """
    if correlation not in ("complement", "raw"):
        raise ValueError(f"correlation must be 'complement' or 'raw', but is {correlation!r}")
    reductions = []
    for name in REDUCTION_METRICS:
        before, after = _value(single, name, "single"), _value(mitigated, name, "mitigated")
        if name == "spearman":
            gain = after - before
            reductions.append(gain / (1.0 - before) if correlation == "complement" else gain / before)
        else:
            reductions.append((before - after) / before)
    return 100.0 * math.fsum(reductions) / len(reductions)


def standard_deviation(values: NDArray[Any]) -> float:
    """The population standard deviation (ddof 0): the same for any order of the values, exactly 0 for equal ones."""
    deviations = values - values.min()
    mean = math.fsum(deviations) / values.size
    return math.sqrt(math.fsum((deviations - mean) ** 2) / values.size)


def _checked(logits: Logits, labels: Array) -> tuple[Predictions, NDArray[np.int64]]:
    predictions = as_predictions(logits)
    return predictions, labels_array(labels, predictions.examples, predictions.classes)


def _unlabelled(logits: Logits, metric: str, threads: int | None, block: int | None) -> MembersPass:
    predictions = as_predictions(logits)
    at_least_two(predictions.members, metric)
    return members_pass(predictions, None, [metric], thread_count(threads), block)


def _accuracies(one: MembersPass, examples: int) -> NDArray[np.float64]:
    return 100.0 * one.correct / examples


def _accuracy_of(scores: native.MemberScores) -> NDArray[np.float64]:
    return 100.0 * scores.correct.cpu().numpy() / scores.predictions.shape[1]


def _cross_entropy_of(scores: native.MemberScores) -> NDArray[np.float64]:
    return np.asarray(scores.cross_entropy_sums.numpy() / scores.predictions.shape[1])


def _bootstrap_errors(one: MembersPass, examples: int, resamples: int, seed: int, threads: int) -> tuple[float, float]:
    """The errors of the standard deviations of accuracy (percent) and cross-entropy (nats).

    The resamples are drawn from integers, so that they are exact: right answers, and cross-entropies in steps of
    their range / 2^40 or less.
    """
    losses = one.cross_entropy_sums / examples
    steps, step = in_steps(losses)
    values = np.stack([one.correct - one.correct.min(), steps])
    deviations = native.bootstrap_deviations(
        torch.from_numpy(values), resamples=resamples, seed=seed, threads=threads
    ).numpy()
    errors = [standard_deviation(row) for row in deviations]
    return 100.0 * errors[0] / examples, step * errors[1]


def _value(row: Variability | Mapping[str, Any], name: str, argument: str) -> float:
    value = getattr(row, name, None) if isinstance(row, Variability) else row.get(name)
    if value is None:
        raise ValueError(f"{argument} has no {name}, which variability_reduction needs")
    return float(value[0]) if isinstance(value, (list, tuple)) else float(value)

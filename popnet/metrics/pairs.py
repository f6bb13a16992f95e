"""Ensembles: what the mean of several members' logits changes, over all pairs or a sample of them, and over groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from popnet import native
from popnet.metrics.predictions import Predictions
from popnet.random import Source, permutation

ALL_PAIRS_LIMIT = 2000
"""Above this many members, a sample of pairs stands for all."""

SAMPLE_GROUP = 128
"""All pairs within random disjoint groups of about this many members make the sample."""

_PAIR_SAMPLE = 1  # the epoch of the GROUPS stream that samples pairs; 0 draws the members of ensembles


@dataclass(frozen=True)
class PairMean:
    """A mean over pairs of members, or over disjoint groups.

    Attributes:
        mean: the mean over `pairs`.
        error: its standard error where they are a sample; 0 where they are all pairs.
        pairs: how many pairs (or groups) were looked at.
    """

    mean: float
    error: float
    pairs: int


def accuracy_delta(predictions: Predictions, labels: NDArray[np.int64], *, seed: int, threads: int) -> PairMean:
    """Accuracy of a pair's mean logits minus the mean of their accuracies, percent; pair sums compared exactly."""
    targets = torch.from_numpy(labels).to(predictions.device)

    def gain(members: Sequence[int]) -> int:
        total = 0
        for part, logits, rows in predictions.example_slices(members, native.PAIR_CHUNK, threads):
            total += native.ensemble_gain(logits, targets[part].contiguous(), rows=rows, threads=threads)
        return total

    groups = pair_groups(predictions.members, seed)
    gains = [gain(group) for group in groups]
    pairs = [_pairs(len(group)) for group in groups]
    return PairMean(
        mean=50 * sum(gains) / (labels.size * sum(pairs)),
        error=standard_error([50 * g / (labels.size * p) for g, p in zip(gains, pairs)]),
        pairs=sum(pairs),
    )


def cross_entropy_delta(predictions: Predictions, *, seed: int, threads: int) -> PairMean:
    """Cross-entropy of a pair's mean logits minus the mean of their cross-entropies, nats.

    The labels cancel. Never above 0, but for rounding.
    """
    means, sums, pairs = [], [], []
    for group in pair_groups(predictions.members, seed):
        matrix = cross_entropy_delta_matrix(predictions, group, threads)
        values = matrix[np.triu_indices(len(group), 1)]
        sums.append(math.fsum(values))
        pairs.append(values.size)
        means.append(sums[-1] / values.size)
    return PairMean(math.fsum(sums) / sum(pairs), standard_error(means), sum(pairs))


def cross_entropy_delta_matrix(predictions: Predictions, members: Sequence[int], threads: int) -> NDArray[np.float64]:
    """The delta of every pair of the named members, nats, float64 [m, m], symmetric."""
    shape = (len(members), len(members))
    products = torch.zeros(shape, dtype=torch.float64, device=predictions.device)
    for _, logits, rows in predictions.example_slices(members, native.PAIR_CHUNK, threads):
        native.add_ensemble_log_products(products, logits, rows=rows, threads=threads)
    upper = np.triu(products.cpu().numpy())
    own = np.diagonal(upper)
    deltas = np.triu((upper - (own[:, None] + own[None, :]) / 2) / predictions.examples, 1)
    return deltas + deltas.T


def accuracy_delta_matrix(
    predictions: Predictions, labels: NDArray[np.int64], correct: NDArray[np.int64], threads: int
) -> NDArray[np.float64]:
    """The delta of every pair, percent, float64 [members, members]; correct: right answers of each member."""
    members = predictions.members
    targets = torch.from_numpy(labels).to(predictions.device)
    right = torch.zeros((members, members), dtype=torch.int64, device=predictions.device)
    for part, logits, rows in predictions.example_slices(range(members), native.PAIR_CHUNK, threads):
        native.add_ensemble_correct(right, logits, targets[part].contiguous(), rows=rows, threads=threads)
    gains = np.triu(2 * right.cpu().numpy() - (correct[:, None] + correct[None, :]), 1)
    return 50.0 * (gains + gains.T) / labels.size


def pair_groups(members: int, seed: int) -> list[Sequence[int]]:
    """The groups of members whose pairs are looked at: all members, or above ALL_PAIRS_LIMIT disjoint random groups.

    The groups are fixed by (members, seed) and differ in size by at most one. Their means are independent, which gives
    the standard error; they use almost all that the members know: a mean over all pairs varies nearly as much.
    """
    if members <= ALL_PAIRS_LIMIT:
        return [range(members)]
    order = permutation(seed, _PAIR_SAMPLE, members, source=Source.GROUPS)
    return [sorted(int(i) for i in group) for group in np.array_split(order, members // SAMPLE_GROUP)]


def disjoint_groups(members: int, size: int, seed: int) -> list[list[int]]:
    """Disjoint groups of `size` members, fixed by (members, size, seed); what is left over is not used."""
    order = [int(i) for i in permutation(seed, 0, members, source=Source.GROUPS)]
    return [sorted(order[start : start + size]) for start in range(0, members - size + 1, size)]


def group_delta(
    predictions: Predictions,
    labels: NDArray[np.int64],
    size: int,
    value_of: Callable[[native.MemberScores], NDArray[np.float64]],
    *,
    seed: int,
    threads: int,
) -> PairMean:
    """The metric of the mean logits of disjoint groups of `size` minus the mean of their members' metrics.

    Mean logits are summed in float64 in the members' order and rounded to float32 once.
    """
    groups = disjoint_groups(predictions.members, size, seed)
    if not groups:
        raise ValueError(f"size is {size}, but there are {predictions.members} members")
    targets = torch.from_numpy(labels).to(predictions.device)

    def values(logits: Tensor) -> NDArray[np.float64]:
        return value_of(native.member_scores(logits.contiguous(), targets, threads=threads))

    deltas = []
    for group in groups:
        logits = predictions.read(group, slice(0, predictions.examples))
        total = torch.zeros(logits.shape[1:], dtype=torch.float64, device=logits.device)
        for member in logits:
            total += member
        mean = (total / size).to(torch.float32)
        deltas.append(float(values(mean[None])[0]) - math.fsum(values(logits)) / size)
    return PairMean(math.fsum(deltas) / len(deltas), standard_error(deltas), len(deltas))


def _pairs(members: int) -> int:
    return members * (members - 1) // 2


def standard_error(means: Sequence[float]) -> float:
    """Of the mean of independent numbers; 0 for one, which is then no sample."""
    if len(means) < 2:
        return 0.0
    centre = math.fsum(means) / len(means)
    squares = math.fsum((mean - centre) ** 2 for mean in means)
    return math.sqrt(squares / (len(means) - 1) / len(means))

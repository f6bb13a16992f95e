"""What one look at each member gives: scores, and the means over pairs that need no pair to be looked at.

Blocks of members come and go; what is kept does not grow with the population but by a few numbers a member.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from popnet import native
from popnet.metrics.predictions import Predictions

SCORES, DISAGREEMENT, SPEARMAN, PEARSON = "scores", "disagreement", "spearman", "pearson"


@dataclass(frozen=True)
class MembersPass:
    """The results that were asked for; the others are zeros or NaN."""

    correct: NDArray[np.int64]
    """[members], right answers; zeros where scores were not asked for."""
    cross_entropy_sums: NDArray[np.float64]
    """[members], nats summed over examples."""
    disagreement: float
    """Percent."""
    spearman: float
    pearson: float


def members_pass(
    predictions: Predictions,
    labels: NDArray[np.int64] | None,
    wanted: Collection[str],
    threads: int,
    block: int | None,
) -> MembersPass:
    """One pass over the members in blocks of `block`; the result depends on neither blocks nor threads.

    labels are needed for SCORES only.
    """
    device, examples, classes = predictions.device, predictions.examples, predictions.classes
    scores_wanted = SCORES in wanted or DISAGREEMENT in wanted
    targets = torch.zeros(examples, dtype=torch.int64) if labels is None else torch.from_numpy(labels)
    targets = targets.to(device)
    votes = torch.zeros((examples, classes) if DISAGREEMENT in wanted else (0, 0), dtype=torch.int64, device=device)
    correlations = {
        kind: MeanCorrelation(predictions.members, examples * classes, kind, device)
        for kind in (SPEARMAN, PEARSON)
        if kind in wanted
    }
    # Whole from the start: pieces that stay between the blocks that come and go would keep their memory from reuse.
    correct = np.zeros(predictions.members, dtype=np.int64)
    losses = np.zeros(predictions.members)
    for first, logits in predictions.blocks(block, threads):
        members = slice(first, first + len(logits))
        if scores_wanted:
            scores = native.member_scores(logits, targets, threads=threads)
            correct[members] = scores.correct.cpu().numpy()
            losses[members] = scores.cross_entropy_sums.numpy()
            if DISAGREEMENT in wanted:
                native.add_votes(votes, scores.predictions, threads=threads)
        for correlation in correlations.values():
            correlation.add(members, logits.reshape(len(logits), -1), threads)
    means = {kind: correlation.mean() for kind, correlation in correlations.items()}
    return MembersPass(
        correct=correct,
        cross_entropy_sums=losses,
        disagreement=_disagreement(votes, predictions.members) if DISAGREEMENT in wanted else float("nan"),
        spearman=means.get(SPEARMAN, float("nan")),
        pearson=means.get(PEARSON, float("nan")),
    )


class MeanCorrelation:
    """The mean over pairs of Spearman's or Pearson's correlation, from the sum of normalised vectors.

    The vectors are rounded to multiples of 2^-62, so that the sum is exact in any order; a pair's correlation errs by
    less than 1e-14 for up to 10^8 values (csrc/metrics/correlation.h), and equal members correlate to exactly 1.
    """

    def __init__(self, members: int, values: int, kind: str, device: torch.device) -> None:
        self._sums = torch.zeros((values, 2), dtype=torch.int64, device=device)
        self._squares = np.zeros((members, 2), dtype=np.uint64)
        self._kind = kind

    def add(self, members: slice, vectors: Tensor, threads: int) -> None:
        """vectors: float32 [members, values]."""
        squares = native.add_unit_vectors(self._sums, vectors, ranks=self._kind == SPEARMAN, threads=threads)
        self._squares[members] = squares.cpu().numpy().view(np.uint64)

    def mean(self) -> float:
        """NaN, with a warning that names a member, where a member's values are all equal."""
        squares = self._squares
        constant = np.flatnonzero(~squares.any(axis=1))
        if constant.size:
            warn_constant(int(constant[0]), constant.size, self._kind)
            return float("nan")
        half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
        words = [int(part.sum()) for word in squares.T for part in (word & mask, word >> half)]
        own = sum(word << (32 * place) for place, word in enumerate(words))
        return (native.sum_of_squares(self._sums) - own) / ((len(squares) - 1) * own)


def warn_constant(member: int, count: int, metric: str) -> None:
    """Names the first of `count` members whose logits are all equal."""
    others = f" (and of {count - 1} more)" if count > 1 else ""
    warnings.warn(
        f"all logits of member {member}{others} are equal, so {metric} is undefined: NaN", RuntimeWarning, stacklevel=5
    )


def _disagreement(votes: Tensor, members: int) -> float:
    examples = len(votes)
    agreeing = int((votes * votes).sum())  # ordered pairs, a member with itself included
    return 100 * (members * members * examples - agreeing) / (examples * members * (members - 1))

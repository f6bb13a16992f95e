"""From stored language models to the predictions of a variant, and from these to one row of its table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from popnet import native
from popnet.metrics.language import LanguageVariability, language_variability, perplexity
from popnet.metrics.predictions import Predictions
from popnet.protocol import Member, Plan, Population
from popnet.results.stores.populations import Reason, ensemble_groups, population_table
from popnet.store import LanguagePredictions, Store

WORDS_NOT_KNOWN = "disagreement of ensembles needs all words' probabilities, which are not stored"


@dataclass(frozen=True, eq=False)
class LanguagePopulation:
    """What the metrics of a variant are taken over: members, or ensembles of them.

    A member's snapshots, and an ensemble's members, are averaged as probabilities: the logarithm of their mean, taken
    in float64 (log-sum-exp) and rounded to float32 once.

    Attributes:
        log_probabilities: float32 [members, tokens], of the words that come.
        words: int32 [members, tokens], the most probable ones; None where the mean's are not known.
        logits: [members, positions, vocabulary], read when needed: a single view's as they are, of several the
            logarithm of the mean of their probabilities; None where none are stored.
    """

    log_probabilities: NDArray[np.float32]
    words: NDArray[np.int32] | None
    logits: Predictions | None

    def variability(self, **options: Any) -> LanguageVariability:
        """Every metric; options as of `language_variability`."""
        return language_variability(self.log_probabilities, self.words, self.logits, **options)


def language_population(store: Store, groups: Sequence[Sequence[str]]) -> LanguagePopulation:
    """The predictions of members by id, each an ensemble of its group. Raises StoreError."""
    log_probabilities, words = [], []
    shapes = set()
    for group in groups:
        stored = [store.language_predictions(member_id) for member_id in group]
        log_probabilities.append(_mean([one.target_log_probabilities for one in stored], normalised=True))
        words.append(stored[0].mean_argmax if len(stored) == 1 else None)
        shapes |= {None if one.logits is None else one.logits.shape[1:] for one in stored}
    known = [one for one in words if one is not None]
    shape = shapes.pop() if len(shapes) == 1 else None
    return LanguagePopulation(
        np.stack(log_probabilities),
        np.stack(known) if len(known) == len(words) else None,
        None if shape is None else _Logits(store, groups, shape),
    )


def population_predictions(store: Store, population: Population, members: Sequence[Member]) -> LanguagePopulation:
    """What a variant's metrics are taken over; its ensembles are disjoint groups, as for images."""
    groups = ensemble_groups(len(members), population.variant.ensemble)
    if population.variant.ensemble == 1:
        groups = [[index] for index in range(len(members))]
    return language_population(store, [[members[index].id for index in group] for group in groups])


def language_table(plan: Plan, store: Store) -> pd.DataFrame:
    """Tables 2, 4 and 9: a row for each variant, indexed by `variant`.

    Columns: the fields of `LanguageVariability`, population, failed, diverged and marks. A row with fewer than two
    finished members (or ensembles) has NaN metrics; `marks` says what a reader must know.
    """

    def measured(population: Population, members: list[Member]) -> tuple[dict[str, float], list[str]]:
        row = population_predictions(store, population, members).variability().as_dict()
        return row, [WORDS_NOT_KNOWN] if math.isnan(row["disagreement"]) else []

    columns = [field.name for field in fields(LanguageVariability)]
    return population_table(plan, store, columns, measured, lambda member: why_lost(store, member))


def why_lost(store: Store, member: Member) -> Reason | None:
    """The reason why a finished language model is no better than guessing; None where it is trained."""
    known = language_population(store, [[member.id]])
    words = int(store.labels(member.id).max()) + 1 if known.logits is None else known.logits.classes
    bad = perplexity(known.log_probabilities)[0] > words
    return (f"with a perplexity above {words:,}, that of words drawn at random", math.nan) if bad else None


class _Logits(Predictions):
    """The logits [members, positions, vocabulary] of groups of members, read from their files."""

    def __init__(self, store: Store, groups: Sequence[Sequence[str]], shape: Sequence[int]) -> None:
        self._store, self._groups = store, groups
        self.members = len(groups)
        self.examples, self.classes = shape

    def read(self, members: Sequence[int], examples: slice) -> Tensor:
        block = torch.empty((len(members), examples.stop - examples.start, self.classes))
        for row, member in enumerate(members):
            stored = [self._store.language_predictions(member_id) for member_id in self._groups[member]]
            block[row] = torch.from_numpy(_mean([_logits(one)[:, examples] for one in stored], normalised=False))
        return block


def _logits(stored: LanguagePredictions) -> NDArray[np.float32]:
    assert stored.logits is not None  # looked at by language_population
    return stored.logits


def _mean(parts: Sequence[NDArray[np.float32]], normalised: bool) -> NDArray[np.float32]:
    """Of [views, ...]: the only view, or the logarithm of the mean of all views' probabilities."""
    views = np.concatenate(parts)
    if len(views) == 1:
        return np.asarray(views[0])
    values = torch.from_numpy(np.ascontiguousarray(views)).reshape(len(views), -1, views.shape[-1])
    mean = native.mean_log_probabilities(values, normalised=normalised)
    return np.asarray(mean.reshape(views.shape[1:]).numpy())

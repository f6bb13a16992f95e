"""From variants to members: which trainings an experiment needs, each with its seeds, and what they share.

Summers & Dinneen 2021, Section 3.1: to test a source, its seed takes 1..R while all others sit at a constant. Here the
constant is 1, except for `kernels` (1 = deterministic, unperturbed) and `bit` (0 = none). Members are values: equal
members are one training, whatever table asks for them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from popnet.config import SOURCES, Experiment, Perturbation, Recipe, Variant, Views, digest_of

CONSTANTS: Mapping[str, int] = {source: 0 if source == "bit" else 1 for source in SOURCES}
"""The seed of a source that is not under test."""

HARDWARE = 0
"""The `kernels` seed of a member trained with the device's nondeterministic kernels, which no seed controls."""

REVISION = 2
"""Raised whenever popnet itself would train the same member to other bits; part of every member's id."""


@dataclass(frozen=True)
class Seeds:
    """One integer per source of nondeterminism."""

    init: int = 1
    shuffle: int = 1
    augment: int = 1
    stochastic: int = 1
    kernels: int = 1
    bit: int = 0

    def __getitem__(self, source: str) -> int:
        return int(getattr(self, source))

    def items(self) -> Iterator[tuple[str, int]]:
        return ((source, self[source]) for source in SOURCES)

    def changed(self, changes: Mapping[str, int]) -> Seeds:
        return replace(self, **dict(changes))


@dataclass(frozen=True)
class Platform:
    """What a member's bits depend on besides its recipe and seeds: the kind of device and the library versions."""

    device: str
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Member:
    """One training. `seeds` apply from epoch `onset` on (and before step `until_step`, where given), `base` elsewhere.

    Build it through `member()`, which brings equal trainings to equal values.
    """

    recipe: Recipe
    seeds: Seeds
    base: Seeds
    platform: Platform
    onset: int = 0
    until_step: int | None = None
    perturbation: Perturbation | None = None
    first_step_precision: str | None = None
    replica: int = 0

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that this member's bits follow from, as plain data."""
        recipe = self.recipe.canonical()
        if self.seeds.kernels == self.base.kernels == 1:
            del recipe["kernels"]
        return {
            "recipe": recipe,
            "seeds": dict(self.seeds.items()),
            "base": dict(self.base.items()),
            "onset": self.onset,
            "until_step": self.until_step,
            "perturbation": None if self.perturbation is None else self.perturbation.model_dump(mode="json"),
            "first_step_precision": self.first_step_precision,
            "replica": self.replica,
            "device": self.platform.device,
            "versions": dict(self.platform.versions),
            "revision": REVISION,
        }

    @cached_property
    def id(self) -> str:
        return digest_of(self.identity)[:24]

    @property
    def init_seed(self) -> int:
        """The seed of the initial weights: an onset after the beginning leaves it at its constant."""
        return self.seeds.init if self.onset == 0 else self.base.init

    def seed(self, source: str, epoch: int, step: int) -> int:
        """The seed of `source` at training step `step` (counted from 0 over the whole training) of `epoch`."""
        inside = epoch >= self.onset and (self.until_step is None or step < self.until_step)
        return (self.seeds if inside else self.base)[source]

    def perturbed_before(self, steps_per_epoch: int) -> int | None:
        """The step before which the weight is perturbed, or None."""
        if self.perturbation is None:
            return None
        return self.onset * steps_per_epoch + self.perturbation.step

    def diverges(self, steps_per_epoch: int) -> int:
        """How many whole epochs this member shares with the member of its base seeds that nothing perturbs."""
        if self.first_step_precision is not None or (self.replica and self.seeds == self.base):
            return 0  # a control is trained anew from its beginning
        epochs = [self.recipe.epochs]
        if any(self.seeds[source] != self.base[source] for source in SOURCES if source != "bit"):
            epochs.append(self.onset)
        step = self.perturbed_before(steps_per_epoch)
        if step is not None:
            epochs.append(step // max(steps_per_epoch, 1))
        return min(epochs)

    @cached_property
    def trunk(self) -> Member:
        """The member of the base seeds, whose first epochs this one shares (see `diverges`)."""
        trunk = member(self.recipe, self.base, self.base, self.platform)
        return self if trunk == self else trunk  # whose id is known


def member(
    recipe: Recipe,
    seeds: Seeds,
    base: Seeds,
    platform: Platform,
    *,
    onset: int = 0,
    until_step: int | None = None,
    perturbation: Perturbation | None = None,
    first_step_precision: str | None = None,
    replica: int = 0,
) -> Member:
    """A member in canonical form: what has no effect is set to one value, so that equal trainings are equal members."""
    if onset >= recipe.epochs > 0:
        seeds = base
    elif onset > 0:
        seeds = seeds.changed({"init": base.init})
    if seeds.bit == 0:
        perturbation = None
    if first_step_precision == recipe.precision or onset > 0:
        first_step_precision = None
    if seeds == base:
        onset, until_step = 0, None
    if onset == 0 and until_step is None:
        base = seeds.changed({"bit": 0}) if perturbation is not None else seeds
    return Member(recipe, seeds, base, platform, onset, until_step, perturbation, first_step_precision, replica)


@dataclass(frozen=True)
class Population:
    """The members of one variant, in the order of their seeds; a member may stand in several populations."""

    variant: Variant
    members: tuple[Member, ...]

    @property
    def name(self) -> str:
        return self.variant.name


@dataclass(frozen=True)
class Trunk:
    """A beginning that several members share: the member of the base seeds, and the epochs at which others leave it."""

    member: Member
    epochs: tuple[int, ...]
    views: tuple[View, ...]

    @cached_property
    def id(self) -> str:
        return digest_of({"member": self.member.id, "views": [list(view.key) for view in self.views]})[:24]


@dataclass(frozen=True, order=True)
class View:
    """One way to look at a test image: shifted by (dy, dx) pixels, then flipped or not.

    Outside an image are zeros. Of a picture that is resized, the cropped square moves inside the picture instead.
    """

    flip: bool = False
    dy: int = 0
    dx: int = 0

    @property
    def key(self) -> tuple[int, int, int]:
        return (int(self.flip), self.dy, self.dx)


ORIGINAL = View()


def ordered(views: Iterable[View]) -> tuple[View, ...]:
    """The order in which a member's views are kept: the original, then by flip and offset."""
    return (ORIGINAL, *sorted(set(views) - {ORIGINAL}))


def views_of(spec: Views) -> tuple[View, ...]:
    """The views that test-time augmentation averages, the original first (Summers & Dinneen 2021, Appendix C).

    `crop25`: offsets -4..4 at stride 2; `crop81`: all of -4..4; `crop9`: all of -1..1 (MNIST's 1-pixel padding);
    `grid9`: -16, 0 and 16 (ImageNet's 224-pixel crops of 256 pixels).
    """
    kind = spec.name.removeprefix("flip_")
    offsets: dict[str, tuple[int, ...]] = {"none": (0,), "flip": (0,), "crop9": (-1, 0, 1), "grid9": (-16, 0, 16)}
    offsets |= {"crop25": (-4, -2, 0, 2, 4), "crop81": tuple(range(-4, 5))}
    flips = (False, True) if spec.name.startswith("flip") else (False,)
    views = [View(flip, dy, dx) for flip in flips for dy in offsets[kind] for dx in offsets[kind]]
    return (ORIGINAL, *(view for view in views if view != ORIGINAL))


def view_weights(spec: Views) -> tuple[int, ...]:
    """How often each of `views_of(spec)` counts in the mean: once, the original twice where the flag says so."""
    return tuple(1 + (view == ORIGINAL and spec.count_original_twice) for view in views_of(spec))


@dataclass(frozen=True)
class Plan:
    """What an experiment trains: its populations, and each distinct member once."""

    experiment: Experiment
    platform: Platform
    populations: tuple[Population, ...]
    members: tuple[Member, ...] = field(init=False)

    def __post_init__(self) -> None:
        unique = {m.id: m for population in self.populations for m in population.members}
        object.__setattr__(self, "members", tuple(unique.values()))

    @cached_property
    def views(self) -> dict[str, tuple[View, ...]]:
        """For each member id, every view that some variant needs of it, the original first."""
        needed: dict[str, set[View]] = {}
        for population in self.populations:
            views = views_of(population.variant.views)
            for m in population.members:
                needed.setdefault(m.id, set()).update(views)
        return {key: ordered(views) for key, views in needed.items()}

    @property
    def rows(self) -> int:
        """Members summed over the rows, before equal ones are counted once."""
        return sum(len(population.members) for population in self.populations)

    def trunks(
        self,
        members: Iterable[Member],
        steps_per_epoch: Mapping[str, int],
        views: Mapping[str, tuple[View, ...]] | None = None,
    ) -> tuple[Trunk, ...]:
        """The beginnings that at least two of `members` share, each to be trained once.

        Args:
            members: those that are still to be trained.
            steps_per_epoch: by the recipe's digest.
            views: to be evaluated, by member id; default: what this plan needs.
        """
        evaluated = self.views if views is None else views
        leaving: dict[tuple[str, tuple[View, ...]], list[tuple[Member, int]]] = {}
        for m in members:
            epochs = m.diverges(steps_per_epoch[m.recipe.digest])
            if epochs > 0:
                leaving.setdefault((m.trunk.id, evaluated[m.id]), []).append((m, epochs))
        trunks = []
        for (_, looked_at), group in leaving.items():
            ends = sorted({epochs for m, epochs in group if epochs < m.recipe.epochs})
            if len(group) > 1 and ends:
                trunks.append(Trunk(group[0][0].trunk, tuple(ends), looked_at))
        return tuple(trunks)


def plan(experiment: Experiment, platform: Platform) -> Plan:
    """The members of every variant, without training anything."""
    populations = tuple(
        Population(variant, tuple(_members(experiment, variant, platform))) for variant in experiment.variants
    )
    return Plan(experiment, platform, populations)


def _members(experiment: Experiment, variant: Variant, platform: Platform) -> Iterator[Member]:
    recipe = experiment.recipe_of(variant)
    base = Seeds(**CONSTANTS).changed(experiment.constants).changed(variant.constants)
    for index, changes in enumerate(_seed_rows(experiment, variant), start=1):
        repeated = variant.replicas
        if recipe.kernels.mode == "hardware" and "kernels" in variant.sources:
            changes = {**changes, "kernels": HARDWARE}
            repeated = repeated or variant.onset < max(recipe.epochs, 1)
        yield member(
            recipe,
            base.changed(changes),
            base,
            platform,
            onset=variant.onset,
            until_step=variant.until_step,
            perturbation=variant.perturbation,
            first_step_precision=variant.first_step_precision,
            replica=index if repeated else 0,
        )


def _seed_rows(experiment: Experiment, variant: Variant) -> Iterator[dict[str, int]]:
    """The seeds under test of each member: 1..R for all varied sources in step, or every combination of a cross."""
    if variant.cross is not None:
        sources = variant.sources
        for combination in itertools.product(*(variant.cross[source] for source in sources)):
            yield dict(zip(sources, combination))
        return
    for index in range(1, experiment.population_of(variant) + 1):
        yield dict.fromkeys(variant.sources, index)


def steps_per_epoch(recipe: Recipe, examples: int) -> int:
    """Training steps in one epoch over `examples` images: the last partial batch counts unless it is dropped.

    The epochs of a language model vary in steps; it is perturbed before the first of an epoch alone, and 1 stands for
    all of them.
    """
    if recipe.language is not None:
        return 1
    whole = examples // recipe.batch_size
    return whole if recipe.drop_last else math.ceil(examples / recipe.batch_size)

"""How many runs until the numbers stand still? Trains a population run by run until each interval is narrow enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from popnet import engine
from popnet.config import ALL_SOURCES, Experiment, Variant
from popnet.engine.progress import Reporter
from popnet.errors import ConfigError, TrainingError, nearest
from popnet.metrics.precision import METRICS, Precision
from popnet.metrics.theory.variance import Estimate
from popnet.results.stores.populations import finished_members, population_labels, population_logits

DEFAULT_TARGETS: Mapping[str, float] = {"accuracy_mean": 0.5, "accuracy_sd": 0.5, "disagreement": 1.0}
"""Widths of 95% intervals, in points of a percent."""


@dataclass(frozen=True)
class Steadied:
    """One metric of a stability run.

    Attributes:
        metric: a name of `popnet.metrics.precision.METRICS`.
        estimate: with all the runs that were trained.
        target: the width that was asked for.
        runs: after how many runs the interval was first so narrow; None where it never was.
    """

    metric: str
    estimate: Estimate
    target: float
    runs: int | None

    @property
    def width(self) -> float:
        return self.estimate.high - self.estimate.low


@dataclass(frozen=True)
class Stability:
    """The outcome: the variant, how many runs were trained, and each metric; `steady` where all targets were met."""

    variant: str
    runs: int
    metrics: tuple[Steadied, ...]

    @property
    def steady(self) -> bool:
        return all(metric.runs is not None for metric in self.metrics)


def stability(
    experiment: Experiment,
    variant: str | None = None,
    targets: Mapping[str, float] = DEFAULT_TARGETS,
    *,
    store: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    executor: str = "local",
    least: int = 8,
    most: int = 200,
    confidence: float = 0.95,
    reporter: Reporter | None = None,
    tell: Callable[[Stability], None] = lambda outcome: None,
) -> Stability:
    """Train runs of one variant until the interval of every metric is narrower than its target, then stop.

    Runs are trained in instalments of a quarter, and looked at one by one in the order of their seeds. The rule that
    stops when an interval of fixed width is reached keeps its coverage where that takes many runs, and loses a little
    where it takes few: hence the least number.

    Args:
        experiment: its `population` is ignored.
        variant: default: the one that varies all sources, else the first.
        targets: the full width of each metric's interval, in the metric's unit.
        store, workers, device, executor, reporter: as of `popnet.run`.
        least, most: the first instalment, and when to give up.
        tell: is called after each instalment.

    Raises:
        ConfigError: an unknown variant or metric, or a target that is not above 0.
        TrainingError: fewer than 4 runs could be trained.
    """
    chosen = _chosen(experiment, variant)
    _check(targets, least, most)
    folder = Path("runs") / experiment.name if store is None else store
    reached: dict[str, int] = {}
    runs, looked_at = min(least, most), 3
    while True:
        result = engine.run(_instalment(experiment, chosen, runs), folder, workers, device, executor, reporter)
        population = result.plan.populations[0]
        members = finished_members(population, result.store.done())
        if len(members) // chosen.ensemble < 4:
            raise TrainingError(f"{chosen.name}: only {len(members)} of {runs} runs could be trained")
        logits = population_logits(result.store, population, members)
        precision = Precision(logits, population_labels(result.store, population, members), tuple(targets))
        for count in range(looked_at + 1, len(logits) + 1):
            for metric, target in targets.items():
                estimate = precision.interval(metric, count, confidence)
                if metric not in reached and count >= least and estimate.high - estimate.low <= target:
                    reached[metric] = count
        looked_at = len(logits)
        outcome = Stability(
            chosen.name,
            len(logits),
            tuple(
                Steadied(metric, precision.interval(metric, len(logits), confidence), target, reached.get(metric))
                for metric, target in targets.items()
            ),
        )
        tell(outcome)
        if outcome.steady or runs >= most:
            return outcome
        runs = min(most, runs + max(4, runs // 4))


def parse_targets(words: Iterable[str]) -> dict[str, float]:
    """`accuracy_mean=0.5` and the like as a mapping. Raises ConfigError."""
    targets = {}
    for word in words:
        metric, _, width = word.partition("=")
        try:
            targets[metric] = float(width)
        except ValueError:
            raise ConfigError(f"target {word!r}: must read METRIC=WIDTH, as in accuracy_mean=0.5") from None
    return targets


def _chosen(experiment: Experiment, name: str | None) -> Variant:
    variants = {v.name: v for v in experiment.variants}
    if name is None:
        everything = [v for v in experiment.variants if v.vary == ALL_SOURCES]
        return (everything or list(experiment.variants))[0]
    if name not in variants:
        raise ConfigError(f"no variant is called {name!r}; {nearest(name, variants)}")
    if variants[name].cross is not None:
        raise ConfigError(f"variant {name!r} fixes its population by 'cross': choose one with 'vary'")
    return variants[name]


def _instalment(experiment: Experiment, variant: Variant, runs: int) -> Experiment:
    """The experiment of one variant and so many runs, under a name of its own beside the experiment in its store."""
    row = variant.model_dump(by_alias=True) | {"population": runs}
    content = experiment.model_dump(by_alias=True)
    return Experiment.model_validate(
        content | {"name": f"{experiment.name}-stability", "variants": [row], "population": runs, "published": ()}
    )


def _check(targets: Mapping[str, float], least: int, most: int) -> None:
    for metric, width in targets.items():
        if metric not in METRICS:
            raise ConfigError(f"unknown metric {metric!r}; {nearest(metric, METRICS)}")
        if not width > 0:
            raise ConfigError(f"the target of {metric} is {width:g}: the width of an interval is above 0")
    if not targets or not 4 <= least <= most:
        raise ConfigError(f"stability needs a target, and 4 <= least <= most: least is {least}, most is {most}")

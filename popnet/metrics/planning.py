"""What a comparison will need: the SDs that `popnet power` works with, measured or expected, and the runs needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from popnet.errors import ConfigError
from popnet.metrics import power as formulas
from popnet.metrics.runs import Runs, common_metrics, read

_RUNS = (2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Sds:
    """The SDs between runs of the two arms, in the metric's unit, where they are from, and what they assume."""

    sd_a: float
    sd_b: float
    origin: str
    assumes: str = ""


@dataclass(frozen=True)
class PowerPlan:
    """How many runs of each arm find a difference.

    Attributes:
        difference, power, alpha: what was asked.
        sds: one, or two where theory gives a bracket.
        needed: runs of each arm for each of `sds`; None where no number will do.
        rows: for the larger SDs: (runs of each, power for the difference, smallest difference found with that power).
    """

    difference: float
    power: float
    alpha: float
    sds: tuple[Sds, ...]
    needed: tuple[int | None, ...]
    rows: tuple[tuple[int, float, float], ...]


def power_plan(difference: float, sds: Sequence[Sds], power: float = 0.8, alpha: float = 0.05) -> PowerPlan:
    """Runs needed of each arm, and what other numbers of runs would find.

    Args:
        difference: to be found, above 0, in the unit of the SDs.
        sds: from `measured_sds`, `given_sds` or `expected_sds`, the larger last.
    """
    if not difference > 0:
        raise ConfigError(f"--difference is {difference:g}: the difference to find is above 0")
    needed = tuple(formulas.runs_needed(difference, s.sd_a, s.sd_b, power, alpha) for s in sds)
    a, b = sds[-1].sd_a, sds[-1].sd_b
    sizes = sorted({*_RUNS, *(n for n in needed if n is not None and n <= 1000)})
    rows = tuple(
        (
            runs,
            formulas.power(difference, a, b, runs, runs, alpha),
            formulas.smallest_difference(a, b, runs, runs, power, alpha),
        )
        for runs in sizes
    )
    return PowerPlan(difference, power, alpha, tuple(sds), needed, rows)


def given_sds(sds: Sequence[float]) -> tuple[Sds, ...]:
    """From numbers: one SD for both arms, or two. Raises ConfigError."""
    if len(sds) not in (1, 2) or min(sds) < 0:
        raise ConfigError("--sd: give the SD between runs once for both arms, or twice, each at least 0")
    return (Sds(sds[0], sds[-1], "given"),)


def measured_sds(
    sources: Sequence[str], metric: str, labels: Path | None = None, distribution_sd: float = 0.0
) -> tuple[Sds, ...]:
    """From the runs of one source, or of two; from a single run by `expected_sds`. Raises PopnetError."""
    if len(sources) not in (1, 2):
        raise ConfigError("--from: give one source for both arms, or two")
    column = None if metric in ("accuracy", "cross_entropy") else metric
    arms = [read(source, labels, column, least=1) for source in sources]
    common_metrics(arms, [metric])
    if any(len(arm.samples[metric].values) == 1 for arm in arms):
        return _from_one_run(arms, metric, distribution_sd)
    spreads = [math.sqrt(arm.samples[metric].variance) for arm in arms]
    sizes = " and ".join(str(len(arm.samples[metric].values)) for arm in arms)
    return (Sds(spreads[0], spreads[-1], f"measured over {sizes} runs of {' and '.join(arm.name for arm in arms)}"),)


def expected_sds(error: float, examples: int | None, classes: int, distribution_sd: float) -> tuple[Sds, ...]:
    """From one run's error by the calibration formula, all in percent: one SD for two classes, else a bracket."""
    if examples is None:
        raise ConfigError("--error needs --examples, the size of the test set")
    if not 0 <= error <= 100 or examples < 2 or classes < 2 or distribution_sd < 0:
        raise ConfigError("--error is in percent, 0 to 100; --examples and --classes at least 2; no SD below 0")
    expected = formulas.expected_sd(error / 100, examples, classes, distribution_sd / 100)
    bounds = [expected.high] if classes == 2 else [expected.low, expected.high]
    origin = f"expected from an error of {error:g}% on {examples:,} examples, {classes} classes"
    return tuple(Sds(100 * sd, 100 * sd, origin, expected.assumes) for sd in bounds)


def _from_one_run(arms: Sequence[Runs], metric: str, distribution_sd: float) -> tuple[Sds, ...]:
    arm = next(arm for arm in arms if len(arm.samples[metric].values) == 1)
    if metric != "accuracy" or arm.errors is None or arm.classes is None:
        raise ConfigError(f"{arm.name}: one run tells an SD of accuracy only, and only through its predicted classes")
    return expected_sds(100 - float(arm.samples[metric].values[0]), arm.errors.examples, arm.classes, distribution_sd)

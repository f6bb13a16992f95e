"""What a comparison will need: the SDs that `popnet power` works with, measured or expected, and the runs needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from popnet.errors import ConfigError
from popnet.metrics import power as formulas
from popnet.metrics.samples import Sample

_RUNS = (2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Sds:
    """The SDs between runs of the two arms, in the metric's unit, where they are from, and what they assume."""

    sd_a: float
    sd_b: float
    origin: str
    assumes: str = ""


@dataclass(frozen=True)
class Arm:
    """The runs of one arm that an SD is taken from.

    Attributes:
        name: as errors name it.
        sample: of the metric.
        examples, classes: of the test set, which the formula for a single run needs; None where unknown.
    """

    name: str
    sample: Sample
    examples: int | None = None
    classes: int | None = None


@dataclass(frozen=True)
class PowerPlan:
    """How many runs of each arm find a difference.

    Attributes:
        difference, power, alpha: what was asked.
        sds: one, or two where theory gives a bracket.
        needed: runs of each arm for each of `sds`; None where no number will do.
        unit: of the difference and the SDs, where it is known.
        rows: for the larger SDs: (runs of each, power for the difference, smallest difference found with that power).
    """

    difference: float
    power: float
    alpha: float
    sds: tuple[Sds, ...]
    needed: tuple[int | None, ...]
    rows: tuple[tuple[int, float, float], ...]
    unit: str = ""

    def _repr_html_(self) -> str:
        from popnet.report.answers import power_html

        return power_html(self)


def power_plan(
    difference: float, sds: Sequence[Sds], power: float = 0.8, alpha: float = 0.05, unit: str = ""
) -> PowerPlan:
    """Runs needed of each arm, and what other numbers of runs would find.

    Args:
        difference: to be found, above 0, in the unit of the SDs.
        sds: from `measured_sds`, `given_sds` or `expected_sds`, the larger last.
        unit: of the difference and the SDs, to be shown.
        power, alpha: the chance to find it, and the level of the two-sided test; power is above alpha, both in 0..1.

    Raises ConfigError.
    """
    if not 0 < difference < math.inf:
        raise ConfigError(f"--difference is {difference:g}: the difference to find is above 0, and finite")
    if not 0 < alpha < power < 1:
        raise ConfigError(f"--power is {power:g} and --alpha {alpha:g}: 0 < alpha < power < 1")
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
    return PowerPlan(difference, power, alpha, tuple(sds), needed, rows, unit)


def given_sds(sds: Sequence[float]) -> tuple[Sds, ...]:
    """From numbers: one SD for both arms, or two. Raises ConfigError."""
    if len(sds) not in (1, 2):
        raise ConfigError("--sd: give the SD between runs once for both arms, or twice")
    for sd in sds:
        if not 0 < sd < math.inf:
            why = "an SD of 0 means that runs do not differ" if sd == 0 else "an SD is a finite number above 0"
            raise ConfigError(f"--sd is {sd:g}: {why}")
    return (Sds(sds[0], sds[-1], "given"),)


def measured_sds(arms: Sequence[Arm], metric: str, distribution_sd: float = 0.0) -> tuple[Sds, ...]:
    """From the runs of one arm, taken for both, or of two; from a single run by `expected_sds`.

    Args:
        arms: one or two, the samples in the unit in which the difference is given; accuracies in percent.
        metric: what the samples are of.
        distribution_sd: as of `expected_sds`, where there is one run.

    Raises:
        ConfigError: another number of arms; runs that are all equal; one run that does not tell an SD.
    """
    if len(arms) not in (1, 2):
        raise ConfigError("--from: give one source for both arms, or two")
    if any(len(arm.sample.values) == 1 for arm in arms):
        return _from_one_run(arms, metric, distribution_sd)
    for arm in arms:
        if arm.sample.constant:
            raise ConfigError(
                f"{arm.name}: all {len(arm.sample.values)} runs have the same {metric} "
                f"({arm.sample.values[0]:.6g}), which tells no SD: were they trained with different seeds?"
            )
    spreads = [math.sqrt(arm.sample.variance) for arm in arms]
    sizes = " and ".join(str(len(arm.sample.values)) for arm in arms)
    return (Sds(spreads[0], spreads[-1], f"measured over {sizes} runs of {' and '.join(arm.name for arm in arms)}"),)


def expected_sds(error: float, examples: int | None, classes: int, distribution_sd: float) -> tuple[Sds, ...]:
    """From one run's error by the calibration formula, all in percent: one SD for two classes, else a bracket."""
    if examples is None:
        raise ConfigError("--error needs --examples, the size of the test set")
    if not 0 <= error <= 100 or examples < 2 or classes < 2 or not 0 <= distribution_sd < math.inf:
        raise ConfigError("--error is in percent, 0 to 100; --examples and --classes at least 2; no SD below 0")
    expected = formulas.expected_sd(error / 100, examples, classes, distribution_sd / 100)
    if expected.high == 0:
        raise ConfigError("an error of 0% without a genuine SD (--distribution-sd) means runs that do not differ")
    bounds = [expected.high] if classes == 2 else [expected.low, expected.high]
    origin = f"expected from an error of {error:g}% on {examples:,} examples, {classes} classes"
    return tuple(Sds(100 * sd, 100 * sd, origin, expected.assumes) for sd in bounds)


def _from_one_run(arms: Sequence[Arm], metric: str, distribution_sd: float) -> tuple[Sds, ...]:
    if len(arms) == 2:
        raise ConfigError(
            f"--from: {' and '.join(arm.name for arm in arms)} are not both of several runs: give one of them alone"
        )
    arm = arms[0]
    if metric != "accuracy" or arm.examples is None or arm.classes is None:
        raise ConfigError(f"{arm.name}: one run tells an SD of accuracy only, and only through its predicted classes")
    return expected_sds(100 - float(arm.sample.values[0]), arm.examples, arm.classes, distribution_sd)

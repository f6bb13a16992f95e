"""What the papers measure: the name, unit and usual decimals of each quantity, and how its numbers are written."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

REDUCTIONS = ("variability_reduction", "variability_reduction_raw_rho")
"""The mean reduction of Table 5, with correlation entering as 1 - rho, and as rho itself."""


@dataclass(frozen=True)
class Value:
    """A number, its standard error (NaN where unknown), and how a paper printed it, where one did.

    Attributes:
        freedom: the degrees of freedom of the error, runs - 1; infinite where the runs behind it are not known.
        within: half the width of a range that a paper printed in place of a number, of which `value` is the middle.
    """

    value: float
    error: float = math.nan
    printed: str = ""
    freedom: float = field(default=math.inf, compare=False)
    within: float = 0.0

    @property
    def known(self) -> bool:
        return not math.isnan(self.value)


UNKNOWN = Value(math.nan)

_DIGITS, _TOO_LONG = 5, 1e5
"""The digits of a number that fit a column, and from where on it is written as a power of ten."""

_TINY = 1e-3
"""Below it a number that would round to 0 is written as a power of ten."""

_SMALL = 1e-4
"""Below it a number with an error is written as a power of ten, and so is the error."""


@dataclass(frozen=True)
class Quantity:
    """A column of a table.

    Attributes:
        name: as in `Variability` and in published.yaml.
        header: as the papers head it.
        decimals: as the papers print it.
        is_correlation: whether variability is 1 minus it.
    """

    name: str
    header: str
    decimals: int
    is_correlation: bool = False

    @property
    def is_mean(self) -> bool:
        """Whether it is a mean over members, and not of how they vary."""
        return self.name.endswith("_mean")

    def variability(self, value: Value) -> Value:
        """The quantity so that more of it means more variability: correlation becomes 1 - rho, signs are dropped."""
        return replace(value, value=1.0 - value.value if self.is_correlation else abs(value.value), printed="")


_THEORY = (
    Quantity("accuracy_range", "Accuracy Range (points)", 1),
    Quantity("independent_errors_sd", "SD, independent errors", 3),
    Quantity("distribution_sd", "SD, on the distribution", 3),
    Quantity("halves_correlation", "Corr. of halves", 2),
    Quantity("lucky_quarter_gain", "Best quarter gains elsewhere", 2),
    Quantity("lucky_part_gain", "Best 15% by the other part gain", 2),
    Quantity("disagreement_ratio", "Disagreement / error", 2),
    Quantity("tasks_r_squared", "Binary tasks, R²", 3),
    Quantity("binomial_ratio", "Binomial variance / observed", 2),
    Quantity("dependent_pairs", "Pairs over 2% from independence", 0),
    Quantity("twin_disagreement", "Disagreement with the twin (%)", 2),
    Quantity("variance_ratio_to_less_data", "Variance / that with less data", 1),
    Quantity("distribution_variance_ratio", "Genuine variance / at the next lower rate", 1),
    Quantity("independent_share", "SD, independent errors / observed", 3),
    Quantity("independence_distance", "Largest distance of the distributions (% of runs)", 1),
    Quantity("independence_by_chance", "... by chance, 95%", 1),
    Quantity("distribution_variance", "Variance, on the distribution (points²)", 4),
    Quantity("genuine_share", "Share of the variance that is genuine", 3),
    Quantity("covariance_share", "Covariance of halves / genuine variance", 2),
    Quantity("lucky_quarter_gain_there", "Best quarter gains where it was chosen", 2),
    Quantity("lucky_gain_kept", "Share of the gain that is left elsewhere", 2),
    Quantity("lucky_part_gain_there", "Best 15% by a part gain there", 2),
    Quantity("pairs_by_chance", "Pairs over 2% from independence, by chance", 0),
    Quantity("lower_bound_ratio", "Observed variance / (err / nk)", 2),
    Quantity("tasks_ratio", "Binary tasks, variance / (err / 2n)", 3),
)

THEORY = frozenset(one.name for one in _THEORY)
"""What Jordan's (2024) theory says of a row: a table of its own, not columns of the measured one."""

BELOW = "_below"
"""Ends the name of a number of which a paper prints a bound alone."""

GROWS_WITH_RUNS = frozenset({"accuracy_range", "dependent_pairs"})
"""Which are larger, or smaller, of more runs alone."""

PAPERS_RUNS = 60_000
"""Of each duration in Jordan (2024, Figure 1), the only training of which it prints what grows with the runs."""

_KNOWN = {
    quantity.name: quantity
    for quantity in (
        Quantity("accuracy_mean", "Accuracy (%)", 2),
        Quantity("accuracy_sd", "Accuracy SD (%)", 2),
        Quantity("cross_entropy_mean", "Cross-Entropy", 4),
        Quantity("cross_entropy_sd", "Cross-Entropy SD", 4),
        Quantity("ppl_mean", "PPL", 2),
        Quantity("ppl_sd", "PPL SD", 2),
        Quantity("disagreement", "Pairwise Disagree (%)", 1),
        Quantity("spearman", "Pairwise Corr.", 3, is_correlation=True),
        Quantity("pearson", "Pairwise Corr. (Pearson)", 3, is_correlation=True),
        Quantity("target_spearman", "Pairwise Corr. (Targets)", 3, is_correlation=True),
        Quantity("logit_spearman", "Pairwise Corr. (Logits)", 3, is_correlation=True),
        Quantity("ensemble_delta", "Ensemble Δ (%)", 2),
        Quantity("ensemble_cross_entropy_delta", "Ensemble Cross-Entropy Δ", 4),
        Quantity("ensemble_ppl_delta", "Ensemble PPL Δ", 2),
        *_THEORY,
        Quantity(REDUCTIONS[0], "Variability Reduction (%)", 0),
        Quantity(REDUCTIONS[1], "Variability Reduction (%), raw ρ", 0),
    )
}

IMAGES = ("accuracy_sd", "cross_entropy_sd", "disagreement", "spearman", "ensemble_delta")
"""The five metrics of Summers & Dinneen (2021), Section 3.1."""

TEXTS = ("ppl_sd", "disagreement", "ensemble_ppl_delta")
"""The three of Section 3.3."""


def quantity(name: str) -> Quantity:
    """The quantity of that name; one that no paper names is headed by its name."""
    return _KNOWN.get(name) or Quantity(name, name.replace("_", " "), 3)


def in_order(names: set[str]) -> list[Quantity]:
    """Quantities as the papers order their columns, unknown ones last."""
    ordered = [name for name in _KNOWN if name in names]
    return [quantity(name) for name in (*ordered, *sorted(names - set(ordered)))]


def number(value: float, decimals: int) -> str:
    """`decimals` decimals, but of a number from 10 on no more than five digits, and from 100,000 on a power of ten.

    A number that would round to 0 but is not keeps one significant digit: as a decimal from 0.001 on, else as a power
    of ten.
    """
    if math.isnan(value):
        return ""
    if abs(value) >= _TOO_LONG:
        return f"{value:.1e}"
    whole = len(str(int(abs(value))))
    text = f"{value:.{decimals if whole == 1 else max(min(decimals, _DIGITS - whole), 0)}f}"
    if value != 0.0 and float(text) == 0.0:
        return f"{value:.0e}" if abs(value) < _TINY else f"{value:.{-math.floor(math.log10(abs(value)))}f}"
    return text.removeprefix("-") if float(text) == 0.0 else text


def with_error(value: Value, decimals: int, plus_minus: str = " ± ") -> str:
    """A value with as many decimals as its error's first digit needs, but no fewer than `decimals`."""
    if not value.known:
        return ""
    if math.isnan(value.error):
        return number(value.value, decimals)
    shown = value.value
    if 0.0 < abs(shown) < _SMALL:
        if value.error < _TINY:
            error = f"{value.error:.0e}" if value.error != 0.0 else "0"
            return f"{shown:.0e}{plus_minus}{error}"
        shown = 0.0  # nothing beside such an error
    if value.error > 0.0:
        decimals = max(decimals, min(-math.floor(math.log10(value.error)), 5))
    error = f"{value.error:.0e}" if value.error >= _TOO_LONG else number(value.error, decimals)
    return number(shown, decimals) + plus_minus + error


def percent(value: Value, unit: str = "") -> str:
    """A percentage without decimals, its error with the one digit that it may need; without one that is unknown."""
    shown = f"{number(value.value, 0)}{unit}"
    return shown if math.isnan(value.error) else f"{shown} ± {number(value.error, 0)}"


def correlation(value: float) -> str:
    """Three decimals; exactly 1 is written as 1, and what would only round to 1 as 1 minus the rest."""
    if math.isnan(value):
        return ""
    if value == 1.0:
        return "1"
    text = f"{value:.3f}"
    return f"1-{1.0 - value:.0e}" if text == "1.000" else text


def shown(kind: Quantity, value: Value) -> str:
    """A quantity's value as it was printed, or with its error, where that is known."""
    if value.printed:
        return value.printed
    if kind.is_correlation and f"{value.value:.3f}" == "1.000":
        return correlation(value.value)
    return with_error(value, kind.decimals)

"""What the papers measure: the name, unit and usual decimals of each quantity, and how its numbers are written."""

from __future__ import annotations

import math
from dataclasses import dataclass

REDUCTIONS = ("variability_reduction", "variability_reduction_raw_rho")
"""The mean reduction of Table 5, with correlation entering as 1 - rho, and as rho itself."""


@dataclass(frozen=True)
class Value:
    """A number, its standard error (NaN where unknown), and how a paper printed it, where one did."""

    value: float
    error: float = math.nan
    printed: str = ""

    @property
    def known(self) -> bool:
        return not math.isnan(self.value)


UNKNOWN = Value(math.nan)


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

    def variability(self, value: Value) -> Value:
        """The quantity so that more of it means more variability: correlation becomes 1 - rho, signs are dropped."""
        return Value(1.0 - value.value if self.is_correlation else abs(value.value), value.error)


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
    """At least `decimals` decimals; a number that would round to 0 but is not keeps one significant digit."""
    if math.isnan(value):
        return ""
    text = f"{value:.{decimals}f}"
    if value != 0.0 and float(text) == 0.0:
        return f"{value:.0e}"
    return text.removeprefix("-") if float(text) == 0.0 else text


def with_error(value: Value, decimals: int, plus_minus: str = " ± ") -> str:
    """A value with as many decimals as its error's first digit needs, but no fewer than `decimals`."""
    if not value.known:
        return ""
    if math.isnan(value.error):
        return number(value.value, decimals)
    if value.error > 0.0:
        decimals = max(decimals, min(-math.floor(math.log10(value.error)), 5))
    return number(value.value, decimals) + plus_minus + number(value.error, decimals)


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

"""How alike representations are: linear centred kernel alignment (Kornblith et al., ICML 2019).

Summers & Dinneen (2021), Figure 1, compare six layers of 25 models with it, all pairs of models; which estimator they
used, and on how many images, they do not say. A representation is [examples, ...], floating point; all axes but the
first are flattened, and layers of different sizes compare. Sums are taken in float64 by the vendor's matrix products:
deterministic per device, equal between devices to 1e-9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from popnet.metrics.inputs import Array

Estimator = Literal["unbiased", "biased", "minibatch"]

ESTIMATORS: tuple[Estimator, ...] = ("unbiased", "biased", "minibatch")

_GRAM_SIDE = 512  # rows and columns of the Gram matrices that are held at once, for all representations
_LEAST = 4  # examples of which an unbiased estimate of HSIC can be made
_ROUNDING = 1e-10  # of a biased product: an unbiased one of less is what is left of sums that cancel


def linear_cka(features_a: Array, features_b: Array, *, estimator: Estimator = "unbiased") -> float:
    """Linear CKA of two representations of the same examples; exactly 1 for equal ones, NaN where it is not defined.

    features_a and features_b: [examples, ...]; estimator: see `linear_cka_matrix`. The default has no bias: unrelated
    representations average 0, and single values can be below it. Kornblith et al.'s own formula, which was the default
    once, is `biased`: never negative, and close to 1 for unrelated representations of more features than examples.
    ValueError names the argument that is wrong.
    """
    pair = [_representation(features_a, "features_a"), _representation(features_b, "features_b")]
    return float(_alignment(pair, estimator, 256).cka[0, 1])


def linear_cka_matrix(
    representations: Sequence[Array], *, estimator: Estimator = "unbiased", batch_size: int = 256
) -> NDArray[np.float64]:
    """Linear CKA of all pairs of representations, float64 [n, n]; for Figure 1, every layer of every model.

    Args:
        representations: each [examples, ...], of the same examples in the same order. They are widened to float64 in
            blocks only.
        estimator: `unbiased` puts the unbiased estimate of HSIC (Song et al., JMLR 2012, Equation 5) of all examples
            at once in the place of Kornblith et al.'s, as Nguyen et al. (ICLR 2021) do within batches: in -1..1, and
            0 on average for unrelated representations. `minibatch` is Nguyen et al.'s: the ratio of the means of those
            estimates over batches of `batch_size` examples in order (a rest of fewer than 4 is left out); in -1..1.
            `biased` is Kornblith et al.'s formula: in 0..1, and too high by what `linear_cka_alignment` gives as floor.
        batch_size: of `minibatch`; at least 4.

    Equal representations have exactly 1. NaN stands where one is constant, or all its examples are equally far apart.
    """
    return linear_cka_alignment(representations, estimator=estimator, batch_size=batch_size).cka


@dataclass(frozen=True)
class Alignment:
    """Linear CKA of all pairs of representations, beside what unrelated ones would come to.

    Attributes:
        cka: float64 [n, n].
        floor: float64 [n, n], the noise floor: the mean of the same estimator over all ways of matching the examples
            of one representation with those of the other. 0 where the estimator is unbiased.
        floor_sd: float64 [n, n], the standard deviation over the same matchings; about, of `minibatch`. NaN below four
            examples.
        examples: how many were compared.
    """

    cka: NDArray[np.float64]
    floor: NDArray[np.float64]
    floor_sd: NDArray[np.float64]
    examples: int


def linear_cka_alignment(
    representations: Sequence[Array], *, estimator: Estimator = "unbiased", batch_size: int = 256
) -> Alignment:
    """`linear_cka_matrix` with its noise floor, in closed form.

    With K and L centred Gram matrices of N examples, the mean of <K, L> over permutations of L's examples is
    tr K tr L / (N - 1), so the floor of `biased` is tr K tr L / ((N - 1) |K| |L|); for white noise of p and q features
    it is sqrt(p q / ((p + N) (q + N))). That of the unbiased estimates is 0, and the variance 2 / (N (N - 3)), whatever
    the representations. That of <K, L> is this share of the product of the unbiased estimates of
    <K, K> and <L, L>, and more where examples are unequally far from the mean (`_Sums.variances`).

    Every Gram matrix is computed once, a block at a time for all representations, whose pairs are then one product of
    the flattened blocks; the feature form |A^T B|^2 is used where that takes less work.
    """
    if len(representations) == 0:
        raise ValueError("representations must hold at least one representation")
    checked = [_representation(r, f"representations[{i}]") for i, r in enumerate(representations)]
    return _alignment(checked, estimator, batch_size)


def _alignment(representations: Sequence[_Representation], estimator: Estimator, batch_size: int) -> Alignment:
    _check(representations, estimator, batch_size)
    distinct, places = _distinct(representations)
    examples = representations[0].examples
    if estimator == "biased":
        sums = _Sums.of(distinct)
        own = np.sqrt(np.diagonal(sums.products))
        cka = _normalised(sums.products, np.zeros(len(distinct)))
        with np.errstate(invalid="ignore"):
            floor = np.outer(sums.traces / own, sums.traces / own) / (examples - 1)
            sd = np.sqrt(sums.variances()) / np.outer(own, own)
    else:
        parts = [examples] if estimator == "unbiased" else _batches(examples, batch_size)
        cka = _unbiased_cka(distinct, parts)
        floor = np.zeros_like(cka)
        sd = np.full_like(cka, math.sqrt(math.fsum(2.0 / (n * (n - 3)) for n in parts)) / len(parts))
    floor[np.isnan(cka)] = sd[np.isnan(cka)] = np.nan
    everywhere = np.ix_(places, places)
    return Alignment(cka[everywhere], floor[everywhere], sd[everywhere], examples)


def _check(representations: Sequence[_Representation], estimator: str, batch_size: int) -> None:
    _same_examples(representations)
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator must be {', '.join(map(repr, ESTIMATORS))}, but is {estimator!r}")
    if estimator == "minibatch" and batch_size < _LEAST:
        raise ValueError(f"batch_size must be at least {_LEAST}, but is {batch_size}")
    examples = representations[0].examples
    if estimator != "biased" and examples < _LEAST:
        raise ValueError(f"the {estimator} estimator needs at least {_LEAST} examples, but there are {examples}")


@dataclass(frozen=True)
class _Representation:
    """Features [examples, width] of any floating-point type."""

    values: Tensor
    name: str

    @property
    def examples(self) -> int:
        return int(self.values.shape[0])

    @property
    def width(self) -> int:
        return int(self.values.shape[1])

    @cached_property
    def mean(self) -> Tensor:
        """float64 [width]; where a feature is constant, that constant, so that it vanishes exactly when centred."""
        mean = self.values.sum(dim=0, dtype=torch.float64) / self.examples
        constant = (self.values == self.values[:1]).all(dim=0)
        return torch.where(constant, self.values[0].to(torch.float64), mean)

    def centred(self, examples: slice) -> Tensor:
        return self.values[examples].to(torch.float64) - self.mean

    def gram(self, rows: slice, columns: slice) -> Tensor:
        """float64 [rows, columns]: a block of the centred Gram matrix."""
        centred = self.centred(rows)
        return centred @ (centred if rows == columns else self.centred(columns)).T

    def part(self, examples: slice) -> _Representation:
        return _Representation(self.values[examples], self.name)


def _representation(features: Any, name: str) -> _Representation:
    if isinstance(features, np.ndarray) and features.dtype.kind == "f":
        features = torch.from_numpy(np.ascontiguousarray(features))
    if not isinstance(features, Tensor) or not features.is_floating_point():
        raise ValueError(f"{name} must be a floating-point array [examples, ...]")
    if features.dim() < 2 or features.shape[0] < 2:
        raise ValueError(
            f"{name} must be [examples, ...] with at least 2 examples, but has shape {list(features.shape)}"
        )
    flat = features.detach().reshape(len(features), -1)
    finite = torch.isfinite(flat).all(dim=1)
    if not bool(finite.all()):
        raise ValueError(f"{name} of example {int((~finite).nonzero()[0])} is not finite")
    return _Representation(flat, name)


def _same_examples(representations: Sequence[_Representation]) -> None:
    first = representations[0]
    for other in representations:
        if other.examples != first.examples:
            raise ValueError(
                f"{first.name} and {other.name} must hold the same examples, but hold {first.examples} and"
                f" {other.examples}"
            )


def _distinct(representations: Sequence[_Representation]) -> tuple[list[_Representation], NDArray[np.int64]]:
    """Those that differ, and for each representation its place among them: equal ones have a CKA of exactly 1."""
    distinct: list[_Representation] = []
    places = []
    for one in representations:
        place = next((i for i, other in enumerate(distinct) if _equal(one.values, other.values)), len(distinct))
        if place == len(distinct):
            distinct.append(one)
        places.append(place)
    return distinct, np.array(places)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a[0], b[0]) and torch.equal(a, b)


@dataclass(frozen=True)
class _Sums:
    """What the estimates are made of, for centred representations A, B, ... of N examples.

    Attributes:
        products: float64 [n, n], <A A^T, B B^T> = |A^T B|^2 of every pair.
        squares: float64 [n, N], the diagonals of the Gram matrices: the squared norm of each example.
    """

    products: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, representations: Sequence[_Representation]) -> _Sums:
        """By the form that takes fewer multiplications."""
        examples, widths = representations[0].examples, [r.width for r in representations]
        feature_form = sum(a * b for i, a in enumerate(widths) for b in widths[i:]) * examples
        gram_form = examples * examples * (sum(widths) + len(widths) ** 2) // 2
        form = _feature_products if feature_form <= gram_form else _gram_products
        return cls(*form(representations))

    @property
    def traces(self) -> NDArray[np.float64]:
        return self.squares.sum(axis=1)

    def unbiased(self) -> NDArray[np.float64]:
        """N (N - 3) times HSIC_1 of every pair: with K, L the Gram matrices without their diagonals k, l,

        <K, L> + (1'K1)(1'L1) / ((N-1)(N-2)) - 2 / (N-2) 1'KL1, where K1 = -k since the features are centred.
        """
        n = self.squares.shape[1]
        corrected = self.products - n / (n - 2) * (self.squares @ self.squares.T)
        return corrected + np.outer(self.traces, self.traces) / ((n - 1) * (n - 2))

    def variances(self) -> NDArray[np.float64]:
        """float64 [n, n], of <A A^T, B B^T> over all matchings of examples: NaN below four.

        What `unbiased` gives and the diagonals' part of <K, L> do not covary; the latter is N / (N - 2) times k'l.
        """
        n = self.squares.shape[1]
        if n < _LEAST:
            return np.full_like(self.products, math.nan)
        own = np.maximum(np.diagonal(self.unbiased()), 0.0)
        spread = np.square(self.squares - self.squares.mean(axis=1, keepdims=True)).sum(axis=1)
        diagonals = (n / (n - 2)) ** 2 / (n - 1) * np.outer(spread, spread)
        return 2.0 / (n * (n - 3)) * np.outer(own, own) + diagonals


def _feature_products(representations: Sequence[_Representation]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The products and squares of `_Sums`."""
    products, squares = np.zeros((len(representations), len(representations))), []
    for i, a in enumerate(representations):
        centred = a.centred(slice(None))
        squares.append(centred.square().sum(dim=1).cpu().numpy())
        for j, b in enumerate(representations[: i + 1]):
            products[i, j] = products[j, i] = float((centred.T @ b.centred(slice(None))).square().sum())
    return products, np.stack(squares)


def _gram_products(representations: Sequence[_Representation]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The products and squares of `_Sums`, block of rows by block of columns; by symmetry, upper blocks count twice."""
    shape = (len(representations), len(representations))
    total = torch.zeros(shape, dtype=torch.float64, device=representations[0].values.device)
    blocks = [slice(first, first + _GRAM_SIDE) for first in range(0, representations[0].examples, _GRAM_SIDE)]
    squares = []
    for i, rows in enumerate(blocks):
        for columns in blocks[i:]:
            grams = torch.stack([r.gram(rows, columns) for r in representations])
            if rows == columns:
                squares.append(grams.diagonal(dim1=1, dim2=2))
            grams = grams.reshape(len(grams), -1)
            total += (grams @ grams.T) * (1.0 if rows == columns else 2.0)
    return total.cpu().numpy(), torch.cat(squares, dim=1).cpu().numpy()


def _batches(examples: int, size: int) -> list[int]:
    """The sizes of the batches of `minibatch`, in order."""
    sizes = [min(size, examples - first) for first in range(0, examples, size)]
    return [n for n in sizes if n >= _LEAST]


def _unbiased_cka(representations: Sequence[_Representation], parts: Sequence[int]) -> NDArray[np.float64]:
    """The ratio of the mean estimates over parts of so many examples, in order."""
    count = len(representations)
    total, cancelled, first = np.zeros((count, count)), np.zeros(count), 0
    for n in parts:
        sums = _Sums.of([r.part(slice(first, first + n)) for r in representations])
        total += sums.unbiased() / (n * (n - 3))
        cancelled += np.diagonal(sums.products) / (n * (n - 3))
        first += n
    return _normalised(total, _ROUNDING * cancelled)


def _normalised(products: NDArray[np.float64], least: NDArray[np.float64]) -> NDArray[np.float64]:
    """products[i, j] over the root of both own ones; NaN where an own one is not above `least`."""
    own = np.diagonal(products).copy()
    own[own <= least] = np.nan
    root = np.sqrt(own)
    upper = np.triu(products / root[:, None] / root[None, :], 1)
    matrix = upper + upper.T
    np.fill_diagonal(matrix, np.where(np.isnan(own), np.nan, 1.0))
    return matrix

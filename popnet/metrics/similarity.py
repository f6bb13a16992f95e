"""How alike representations are: linear centred kernel alignment (Kornblith et al., ICML 2019).

Summers & Dinneen (2021), Figure 1, compare six layers of 25 models with it, all pairs of models. A representation is
[examples, ...], floating point; all axes but the first are flattened, and layers of different sizes compare. Sums are
taken in float64 by the vendor's matrix products: deterministic per device, equal between devices to 1e-9.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from popnet.metrics.inputs import Array

Estimator = Literal["biased", "minibatch"]

_GRAM_SIDE = 512  # rows and columns of the Gram matrices that are held at once, for all representations


def linear_cka(features_a: Array, features_b: Array) -> float:
    """Linear CKA of two representations of the same examples, in 0..1; exactly 1 for equal ones, NaN for constant ones.

    features_a and features_b: [examples, ...]. Uses the feature form |A^T B|^2 or the example-Gram form <A A^T, B B^T>,
    whichever takes less work. ValueError names the argument that is wrong.
    """
    a, b = _representation(features_a, "features_a"), _representation(features_b, "features_b")
    _same_examples([a, b])
    if a.values.dtype == b.values.dtype and torch.equal(a.values, b.values):
        return 1.0 if bool((a.values != a.values[:1]).any()) else math.nan
    return float(_normalised(_biased_products([a, b]))[0, 1])


def linear_cka_matrix(
    representations: Sequence[Array], *, estimator: Estimator = "biased", batch_size: int = 256
) -> NDArray[np.float64]:
    """Linear CKA of all pairs of representations, float64 [n, n]; for Figure 1, every layer of every model.

    Args:
        representations: each [examples, ...], of the same examples in the same order. They are widened to float64 in
            blocks only.
        estimator: `biased` is the CKA of all examples; `minibatch` the ratio of the means, over batches of
            `batch_size` examples in order (a rest of fewer than 4 is left out), of the unbiased estimates of HSIC
            (Song et al., 2012; Nguyen et al., ICLR 2021): it needs no product of all examples, has no bias from
            their number, and may leave 0..1.
        batch_size: at least 4.

    Every Gram matrix is computed once, a block at a time for all representations, whose pairs are then one product of
    the flattened blocks; the feature form is used where that takes less work.
    """
    if not representations:
        raise ValueError("representations must hold at least one representation")
    checked = [_representation(r, f"representations[{i}]") for i, r in enumerate(representations)]
    _same_examples(checked)
    if estimator == "minibatch":
        if batch_size < 4:
            raise ValueError(f"batch_size must be at least 4, but is {batch_size}")
        return _normalised(_unbiased_products(checked, batch_size))
    if estimator != "biased":
        raise ValueError(f"estimator must be 'biased' or 'minibatch', but is {estimator!r}")
    return _normalised(_biased_products(checked))


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


def _biased_products(representations: Sequence[_Representation]) -> NDArray[np.float64]:
    """<A A^T, B B^T> = |A^T B|^2 of every pair of centred representations, by whichever takes fewer multiplications."""
    examples, widths = representations[0].examples, [r.width for r in representations]
    feature_form = sum(a * b for i, a in enumerate(widths) for b in widths[i:]) * examples
    gram_form = examples * examples * (sum(widths) + len(widths) ** 2) // 2
    return _feature_products(representations) if feature_form <= gram_form else _gram_products(representations)


def _feature_products(representations: Sequence[_Representation]) -> NDArray[np.float64]:
    products = np.zeros((len(representations), len(representations)))
    for i, a in enumerate(representations):
        centred = a.centred(slice(None))
        for j, b in enumerate(representations[: i + 1]):
            products[i, j] = products[j, i] = float((centred.T @ b.centred(slice(None))).square().sum())
    return products


def _gram_products(representations: Sequence[_Representation]) -> NDArray[np.float64]:
    """Block of rows by block of columns; by symmetry the upper blocks count twice."""
    total = _zeros(representations)
    blocks = [slice(s, s + _GRAM_SIDE) for s in range(0, representations[0].examples, _GRAM_SIDE)]
    for i, rows in enumerate(blocks):
        for columns in blocks[i:]:
            grams = torch.stack([(r.centred(rows) @ r.centred(columns).T).reshape(-1) for r in representations])
            total += (grams @ grams.T) * (1.0 if rows == columns else 2.0)
    return np.asarray(total.cpu().numpy())


def _unbiased_products(representations: Sequence[_Representation], batch_size: int) -> NDArray[np.float64]:
    """The sum over batches of HSIC_1 of every pair: with K, L the Gram matrices without their diagonals,

    (<K, L> + (1'K1)(1'L1) / ((n-1)(n-2)) - 2 / (n-2) 1'KL1) / (n (n-3)).

    It does not change when a constant is added to the features; the mean is subtracted for the digits' sake.
    """
    total = _zeros(representations)
    for batch in _batches(representations[0].examples, batch_size):
        grams = torch.stack([features @ features.T for features in (r.centred(batch) for r in representations)])
        n = grams.shape[1]
        grams.diagonal(dim1=1, dim2=2).zero_()
        rows = grams.sum(dim=2)
        sums = rows.sum(dim=1)
        flat = grams.reshape(len(grams), -1)
        inner = flat @ flat.T + torch.outer(sums, sums) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (rows @ rows.T)
        total += inner / (n * (n - 3))
    return np.asarray(total.cpu().numpy())


def _batches(examples: int, size: int) -> Iterator[slice]:
    if examples < 4:
        raise ValueError(f"the minibatch estimator needs at least 4 examples, but there are {examples}")
    for first in range(0, examples, size):
        if min(first + size, examples) - first >= 4:
            yield slice(first, first + size)


def _zeros(representations: Sequence[_Representation]) -> Tensor:
    shape = (len(representations), len(representations))
    return torch.zeros(shape, dtype=torch.float64, device=representations[0].values.device)


def _normalised(products: NDArray[np.float64]) -> NDArray[np.float64]:
    own = np.diagonal(products).copy()
    own[own <= 0] = np.nan
    upper = np.triu(products / np.sqrt(own[:, None] * own[None, :]), 1)
    matrix = upper + upper.T
    np.fill_diagonal(matrix, np.where(np.isnan(own), np.nan, 1.0))
    return matrix

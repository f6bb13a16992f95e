"""How alike representations are: linear centred kernel alignment (Kornblith et al., ICML 2019).

Summers & Dinneen (2021), Figure 1, compare six layers of 25 models with it, all pairs of models. A representation is
[examples, ...], floating point; all axes but the first are flattened, and layers of different sizes compare. Sums are
taken in float64 by the vendor's matrix products: deterministic per device, equal between devices to 1e-9.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
    a, b = _features(features_a, "features_a"), _features(features_b, "features_b")
    _same_examples([a, b], ["features_a", "features_b"])
    if a.shape == b.shape and torch.equal(a, b):
        return 1.0 if bool(a.any()) else math.nan
    products = _feature_products([a, b]) if _features_are_smaller([a, b]) else _gram_products([a, b])
    return float(_normalised(products)[0, 1])


def linear_cka_matrix(
    representations: Sequence[Array], *, estimator: Estimator = "biased", batch_size: int = 256
) -> NDArray[np.float64]:
    """Linear CKA of all pairs of representations, float64 [n, n]; for Figure 1, every layer of every model.

    Args:
        representations: each [examples, ...], of the same examples in the same order.
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
    names = [f"representations[{i}]" for i in range(len(representations))]
    if estimator == "minibatch":
        raw = [_features(r, name, centre=False) for r, name in zip(representations, names)]
        _same_examples(raw, names)
        if batch_size < 4:
            raise ValueError(f"batch_size must be at least 4, but is {batch_size}")
        return _normalised(_unbiased_products(raw, batch_size))
    if estimator != "biased":
        raise ValueError(f"estimator must be 'biased' or 'minibatch', but is {estimator!r}")
    centred = [_features(r, name) for r, name in zip(representations, names)]
    _same_examples(centred, names)
    return _normalised(_feature_products(centred) if _features_are_smaller(centred) else _gram_products(centred))


def _features(features: Any, name: str, centre: bool = True) -> Tensor:
    if isinstance(features, np.ndarray) and features.dtype.kind == "f":
        features = torch.from_numpy(np.ascontiguousarray(features))
    if not isinstance(features, Tensor) or not features.is_floating_point():
        raise ValueError(f"{name} must be a floating-point array [examples, ...]")
    if features.dim() < 2 or features.shape[0] < 2:
        raise ValueError(
            f"{name} must be [examples, ...] with at least 2 examples, but has shape {list(features.shape)}"
        )
    flat = features.detach().reshape(len(features), -1).to(torch.float64)
    finite = torch.isfinite(flat).all(dim=1)
    if not bool(finite.all()):
        raise ValueError(f"{name} of example {int((~finite).to(torch.int8).argmax())} is not finite")
    if not centre:
        return flat
    constant = (flat == flat[:1]).all(dim=0)
    return (flat - flat.mean(dim=0)).masked_fill(constant, 0.0)


def _same_examples(representations: Sequence[Tensor], names: Sequence[str]) -> None:
    for features, name in zip(representations, names):
        if len(features) != len(representations[0]):
            raise ValueError(
                f"{names[0]} and {name} must hold the same examples, but hold {len(representations[0])} and"
                f" {len(features)}"
            )


def _features_are_smaller(representations: Sequence[Tensor]) -> bool:
    """Whether the feature form takes fewer multiplications than the Gram form."""
    examples, widths = len(representations[0]), [r.shape[1] for r in representations]
    feature_form = sum(a * b for i, a in enumerate(widths) for b in widths[i:]) * examples
    gram_form = examples * examples * (sum(widths) + len(widths) ** 2) // 2
    return feature_form <= gram_form


def _feature_products(representations: Sequence[Tensor]) -> NDArray[np.float64]:
    """|A^T B|^2 of every pair of centred representations."""
    products = np.zeros((len(representations), len(representations)))
    for i, a in enumerate(representations):
        for j, b in enumerate(representations[: i + 1]):
            products[i, j] = products[j, i] = float((a.T @ b).square().sum())
    return products


def _gram_products(representations: Sequence[Tensor]) -> NDArray[np.float64]:
    """<A A^T, B B^T> of every pair, block of rows by block of columns; by symmetry the upper blocks count twice."""
    total = _zeros(representations)
    starts = range(0, len(representations[0]), _GRAM_SIDE)
    for row in starts:
        for column in starts[row // _GRAM_SIDE :]:
            grams = torch.stack(
                [(r[row : row + _GRAM_SIDE] @ r[column : column + _GRAM_SIDE].T).reshape(-1) for r in representations]
            )
            total += (grams @ grams.T) * (1.0 if row == column else 2.0)
    return np.asarray(total.cpu().numpy())


def _unbiased_products(representations: Sequence[Tensor], batch_size: int) -> NDArray[np.float64]:
    """The sum over batches of HSIC_1 of every pair: with K, L the Gram matrices without their diagonals,

    (<K, L> + (1'K1)(1'L1) / ((n-1)(n-2)) - 2 / (n-2) 1'KL1) / (n (n-3)).
    """
    total = _zeros(representations)
    for batch in _batches(len(representations[0]), batch_size):
        grams = torch.stack([r[batch] @ r[batch].T for r in representations])
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


def _zeros(representations: Sequence[Tensor]) -> Tensor:
    count = len(representations)
    return torch.zeros((count, count), dtype=torch.float64, device=representations[0].device)


def _normalised(products: NDArray[np.float64]) -> NDArray[np.float64]:
    own = np.diagonal(products).copy()
    own[own <= 0] = np.nan
    upper = np.triu(products / np.sqrt(own[:, None] * own[None, :]), 1)
    matrix = upper + upper.T
    np.fill_diagonal(matrix, np.where(np.isnan(own), np.nan, 1.0))
    return matrix

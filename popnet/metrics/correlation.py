"""The full matrices of correlations between members; their means over pairs need none of this (see `members`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from popnet import native
from popnet.metrics.members import warn_constant

EXACT_VALUES = 300_000
"""Up to here a product of two members' doubled ranks, at most values^3 / 3, is exact in float64."""

_COLUMNS = 4096  # values that are multiplied at once
_LIMB_BITS = 13  # beyond EXACT_VALUES, ranks are split: two limbs of at most 13 bits for up to 2^26 values


def rank_correlation_matrix(vectors: Tensor, threads: int) -> NDArray[np.float64]:
    """Spearman's rho of every pair of rows of float32 [members, values]; exact products of integer ranks.

    Above 2^26 values (67 million) the last bits depend on the device.
    """
    ranks = native.centred_ranks(vectors, threads=threads)
    if ranks.shape[1] <= EXACT_VALUES:
        products = _products(ranks, lambda part: [part])[0]
    else:
        low_bits = (1 << _LIMB_BITS) - 1
        high, cross, low = _products(ranks, lambda part: [part >> _LIMB_BITS, part & low_bits])
        products = high * 2.0 ** (2 * _LIMB_BITS) + (cross * 2.0**_LIMB_BITS + low)
    return _normalised(products, "spearman")


def correlation_matrix(vectors: Tensor) -> NDArray[np.float64]:
    """Pearson's correlation of every pair of rows of float32 [members, values]; exactly 1 for equal rows.

    Rests on the vendor's matrix product: equal between devices to 1e-9.
    """
    products = torch.zeros((len(vectors), len(vectors)), dtype=torch.float64, device=vectors.device)
    means = vectors.sum(dim=1, dtype=torch.float64, keepdim=True) / vectors.shape[1]
    for part in vectors.split(_COLUMNS, dim=1):
        centred = part.to(torch.float64) - means
        products += centred @ centred.T
    constant = (vectors == vectors[:, :1]).all(dim=1).cpu().numpy()
    matrix = products.cpu().numpy()
    matrix[constant] = matrix[:, constant] = 0.0
    matrix = _normalised(matrix, "pearson")
    digests = [hashlib.blake2b(row.contiguous().numpy()).digest() for row in vectors.cpu()]
    names = np.unique(np.array(digests), return_inverse=True)[1].reshape(-1)
    matrix[(names[:, None] == names[None, :]) & ~np.isnan(matrix)] = 1.0
    return matrix


def _products(ranks: Tensor, limbs_of: Callable[[Tensor], list[Tensor]]) -> list[NDArray[np.float64]]:
    """The sums over values of the products of limbs: [own] for one limb, [high high, high low + low high, low low]."""
    members = len(ranks)
    totals: list[Tensor] = []
    for part in ranks.split(_COLUMNS, dim=1):
        limbs = [limb.to(torch.float64) for limb in limbs_of(part)]
        terms = [limbs[0] @ limbs[0].T]
        if len(limbs) == 2:
            cross = limbs[0] @ limbs[1].T
            terms += [cross + cross.T, limbs[1] @ limbs[1].T]
        totals = totals or [torch.zeros((members, members), dtype=torch.float64, device=ranks.device) for _ in terms]
        for total, term in zip(totals, terms):
            total += term
    return [total.cpu().numpy() for total in totals]


def _normalised(products: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    """products / sqrt(own * own), symmetric, 1 on the diagonal; NaN, with a warning, where own is 0."""
    own = np.diagonal(products)
    constant = np.flatnonzero(own == 0)
    if constant.size:
        warn_constant(int(constant[0]), constant.size, metric)
    with np.errstate(invalid="ignore", divide="ignore"):
        upper = np.triu(products / (np.sqrt(own)[:, None] * np.sqrt(own)[None, :]), 1)
    exact = products == own[:, None]
    matrix = upper + upper.T
    matrix[exact & exact.T] = 1.0  # equal vectors, whatever the roots round to
    matrix[constant] = matrix[:, constant] = np.nan
    return np.clip(matrix, -1.0, 1.0)

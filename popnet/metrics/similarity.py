"""How alike the representations of two models are: linear centred kernel alignment (Kornblith et al., 2019).

Summers & Dinneen (2021), Figure 1, compare the layers of 25 models with it.
"""

from __future__ import annotations

import numpy as np
import torch

from popnet.metrics.inputs import Array


def linear_cka(features_a: Array, features_b: Array) -> float:
    """Linear CKA of two representations of the same examples, in 0..1.

    features_a and features_b: [examples, ...], floating point; all axes but the first are flattened and need not
    agree. Uses the feature form or the example-Gram form, whichever is smaller. NaN where either is constant.
    """
    a, b = _features(features_a, "features_a"), _features(features_b, "features_b")
    if a.shape[0] != b.shape[0]:
        raise ValueError(
            f"features_a and features_b must hold the same examples, but hold {a.shape[0]} and {b.shape[0]}"
        )
    if a.shape == b.shape and np.array_equal(a, b):
        return 1.0 if np.any(a) else float("nan")
    if a.shape[0] < max(a.shape[1], b.shape[1]):
        gram_a, gram_b = a @ a.T, b @ b.T
        cross = float(np.vdot(gram_a, gram_b))
        norm_a, norm_b = np.linalg.norm(gram_a), np.linalg.norm(gram_b)
    else:
        cross = float(np.linalg.norm(a.T @ b) ** 2)
        norm_a, norm_b = np.linalg.norm(a.T @ a), np.linalg.norm(b.T @ b)
    with np.errstate(invalid="ignore"):
        return float(np.divide(cross, norm_a * norm_b))


def _features(features: Array, name: str) -> np.ndarray:
    if isinstance(features, torch.Tensor):
        features = features.detach().to("cpu", torch.float64).numpy()
    if not isinstance(features, np.ndarray) or features.dtype.kind != "f":
        raise ValueError(f"{name} must be a floating-point array [examples, ...]")
    if features.ndim < 2 or features.shape[0] < 2:
        raise ValueError(
            f"{name} must be [examples, ...] with at least 2 examples, but has shape {list(features.shape)}"
        )
    flat = features.reshape(features.shape[0], -1).astype(np.float64)
    if not np.isfinite(flat).all():
        raise ValueError(f"{name} of example {int(np.argwhere(~np.isfinite(flat))[0][0])} is not finite")
    return flat - flat.mean(axis=0)

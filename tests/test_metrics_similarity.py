"""Linear CKA against its definition, in both forms, and the unbiased minibatch estimator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference
import torch

from popnet import metrics


@pytest.mark.parametrize(("examples", "widths"), [(30, (7, 5)), (8, (50, 3)), (8, (50, 60)), (1100, (600, 1300))])
def test_linear_cka(examples, widths):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(examples, widths[0]))
    b = rng.normal(size=(examples, 1, widths[1])) + a[:, :1, None]
    expected = reference.linear_cka(a, b)
    assert metrics.linear_cka(a, b) == pytest.approx(expected, abs=1e-9)
    assert metrics.linear_cka(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, abs=1e-9)
    assert metrics.linear_cka(a, 3.0 * a + 1.0) == pytest.approx(1.0, abs=1e-9)
    assert metrics.linear_cka(a, a) == 1.0
    matrix = metrics.linear_cka_matrix([a, b, a])
    assert matrix[0, 1] == pytest.approx(expected, abs=1e-9)
    assert np.array_equal(matrix, matrix.T)
    assert np.all(np.diagonal(matrix) == 1.0)
    assert matrix[0, 2] == pytest.approx(1.0, abs=1e-9)


def test_the_minibatch_estimator():
    rng = np.random.default_rng(1)
    layers = [rng.normal(size=(43, width)) for width in (3, 8, 20)]
    layers.append(layers[0] @ rng.normal(size=(3, 6)))
    matrix = metrics.linear_cka_matrix(layers, estimator="minibatch", batch_size=20)  # 20, 20; three are left out
    batches = [slice(0, 20), slice(20, 40)]
    hsic = [[sum(reference.unbiased_hsic(a[batch], b[batch]) for batch in batches) for b in layers] for a in layers]
    expected = [[hsic[i][j] / math.sqrt(hsic[i][i] * hsic[j][j]) for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-9)


def test_independent_representations_have_no_minibatch_bias():
    rng = np.random.default_rng(2)
    layers = [rng.normal(size=(2048, 64)) for _ in range(2)]
    assert metrics.linear_cka_matrix(layers, estimator="minibatch", batch_size=64)[0, 1] == pytest.approx(0, abs=0.02)
    assert metrics.linear_cka_matrix([layer[:64] for layer in layers])[0, 1] > 0.4


def test_a_constant_representation_has_no_similarity():
    a = np.random.default_rng(3).normal(size=(10, 4))
    assert math.isnan(metrics.linear_cka(a, np.full((10, 2), 0.1)))
    assert math.isnan(metrics.linear_cka(np.ones((10, 2)), np.ones((10, 2))))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((5, 2)), np.zeros((4, 2)), "must hold the same examples, but hold 5 and 4"),
        (np.zeros(5), np.zeros((5, 2)), r"features_a must be \[examples, ...\]"),
        (np.zeros((5, 2)), np.zeros((5, 2), np.int64), "features_b must be a floating-point array"),
        (np.zeros((5, 2)), np.array([[0.0], [1.0], [math.nan], [0.0], [0.0]]), "features_b of example 2 is not finite"),
    ],
)
def test_wrong_features_are_named(a, b, message):
    with pytest.raises(ValueError, match=message):
        metrics.linear_cka(a, b)


def test_wrong_arguments_of_the_matrix_are_named():
    a = np.zeros((5, 2))
    with pytest.raises(ValueError, match="at least one"):
        metrics.linear_cka_matrix([])
    with pytest.raises(ValueError, match="estimator must be"):
        metrics.linear_cka_matrix([a], estimator="other")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size must be at least 4"):
        metrics.linear_cka_matrix([a], estimator="minibatch", batch_size=3)
    with pytest.raises(ValueError, match=r"representations\[0\] and representations\[1\]"):
        metrics.linear_cka_matrix([a, a[:4]])

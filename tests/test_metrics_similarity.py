"""Linear CKA against its definition, in all estimators and both forms, and its noise floor."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import reference
import torch

from popnet import metrics
from popnet.metrics.similarity import ESTIMATORS

REFERENCE = {"unbiased": reference.unbiased_cka, "biased": reference.linear_cka}


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize(("examples", "widths"), [(30, (7, 5)), (8, (50, 3)), (8, (50, 60)), (600, (400, 900))])
def test_linear_cka(examples, widths, estimator):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(examples, widths[0]))
    b = rng.normal(size=(examples, 1, widths[1])) + a[:, :1, None]
    expected = REFERENCE[estimator](a, b)
    assert metrics.linear_cka(a, b, estimator=estimator) == pytest.approx(expected, abs=1e-9)
    of_torch = metrics.linear_cka(torch.from_numpy(a), torch.from_numpy(b), estimator=estimator)
    assert of_torch == pytest.approx(expected, abs=1e-9)
    assert metrics.linear_cka(a, a, estimator=estimator) == 1.0
    matrix = metrics.linear_cka_matrix([a, b, 3.0 * a + 1.0], estimator=estimator)
    assert matrix[0, 1] == pytest.approx(expected, abs=1e-9)
    assert np.array_equal(matrix, matrix.T)
    assert np.all(np.diagonal(matrix) == 1.0)
    assert matrix[0, 2] == pytest.approx(1.0, abs=1e-9)


def test_the_unbiased_estimator_is_the_default():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 12, 40))
    expected = reference.unbiased_cka(a, b)
    assert metrics.linear_cka(a, b) == pytest.approx(expected, abs=1e-9)
    assert metrics.linear_cka_matrix([a, b])[0, 1] == pytest.approx(expected, abs=1e-9)
    hsic = [reference.unbiased_hsic(*pair) for pair in ((a, b), (a, a), (b, b))]
    assert expected == pytest.approx(hsic[0] / math.sqrt(hsic[1] * hsic[2]), abs=1e-9)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rotation_scale_shift_and_the_order_of_examples_change_nothing(estimator):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(60, 9)), rng.normal(size=(60, 4))
    b += a[:, :4]
    rotation = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    expected = metrics.linear_cka(a, b, estimator=estimator)
    order = rng.permutation(60)
    for c, d in ((a @ rotation, b), (2.5 * a + 7.0, -b), (a[order], b[order]), (b, a)):
        assert metrics.linear_cka(c, d, estimator=estimator) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_equal_representations_are_exactly_alike(estimator):
    """Equal ones count once, so no rounding comes between them, in whatever company."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 600, 700)).astype(np.float32)
    matrix = metrics.linear_cka_matrix([a, b, a.copy(), b, a], estimator=estimator)
    assert matrix[0, 2] == matrix[0, 4] == matrix[1, 3] == 1.0
    assert matrix[0, 1] == matrix[2, 3] == matrix[4, 1] != 1.0


def test_unrelated_representations_average_nothing():
    """The biased estimator finds 0.970 for white noise of 32 features for each example (16,384 of 512 images)."""
    rng = np.random.default_rng(3)
    wide = rng.normal(size=(2, 128, 4096)).astype(np.float32)
    biased = metrics.linear_cka_alignment(wide, estimator="biased")
    assert biased.cka[0, 1] == pytest.approx(0.970, abs=1e-3)
    assert biased.floor[0, 1] == pytest.approx(4096 / (4096 + 128), abs=1e-3)
    assert metrics.linear_cka(*wide) == pytest.approx(0, abs=4 * math.sqrt(2) / 128)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_noise_floor_is_the_mean_over_all_matchings(estimator):
    """All 120 ways of matching five examples: exactly, whatever the representations."""
    rng = np.random.default_rng(4)
    a, b = rng.gamma(1.0, size=(5, 2)), rng.normal(size=(5, 30)) + 1.0
    found = metrics.linear_cka_alignment([a, b], estimator=estimator)
    matched = [b[list(order)] for order in itertools.permutations(range(5))]
    drawn = metrics.linear_cka_matrix([a, *matched], estimator=estimator)[0, 1:]
    assert drawn.mean() == pytest.approx(found.floor[0, 1], abs=1e-12)
    assert (found.floor[0, 1] == 0.0) == (estimator != "biased")
    assert drawn.std() == pytest.approx(found.floor_sd[0, 1], abs=1e-12)
    if estimator != "biased":
        assert found.floor_sd[0, 1] == pytest.approx(math.sqrt(2 / (5 * 2)))


def test_the_noise_floors_spread_is_the_pairs_own():
    """Of 16 and of 2,000 random features for 64 examples, against 400 matchings; 0.022 was given for any pair once."""
    rng = np.random.default_rng(6)
    for width in (16, 2000):
        a, b = rng.normal(size=(2, 64, width))
        found = metrics.linear_cka_alignment([a, b], estimator="biased")
        left, right = (centred @ centred.T for centred in (a - a.mean(axis=0), b - b.mean(axis=0)))
        orders = [rng.permutation(64) for _ in range(400)]
        drawn = np.array([(left * right[np.ix_(order, order)]).sum() for order in orders])
        drawn /= np.linalg.norm(left) * np.linalg.norm(right)
        assert drawn.std() == pytest.approx(found.floor_sd[0, 1], rel=0.15)
    assert found.floor_sd[0, 1] < 0.001
    assert np.isnan(metrics.linear_cka_alignment([a[:3], b[:3]], estimator="biased").floor_sd).all()


def test_so_many_examples_are_enough_however_wide_representations_are():
    """What two representations share, in white noise of as many features as there are: the CKA of infinite data."""
    rng = np.random.default_rng(5)
    width, noise = 3000, 3.0
    shared = rng.normal(size=(20, width))
    a, b = (each + noise * rng.normal(size=each.shape) for each in 2 * [rng.normal(size=(512, 20)) @ shared])
    common = np.square(shared @ shared.T).sum()
    truth = common / (common + 2 * noise**2 * np.square(shared).sum() + noise**4 * width)
    assert 0.8 < truth < 1.0
    assert metrics.linear_cka(a, b) == pytest.approx(truth, abs=0.005)


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
    assert metrics.linear_cka_matrix([layer[:64] for layer in layers], estimator="biased")[0, 1] > 0.4


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_constant_representation_has_no_similarity(estimator):
    a = np.random.default_rng(3).normal(size=(10, 4))
    assert math.isnan(metrics.linear_cka(a, np.full((10, 2), 0.1), estimator=estimator))
    assert math.isnan(metrics.linear_cka(np.ones((10, 2)), np.ones((10, 2)), estimator=estimator))
    found = metrics.linear_cka_alignment([a, np.ones((10, 2))], estimator=estimator)
    assert np.isnan(found.floor[:, 1]).all()
    assert np.isnan(found.floor_sd[:, 1]).all()


def test_examples_equally_far_apart_have_no_similarity():
    """Any matching of such examples fits as well as any other, so there is nothing to estimate, only rounding."""
    a = np.random.default_rng(3).normal(size=(10, 4))
    assert math.isnan(metrics.linear_cka(a, 3.0 * np.eye(10)))
    assert math.isnan(metrics.linear_cka(np.eye(10), np.eye(10)))
    assert metrics.linear_cka(np.eye(10), np.eye(10), estimator="biased") == 1.0


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
    for estimator in ("unbiased", "minibatch"):
        with pytest.raises(ValueError, match=f"the {estimator} estimator needs at least 4 examples, but there are 3"):
            metrics.linear_cka_matrix([a[:3]], estimator=estimator)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"representations\[0\] and representations\[1\]"):
        metrics.linear_cka_matrix([a, a[:4]])

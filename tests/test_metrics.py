"""Every metric against its slow, obvious version, and what must come out exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from popnet import metrics
from popnet.metrics.chance import at_chance
from popnet.report import published

CLASSES = 5


def population(seed: int, members: int = 6, examples: int = 40, classes: int = CLASSES, ties: bool = False):
    """Logits [members, examples, classes] that share a signal, and labels; with ties, small integers."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, examples)
    logits = rng.normal(size=(members, examples, classes)) + rng.normal(size=(examples, classes))
    logits[:, np.arange(examples), labels] += 1.0
    if ties:
        logits = np.round(logits)
    return logits.astype(np.float32), labels


@st.composite
def populations(draw):
    members, examples, classes = draw(st.integers(2, 5)), draw(st.integers(2, 12)), draw(st.integers(1, 6))
    z, y = population(draw(st.integers(0, 2**31)), members, examples, classes, draw(st.booleans()))
    scale = draw(st.sampled_from([1.0, 1e-30, 30.0, 1e4, 1e30]))
    z = (z * np.float32(scale)).astype(np.float32)
    if draw(st.booleans()):
        z[-1] = z[0]
    return z, y


@settings(max_examples=60, deadline=None)
@given(populations())
def test_every_metric_is_its_definition(case):
    z, y = case
    assert np.array_equal(metrics.accuracy(z, y), reference.accuracy(z, y))
    scale = float(np.abs(z).max()) + 1.0
    np.testing.assert_allclose(metrics.cross_entropy(z, y), reference.cross_entropy(z, y), rtol=0, atol=1e-12 * scale)
    assert metrics.disagreement(z) == pytest.approx(reference.over_pairs(z, reference.disagreement_of_pair), abs=1e-12)
    delta = reference.over_pairs(z, lambda a, b: reference.ensemble_delta_of_pair(a, b, y))
    assert metrics.ensemble_delta(z, y) == pytest.approx(delta, abs=1e-12)
    delta = reference.over_pairs(z, lambda a, b: reference.ensemble_cross_entropy_delta_of_pair(a, b, y))
    assert metrics.ensemble_delta(z, y, "cross_entropy") == pytest.approx(delta, abs=1e-12 * scale)
    if all(member.min() < member.max() for member in z):
        rho = reference.over_pairs(z, reference.spearman_of_pair)
        assert metrics.spearman(z) == pytest.approx(rho, abs=1e-12)
        if 1e-3 < scale < 1e10:
            assert metrics.pearson(z) == pytest.approx(reference.over_pairs(z, reference.pearson_of_pair), abs=1e-9)


@pytest.mark.parametrize("ties", [False, True])
def test_pairwise_matrices_average_to_the_metrics(ties):
    z, y = population(3, ties=ties)
    matrices = metrics.pairwise(z, y)
    upper = np.triu_indices(len(z), 1)
    expected = {
        "disagreement": (metrics.disagreement(z), 0.0),
        "spearman": (metrics.spearman(z), 1.0),
        "pearson": (metrics.pearson(z), 1.0),
        "ensemble_delta": (metrics.ensemble_delta(z, y), 0.0),
        "ensemble_cross_entropy_delta": (metrics.ensemble_delta(z, y, "cross_entropy"), 0.0),
    }
    for name, (mean, own) in expected.items():
        matrix = getattr(matrices, name)
        assert matrix.shape == (6, 6)
        assert matrix.dtype == np.float64
        assert np.array_equal(matrix, matrix.T), name
        assert np.all(np.diagonal(matrix) == own), name
        assert matrix[upper].mean() == pytest.approx(mean, abs=1e-12), name
    assert matrices.spearman[0, 1] == pytest.approx(reference.spearman_of_pair(z[0], z[1]), abs=1e-12)


def test_variability_holds_every_metric():
    z, y = population(1, members=9)
    row = metrics.variability(z, y)
    accuracies, losses = reference.accuracy(z, y), reference.cross_entropy(z, y)
    assert row.members == 9
    assert row.accuracy_mean == pytest.approx(accuracies.mean(), abs=1e-12)
    assert row.accuracy_sd == pytest.approx(accuracies.std(), abs=1e-12)
    assert row.cross_entropy_mean == pytest.approx(losses.mean(), abs=1e-12)
    assert row.cross_entropy_sd == pytest.approx(losses.std(), abs=1e-12)
    assert (row.disagreement, row.spearman, row.pearson) == (
        metrics.disagreement(z),
        metrics.spearman(z),
        metrics.pearson(z),
    )
    assert row.ensemble_delta == metrics.ensemble_delta(z, y)
    assert row.ensemble_cross_entropy_delta == metrics.ensemble_cross_entropy_delta(z, y)


def test_bootstrap_error_is_that_of_the_members_and_seeded():
    z, y = population(2, members=20, examples=200)
    first, again = metrics.variability(z, y), metrics.variability(z, y)
    assert first == again
    other = metrics.variability(z, y, bootstrap_seed=2)
    assert other.accuracy_sd_error != first.accuracy_sd_error
    assert other.accuracy_sd_error == pytest.approx(first.accuracy_sd_error, rel=0.1)
    assert first.accuracy_sd_error == pytest.approx(first.accuracy_sd / math.sqrt(2 * 20), rel=0.5)


@pytest.mark.parametrize("members", [2, 3, 7, 49])
def test_equal_members_are_exactly_equal(members):
    z, y = population(4, members=1, examples=123)
    row = metrics.variability(np.repeat(z, members, axis=0), y)
    exact = dict.fromkeys(("spearman", "pearson"), 1.0)
    for name, value in row.as_dict().items():
        if name not in ("members", "accuracy_mean", "cross_entropy_mean", "ensemble_pairs"):
            assert value == exact.get(name, 0.0), name


def test_ties_that_only_rounding_would_make_decide_nothing():
    # In float32 both sums round to 1; exactly, class 1 is ahead by 2^-30 and 2^-60.
    for tiny in (2.0**-30, 2.0**-60):
        z = np.array([[[1.0, 1.0]], [[0.0, tiny]]], dtype=np.float32)
        assert metrics.ensemble_delta(z, np.array([1])) == 50.0 * 2 - 50.0 * 1
    z = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], dtype=np.float32)
    assert metrics.ensemble_delta(z, np.array([0])) == 50.0
    assert metrics.ensemble_delta(z, np.array([1])) == -50.0


def test_a_member_of_equal_logits_has_no_correlation():
    z, _ = population(5)
    z[2] = 1.0
    with pytest.warns(RuntimeWarning, match="member 2"):
        assert math.isnan(metrics.spearman(z))
    with pytest.warns(RuntimeWarning, match="member 2"):
        assert math.isnan(metrics.pearson(z))


def test_torch_and_numpy_and_half_precision_agree():
    z, y = population(6)
    expected = metrics.variability(z, y)
    assert metrics.variability(torch.from_numpy(z), torch.from_numpy(y)) == expected
    for dtype in (torch.float16, torch.bfloat16):
        half = torch.from_numpy(z).to(dtype)
        assert metrics.variability(half, y) == metrics.variability(half.float(), y)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (
            np.zeros((2, 3), np.float32),
            np.zeros(3, np.int64),
            r"logits must be \[members, examples, classes\]",
        ),
        (np.zeros((2, 3, 4), np.float64), np.zeros(3, np.int64), "logits must be float32"),
        (np.zeros((2, 0, 4), np.float32), np.zeros(0, np.int64), "logits must not be empty"),
        (np.zeros((2, 3, 4), np.float32), np.zeros(4, np.int64), r"labels must be \[examples\] = \[3\]"),
        (np.zeros((2, 3, 4), np.float32), np.zeros(3, np.float32), "labels must be integers"),
        (np.zeros((2, 3, 4), np.float32), np.array([0, 4, 0]), r"labels\[1\] is 4"),
        (np.zeros((1, 3, 4), np.float32), np.zeros(3, np.int64), "at least 2 members"),
        ([[1.0]], np.zeros(3, np.int64), "logits must be a NumPy array or a torch tensor"),
    ],
)
def test_wrong_input_is_named(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        metrics.variability(logits, labels)


@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "infinite"), (-math.inf, "infinite")])
def test_logits_that_are_not_finite_are_named(value, word):
    z, y = population(7)
    z[3, 17, 2] = value
    for metric in (metrics.disagreement, metrics.spearman, lambda z: metrics.variability(z, y)):
        with pytest.raises(ValueError, match=f"member 3, example 17, class 2 is {word}"):
            metric(z)


def test_variability_reduction_reproduces_both_published_columns():
    table = published("summers_dinneen_2021.table5")
    single = table.loc["Single Model"].to_dict()
    for _, row in table.iloc[1:].iterrows():
        assert metrics.variability_reduction(single, row.to_dict()) == pytest.approx(row.variability_reduction, abs=1)
    table = published("reproduction_report.table7_mitigation")
    single = table.loc["Single Model"].to_dict()
    for _, row in table.iloc[1:].iterrows():
        raw = metrics.variability_reduction(single, row.to_dict(), correlation="raw")
        assert raw == pytest.approx(row.variability_reduction_raw_rho, abs=1)
    with pytest.raises(ValueError, match="'complement' or 'raw'"):
        metrics.variability_reduction(single, single, correlation="other")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mitigated has no spearman"):
        metrics.variability_reduction(single, {"accuracy_sd": 1.0, "cross_entropy_sd": 1.0, "disagreement": 1.0})


def test_members_at_chance_or_that_know_less_than_nothing_are_marked():
    labels = np.arange(10_000) % 10
    right = np.eye(10, dtype=np.float32)[labels]
    wrong = np.roll(right, 1, axis=1)
    by_count = [np.where(np.arange(10_000)[:, None] < count, right, wrong) for count in (10_000, 1_090, 1_091)]
    surely_wrong = np.where(np.arange(10_000)[:, None] < 6_000, 1e3 * right, 1e3 * wrong)
    nothing = np.zeros_like(right)
    logits = np.stack([*by_count, surely_wrong, nothing]).astype(np.float32)
    assert metrics.cross_entropy(logits, labels)[3] > 100, "60% right, and the loss of what diverged"
    assert metrics.diverged(logits, labels).tolist() == [False, True, True, True, True]
    unsure = np.stack([0.01 * image for image in by_count]).astype(np.float32)
    assert metrics.diverged(unsure, labels).tolist() == [False, True, False], "1,090 of 10,000 are three deviations"
    assert metrics.diverged(unsure[:, :20], labels[:20]).tolist() == [False, False, False]
    assert not metrics.diverged(np.zeros((2, 5, 1), np.float32), np.zeros(5, np.int64)).any(), (
        "one class is always right"
    )


@pytest.mark.parametrize(
    ("right", "labels", "lost"),
    [
        (8, [0, 1] * 4, False),
        (7, [0, 1] * 4, True),
        (800, [0] * 800 + [1] * 200, True),
        (838, [0] * 800 + [1] * 200, False),
    ],
)
def test_chance_is_the_commonest_class_and_a_perfect_member_is_never_at_it(right, labels, lost):
    targets = np.array(labels)
    given = np.where(np.arange(len(targets)) < right, targets, 1 - targets)
    logits = np.eye(2, dtype=np.float32)[given][None]
    assert metrics.diverged(logits, targets).tolist() == [lost]
    assert at_chance(100 * right / len(targets), targets) is lost

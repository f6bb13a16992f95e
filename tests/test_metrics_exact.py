"""The metrics' promise: the same bits for any threads, blocks and order of members, on the CPU and on CUDA."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from popnet import metrics, native
from popnet.metrics import pairs
from popnet.metrics.predictions import ArrayPredictions, Predictions

needs_gpu = pytest.mark.skipif(
    not (torch.cuda.is_available() and native.cuda_compiled), reason="no CUDA device, or built without CUDA"
)

# What numbers the members: the resamples. Everything else is a mean over members or pairs.
NUMBERED = {"accuracy_sd_error", "cross_entropy_sd_error"}


def population(seed: int, members: int, examples: int, classes: int, ties: bool, scale: float = 1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, examples)
    logits = rng.normal(size=(members, examples, classes)) + 2 * rng.normal(size=(examples, classes))
    if ties:
        logits = np.round(logits)
    return torch.from_numpy((logits * scale).astype(np.float32)), torch.from_numpy(labels)


@pytest.fixture(scope="module", params=["plain", "ties", "extreme", "two"])
def case(request):
    if request.param == "two":
        return population(3, 2, 5, 2, False)
    scale = 1e30 if request.param == "extreme" else 1.0
    return population(1, 23, 75, 7, request.param == "ties", scale)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("block", [1, 7, None])
def test_threads_and_blocks_change_no_bit(case, threads, block):
    z, y = case
    expected = metrics.variability(z, y, threads=1, resamples=50)
    assert metrics.variability(z, y, threads=threads, block=block, resamples=50) == expected


def test_the_order_of_members_changes_no_mean(case):
    z, y = case
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(1))
    first, second = (asdict(metrics.variability(logits, y, resamples=50)) for logits in (z, z[order]))
    assert {k: v for k, v in first.items() if k not in NUMBERED} == {
        k: v for k, v in second.items() if k not in NUMBERED
    }


def test_threads_change_no_bit_of_the_matrices(case):
    z, y = case
    one, three = metrics.pairwise(z, y, threads=1), metrics.pairwise(z, y, threads=3)
    for name, matrix in asdict(one).items():
        assert np.array_equal(matrix, getattr(three, name)), name


class Files(Predictions):
    """As a reader of files would: every read is a copy, in slices of 16 examples."""

    def __init__(self, logits: torch.Tensor) -> None:
        self._logits = logits
        self.members, self.examples, self.classes = logits.shape

    def read(self, members, examples):
        assert examples.stop - examples.start in (16, self.examples) or examples.stop == self.examples
        return self._logits[list(members), examples].to(torch.float32)


def test_a_reader_gives_the_same_bits_as_the_array(case, monkeypatch):
    z, y = case
    monkeypatch.setattr("popnet.metrics.predictions.BLOCK_BYTES", 1)  # one member, sixteen examples at a time
    assert metrics.variability(Files(z), y, resamples=50) == metrics.variability(z, y, resamples=50)


def test_a_sample_of_pairs_is_fixed_and_says_so(monkeypatch):
    z, y = population(5, 60, 40, 4, False)
    every = metrics.variability(z, y, resamples=20)
    assert every.all_pairs
    assert every.ensemble_delta_error == 0.0
    monkeypatch.setattr(pairs, "ALL_PAIRS_LIMIT", 50)
    monkeypatch.setattr(pairs, "SAMPLE_GROUP", 8)
    sample = metrics.variability(z, y, resamples=20)
    assert not sample.all_pairs
    assert sample.ensemble_pairs == sum(size * (size - 1) // 2 for size in [9, 9, 9, 9, 8, 8, 8])
    assert sample == metrics.variability(Files(z), y, resamples=20, threads=1, block=7)
    assert 0 < abs(sample.ensemble_delta - every.ensemble_delta) < 4 * sample.ensemble_delta_error
    gap = abs(sample.ensemble_cross_entropy_delta - every.ensemble_cross_entropy_delta)
    assert 0 < gap < 4 * sample.ensemble_cross_entropy_delta_error
    assert metrics.variability(z, y, resamples=20, pairs_seed=2).ensemble_delta != sample.ensemble_delta
    groups = pairs.pair_groups(60, seed=1)
    assert sorted(i for group in groups for i in group) == list(range(60))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 130), st.integers(1, 5), st.booleans())
def test_member_scores(seed, members, examples, classes, ties):
    z, y = population(seed, members, examples, classes, ties)
    scores = native.member_scores(z, y, threads=2)
    predictions = z.numpy().argmax(axis=2)
    right = predictions == y.numpy()
    assert np.array_equal(scores.predictions.numpy(), predictions)
    assert np.array_equal(scores.correct.numpy(), right.sum(axis=1))
    assert torch.equal(native.right_answers(z, y), torch.from_numpy(right))
    bits = np.unpackbits(scores.correct_bits.numpy().view(np.uint8), axis=1, bitorder="little")
    assert np.array_equal(bits[:, :examples], right)
    assert not bits[:, examples:].any()


def test_cross_entropies_are_summed_exactly():
    rng = np.random.default_rng(0)
    magnitudes = 10.0 ** rng.uniform(-30, 37, size=(1, 500, 1))
    z = torch.from_numpy((rng.normal(size=(1, 500, 3)) * magnitudes).astype(np.float32))
    y = torch.from_numpy(rng.integers(0, 3, 500))
    single = [native.member_scores(z[:, e : e + 1].contiguous(), y[e : e + 1]).cross_entropy_sums for e in range(500)]
    assert native.member_scores(z, y).cross_entropy_sums.item() == math.fsum(float(loss) for loss in single)


@pytest.mark.parametrize("members", [2, 3, 10, 101])
def test_the_bootstrap_is_that_of_popnets_stream(members):
    values = np.random.default_rng(members).integers(0, 2**41, (2, members))
    deviations = native.bootstrap_deviations(torch.from_numpy(values), resamples=5, seed=2**40 + 1, threads=2)
    expected = [[reference.bootstrap_deviation(row, r, 2**40 + 1) for r in range(5)] for row in values]
    np.testing.assert_allclose(deviations.numpy(), expected, rtol=1e-12)


def test_the_bootstrap_error_of_a_population():
    z, y = population(8, 12, 50, 3, False)
    row = metrics.variability(z, y, resamples=40, bootstrap_seed=3)
    for values, error in (
        (metrics.accuracy(z, y), row.accuracy_sd_error),
        (metrics.cross_entropy(z, y), row.cross_entropy_sd_error),
    ):
        deviations = [reference.bootstrap_deviation(values, r, 3) for r in range(40)]
        assert error == pytest.approx(np.std(deviations), abs=1e-12 * np.ptp(values))


def test_rank_matrix_beyond_exact_products(monkeypatch):
    z, _ = population(9, 4, 300, 5, True)
    vectors = z.reshape(4, -1)
    from popnet.metrics import correlation

    exact = correlation.rank_correlation_matrix(vectors, 1)
    monkeypatch.setattr(correlation, "EXACT_VALUES", 10)
    monkeypatch.setattr(correlation, "_LIMB_BITS", 5)
    np.testing.assert_allclose(correlation.rank_correlation_matrix(vectors, 1), exact, rtol=0, atol=1e-15)


def test_centred_ranks():
    z = torch.tensor([[3.0, -0.0, 0.0, 1.0, 3.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    assert native.centred_ranks(z).tolist() == [[3, -3, -3, 0, 3], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("metric", ["accuracy", "cross_entropy"])
def test_ensembles_of_more_than_two(size, metric):
    z, y = population(10, 11, 60, 4, False)
    result = metrics.ensemble_delta_mean(z, y, metric, size=size)
    value = metrics.accuracy if metric == "accuracy" else metrics.cross_entropy
    deltas = []
    for group in pairs.disjoint_groups(11, size, seed=1):
        mean = (sum(z[m].double() for m in group) / size).float()
        deltas.append(value(mean[None], y)[0] - value(z[group], y).mean())
    assert result.pairs == 11 // size
    assert result.mean == pytest.approx(np.mean(deltas), abs=1e-12)
    assert result.error == pytest.approx(np.std(deltas, ddof=1) / math.sqrt(len(deltas)), abs=1e-12)
    assert metrics.ensemble_delta(z, y, metric, size=size) == result.mean


def test_ensembles_that_cannot_be():
    z, y = population(10, 3, 10, 4, False)
    with pytest.raises(ValueError, match="size is 4, but there are 3 members"):
        metrics.ensemble_delta(z, y, size=4)
    with pytest.raises(ValueError, match="size must be at least 2"):
        metrics.ensemble_delta(z, y, size=1)
    with pytest.raises(ValueError, match="metric must be"):
        metrics.ensemble_delta(z, y, "loss")  # type: ignore[arg-type]


@pytest.mark.gpu
@needs_gpu
def test_cuda_gives_the_cpus_bits(case):
    z, y = case
    assert metrics.variability(z.cuda(), y, resamples=50) == metrics.variability(z, y, resamples=50)
    cpu, cuda = metrics.pairwise(z, y), metrics.pairwise(z.cuda(), y)
    for name, matrix in asdict(cpu).items():
        if name == "pearson":
            np.testing.assert_allclose(cuda.pearson, matrix, rtol=0, atol=1e-9)
        else:
            assert np.array_equal(getattr(cuda, name), matrix), name


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", [True, False])
def test_cuda_kernels_one_by_one(case, kind):
    z, y = case
    scores, cuda_scores = native.member_scores(z, y), native.member_scores(z.cuda(), y.cuda())
    for name in ("correct", "cross_entropy_sums", "predictions", "correct_bits"):
        assert torch.equal(getattr(scores, name), getattr(cuda_scores, name).cpu()), name
    vectors = z.reshape(len(z), -1)
    sums = torch.zeros((vectors.shape[1], 2), dtype=torch.int64)
    cuda_sums = sums.cuda()
    squares = native.add_unit_vectors(sums, vectors, ranks=kind)
    assert torch.equal(squares, native.add_unit_vectors(cuda_sums, vectors.cuda(), ranks=kind).cpu())
    assert torch.equal(sums, cuda_sums.cpu())
    values = torch.randint(0, 2**41, (2, 33))
    cuda_deviations = native.bootstrap_deviations(values.cuda(), resamples=100, seed=1)
    assert torch.equal(native.bootstrap_deviations(values, resamples=100, seed=1), cuda_deviations.cpu())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])])
@pytest.mark.parametrize(("members", "examples"), [(0, 5), (3, 0), (0, 0)])
def test_no_members_or_no_examples_are_nothing_to_do(members, examples, device):
    z = torch.zeros((members, examples, 4), device=device)
    y = torch.zeros(examples, dtype=torch.int64, device=device)
    scores = native.member_scores(z, y)
    assert scores.correct.tolist() == scores.cross_entropy_sums.tolist() == [0] * members
    votes = torch.zeros((examples, 4), dtype=torch.int64, device=device)
    native.add_votes(votes, scores.predictions)
    assert not votes.any()
    assert native.differing_matrix(scores.predictions).tolist() == [[0] * members] * members
    counts = torch.zeros((members, members), dtype=torch.int64, device=device)
    native.add_ensemble_correct(counts, z, y)
    products = torch.zeros((members, members), dtype=torch.float64, device=device)
    native.add_ensemble_log_products(products, z)
    native.add_mixture_log_products(products, z[:, :, 0].contiguous())
    assert not counts.any()
    assert not products.triu().any()
    assert native.ensemble_gain(z, y) == 0
    assert native.token_sums(z[:, :, 0].contiguous()).tolist() == [0] * members
    assert native.bootstrap_deviations(
        torch.zeros((0, 5), dtype=torch.int64, device=device), resamples=3, seed=1
    ).shape == (0, 3)
    if members == 0:
        vectors, sums = torch.zeros((0, 7), device=device), torch.zeros((7, 2), dtype=torch.int64, device=device)
        assert native.add_unit_vectors(sums, vectors, ranks=True).shape == (0, 2)
        assert native.centred_ranks(vectors).shape == (0, 7)
        assert not sums.any()


def test_arrays_are_not_copied():
    z, _ = population(1, 3, 4, 2, False)
    predictions = ArrayPredictions(z)
    (_, block) = next(predictions.blocks(None, 1))
    assert block.data_ptr() == z.data_ptr()

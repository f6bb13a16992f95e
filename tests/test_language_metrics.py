"""Metrics of language models: their definitions, exactness, and the same bits for any threads, order or device."""

from __future__ import annotations

import math
from dataclasses import astuple, replace
from fractions import Fraction

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from popnet import metrics, native
from popnet.metrics import pairs

needs_gpu = pytest.mark.skipif(
    not (native.cuda_compiled and torch.cuda.is_available()),
    reason="needs a CUDA device and a build with nvcc",
)


def population(seed: int, members: int = 6, tokens: int = 200, scale: float = 2.0):
    """Log-probabilities float32 [members, tokens] and words int32 [members, tokens]."""
    generator = np.random.default_rng(seed)
    shared = generator.exponential(scale, tokens)
    own = np.abs(shared * generator.uniform(0.5, 1.5, (members, tokens)))
    words = generator.integers(0, 5, (members, tokens))
    return (-own).astype(np.float32), words.astype(np.int32)


def log_products(log_probabilities, threads=1, rows=None):
    """The upper triangle of the native sums over pairs."""
    tensor = torch.as_tensor(log_probabilities)
    members = len(tensor) if rows is None else len(rows)
    products = torch.zeros((members, members), dtype=torch.float64, device=tensor.device)
    native.add_mixture_log_products(products, tensor, rows=rows, threads=threads)
    return np.triu(products.cpu().numpy())


# ---- definitions -----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 20), st.integers(2, 200), st.sampled_from([0.1, 3.0, 60.0]))
def test_every_metric_is_its_definition(seed, members, tokens, scale):
    probabilities, words = population(seed, members, tokens, scale)
    found = metrics.language_variability(probabilities, words, resamples=10)
    expected = reference.perplexity(probabilities)
    assert metrics.perplexity(probabilities) == pytest.approx(expected, rel=1e-12)
    assert (found.members, found.ensemble_pairs) == (members, members * (members - 1) // 2)
    assert found.ppl_mean == pytest.approx(expected.mean(), rel=1e-12)
    assert found.ppl_sd == pytest.approx(expected.std(), rel=1e-9, abs=1e-9)
    delta = reference.over_pairs(probabilities, reference.ensemble_perplexity_delta_of_pair)
    assert found.ensemble_ppl_delta == pytest.approx(delta, rel=1e-9, abs=1e-10 * expected.max())
    differing = [100 * np.mean(a != b) for a, b in reference.pairs(words)]
    assert found.disagreement == pytest.approx(np.mean(differing), rel=1e-12)
    rho = reference.over_pairs(probabilities, reference.spearman_of_pair)
    assert found.target_spearman == pytest.approx(rho, abs=1e-12)


def test_matrices_average_to_the_metrics():
    probabilities, words = population(3, members=9)
    found = metrics.language_pairwise(probabilities, words)
    above = np.triu_indices(9, 1)
    assert metrics.word_disagreement(words) == pytest.approx(found.disagreement[above].mean(), rel=1e-13)
    delta = metrics.ensemble_perplexity_delta(probabilities)
    assert delta.mean == pytest.approx(found.ensemble_ppl_delta[above].mean(), rel=1e-12)
    assert (delta.error, delta.pairs) == (0.0, 36)
    for matrix in (found.disagreement, found.ensemble_ppl_delta):
        assert np.array_equal(matrix, matrix.T)
        assert not np.diagonal(matrix).any()
    assert metrics.language_pairwise(probabilities).disagreement is None


def test_logits_bring_their_correlation():
    probabilities, words = population(4)
    logits = np.random.default_rng(4).normal(size=(6, 7, 11)).astype(np.float32)
    found = metrics.language_variability(probabilities, words, logits, resamples=10)
    assert found.logit_spearman == metrics.spearman(logits)
    bare = metrics.language_variability(probabilities, resamples=10)
    assert math.isnan(bare.logit_spearman)
    assert math.isnan(bare.disagreement)
    assert bare.as_dict()["ppl_sd"] == found.ppl_sd


def test_the_bootstrap_error_of_a_population():
    probabilities, _ = population(5, members=7)
    found = metrics.language_variability(probabilities, resamples=30, bootstrap_seed=9)
    perplexities = metrics.perplexity(probabilities)
    deviations = [reference.bootstrap_deviation(perplexities, resample, 9) for resample in range(30)]
    assert found.ppl_sd_error == pytest.approx(np.std(deviations), rel=1e-9)
    assert (
        found.ppl_sd_error != metrics.language_variability(probabilities, resamples=30, bootstrap_seed=8).ppl_sd_error
    )


@pytest.mark.parametrize("members", [2, 9, 17])
def test_equal_members_are_exactly_equal(members):
    probabilities, words = population(6, members=1, tokens=331)
    found = metrics.language_variability(probabilities.repeat(members, 0), words.repeat(members, 0), resamples=10)
    assert (found.ppl_sd, found.ppl_sd_error, found.disagreement, found.ensemble_ppl_delta) == (0, 0, 0, 0)
    assert found.target_spearman == 1


# ---- exactness -------------------------------------------------------------------------------------------------------


def test_tokens_are_summed_exactly():
    values = np.array([[-1e4, -1e-30, 0.0, -3.25, -1e-45, -7e3]], np.float32)
    exact = sum(Fraction(float(value)) for value in values[0])
    assert native.token_sums(torch.from_numpy(values)).item() == float(exact)


@pytest.mark.parametrize("members", [1, 7, 8, 9, 33])
@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 300])
def test_threads_and_slices_change_no_bit(members, tokens):
    probabilities, _ = population(members + tokens, members, tokens)
    whole = log_products(probabilities)
    assert np.array_equal(whole, log_products(probabilities, threads=3))
    products = torch.zeros((members, members), dtype=torch.float64)
    step = 2 * native.TOKEN_CHUNK
    for first in range(0, tokens, step):
        native.add_mixture_log_products(products, torch.from_numpy(probabilities)[:, first : first + step])
    assert np.array_equal(whole, np.triu(products.numpy()))


def test_a_long_text_is_taken_in_parts():
    """More members and tokens than the tables of one part hold."""
    probabilities, _ = population(7, members=70, tokens=64 * 300)
    assert np.array_equal(log_products(probabilities), log_products(probabilities, threads=2))
    rows = torch.tensor([69, 3])
    few = log_products(probabilities, rows=rows)
    assert few[0, 1] == log_products(probabilities[[3, 69]])[0, 1]
    exact = np.logaddexp(*probabilities[[3, 69]].astype(np.float64)).sum()
    assert few[0, 1] == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_blocks_change_no_number(threads):
    probabilities, words = population(8, members=11, tokens=150)
    logits = np.random.default_rng(8).normal(size=(11, 5, 6)).astype(np.float32)
    first = metrics.language_variability(probabilities, words, logits, resamples=50, threads=1)
    other = metrics.language_variability(probabilities, words, logits, resamples=50, threads=threads, block=threads)
    assert astuple(first) == astuple(other)


def test_the_order_of_members_changes_no_mean():
    probabilities, words = population(9, members=12)
    order = np.random.default_rng(9).permutation(12)
    first = metrics.language_variability(probabilities, words, resamples=10)
    other = metrics.language_variability(probabilities[order], words[order], resamples=10)
    known = {"ppl_sd_error": 0.0, "logit_spearman": 0.0}  # the resamples number the members; NaN is not itself
    assert replace(first, **known) == replace(other, **known)


def test_improbable_words_do_not_underflow():
    """Products below the range of float64, and probabilities that are 0 there, by way of the logarithms."""
    probabilities = np.full((3, 130), -25.0, np.float32)
    probabilities[1:, 5] = -2000.0
    probabilities[2, 70:] = -1.0
    products = log_products(probabilities)
    for i in range(3):
        for j in range(i, 3):
            exact = np.logaddexp(probabilities[i].astype(float), probabilities[j].astype(float)).sum()
            assert products[i, j] == pytest.approx(exact, rel=1e-14)
    assert np.array_equal(products, log_products(probabilities, threads=2))


def test_a_sample_of_pairs_is_fixed_and_says_so(monkeypatch):
    probabilities, _ = population(10, members=40)
    whole = metrics.ensemble_perplexity_delta(probabilities)
    monkeypatch.setattr(pairs, "ALL_PAIRS_LIMIT", 30)
    monkeypatch.setattr(pairs, "SAMPLE_GROUP", 8)
    sample = metrics.ensemble_perplexity_delta(probabilities)
    assert sample == metrics.ensemble_perplexity_delta(probabilities, threads=2)
    assert sample.pairs == 5 * 28
    assert 0 < sample.error < abs(sample.mean)
    assert abs(sample.mean - whole.mean) < 4 * sample.error
    assert sample != metrics.ensemble_perplexity_delta(probabilities, seed=2)
    assert not metrics.language_variability(probabilities, resamples=10).all_pairs


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 7), st.integers(1, 40), st.booleans())
def test_mean_log_probabilities(seed, views, rows, columns, normalised):
    values = np.random.default_rng(seed).normal(0, 5, (views, rows, columns)).astype(np.float32)
    tensor = torch.from_numpy(values)
    found = native.mean_log_probabilities(tensor, normalised=normalised)
    assert found.numpy() == pytest.approx(reference.mean_log_probabilities(values, normalised), rel=2e-7, abs=1e-12)
    assert torch.equal(found, native.mean_log_probabilities(tensor, normalised=normalised, threads=3))


def test_the_mean_of_improbable_views_does_not_underflow():
    values = torch.tensor([[[-3000.0]], [[-3001.0]]])
    expected = np.logaddexp(-3000.0, -3001.0) - math.log(2)
    assert native.mean_log_probabilities(values, normalised=True).item() == pytest.approx(expected, rel=1e-7)


def test_portable_exp():
    exponents = torch.linspace(-745, 709, 5001, dtype=torch.float64)
    found, expected = native.portable_exp(exponents).numpy(), np.exp(exponents.numpy())
    assert np.all(np.abs(found - expected) <= 2 * np.spacing(expected))
    with pytest.raises(ValueError, match="at most 709"):
        native.portable_exp(torch.tensor([710.0], dtype=torch.float64))


# ---- wrong input -----------------------------------------------------------------------------------------------------

FINE = np.full((3, 4), -1.0, np.float32)


@pytest.mark.parametrize(
    ("log_probabilities", "words", "message"),
    [
        ([[-1.0]], None, "log_probabilities must be a NumPy array or a torch tensor, but is list"),
        (FINE.astype(np.float64), None, "log_probabilities must be float32, but is torch.float64"),
        (FINE[0], None, r"log_probabilities must be \[members, tokens\] and not empty, but has shape \[4\]"),
        (FINE[:1], None, "is a mean over pairs and needs at least 2 members"),
        (-FINE, None, "log_probabilities of member 0, token 0 is 1, above 0"),
        (FINE, np.zeros((3, 4), np.int64), "words must be int32, but is torch.int64"),
        (FINE, np.zeros((3, 5), np.int32), r"words must have the shape of log_probabilities, \[3, 4\], not \[3, 5\]"),
        (FINE * 800, None, "mean 800 nats a token for a member: its perplexity overflows"),
    ],
)
def test_wrong_input_is_named(log_probabilities, words, message):
    with pytest.raises(ValueError, match=message):
        metrics.language_variability(log_probabilities, words)


@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (-math.inf, "infinite")])
def test_values_that_are_not_finite_are_named(value, word):
    probabilities = FINE.copy()
    probabilities[2, 1] = value
    with pytest.raises(ValueError, match=f"log_probabilities of member 2, token 1 is {word}"):
        metrics.perplexity(probabilities)


def test_logits_of_another_population_are_refused():
    with pytest.raises(ValueError, match="logits must have as many members as log_probabilities, 3"):
        metrics.language_variability(FINE, logits=np.zeros((2, 3, 4), np.float32))


# ---- CUDA ------------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(("members", "tokens"), [(2, 1), (17, 63), (40, 64 * 65 + 5), (5, 20_000)])
def test_cuda_gives_the_cpus_bits(members, tokens):
    probabilities, words = population(members, members, tokens)
    if tokens > 1:  # of one token alone the perplexity would overflow
        probabilities[1, tokens // 2] = -3000.0  # one chunk by way of the logarithms
    values, chosen = torch.from_numpy(probabilities), torch.from_numpy(words)
    assert np.array_equal(log_products(values), log_products(values.cuda()))
    rows = torch.tensor([1, 0])
    assert np.array_equal(log_products(values, rows=rows), log_products(values.cuda(), rows=rows.cuda()))
    assert torch.equal(native.token_sums(values), native.token_sums(values.cuda()))
    cpu = metrics.language_variability(values, chosen, resamples=100)
    cuda = metrics.language_variability(values.cuda(), chosen.cuda(), resamples=100)
    # NaN where a single token leaves a correlation undefined
    np.testing.assert_equal(astuple(replace(cuda, logit_spearman=0.0)), astuple(replace(cpu, logit_spearman=0.0)))

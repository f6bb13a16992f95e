"""Comparisons and power: against SciPy and against simulation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import popnet
from popnet.errors import ConfigError
from popnet.metrics import compare, compare_all, compare_samples, compare_tasks, compare_values, holm, planning
from popnet.metrics import power as power_module
from popnet.metrics.clusters import example_mean
from popnet.metrics.precision import Precision, mean_over_pairs_interval, sd_interval
from popnet.metrics.samples import Sample, TooLittleError
from popnet.metrics.summaries import describe, spread


def logits_of(accuracy: float, members: int, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    logits = rng.normal(size=(members, labels.size, 4)).astype(np.float32)
    right = rng.random((members, labels.size)) < accuracy
    logits[..., :] += 6 * right[..., None] * (np.arange(4) == labels[:, None])
    return logits


# The comparison of two samples.


def test_welch_and_paired_are_scipys() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 9), rng.normal(0, 2, 14)
    result, expected = compare_values(a, b), stats.ttest_ind(a, b, equal_var=False)
    assert result.p_value == pytest.approx(expected.pvalue)
    assert result.interval == pytest.approx(tuple(expected.confidence_interval()))
    result, expected = compare_values(a, b[:9], paired=True), stats.ttest_rel(a, b[:9])
    assert result.method == "paired"
    assert result.p_value == pytest.approx(expected.pvalue)
    assert result.interval == pytest.approx(tuple(expected.confidence_interval()))


def test_wins_are_counted_with_ties_half() -> None:
    a, b = np.array([1.0, 2, 3, 3]), np.array([2.0, 3, 0])
    expected = np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b])
    assert compare_values(a, b).wins == compare_values(a, b, higher_is_better=True).wins == pytest.approx(expected)
    assert compare_values(a, b, higher_is_better=False).wins == pytest.approx(1 - expected)
    assert compare_values(a[:3], b, paired=True).wins == pytest.approx(1 / 3)
    certain = compare_values([4.0, 5, 6], [1.0, 2, 3])
    assert certain.wins == certain.wins_high == 1
    assert 0 < certain.wins_low < 1


Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


def simulate(draw: Draw, truth: float, trials: int = 1000, **options: Any) -> tuple[float, float]:
    """How often the 95% interval holds the true difference, and a null p-value is below 0.05."""
    rng, inside, alarms = np.random.default_rng(1), 0, 0
    for trial in range(trials):
        a, b = draw(rng)
        result = compare_values(a, b, **options, seed=trial)
        assert result.found == (result.p_value < 0.05)
        inside += result.low <= truth <= result.high
        if trial % 2 == 0:
            alarms += 2 * (compare_values(a - truth, b, **options, seed=trial).p_value < 0.05)
    return inside / trials, alarms / trials


def null_alarms(runs_a: int, runs_b: int, sd_b: float, trials: int = 20_000) -> float:
    """How often Welch's p-value of equal means is below 0.05, and so how often its interval misses; by SciPy's arrays.

    `compare_values` gives SciPy's numbers: see above, and in the first of these comparisons here.
    """
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, (runs_a, trials)), rng.normal(0, sd_b, (runs_b, trials))
    p_values = stats.ttest_ind(a, b, equal_var=False).pvalue
    for trial in range(50):
        result = compare_values(a[:, trial], b[:, trial])
        assert result.p_value == pytest.approx(p_values[trial])
        assert result.found == (result.p_value < 0.05)
    return float((p_values < 0.05).mean())


@pytest.mark.parametrize(("runs_a", "runs_b", "sd_b"), [(5, 5, 1.5), (5, 12, 2.0), (10, 10, 1.5), (20, 20, 3.0)])
def test_welchs_intervals_cover(runs_a: int, runs_b: int, sd_b: float) -> None:
    assert 0.04 <= null_alarms(runs_a, runs_b, sd_b) <= 0.06


@pytest.mark.parametrize(
    ("runs_a", "runs_b", "sd_b", "least", "most"),
    [(2, 2, 1, 0.018, 0.026), (3, 3, 1, 0.03, 0.04), (4, 4, 3, 0.05, 0.065), (2, 10, 1, 0.09, 0.11)],
)
def test_welchs_test_of_few_runs_is_as_its_documentation_says(
    runs_a: int, runs_b: int, sd_b: float, least: float, most: float
) -> None:
    assert least <= null_alarms(runs_a, runs_b, sd_b) <= most
    unequal = compare_values(np.arange(runs_a) * 1.0, np.arange(runs_b) * 1.0 + 0.3)
    assert ("fewer than 95%" in unequal.sentence()) == (runs_a == 2 and runs_b == 10)


@pytest.mark.parametrize("runs", [2, 3, 8, 20])
def test_paired_intervals_cover(runs: int) -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 2, (runs, 20_000))
    a, b = shared + rng.normal(0, 1, shared.shape), shared + rng.normal(0, 1, shared.shape)
    p_values = stats.ttest_rel(a, b).pvalue
    for trial in range(50):
        result = compare_values(a[:, trial], b[:, trial], paired=True)
        assert result.p_value == pytest.approx(p_values[trial])
        assert result.found == (result.p_value < 0.05)
    assert 0.04 <= (p_values < 0.05).mean() <= 0.06


def skewed(rng: np.random.Generator, runs: int) -> np.ndarray:
    """Gamma values of skewness 1, mean 0, SD 1."""
    return (rng.gamma(4, size=runs) - 4) / 2


@pytest.mark.parametrize(
    ("draw", "paired"),
    [
        (lambda rng: (rng.normal(0.5, 1, 5), rng.normal(0, 1, 5)), False),
        (lambda rng: (rng.normal(0.5, 1, 7), rng.normal(0, 3, 7)), False),
        (lambda rng: (rng.normal(0.5, 1, 20), rng.normal(0, 2, 10)), False),
        (lambda rng: (0.5 + skewed(rng, 6), 2 * skewed(rng, 6)), False),
        (lambda rng: (rng.normal(0.5, 1, 5), np.zeros(5)), True),
        (lambda rng: (rng.normal(0.5, 1, 12), np.zeros(12)), True),
        (lambda rng: (0.5 + skewed(rng, 8), np.zeros(8)), True),
        (lambda rng: (0.5 + skewed(rng, 20), np.zeros(20)), True),
    ],
)
def test_bootstrapped_intervals_cover(draw: Draw, paired: bool) -> None:
    covered, alarms = simulate(draw, 0.5, paired=paired, method="bootstrap", resamples=399)
    assert 0.93 <= covered <= 0.97
    assert 0.025 <= alarms <= 0.075  # of 500: two standard errors are 0.02


def test_the_share_of_wins_is_covered() -> None:
    rng, inside, share = np.random.default_rng(2), 0, stats.norm.cdf(0.5 / np.sqrt(1 + 1.5**2))
    for _ in range(2000):
        result = compare_values(rng.normal(0.5, 1, 10), rng.normal(0, 1.5, 12))
        inside += result.wins_low <= share <= result.wins_high
    assert 0.93 <= inside / 2000 <= 0.975


@pytest.mark.parametrize("tau", [0.0, 0.1])
def test_the_interval_for_new_examples_covers_the_difference_on_the_distribution(tau: float) -> None:
    """Each draw has new runs and a new test set; the plain interval is about its own test set, this one about all."""
    rng, on_this_set, on_all = np.random.default_rng(3), 0, 0
    truth = 100 * (0.9 * 0.5 / 3.5 + 0.3 * 0.5 / 5.5 - 0.5 / 3.5)
    for _ in range(600):
        first = rng.beta(0.5, 3.0, 300)
        second = np.clip(0.9 * first + 0.3 * rng.beta(0.5, 5.0, 300), 0, 1)
        weights = np.minimum(first, 1 - first)
        errors = [
            rng.random((members, 300)) < np.clip(rates + rng.normal(0, tau, (members, 1)) * weights, 0, 1)
            for members, rates in ((10, first), (12, second))
        ]
        result = compare_samples(*map(Sample.of_errors, errors))
        here = 100 * (second - first).mean()
        on_this_set += result.low <= here <= result.high
        on_all += result.low_new_examples <= truth <= result.high_new_examples
        assert result.low_new_examples <= result.low < result.high <= result.high_new_examples
    assert 0.92 <= on_this_set / 600 <= 0.98
    assert 0.92 <= on_all / 600 <= 0.985


def test_logits_of_any_origin_are_compared() -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 4, 200)
    a, b = logits_of(0.8, 6, labels, rng), logits_of(0.7, 9, labels, rng)
    result = compare(a, b, labels)
    accuracies = [100 * (z.argmax(2) == labels).mean(1) for z in (a, b)]
    assert result.difference == pytest.approx(accuracies[0].mean() - accuracies[1].mean())
    assert result.sd_a == pytest.approx(accuracies[0].std(ddof=1))
    assert result.found
    assert result.holds_for_new_examples
    assert compare(torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(labels)) == result
    wide = a.astype(np.float64) * 1e300  # beyond float32, and float64's own order of classes
    assert compare(wide, b.astype(np.float64), labels).mean_a == result.mean_a
    assert compare(torch.from_numpy(a).bfloat16(), torch.from_numpy(b), labels).members_a == 6
    losses = compare(a, b, labels, "cross_entropy")
    assert losses.difference < 0
    assert losses.wins > 0.9  # less is better
    assert "A is better than B" in losses.sentence()
    assert losses.mean_a == pytest.approx(float(popnet.metrics.cross_entropy(a, labels).mean()))


def test_sentences_say_what_was_found() -> None:
    far = compare_values(
        [3.0, 3.1, 2.9, 3.0], [1.0, 1.1, 0.9, 1.2], metric="accuracy", unit="points", higher_is_better=True
    )
    assert far.sentence("new", "old").startswith("new is better than old by 1.95 points of accuracy")
    near = compare_values([1.0, 2.0, 3.0], [1.1, 2.1, 3.3], higher_is_better=True)
    assert near.sentence().startswith("These runs do not tell A from B: B is ahead by 0.167")
    assert near.runs_needed is not None
    assert f"{near.runs_needed:,} runs of each" in near.sentence()
    assert "the same mean" in compare_values([1.0, 2.0], [2.0, 1.0]).sentence()


def test_a_difference_that_rounding_leaves_is_none() -> None:
    result = compare_values([0.1 + 0.2, 0.5, 0.7], [0.3, 0.5, 0.7], higher_is_better=True)
    assert result.difference == 0
    assert result.p_value == 1
    assert result.low < 0 < result.high
    assert "the same mean" in result.sentence()


def test_without_a_direction_nothing_is_better() -> None:
    result = compare_values([3.0, 3.1, 2.9, 3.0], [1.0, 1.1, 0.9, 1.2], metric="zap")
    assert result.higher_is_better is None
    assert result.sentence().startswith("A is larger than B by 1.95 of zap")
    assert result.sentence().endswith("--higher-is-better or --lower-is-better.")
    near = compare_values([1.0, 2.0, 3.0], [1.1, 2.1, 3.3]).sentence()
    assert "B is larger by 0.167" in near
    for text in (result.sentence(), near):
        assert not {"better", "ahead", "beats"} & set(text.partition("Whether")[0].split())
    worse = compare_values([3.0, 3.1, 2.9, 3.0], [1.0, 1.1, 0.9, 1.2], metric="loss", higher_is_better=False)
    assert worse.sentence().startswith("B is better than A")
    assert worse.wins == 0


def test_an_arm_of_equal_runs_is_doubted() -> None:
    result = compare_values([91.0, 91, 91], [90.0, 91.2, 90.4], metric="accuracy", higher_is_better=True)
    assert "All runs of A have the same value: were they trained with different seeds?" in result.sentence()


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        ([91.2] * 3, [91.5] * 3, {}, r"all runs of A have the same value \(91.2\), and all of B \(91.5\)"),
        ([91.2] * 3, [91.2] * 4, {}, "Copies of one run are one run"),
        ([0.3, 0.1 + 0.2], [1.0, 1.0], {}, "all runs of A"),
        ([1.0, 2, 3], [1.0, 2, 3], {"paired": True}, "the same source twice"),
        ([1.1, 2.1, 3.1], [1.0, 2, 3], {"paired": True}, "compare them unpaired"),
        ([1.0], [2.0], {}, "says nothing about the difference: give more runs, or results by example"),
        ([1.0], [2.0, 3.0], {}, "not 1 and 2"),
        ([1.0] * 8 + [2.0], [1.0] * 8 + [5.0], {"paired": True, "method": "bootstrap"}, "share one value"),
    ],
)
def test_results_that_tell_nothing_are_refused(a: list[float], b: list[float], options: Any, message: str) -> None:
    with pytest.raises(TooLittleError, match=message):
        compare_values(a, b, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare_values([1.0], [1.0, 2.0]), "at least 2"),
        (lambda: compare_values([1.0, np.nan], [1.0, 2.0]), "finite"),
        (lambda: compare_values([1.0, 2.0], [1.0, 2.0, 3.0], paired=True), "partner"),
        (lambda: compare_values([1.0, 2.0], [1.0, 2.0], method="magic"), "'welch' or 'bootstrap'"),
        (lambda: compare_values([1.0, 2.0], [1.0, 2.0], confidence=95), "between 0 and 1"),
        (lambda: compare_values([1.0, 2.0], [1.0, 2.0], confidence=np.nan), "between 0 and 1"),
        (lambda: compare_values([1.0, 2, 3, 4], np.arange(9.0), method="bootstrap"), "at least 5 runs"),
        (lambda: compare_values(np.arange(5.0), np.arange(9.0), method="bootstrap", resamples=20), "too few"),
        (lambda: compare_values([1e200, 2e200], [1.0, 2.0]), "no number to compute with"),
        (lambda: compare_values([1e-200, 2e-200], [3e-200, 5e-200]), "beyond float64"),
        (lambda: compare_values([1.0, 2.0], [1.0, 3.0], clusters=np.arange(9)), "nothing is known by example"),
        (lambda: compare_samples(Sample(np.array([1.0, np.inf])), Sample(np.array([1.0, 2.0]))), "run 1 of A"),
        (lambda: power_module.power(1, 1, 1, 1, 5), "at least 2 runs"),
        (lambda: power_module.power(np.nan, 1, 1, 5, 5), "finite"),
        (lambda: power_module.power(1, np.nan, 1, 5, 5), "finite"),
        (lambda: power_module.runs_needed(1, 0), "runs do not differ"),
        (lambda: power_module.runs_needed(1, 1, alpha=np.nan), "alpha"),
        (lambda: power_module.smallest_difference(0, 0, 5, 5), "runs do not differ"),
        (lambda: power_module.runs_needed(1, 1, power=80), "between 0 and 1"),
    ],
)
def test_wrong_arguments_are_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_holm_is_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    rng = np.random.default_rng(5)
    samples = {name: Sample(rng.normal(mean, 1, 10)) for name, mean in (("a", 0.0), ("b", 0.0), ("c", 4.0))}
    results = compare_all(samples)
    assert set(results) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert all(adjusted >= result.p_value for result, adjusted in results.values())
    nothing = rng.normal(size=(3, 6, 1000))
    p_values = [stats.ttest_ind(nothing[first], nothing[second]).pvalue for first, second in ((0, 1), (0, 2), (1, 2))]
    false_alarms = sum(holm(row).min() < 0.05 for row in np.array(p_values).T)
    assert false_alarms / 1000 < 0.07


# One run against one run, over examples.


def right_wrong(rng: np.random.Generator, examples: int, only_a: float, only_b: float) -> tuple[Sample, Sample]:
    """One run of each, of which a share of examples only A has right, and a share only B."""
    kind = rng.choice(4, examples, p=[only_a, only_b, (1 - only_a - only_b) / 2, (1 - only_a - only_b) / 2])
    return Sample.of_errors(~np.isin(kind, (0, 2))[None]), Sample.of_errors(~np.isin(kind, (1, 2))[None])


@pytest.mark.parametrize(
    ("examples", "only_a", "only_b", "trials"),
    [
        (50, 0.3, 0.1, 1500),
        (50, 0.2, 0.2, 1500),
        (200, 0.15, 0.05, 1500),
        (1000, 0.1, 0.1, 1000),
        (1000, 0.06, 0.02, 1000),
    ],
)
def test_right_and_wrong_answers_are_covered(examples: int, only_a: float, only_b: float, trials: int) -> None:
    rng, inside, wins_inside, alarms = np.random.default_rng(12), 0, 0, 0
    truth = 100 * (only_a - only_b)
    for _ in range(trials):
        result = compare_samples(*right_wrong(rng, examples, only_a, only_b))
        assert result.found == (result.p_value < 0.05)
        assert result.low <= result.difference <= result.high
        inside += result.low <= truth <= result.high
        wins_inside += result.wins_low <= (1 + truth / 100) / 2 <= result.wins_high
        alarms += result.found
    assert 0.93 <= inside / trials <= 0.975
    assert wins_inside == inside
    if not truth:
        assert 0.015 <= alarms / trials <= 0.05  # McNemar's exact test is cautious


def test_mcnemars_test_is_the_binomials() -> None:
    a, b = (Sample.of_errors(np.arange(60)[None] < n) for n in (5, 15))
    b = Sample.of_errors(np.roll(np.arange(60) < 15, 3)[None])
    result = compare_samples(a, b, metric="accuracy", unit="points", higher_is_better=True)
    assert result.method == "mcnemar"
    assert result.discordant == (13, 3)
    assert result.p_value == pytest.approx(stats.binomtest(13, 16).pvalue)
    assert result.difference == pytest.approx(100 * 10 / 60)
    assert result.wins == pytest.approx((1 + 10 / 60) / 2)
    assert (result.members_a, result.members_b, result.examples, result.runs_needed) == (1, 1, 60, None)
    assert np.isnan([result.sd_a, result.sd_b, result.low_new_examples, result.distribution_sd_a]).all()
    assert "on 60 examples (interval over new examples; McNemar's exact test, 13 against 3)" in result.sentence()
    assert result.sentence().endswith("It says nothing about other seeds: one run of each was compared.")
    errors = [Sample.of_losses(1 - s.example_means[None] / 100) for s in (a, b)]
    reverse = compare_samples(*errors, higher_is_better=False)
    assert reverse.discordant == (13, 3)
    assert reverse.wins == result.wins
    assert reverse.interval == pytest.approx((-result.high / 100, -result.low / 100))
    equal = compare_samples(a, a, metric="accuracy")
    assert (equal.difference, equal.p_value, equal.discordant) == (0, 1, (0, 0))
    assert equal.low < 0 < equal.high


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99, 0.999])
def test_mcnemars_interval_agrees_with_its_test(confidence: float) -> None:
    for examples in (20, 60, 3000):
        for only_a in range(15):
            for only_b in range(6):
                scores = np.zeros((2, 1, examples))
                scores[0, 0, :only_a] = scores[1, 0, only_a : only_a + only_b] = 1
                scores[:, 0, -1] = 1
                result = compare_samples(*map(Sample.of_losses, scores), confidence=confidence)
                assert result.low <= result.difference <= result.high
                assert result.found == (result.p_value < 1 - confidence)


@pytest.mark.parametrize(("examples", "trials"), [(50, 4000), (1000, 1200)])
def test_scores_by_example_are_covered(examples: int, trials: int) -> None:
    rng, inside, wins_inside, alarms = np.random.default_rng(13), 0, 0, 0
    for _ in range(trials):
        shared = rng.random((1, examples))
        a, b = shared + rng.exponential(0.5, (1, examples)), shared + rng.exponential(0.4, (1, examples))
        result = compare_samples(Sample.of_losses(a), Sample.of_losses(b))
        inside += result.low <= 0.1 <= result.high
        wins_inside += result.wins_low <= 0.5 / 0.9 <= result.wins_high
        alarms += compare_samples(Sample.of_losses(a - 0.1), Sample.of_losses(b)).p_value < 0.05
    assert result.method == "examples"
    assert 0.93 <= inside / trials <= 0.97
    assert 0.93 <= wins_inside / trials <= 0.97
    assert 0.04 <= alarms / trials <= 0.06


@pytest.mark.parametrize(("clusters", "spread_of_sizes"), [(5, 0.3), (10, 0.5), (10, 1.0), (50, 0.7)])
def test_clustered_examples_are_covered(clusters: int, spread_of_sizes: float) -> None:
    rng, inside, naive, alarms, refused, trials = np.random.default_rng(14), 0, 0, 0, 0, 1500
    for _ in range(trials):
        sizes = np.maximum(rng.lognormal(np.log(10), spread_of_sizes, clusters).astype(int), 1)
        codes = np.repeat(np.arange(clusters), sizes)
        d = 0.3 + rng.normal(0, 0.6, clusters)[codes] + rng.normal(0, 1, codes.size)
        b = rng.random((1, codes.size))
        try:
            result = compare_samples(Sample.of_losses(b + d), Sample.of_losses(b), clusters=codes)
        except TooLittleError:  # one cluster of nearly all examples
            refused += 1
            continue
        assert result.found == (result.p_value < 0.05)
        inside += result.low <= 0.3 <= result.high
        naive += abs(d.mean() - 0.3) < 1.96 * d.std(ddof=1) / np.sqrt(d.size)
        alarms += compare_samples(Sample.of_losses(b + d - 0.3), Sample.of_losses(b), clusters=codes).p_value < 0.05
    trials -= refused
    assert refused < 10
    assert (result.method, result.clusters, result.discordant) == ("clusters", clusters, None)
    assert 0.93 <= inside / trials <= 0.97
    assert naive < 0.85 * trials  # what clusters are for
    assert 0.035 <= alarms / trials <= 0.065


def test_clusters_of_equal_size_have_the_usual_variance() -> None:
    rng = np.random.default_rng(15)
    values, codes = rng.random(60), np.tile(np.arange(12), 5)
    means = np.array([values[codes == code].mean() for code in range(12)])
    found = example_mean(values, np.array(list("abcdefghijkl"))[codes])
    assert found.variance == pytest.approx(means.var(ddof=1) / 12)
    assert found.freedom == pytest.approx(11)
    assert found.clusters == 12
    single = example_mean(values, np.arange(60))
    assert single.variance == pytest.approx(example_mean(values).variance)
    assert single.freedom == pytest.approx(59)


def test_clusters_widen_the_interval_for_new_examples() -> None:
    rng = np.random.default_rng(16)
    codes = np.repeat(np.arange(30), 10)
    rates = np.clip(0.7 + rng.normal(0, 0.2, 30)[codes], 0, 1)
    a, b = (Sample.of_errors(rng.random((8, 300)) > np.clip(rates + shift, 0, 1)) for shift in (0.05, 0.0))
    harder = Sample.of_errors(rng.random((8, 300)) > np.clip(rng.random(30)[codes], 0, 1))
    for other in (b, harder):
        plain, clustered = compare_samples(a, other), compare_samples(a, other, clusters=codes)
        assert clustered.interval == plain.interval
        assert (plain.clusters, clustered.clusters, clustered.examples) == (None, 30, 300)
    assert clustered.low_new_examples < plain.low_new_examples < plain.high_new_examples < clustered.high_new_examples


@pytest.mark.parametrize(
    ("a", "b", "clusters", "error", "message"),
    [
        ([[1.0]], [[0.0]], None, TooLittleError, "at least 2 examples"),
        ([[0.1, 0.2, 0.4]], [[0.1, 0.2, 0.4]], None, TooLittleError, "the same source twice"),
        ([[0.1, 0.2, 0.4]], [[0.2, 0.3, 0.5]], None, TooLittleError, "differ by -0.1 on every example"),
        ([[0.1, 0.2, 0.4]], [[0.2, 0.5, 0.5]], [0, 1, 2], TooLittleError, "at least 5 of them, not 3"),
        ([[0.1, 0.2, 0.4]], [[0.2, 0.5]], None, ValueError, "A has 3 examples and B 2"),
        ([[0.1, 0.2, 0.4]], [[0.2, 0.5, 0.5]], [0, 1], ValueError, r"clusters must be \[examples\] = \[3\]"),
        ([[0.1, np.nan, 0.4]], [[0.2, 0.5, 0.5]], None, ValueError, "run 0 of A"),
    ],
)
def test_runs_that_tell_nothing_over_examples_are_refused(
    a: Any, b: Any, clusters: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        compare_samples(Sample.of_losses(np.array(a)), Sample.of_losses(np.array(b)), clusters=clusters)


# Several tasks.


def test_tasks_are_corrected_for_their_number() -> None:
    rng = np.random.default_rng(17)
    pairs = {
        name: (Sample(rng.normal(shift, 1, 6)), Sample(rng.normal(0, 1, 6)))
        for name, shift in (("x", 5.0), ("y", -6.0), ("z", 0.0), ("w", 0.1))
    }
    result = compare_tasks(pairs, metric="accuracy", unit="points", higher_is_better=True)
    expected = holm([c.p_value for c, _ in result.tasks.values()])
    assert [p for _, p in result.tasks.values()] == expected.tolist()
    assert result.sentence().startswith("A is better on 1 of 4 tasks and worse on 1 (Holm, 5%).")
    values = [np.mean([pair[side].values for pair in pairs.values()], axis=0) for side in (0, 1)]
    expected = compare_values(*values, metric="mean accuracy", unit="points", higher_is_better=True)
    assert result.mean is not None
    assert result.mean.sentence() == expected.sentence()
    down = compare_tasks(pairs, higher_is_better=False, paired=dict.fromkeys(pairs, True))
    assert down.mean is not None
    assert down.mean.method == "paired"
    assert "is better on 1 of 4 tasks and worse on 1" in down.sentence()
    unlike = {**pairs, "v": (Sample(rng.normal(0, 1, 5)), Sample(rng.normal(0, 1, 6)))}
    assert compare_tasks(unlike).mean is None
    assert "larger on 1 of 5 tasks and smaller on 1" in compare_tasks(unlike).sentence()
    full = (Sample(np.full(6, 100.0)), Sample(np.full(6, 100.0)))
    saturated = compare_tasks({**pairs, "full": full}, higher_is_better=True)
    assert list(saturated.tasks) == list(pairs)
    assert "full tells nothing: all runs of A have the same value (100)" in saturated.sentence()
    assert saturated.mean is not None
    assert saturated.mean.difference == pytest.approx(0.8 * result.mean.difference)
    with pytest.raises(TooLittleError, match="full: all runs"):
        compare_tasks({"full": full})
    with pytest.raises(ValueError, match="x: confidence"):
        compare_tasks(pairs, confidence=95)


def test_the_mean_over_tasks_of_one_run_each_covers() -> None:
    rng, inside, alarms, trials = np.random.default_rng(18), 0, 0, 1000
    for _ in range(trials):
        right = {name: right_wrong(rng, n, 0.15, 0.15) for name, n in (("x", 200), ("y", 60), ("z", 900))}
        noise = rng.normal(0, 30, (2, 1, 80))
        pairs = {**right, "w": (Sample.of_losses(noise[0] + 12), Sample.of_losses(noise[1]))}
        mean = compare_tasks(pairs, higher_is_better=True).mean
        assert mean is not None
        inside += mean.low <= 3 <= mean.high
        pairs["w"] = (Sample.of_losses(noise[0]), Sample.of_losses(noise[1]))
        null = compare_tasks(pairs, higher_is_better=True).mean
        assert null is not None
        assert null.found == (null.p_value < 0.05)
        alarms += null.found
    assert (mean.method, mean.examples, mean.members_a) == ("tasks", 1240, 1)
    assert "interval over new examples of these tasks" in mean.sentence()
    assert 0.93 <= inside / trials <= 0.97
    assert 0.04 <= alarms / trials <= 0.06


# Descriptions of one source.


def test_runs_are_described() -> None:
    rng = np.random.default_rng(19)
    errors = rng.random((9, 200)) < 0.2
    sample = Sample.of_errors(errors)
    found = describe(sample, "accuracy", "points")
    assert (found.members, found.examples, found.metric, found.unit) == (9, 200, "accuracy", "points")
    assert found.sd == pytest.approx(sample.values.std(ddof=1))
    assert (found.mean_low, found.mean_high) == pytest.approx(
        stats.t.interval(0.95, 8, sample.mean, stats.sem(sample.values))
    )
    assert (found.sd_low, found.sd_high) == (spread(sample.values).low, spread(sample.values).high)
    assert (found.lowest, found.highest) == (sample.values.min(), sample.values.max())
    assert found.distribution_sd**2 == pytest.approx(abs(sample.distribution_variance))
    equal = describe(Sample(np.full(3, 91.2)))
    assert equal.sd == 0
    assert np.isnan([equal.mean_low, equal.sd_high]).all()


def test_one_run_is_described_over_its_examples() -> None:
    rng = np.random.default_rng(20)
    sample = Sample.of_errors(rng.random((1, 200)) < 0.1)
    right = int((sample.example_means > 0).sum())
    found = describe(sample)
    interval = stats.binomtest(right, 200).proportion_ci(method="wilson")
    assert (found.mean_low / 100, found.mean_high / 100) == pytest.approx(tuple(interval))
    assert np.isnan([found.sd, found.sd_low, found.distribution_sd]).all()
    scores = rng.random(200)
    found = describe(Sample.of_losses(scores[None]))
    assert (found.mean_low, found.mean_high) == pytest.approx(
        stats.t.interval(0.95, 199, scores.mean(), stats.sem(scores))
    )
    grouped = describe(Sample.of_losses(scores[None]), clusters=np.arange(200) // 20)
    assert grouped.clusters == 10
    assert grouped.mean_low < grouped.mean < grouped.mean_high
    assert np.isnan(describe(Sample(np.array([3.0]))).mean_low)


@pytest.mark.parametrize("runs", [2, 3, 5, 10])
def test_the_sd_of_few_runs_is_covered(runs: int) -> None:
    rng = np.random.default_rng(21)
    found = [spread(rng.normal(0, 2, runs)) for _ in range(2000)]
    assert 0.93 <= np.mean([s.low <= 2 <= s.high for s in found]) <= 0.975


# What a comparison waits for.


def test_comparisons_of_numbers_load_nothing_heavy() -> None:
    heavy = ["torch", "pandas", "scipy.stats", "scipy.optimize", "popnet.native", "popnet.config", "popnet.store"]
    code = (
        "import sys; from popnet.metrics import compare_values, planning, summaries; import numpy as np\n"
        "a, b = np.arange(6.0), np.arange(6.0) ** 2\n"
        "compare_values(a, b, method='bootstrap').sentence(); summaries.describe(summaries.Sample(a))\n"
        "planning.power_plan(1.0, planning.given_sds([1.0]))\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_bootstraps_stream_is_the_sources() -> None:
    from popnet.metrics import resampling
    from popnet.random import Source

    assert int(Source.BOOTSTRAP) == resampling._BOOTSTRAP


# Power.


@pytest.mark.parametrize(
    ("runs_a", "runs_b", "difference", "sd_b"), [(2, 2, 2, 1), (3, 3, 1, 0.5), (5, 12, 1.5, 2), (20, 20, 1, 1)]
)
def test_power_agrees_with_simulation(runs_a: int, runs_b: int, difference: float, sd_b: float) -> None:
    rng = np.random.default_rng(6)
    a, b = rng.normal(difference, 1, (runs_a, 20_000)), rng.normal(0, sd_b, (runs_b, 20_000))
    simulated = (stats.ttest_ind(a, b, equal_var=False).pvalue < 0.05).mean()
    assert abs(power_module.power(difference, 1, sd_b, runs_a, runs_b) - simulated) < 0.015


def test_runs_needed_are_the_fewest() -> None:
    needed = power_module.runs_needed(0.3, 0.25, 0.4)
    assert needed is not None
    assert power_module.power(0.3, 0.25, 0.4, needed, needed) >= 0.8
    assert power_module.power(0.3, 0.25, 0.4, needed - 1, needed - 1) < 0.8
    assert power_module.runs_needed(1, 1, paired=True) == 10  # the textbook's paired t-test
    assert power_module.runs_needed(0, 1) is None
    assert power_module.runs_needed(1, 0, 1e-9) == 2
    assert power_module.runs_needed(1e-300, 1) is None
    assert power_module.power(1e200, 1e200, 1e200, 5, 5) == pytest.approx(power_module.power(1, 1, 1, 5, 5))
    smallest = power_module.smallest_difference(0.25, 0.4, needed, needed)
    assert power_module.power(smallest, 0.25, 0.4, needed, needed) == pytest.approx(0.8, abs=1e-6)


def test_the_runs_that_power_asks_for_find_the_difference() -> None:
    rng = np.random.default_rng(7)
    needed = power_module.runs_needed(0.5, 0.6)
    found = [
        compare_values(rng.normal(0.5, 0.6, needed), rng.normal(0, 0.6, needed)).p_value < 0.05 for _ in range(1500)
    ]
    assert abs(np.mean(found) - 0.8) < 0.03


def test_one_run_tells_the_sd_by_calibration() -> None:
    binary = power_module.expected_sd(0.05, 1000)
    assert binary.low == binary.high == pytest.approx(np.sqrt(0.05 / 2000))
    ten = power_module.expected_sd(0.0559, 10_000, 10, distribution_sd=0.00033)
    assert ten.low < 0.00149 < ten.high  # Jordan's CIFAR-10 trainings
    assert "inside the bracket" in ten.assumes
    assert "inside the bracket" not in binary.assumes


def test_sds_are_measured_or_refused() -> None:
    rng = np.random.default_rng(22)
    a, b = (planning.Arm(name, Sample(rng.normal(90, 1, runs))) for name, runs in (("a.csv", 5), ("b.csv", 7)))
    (sds,) = planning.measured_sds([a, b], "accuracy")
    assert (sds.sd_a, sds.sd_b) == pytest.approx((a.sample.values.std(ddof=1), b.sample.values.std(ddof=1)))
    assert sds.origin == "measured over 5 and 7 runs of a.csv and b.csv"
    one = planning.Arm("one.npz", Sample(np.array([90.0])), examples=100, classes=2)
    (expected,) = planning.measured_sds([one], "accuracy")
    assert expected.sd_a == pytest.approx(100 * np.sqrt(0.1 / 200))
    plan = planning.power_plan(1.0, [sds])
    assert plan.needed[0] is not None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: planning.power_plan(0.0, planning.given_sds([1.0])), "above 0"),
        (lambda: planning.power_plan(np.nan, planning.given_sds([1.0])), "above 0"),
        (lambda: planning.power_plan(np.inf, planning.given_sds([1.0])), "finite"),
        (lambda: planning.power_plan(1.0, planning.given_sds([1.0]), power=0.04), "alpha < power"),
        (lambda: planning.given_sds([np.nan]), "--sd is nan"),
        (lambda: planning.given_sds([1.0, 0.0]), "runs do not differ"),
        (lambda: planning.given_sds([-1.0]), "above 0"),
        (lambda: planning.given_sds([]), "once for both arms, or twice"),
        (lambda: planning.expected_sds(0.0, 100, 2, 0.0), "do not differ"),
        (lambda: planning.expected_sds(np.nan, 100, 2, 0.0), "in percent"),
        (lambda: planning.expected_sds(5.0, 100, 2, np.nan), "no SD below 0"),
        (
            lambda: planning.measured_sds([planning.Arm("a", Sample(np.full(3, 9.0)))], "f1"),
            "a: all 3 runs have the same f1",
        ),
        (
            lambda: planning.measured_sds([planning.Arm("a", Sample(np.array([9.0])))], "f1"),
            "a: one run tells an SD of",
        ),
    ],
)
def test_power_without_an_sd_is_refused(call, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()


# Intervals of a population's metrics.


def test_precision_is_that_of_the_metrics() -> None:
    rng = np.random.default_rng(9)
    labels = rng.integers(0, 4, 60)
    logits = logits_of(0.7, 9, labels, rng)
    precision = Precision(logits, labels)
    whole = popnet.metrics.variability(logits, labels, resamples=10)
    for metric in ("accuracy_mean", "accuracy_sd", "cross_entropy_sd", "disagreement", "spearman", "ensemble_delta"):
        estimate = precision.interval(metric, 9)
        ddof = np.sqrt(9 / 8) if metric.endswith("_sd") else 1.0  # `Variability` is set beside the papers: ddof 0
        assert estimate.value == pytest.approx(ddof * getattr(whole, metric))
        assert estimate.low <= estimate.value <= estimate.high
    assert precision.interval("disagreement", 5).value == pytest.approx(popnet.metrics.disagreement(logits[:5]))
    assert sd_interval(np.ones(5)).high == 0


def test_sd_and_pair_intervals_cover() -> None:
    rng, inside, pairs_inside = np.random.default_rng(10), 0, 0
    for _ in range(1500):
        values = rng.normal(0, 2, 20)
        estimate = sd_interval(values)
        inside += estimate.low <= 2 <= estimate.high
        quality = rng.normal(size=20)
        pairs = mean_over_pairs_interval(quality[:, None] + quality)
        pairs_inside += pairs.low <= 0 <= pairs.high
    assert 0.92 <= inside / 1500 <= 0.98
    assert 0.93 <= pairs_inside / 1500 <= 0.97

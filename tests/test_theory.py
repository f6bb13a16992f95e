"""popnet.metrics.theory on synthetic populations whose truth is known, and against slow, obvious NumPy."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from popnet import config, random
from popnet.metrics import theory
from popnet.metrics.resampling import bootstrap_draws, bootstrap_weights, bootstrap_words, uniforms
from popnet.metrics.theory import variance as variance_module


def independent_population(rates: np.ndarray, members: int, rng: np.random.Generator) -> np.ndarray:
    return rng.random((members, len(rates))) < rates


class Shifting:
    """Runs whose errors rise and fall together: example i errs with p_i + u_r w_i, u_r ~ N(0, tau) of run r."""

    def __init__(self, tau: float) -> None:
        self.tau = tau

    def examples(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        rates = rng.beta(0.5, 3.0, count)
        return rates, rng.gamma(2.0, 0.5, count) * np.minimum(rates, 1 - rates) * 2

    def errors(self, members: int, count: int, rng: np.random.Generator) -> np.ndarray:
        rates, weights = self.examples(count, rng)
        shifts = rng.normal(0, self.tau, members)
        return rng.random((members, count)) < np.clip(rates + shifts[:, None] * weights, 0, 1)

    def variance(self) -> float:
        """Var(err(h)) on the distribution, by quadrature over the shift and 400,000 examples."""
        rates, weights = self.examples(400_000, np.random.default_rng(9))
        points = np.linspace(-4, 4, 41)
        density = np.exp(-(points**2) / 2)
        density /= density.sum()
        error = np.array([np.clip(rates + self.tau * x * weights, 0, 1).mean() for x in points])
        return float(density @ error**2 - (density @ error) ** 2)


class Calibrated:
    """A calibrated binary training: P(label 1 | x) = q(x), and each run calls x positive with probability q(x).

    A run's calls are tied together by a normal variable of the run (`tie` is its share of the variance), so that runs
    differ in genuine quality although the training is calibrated.
    """

    def __init__(self, tie: float) -> None:
        self.tie = tie

    def draw(self, members: int, examples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        q = rng.beta(0.4, 1.6, examples)
        labels = (rng.random(examples) < q).astype(np.int64)
        run = rng.normal(size=(members, 1))
        noise = np.sqrt(self.tie) * run + np.sqrt(1 - self.tie) * rng.normal(size=(members, examples))
        return (noise < stats.norm.ppf(q)).astype(np.uint8), labels

    def truth(self) -> tuple[float, float]:
        """The error and its variance between runs, on the distribution."""
        q = np.random.default_rng(9).beta(0.4, 1.6, 200_000)
        points = np.linspace(-5, 5, 81)
        density = stats.norm.pdf(points)
        density /= density.sum()
        calls = [stats.norm.cdf((stats.norm.ppf(q) - np.sqrt(self.tie) * z) / np.sqrt(1 - self.tie)) for z in points]
        error = np.array([(q * (1 - c) + (1 - q) * c).mean() for c in calls])
        mean = float(density @ error)
        return mean, float(density @ error**2 - mean**2)


def calibrated_classes(
    members: int, examples: int, classes: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    shares = rng.dirichlet(np.full(classes, 0.15), examples)
    cumulative = shares.cumsum(axis=1)
    labels = (rng.random((examples, 1)) > cumulative).sum(axis=1)
    votes = (rng.random((members, examples, 1)) > cumulative).sum(axis=2)
    return np.minimum(votes, classes - 1).astype(np.uint8), np.minimum(labels, classes - 1)


# Packed bits.


@pytest.mark.parametrize("examples", [1, 7, 8, 9, 300])
def test_packed_errors_count_like_numpy(examples: int) -> None:
    rng = np.random.default_rng(examples)
    errors = rng.random((777, examples)) < 0.3
    bits = theory.PackedErrors.pack(errors)
    assert (bits.member_counts() == errors.sum(axis=1)).all()
    assert (bits.example_counts() == errors.sum(axis=0)).all()
    even, odd = bits.halves()
    assert (even == errors[:, ::2].sum(axis=1)).all()
    assert (odd == errors[:, 1::2].sum(axis=1)).all()
    assert np.concatenate([block for _, block in bits.blocks(100)]).astype(bool).tolist() == errors.tolist()
    chosen = np.arange(examples)[::-2]
    assert (np.unpackbits(bits.by_example(chosen), axis=1, count=777).astype(bool) == errors.T[chosen]).all()


def test_packing_takes_predictions_and_torch() -> None:
    rng = np.random.default_rng(0)
    predictions, labels = rng.integers(0, 10, (40, 33)).astype(np.uint8), rng.integers(0, 10, 33)
    errors = predictions != labels
    for bits in (
        theory.PackedErrors.from_predictions(predictions, labels),
        theory.PackedErrors.from_predictions(torch.from_numpy(predictions), torch.from_numpy(labels)),
        theory.PackedErrors.pack(torch.from_numpy(errors)),
    ):
        assert (bits.bits == np.packbits(errors, axis=1)).all()
    assert theory.distribution_variance(torch.from_numpy(errors)) == theory.distribution_variance(errors)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: theory.PackedErrors.pack(np.zeros((3, 4))), "must be bool"),
        (lambda: theory.PackedErrors.pack(np.zeros(4, bool)), "must be bool"),
        (lambda: theory.PackedErrors(np.full((2, 1), 1, np.uint8), 7), "pad the last byte"),
        (lambda: theory.PackedErrors(np.zeros((2, 2), np.uint8), 8), "of 8 examples"),
        (lambda: theory.PackedErrors.from_predictions(np.zeros((2, 3), int), np.zeros(4, int)), r"integers \[3\]"),
        (lambda: theory.PackedErrors.from_predictions(np.full((2, 3), -1), np.zeros(3, int)), "negative"),
        (lambda: theory.distribution_variance(np.zeros((1, 4), bool)), "at least 2"),
        (lambda: theory.distribution_variance(np.zeros((4, 1), bool)), "at least 2"),
        (lambda: theory.binary_variance(5.6, 100), "divide percent"),
        (lambda: theory.variance_lower_bound(0.1, 100, 1), "classes"),
        (lambda: theory.votes(np.full((2, 3), 4), classes=3), "class 4"),
    ],
)
def test_wrong_input_is_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# Variances.


def test_distribution_variance_is_the_mean_covariance_of_pairs_of_examples() -> None:
    errors = Shifting(0.3).errors(30, 40, np.random.default_rng(1))
    covariance = np.cov(errors.T)
    pairs = covariance[~np.eye(40, dtype=bool)].mean()
    assert theory.distribution_variance(errors) == pytest.approx(pairs, rel=1e-12)
    plain = errors.mean(1).var(ddof=1) - errors.var(0, ddof=1).sum() / 40**2
    assert theory.distribution_variance(errors) == pytest.approx(40 / 39 * plain, rel=1e-12)
    assert theory.observed_variance(errors) == pytest.approx(errors.mean(1).var(ddof=1), rel=1e-12)
    assert theory.distribution_variance(errors.astype(np.float64)) == pytest.approx(pairs, rel=1e-9)


def test_order_of_members_and_examples_changes_no_bit() -> None:
    rng = np.random.default_rng(2)
    errors = Shifting(0.2).errors(50, 70, rng)
    shuffled = errors[rng.permutation(50)][:, rng.permutation(70)]
    for statistic in (theory.distribution_variance, theory.observed_variance, theory.independent_errors_sd):
        assert statistic(errors) == statistic(shuffled)


def test_identical_runs_have_no_variance() -> None:
    errors = np.tile(np.random.default_rng(3).random(50) < 0.3, (6, 1))
    assert theory.distribution_variance(errors) == 0
    assert theory.independent_errors_sd(errors) == 0
    estimate = theory.distribution_variance_interval(errors)
    assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)


@pytest.mark.parametrize("tau", [0.0, 0.1])
def test_distribution_variance_is_unbiased(tau: float) -> None:
    """Theorem 2: the mean over 400 draws of runs and test sets is the truth, within 3 standard errors."""
    training, rng = Shifting(tau), np.random.default_rng(4)
    draws = [theory.distribution_variance(training.errors(12, 200, rng)) for _ in range(400)]
    error = np.std(draws, ddof=1) / np.sqrt(len(draws))
    assert abs(np.mean(draws) - training.variance()) < 3 * error
    if tau == 0.0:
        assert min(draws) < 0  # negative estimates are shown as they are


def test_test_set_variance_overestimates() -> None:
    """Theorem 1."""
    training, rng = Shifting(0.1), np.random.default_rng(5)
    observed = np.mean([theory.observed_variance(training.errors(20, 100, rng)) for _ in range(100)])
    assert observed > training.variance()


def test_jackknife_is_leaving_out_one_by_one() -> None:
    errors = Shifting(0.4).errors(15, 25, np.random.default_rng(6))
    without_member = [theory.distribution_variance(np.delete(errors, r, axis=0)) for r in range(15)]
    without_example = [theory.distribution_variance(np.delete(errors, i, axis=1)) for i in range(25)]
    over_members = 14 * np.var(without_member)
    over_examples = 24 * np.var(without_example)
    own = errors.var(0, ddof=1).sum()
    counted = 4 * own * errors.sum(1).var(ddof=1) / (25**2 * 24 * 23 * 15)
    expected = over_members + max(over_examples - counted, 0)
    assert theory.distribution_variance_interval(errors).standard_error == pytest.approx(np.sqrt(expected), rel=1e-9)


def interval_coverage(tau: float, members: int, examples: int, draws: int) -> float:
    training, rng = Shifting(tau), np.random.default_rng(7)
    truth = training.variance()
    inside = 0
    for _ in range(draws):
        estimate = theory.distribution_variance_interval(training.errors(members, examples, rng))
        inside += estimate.low <= truth <= estimate.high
    return inside / draws


@pytest.mark.parametrize("tau", [0.0, 0.1])
def test_interval_covers_the_truth(tau: float) -> None:
    assert 0.925 <= interval_coverage(tau, 50, 200, 1000) <= 0.975


@pytest.mark.slow
@pytest.mark.parametrize(("tau", "members", "examples"), [(0.0, 100, 500), (0.05, 100, 500), (0.2, 20, 500)])
def test_interval_covers_the_truth_in_2000_draws(tau: float, members: int, examples: int) -> None:
    assert 0.93 <= interval_coverage(tau, members, examples, 2000) <= 0.97


def test_bootstrap_is_that_of_repeated_members(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = Shifting(0.2).errors(40, 30, np.random.default_rng(8))
    draws = bootstrap_draws(3, range(50), 40)
    plain = [theory.distribution_variance(errors[d]) * 40 / 39 for d in draws]
    estimate = theory.distribution_variance_interval(errors, "bootstrap", resamples=50, seed=3)
    assert estimate.standard_error == pytest.approx(np.std(plain), rel=1e-6)
    assert estimate.low == pytest.approx(np.quantile(plain, 0.025), rel=1e-6)
    assert estimate.low < estimate.value < estimate.high


def test_bootstrap_words_are_popnets_words() -> None:
    words = bootstrap_words(2**40 + 3, range(5, 7), 10, stream=2)
    for row, resample in enumerate((5, 6)):
        expected = [random.words(2**40 + 3, random.Source.BOOTSTRAP, 2, resample, block) for block in range(3)]
        assert words[row].tolist() == np.concatenate(expected)[:10].tolist()
    draws = bootstrap_draws(1, range(200), 13)
    assert draws.min() == 0
    assert draws.max() == 12
    assert (bootstrap_weights(1, range(3), 13).sum(axis=1) == 13).all()
    assert stats.kstest(uniforms(1, 5000), "uniform").pvalue > 0.01


# Independent errors.


def test_independent_errors_formula_matches_simulation() -> None:
    rng = np.random.default_rng(10)
    rates = rng.beta(0.3, 2.0, 400)
    errors = independent_population(rates, 4000, rng)
    assert theory.independent_errors_sd(errors) == pytest.approx(errors.mean(axis=1).std(), rel=0.04)
    exact = np.sqrt((rates * (1 - rates)).sum()) / 400
    assert theory.independent_errors_sd(errors) == pytest.approx(exact, rel=0.01)
    sample = theory.independent_errors_sample(rates, 20_000, seed=4)
    assert sample.std() == pytest.approx(exact, rel=0.03)
    assert stats.ks_2samp(sample, errors.mean(axis=1)).pvalue > 0.01


def test_independent_errors_distribution_is_exact() -> None:
    rates = np.array([0.1, 0.5, 0.9, 0.0, 1.0, 0.3])
    expected = np.zeros(7)
    for outcome in itertools.product((0, 1), repeat=6):
        expected[sum(outcome)] += np.prod([r if o else 1 - r for r, o in zip(rates, outcome)])
    assert theory.independent_errors_distribution(rates) == pytest.approx(expected, abs=1e-15)
    many = np.random.default_rng(0).beta(0.3, 3, 3001)
    probabilities = theory.independent_errors_distribution(many)
    counts = np.arange(3002)
    mean = probabilities @ counts
    assert mean == pytest.approx(many.sum(), rel=1e-12)
    assert probabilities @ (counts - mean) ** 2 == pytest.approx((many * (1 - many)).sum(), rel=1e-10)


def test_dependent_pairs_are_those_of_the_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    from popnet.metrics.theory import independence

    monkeypatch.setattr(independence, "_EXAMPLES", 16)
    monkeypatch.setattr(independence, "_MEMBERS", 64)
    rng = np.random.default_rng(11)
    errors = independent_population(rng.beta(0.5, 1.0, 50), 500, rng)
    errors[:, 7] = errors[:, 3] ^ (rng.random(500) < 0.1)  # plant a pair
    covariance = np.cov(errors.T, ddof=0)
    first, second = np.triu_indices(50, 1)
    for threshold in (0.02, 0.0):
        found = theory.dependent_pairs(errors, threshold, limit=2000)
        beyond = np.abs(covariance[first, second]) > threshold + 1e-12
        assert found.count == beyond.sum()
        assert set(zip(found.first.tolist(), found.second.tolist())) == set(
            zip(first[beyond].tolist(), second[beyond].tolist())
        )
        assert found.deviation == pytest.approx(covariance[found.first, found.second])
        assert found.joint == pytest.approx((~errors[:, found.first] & ~errors[:, found.second]).mean(axis=0))
        assert (np.diff(np.abs(found.deviation)) <= 1e-15).all()
    assert (found.first[0], found.second[0]) == (3, 7)
    assert found.pairs == 50 * 49 // 2
    few = theory.dependent_pairs(errors, 0.0, limit=5)
    assert few.count == found.count
    assert few.deviation.tolist() == found.deviation[:5].tolist()


def test_pairs_by_chance_are_foreseen() -> None:
    rng = np.random.default_rng(12)
    errors = independent_population(rng.uniform(0.2, 0.8, 200), 300, rng)
    found = theory.dependent_pairs(errors, 0.02)
    assert found.count > 100
    assert found.count == pytest.approx(found.expected_by_chance, rel=0.15)


# Calibration: Theorems 3, 4 and 5.


@pytest.mark.parametrize("tie", [0.0, 0.05])
def test_theorem_3_on_a_calibrated_binary_task(tie: float) -> None:
    """E over test sets of the variance between runs = err / (2 n) + (1 - 1/n) Var(err on the distribution)."""
    training, rng = Calibrated(tie), np.random.default_rng(13)
    error, genuine = training.truth()
    observed = []
    for _ in range(150):
        predictions, labels = training.draw(40, 250, rng)
        observed.append(theory.observed_variance(theory.PackedErrors.from_predictions(predictions, labels)))
    predicted = theory.binary_variance(error, 250, genuine)
    assert abs(np.mean(observed) - predicted) < 3 * np.std(observed) / np.sqrt(len(observed))
    if tie:
        assert predicted > 1.3 * theory.binary_variance(error, 250)  # the second term is needed here
    else:
        assert np.mean(observed) < 0.7 * theory.binomial_variance(error, 250)


def test_theorems_4_and_5_on_a_calibrated_task_of_five_classes() -> None:
    rng = np.random.default_rng(14)
    predictions, labels = calibrated_classes(200, 2000, 5, rng)
    check = theory.disagreement_check(predictions, labels)
    assert check.difference.low <= 0 <= check.difference.high
    assert check.disagreement == pytest.approx(
        np.mean([(a != b).mean() for a, b in itertools.combinations(predictions[:40], 2)]), rel=0.02
    )
    errors = theory.PackedErrors.from_predictions(predictions, labels)
    assert theory.observed_variance(errors) > theory.variance_lower_bound(check.error, 2000, 5)
    assert theory.observed_variance(errors) < theory.binary_variance(check.error, 2000)
    curve = theory.class_calibration(predictions, labels)
    assert curve.overall_frequency == pytest.approx(curve.overall_confidence, abs=0.06)
    assert curve.error < 0.15


def test_an_overconfident_training_is_not_calibrated() -> None:
    rng = np.random.default_rng(15)
    labels = rng.integers(0, 2, 1000)
    predictions = np.tile((labels ^ (rng.random(1000) < 0.2)).astype(np.uint8), (30, 1))  # always the same errors
    check = theory.disagreement_check(predictions, labels)
    assert check.disagreement == 0
    assert check.error == pytest.approx(0.2, abs=0.05)
    assert check.difference.high < 0
    curve = theory.class_calibration(predictions, labels)
    assert curve.overall_frequency[-1] == pytest.approx(0.8, abs=0.05)
    assert np.isnan(curve.overall_confidence[4])


@pytest.mark.parametrize("classes", [3, 70])
def test_votes_are_counted(classes: int) -> None:
    predictions = np.random.default_rng(0).integers(0, classes, (600, 50)).astype(np.uint8)
    expected = np.stack([(predictions == c).sum(axis=0) for c in range(classes)], axis=1)
    assert (theory.votes(predictions, classes) == expected).all()


def test_binary_tasks_are_collapsed_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    from popnet.metrics.theory import tasks as module

    rng = np.random.default_rng(16)
    predictions, labels = calibrated_classes(60, 300, 5, rng)
    tasks = theory.binary_tasks(predictions, labels)
    assert tasks.sides.shape == (15, 5)
    assert len({tuple(side) for side in tasks.sides.tolist()}) == 15
    assert not tasks.sides[:, 0].any()
    assert tasks.sides.any(axis=1).all()
    for task, side in enumerate(tasks.sides):
        errors = side[predictions] != side[labels]
        assert tasks.error[task] == pytest.approx(errors.mean(), rel=1e-12)
        assert tasks.variance[task] == pytest.approx(errors.mean(1).var(ddof=1), rel=1e-9)
        genuine = theory.distribution_variance(errors)
        assert tasks.distribution_variance[task] == pytest.approx(genuine, rel=1e-9, abs=1e-15)
    assert tasks.predicted == pytest.approx(tasks.error / 600)
    monkeypatch.setattr(module, "_CONFUSION_CLASSES", 2)
    other = theory.binary_tasks(predictions, labels)
    assert other.variance == pytest.approx(tasks.variance, rel=1e-12)


def test_the_formula_predicts_the_variance_of_511_tasks() -> None:
    predictions, labels = calibrated_classes(500, 4000, 10, np.random.default_rng(17))
    tasks = theory.binary_tasks(predictions, labels)
    assert len(tasks.error) == 511
    assert tasks.r_squared > 0.7
    assert tasks.r_squared > tasks.r_squared_binomial
    assert tasks.times_nearer_than_binomial > 5


def test_many_classes_give_a_sample_of_tasks() -> None:
    rng = np.random.default_rng(18)
    predictions, labels = rng.integers(0, 40, (10, 100)), rng.integers(0, 40, 100)
    tasks = theory.binary_tasks(predictions, labels, limit=30)
    assert tasks.sides.shape == (30, 40)
    assert len({tuple(side) for side in tasks.sides.tolist()}) == 30
    assert (tasks.sides == theory.binary_tasks(predictions, labels, limit=30).sides).all()


# Do lucky seeds carry over?


def test_split_halves_correlate_where_quality_is_genuine() -> None:
    rng = np.random.default_rng(19)
    genuine, lucky = Shifting(0.5).errors(300, 400, rng), Shifting(0.0).errors(300, 400, rng)
    split = theory.split_halves(genuine)
    even, odd = genuine[:, ::2].mean(1), genuine[:, 1::2].mean(1)
    assert split.halves.correlation.value == pytest.approx(np.corrcoef(even, odd)[0, 1])
    assert split.halves.p_value == pytest.approx(stats.pearsonr(even, odd).pvalue, rel=1e-6)
    assert split.halves.covariance == pytest.approx(np.cov(even, odd)[0, 1])
    assert split.halves.correlation.low > 0.7
    assert split.gain.on_second.low > 0
    nothing = theory.split_halves(lucky)
    assert nothing.halves.correlation.low < 0 < nothing.halves.correlation.high
    assert nothing.gain.on_second.low < 0 < nothing.gain.on_second.high
    assert nothing.gain.on_first > 0.01


def test_lucky_gain_does_not_depend_on_the_order_of_ties() -> None:
    rng = np.random.default_rng(20)
    first, second = rng.integers(0, 4, 40) / 10, rng.random(40)
    gain = theory.lucky_gain(first, second)
    order = rng.permutation(40)
    assert theory.lucky_gain(first[order], second[order]).on_second.value == pytest.approx(gain.on_second.value)
    distinct = rng.permutation(40) / 40
    plain = second.mean() - second[np.argsort(distinct)[:10]].mean()
    assert theory.lucky_gain(distinct, second).on_second.value == pytest.approx(plain)


def test_correlations_between_test_sets() -> None:
    rng = np.random.default_rng(21)
    quality = rng.normal(size=100)
    sets = {name: quality * share + rng.normal(size=100) for name, share in (("a", 2.0), ("b", 2.0), ("c", 0.0))}
    found = theory.correlations(sets)
    assert set(found) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert found["a", "b"].r_squared > 0.4
    assert found["a", "c"].r_squared < 0.1
    assert np.isnan(theory.correlation(np.zeros(10), np.arange(10.0)).correlation.value)
    with pytest.raises(ValueError, match="same runs"):
        theory.correlation(np.arange(5.0), np.arange(6.0))


def test_correlation_interval_covers() -> None:
    rng, inside = np.random.default_rng(22), 0
    for _ in range(1000):
        a = rng.normal(size=30)
        b = 0.6 * a + 0.8 * rng.normal(size=30)
        estimate = theory.correlation(a, b).correlation
        inside += estimate.low <= 0.6 <= estimate.high
    assert 0.93 <= inside / 1000 <= 0.97


def test_published_numbers_follow_from_the_formulas() -> None:
    """Jordan (2024): converged CIFAR-10 trainings, error 5.59%, 10,000 images, SD 0.149%, independent errors 0.145%."""
    genuine = 10_000 / 9_999 * (0.00149**2 - 0.00145**2)
    assert 100 * theory.signed_sd(genuine) == pytest.approx(0.033, abs=0.002)
    ratio = theory.binomial_variance(0.0559, 10_000) / 0.00149**2
    assert ratio == pytest.approx(2.5, abs=0.2)  # Figure 14: the binomial overestimates about 2.5 times
    assert theory.signed_sd(-4.0) == -2.0
    assert variance_module.RESAMPLES == 1000


def test_twins_are_compared_one_by_one() -> None:
    rng = np.random.default_rng(23)
    runs = rng.integers(0, 3, (4, 20))
    twins = runs.copy()
    twins[1, :5] = (twins[1, :5] + 1) % 3
    assert theory.twin_disagreements(runs, twins).tolist() == [0, 0.25, 0, 0]
    with pytest.raises(ValueError, match="as many"):
        theory.twin_disagreements(runs, twins[:2])


def test_the_summary_gathers_what_the_functions_say() -> None:
    predictions, labels = calibrated_classes(60, 400, 4, np.random.default_rng(24))
    bits = theory.PackedErrors.from_predictions(predictions, labels)
    row = theory.summarise(predictions, labels).as_dict()
    assert row["error"] == pytest.approx(100 * (predictions != labels).mean())
    assert row["sd"] == pytest.approx(100 * np.sqrt(theory.observed_variance(bits)))
    assert row["distribution_sd_low"] <= row["distribution_sd"] <= row["distribution_sd_high"]
    assert row["dependent_pairs"] == theory.dependent_pairs(bits).count


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parent.parent / "experiments").glob("jordan_*.yaml")), ids=lambda file: file.stem
)
def test_the_papers_experiments_load(file: Path) -> None:
    experiment = config.load(file)
    assert experiment.name == file.stem
    assert all(experiment.recipe_of(variant).schedule.name == "linear" for variant in experiment.variants)

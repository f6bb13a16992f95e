"""Comparisons, power and their commands: against SciPy, against simulation, and on real runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import popnet
from popnet.cli import main
from popnet.errors import ConfigError, DataError
from popnet.metrics import compare, compare_all, compare_samples, compare_values, holm, planning, runs
from popnet.metrics import power as power_module
from popnet.metrics.comparison import Sample
from popnet.metrics.precision import Precision, mean_over_pairs_interval, sd_interval

POPULATION = 6


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants of a linear model on digits, one and two epochs, with equal seeds."""
    experiment = {
        "name": "pair",
        "recipe": {
            "dataset": "digits",
            "model": "linear",
            "epochs": 1,
            "batch_size": 64,
            "optimizer": {"name": "sgd", "lr": 0.02, "momentum": 0.0},
            "evaluate_every": 0,
        },
        "population": POPULATION,
        "variants": [
            {"name": "One epoch", "vary": ["init", "shuffle"]},
            {"name": "Two epochs", "vary": ["init", "shuffle"], "recipe": {"epochs": 2}},
            {"name": "Ensembles", "vary": ["init", "shuffle"], "ensemble": 2},
        ],
    }
    folder = tmp_path_factory.mktemp("runs") / "pair"
    popnet.run(popnet.config.from_mapping(experiment), store=folder, workers=1)
    return folder


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
    assert compare_values(a, b).wins == pytest.approx(expected)
    assert compare_values(a, b, higher_is_better=False).wins == pytest.approx(1 - expected)
    assert compare_values(a[:3], b, paired=True).wins == pytest.approx(1 / 3)
    certain = compare_values([4.0, 5, 6], [1.0, 2, 3])
    assert certain.wins == certain.wins_high == 1
    assert 0 < certain.wins_low < 1


@pytest.mark.parametrize(("method", "runs_a", "runs_b"), [("welch", 10, 10), ("welch", 5, 12), ("bootstrap", 15, 15)])
def test_intervals_cover_in_2000_comparisons(method: str, runs_a: int, runs_b: int) -> None:
    rng = np.random.default_rng(1)
    inside = wins_inside = 0
    share = stats.norm.cdf(0.5 / np.sqrt(1 + 1.5**2))
    for _ in range(2000):
        a, b = rng.normal(0.5, 1, runs_a), rng.normal(0, 1.5, runs_b)
        result = compare_values(a, b, method=method, resamples=400)
        inside += result.low <= 0.5 <= result.high
        wins_inside += result.wins_low <= share <= result.wins_high
    assert 0.93 <= inside / 2000 <= 0.97
    assert 0.93 <= wins_inside / 2000 <= 0.975


def test_paired_intervals_cover_where_runs_are_tied() -> None:
    rng, inside = np.random.default_rng(2), 0
    for _ in range(2000):
        tied = rng.normal(0, 2, 8)
        result = compare_values(tied + rng.normal(0.5, 1, 8), tied + rng.normal(0, 1, 8), paired=True)
        inside += result.low <= 0.5 <= result.high
    assert 0.93 <= inside / 2000 <= 0.97


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
    losses = compare(a, b, labels, "cross_entropy")
    assert losses.difference < 0
    assert losses.wins > 0.9  # less is better
    assert "A is better than B" in losses.sentence()
    assert losses.mean_a == pytest.approx(float(popnet.metrics.cross_entropy(a, labels).mean()))


def test_sentences_say_what_was_found() -> None:
    far = compare_values([3.0, 3.1, 2.9, 3.0], [1.0, 1.1, 0.9, 1.2], metric="accuracy", unit="points")
    assert far.sentence("new", "old").startswith("new is better than old by 1.95 points of accuracy")
    near = compare_values([1.0, 2.0, 3.0], [1.1, 2.1, 3.3])
    assert near.sentence().startswith("These runs do not tell A from B")
    assert near.runs_needed is not None
    assert f"{near.runs_needed:,} runs of each" in near.sentence()
    assert "the same mean" in compare_values([1.0, 2.0], [2.0, 1.0]).sentence()


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_runs_that_never_differ(constant: float) -> None:
    result = compare_values(np.full(4, 2.0 + constant), np.full(5, 2.0))
    assert result.p_value == (0.0 if constant else 1.0)
    assert result.interval == (constant, constant)
    assert compare_values(np.full(4, 2.0), np.full(4, 2.0), method="bootstrap", paired=True).p_value == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare_values([1.0], [1.0, 2.0]), "at least 2"),
        (lambda: compare_values([1.0, np.nan], [1.0, 2.0]), "finite"),
        (lambda: compare_values([1.0, 2.0], [1.0, 2.0, 3.0], paired=True), "partner"),
        (lambda: compare_values([1.0, 2.0], [1.0, 2.0], method="magic"), "'welch' or 'bootstrap'"),
        (lambda: compare_values([1.0, 2.0], [1.0, 2.0], confidence=95), "between 0 and 1"),
        (lambda: power_module.power(1, 1, 1, 1, 5), "at least 2 runs"),
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
    false_alarms = 0
    for _ in range(1000):
        nothing = {str(i): Sample(rng.normal(size=6)) for i in range(3)}
        p_values = [stats.ttest_ind(nothing[a].values, nothing[b].values).pvalue for a, b in ("01", "02", "12")]
        false_alarms += holm(p_values).min() < 0.05
    assert false_alarms / 1000 < 0.07


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
    assert power_module.runs_needed(1, 0) == 2
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


# Sources: files, tables, stores.


def test_tables_are_read(tmp_path: Path) -> None:
    a, b = tmp_path / "a.csv", tmp_path / "b.tsv"
    pd.DataFrame({"seed": [3, 1, 2], "accuracy": [90.0, 91, 92], "val_loss": [0.3, 0.2, 0.1]}).to_csv(a)
    pd.DataFrame({"seed": [1, 2, 3], "accuracy": [89.0, 90, 88], "val_loss": [0.3, 0.3, 0.4]}).to_csv(b, sep="\t")
    first, second = runs.read(str(a), column="val_loss"), runs.read(str(b), column="val_loss")
    first, second, match = runs.matched(first, second, None)
    assert match
    assert second.samples["val_loss"].values.tolist() == [0.4, 0.3, 0.3]
    assert runs.matched(first, second, False)[2] is False
    assert runs.meaning("val_loss")["higher_is_better"] is False
    with pytest.raises(ConfigError, match="say which column"):
        runs.read(str(a))
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        runs.read(str(a), column="acuracy")
    with pytest.raises(DataError, match="cannot be read"):
        runs.read(str(tmp_path / "none.csv"))


def test_prediction_files_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 4, 50)
    logits = logits_of(0.7, 5, labels, rng)
    np.save(tmp_path / "labels.npy", labels)
    np.save(tmp_path / "logits.npy", logits)
    np.savez(tmp_path / "all.npz", logits=logits, labels=labels, seeds=np.arange(5))
    np.savez(tmp_path / "classes.npz", predictions=logits.argmax(2), labels=labels)
    np.savez(tmp_path / "bits.npz", errors=logits.argmax(2) != labels)
    plain = runs.read(str(tmp_path / "logits.npy"), labels=tmp_path / "labels.npy")
    losses = popnet.metrics.cross_entropy(logits, labels)
    assert plain.samples["cross_entropy"].values == pytest.approx(losses)
    expected = compare(logits, logits + 0, labels, "cross_entropy")
    assert plain.samples["cross_entropy"].own_variance == pytest.approx(
        Sample.of_losses(np.stack([popnet.metrics.comparison.example_losses(z, labels) for z in logits])).own_variance
    )
    assert expected.difference == 0
    for name in ("all", "classes", "bits"):
        read = runs.read(str(tmp_path / f"{name}.npz"))
        assert read.samples["accuracy"].values == pytest.approx(plain.samples["accuracy"].values)
    with pytest.raises(DataError, match="--labels"):
        runs.read(str(tmp_path / "logits.npy"))
    np.save(tmp_path / "other.npy", (labels + 1) % 4)
    with pytest.raises(ConfigError, match="different labels"):
        runs.check_comparable([plain, runs.read(str(tmp_path / "logits.npy"), labels=tmp_path / "other.npy")])


def test_stores_are_read(store: Path) -> None:
    one = runs.read(f"{store}:One epoch")
    assert one.samples["accuracy"].values.shape == (POPULATION,)
    opened = popnet.open_store(store)
    ledger = opened.members()
    assert set(one.samples["accuracy"].values.round(6)) <= set(ledger["accuracy"].round(6))
    ensembles = runs.read(f"{store}:Ensembles")
    assert ensembles.samples["accuracy"].values.shape == (POPULATION // 2,)
    assert ensembles.seeds is None
    _, _, match = runs.matched(one, runs.read(f"{store}:Two epochs"), None)
    assert match
    with pytest.raises(ConfigError, match="did you mean 'One epoch'"):
        runs.read(f"{store}:One epocch")
    with pytest.raises(ConfigError, match="holds 3 rows"):
        runs.read(str(store))
    with pytest.raises(DataError, match="no popnet store"):
        runs.read(str(store / "members"))


def test_compare_command(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare", f"{store}:Two epochs", f"{store}:One epoch"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "A is better than B by" in printed
    assert "matched pairs" in printed
    with pytest.raises(SystemExit):
        main(["compare", f"{store}:Two epochs", f"{store}:One epoch", f"{store}:Ensembles", "--metric", "accuracy"])
    assert "Holm" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["compare", f"{store}:Two epochs"])
    assert ended.value.code == 2


def test_power_command(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["power", "--difference", "0.5", "--from", f"{store}:One epoch"])
    assert f"measured over {POPULATION} runs" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["power", "--difference", "0.2", "--error", "5.6", "--examples", "10000", "--classes", "10"])
    printed = capsys.readouterr().out
    assert "Warning: This assumes" in printed
    labels = np.arange(100) % 2
    np.savez(tmp_path / "one.npz", predictions=np.where(np.arange(100) < 10, 1 - labels, labels)[None], labels=labels)
    with pytest.raises(SystemExit):
        main(["power", "--difference", "2", "--from", str(tmp_path / "one.npz"), "--distribution-sd", "0"])
    assert "SD between runs: 2.24 (expected from an error of 10%" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["power", "--difference", "0.2"])
    assert ended.value.code == 2
    with pytest.raises(ConfigError, match="above 0"):
        planning.power_plan(0.0, planning.given_sds([1.0]))


def test_theory_command(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from popnet.report import figures

    rng = np.random.default_rng(11)
    labels = rng.integers(0, 4, 80)
    for name, accuracy in (("short", 0.6), ("long", 0.9)):
        np.savez(tmp_path / f"{name}.npz", logits=logits_of(accuracy, 12, labels, rng), labels=labels)
    command = ["theory", str(tmp_path / "short.npz"), str(tmp_path / "long.npz"), "--output"]
    for folder in ("one", "two"):
        with pytest.raises(SystemExit) as ended:
            main([*command, str(tmp_path / folder)])
        assert ended.value.code == 0
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert files[-1] == "theory.md"
    assert len(files) == 6
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert "| runs | 12 | 12 |" in (tmp_path / "one" / "theory.md").read_text()
    by_rate = figures.deviations_by_setting([0.5, 1.0], {"observed": [0.15, 0.17], "genuine": [-0.01, 0.1]}, "rate")
    pokes = figures.disagreements({"poked": rng.random(9)}, [0, 10], [7.0, 6.0])
    sets = figures.correlated_test_sets({"a": rng.random(9), "b": rng.random(9), "c": rng.random(9)})
    for svg in (by_rate, pokes, sets):
        assert svg.rstrip().endswith("</svg>")


# Intervals of a population's metrics.


def test_precision_is_that_of_the_metrics() -> None:
    rng = np.random.default_rng(9)
    labels = rng.integers(0, 4, 60)
    logits = logits_of(0.7, 9, labels, rng)
    precision = Precision(logits, labels)
    whole = popnet.metrics.variability(logits, labels, resamples=10)
    for metric in ("accuracy_mean", "accuracy_sd", "cross_entropy_sd", "disagreement", "spearman", "ensemble_delta"):
        estimate = precision.interval(metric, 9)
        assert estimate.value == pytest.approx(getattr(whole, metric))
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

"""Sources of comparisons: files, tables and stores, and the commands that read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import popnet
from popnet.cli import main
from popnet.errors import ConfigError, DataError
from popnet.metrics import Sample, planning
from popnet.metrics.samples import example_losses
from popnet.results.found import Options, Runs
from popnet.results.reading import check_same_test, matched, only, read

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


def runs_of(source: Path | str, **options: object) -> Runs:
    return only(read(str(source), Options(**options)))  # type: ignore[arg-type]


def test_tables_are_read(tmp_path: Path) -> None:
    a, b = tmp_path / "a.csv", tmp_path / "b.tsv"
    pd.DataFrame({"seed": [3, 1, 2], "accuracy": [90.0, 91, 92], "val_loss": [0.3, 0.2, 0.1]}).to_csv(a)
    pd.DataFrame({"seed": [1, 2, 3], "accuracy": [89.0, 90, 88], "val_loss": [0.3, 0.3, 0.4]}).to_csv(b, sep="\t")
    first, second = (runs_of(file, metrics=("val_loss",)) for file in (a, b))
    first, second, match = matched(first, second, None)
    assert match
    assert second.samples["val_loss"].values.tolist() == [0.4, 0.3, 0.3]
    assert matched(first, second, False)[2] is False
    with pytest.raises(ConfigError, match="--metric"):
        runs_of(a)
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        runs_of(a, metrics=("acuracy",))
    with pytest.raises(DataError, match="no such file"):
        runs_of(tmp_path / "none.csv")


def test_prediction_files_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 4, 50)
    logits = logits_of(0.7, 5, labels, rng)
    np.save(tmp_path / "y.npy", labels)
    np.save(tmp_path / "logits.npy", logits)
    np.savez(tmp_path / "all.npz", logits=logits, labels=labels, seeds=np.arange(5))
    np.savez(tmp_path / "classes.npz", predictions=logits.argmax(2), labels=labels)
    np.savez(tmp_path / "bits.npz", errors=logits.argmax(2) != labels)
    plain = runs_of(tmp_path / "logits.npy", labels=tmp_path / "y.npy")
    assert plain.samples["cross_entropy"].values == pytest.approx(popnet.metrics.cross_entropy(logits, labels))
    losses = np.stack([example_losses(z, labels) for z in logits])
    assert plain.samples["cross_entropy"].own_variance == pytest.approx(Sample.of_losses(losses).own_variance)
    for name in ("all", "classes", "bits"):
        found = runs_of(tmp_path / f"{name}.npz")
        assert found.samples["accuracy"].values == pytest.approx(plain.samples["accuracy"].values)
    with pytest.raises((ConfigError, DataError), match="--labels"):
        runs_of(tmp_path / "logits.npy")
    np.save(tmp_path / "other.npy", (labels + 1) % 4)
    with pytest.raises(ConfigError, match="different labels"):
        check_same_test([plain, runs_of(tmp_path / "logits.npy", labels=tmp_path / "other.npy")])


def test_stores_are_read(store: Path) -> None:
    one = runs_of(f"{store}:One epoch")
    assert one.samples["accuracy"].values.shape == (POPULATION,)
    ledger = popnet.open_store(store).members()
    assert set(one.samples["accuracy"].values.round(6)) <= set(ledger["accuracy"].round(6))
    ensembles = runs_of(f"{store}:Ensembles")
    assert ensembles.samples["accuracy"].values.shape == (POPULATION // 2,)
    assert ensembles.seeds is None
    assert matched(one, runs_of(f"{store}:Two epochs"), None)[2]
    with pytest.raises(ConfigError, match="did you mean 'One epoch'"):
        runs_of(f"{store}:One epocch")
    with pytest.raises(ConfigError, match="holds 3 rows"):
        runs_of(store)
    with pytest.raises(DataError, match="members"):
        runs_of(store / "members")


def test_rows_that_share_members_are_not_compared(store: Path) -> None:
    with pytest.raises(ConfigError, match="share 6 trained members"):
        popnet.compare(f"{store}:One epoch", f"{store}:Ensembles")
    with pytest.raises(ConfigError, match="twice"):
        popnet.compare(f"{store}:One epoch", f"{store}:One epoch")


def test_a_store_is_measured_row_by_row(store: Path) -> None:
    table = popnet.measure(store)
    assert list(table.index) == ["One epoch", "Two epochs", "Ensembles"]
    assert table["members"].tolist() == [POPULATION, POPULATION, POPULATION // 2]
    values = runs_of(f"{store}:Two epochs").samples["accuracy"].values
    assert table.loc["Two epochs", "accuracy_sd"] == pytest.approx(np.std(values, ddof=1))
    alone = popnet.measure(f"{store}:Two epochs")
    assert alone.loc["Two epochs"].equals(table.loc["Two epochs"])
    assert popnet.measure(popnet.open_store(store)).equals(table)


def test_compare_command(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare", f"{store}:Two epochs", f"{store}:One epoch"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "A is better than B by" in printed
    assert "matched pairs" in printed
    with pytest.raises(SystemExit):
        main(["compare", f"{store}:Two epochs", f"{store}:One epoch", f"{store}:Ensembles", "--metric", "accuracy"])
    assert "share 6 trained members" in capsys.readouterr().err
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
    assert len(files) == 9
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert "| runs | 12 | 12 |" in (tmp_path / "one" / "theory.md").read_text()
    by_rate = figures.deviations_by_setting([0.5, 1.0], {"observed": [0.15, 0.17], "genuine": [-0.01, 0.1]}, "rate")
    pokes = figures.disagreements({"poked": rng.random(9)}, [0, 10], [7.0, 6.0])
    sets = figures.correlated_test_sets({"a": rng.random(9), "b": rng.random(9), "c": rng.random(9)})
    for svg in (by_rate, pokes, sets):
        assert svg.rstrip().endswith("</svg>")


def test_copies_of_one_run_are_one_run_where_that_is_no_chance(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    labels = rng.integers(0, 4, 100)
    runs = logits_of(0.6, 4, labels, rng).argmax(2)
    copied = runs[[0, 0, 1, 2, 0, 3]]
    np.savez(tmp_path / "classes.npz", predictions=copied, labels=labels, seeds=np.arange(6))
    np.savez(tmp_path / "correct.npz", correct=copied == labels)
    for name in ("classes", "correct"):
        found = runs_of(tmp_path / f"{name}.npz")
        assert found.count == 4
        assert any("6 runs, some of them equal on all examples, count as 4" in mark for mark in found.marks)
        values = 100 * (runs == labels).mean(axis=1)
        assert found.samples["accuracy"].values == pytest.approx(values) if name == "classes" else True
    assert runs_of(tmp_path / "classes.npz").seeds == (0, 2, 3, 5)
    easy = np.tile(labels, (4, 1))
    easy[:, 0] = (labels[0] + 1) % 4  # four runs that err on the same example alone can differ
    np.savez(tmp_path / "easy.npz", predictions=easy, labels=labels)
    assert runs_of(tmp_path / "easy.npz").count == 4

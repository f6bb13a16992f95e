"""From a store of language models to tables and reports: averages of probabilities, rows, marks, errors."""

from __future__ import annotations

import io
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import reference
import torch
from rich.console import Console

import popnet
from popnet import metrics
from popnet.cli import main
from popnet.config import from_mapping
from popnet.errors import ConfigError
from popnet.report.beside import beside
from popnet.report.document import build
from popnet.report.html import render_html
from popnet.report.measured import measure
from popnet.report.tables import render
from popnet.results.stores.language_populations import WORDS_NOT_KNOWN, language_population, population_predictions
from popnet.results.stores.populations import FEW

CONTENT = {
    "name": "words",
    "recipe": {
        "dataset": {"name": "synthetic_text", "kwargs": {"train": 300, "validation": 60, "test": 81, "types": 12}},
        "model": {"name": "qrnn", "kwargs": {"embedding": 6, "hidden": 8, "layers": 2}},
        "epochs": 2,
        "batch_size": 4,
        "optimizer": {"name": "sgd", "lr": 5.0, "momentum": 0.0},
        "schedule": "cosine",
        "language": {
            "sequence_length": 10,
            "averaging_patience": None,
            "validation_batch": 2,
            "logit_positions": 5,
        },
    },
    "population": 4,
    "variants": [
        {"name": "Determinism", "replicas": True, "population": 2},
        {"name": "Stochastic Operations", "vary": ["stochastic"], "population": 3},
        {"name": "All Nondeterminism Sources", "vary": "all"},
        {"name": "Ensemble (N=2)", "vary": "all", "ensemble": 2},
        {"name": "Acc. Ens./All Sources/500", "vary": "all", "snapshots": 2, "population": 2},
    ],
    "published": ["summers_dinneen_2021.table2", "summers_dinneen_2021.table9"],
}
TOKENS = 80


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> popnet.Result:
    return popnet.run(from_mapping(CONTENT), tmp_path_factory.mktemp("words") / "store", workers=1)


def members_of(result, name):
    return next(population for population in result.plan.populations if population.name == name)


# ---- predictions -----------------------------------------------------------------------------------------------------


def test_single_members_are_taken_as_they_are(words):
    population = members_of(words, "All Nondeterminism Sources")
    found = population_predictions(words.store, population, population.members)
    stored = [words.store.language_predictions(m.id) for m in population.members]
    assert np.array_equal(found.log_probabilities, np.stack([one.target_log_probabilities[0] for one in stored]))
    assert np.array_equal(found.words, np.stack([one.argmax[0] for one in stored]))
    assert found.log_probabilities.shape == (4, TOKENS)
    logits = found.logits.read(range(4), slice(0, 5)).numpy()
    assert np.array_equal(logits, np.stack([one.logits[0] for one in stored]))


def test_snapshots_and_ensembles_average_probabilities(words):
    population = members_of(words, "Acc. Ens./All Sources/500")
    found = population_predictions(words.store, population, population.members)
    stored = [words.store.language_predictions(m.id) for m in population.members]
    views = stored[1].target_log_probabilities
    assert views.shape == (2, TOKENS)
    expected = reference.mean_log_probabilities(views[:, None], normalised=True)[0]
    assert found.log_probabilities[1] == pytest.approx(expected, rel=1e-6)
    assert np.array_equal(found.words[1], stored[1].mean_argmax)
    logits = found.logits.read([1], slice(2, 4)).numpy()[0]
    expected = reference.mean_log_probabilities(stored[1].logits, normalised=False)[2:4]
    assert logits == pytest.approx(expected, rel=1e-5, abs=1e-6)

    pair = language_population(words.store, [[m.id for m in population.members]])
    every = np.concatenate([one.target_log_probabilities for one in stored])
    expected = reference.mean_log_probabilities(every[:, None], normalised=True)[0]
    assert pair.log_probabilities[0] == pytest.approx(expected, rel=1e-6)
    assert pair.words is None


# ---- the table -------------------------------------------------------------------------------------------------------


def test_a_row_holds_every_metric(words):
    table = words.table("language")
    pd.testing.assert_frame_equal(words.table(), table)
    assert list(table.index) == [variant["name"] for variant in CONTENT["variants"]]
    population = members_of(words, "All Nondeterminism Sources")
    expected = population_predictions(words.store, population, population.members).variability()
    row = table.loc["All Nondeterminism Sources"]
    for name, value in expected.as_dict().items():
        assert row[name] == value
    assert (row["members"], row["population"], row["failed"], row["marks"]) == (4, 4, 0, "")
    ledger = words.store.members().loc[[m.id for m in population.members], "cross_entropy"]
    assert row["ppl_mean"] == pytest.approx(np.exp(ledger).mean(), rel=1e-6)


def test_equal_trainings_differ_in_nothing(words):
    row = words.table().loc["Determinism"]
    assert (row["ppl_sd"], row["disagreement"], row["ensemble_ppl_delta"]) == (0, 0, 0)
    assert (row["target_spearman"], row["logit_spearman"]) == (1, 1)


def test_ensembles_say_what_is_not_known_of_them(words):
    row = words.table().loc["Ensemble (N=2)"]
    assert (row["members"], row["population"]) == (2, 4)
    assert math.isnan(row["disagreement"])
    assert row["marks"] == f"2 disjoint ensembles of 2; {FEW}; {WORDS_NOT_KNOWN}"
    assert row["ppl_mean"] < words.table().loc["All Nondeterminism Sources", "ppl_mean"]


def test_each_kind_of_model_has_its_table(words, trained):
    with pytest.raises(ConfigError, match="no table 'variability': words trains language models: ask for 'language'"):
        words.table("variability")
    with pytest.raises(ConfigError, match="no table 'language': tiny trains models of images: ask for 'variability'"):
        trained.table("language")
    with pytest.raises(ConfigError, match="no table 'languag'; did you mean 'language'"):
        words.table("languag")


def test_printed_as_the_papers_do(words):
    console = Console(file=io.StringIO(), width=120)
    published = popnet.report.tables.published("summers_dinneen_2021.table2")
    render(words.table(), "Words", published, console)
    text = console.file.getvalue()
    for expected in (
        "PPL",
        "Disagree (%)",
        "PPL Δ",
        "Targets",
        "0.19 ± 0.01",
        "17.30",
        "-2.08",
        f"³ {WORDS_NOT_KNOWN}",
    ):
        assert expected in text
    assert "Accuracy" not in text


# ---- reports and the command line ------------------------------------------------------------------------------------


def test_a_report_sets_rows_beside_both_tables(words):
    (found,) = measure([words.store.path])
    assert {"ppl_mean", "ppl_sd", "disagreement", "ensemble_ppl_delta", "target_spearman"} <= found.quantities
    row = next(row for row in found.rows if row.name == "All Nondeterminism Sources")
    assert row.values["ensemble_ppl_delta"].error > 0
    assert row.values["ppl_sd"].error == words.table().loc[row.name, "ppl_sd_error"]
    assert np.array_equal(row.runs.values["ppl"], metrics.perplexity(_log_probabilities(words, row.name)))
    second, ninth = beside(found)
    assert [pair.row.name for pair in second.pairs] == ["Stochastic Operations", "All Nondeterminism Sources"]
    assert [pair.row.name for pair in ninth.pairs] == ["Acc. Ens./All Sources/500"]
    columns = ["ppl_mean", "ppl_sd", "disagreement", "ensemble_ppl_delta"]
    assert [quantity.name for quantity in second.columns] == columns


def _log_probabilities(result, name):
    population = members_of(result, name)
    return population_predictions(result.store, population, population.members).log_probabilities


def test_measure_of_a_store(words):
    table = popnet.measure(words.store.path)
    expected = words.table("language").query("members >= 2")
    assert list(table.index) == list(expected.index)
    factor = np.sqrt(expected["members"] / (expected["members"] - 1))
    assert table["ppl_sd"].to_numpy() == pytest.approx((expected["ppl_sd"] * factor).to_numpy())
    assert table["disagreement"].to_numpy() == pytest.approx(expected["disagreement"].to_numpy(), nan_ok=True)


def test_the_command_line(words, tmp_path, capsys):
    def printed(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([*arguments])
        assert ended.value.code in (0, None)
        return capsys.readouterr().out

    csv = tmp_path / "row.csv"
    assert "PPL" in printed("measure", str(words.store.path), "--csv", str(csv))
    assert "target_spearman" in csv.read_text()
    assert "Ensemble PPL" in printed("report", str(words.store.path))


def test_no_logits_where_the_recipe_keeps_none(words, tmp_path):
    from popnet.store import Store, save_tensors

    copy = Store(shutil.copytree(words.store.path, tmp_path / "copy"))
    population = members_of(words, "Stochastic Operations")
    for m in population.members:
        stored = copy.language_predictions(m.id)
        tensors = {"target_log_probabilities": stored.target_log_probabilities, "argmax": stored.argmax}
        save_tensors(copy.predictions_path(m.id), {name: torch.from_numpy(a) for name, a in tensors.items()})
    found = population_predictions(copy, population, population.members)
    assert found.logits is None
    assert math.isnan(found.variability(resamples=10).logit_spearman)


def test_a_report_of_language_models_has_its_figures_and_claims(words):
    report, evidence = build([words.store.path])
    titles = [figure.title for section in report.sections for figure in section.figures]
    rows = [row for row in evidence[0].measured.rows if row.runs is not None]
    assert rows
    assert all(row.runs.knows("ppl_sd") and row.runs.knows("ensemble_ppl_delta") for row in rows)
    assert {"Perplexity over runs", "Each metric against the size of the population"} <= set(titles)
    assert "Ensemble PPL Δ" in render_html(report)

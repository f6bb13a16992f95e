"""Which of Jordan's figures `popnet theory` draws, by what the rows of a store are."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from matplotlib.text import Text

import popnet
from popnet import config
from popnet.config import from_mapping
from popnet.errors import ConfigError
from popnet.report import measured_figures, panels, theory, theory_figures
from popnet.report.document import build
from popnet.report.theory_rows import with_theory
from popnet.report.theory_tables import theory_table
from popnet.results.found import Runs
from popnet.results.reading import only
from popnet.results.reading import read as read_results
from popnet.results.reduction import of_errors
from popnet.results.stores.rows import runs_of_store


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Rows by duration and by rate, and one whose runs are poked before one of two steps."""
    poke = {"kind": "scale", "factor": 1.5, "weight": "first"}
    content = copy.deepcopy(TINY) | {
        "population": 8,
        "variants": [
            {"name": "base", "vary": ["init", "shuffle"]},
            {"name": "short", "vary": ["init", "shuffle"], "recipe": {"epochs": 2}},
            {"name": "fast", "vary": ["init", "shuffle"], "recipe": {"optimizer": {"lr": 0.3}}},
            {"name": "order", "vary": ["shuffle"], "recipe": {"epochs": 8}},
            {"name": "poked", "vary": ["init", "shuffle", "bit"], "perturbation": {**poke, "step": 0}},
            {"name": "poked late", "vary": ["init", "shuffle", "bit"], "perturbation": {**poke, "step": 9}},
        ],
    }
    folder = tmp_path_factory.mktemp("theory") / "store"
    popnet.run(from_mapping(content), folder, workers=2)
    return folder


def read(store: Path, *names: str) -> dict[str, Runs]:
    return {name: runs_of_store(f"{store}:{name}") for name in names}


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Only the text of a figure is looked at: writing the glyphs' paths of a dozen is what takes seconds."""

    def texts(figure):
        return "<svg>" + "".join(f"<text>{text.get_text()}</text>" for text in figure.findobj(Text)) + "</svg>"

    monkeypatch.setattr(theory_figures.figures, "svg", texts)
    monkeypatch.setattr(panels, "svg", texts)


def kinds(populations: dict[str, Runs]) -> dict[str, theory_figures.Drawn]:
    summaries = {
        name: theory.theory.summarise(one.predictions, one.labels, one.classes) for name, one in populations.items()
    }
    return {figure.kind: figure for figure in theory_figures.drawn(populations, summaries)}


def test_settings_are_drawn_where_recipes_differ_in_them_alone(store):
    found = kinds(read(store, "base", "short", "fast", "order"))
    assert "genuine" in found["durations"].svg
    assert ">2<" in found["durations"].svg.replace(" ", "")
    assert ">8<" not in found["durations"].svg.replace(" ", ""), "other sources vary there"
    assert "learning-rates" in found
    assert not {kind for kind in found if kind.startswith("pokes")}
    assert "learning-rates" not in kinds(read(store, "base", "short"))


def test_reports_of_jordan_s_experiments_show_them(store):
    _, evidence = build([store], figures=False)
    experiment = evidence[0].measured.experiment.model_copy(update={"name": "jordan_tiny"})
    renamed = replace(evidence[0].measured, experiment=experiment)
    named = with_theory(renamed)
    assert named.rows[4].values["twin_disagreement"].known, "poked"
    assert "twin_disagreement" not in named.rows[0].values
    table = theory_table(named)
    assert [line.label for line in table.lines] == [row.name for row in named.rows]
    assert "±" in table.lines[0].cells[0]
    assert theory_table(evidence[0].measured) is None
    titles = [figure.title for figure in measured_figures.figures_of(renamed)]
    assert {"Calibration of the votes", "SD between runs by epochs", "One weight poked: base"} <= set(titles)
    assert titles.count("Accuracy over runs") == 1
    assert not list(measured_figures._theory(evidence[0].measured)), "not after this paper"


def test_pokes_are_set_against_their_own_twins(store, monkeypatch):
    seen = {}

    def record(histograms, steps=(), means=()):
        seen.update(histograms=histograms, steps=steps, means=means)
        return "<svg/>"

    monkeypatch.setattr(theory_figures.figures, "disagreements", record)
    populations = read(store, "base", "poked", "poked late")
    assert "pokes-base" in kinds(populations)
    expected = 100 * (populations["poked"].predictions != populations["base"].predictions).mean(axis=1)
    assert np.allclose(seen["histograms"]["poked"], expected)
    assert len(seen["histograms"]["base, other seeds"]) == 28
    assert seen["steps"] == [0, 9]
    assert seen["means"][0] == pytest.approx(expected.mean())


def test_the_same_runs_on_several_test_sets_are_correlated(tmp_path):
    rng = np.random.default_rng(3)
    sources = []
    for name, seeds in (("one", range(12)), ("two", range(12)), ("three", range(5, 17))):
        labels = rng.integers(0, 3, 60)
        predictions = np.where(rng.random((12, 60)) < 0.8, labels, (labels + 1) % 3)
        np.savez(tmp_path / name, predictions=predictions, labels=labels, seeds=np.array(seeds))
        sources.append(only(read_results(str(tmp_path / f"{name}.npz"))))
    file = theory.write(sources[:2], tmp_path / "out", "theory", "Test sets")
    assert (tmp_path / "out" / "theory-test-sets.svg").exists()
    assert "theory-test-sets.svg" in file.read_text()
    with pytest.raises(ConfigError, match="different labels"):
        theory.write(sources, tmp_path / "other", "theory", "Other runs on other examples")
    with pytest.raises(ConfigError, match="two sources are called"):
        theory.write([sources[0], sources[0]], tmp_path / "other", "theory", "Twice")
    assert not (tmp_path / "other").exists()


def test_every_population_is_shown_with_its_pair_and_the_binomial(store):
    found = kinds(read(store, "base", "order"))
    assert {"pair", "binomial"} <= set(found)
    assert "if independent" in found["pair"].svg
    assert "binomial, SD" in found["binomial"].svg
    assert "genuine" in found["independence"].svg


def test_a_pair_s_shares_are_counted(monkeypatch):
    """Figure 4: how often both, one or none of two examples are right, and what independence would give."""
    seen = {}
    monkeypatch.setattr(theory_figures.figures, "one_pair", lambda *numbers: seen.update(numbers=numbers) or "<svg/>")
    rng = np.random.default_rng(5)
    errors = rng.random((50, 9)) < np.linspace(0.1, 0.9, 9)
    runs = of_errors("x", errors)
    theory_figures._pair("x", runs)
    first, second, observed, foreseen, count = seen["numbers"]
    right = ~errors
    assert count == 50
    assert observed[0] == pytest.approx(100 * (right[:, first] & right[:, second]).mean())
    assert observed[1] == pytest.approx(100 * (right[:, first] & ~right[:, second]).mean())
    assert sum(observed) == pytest.approx(100)
    assert foreseen[0] == pytest.approx(100 * right[:, first].mean() * right[:, second].mean())
    assert abs(right[:, first].mean() - 0.362) == np.abs(right.mean(axis=0) - 0.362).min()


def test_figures_of_settings_and_of_pairs_of_trainings_are_svg(undrawn, monkeypatch):
    monkeypatch.undo()
    rng = np.random.default_rng(6)
    values = {"4 epochs": {"all": rng.normal(90, 1, 30), "order only": rng.normal(90, 0.7, 30)}}
    text = theory_figures.figures.overlaid(values)
    assert text.lstrip().startswith("<?xml")
    assert "order only: SD" in text
    errors = rng.random((40, 30)) < 0.4
    pairs = theory.theory.dependent_pairs(errors, limit=10)
    assert f"{pairs.first[0]} and {pairs.second[0]}" in theory_figures.figures.deviating_pairs(pairs)


def test_the_paper_s_pair_is_drawn_of_cifar10_in_its_own_order_alone(monkeypatch):
    """A copy's rows may lie in another order: examples 776 and 796 are others there."""
    seen = []
    monkeypatch.setattr(theory_figures.figures, "one_pair", lambda *numbers: seen.append(numbers[:2]) or "<svg/>")
    recipe = config.load(Path(__file__).parent.parent / "experiments" / "jordan_durations.yaml").recipe
    runs = of_errors("x", np.random.default_rng(5).random((20, 10_000)) < 0.1)
    labels = np.zeros(10_000, np.int64)
    theory_figures._pair("x", replace(runs, recipe=recipe, labels=labels))
    labels[:20] = theory_figures._FIRST_LABELS
    theory_figures._pair("x", replace(runs, recipe=recipe, labels=labels))
    assert seen[0] != theory_figures.PAPERS_PAIR
    assert seen[1] == theory_figures.PAPERS_PAIR


def test_steps_are_set_along_an_axis_for_one_change_of_a_weight(store):
    populations = read(store, "poked", "poked late")
    late = populations["poked late"]
    other = late.variant.model_copy(
        update={"perturbation": late.variant.perturbation.model_copy(update={"factor": 3.0})}
    )
    assert theory_figures._by_step(populations) == [(0, "poked"), (9, "poked late")]
    populations["poked late"] = replace(late, variant=other)
    assert theory_figures._by_step(populations) == [(0, "poked")]
    stepped = other.model_copy(update={"sources": (), "first_step_precision": "bf16"})
    assert theory_figures._by_step({"x": replace(late, variant=stepped)}) == []


def test_many_powers_of_two_are_written_short():
    ticks = theory_figures.figures._ticks
    assert ticks([2.0**n for n in range(-10, 3)])[0] == "$2^{-10}$"
    assert ticks([4, 16, 64]) == ["4", "16", "64"]
    assert ticks([0.1 * n for n in range(1, 9)])[:2] == ["0.1", "0.2"]

"""Figure 1 in a report: the noise floor in figure and table, and a claim that does not hold by construction."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY

from popnet import metrics
from popnet.config import from_mapping, from_store
from popnet.engine.devices import platform
from popnet.errors import ConfigError
from popnet.metrics.similarity import Estimator
from popnet.report.claims import Claim, Evidence, claims_of
from popnet.report.measured import Measured, Row, _unknown_published
from popnet.report.measured_figures import figures_of
from popnet.report.measured_tables import similarity_table
from popnet.report.quantities import Value
from popnet.report.similarity import Layer, Similarity
from popnet.report.verdicts import Verdict
from popnet.results.stores.populations import alignments
from popnet.store import Store, save_tensors
from popnet.store.store import IMAGE_NUMBERS

SOURCES = {"Initialization": ["init"], "Shuffling": ["shuffle"], "Control": [], "Bit": ["bit"]}


def measured(values: dict[str, dict[str, Layer]], estimator: str = "unbiased") -> Measured:
    """An experiment of ten runs a row, with the given layers of each row."""
    content = copy.deepcopy(TINY) | {"population": 10}
    content["recipe"] |= {"features": {"layers": ["fc"], "estimator": estimator}, "model": "hidden_fc"}
    content["variants"] = [{"name": name, "vary": SOURCES[name], "replicas": name == "Control"} for name in values]
    experiment = from_mapping(content)
    rows = tuple(
        Row(v, experiment.recipe, 10, 10, 10, 0, (), {}, similarity=Similarity(values[v.name], 512, estimator))
        for v in experiment.variants
    )
    return Measured(Path("runs/made"), experiment, platform("cpu"), rows)


def judged(made: Measured) -> Claim:
    (claim,) = (c for c in claims_of(Evidence.of(made, [])) if "how alike they leave representations" in c.statement)
    return claim


def layers(*values: float, floors: tuple[float, ...] = (), error: float = 0.002) -> dict[str, Layer]:
    floors = floors or len(values) * (0.0,)
    return {
        f"layer{i}": Layer(Value(value, error), Value(floor, math.sqrt(2) / 512), 10)
        for i, (value, floor) in enumerate(zip(values, floors, strict=True))
    }


def of_noise(estimator: Estimator) -> dict[str, Layer]:
    """What independent noise of different widths is measured to be."""
    rng = np.random.default_rng(len(estimator))
    found = {}
    for width in (10, 4000):
        one = metrics.linear_cka_alignment(rng.normal(size=(4, 128, width)), estimator=estimator)
        pairs = np.triu_indices(4, 1)
        value = Value(float(one.cka[pairs].mean()), float(one.cka[pairs].std()) / 2)
        found[f"width {width}"] = Layer(value, Value(*(float(m[pairs].mean()) for m in (one.floor, one.floor_sd))), 4)
    return found


@pytest.mark.parametrize("estimator", ["unbiased", "biased", "minibatch"])
def test_independent_noise_does_not_make_the_claim_hold(estimator):
    """The biased estimator says 0.07 and 0.97 for widths of 10 and 4,000: layers would differ more than sources do."""
    noise = of_noise(estimator)
    if estimator == "biased":
        assert [layer.value.value for layer in noise.values()] == pytest.approx([10 / 138, 4000 / 4128], abs=0.02)
    claim = judged(measured({"Initialization": noise, "Shuffling": noise}, estimator))
    assert claim.measured.verdict is Verdict.NOT_COMPARABLE
    assert claim.measured.why.startswith("CKA is not clearly above its noise floor in Initialization, width ")


def test_the_claim_is_judged_above_the_floor():
    """Equally alike, in layers whose floors differ: they do not differ, whatever the biased numbers look like."""
    floors = (0.01, 0.97)
    biased = layers(*(0.5 + 0.5 * floor for floor in floors), floors=floors)
    assert [layer.above_floor.value for layer in biased.values()] == pytest.approx([0.5, 0.5])
    claim = judged(measured({"Initialization": biased, "Shuffling": biased}, "biased"))
    assert claim.measured.verdict is not Verdict.HOLDS
    real = judged(measured({"Initialization": layers(0.9, 0.5), "Shuffling": layers(0.88, 0.49)}))
    assert (real.measured.verdict, real.measured.why) == (Verdict.HOLDS, "")


def test_clearly_above_a_biased_floor_is_no_noise():
    """0.98 beside a floor of 0.97, of which a pair's own spread is 0.0004, and not 0.022 as for the unbiased one."""
    rng = np.random.default_rng(7)
    common = rng.normal(size=(64, 2000))
    alike = [common + 1.5 * rng.normal(size=(64, 2000)) for _ in range(3)]
    one, pairs = metrics.linear_cka_alignment(alike, estimator="biased"), np.triu_indices(3, 1)
    value, floor, sd = (float(m[pairs].mean()) for m in (one.cka, one.floor, one.floor_sd))
    assert 2 * sd < value - floor < 2 * math.sqrt(2 / (64 * 61)), "noise by the unbiased spread"
    assert not Layer(Value(value, 0.0002), Value(floor, sd), 3).is_noise


class Files:
    """As much of a store as keeps features."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def features_path(self, member_id: str) -> Path:
        return self._folder / member_id


DRAWN = torch.tensor([7, 2, 9, 0, 5, 1])


@pytest.mark.parametrize(
    ("images", "compared", "examples"),
    [
        ([DRAWN, DRAWN, DRAWN[:5]], 3, 5),
        ([None, None, None], 3, 6),
        ([None, DRAWN, DRAWN], 2, 6),  # the first ones, of a store that drew none
        ([DRAWN, torch.arange(6), None], 2, 6),
        ([None, DRAWN], 0, 0),
    ],
)
def test_only_equal_images_are_compared(
    images: list[torch.Tensor | None], compared: int, examples: int, tmp_path: Path
) -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32))
    spec = from_mapping(TINY | {"recipe": TINY["recipe"] | {"features": {"layers": ["fc"]}}}).recipe
    for number, chosen in enumerate(images):
        kept = {"fc": values[:6] if chosen is None else values[chosen]}
        save_tensors(tmp_path / str(number), kept | ({} if chosen is None else {IMAGE_NUMBERS: chosen}))
    members: Any = [SimpleNamespace(id=str(number), recipe=spec) for number in range(len(images))]
    store: Any = Files(tmp_path)
    found = alignments(store, members)
    assert bool(found) == bool(compared)
    if found:
        assert (len(found["fc"].cka), found["fc"].examples) == (compared, examples)
        assert found["fc"].cka == pytest.approx(1.0), "equal members"


def test_a_stores_published_table_that_is_gone_is_left_out_and_named(tmp_path: Path) -> None:
    experiment = from_mapping(TINY | {"published": ["summers_dinneen_2021.table1"]})
    content = experiment.model_dump(mode="json", by_alias=True)
    content["published"] += ["jordan_2024.imagenet_resnet18_1000_runs"]
    with pytest.raises(ConfigError, match="no published table is called"):
        from_mapping(content)
    store = Store(tmp_path / "store", create=True)
    store.enter({experiment.name: {"recipe": experiment.recipe.canonical(), "experiment": content}}, {})
    assert from_store(store.experiments()[experiment.name], "here") == experiment
    (said,) = _unknown_published(store, experiment)
    assert said.startswith("published table 'jordan_2024.imagenet_resnet18_1000_runs' is not known")


def test_only_rows_of_sources_are_judged():
    """Equal runs are equally alike in every layer, so a control has no range at all."""
    rows = {"Initialization": layers(0.9, 0.5), "Shuffling": layers(0.88, 0.49), "Control": layers(1.0, 1.0)}
    claim = judged(measured({**rows, "Bit": layers(0.97, 0.96)}))
    assert claim.about == ("Initialization", "Shuffling")
    assert claim.measured.verdict is Verdict.HOLDS


def test_figure_and_table_give_the_noise_floor():
    rows = {
        "Initialization": layers(0.9, -0.001, floors=(0.25, 0.0)),
        "Shuffling": layers(0.8, math.nan, floors=(0.3, 0.0)),
    }
    made = measured(rows)
    (figure,) = (f for f in figures_of(made) if f.title == "Similarity of representations")
    assert "noise floors 0.300, 0.000" in figure.alt
    assert "unbiased estimator with 512 images" in figure.caption
    assert "stroke-dasharray" in figure.panels[0].svg
    table = similarity_table(made.rows)
    assert [line.label for line in table.lines] == ["Initialization", "noise floor", "Shuffling", "noise floor"]
    assert table.lines[0].cells == ("10", "0.900 ± 0.002", "-0.001 ± 0.002")
    assert table.lines[1].cells == ("", "0.250 ± 0.003", "0.000 ± 0.003")
    assert table.lines[2].cells[2] == ""
    assert "they do not say" in table.notes[0]
    assert similarity_table([]) is None

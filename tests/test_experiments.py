"""Every shipped experiment: it loads, its members have the papers' seeds, and it runs to its table at smoke scale."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import popnet
from popnet import cli, protocol
from popnet.config import Experiment
from popnet.engine.devices import platform
from popnet.engine.estimates import survey
from popnet.errors import ConfigError
from popnet.protocol import Seeds
from popnet.report.tables import published, published_references
from popnet.scaling import scaled

FOLDER = Path(__file__).parent.parent / "experiments"
FILES = sorted(FOLDER.glob("*.yaml"))

SEEDS = {
    "Determinism": lambda i, hardware: Seeds(),
    "Parameter Initialization": lambda i, hardware: Seeds(init=i),
    "Data Shuffling": lambda i, hardware: Seeds(shuffle=i),
    "Data Augmentation": lambda i, hardware: Seeds(augment=i),
    "cuDNN": lambda i, hardware: Seeds(kernels=0 if hardware else i),
    "Data Shuffling + cuDNN": lambda i, hardware: Seeds(shuffle=i, kernels=0 if hardware else i),
    "Data Shuffling + Aug. + cuDNN": lambda i, hardware: Seeds(shuffle=i, augment=i, kernels=0 if hardware else i),
    "All Nondeterminism Sources": lambda i, hardware: Seeds(init=i, shuffle=i, augment=i, kernels=0 if hardware else i),
    "Random Bit Change": lambda i, hardware: Seeds(bit=i),
}
"""Table 1 of Summers & Dinneen (2021) with the rows of Table 3 and of the reproduction report: seeds of member i."""

LANGUAGE_SEEDS = {
    "Determinism": lambda i: Seeds(),
    "Parameter Initialization": lambda i: Seeds(init=i),
    "Stochastic Operations": lambda i: Seeds(stochastic=i),
    "All Nondeterminism Sources": lambda i: Seeds(init=i, stochastic=i),
    "Random Bit Change": lambda i: Seeds(bit=i),
}
"""Tables 2 and 4."""


def plan_of(experiment: Experiment) -> protocol.Plan:
    return protocol.plan(experiment, platform("cpu"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all smoke runs: what experiments share is trained once."""
    return tmp_path_factory.mktemp("smoke") / "store"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_members_have_the_papers_seeds(file: Path) -> None:
    experiment = popnet.load(file)
    assert experiment.name == file.stem
    if experiment.population > 200:
        experiment = popnet.load(file, ["population=200"])  # sixty thousand seeds tell no more
    constants = experiment.constants
    for population in plan_of(experiment).populations:
        variant = population.variant
        recipe = experiment.recipe_of(variant)
        name = variant.name.removesuffix(" from epoch 0")
        if variant.constants or name not in SEEDS or variant.recipe.get("language") is not None:
            continue
        hardware = recipe.kernels.mode == "hardware"
        for i, m in enumerate(population.members, start=1):
            expected = LANGUAGE_SEEDS[name](i) if recipe.language is not None else SEEDS[name](i, hardware)
            moved = {source: seed for source, seed in constants.items() if source not in variant.sources}
            assert m.seeds == expected.changed(moved), f"{name}, member {i}"
            assert (m.replica > 0) == (variant.replicas or (hardware and "kernels" in variant.sources))


def test_every_published_table_is_somebodys() -> None:
    named = {reference for file in FILES for reference in popnet.load(file).published}
    assert set(published_references()) <= named


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_published_rows_are_trained(file: Path) -> None:
    """Of each table that an experiment names, it trains at least one row under the same name, or says none."""
    experiment = popnet.load(file)
    names = {variant.name for variant in experiment.variants}
    for reference in experiment.published:
        if reference == "jordan_2024.imagenet_pairs":
            continue  # its rows are pairs of test sets (`popnet theory`)
        assert names & set(published(reference).index), reference


QUICK = ("bible_qrnn", "linear", "quickstart", "resnet14_similarity", "resnet14_twins")
"""Those whose smoke runs are not left to the slow tests: one of each kind of table."""


@pytest.mark.parametrize(
    "file", [pytest.param(file, id=file.stem, marks=() if file.stem in QUICK else pytest.mark.slow) for file in FILES]
)
def test_smoke_scale_runs_end_to_end(file: Path, store: Path) -> None:
    experiment = scaled(popnet.load(file), "smoke")
    result = popnet.run(experiment, store=store, workers=2)
    done = result.store.members()
    ours = done.loc[[m.id for m in result.plan.members]]
    assert set(ours["status"]) == {"done"}, ours["error"].dropna().tolist()
    for measure in experiment.measure:
        table = result.table(result.main_table if measure == "variability" else measure)
        assert len(table) > 0
        assert np.isfinite(table.select_dtypes("number").to_numpy()).any()
    first = experiment.variants[0]
    if first.replicas:
        row = result.table().iloc[0]
        assert all(row[name] == 0.0 for name in row.index if name.endswith("_sd") or name == "disagreement")


def test_smoke_scales_what_it_says() -> None:
    experiment = popnet.load("resnet14_onset")
    small = scaled(experiment, "smoke")
    assert small.name == "resnet14_onset-smoke"
    assert small.recipe.epochs == 5
    assert small.recipe.schedule.warmup_epochs == pytest.approx(3 * 5 / 500)
    assert {v.onset for v in small.variants} == {0, 1, 2, 3, 4, 5} or {v.onset for v in small.variants} >= {0, 2, 5}
    assert [v.sources for v in small.variants] == [v.sources for v in experiment.variants]
    table5 = {v.name: v for v in scaled(popnet.load("resnet14"), "smoke").variants}
    assert table5["Ensemble (N=4)"].population == 8
    assert table5["Acc. Ens."].snapshots == 5
    assert scaled(experiment, "full") is experiment
    with pytest.raises(ConfigError, match="unknown scale 'smok'"):
        scaled(experiment, "smok")


# ---- what plans cost -------------------------------------------------------------------------------------------------


def test_a_survey_counts_what_is_shared_once() -> None:
    plans = [
        plan_of(popnet.load(name, ["recipe.kernels.mode=reorder"])) for name in ("resnet14", "reproduction_sources")
    ]
    first, second = survey(plans, measure=False)
    assert first.members == first.new
    assert second.new == 100  # the control's replicas; every other row is the paper's
    assert first.epochs == first.common_epochs == 500 * first.members
    assert first.epochs_asked == 500 * first.rows
    assert 0 < first.saved < 1
    assert first.seconds is first.common_seconds is None
    # Sharing between experiments is one common store's: `popnet run` without --store takes a store for each.
    assert second.epochs == 500 * second.members
    assert second.common_epochs == 500 * second.new
    assert second.saved == 1 - second.members / second.rows


def test_members_of_which_a_store_lacks_something_count_as_new() -> None:
    """Representations are kept of no member that another experiment trained: they are trained again."""
    changes = ["population=10", "recipe.kernels.mode=reorder"]
    plain, similarity, again = survey(
        [plan_of(popnet.load(name, changes)) for name in ("resnet14", "resnet14_similarity", "resnet14")], measure=False
    )
    shared = {m.id for m in plan_of(popnet.load("resnet14", changes)).members} & {
        m.id for m in plan_of(popnet.load("resnet14_similarity", changes)).members
    }
    assert shared
    assert similarity.new == similarity.members
    assert (plain.new, again.new) == (plain.members, 0)
    assert again.common_epochs == 0


@pytest.mark.parametrize(
    ("name", "overrides", "why"),
    [
        ("imagenet_resnet18", [], "size of imagenet unknown"),
        ("bible_qrnn", [], "language models untimed"),
        ("quickstart", ["recipe.model={import: 'math:sqrt'}"], "runs imported code; --measure"),
        ("quickstart", ["recipe.model=vgg11"], "cannot be trained here: "),
    ],
)
def test_where_hours_are_not_known_the_reason_is(name: str, overrides: list[str], why: str) -> None:
    plan = plan_of(popnet.load(name, [*overrides, "population=2"], allow_import=True))
    (cost,) = survey([plan], own_code=False)
    assert cost.hours is cost.common_hours is None
    assert cost.unknown.startswith(why)


@pytest.mark.parametrize(
    ("overrides", "instead"),
    [
        ([], ""),
        (["recipe.precision=fp16"], "precision=fp16 needs a GPU; timed on the CPU without"),
        (["recipe.kernels.mode=hardware"], "kernels.mode=hardware needs a GPU; timed on the CPU without"),
    ],
)
def test_hours_of_what_needs_a_gpu_say_what_they_are_of(overrides: list[str], instead: str) -> None:
    (cost,) = survey([plan_of(popnet.load("quickstart", [*overrides, "population=4"]))])
    assert cost.hours is not None
    assert cost.hours > 0
    assert cost.instead == instead


def test_a_survey_counts_common_beginnings_once() -> None:
    plan = plan_of(popnet.load("quickstart", ["variants=[{name: late, vary: [shuffle], onset: 6}]", "population=4"]))
    (cost,) = survey([plan], measure=False)
    # four members from epoch 6 to 24 of which one has the constant seeds throughout, and their beginning once
    assert cost.epochs_asked == 4 * 24
    assert cost.epochs == 6 + 4 * 18


def test_hardware_rows_share_their_beginnings_too() -> None:
    plan = plan_of(popnet.load("resnet14_onset", ["population=3"]))
    steps = {m.recipe.digest: 98 for m in plan.members}
    late = next(p for p in plan.populations if p.name == "cuDNN from epoch 450")
    assert {m.diverges(98) for m in late.members} == {450}
    last = next(p for p in plan.populations if p.name == "cuDNN from epoch 500")
    assert len({m.id for m in last.members}) == 1
    assert any(set(trunk.epochs) >= {50, 450} for trunk in plan.trunks(plan.members, steps))


def test_plan_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("quickstart", "is_it_real"):
        (tmp_path / f"{name}.yaml").write_text((FOLDER / f"{name}.yaml").read_text())
    with pytest.raises(SystemExit) as exit_:
        cli.main(["plan", str(tmp_path)])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    assert "quickstart" in printed
    words = " ".join(printed.split())
    assert "132 members asked for" in words
    assert "Each in a store of its own, as popnet run FILE trains them: 126 trainings" in words
    assert "All in one store (popnet run FILE --store FOLDER, the same for each, in this order): 126 trainings" in words
    assert "Hours of the 2 that can be estimated here" in words
    assert "From the speed, just now, of a few training steps" in words
    with pytest.raises(SystemExit) as exit_:
        cli.main(["plan", str(tmp_path / "nothing")])
    assert exit_.value.code == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["quickstart"], r"About [0-9.]+ hours on \d+ CPU cores? of this machine\."),
        (["quickstart", "recipe.precision=fp16"], r"About [0-9.]+ hours .* \(precision=fp16 needs a GPU; timed on the"),
        (["bible_qrnn"], r"Hours are not estimated: language models untimed\."),
        (["quickstart", "--no-measure"], r"Rows that share trainings save \d+% of the epochs\.$"),
    ],
)
def test_a_plan_says_its_hours_or_why_not(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["plan", *words, "--device", "cpu"])
    assert exit_.value.code == 0
    assert re.search(told, " ".join(capsys.readouterr().out.split()))

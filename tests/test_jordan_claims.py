"""Jordan's (2024) claims and numbers: which rows they are checked on, when they get a verdict, and which one."""

from __future__ import annotations

import io
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from popnet import config
from popnet.config import from_mapping
from popnet.data import text_pairs
from popnet.errors import DataError
from popnet.metrics import theory
from popnet.metrics.samples import Sample
from popnet.metrics.theory import PackedErrors
from popnet.metrics.theory import summary as statistics
from popnet.protocol import ORIGINAL, Platform
from popnet.report import settings
from popnet.report import theory as theory_report
from popnet.report.beside import beside, matching, published_values
from popnet.report.claims import Evidence, claims_of
from popnet.report.claims.shifts import shifted
from popnet.report.long_form import long_form
from popnet.report.measured import Measured, Row
from popnet.report.measured_tables import beside_table
from popnet.report.quantities import Value
from popnet.report.settings import RATE, differing_in
from popnet.report.tables import published, render
from popnet.report.theory_published import printed, printed_r_squared
from popnet.report.theory_published import test_set as named_set
from popnet.report.theory_rows import values_of
from popnet.report.verdicts import Verdict
from popnet.results.found import Runs
from popnet.results.stores.populations import population_labels, population_logits

PLATFORM = Platform("cpu:test", (("torch", "0"),))
EXPERIMENTS = Path(__file__).parent.parent / "experiments"
FULL = {"epochs": 64}


def made(rows, members=300, published=(), experiment="jordan_sources", **recipe):
    """An experiment of the paper's recipe whose rows have the given numbers; {name: (variant keys, {name: pair})}."""
    shipped = config.load(EXPERIMENTS / f"{experiment}.yaml").recipe.model_dump(mode="json", by_alias=True)
    content = {
        "name": "jordan_made",
        "recipe": {**shipped, **recipe},
        "population": members,
        "constants": {"init": 0, "shuffle": 0, "augment": 0},
        "variants": [{"name": name, **keys} for name, (keys, _) in rows.items()],
        "published": list(published),
    }
    made_up = from_mapping(content)
    built = []
    for variant in made_up.variants:
        numbers = {name: Value(*pair) for name, pair in rows[variant.name][1].items()}
        size = members // variant.ensemble
        built.append(Row(variant, made_up.recipe_of(variant), size, members, members, 0, (), numbers))
    return Measured(Path("runs/made"), made_up, PLATFORM, tuple(built))


def judged(measured):
    return {c.statement: c for c in claims_of(Evidence.of(measured, beside(measured))) if c.where.startswith("Jordan")}


def one(claims, words):
    (found,) = [claim for statement, claim in claims.items() if words in statement]
    return found


ALL = {"vary": ["init", "shuffle", "augment"]}
STATISTICS = {
    "accuracy_mean": (94.42, 0.001),
    "accuracy_sd": (0.149, 0.001),
    "independent_errors_sd": (0.145, 0.0001),
    "independent_share": (0.973, 0.005),
    "distribution_sd": (0.033, 0.002),
    "distribution_variance": (0.0011, 0.0001),
    "genuine_share": (0.05, 0.005),
    "halves_correlation": (0.05, 0.01),
    "lucky_gain_kept": (0.1, 0.02),
    "disagreement_ratio": (0.95, 0.01),
    "tasks_ratio": (0.97, 0.01),
    "tasks_r_squared": (0.99, 0.002),
    "lower_bound_ratio": (4.0, 0.1),
    "binomial_ratio": (2.5, 0.05),
}
SHORT = STATISTICS | {
    "accuracy_mean": (90.0, 0.01),
    "accuracy_sd": (0.56, 0.005),
    "independent_errors_sd": (0.22, 0.001),
    "independent_share": (0.39, 0.005),
    "distribution_sd": (0.52, 0.01),
    "distribution_variance": (0.27, 0.01),
    "genuine_share": (0.86, 0.01),
    "halves_correlation": (0.9, 0.01),
}


def durations(full=STATISTICS, **keys):
    rows = {"4 epochs": (ALL | {"recipe": {"epochs": 4}}, SHORT), "64 epochs": (ALL | {"recipe": FULL}, full)}
    return made(rows, published=["jordan_2024.cifar10_resnet9"], experiment="jordan_durations", **keys)


def test_the_papers_own_population_has_every_claim_and_its_printed_numbers_agree():
    claims = judged(durations())
    assert {claim.measured.verdict for claim in claims.values()} == {Verdict.HOLDS}, claims
    assert len(claims) == 10
    for words in ("errors are about independent", "Theorem 2): less", "overestimates", "the smaller the variance"):
        assert one(claims, words).published.verdict is Verdict.HOLDS, words
    assert one(claims, "Lucky seeds").published is None, "the paper prints no correlation"
    assert one(claims, "errors are about").about == ("64 epochs",)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"independent_share": (0.5, 0.01)}, "errors are about independent"),
        ({"genuine_share": (0.5, 0.02)}, "less than a quarter of that on the test set"),
        ({"lucky_gain_kept": (0.6, 0.05)}, "luck does not carry over"),
        ({"disagreement_ratio": (0.39, 0.02)}, "two runs disagree about as often"),
        ({"disagreement_ratio": (1.5, 0.02)}, "two runs disagree about as often"),
        ({"lower_bound_ratio": (0.5, 0.02)}, "at least err / (n k)"),
        ({"binomial_ratio": (0.9, 0.02)}, "binomial"),
        ({"halves_correlation": (0.99, 0.001)}, "Lucky seeds"),
    ],
)
def test_each_claim_fails_where_its_numbers_do(changed, words):
    assert one(judged(durations(STATISTICS | changed)), words).measured.verdict is Verdict.FAILS


def test_large_errors_leave_a_claim_open_and_too_few_runs_give_no_verdict():
    wide = {name: (value, 10 * abs(value)) for name, (value, _) in STATISTICS.items()} | {"accuracy_mean": (94.42, 0.1)}
    claims = judged(durations(wide))
    assert {c.measured.verdict for c in claims.values() if c.about == ("64 epochs",)} == {Verdict.OPEN}
    few = judged(durations(members=12))
    assert one(few, "two runs disagree").measured.verdict is Verdict.HOLDS, "10 runs are enough for disagreement"
    independent = one(few, "errors are about").measured
    assert independent.verdict is Verdict.NOT_COMPARABLE
    assert "at least 50 are needed" in independent.why
    nothing = judged(durations({"accuracy_mean": (94.42, 0.1)}))
    assert one(nothing, "Lucky seeds").measured.verdict is Verdict.NOT_COMPARABLE


def test_a_model_that_has_not_reached_its_mean_gets_no_verdict():
    claims = judged(durations(STATISTICS | {"accuracy_mean": (85.0, 0.1)}))
    found = one(claims, "errors are about independent").measured
    assert found.verdict is Verdict.NOT_COMPARABLE
    assert "94.42" in found.why


def test_why_the_formula_fails_is_said_where_its_premise_does():
    uncalibrated = STATISTICS | {"disagreement_ratio": (0.39, 0.02), "tasks_ratio": (0.4, 0.02)}
    found = one(judged(durations(uncalibrated)), "Equation 6").measured
    assert found.verdict is Verdict.FAILS
    assert "disagreement is 39% of the error" in found.why


def test_own_small_experiments_are_judged_on_themselves_without_the_papers_numbers():
    rows = {
        "short": ({"vary": ["init", "shuffle"], "recipe": {"epochs": 1}}, SHORT),
        "untrained": ({"vary": ["init", "shuffle"], "recipe": {"epochs": 0}}, SHORT),
        "long": ({"vary": ["init", "shuffle"], "recipe": {"epochs": 16}}, STATISTICS),
    }
    claims = judged(made(rows, experiment="jordan_small"))
    assert one(claims, "Lucky seeds").about == ("short", "long")
    assert {claim.measured.verdict for claim in claims.values()} == {Verdict.HOLDS}
    assert all(claim.published is None for claim in claims.values())
    other = made(rows, experiment="jordan_small")
    plain = other.experiment.model_copy(update={"name": "mine"})
    assert not judged(Measured(other.store, plain, PLATFORM, other.rows)), "not after this paper"


# ---- Appendix D ------------------------------------------------------------------------------------------------------


def sources(epochs, whole, alone):
    recipe = {"recipe": {"epochs": epochs}}
    unit = "1 epoch" if epochs == 1 else f"{epochs} epochs"
    error = 0.002
    return {
        f"{unit}, all sources": (ALL | recipe, {"accuracy_sd": (whole, error)}),
        f"{unit}, initialisation only": ({"vary": ["init"]} | recipe, {"accuracy_sd": (alone, error)}),
        f"{unit}, order only": ({"vary": ["shuffle"]} | recipe, {"accuracy_sd": (alone, error)}),
    }


def test_one_source_is_as_good_as_three_from_32_epochs_on():
    rows = sources(4, 0.45, 0.38) | sources(32, 0.16, 0.158) | sources(64, 0.16, 0.158)
    claims = judged(made(rows, published=["jordan_2024.sources"]))
    full = [claim for statement, claim in claims.items() if "as much spread as all" in statement]
    assert [claim.about[0] for claim in full] == ["32 epochs, all sources", "64 epochs, all sources"]
    assert [claim.measured.verdict for claim in full] == [Verdict.HOLDS] * 2
    assert [claim.published and claim.published.verdict for claim in full] == [None, Verdict.HOLDS]
    short = one(claims, "In short trainings")
    assert (short.measured.verdict, short.published.verdict) == (Verdict.HOLDS, Verdict.HOLDS)
    worse = judged(made(sources(4, 0.45, 0.45) | sources(64, 0.16, 0.12)))
    assert one(worse, "as much spread").measured.verdict is Verdict.FAILS
    assert one(worse, "In short trainings").measured.verdict is Verdict.OPEN, "as much is not less"


def poked(epochs, step=0):
    change = {"kind": "scale", "factor": 1.001, "weight": "first", "step": step}
    return {"vary": ["init", "shuffle", "augment", "bit"], "perturbation": change, "recipe": {"epochs": epochs}}


def test_a_poke_is_as_good_as_a_seed_after_full_training_alone():
    rows = {
        "4 epochs": (ALL | {"recipe": {"epochs": 4}}, {"disagreement": (8.5, 0.02)}),
        "4 epochs, poked before step 0": (poked(4), {"twin_disagreement": (7.2, 0.02)}),
        "128 epochs": (ALL | {"recipe": {"epochs": 128}}, {"disagreement": (5.19, 0.02)}),
        "128 epochs, poked before step 0": (poked(128), {"twin_disagreement": (5.14, 0.02)}),
        "later": (poked(128, 90), {"twin_disagreement": (4.0, 0.02)}),
    }
    claims = judged(made(rows, published=["jordan_2024.pokes"]))
    for words in ("After full training one poked weight", "After short training one poked weight"):
        found = one(claims, words)
        assert (found.measured.verdict, found.published.verdict) == (Verdict.HOLDS, Verdict.HOLDS)
    assert dict(one(claims, "After full").published.evidence)["Share"] == "99% ± 0"
    assert one(claims, "The earlier").measured.verdict is Verdict.HOLDS
    rows["128 epochs, poked before step 0"] = (poked(128), {"twin_disagreement": (2.0, 0.02)})
    assert one(judged(made(rows)), "After full training").measured.verdict is Verdict.FAILS


def test_first_batches_and_first_steps():
    rows = {
        "all": (ALL, {"disagreement": (5.2, 0.02)}),
        "order": ({"vary": ["shuffle"], "until_step": 1}, {"disagreement": (5.1, 0.02)}),
        "whole": ({"vary": ["init"], "recipe": {"precision": "fp32"}}, {"disagreement": (5.2, 0.02)}),
        "bf16": (
            {"vary": ["init"], "first_step_precision": "bf16", "recipe": {"precision": "fp32"}},
            {"twin_disagreement": (5.1, 0.02)},
        ),
    }
    claims = judged(made(rows))
    assert one(claims, "first batch alone (order)").measured.verdict is Verdict.HOLDS
    assert one(claims, "another precision in the first step").about == ("bf16", "whole")
    assert one(claims, "another precision in the first step").measured.verdict is Verdict.HOLDS


# ---- Section 4 -------------------------------------------------------------------------------------------------------


def rates(**means):
    rows = {}
    for name, (rate, accuracy, share) in means.items():
        variance = share * 0.022
        numbers = {
            "accuracy_mean": (accuracy, 0.005),
            "accuracy_sd": (0.15, 0.001),
            "distribution_sd": (math.sqrt(variance), 0.001),
            "distribution_variance": (variance, 0.0005),
            "genuine_share": (share, 0.02),
        }
        rows[name] = (ALL | {"recipe": {"optimizer": {"lr": rate}}}, numbers)
    return made(rows)


def test_the_best_rate_is_the_largest_without_excess_variance():
    words = "best learning rate"
    good = rates(a=(0.25, 94.3, 0.05), b=(0.5, 94.42, 0.05), c=(1.0, 94.2, 0.2))
    assert [row.name for row in differing_in(good.rows, RATE)[0]] == ["a", "b", "c"]
    assert one(judged(good), words).measured.verdict is Verdict.HOLDS
    assert one(judged(good), words).about == ("b", "c")
    even = rates(a=(0.25, 94.3, 0.05), b=(0.5, 94.42, 0.2), c=(1.0, 94.2, 0.05))
    assert one(judged(even), words).measured.verdict is Verdict.FAILS
    edge = one(judged(rates(a=(0.25, 94.3, 0.05), b=(0.5, 94.42, 0.05), c=(1.0, 94.6, 0.2))), words).measured
    assert edge.verdict is Verdict.NOT_COMPARABLE
    assert "larger ones are needed" in edge.why


@pytest.mark.parametrize(("sd", "difference"), [(0.004, 0.0), (0.03, 0.02)])
def test_a_printed_bound_stands_beside_the_measured_number(sd, difference):
    row = {"Linear model": ({"vary": ["init", "shuffle"]}, {"accuracy_sd": (sd, 0.0005)})}
    (table,) = beside(made(row, experiment="jordan_linear", published=["jordan_2024.linear_model"]))
    (cell,) = table.pairs[0].cells
    assert (cell.printed, cell.quantity.name, table.missing_columns) == ("< 0.01", "accuracy_sd", ())
    assert cell.difference == pytest.approx(difference)
    assert cell.units == pytest.approx(difference / 0.0005)
    bound = published("jordan_2024.linear_model")
    console = Console(file=io.StringIO(), width=120)
    render(pd.DataFrame({"members": [20], "accuracy_sd": [sd]}, index=["Linear model"]), "made", bound, console)
    assert "< 0.01" in console.file.getvalue()


@pytest.mark.parametrize(("members", "known"), [(300, False), (60_000, True)])
def test_what_grows_with_the_runs_has_a_difference_from_as_many_alone(members, known):
    numbers = STATISTICS | {"accuracy_range": (1.1, math.nan), "dependent_pairs": (9, math.nan)}
    measured = durations(numbers, members=members)
    (table,) = beside(measured)
    (pair,) = [pair for pair in table.pairs if pair.row.name == "64 epochs"]
    cells = {cell.quantity.name: cell for cell in pair.cells}
    for name in ("accuracy_range", "dependent_pairs"):
        assert math.isnan(cells[name].difference) is not known, name
    assert not math.isnan(cells["accuracy_sd"].difference)
    assert (cells["accuracy_range"].printed, cells["dependent_pairs"].printed) == (
        "1.4 (60,000 runs)",
        "5 (60,000 runs)",
    )
    assert "1.4 (60,000 runs)" in [text for line in beside_table(table).lines for text in line.cells]
    lines = long_form([Evidence.of(measured, [table])]).set_index(["variant", "quantity"])["not_comparable"]
    why = "" if known else "grows with the runs, of which the paper has 60,000"
    assert lines["64 epochs", "accuracy_range"] == why
    assert lines["64 epochs", "accuracy_sd"] == ""


def test_every_rate_is_matched_with_its_own_published_row():
    """`lr 2^-1` and `lr 2^1` were one name to the table, which sets 0.5's numbers beside those of 2."""
    experiment = config.load(EXPERIMENTS / "jordan_learning_rates.yaml")
    rows = {variant.name: variant for variant in experiment.variants}
    found = matching(rows, published_values("jordan_2024.learning_rates"))
    assert {rows[name].recipe["optimizer"]["lr"]: other for name, other in found.items()} == {
        0.5: "lr 0.5",
        1: "lr 1.0",
    }


def augmentation(bare=87.5, less=87.5, ratio=(3.5, 0.2)):
    none = {"recipe": {"augment": {"flip": False, "translate": 0, "cutout": 0, "fill": None}}}
    fifth = {"recipe": {"train_examples": 10000}}
    two = {"vary": ["init", "shuffle"]}
    sd = {"accuracy_sd": (0.3, 0.01)}
    rows = {
        "Baseline": (ALL, {"accuracy_mean": (94.4, 0.01), "accuracy_sd": (0.15, 0.005)}),
        "No augmentation": (two | none, {"accuracy_mean": (bare, 0.01), "variance_ratio_to_less_data": ratio} | sd),
        "20% of the data": (ALL | fifth, {"accuracy_mean": (less, 0.01)} | sd),
        "No augmentation, large ensemble": (two | none | {"ensemble": 100}, {"accuracy_mean": (91.2, 0.05)}),
        "20% of the data, large ensemble": (ALL | fifth | {"ensemble": 100}, {"accuracy_mean": (89.8, 0.05)}),
    }
    return made(rows, published=["jordan_2024.augmentation"], experiment="jordan_augmentation")


def test_augmentation_and_less_data():
    claims = judged(augmentation())
    found = one(claims, "vary more than with less data")
    assert (found.measured.verdict, found.published.verdict) == (Verdict.HOLDS, Verdict.HOLDS)
    assert one(claims, "Augmentation reduces").measured.verdict is Verdict.HOLDS
    ensemble = one(claims, "large ensemble")
    assert (ensemble.measured.verdict, ensemble.published.verdict) == (Verdict.HOLDS, Verdict.HOLDS)
    assert one(judged(augmentation(ratio=(0.5, 0.1))), "vary more").measured.verdict is Verdict.FAILS
    apart = one(judged(augmentation(less=91.0)), "vary more than with less data").measured
    assert apart.verdict is Verdict.NOT_COMPARABLE
    assert "3.5 points apart" in apart.why


def test_a_regularised_linear_model():
    row = {"Linear model": ({"vary": ["init", "shuffle"]}, {"accuracy_sd": (0.004, 0.0005)})}
    claims = judged(made(row, experiment="jordan_linear"))
    assert one(claims, "one optimum").measured.verdict is Verdict.HOLDS
    assert len(claims) == 1, "the claims on neural networks are not about it"
    papers = made(row, experiment="jordan_linear", published=["jordan_2024.linear_model"])
    assert one(judged(papers), "one optimum").published.verdict is Verdict.HOLDS
    assert dict(one(judged(papers), "one optimum").published.evidence)["Accuracy SD (%)"] == "< 0.01 (Linear model)"
    row["Linear model"][1]["accuracy_sd"] = (0.1, 0.001)
    assert one(judged(made(row, experiment="jordan_linear")), "one optimum").measured.verdict is Verdict.FAILS


def test_shifted_test_sets_have_at_least_six_times_the_variance():
    summaries = {name: summary(0.02) for name in ("v2", "sketch", "other")}
    paper = {"v2": published_values("jordan_2024.imagenet_resnet18")["ImageNet-V2"]}
    paper["sketch"] = published_values("jordan_2024.imagenet_resnet18")["ImageNet-Sketch"]
    (claim,) = shifted(summaries, paper)
    assert claim.about == ("sketch", "v2")
    assert claim.measured.verdict is Verdict.FAILS, "both sets are the same here"
    assert claim.published.verdict is Verdict.HOLDS
    assert not list(shifted({"sketch": summaries["sketch"]}, {}))
    assert named_set("imagenet_v2") == "ImageNet-V2"
    assert named_set("mine") is None
    assert printed_r_squared("sketch", "imagenet-r").value == 0.14
    assert printed_r_squared("v2", "r") is None


# ---- validation and test apart ---------------------------------------------------------------------------------------


PARTS = {"parts": [{"validation": 20}, {"test": 40}]}


def of_parts(kwargs, part="test"):
    dataset = {"import": "popnet.data.text_pairs:text_pairs", "kwargs": kwargs}
    variants = [{"name": "BERT base, test", "vary": ["init"], "part": part}]
    recipe = config.load(EXPERIMENTS / "jordan_mrpc.yaml", allow_import=True).recipe.model_dump(by_alias=True)
    content = {"name": "mrpc", "recipe": {**recipe, "dataset": dataset}, "population": 60, "variants": variants}
    return from_mapping(content)


def test_parts_of_a_test_set_are_named_in_order():
    experiment = of_parts(PARTS)
    assert experiment.variants[0].tested(experiment.recipe) == (20, 60)
    with pytest.raises(config.ConfigError, match="names: validation, test"):
        of_parts(PARTS, "dev")
    with pytest.raises(config.ConfigError, match="names: none"):
        of_parts({})
    with pytest.raises(config.ConfigError, match="must be a list as"):
        of_parts({"parts": {"validation": 20}})


def test_rows_of_parts_share_their_runs_and_are_scored_apart():
    shipped = config.load(EXPERIMENTS / "jordan_mrpc.yaml", allow_import=True)
    validation, test = shipped.variants
    assert validation.tested(shipped.recipe) == (0, 408)
    assert test.tested(shipped.recipe) == (408, 2133)


def test_predictions_and_labels_of_a_part_are_cut_alike():
    labels, logits = np.arange(60), np.random.default_rng(1).normal(size=(1, 60, 2)).astype(np.float32)
    experiment = of_parts(PARTS)
    member = SimpleNamespace(recipe=experiment.recipe, id="m")
    population = SimpleNamespace(variant=experiment.variants[0], members=[member], name="BERT base, test")
    store = SimpleNamespace(labels=lambda _: labels, viewed_predictions=lambda _: ([ORIGINAL], logits))
    assert np.array_equal(population_logits(store, population, [member]), logits[:, 20:60])
    assert population_labels(store, population, [member]).tolist() == list(range(20, 60))
    store.labels = lambda _: labels[:59]
    with pytest.raises(DataError, match="hold 60 examples, and 59 were tested"):
        population_labels(store, population, [member])


def test_other_counts_of_pairs_than_the_recipe_says_are_refused(tmp_path):
    told = PARTS["parts"]
    text_pairs._check_parts(tmp_path, told, {"validation": 20, "test": 40})
    text_pairs._check_parts(tmp_path, None, {"validation": 1, "test": 2})
    for found in ({"validation": 21, "test": 40}, {"test": 40, "validation": 20}, {"test": 40}):
        with pytest.raises(DataError, match="`parts` says"):
            text_pairs._check_parts(tmp_path, told, found)


@pytest.mark.parametrize(("gain", "verdict"), [((0.1, 0.02), Verdict.HOLDS), ((1.4, 0.1), Verdict.FAILS)])
def test_seeds_chosen_by_validation(gain, verdict):
    experiment = of_parts(PARTS)
    numbers = {"lucky_part_gain": gain, "lucky_part_gain_there": (1.5, 0.1), "accuracy_mean": (84.0, 0.1)}
    values = {name: Value(*pair) for name, pair in numbers.items()}
    row = Row(experiment.variants[0], experiment.recipe, 60, 60, 60, 0, (), values)
    named = experiment.model_copy(update={"name": "jordan_pairs"})
    claims = judged(Measured(Path("runs/made"), named, PLATFORM, (row,)))
    assert one(claims, "by the validation set").measured.verdict is verdict


# ---- numbers and errors of the statistics ----------------------------------------------------------------------------


def population(genuine=0.0, members=120, examples=400, seed=3):
    """Runs of about independent errors, whose error rates differ by `genuine` from run to run; labels of 4 classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, examples)
    rates = rng.beta(0.4, 2.0, examples)
    shifts = rng.normal(0, genuine, (members, 1))
    wrong = rng.random((members, examples)) < np.clip(rates + shifts, 0, 1)
    others = (labels + 1 + (rng.random(examples) * 3).astype(int)) % 4
    return np.where(wrong, others, labels).astype(np.uint8), labels


def summary(genuine=0.0, **keys):
    return theory.summarise(*population(genuine, **keys))


STATISTICS_OF = {
    "sd": lambda draws: np.sqrt(draws.variance),
    "independent_share": lambda draws: np.sqrt(draws.independent_variance / draws.variance),
    "distribution_variance": lambda draws: draws.distribution_variance,
    "halves_correlation": lambda draws: draws.halves_correlation,
    "gain_on_second": lambda draws: draws.gain_on_second,
    "tasks_ratio": lambda draws: draws.tasks_ratio,
}


def test_errors_of_statistics_are_those_of_repeated_draws():
    """Bootstrap errors, and means, against those over populations of fresh runs on one test set."""
    predictions, labels = population(0.01, members=60 * 80, examples=200)
    draws = [theory.resample(predictions[r::80], labels, resamples=60) for r in range(80)]
    for name, of in STATISTICS_OF.items():
        spread = np.std([np.mean(of(one)) for one in draws])
        claimed = np.mean([one.error_of(of) for one in draws])
        assert claimed == pytest.approx(spread, rel=0.3), name
    genuine = [theory.distribution_variance(predictions[r::80] != labels) for r in range(80)]
    assert np.mean([d.distribution_variance.mean() for d in draws]) == pytest.approx(np.mean(genuine), rel=0.05)


def test_independent_runs_are_not_said_to_vary_more_than_independent_errors_allow():
    """With few runs both SDs must be of one kind (ddof 1): else 8 independent runs seem to vary by 7% more."""
    predictions, labels = population(members=8 * 400, examples=200)
    found = [PackedErrors.from_predictions(predictions[r::400], labels) for r in range(400)]
    observed = np.mean([theory.observed_variance(one) for one in found])
    foreseen = np.mean([theory.independent_errors_sd(one) ** 2 for one in found])
    assert observed / foreseen == pytest.approx(8 / 7, rel=0.06)
    few = theory.summarise(predictions[::400], labels)
    assert few.independent_sd == pytest.approx(100 * theory.independent_errors_sd(found[0]) * np.sqrt(8 / 7))
    assert few.independent_share == pytest.approx(few.independent_sd / few.sd)


def test_a_report_s_numbers_are_of_one_kind_with_its_sds():
    predictions, labels = population(members=10)
    bits = PackedErrors.from_predictions(predictions, labels)
    runs = Runs("x", {"accuracy": Sample.of_errors(bits)}, predictions=predictions, labels=labels, errors=bits)
    values = values_of(runs)
    assert values["independent_errors_sd"].value == pytest.approx(100 * theory.independent_errors_sd(bits))
    assert values["disagreement_ratio"].error > 0
    assert values["accuracy_range"].value == pytest.approx(np.ptp(100 * (predictions == labels).mean(axis=1)))


# ---- the paper's numbers beside those of `popnet theory` -------------------------------------------------------------


def runs_of(experiment, name, **changes):
    """Runs that a shipped experiment's row would give, with predictions that are made up."""
    loaded = config.load(EXPERIMENTS / f"{experiment}.yaml")
    variant = next(variant for variant in loaded.variants if variant.name == name)
    predictions, labels = population(members=12, examples=60)
    bits = PackedErrors.from_predictions(predictions, labels)
    recipe = loaded.recipe_of(variant).changed(changes) if changes else loaded.recipe_of(variant)
    known = {"predictions": predictions, "labels": labels, "errors": bits, "classes": 4}
    return Runs(
        f"runs/{experiment}:{name}", {"accuracy": Sample.of_errors(bits)}, variant=variant, recipe=recipe, **known
    )


def test_the_papers_numbers_stand_beside_the_same_training_alone():
    found = printed({"64 epochs": runs_of("jordan_durations", "64 epochs")})["64 epochs"]
    assert (found["distribution_sd"].value, found["tasks_r_squared"].value) == (0.033, 0.996)
    assert found["accuracy_sd"].value == 0.149
    assert printed({"a": runs_of("jordan_durations", "64 epochs", precision="bf16")}), "another device's precision"
    assert printed({"lr 0.5": runs_of("jordan_learning_rates", "lr 0.5")})["lr 0.5"]["accuracy_sd"].value == 0.148
    assert not printed({"64 epochs": runs_of("jordan_durations", "64 epochs", model="resnet6")})
    assert not printed({"64 epochs": runs_of("jordan_durations", "64 epochs", dataset="fashion_mnist")})
    assert not printed({"64 epochs": runs_of("jordan_durations", "64 epochs", epochs=65)})
    poked = printed({"x": runs_of("jordan_pokes", "4 epochs, poked before step 0")})["x"]
    assert set(poked) == {"twin_disagreement"}
    one_table = theory_report.table({"x": summary(members=12)}, {"x": found})
    assert "| x | paper |" in one_table
    (error,) = [line for line in one_table.splitlines() if line.startswith("| error (%)")]
    assert error.endswith("| 5.58 |")
    assert "| 0.145 |" in one_table


# ---- what is full, short, or neither ---------------------------------------------------------------------------------


def test_a_store_that_is_not_finished_fails_nothing():
    """The longest training that has numbers so far was called full."""
    rows = sources(1, 1.33, 1.0) | sources(4, 0.45, 0.30) | {"64 epochs": (ALL | {"recipe": FULL}, {})}
    claims = judged(made(rows))
    assert not [statement for statement in claims if "as much spread" in statement]
    assert one(claims, "less spread than all together (4 epochs)").measured.verdict is Verdict.HOLDS
    rows = {
        "4 epochs": (ALL | {"recipe": {"epochs": 4}}, {"disagreement": (8.5, 0.02)}),
        "poked": (poked(4), {"twin_disagreement": (7.2, 0.02)}),
    }
    assert [statement for statement in judged(made(rows)) if "poked weight" in statement] == [
        "After short training one poked weight makes runs differ less than other seeds do (4 epochs)"
    ]
    own = {"model": "resnet6"}
    assert one(judged(made(rows, **own)), "After full training"), "the longest that is planned of another network"
    rows["later"] = (ALL | {"recipe": FULL}, {})
    assert not [statement for statement in judged(made(rows, **own)) if "After full" in statement]


@pytest.mark.parametrize("epochs", [16, 20, 31])
def test_of_16_to_31_epochs_of_resnet_9_the_paper_says_nothing(epochs):
    claims = judged(made(sources(epochs, 0.2, 0.1) | sources(64, 0.16, 0.158)))
    about = [claim.about[0] for statement, claim in claims.items() if "spread" in statement]
    assert about == ["64 epochs, all sources"]


def test_short_trainings_are_not_set_against_claims_on_convergence():
    alone = judged(made({"4 epochs": (ALL | {"recipe": {"epochs": 4}}, SHORT)}))
    assert {claim.measured.verdict for claim in alone.values()} == {Verdict.NOT_COMPARABLE}
    assert "short training of ResNet-9, 4 epochs" in one(alone, "errors are about").measured.why
    other = one(judged(made({"4 epochs": (ALL | {"recipe": {"epochs": 4}}, SHORT)}, model="resnet6")), "errors are")
    assert other.measured.verdict is Verdict.FAILS
    assert "still go together (r = 0.90)" in other.measured.why


def test_few_runs_can_hardly_tell_equal_sds():
    found = one(judged(made(sources(64, 0.16, 0.155))), "as much spread").measured
    assert (found.verdict, found.why) == (Verdict.HOLDS, "")
    rows = {name: (keys, {"accuracy_sd": (0.155, 0.011)}) for name, (keys, _) in sources(64, 0.16, 0.16).items()}
    found = one(judged(made(rows, members=100)), "as much spread").measured
    assert found.verdict is Verdict.OPEN
    assert "500 or more are needed" in found.why


def test_shares_are_judged_on_their_logarithm():
    """An SD 22% lower at 5% error each is as far from 1 as the inverse is: the ratio's own error made it less."""
    rows = sources(4, 1.0, 0.845)
    rows = {name: (keys, {"accuracy_sd": (numbers["accuracy_sd"][0], 0.06)}) for name, (keys, numbers) in rows.items()}
    assert one(judged(made(rows)), "less spread").measured.verdict is Verdict.OPEN


def test_pokes_are_set_side_by_side_with_their_own_kind_alone():
    def change(factor, step):
        return {"kind": "scale", "factor": factor, "weight": "first", "step": step}

    bit = ALL["vary"] + ["bit"]
    rows = {
        "seeds": (ALL, {"disagreement": (5.2, 0.02)}),
        "early": ({"vary": bit, "perturbation": change(1.001, 0)}, {"twin_disagreement": (5.1, 0.02)}),
        "late": ({"vary": bit, "perturbation": change(1.5, 90)}, {"twin_disagreement": (5.2, 0.02)}),
        "bf16": (ALL | {"first_step_precision": "bf16"}, {"twin_disagreement": (4.0, 0.02)}),
    }
    claims = [c for c in claims_of(Evidence.of(made(rows, precision="fp32"), [])) if c.where.startswith("Jordan")]
    assert not [claim for claim in claims if "The earlier" in claim.statement]
    rows["later"] = ({"vary": bit, "perturbation": change(1.001, 90)}, {"twin_disagreement": (4.5, 0.02)})
    claims = [c for c in claims_of(Evidence.of(made(rows, precision="fp32"), [])) if c.where.startswith("Jordan")]
    assert [c.about for c in claims if "The earlier" in c.statement] == [("later", "early")]


def test_augmentation_is_judged_on_a_subset_too_and_without_less_data():
    none = {"augment": {"flip": False, "translate": 0, "cutout": 0, "fill": None}}
    two, sd = {"vary": ["init", "shuffle"]}, {"accuracy_sd": (0.3, 0.01), "accuracy_mean": (80.0, 0.01)}
    rows = {
        "with": (ALL | {"recipe": {"train_examples": 5000}}, {"accuracy_sd": (0.2, 0.01)}),
        "without": (two | {"recipe": none | {"train_examples": 5000}}, sd | {"variance_ratio_to_less_data": (2, 0.1)}),
    }
    after = {"experiment": "jordan_augmentation"}
    assert one(judged(made(rows, **after)), "Augmentation reduces").about == ("without", "with")
    rows["less"] = (ALL | {"recipe": {"train_examples": 1000}}, sd)
    assert one(judged(made(rows, **after)), "vary more than with less").about == ("without", "less")
    few = one(judged(made(rows, members=30, **after)), "Augmentation reduces").measured
    assert "at least 50 are needed" in few.why


def test_independent_runs_are_as_far_from_their_own_rates_as_is_said():
    """Rates are the runs' own: with Kolmogorov's bound, of rates known beforehand, less than 1% were beyond."""
    predictions, labels = population(members=60 * 300, examples=200)
    found = [PackedErrors.from_predictions(predictions[r::300], labels) for r in range(300)]
    beyond = [statistics._distance(bits) > statistics._distance_by_chance(bits) for bits in found]
    assert 0.02 < np.mean(beyond) < 0.08


def test_settings_can_be_imported_first():
    """The claims import them: if they import claims, either may be there in half only."""
    assert "popnet.report.claims" not in Path(settings.__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "changed",
    [
        {"drop_last": False},
        {"clip_gradient": 1.0},
        {"loss": {"name": "cross_entropy", "kwargs": {"label_smoothing": 0.1}}},
    ],
)
def test_another_training_has_none_of_the_papers_numbers(changed):
    assert not printed({"64 epochs": runs_of("jordan_durations", "64 epochs", **changed)})
    dataset = {"name": "cifar10", "kwargs": {"copy": True}}
    assert printed({"64 epochs": runs_of("jordan_durations", "64 epochs", dataset=dataset)}), "said to be a copy"


def test_the_papers_column_says_what_a_copy_is_and_of_how_many_runs_a_range_is():
    values = {"x": published_values("jordan_2024.cifar10_resnet9")["64 epochs"]}
    lines = theory_report.table({"x": summary(members=12)}, values, copies={"x"}).splitlines()
    assert "| paper (CIFAR-10's own pixels) |" in lines[0]
    assert next(line for line in lines if line.startswith("| highest")).endswith("| 1.4 (60,000 runs) |")
    assert "| 0.149 |" in "".join(line for line in lines if line.startswith("| SD between"))


@pytest.mark.parametrize(
    ("table", "row", "name", "error"),
    [
        ("sources", "64 epochs, all sources", "accuracy_sd", 0.0005),
        ("imagenet_resnet18", "ImageNet", "accuracy_mean", 0.05),
    ],
)
def test_trailing_zeros_of_printed_numbers_count(table, row, name, error):
    assert published_values(f"jordan_2024.{table}")[row][name].error == pytest.approx(error)


def test_of_two_test_files_the_one_with_labels_is_read(tmp_path):
    (tmp_path / "test.tsv").write_text("index\tsentence1\tsentence2\n0\ta\tb\n")
    (tmp_path / "msr_paraphrase_test.txt").write_text("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\ta\tb\n")
    assert text_pairs._read(tmp_path, "test") == (["a"], ["b"], [1])
    (tmp_path / "msr_paraphrase_test.txt").unlink()
    with pytest.raises(DataError, match=r"test\.tsv: pair 1 lacks"):
        text_pairs._read(tmp_path, "test")

"""Measured numbers against published ones: matching, differences, reductions, verdicts, and the claims."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from popnet.cli.running import _published_rows
from popnet.config import from_mapping
from popnet.protocol import Platform
from popnet.report.beside import Cell, beside, matching, plain_name, published_values, unmatched
from popnet.report.claims import Evidence, claims_across, claims_of
from popnet.report.claims.comparable import why_not
from popnet.report.convergence import convergence, subset_sizes
from popnet.report.long_form import COLUMNS, long_form
from popnet.report.measured import Measured, Row, Runs
from popnet.report.measured_tables import beside_table
from popnet.report.quantities import IMAGES, Value, percent, quantity, with_error
from popnet.report.reductions import READINGS, reduction, rounding_range, with_reductions
from popnet.report.scaled import data_name, departs_from, departures, other_than, shipped
from popnet.report.tables import means_of, published, published_references
from popnet.report.verdicts import Verdict, at_least, at_most, exactly, ratio, ratio_at_least

TABLE5 = "summers_dinneen_2021.table5"
TABLE6 = "reproduction_report.table6_corrected_percentages"
TABLE7 = "reproduction_report.table7_mitigation"
HALF_UNITS = {
    "accuracy_sd": 0.005,
    "cross_entropy_sd": 0.00005,
    "disagreement": 0.05,
    "spearman": 0.0005,
    "ensemble_delta": 0.005,
}


def printed_reductions():
    """(single row, mitigated row, reading, printed percentage) for every percentage that the papers print."""
    single5, single7 = published_values(TABLE5)["Single Model"], published_values(TABLE7)["Single Model"]
    for table, single, columns in (
        (TABLE5, single5, {"variability_reduction": "complement"}),
        (TABLE6, single5, {"variability_reduction": "complement", "variability_reduction_raw_rho": "raw"}),
        (TABLE7, single7, {"variability_reduction_raw_rho": "raw"}),
    ):
        for name, row in published_values(table).items():
            for column, reading in columns.items():
                if row[column].known:
                    yield pytest.param(single, row, reading, row[column].value, id=f"{table} {name} {reading}")


@pytest.mark.parametrize(("single", "mitigated", "reading", "percent"), list(printed_reductions()))
def test_both_readings_reproduce_the_printed_percentages_within_the_rounding_of_their_rows(
    single, mitigated, reading, percent
):
    low, high = rounding_range(single, mitigated, HALF_UNITS, reading)
    assert low <= percent + 0.5
    assert percent - 0.5 <= high
    assert low <= reduction(single, mitigated, reading).value <= high


def test_the_readings_are_not_interchangeable():
    """Each accounts for its own paper's figures and not for the other's."""
    rows = published_values(TABLE5)
    for name in ("Acc. Ens.", "Acc. Ens./Flip-Crop-TTA"):
        complement, raw = (reduction(rows["Single Model"], rows[name], reading).value for reading in READINGS)
        assert abs(complement - rows[name]["variability_reduction"].value) < 0.75
        assert complement - raw > 10


def test_a_published_error_is_the_printed_bar_but_at_least_half_a_unit():
    row = published_values("summers_dinneen_2021.table1")["Data Shuffling + cuDNN"]
    assert row["accuracy_sd"] == Value(0.21, 0.01, "0.21 ± 0.01")
    assert row["ensemble_delta"] == Value(1.8, 0.005, "1.80"), "the file cannot keep the zero that was printed"
    assert row["spearman"].error == pytest.approx(0.0005)
    linear = published_values("summers_dinneen_2021.table7.linear")
    assert linear["Parameter Initialization"]["cross_entropy_sd"].error == pytest.approx(5e-5), "rounding, not 1e-5"
    assert linear["Random Bit Change"]["accuracy_sd"].error == pytest.approx(0.005)
    assert linear["Random Bit Change"]["cross_entropy_sd"].error == pytest.approx(5e-8)
    mnist = published_values("summers_dinneen_2021.table6.mnist_cnn")
    assert mnist["Acc. Ens./Crop-TTA"]["disagreement"].error == pytest.approx(0.005), "0.40, as its column"


# -- a made-up experiment with chosen numbers --------------------------------------------------------------------------

PLATFORM = Platform("cpu:test", (("torch", "0"),))


def made(rows, **changes):
    """An experiment whose rows have the given metrics; {name: (variant keys, {quantity: (value, error)})}."""
    content = {
        "name": "made",
        "recipe": {
            "dataset": "cifar10",
            "model": "resnet14",
            "epochs": 500,
            "batch_size": 512,
            "optimizer": {"name": "sgd", "lr": 0.4},
            "augment": {"flip": True},
            **changes.pop("recipe", {}),
        },
        "population": 20,
        "variants": [{"name": name, **keys} for name, (keys, _) in rows.items()],
    }
    members, diverged, sure = (changes.pop(*one) for one in (("members", 20), ("diverged", {}), ("overconfident", {})))
    experiment = from_mapping(content | changes)
    built = []
    for variant in experiment.variants:
        numbers = {name: Value(*pair) for name, pair in rows[variant.name][1].items()}
        runs = Runs({"accuracy": np.arange(4.0), "cross_entropy": np.arange(4.0)}, {})
        recipe, lost = experiment.recipe_of(variant), diverged.get(variant.name, 0)
        built.append(Row(variant, recipe, members, members, 20, 0, (), numbers, runs, diverged=lost))
        built[-1] = replace(built[-1], overconfident=sure.get(variant.name, 0))
    return Measured(Path("runs/made"), experiment, PLATFORM, tuple(built))


def like(reference, name, error=0.0):
    """The numbers of a published row, with errors of our own."""
    row = published_values(reference)[name]
    spans = {metric: 1 - row[metric].value if metric == "spearman" else abs(row[metric].value) for metric in IMAGES}
    return {metric: (row[metric].value, error * spans[metric]) for metric in IMAGES}


def judged(measured):
    evidence = Evidence.of(measured, beside(measured))
    return {claim.statement: claim for claim in claims_of(evidence)}


LINEAR = {
    "model": "linear",
    "augment": {"crop": 4, "flip": True},
    "optimizer": {"name": "sgd", "lr": 0.01, "weight_decay": 5e-4, "groups": "released"},
    "schedule": {"name": "cosine", "warmup_epochs": 3},
}
"""The recipe of Table 7's linear model."""

T1, T3 = "summers_dinneen_2021.table1", "summers_dinneen_2021.table3"
SOURCES = {
    "Parameter Initialization": {"vary": ["init"]},
    "Data Shuffling": {"vary": ["shuffle"]},
    "All Nondeterminism Sources": {"vary": "all"},
}


def test_rows_are_matched_by_name_and_what_is_not_is_said():
    rows = {name: (keys, like(T1, name, 0.01)) for name, keys in SOURCES.items()}
    rows["acc ens"] = ({"vary": "all", "snapshots": 5}, like(TABLE5, "Acc. Ens."))
    rows["Mine"] = ({"vary": ["augment"]}, {})
    measured = made(rows, published=[T1, TABLE5])
    one, five = beside(measured)
    assert [pair.row.name for pair in one.pairs] == list(SOURCES)
    assert "cuDNN" in one.missing_rows
    names = {pair.row.name: pair.published_name for pair in five.pairs}
    assert names == {"acc ens": "Acc. Ens.", "All Nondeterminism Sources": "Single Model"}
    assert five.missing_columns == ("variability_reduction",)
    assert unmatched(measured, [one, five]) == ["Mine"]
    assert with_reductions(measured).rows[3].values["variability_reduction"].value == pytest.approx(48.2, abs=0.1)


@pytest.mark.parametrize(
    ("one", "other"),
    [("x^-1", "x^1"), ("lr 2^-1", "lr 21"), ("lr 1.0", "lr 10"), ("1e-5", "1e5"), ("lr .5", "lr 5"), ("-1", "1")],
)
def test_what_tells_numbers_apart_tells_names_apart(one, other):
    assert plain_name(one) != plain_name(other)
    assert matching({one: None, other: None}, {one: {}, other: {}}) == {one: one, other: other}


def test_what_tells_nothing_apart_does_not_count():
    assert plain_name("Acc. Ens./Flip-Crop-TTA") == plain_name("acc ens flip crop tta") == "accensflipcroptta"
    assert plain_name("ResNet-14, v2") == plain_name("resnet14 V2")
    assert plain_name("lr \N{MINUS SIGN}1") == plain_name("LR: -1")


@pytest.mark.parametrize(
    ("measured", "difference", "units"),
    [((7.2, 0.03), 0.0, 0.0), ((7.0, 0.03), 0.0, 0.0), ((7.62, 0.0), 0.12, 2.4), ((6.9, 0.0), -0.1, -2.0)],
)
def test_a_printed_range_is_shown_as_printed_and_nothing_inside_it_differs(measured, difference, units):
    printed = published_values("jordan_2024.pokes")["4 epochs, poked before step 0"]["twin_disagreement"]
    assert (printed.printed, printed.value, printed.within) == ("7.0-7.5", 7.25, 0.25)
    cell = Cell(quantity("twin_disagreement"), Value(*measured), printed)
    assert cell.printed == "7.0-7.5"
    assert cell.difference == pytest.approx(difference)
    assert cell.units == pytest.approx(units), "half a printed unit beyond the ends"


def test_a_difference_is_counted_in_combined_errors():
    numbers = like(T1, "Data Shuffling") | {"accuracy_sd": (0.29, 0.03), "ensemble_delta": (1.81, 0.0)}
    measured = made({"Data Shuffling": ({"vary": ["shuffle"]}, numbers)}, published=[T1])
    (table,) = beside(measured)
    cells = {cell.quantity.name: cell for cell in table.pairs[0].cells}
    assert cells["accuracy_sd"].combined_error == pytest.approx(math.hypot(0.03, 0.02))
    assert cells["accuracy_sd"].units == pytest.approx(0.04 / math.hypot(0.03, 0.02))
    assert cells["ensemble_delta"].units == 0.0
    lines = long_form([Evidence.of(measured, [table])])
    assert tuple(lines.columns) == COLUMNS
    line = lines.set_index("quantity").loc["accuracy_sd"]
    assert (line["published"], line["published_error"], line["table"]) == (0.25, 0.02, T1)
    assert line["difference_in_errors"] == pytest.approx(cells["accuracy_sd"].units)


def test_verdicts_follow_the_intervals():
    assert at_least([Value(1.0, 0.1)], 0.8) is Verdict.HOLDS
    assert at_least([Value(1.0, 0.2)], 0.8) is Verdict.OPEN
    assert at_least([Value(0.5, 0.1)], 0.8) is Verdict.FAILS
    assert at_least([Value(0.5, 0.1), *[Value(1.0, 0.01)] * 100], 0.8) is Verdict.OPEN, "the lowest of 101"
    assert at_most([Value(0.5, 0.1)], 0.8) is Verdict.HOLDS
    assert at_least([Value(1.0)], 0.8) is Verdict.OPEN, "without an error nothing is decided"
    assert at_least([], 0.8) is Verdict.OPEN
    assert exactly([Value(0.0)], [0.0]) is Verdict.HOLDS
    assert exactly([Value(1e-300)], [0.0]) is Verdict.FAILS
    assert not ratio(Value(1.0, 0.1), Value(0.1, 0.1)).known


def test_claims_on_sources_and_on_a_changed_bit():
    rows = {name: (keys, like(T1, name, 0.001)) for name, keys in SOURCES.items()}
    rows["Random Bit Change"] = ({"vary": ["bit"]}, like(T3, "Random Bit Change", 0.001))
    claims = judged(made(rows, published=[T1, T3]))
    alike = claims["All sources are within 20% of each other"]
    assert alike.measured.verdict is Verdict.HOLDS
    assert alike.published is not None
    assert "Section 3.2" in alike.where
    assert dict(alike.measured.evidence)["Accuracy SD (%)"].endswith("apart")
    bit = claims["Changing one weight by one bit gives nearly as much variability as all sources together"]
    assert (bit.measured.verdict, bit.published.verdict) == (Verdict.HOLDS, Verdict.HOLDS)
    assert dict(bit.measured.evidence)["Mean over the metrics"].startswith("94%")

    rows["Data Shuffling"] = (SOURCES["Data Shuffling"], like(T1, "Data Shuffling", 0.001) | {"disagreement": (5, 0.1)})
    rows["Random Bit Change"] = ({"vary": ["bit"]}, {m: (v / 2, e) for m, (v, e) in like(T1, "cuDNN", 0.01).items()})
    claims = judged(made(rows, published=[T1, T3]))
    assert claims["All sources are within 20% of each other"].measured.verdict is Verdict.FAILS
    coarse = {name: (keys, like(T1, name, 0.5)) for name, keys in SOURCES.items()}
    assert judged(made(coarse))["All sources are within 20% of each other"].measured.verdict is Verdict.OPEN
    assert judged(made(coarse))["All sources are within 20% of each other"].published is None


def test_linear_models_are_stable_and_deeper_ones_are_not():
    reference = "summers_dinneen_2021.table7.linear"
    rows = {
        "Parameter Initialization": ({"vary": ["init"]}, like(reference, "Parameter Initialization", 0.01)),
        "All Nondeterminism Sources": ({"vary": "all"}, like(reference, "All Nondeterminism Sources", 0.01)),
        "Random Bit Change": ({"vary": ["bit"]}, like(reference, "Random Bit Change", 0.01)),
    }
    linear = made(rows, recipe=LINEAR)
    claims = judged(linear)
    assert not any("20%" in statement for statement in claims), "no claim is made on the sources of a linear model"
    stable = next(claim for statement, claim in claims.items() if "differ by about 1e-7" in statement)
    assert stable.measured.verdict is Verdict.HOLDS
    less = next(claim for statement, claim in claims.items() if "has less effect" in statement)
    assert less.measured.verdict is Verdict.HOLDS
    hidden = made(
        {
            "Random Bit Change": (
                {"vary": ["bit"]},
                like("summers_dinneen_2021.table7.hidden_fc", "Random Bit Change", 0.01),
            )
        },
        recipe={"model": "hidden_fc"},
    )
    (across,) = claims_across([Evidence.of(linear, []), Evidence.of(hidden, [])])
    assert across.measured.verdict is Verdict.HOLDS
    assert across.measured.evidence[1][1].endswith("51,000 ± 721 times as much")
    rows["Random Bit Change"] = ({"vary": ["bit"]}, like(reference, "All Nondeterminism Sources", 0.01))
    broken = judged(made(rows, recipe={"model": "linear"}))
    fails = next(c for s, c in broken.items() if "stable" in s).measured
    assert fails.verdict is Verdict.FAILS
    assert "edge of stability" in fails.why, "the paper's claim is of rates below it"


def test_mitigations_reduce_and_other_recipes_do_not():
    table8 = "summers_dinneen_2021.table8"
    rows = {
        "All Nondeterminism Sources": ({"vary": "all"}, like(T1, "All Nondeterminism Sources", 0.01)),
        "Ensemble (N=2)": ({"vary": "all", "ensemble": 2}, like(TABLE5, "Ensemble (N=2)", 0.01)),
        "Acc. Ens.": ({"vary": "all", "snapshots": 5}, like(TABLE5, "Acc. Ens.", 0.01)),
        "Single/Flip-TTA": ({"vary": "all", "views": "flip"}, like(TABLE5, "Single/Flip-TTA", 0.01)),
        "Acc. Ens./Flip-TTA": (
            {"vary": "all", "snapshots": 5, "views": "flip"},
            like(TABLE5, "Acc. Ens./Flip-TTA", 0.01),
        ),
        "Longer": ({"vary": "all", "recipe": {"epochs": 2000}}, like(table8, "All Sources/.40/2000 (N=20)", 0.01)),
        "Momentum 0.99": (
            {"vary": "all", "recipe": {"optimizer": {"momentum": 0.99, "lr": 0.04}}},
            like(table8, "All Sources/.40/2000 (N=20)", 0.01),
        ),
    }
    claims = judged(made(rows, published=[TABLE5]))
    flip = claims["Single/Flip-TTA reduces variability against All Nondeterminism Sources"]
    assert (flip.measured.verdict, flip.published.verdict) == (Verdict.HOLDS, Verdict.HOLDS)
    assert flip.measured.evidence[0][1].startswith("21%")
    assert flip.measured.evidence[1][1].startswith("17%")
    assert next(c for s, c in claims.items() if "together with" in s).measured.verdict is Verdict.HOLDS
    assert next(c for s, c in claims.items() if "ensemble of two" in s).measured.verdict is Verdict.HOLDS
    remedies = {s: claim for s, claim in claims.items() if "does not reduce" in s}
    assert [s.split(" does")[0] for s in remedies] == ["Momentum 0.99"], "longer training is no remedy of Appendix D"
    (momentum,) = remedies.values()
    assert momentum.measured.verdict is Verdict.HOLDS
    assert "Appendix D" in momentum.where


def test_onset():
    def sd(value):
        return like(T1, "Data Shuffling", 0.01) | {"accuracy_sd": (value, 0.002)}

    rows = {
        "Data Shuffling": ({"vary": ["shuffle"]}, sd(0.25)),
        "from 50": ({"vary": ["shuffle"], "onset": 50}, sd(0.24)),
        "from 450": ({"vary": ["shuffle"], "onset": 450}, sd(0.1)),
    }
    claims = judged(made(rows))
    verdicts = [claim.measured.verdict for statement, claim in claims.items() if "sets in" in statement]
    assert verdicts == [Verdict.HOLDS, Verdict.HOLDS]
    assert not any("within 20%" in statement for statement in claims), "onsets are no sources of their own"


def test_convergence_ends_at_the_whole_population_and_depends_on_its_size_alone():
    generator = np.random.default_rng(1)
    values = generator.normal(size=9)
    matrix = np.abs(values[:, None] - values[None, :])
    runs = Runs({"accuracy": values}, {"disagreement": matrix})
    sd = convergence(runs, "accuracy_sd")
    assert sd.sizes[0] == 2
    assert sd.sizes[-1] == 9
    assert sd.mean[-1] == pytest.approx(values.std())
    assert sd.low[-1] == pytest.approx(sd.high[-1])
    assert (sd.low <= sd.mean).all()
    pairs = convergence(runs, "disagreement")
    assert pairs.mean[-1] == pytest.approx(matrix.sum() / 72)
    assert pairs.mean[0] == pytest.approx(matrix.sum() / 72, rel=0.5)
    again = convergence(runs, "disagreement")
    assert np.array_equal(pairs.low, again.low)
    assert subset_sizes(2) == [2]
    assert subset_sizes(100)[-1] == 100


def test_every_printed_table_can_be_set_beside():
    for reference in ("summers_dinneen_2021.table9", "jordan_2024.cifar10_resnet9", TABLE5):
        assert len(published_values(reference)) == len(published(reference))


# -- what gets no verdict ----------------------------------------------------------------------------------------------

AS_MUCH = "Changing one weight by one bit gives nearly as much variability as all sources together"
WITHIN = "All sources are within 20% of each other"


def bit_and_all(bit=None, accuracy=90.0, **changes):
    """Rows of Tables 1 and 3 with small errors; `bit`: keys of the bit row."""
    mean = {"accuracy_mean": (accuracy, 0.02)}
    rows = {name: (keys, like(T1, name, 0.001) | mean) for name, keys in SOURCES.items()}
    rows["Random Bit Change"] = ({"vary": ["bit"], **(bit or {})}, like(T3, "Random Bit Change", 0.001) | mean)
    return made(rows, **{"published": [T1, T3]} | changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"accuracy": 89.2}, None),
        ({"members": 4}, "Random Bit Change has 4 members, and at least 10 are needed"),
        ({"diverged": {"Random Bit Change": 2}}, "2 of 20 members of Random Bit Change are no better than guessing"),
        ({"recipe": {"epochs": 0}, "accuracy": 10.0}, "Random Bit Change is not trained: its recipe has 0 epochs"),
        (
            {"recipe": {"epochs": 20}, "accuracy": 74.5},
            "Random Bit Change has not reached the published mean: Accuracy (%) 74.50, and the paper's is 90",
        ),
        ({"published": [], "accuracy": 74.5}, "Random Bit Change has not reached the published mean: "),
        ({"recipe": {"dataset": "fashion_mnist", "epochs": 20}, "accuracy": 74.5}, None),
        ({"recipe": {"model": "resnet6"}, "accuracy": 74.5}, None),
    ],
)
def test_a_claim_has_a_verdict_only_of_enough_members_of_trained_models(changes, reason):
    finding = judged(bit_and_all(**changes))[AS_MUCH].measured
    if reason is None:
        assert (finding.verdict, finding.why) == (Verdict.HOLDS, "")
    else:
        assert finding.verdict is Verdict.NOT_COMPARABLE
        assert finding.why.startswith(reason)
        assert finding.evidence, "the numbers are shown"


def test_members_of_bad_cross_entropy_alone_speak_against_claims_that_use_it_alone():
    rows = {
        "early": ({"vary": ["shuffle"]}, {"accuracy_sd": (0.25, 0.001), **like(T1, "Data Shuffling", 0.001)}),
        "late": (
            {"vary": ["shuffle"], "onset": 250},
            like(T1, "Data Shuffling", 0.001) | {"accuracy_sd": (0.1, 0.001)},
        ),
        "init": ({"vary": ["init"]}, like(T1, "Parameter Initialization", 0.001)),
    }
    late, alike = "The later nondeterminism (early) sets in, the less final models vary", WITHIN
    sure = judged(made(rows, diverged={"early": 2}, overconfident={"early": 2}))
    assert sure[late].measured.verdict is Verdict.HOLDS
    assert sure[alike].measured.verdict is Verdict.NOT_COMPARABLE
    assert sure[alike].measured.why == "2 of 20 members of early have a cross-entropy above that of guessing"
    lost = judged(made(rows, diverged={"early": 2}, overconfident={"early": 1}))[late].measured
    assert (lost.verdict, lost.why) == (
        Verdict.NOT_COMPARABLE,
        "1 of 20 members of early are no better than guessing",
    )


def test_a_claim_that_is_made_of_several_recipes_names_its_rows():
    slow = {"optimizer": {"name": "sgd", "lr": 0.1}}
    one, two = like(T1, "Data Shuffling", 0.001), like(T1, "Parameter Initialization", 0.001)
    rows = {
        "fast shuffle": ({"vary": ["shuffle"]}, one),
        "fast init": ({"vary": ["init"]}, two),
        "slow shuffle": ({"vary": ["shuffle"], "recipe": slow}, one),
        "slow init": ({"vary": ["init"], "recipe": slow}, two),
    }
    both = {name for name in judged(made(rows)) if name.startswith(WITHIN)}
    assert both == {f"{WITHIN} (fast shuffle, fast init)", f"{WITHIN} (slow shuffle, slow init)"}
    alone = {name: rows[name] for name in ("fast shuffle", "fast init")}
    assert [name for name in judged(made(alone)) if name.startswith(WITHIN)] == [WITHIN]


def test_a_perplexity_is_compared_with_its_published_mean_too():
    model = {"name": "qrnn", "kwargs": {"embedding": 256, "hidden": 512, "layers": 3}}
    model = {"dataset": "ptb", "model": model, "optimizer": {"name": "sgd", "lr": 30.0}, "language": {}}
    reference = "summers_dinneen_2021.table2"
    for perplexity, reached in ((78.0, True), (122.0, False)):
        numbers = {"ppl_mean": (perplexity, 0.05), "ppl_sd": (0.19, 0.01)}
        rows = {"Stochastic Operations": ({"vary": ["stochastic"]}, numbers)}
        measured = made(rows, recipe=model | {"augment": {}, "epochs": 100}, published=[reference])
        why = why_not(measured, measured.rows, any_network=True)
        assert (why is None) is reached
        assert why is None or why.endswith("PPL 122.00, and the paper's is 75.49")


def test_unless_a_claim_makes_sense_for_any_network_its_training_must_be_the_paper_s():
    copies = {"dataset": {"name": "cifar10", "kwargs": {"copy": True}}, "augment": {"crop": 4, "flip": True}}
    copies |= {"optimizer": {"name": "sgd", "lr": 0.4, "weight_decay": 5e-4, "groups": "released"}}
    copies |= {"schedule": {"name": "cosine", "warmup_epochs": 3}, "kernels": {"mode": "reorder"}}
    same = bit_and_all(recipe=copies)
    assert why_not(same, same.rows) is None, "a copy of the data and the proxy of the kernels are of the same kind"
    other = bit_and_all(recipe=copies | {"batch_size": 128})
    assert why_not(other, other.rows, any_network=True) is None
    assert why_not(other, other.rows).endswith("recipe: batch_size 128 instead of 512")


def test_published_means_are_read_by_table_and_by_row():
    assert means_of(T1, "cuDNN") == {"accuracy_mean": 90.0}
    assert means_of("summers_dinneen_2021.table6.mnist_cnn") == {"accuracy_mean": 99.14}
    assert means_of("summers_dinneen_2021.table9", "All Nondeterminism Sources/1000") == {"ppl_mean": 73.0}
    assert means_of("summers_dinneen_2021.table9", "Acc. Ens./All Sources/1000", whole=False) == {"ppl_mean": 75.0}
    assert means_of(TABLE5, "Acc. Ens.", whole=False) == {}, "the table's mean is that of single models"
    assert means_of("reproduction_report.table10_cifar100_resnet34") == {"accuracy_mean": 63}
    assert not any("means" in reference for reference in published_references())
    (table, _) = beside(bit_and_all(accuracy=90.3))
    first = table.pairs[0].cells[0]
    assert (first.quantity.name, first.published) == ("accuracy_mean", Value(90.0, 0.05, "90.0"))
    assert math.isnan(first.units), "any other training is many errors of a mean away"
    assert beside_table(table).lines[2].cells[0] == "+0.30 points"


# -- other data, other models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ({"dataset": "fashion_mnist"}, "Other data: fashion_mnist, and the paper's are cifar10"),
        ({"model": "resnet6"}, "Another model: resnet6, and the paper's is resnet14"),
        ({"train_examples": 6000}, "Other data: 6,000 of the training images"),
    ],
)
def test_numbers_of_other_data_or_models_are_not_compared_by_errors(recipe, reason):
    measured = bit_and_all(recipe=recipe)
    table, _ = beside(measured)
    shown = beside_table(table)
    assert [line.kind for line in shown.lines[:2]] == ["measured", "published"]
    assert not any(line.kind == "difference" for line in shown.lines)
    assert shown.notes[0] == f"{reason}: no comparison by errors."
    lines = long_form([Evidence.of(measured, [table])])
    beside_published = lines[lines["table"].eq(T1)]
    assert beside_published["difference_in_errors"].isna().all()
    assert beside_published["not_comparable"].str.startswith(reason[:5].lower()).all()
    assert all(claim.published is None for claim in judged(measured).values())
    assert other_than(measured.experiment, T1)


def test_a_copy_of_the_data_and_fewer_epochs_are_compared_and_said():
    recipe = {"dataset": {"name": "cifar10", "kwargs": {"copy": True}}, "epochs": 100}
    measured = bit_and_all(recipe=recipe)
    table, _ = beside(measured)
    assert math.isfinite(table.pairs[0].cells[1].units)
    (note, *_) = beside_table(table).notes
    assert note.startswith(
        "Not as published: data: CIFAR-10, own copy instead of cifar10; epochs: 100 instead of 500; "
    )
    assert note.endswith("members: 20 instead of 100.")
    assert departures(measured.experiment, "CIFAR-10, JPEG copy")[0] == "data: CIFAR-10, JPEG copy instead of cifar10"
    jpeg = "9f0a079a3bafe47b86a88f11a86468ba317d971e8b859134b26c288d27fb2265"
    assert data_name(measured.experiment.recipe.dataset, jpeg) == "CIFAR-10, JPEG copy"
    assert data_name(measured.experiment.recipe.dataset, "0" * 64) == "CIFAR-10, own copy"
    assert other_than(measured.experiment, T1) == ""


def test_a_row_of_a_published_name_that_varies_something_else_says_so():
    measured = bit_and_all({"vary": ["init"]})
    assert any(text == "row Random Bit Change: vary init instead of bit" for text in departures(measured.experiment))
    _, table = beside(measured)
    assert "vary init instead of bit" in beside_table(table).notes[0]


# -- the papers' claims on other ground --------------------------------------------------------------------------------


def test_a_bit_change_in_a_named_tensor_is_the_papers_too():
    claim = judged(bit_and_all({"perturbation": {"tensor": "bn1.weight"}}))[AS_MUCH]
    assert claim.measured.verdict is Verdict.HOLDS
    for other in ({"kind": "scale"}, {"weight": "first"}, {"step": 3}):
        assert AS_MUCH not in judged(bit_and_all({"perturbation": other})), "Jordan's poke is not"


def test_two_sources_are_not_all_of_them():
    rows = {
        "Data Shuffling + cuDNN": ({"vary": ["shuffle", "kernels"]}, like(T1, "cuDNN", 0.001)),
        "Random Bit Change": ({"vary": ["bit"]}, like(T3, "Random Bit Change", 0.001)),
    }
    assert AS_MUCH not in judged(made(rows))
    rows["Everything here"] = ({"vary": ["init", "shuffle"]}, like(T1, "cuDNN", 0.001))
    assert AS_MUCH not in judged(made(rows)), "the recipe augments"
    assert AS_MUCH in judged(made(rows, recipe={"augment": {}}))


def test_a_bit_that_low_precision_rounds_away_decides_nothing():
    same = {name: (1.0 if name == "spearman" else 0.0, 0.0) for name in IMAGES}
    rows = {
        "All Nondeterminism Sources": ({"vary": "all"}, like(T1, "All Nondeterminism Sources", 0.001)),
        "Random Bit Change": ({"vary": ["bit"]}, same),
    }
    rounded = judged(made(rows, recipe={"precision": "bf16"}))[AS_MUCH].measured
    assert rounded.verdict is Verdict.NOT_COMPARABLE
    assert rounded.why == "the runs are equal to the last bit: bf16 rounds the changed bit away"
    assert judged(made(rows))[AS_MUCH].measured.verdict is Verdict.FAILS


def bits(model, sd, error, **changes):
    numbers = {name: (1.0 if name == "spearman" else 0.0, 0.0) for name in IMAGES} | {"cross_entropy_sd": (sd, error)}
    changes["recipe"] = {"model": model} | changes.get("recipe", {})
    measured = made({"Random Bit Change": ({"vary": ["bit"]}, numbers)}, **changes)
    return Evidence.of(measured, [])


@pytest.mark.parametrize(
    ("linear", "hidden", "verdict", "says"),
    [
        ((1e-7, 1e-8), (6.759e-4, 6.8e-5), Verdict.HOLDS, "6,759 ± 959 times as much"),
        ((1e-7, 1e-8), (5e-6, 5e-7), Verdict.FAILS, "50 ± 7 times as much"),
        ((1e-7, 1e-8), (1.1e-5, 2e-6), Verdict.OPEN, "110 ± 23 times as much"),
        ((0.0, 0.0), (0.0, 0.0), Verdict.NOT_COMPARABLE, "0.0000 ± 0.0000"),
        ((0.0, 0.0), (0.004, 0.0001), Verdict.NOT_COMPARABLE, "0.0040 ± 0.0001"),
        ((1e-7, 8e-8), (0.004, 0.0001), Verdict.OPEN, "0.0040 ± 0.0001"),
    ],
)
def test_one_hidden_layer_is_orders_of_magnitude_less_stable(linear, hidden, verdict, says):
    (claim,) = claims_across([bits("linear", *linear), bits("hidden_fc", *hidden)])
    assert claim.measured.verdict is verdict
    assert claim.measured.evidence[1][1].endswith(says)
    assert "the paper observed about 10,000" in claim.statement


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"recipe": {"dataset": "fashion_mnist"}}, "hidden_fc and linear are trained on other data"),
        ({"recipe": {"epochs": 20}}, "hidden_fc is trained for 20 epochs, and linear for 500"),
        ({"members": 3}, "Random Bit Change has 3 members, and at least 10 are needed"),
        ({"diverged": {"Random Bit Change": 1}}, "1 of 20 members of Random Bit Change are no better than guessing"),
    ],
)
def test_linear_and_deeper_models_are_compared_on_equal_terms(changes, why):
    linear, hidden = bits("linear", 1e-7, 1e-8), bits("hidden_fc", 0.005, 1e-4, **changes)
    (claim,) = claims_across([linear, hidden])
    assert (claim.measured.verdict, claim.measured.why) == (Verdict.NOT_COMPARABLE, why)
    (with_another,) = claims_across([linear, hidden, bits("hidden_conv", 0.005, 1e-4)])
    assert with_another.measured.verdict is Verdict.HOLDS, "of those that can be compared"
    assert with_another.about == ("Random Bit Change (linear)", "Random Bit Change (hidden_conv)")


def test_the_number_of_the_paper_s_linear_model_is_asked_of_it_alone():
    far = bits("linear", 3e-5, 1e-6, recipe={"dataset": "fashion_mnist"})
    (claim,) = claims_of(far)
    assert claim.statement == "A linear model is stable: after a change of one bit no test prediction changes"
    assert claim.measured.verdict is Verdict.HOLDS
    (papers,) = claims_of(bits("linear", 3e-5, 1e-6, recipe=LINEAR))
    assert papers.statement.endswith("and cross-entropies differ by about 1e-7")
    assert papers.measured.verdict is Verdict.FAILS


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"optimizer": {"momentum": 0.0}}, True),
        ({"optimizer": {"momentum": 0.99, "lr": 0.04}}, True),
        ({"optimizer": {"name": "adam", "lr": 0.001}}, True),
        ({"averaging": {"start_epoch": 1}}, True),
        ({"clip_gradient": 0.1}, True),
        ({"weight_noise": {"sd": 0.01}}, True),
        ({}, False),
        ({"epochs": 2000}, False),
        ({"optimizer": {"lr": 0.2}}, False),
        ({"optimizer": {"weight_decay": 0.1}}, False),
        ({"optimizer": {"momentum": 0.0}, "epochs": 20}, False),
        ({"clip_gradient": 0.1, "averaging": {}}, False),
        ({"batch_size": 32}, False),
        ({"train_examples": 10000}, False),
    ],
)
def test_appendix_d_is_asked_of_the_remedies_that_it_names(changes, remedy):
    numbers = like(T1, "All Nondeterminism Sources", 0.001)
    changed = {"vary": ["init", "shuffle"], "recipe": changes}
    measured = made({"Own": ({"vary": ["init", "shuffle"]}, numbers), "Changed": (changed, numbers)})
    assert any("does not reduce" in statement for statement in judged(measured)) is remedy


def test_what_a_mitigation_costs_in_accuracy_is_said_beside_the_verdict():
    def rows(accuracy):
        known = {"Ensemble (N=2)": 75.8, "Acc. Ens.": accuracy}
        keys = {"Ensemble (N=2)": {"ensemble": 2}, "Acc. Ens.": {"snapshots": 5}}
        single = like(T1, "All Nondeterminism Sources", 0.001) | {"accuracy_mean": (75.34, 0.22)}
        mitigated = {
            name: (
                {"vary": "all", **keys[name]},
                like(TABLE5, name, 0.001) | {"accuracy_mean": (known[name], 0.14)},
            )
            for name in keys
        }
        return {"All Nondeterminism Sources": ({"vary": "all"}, single), **mitigated}

    other = {"dataset": "fashion_mnist", "model": "resnet6"}
    claims = judged(made(rows(70.28), recipe=other))
    reduces = claims["Acc. Ens. reduces variability against All Nondeterminism Sources"].measured
    assert reduces.verdict is Verdict.HOLDS
    assert reduces.why == "at a lower accuracy: 70.28% (Acc. Ens.) against 75.34%"
    assert ("Mean accuracy of Acc. Ens.", "70.28 ± 0.14%") in reduces.evidence
    of_two = next(claim for statement, claim in claims.items() if "ensemble of two" in statement).measured
    assert of_two.why == "at a lower accuracy: 70.28% (Acc. Ens.) against 75.80%"
    ensemble = claims["Ensemble (N=2) reduces variability against All Nondeterminism Sources"].measured
    assert (ensemble.verdict, ensemble.why) == (Verdict.HOLDS, "")
    assert all(claim.measured.why == "" for claim in judged(made(rows(75.9), recipe=other)).values())


def test_onsets_speak_of_the_epochs_that_were_measured():
    def sd(value):
        return like(T1, "Data Shuffling", 0.001) | {"accuracy_sd": (value, 0.002)}

    rows = {
        "Data Shuffling": ({"vary": ["shuffle"]}, sd(0.25)),
        "from 1": ({"vary": ["shuffle"], "onset": 1}, sd(0.25)),
        "from 4": ({"vary": ["shuffle"], "onset": 4}, sd(0.0)),
    }
    assert not any("sets in" in statement for statement in judged(made(rows, recipe={"epochs": 4}))), (
        "a quarter is no tenth, and from the last epoch on nothing can vary"
    )
    statements = [statement for statement in judged(made(rows, recipe={"epochs": 20})) if "sets in" in statement]
    assert statements == [
        "Nondeterminism (Data Shuffling) that sets in after 1 of 20 epochs gives nearly as much variability as from "
        "the beginning"
    ]


# -- few runs, near zero, and rows that do not belong together ---------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "expected"),
    [(5, Verdict.OPEN), (20, Verdict.FAILS), (math.inf, Verdict.FAILS)],
)
def test_intervals_are_wider_of_fewer_members(members, expected):
    assert at_least([Value(0.5, 0.13, freedom=members - 1)], 0.8) is expected


def test_a_ratio_is_judged_by_its_logarithm():
    assert ratio_at_least(Value(2.0, 0.02), Value(1.0, 0.01), 1.5) is Verdict.HOLDS
    assert ratio_at_least(Value(0.5, 0.16), Value(1.0, 0.01), 0.8) is Verdict.OPEN, "a wide error, on its way to 0"
    assert ratio_at_least(Value(0.0, 0.0), Value(1.0, 0.1), 0.8) is Verdict.FAILS
    assert ratio_at_least(Value(0.0, 0.2), Value(1.0, 0.1), 0.8) is Verdict.OPEN
    assert ratio_at_least(Value(1.0, 0.1), Value(0.1, 0.1), 0.8) is Verdict.OPEN, "nothing to divide by"
    assert at_least([Value(0.0, 0.0)], 0.0) is Verdict.OPEN, "no difference is no gain"


def test_sources_are_called_unlike_only_with_twenty_members():
    finding = judged(bit_and_all(members=19))[WITHIN].measured
    assert finding.why == "Parameter Initialization has 19 members, and at least 20 are needed"
    assert judged(bit_and_all(members=19))[AS_MUCH].measured.verdict is Verdict.HOLDS


def unstable(rate):
    """A linear model above its edge of stability, whose predictions a bit changes."""
    numbers = like(T1, "cuDNN", 0.01)
    recipe = {"model": "linear", "optimizer": {"name": "sgd", "lr": rate}}
    return Evidence.of(made({"Random Bit Change": ({"vary": ["bit"]}, numbers)}, recipe=recipe), [])


def test_a_deeper_model_is_set_beside_a_stable_linear_one_in_any_order():
    hidden = bits("hidden_fc", 0.005, 1e-4, recipe={"optimizer": {"name": "sgd", "lr": 0.1}})
    near, far = (bits("linear", 1e-7, 1e-8, recipe={"optimizer": {"name": "sgd", "lr": lr}}) for lr in (0.1, 0.01))
    for experiments in ([unstable(0.1), far, near, hidden], [near, hidden, unstable(0.1), far]):
        (claim,) = claims_across(experiments)
        assert (claim.measured.verdict, claim.measured.why) == (Verdict.HOLDS, "")
    (claim,) = claims_across([unstable(0.1), hidden, far])
    assert claim.measured.verdict is Verdict.HOLDS
    assert claim.measured.why == "at different rates: 0.1 (hidden_fc) and 0.01 (linear)"
    (claim,) = claims_across([unstable(0.4), hidden])
    assert claim.measured.verdict is Verdict.NOT_COMPARABLE
    assert claim.measured.why == "the linear model is not stable itself, at a rate of 0.4"


@pytest.mark.parametrize(("rate", "said"), [(0.01, False), (0.4, True)])
def test_the_edge_of_stability_is_blamed_above_it_only(rate, said):
    (claim,) = claims_of(unstable(rate))
    assert claim.measured.verdict is Verdict.FAILS
    assert ("edge of stability" in claim.measured.why) is said


def onset_rows(later, first=0.25):
    numbers = like(T1, "Data Shuffling", 0.01)
    return {
        "Data Shuffling": ({"vary": ["shuffle"]}, numbers | {"accuracy_sd": (first, 0.0)}),
        "from 450": ({"vary": ["shuffle"], "onset": 450, **later}, numbers | {"accuracy_sd": (0.0, 0.0)}),
    }


def test_onsets_are_compared_within_one_recipe_and_where_something_varies():
    assert not any("sets in" in s for s in judged(made(onset_rows({"recipe": {"batch_size": 128}}))))
    (claim,) = (claim for s, claim in judged(made(onset_rows({}, 0.0))).items() if "sets in" in s)
    assert claim.measured.verdict is Verdict.NOT_COMPARABLE
    assert claim.measured.why == "from the beginning on nothing varies, so nothing can fall"


def test_both_mitigations_are_held_against_each_alone_of_the_same_sources():
    numbers = like(T1, "Data Shuffling", 0.01)
    rows = {
        "All": ({"vary": "all"}, numbers),
        "Both": ({"vary": "all", "snapshots": 5, "views": "flip"}, numbers),
        "Flip": ({"vary": "all", "views": "flip"}, numbers),
        "Shuffling": ({"vary": ["shuffle"]}, numbers),
        "Snapshots": ({"vary": ["shuffle"], "snapshots": 5}, numbers),
    }
    assert not any("together with" in statement for statement in judged(made(rows)))
    rows["Snapshots of all"] = ({"vary": "all", "snapshots": 5}, numbers)
    assert any("together with" in statement for statement in judged(made(rows)))


@pytest.mark.parametrize("delta", [(-0.02, 0.05), (0.0, 0.0)])
def test_no_reduction_is_counted_of_what_is_not_clearly_above_zero(delta):
    single = like(T1, "Data Shuffling", 0.01) | {"ensemble_delta": delta}
    rows = {
        "All": ({"vary": "all"}, single),
        "Flip": ({"vary": "all", "views": "flip"}, single | {"ensemble_delta": (0.1, 0.05)}),
    }
    measured = made(rows)
    finding = judged(measured)["Flip reduces variability against All"].measured
    assert finding.verdict is Verdict.NOT_COMPARABLE
    assert finding.why == "Ensemble Δ (%) of All is not clearly above 0, so no reduction can be counted"
    assert ("variability_reduction" in with_reductions(measured).rows[1].values) is (delta[0] != 0.0)


def test_a_remedy_need_not_reach_the_plain_model_s_mean():
    numbers = like(T1, "All Nondeterminism Sources", 0.001)
    changed = {"vary": ["init", "shuffle"], "recipe": {"clip_gradient": 0.1}}
    rows = {
        "Own": ({"vary": ["init", "shuffle"]}, numbers | {"accuracy_mean": (90.0, 0.1)}),
        "Clipped": (changed, numbers | {"accuracy_mean": (80.0, 0.1)}),
    }
    (claim,) = (claim for s, claim in judged(made(rows)).items() if "does not reduce" in s)
    assert claim.measured.verdict is Verdict.HOLDS
    assert claim.measured.why.startswith("at a lower accuracy: 80.00%")


def test_rows_of_few_members_or_other_epochs_have_no_coloured_differences():
    few, _ = beside(bit_and_all(members=2))
    assert not any(line.kind == "difference" for line in beside_table(few).lines)
    assert "Fewer than 10 members: no comparison by errors." in beside_table(few).notes
    shorter, _ = beside(bit_and_all(recipe={"epochs": 100}))
    (line, *_) = (line for line in beside_table(shorter).lines if line.kind == "difference")
    assert set(line.tones) == {""}
    assert any(line.cells)


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (Value(1e-7, 1e-8), 4, "1e-07 ± 1e-08"),
        (Value(2e-5, 0.05), 2, "0.00 ± 0.05"),
        (Value(-0.004), 2, "-0.004"),
        (Value(0.2149, 0.01), 2, "0.21 ± 0.01"),
    ],
)
def test_one_number_has_one_notation(value, decimals, text):
    assert with_error(value, decimals) == text


def test_a_percentage_keeps_an_error_below_one_and_leaves_out_an_unknown_one():
    assert percent(Value(67.0, 0.3), "%") == "67% ± 0.3"
    assert percent(Value(63.0)) == "63"


@pytest.mark.parametrize("name", ["resnet14", "resnet14_similarity", "resnet14_remedies", "linear", "hidden_fc"])
def test_shipped_experiments_depart_from_nothing(name):
    assert departures(shipped(name)) == []


def test_the_heading_says_what_an_experiment_departs_from():
    assert departs_from(shipped("resnet14")) == "Not the published experiment in full"
    assert departs_from(shipped("resnet14_similarity")) == (
        "Not the published experiment in full" if shipped("resnet14_similarity").published else "Not as shipped"
    )


def test_a_run_prints_published_rows_beside_rows_of_their_own_model_alone():
    rows = {
        "Parameter Initialization": ({"vary": ["init"]}, {}),
        "Random Bit Change": ({"vary": ["bit"], "recipe": {"model": "hidden_fc"}}, {}),
    }
    measured = made(rows, recipe=LINEAR, published=["summers_dinneen_2021.table7.linear"])
    assert list(_published_rows(measured.experiment).index) == ["Parameter Initialization"]
    other = made(rows, recipe={"model": "resnet6"}, published=["summers_dinneen_2021.table7.linear"])
    assert _published_rows(other.experiment) is None

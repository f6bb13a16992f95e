"""Measured numbers against published ones: matching, differences, reductions, verdicts, and the claims."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from popnet.config import from_mapping
from popnet.protocol import Platform
from popnet.report.beside import beside, published_values, unmatched
from popnet.report.claims import Evidence, claims_across, claims_of
from popnet.report.convergence import convergence, subset_sizes
from popnet.report.long_form import COLUMNS, long_form
from popnet.report.measured import Measured, Row, Runs
from popnet.report.quantities import IMAGES, Value
from popnet.report.reductions import READINGS, reduction, rounding_range, with_reductions
from popnet.report.tables import published
from popnet.report.verdicts import Verdict, at_least, at_most, exactly, ratio

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
        "population": 4,
        "variants": [{"name": name, **keys} for name, (keys, _) in rows.items()],
        **changes,
    }
    experiment = from_mapping(content)
    built = []
    for variant in experiment.variants:
        numbers = {name: Value(*pair) for name, pair in rows[variant.name][1].items()}
        runs = Runs({"accuracy": np.arange(4.0), "cross_entropy": np.arange(4.0)}, {})
        built.append(Row(variant, experiment.recipe_of(variant), 4, 4, 4, 0, (), numbers, runs))
    return Measured(Path("runs/made"), experiment, PLATFORM, tuple(built))


def like(reference, name, error=0.0):
    """The numbers of a published row, with errors of our own."""
    row = published_values(reference)[name]
    spans = {metric: 1 - row[metric].value if metric == "spearman" else abs(row[metric].value) for metric in IMAGES}
    return {metric: (row[metric].value, error * spans[metric]) for metric in IMAGES}


def judged(measured):
    evidence = Evidence.of(measured, beside(measured))
    return {claim.statement: claim for claim in claims_of(evidence)}


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
    linear = made(rows, recipe={"model": "linear"})
    claims = judged(linear)
    assert not any("20%" in statement for statement in claims), "no claim is made on the sources of a linear model"
    stable = next(claim for statement, claim in claims.items() if statement.startswith("Linear models are stable"))
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
    assert "51,000 times" in across.measured.evidence[1][1]
    rows["Random Bit Change"] = ({"vary": ["bit"]}, like(reference, "All Nondeterminism Sources", 0.01))
    broken = judged(made(rows, recipe={"model": "linear"}))
    assert next(c for s, c in broken.items() if "stable" in s).measured.verdict is Verdict.FAILS


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
    }
    claims = judged(made(rows, published=[TABLE5]))
    flip = claims["Single/Flip-TTA reduces variability against All Nondeterminism Sources"]
    assert (flip.measured.verdict, flip.published.verdict) == (Verdict.HOLDS, Verdict.HOLDS)
    assert flip.measured.evidence[0][1].startswith("21%")
    assert flip.measured.evidence[1][1].startswith("17%")
    assert next(c for s, c in claims.items() if "together with" in s).measured.verdict is Verdict.HOLDS
    assert next(c for s, c in claims.items() if "ensemble of two" in s).measured.verdict is Verdict.HOLDS
    longer = next(c for s, c in claims.items() if s.startswith("Longer does not reduce"))
    assert longer.measured.verdict is Verdict.HOLDS
    assert "Appendix D" in longer.where


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

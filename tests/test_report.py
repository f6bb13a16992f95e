"""The published tables as data, and tables as they are printed."""

from __future__ import annotations

import io
import math

import pandas as pd
import pytest
from rich.console import Console

from popnet.errors import ConfigError
from popnet.report import published, published_references, render

ROW = {
    "members": 8,
    "accuracy_mean": 97.5,
    "accuracy_sd": 0.623,
    "accuracy_sd_error": 0.131,
    "cross_entropy_mean": 0.1,
    "cross_entropy_sd": 0.00741,
    "cross_entropy_sd_error": 0.0012,
    "disagreement": 2.345,
    "spearman": 0.98765,
    "pearson": 0.99,
    "ensemble_delta": 0.21,
    "ensemble_cross_entropy_delta": -0.01,
    "population": 8,
    "failed": 0,
    "marks": "",
}
SAME = {name: 0.0 if isinstance(value, float) else value for name, value in ROW.items()}


def table(**rows):
    frame = pd.DataFrame.from_dict({name.replace("_", " "): row for name, row in rows.items()}, orient="index")
    return frame.rename_axis("variant")


def printed(frame, width=80, **arguments):
    console = Console(file=io.StringIO(), width=width)
    render(frame, "a title", console=console, **arguments)
    return console.file.getvalue()


def test_published_tables():
    rows = published("summers_dinneen_2021.table1")
    assert rows.index.name == "variant"
    assert rows.loc["cuDNN", "accuracy_sd"] == 0.22
    assert rows.loc["cuDNN", "accuracy_sd_error"] == 0.01
    assert rows.loc["cuDNN", "spearman"] == 0.873
    nested = published("summers_dinneen_2021.table6.resnet6")
    assert nested.loc["Random Bit Change", "disagreement"] == 19.8
    assert math.isnan(published("summers_dinneen_2021.table5").loc["Single Model", "variability_reduction"])
    for reference in published_references():
        assert len(published(reference)), reference


def test_an_unknown_published_table_names_the_nearest():
    with pytest.raises(ConfigError, match=r"summers_dinneen_2021\.table1x.*did you mean.*summers_dinneen_2021\.table1"):
        published("summers_dinneen_2021.table1x")


def test_a_table_fits_eighty_columns_and_shows_the_published_row():
    frame = table(
        Data_Shuffling=ROW,
        Parameter_Initialization={
            **ROW,
            "failed": 1,
            "members": 7,
            "marks": ["reorder proxy", "4 groups of 2"],
        },
        Determinism={**SAME, "spearman": 1.0},
    )
    text = printed(frame, published=published("summers_dinneen_2021.table1"))
    assert max(map(len, text.splitlines())) <= 80
    lines = text.splitlines()
    row = next(line for line in lines if line.startswith("Data Shuffling"))
    assert row.split()[2:] == ["8", "97.50", "0.62±0.13", "0.0074±0.0012", "2.35", "0.988", "0.21"]
    assert lines[lines.index(row) + 1].split() == [
        "published",
        "0.25±0.02",
        "0.0082±0.0005",
        "10.60",
        "0.871",
        "1.81",
    ]
    assert "1 failed" in text
    assert "1 member failed and is not counted." in text
    assert "¹ reorder proxy" in lines
    assert "² 4 groups of 2" in lines
    determinism = next(line for line in lines if line.startswith("Determinism"))
    assert determinism.split()[3:] == ["0.00±0.00", "0.0000±0.0000", "0.00", "1", "0.00"]


def test_a_wide_table_spells_its_headers_out():
    text = printed(table(Single=ROW), width=140)
    assert "0.62 ± 0.13" in text
    assert "Members" in text
    assert "Disagree (%)" in text


def test_small_numbers_do_not_vanish():
    text = printed(table(Bit={**ROW, "cross_entropy_sd": 3e-7, "cross_entropy_sd_error": 2e-8, "spearman": 1 - 3e-9}))
    row = next(line for line in text.splitlines() if line.startswith("Bit"))
    assert "3e-07±2e-08" in row
    assert "1-3e-09" in row


def test_a_published_table_without_these_variants_says_so():
    text = printed(table(Mine=ROW), published=published("summers_dinneen_2021.table1"))
    assert "No row of the published table bears" in text


@pytest.mark.parametrize(
    ("sd", "error", "printed_as"),
    [
        (1.2345e9, 3.21e8, "1.2e+09±3e+08"),
        (1357.123, 250.6, "1357.1±250.60"),
        (13.571, 2.5, "13.571±2.5000"),
        (1e-7, 3e-8, "1e-07±3e-08"),
        (float("inf"), float("nan"), "inf"),
    ],
)
def test_no_number_takes_more_than_its_column(sd, error, printed_as):
    row = {**ROW, "cross_entropy_sd": sd, "cross_entropy_sd_error": error, "diverged": 2, "marks": ["2 of 8 diverged"]}
    lines = printed(table(Diverging=row, Data_Shuffling=ROW)).splitlines()
    line = next(line for line in lines if line.startswith("Diverging"))
    assert line.split()[5] == printed_as
    assert max(map(len, lines)) <= 80
    assert "97.50" in line, "no column vanishes"


def test_members_that_diverged_are_said_to_be_counted():
    row = {**ROW, "diverged": 2, "marks": ["2 of 8 with cross-entropy above ln 10 at 90% accuracy"]}
    text = " ".join(printed(table(Diverging=row, Data_Shuffling={**ROW, "diverged": 0})).split())
    assert "¹ 2 of 8 with cross-entropy above ln 10 at 90% accuracy" in text
    assert "1 row holds members that are no better than guessing: their numbers are counted in means and SDs" in text
    assert "diverged" not in printed(table(Data_Shuffling={**ROW, "diverged": 0}))

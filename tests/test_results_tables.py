"""Tables of others: each form gives its right value, and each that may be read in two ways its sentence."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from popnet.errors import ConfigError, DataError
from popnet.results.found import Options, Runs
from popnet.results.tables.columns import plain, role_of
from popnet.results.tables.files import Table, read_table
from popnet.results.tables.layout import groups_of_table, runs_of_table


def read(path: Path, value: str | None = None, **options: Any) -> Runs:
    (runs,) = runs_of_table(read_table(path), value, Options(**options))
    return runs


def written(folder: Path, text: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def lines(header: str, *rows: Any) -> str:
    return "\n".join([header, *(row if isinstance(row, str) else ",".join(map(str, row)) for row in rows)]) + "\n"


PLAIN = lines("seed,acc", "1,91.5", "2,92.25", "3,90.75")
VALUES = [91.5, 92.25, 90.75]

# name of the file, its content, the values of its only metric
FORMS: dict[str, tuple[str, str | bytes]] = {
    "comma": ("a.csv", PLAIN),
    "no newline at the end": ("a.csv", PLAIN.rstrip()),
    "windows": ("a.csv", PLAIN.replace("\n", "\r\n")),
    "old mac": ("a.csv", PLAIN.replace("\n", "\r")),
    "tab in csv": ("a.csv", PLAIN.replace(",", "\t")),
    "tsv": ("a.tsv", PLAIN.replace(",", "\t")),
    "bar": ("a.txt", PLAIN.replace(",", "|")),
    "semicolon": ("a.csv", PLAIN.replace(",", ";")),
    "german": ("a.csv", PLAIN.replace(",", ";").replace(".", ",")),
    "quoted decimal commas": ("a.csv", 'seed,acc\n1,"91,5"\n2,"92,25"\n3,"90,75"\n'),
    "spaces": ("a.csv", PLAIN.replace(",", " , ")),
    "blank lines": ("a.csv", "\n" + PLAIN.replace("\n", "\n\n")),
    "empty lines of a spreadsheet": ("a.csv", PLAIN + ",\n,\n"),
    "trailing comma": ("a.csv", PLAIN.replace("\n", ",\n")),
    "trailing comma but in the header": ("a.csv", "seed,acc\n" + PLAIN.partition("\n")[2].replace("\n", ",\n")),
    "several empty columns": ("a.csv", PLAIN.replace("\n", ",,\n")),
    "utf-8 with a mark": ("a.csv", PLAIN.encode("utf-8-sig")),
    "excel's unicode text": ("a.txt", PLAIN.replace(",", "\t").encode("utf-16")),
    "excel's sep": ("a.csv", "sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n")),
    "packed": ("a.csv.gz", gzip.compress(PLAIN.encode())),
    "packed tsv": ("a.tsv.gz", gzip.compress(PLAIN.replace(",", "\t").encode())),
    "pandas' row numbers": ("a.csv", ",seed,acc\n0,1,91.5\n1,2,92.25\n2,3,90.75\n"),
    "pandas' row numbers twice": ("a.csv", "Unnamed: 0,seed,acc\n0,1,91.5\n1,2,92.25\n2,3,90.75\n"),
    "R's row names": ("a.csv", '"","seed","acc"\n"1",1,91.5\n"2",2,92.25\n"3",3,90.75\n'),
    "percent signs": ("a.csv", PLAIN.replace("5\n", "5%\n")),
    "seed as a float": ("a.csv", lines("seed,acc", "1.0,91.5", "2.0,92.25", "3.0,90.75")),
    "quoted": ("a.csv", lines('"seed","acc"', '"1","91.5"', '"2","92.25"', '"3","90.75"')),
    "exponents": ("a.csv", lines("seed,acc", "1,9.15e1", "2,9.225E+01", "3,9075e-2")),
    "bookkeeping": (
        "a.csv",
        lines("seed,host,runtime,acc,notes", "1,n1,3.5,91.5,", "2,n1,3.6,92.25,x", "3,n2,3.5,90.75,"),
    ),
    "json lines": ("a.jsonl", "".join(f'{{"seed": {s}, "acc": {v}}}\n' for s, v in zip((1, 2, 3), VALUES))),
    "json lines of text": (
        "a.ndjson",
        "".join(f'{{"seed": "{s}", "acc": "{v}"}}\n' for s, v in zip((1, 2, 3), VALUES)),
    ),
    "packed json lines": (
        "a.jsonl.gz",
        gzip.compress("".join(f'{{"seed": {s}, "acc": {v}}}\n' for s, v in zip((1, 2, 3), VALUES)).encode()),
    ),
    "json": ("a.json", json.dumps([{"seed": s, "acc": v} for s, v in zip((1, 2, 3), VALUES)])),
    "json of lists": ("a.json", json.dumps({"seed": [1, 2, 3], "acc": VALUES})),
    "nested json": (
        "a.json",
        json.dumps([{"config": {"seed": s, "lr": 0.1}, "acc": v} for s, v in zip((1, 2, 3), VALUES)]),
    ),
    "constant settings": ("a.csv", lines("model,lr,seed,acc", "vit,0.1,1,91.5", "vit,0.1,2,92.25", "vit,0.1,3,90.75")),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_a_table_of_runs(form: str, tmp_path: Path) -> None:
    name, content = FORMS[form]
    runs = read(written(tmp_path, content, name))
    (sample,) = runs.samples.values()
    assert sample.values.tolist() == VALUES
    assert runs.seeds == (1, 2, 3)
    assert all(type(seed) is int for seed in runs.seeds)
    assert runs.name == name
    assert runs.ids is None
    assert list(runs.samples) == ["acc"]


BARE: dict[str, tuple[str, str]] = {
    "txt": ("a.txt", "91.5\n92.25\n90.75\n"),
    "csv": ("a.csv", "91.5\n92.25\n90.75"),
    "jsonl": ("a.jsonl", "91.5\n92.25\n90.75"),
    "json": ("a.json", "[91.5, 92.25, 90.75]"),
    "series of pandas": ("a.csv", ",0\n0,91.5\n1,92.25\n2,90.75\n"),
}


@pytest.mark.parametrize("form", BARE)
def test_bare_numbers(form: str, tmp_path: Path) -> None:
    name, content = BARE[form]
    runs = read(written(tmp_path, content, name))
    assert runs.samples["value"].values.tolist() == VALUES
    assert runs.seeds is None


# content, what the error says
BAD: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty"),
    "only a header": ("seed,acc\n", "has no rows"),
    "a row too wide": (lines("seed,acc", "1,91.5", "2,92,25"), "line 3 has 3 cells, and the header 2"),
    "a row too narrow": (lines("seed,acc,loss", "1,91.5,3", "2,92.5"), "line 3 has 2 cells, and the header 3"),
    "row names of R": (lines("seed,acc", "a,1,91.5", "b,2,92.5"), "row.names = FALSE"),
    "one column with decimal commas": (lines("acc", "91,5", "92,5"), "the header has 1 names and every line 2"),
    "two delimiters": (lines("seed,acc;x", "1,5;2", "2,5;3"), "split by comma and by semicolon"),
    "a name twice": (lines("seed,acc,acc", "1,91.5,3"), "two columns are called 'acc'"),
    "a column without a name": (lines("seed,,acc", "1,5,91.5"), "column 2 has no name"),
    "an index that counts nothing": (lines(",acc", "5,91.5", "9,91.5"), "column 1 has no name"),
    "no header": (lines("1,91.5", "2,92.5"), "give the 2 columns names"),
    "no header beside text": (lines("a,91.5", "b,92.5"), "a column is called '91.5'"),
    "seeds as columns": (lines("model,1,2", "vit,91.5,92.5"), "each run have a row"),
    "pandas' name of a column": ("0\n91.5\n92.5\n", "its first line, 0, is a number or pandas' name"),
    "latin 1": ("seed,größe\n1,2\n".encode("latin-1"), "is not UTF-8"),
    "utf-16 without a mark": (PLAIN.encode("utf-16-le"), "holds NUL characters"),
    "a quote without end": ('seed,acc\n1,"91.5\n', "cannot be read"),
    "thousands or decimals": (lines("seed;loss", "1;1,234", "2;2,345"), "'1,234', which may be thousands or"),
    "thousands": (lines("seed;loss", "1;1,234.5", "2;2,345.5"), "without thousands separators"),
    "german thousands": (lines("seed;loss", "1;1.234,5", "2;2.345,5"), "without thousands separators"),
    "points and commas": (lines("seed;acc", "1;91,5", "2;92.5"), "holds both '92.5' and '91,5'"),
    "some percent signs": (lines("seed,acc", "1,91.5%", "2,92.5"), "a percent sign in some rows"),
    "nan": (lines("seed,acc", "1,91.5", "2,nan"), r"row 2 \(seed 2\): acc is nan"),
    "infinite": (lines("seed,loss", "1,inf", "2,1"), r"row 1 \(seed 1\): loss is inf"),
    "beyond float64": (lines("seed,loss", "1,1e999", "2,1"), r"row 1 \(seed 1\): loss is 1e999"),
    "an empty cell": (lines("seed,acc", "1,91.5", "2,"), r"row 2 \(seed 2\): acc is empty"),
    "NA": (lines("seed,acc", "1,91.5", "2,NA"), r"row 2 \(seed 2\): acc is NA"),
    "a seed missing": (lines("seed,acc", "1,91.5", ",92.5"), "row 2: `seed` is empty"),
    "several metrics": (lines("seed,acc,f1", "1,91.5,3", "2,92.5,4"), "holds `acc`, `f1`: say which with --metric"),
    "no metric": (lines("seed,model", "1,a", "2,a"), "no column of numbers can be a metric"),
    "two seeds": (lines("init_seed,data_seed,acc", "1,2,91", "2,1,92"), "say which with --seed-column"),
    "a seed twice": (
        lines("seed,acc", "1,91.5", "1,92.5"),
        r"`seed` 1 is in 2 rows \(row 1, row 2\), and no other column",
    ),
    "models": (lines("model,acc", "vit,91.5", "resnet,92.5"), r"differ in `model` \(vit, resnet\)"),
    "models of different seeds": (lines("model,seed,acc", "a,1,3", "a,2,4", "b,3,5", "b,4,6"), "differ in `model`"),
    "a setting": (lines("lr,seed,acc", "0.1,1,3", "0.2,2,4"), r"differ in `lr` \(0.1, 0.2\)"),
    "a text that repeats": (lines("flavour,acc", "x,3", "x,4", "y,5", "y,6"), "differ in `flavour`"),
    "a number of the rows": (lines("nr,score", "1,3.5", "2,4.5", "3,1.5"), "holds `nr`, `score`"),
    "a factor without a known name": (
        lines("seed,blur,acc", "1,0,3", "2,0,4", "3,5,5", "4,5,6"),
        "holds `blur`, `acc`",
    ),
    "crashed runs": (
        lines("Name,State,acc", "a,finished,3", "b,crashed,4"),
        "differ in `State`.*--where 'State=finished'",
    ),
    "a history": (lines("seed,epoch,acc", "1,1,3", "1,2,4", "2,1,5", "2,2,6"), "steps of 2 runs.*--last"),
    "a history of one run": (lines("epoch,acc", "1,3", "2,4", "3,5"), "no column tells runs apart"),
    "bare ids": (lines("id,acc", "1,3.5", "2,4.5"), "`id` may identify runs or examples"),
    "questions": (lines("question,score", "why?,1.5", "how?,2.5"), "look like examples, by `question`"),
    "right or wrong without ids": (lines("exact_match", "1", "0", "1"), "0 or 1 in each row"),
    "names of configurations": (lines("name,seed,acc", "a,1,3", "a,2,4", "b,3,5", "b,4,6"), "differ in `name`"),
    "labels of configurations": (lines("label,acc", "a,3", "a,4", "b,5", "b,6"), "differ in `label`"),
    "right or wrong by name": (lines("name,correct", "a,1", "b,0", "c,1"), "`correct` is 0 or 1 in each row"),
    "many names": (
        lines("utterance,wer", *(f"u{i},{i / 7}" for i in range(200))),
        "`utterance` may name runs, examples or models",
    ),
    "parted by spaces": ("seed acc\n1 91.5\n2 92.5\n", "parted by spaces alone"),
    "folds": (lines("fold,acc", "1,3", "2,4"), "differ in `fold`"),
    "lists that repeat": ('layers;acc\n"[1, 2]";3\n"[1, 2]";4\n"[3]";5\n', "differ in `layers`"),
    "chart of W&B": (lines("Step,a - acc,a - acc__MIN,b - acc", "1,3,3,4", "2,4,4,5"), "export the table of runs"),
    "chart of W&B without ranges": (lines("Step,a - acc,b - acc", "1,3,4", "2,4,5"), "export the table of runs"),
    "a cluster of runs": (PLAIN, "--cluster groups examples"),
    "a small percent": (lines("seed,error_rate", "1,0.9%", "2,0.8%"), "say --scale percent"),
}


@pytest.mark.parametrize("fault", BAD)
def test_faults_of_a_table_of_runs(fault: str, tmp_path: Path) -> None:
    content, sentence = BAD[fault]
    options = {"cluster": "seed"} if fault == "a cluster of runs" else {}
    path = written(tmp_path, content)
    with pytest.raises((ConfigError, DataError), match=sentence) as error:
        read(path, **options)
    assert str(error.value).startswith(str(path))


def test_other_files(tmp_path: Path) -> None:
    for name, content, sentence in (
        ("a.json", "{", "is no JSON"),
        ("a.json", '{"acc": 3}', "must hold a list of objects"),
        ("a.json", '{"acc": [3], "seed": [1, 2]}', "different lengths"),
        ("a.json", "[[1, 2]]", "entry 1 is a list"),
        ("a.json", "[]", "is empty"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.jsonl", '{"acc": 3}\n{"acc": ', "line 2 is no JSON"),
        ("a.jsonl", '{"acc": 3}\n\n5', "line 3 is a number"),
        ("a.json", '[{"a": {"b": 1}, "a.b": 2}]', "holds 'a.b' twice"),
        ("a.json", '[{"seed": 1, "acc": NaN}]', r"row 1 \(seed 1\): acc is nan"),
        ("a.json", '[{"seed": 1, "acc": null}, {"seed": 2, "acc": 1}]', r"row 1 \(seed 1\): acc is empty"),
        ("a.json", '[{"seed": 1, "acc": 3}, {"seed": 2}]', r"row 2 \(seed 2\): acc is empty"),
        ("a.csv.gz", "seed,acc", "cannot be read as a table"),
        ("a.parquet", "seed,acc", "cannot be read as Parquet"),
        ("a.csv.gz", gzip.compress(b"seed,acc\n1,2\n")[:-9].decode("latin-1").encode("latin-1"), "cannot be read as"),
    ):
        with pytest.raises((ConfigError, DataError), match=sentence):
            read(written(tmp_path, content, name))
    with pytest.raises(DataError, match="there is no such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match="no regular file"):
        read_table(Path("/dev/null"))


def test_a_packed_file_is_unpacked_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, gzip.compress(b"0" * 1_000_000), "a.csv.gz")
    monkeypatch.setattr("popnet.results.tables.files.available_memory", lambda: 1_000_000)
    with pytest.raises(DataError, match="half of the available memory"):
        read_table(path)


def test_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"seed": [1, 2, 3], "acc": VALUES, "note": ["x", None, "y"]})
    frame.to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").samples["acc"].values.tolist() == VALUES
    nested = pd.DataFrame({"config": [{"seed": 1, "lr": 0.1}, {"seed": 2, "lr": 0.1}], "acc": [1.5, None]})
    nested.to_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"row 2 \(config.seed 2\): acc is empty"):
        read(tmp_path / "b.parquet")
    frame.set_index("seed").to_parquet(tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet").seeds == (1, 2, 3)
    frame[::-1].to_parquet(tmp_path / "d.parquet")
    assert read(tmp_path / "d.parquet").seeds == (3, 2, 1)


def test_frames() -> None:
    def of(frame: pd.DataFrame, **options: Any) -> Runs:
        (runs,) = runs_of_table(Table.of_frame(frame, "A"), None, Options(**options))
        return runs

    frame = pd.DataFrame({"seed": [1, 2, 3], "acc": VALUES})
    assert of(frame).samples["acc"].values.tolist() == VALUES
    assert of(frame[1:]).seeds == (2, 3)
    assert of(frame.set_index("seed")).seeds == (1, 2, 3)
    assert of(frame.convert_dtypes()).seeds == (1, 2, 3)
    assert of(frame.astype({"seed": float})).seeds == (1, 2, 3)
    with pytest.raises(DataError, match=r"A: row 2 \(seed 2\): acc is nan"):
        of(pd.DataFrame({"seed": [1, 2], "acc": [1.0, np.nan]}))
    with pytest.raises(DataError, match=r"A: row 2 \(seed 2\): acc is empty"):
        of(pd.DataFrame({"seed": [1, 2], "acc": pd.array([1, None], dtype="Int64")}))
    with pytest.raises(DataError, match="several levels"):
        of(pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])))
    with pytest.raises(DataError, match="two columns are called 'a'"):
        of(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    tidy = pd.DataFrame({"model": pd.Categorical(["a", "a", "b"]), "acc": VALUES})
    with pytest.raises(ConfigError, match="differ in `model`"):
        of(tidy)
    grouped = frame.assign(model="a").set_index(["model", "seed"])
    assert of(grouped).seeds == (1, 2, 3)


def test_marks_say_what_was_done(tmp_path: Path) -> None:
    for content, mark in (
        (PLAIN.replace("\n", ",\n"), "a delimiter at the end of each line was left out"),
        (PLAIN.replace(",", ";").replace(".", ","), "`acc` has decimal commas"),
        (PLAIN.replace("5\n", "5%\n"), "`acc` has percent signs"),
        (lines("Name,State,acc", "red-fox-1,crashed,3", "icy-oak-2,crashed,4"), "the `State` of all runs is crashed"),
    ):
        assert read(written(tmp_path, content)).marks == (mark,)


def test_decimal_commas_that_can_be_nothing_else(tmp_path: Path) -> None:
    assert read(written(tmp_path, "seed;acc\n1;0,934\n2;0,912\n")).samples["acc"].values.tolist() == [0.934, 0.912]
    assert read(written(tmp_path, "seed;loss\n1;1,234\n2;1,2\n")).samples["loss"].values.tolist() == [1.234, 1.2]
    with pytest.raises(DataError, match="points where other columns have decimal commas"):
        read(written(tmp_path, "seed;acc;loss\n1;91,5;1.234\n2;92,5;2.345\n"), metrics=("loss",))


# Groups.


@pytest.fixture
def tidy(tmp_path: Path) -> Path:
    """94 experiments, 5 seeds each."""
    rows = [(f"e{e}", seed, e + seed / 10) for e in range(94) for seed in range(5)]
    return written(tmp_path, lines("experiment,seed,score", *rows), "tidy.csv")


def test_a_tidy_table_is_no_population(tidy: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"`seed` 0 is in 94 rows .*, as 4 more repeat.* differ in `experiment` .*--group 'experiment'",
    ):
        read(tidy)
    with pytest.raises(ConfigError, match=r"differ in `experiment` \(e0, e1, e2, e3, e4 and 89 more\).*--ignore"):
        read(tidy)
    runs = read(tidy, "e7")
    assert runs.name == "tidy.csv:e7"
    assert runs.samples["score"].values.tolist() == [7.0, 7.1, 7.2, 7.3, 7.4]
    assert runs.seeds == (0, 1, 2, 3, 4)
    assert read(tidy, where=(("experiment", " e7"),)).samples["score"].values.tolist() == [7.0, 7.1, 7.2, 7.3, 7.4]
    assert groups_of_table(read_table(tidy), Options(group="experiment")) == [f"e{e}" for e in range(94)]
    ignoring = read(tidy, ignore=("experiment",))
    assert ignoring.count == 470
    assert len(set(ignoring.seeds or ())) == 470


@pytest.mark.parametrize(
    ("value", "options", "sentence"),
    [
        ("e99", {}, "no group is called 'e99'; `experiment` has e0, e1"),
        ("e99", {"group": "experiment"}, r"no `experiment` is 'e99'; did you mean"),
        ("e7", {"group": "experimant"}, "no column 'experimant', which --group names; did you mean 'experiment'"),
        (None, {"where": (("experimant", "e7"),)}, "no column 'experimant', which --where names; did you mean"),
        (None, {"where": (("experiment", "e99"),)}, "no row has experiment=e99.*its values: e0, e1"),
        ("e7", {"metrics": ("scores",)}, "no column 'scores', which --metric names; did you mean 'score'"),
        ("e7", {"metrics": ("experiment",)}, "`experiment` is 'e7', no number"),
        ("e7", {"seed_column": "sed"}, "no column 'sed', which --seed-column names; did you mean 'seed'"),
        ("e7", {"id_column": "x"}, "no column 'x', which --id-column names"),
        ("e7", {"ignore": ("x",)}, "no column 'x', which --ignore names"),
        ("e7", {"task_column": "x"}, "no column 'x', which --task-column names"),
    ],
)
def test_what_is_asked_for_and_not_there(tidy: Path, value: str | None, options: Any, sentence: str) -> None:
    with pytest.raises((ConfigError, DataError), match=sentence):
        read(tidy, value, **options)


def test_a_value_in_two_columns(tmp_path: Path) -> None:
    path = written(tmp_path, lines("a,b,acc", "x,y,1", "x,z,2", "y,x,3", "y,z,4"))
    with pytest.raises(ConfigError, match="'x' is a value of `a`, `b`: say which with --group"):
        read(path, "x")
    assert read(path, "x", group="a", ignore=("b",)).samples["acc"].values.tolist() == [1, 2]


def test_where_compares_numbers_as_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, lines("lr,seed,acc", "0.10,1,3", "1e-1,2,4", "0.2,1,5", "0.2,2,6"))
    assert read(path, where=(("lr", "0.1"),)).samples["acc"].values.tolist() == [3, 4]
    assert read(path, "0.2", group="lr").samples["acc"].values.tolist() == [5, 6]
    with pytest.raises(ConfigError, match=r"`seed` 1 is in 2 rows.*differ in `lr`.*--where 'lr="):
        read(path)


def test_rows_that_are_left_out_may_hold_anything(tmp_path: Path) -> None:
    path = written(tmp_path, lines("State,seed,acc", "finished,1,3", "finished,2,4", "crashed,3,diverged"))
    assert read(path, where=(("State", "finished"),), metrics=("acc",)).samples["acc"].values.tolist() == [3, 4]
    with pytest.raises((ConfigError, DataError)):
        read(path, metrics=("acc",))


def test_factors_without_known_names_stop_runs_too(tmp_path: Path) -> None:
    path = written(tmp_path, lines("seed,blur,acc", "1,0,3", "2,0,4", "3,5,5", "4,5,6"))
    with pytest.raises(ConfigError, match="differ in `blur`"):
        read(path, metrics=("acc",))
    assert read(path, metrics=("acc",), ignore=("blur",)).count == 4
    assert read(path, metrics=("acc",), where=(("blur", "5"),)).samples["acc"].values.tolist() == [5, 6]


def test_numbers_of_rows_are_runs_or_examples(tmp_path: Path) -> None:
    path = written(tmp_path, lines("nr,score", "1,3.5", "2,4.5", "3,1"))
    with pytest.raises(
        ConfigError, match="`nr` may number runs or examples: say --seed-column 'nr' or --id-column 'nr'"
    ):
        read(path, metrics=("score",))
    assert read(path, seed_column="nr").seeds == (1, 2, 3)
    assert read(path, id_column="nr").samples["score"].values.tolist() == [3]


def test_a_number_that_names_a_group(tmp_path: Path) -> None:
    path = written(tmp_path, lines("width,seed,acc", "64,1,3", "64,2,4", "128,1,5", "128,2,6"))
    with pytest.raises(ConfigError, match="'128' is a number in `width`: say --group 'width'"):
        read(path, "128")
    assert read(path, "128", group="width").samples["acc"].values.tolist() == [5, 6]


# Histories.


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """3 seeds, 10 epochs each, the last rows first."""
    rows = [(seed, epoch, seed + epoch) for seed in (1, 2, 3) for epoch in range(10, 0, -1)]
    return written(tmp_path, lines("seed,epoch,acc", *rows), "history.csv")


def test_the_epochs_of_a_run_are_no_runs(history: Path) -> None:
    with pytest.raises(ConfigError, match=r"steps of 3 runs, by `epoch` and `seed`: --last takes the last row of each"):
        read(history)
    runs = read(history, last=True)
    assert runs.samples["acc"].values.tolist() == [11, 12, 13]
    assert runs.seeds == (1, 2, 3)
    assert runs.marks == ("the last row of each run was taken (epoch 10)",)
    assert read(history, where=(("epoch", "4"),)).samples["acc"].values.tolist() == [5, 6, 7]


def test_the_last_row_that_has_the_metric(tmp_path: Path) -> None:
    rows = ["1,1,3,", "1,2,,9", "2,1,4,", "2,2,5,", "2,3,,9"]
    runs = read(written(tmp_path, lines("seed,step,val_acc,loss", *rows)), last=True, metrics=("val_acc",))
    assert runs.samples["val_acc"].values.tolist() == [3, 5]
    assert runs.marks == ("the last row of each run was taken (step 1, 2: the runs end at different ones)",)
    with pytest.raises(DataError, match="no row of `seed` 1 has `val_acc`"):
        read(written(tmp_path, lines("seed,step,val_acc", "1,1,", "1,2,", "2,1,4")), last=True)
    with pytest.raises(DataError, match=r"row 2 \(seed 1\): val_acc is nan"):
        read(written(tmp_path, lines("seed,step,val_acc", "1,1,2", "1,2,nan", "2,1,4")), last=True)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lines("model,seed,epoch,acc", "a,1,1,3", "a,1,2,4", "b,1,1,5", "b,1,3,6"), "differ in `model`"),
        (lines("phase,seed,epoch,acc", "train,1,1,3", "val,1,1,4", "train,2,1,5", "val,2,1,6"), "`phase`"),
        (lines("phase,seed,epoch,acc", "train,1,1,3", "val,1,2,4", "train,2,1,5", "val,2,2,6"), "`phase`"),
        (lines("seed,epoch,acc", "1,1,3", "1,2,4", "1,2,5"), "seed` 1 has 2 rows at its last `epoch`, 2"),
        (lines("epoch,acc", "1,3", "2,4", "3,5"), "--ignore 'epoch' where each row is a run"),
    ],
)
def test_last_rows_that_are_not_of_one_run(content: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, DataError), match=sentence):
        read(written(tmp_path, content), last=True)


def test_an_epoch_beside_each_run_is_no_history(tmp_path: Path) -> None:
    path = written(tmp_path, lines("seed,epoch,acc", "1,37,3", "2,41,4", "3,37,5"))
    assert read(path).samples["acc"].values.tolist() == [3, 4, 5]
    path = written(tmp_path, lines("epoch,acc", "37,3", "41,4", "37,5"))
    assert read(path, ignore=("epoch",)).samples["acc"].values.tolist() == [3, 4, 5]


# Exports of trackers.

WANDB = lines(
    '"Name","State","Notes","User","Tags","Created","Runtime","Sweep","lr","seed","val/accuracy","val/loss"',
    '"deft-sun-1","finished","-","ana","","2024-01-01","100","","0.1","1","0.91","0.31"',
    '"calm-sea-2","finished","-","ana","","2024-01-02","101","","0.1","2","0.92","0.32"',
    '"red-fox-3","finished","-","bo","","2024-01-03","102","","0.2","1","0.93","0.33"',
    '"icy-oak-4","crashed","-","bo","","2024-01-04","12","","0.2","2","","0.34"',
    '"icy-oak-5","finished","-","bo","","2024-01-04","103","","0.2","2","0.94","0.34"',
)
MLFLOW = lines(
    "Start Time,Duration,Run ID,Name,Source Type,Source Name,User,Status,params.lr,params.seed,metrics.val_acc",
    "2024-01-01,1min,aa11,gifted-1,LOCAL,t.py,ana,FINISHED,0.1,1,0.91",
    "2024-01-01,1min,bb22,gifted-2,LOCAL,t.py,ana,FINISHED,0.1,2,0.92",
    "2024-01-01,1min,cc33,gifted-3,LOCAL,t.py,ana,FINISHED,0.2,1,0.93",
    "2024-01-01,1min,dd44,gifted-4,LOCAL,t.py,ana,FINISHED,0.2,2,0.94",
)


def test_wandb_export(tmp_path: Path) -> None:
    path = written(tmp_path, WANDB)
    with pytest.raises(ConfigError, match="holds `val/accuracy`, `val/loss`: say which with --metric"):
        read(path)
    wanted: dict[str, Any] = {"metrics": ("val/accuracy",)}
    with pytest.raises(ConfigError, match=r"`seed` 1 is in 2 rows.*differ in `lr` \(0.1, 0.2\)"):
        read(path, **wanted)
    with pytest.raises(ConfigError, match="differ in `State`"):
        read(path, where=(("lr", "0.2"),), **wanted)
    runs = read(path, where=(("lr", "0.2"), ("State", "finished")), **wanted)
    assert runs.samples["val/accuracy"].values.tolist() == [0.93, 0.94]
    assert runs.seeds == (1, 2)
    with pytest.raises(DataError, match=r"row 4 \(seed 2\): val/accuracy is empty"):
        read(path, where=(("lr", "0.2"), ("State", "crashed")), **wanted)
    assert read(path, "calm-sea-2", **wanted).samples["val/accuracy"].values.tolist() == [0.92]


def test_mlflow_export(tmp_path: Path) -> None:
    path = written(tmp_path, MLFLOW)
    with pytest.raises(ConfigError, match=r"`params.seed` 1 is in 2 rows.*differ in `params.lr`"):
        read(path)
    runs = read(path, where=(("params.lr", "0.2"),))
    assert runs.samples["metrics.val_acc"].values.tolist() == [0.93, 0.94]
    assert runs.seeds == (1, 2)


def test_names_of_runs_are_seeds_where_there_are_none(tmp_path: Path) -> None:
    assert read(written(tmp_path, lines("Name,acc", "run-1,3", "run-2,4"))).seeds == ("run-1", "run-2")
    assert read(written(tmp_path, lines("Name,Created,acc", "red-fox-1,x,3", "icy-oak-2,y,4"))).seeds == (
        "red-fox-1",
        "icy-oak-2",
    )
    assert read(written(tmp_path, lines("trial,acc", "1,3", "2,4"))).seeds == (1, 2)
    assert read(written(tmp_path, lines("run,acc", "one,3", "two,4"))).seeds == ("one", "two")
    named = read(written(tmp_path, lines("what,acc", "vit seed=3,3", "vit seed=4,4")))
    assert named.seeds == ("vit seed=3", "vit seed=4")
    assert named.marks == ("`what` was taken for the runs' names",)
    assert read(written(tmp_path, lines("id,acc", "x1,3", "x2,4")), seed_column="id").seeds == ("x1", "x2")
    assert read(written(tmp_path, lines("Name,ID,seed,acc", "a,x1,5,3", "b,x2,6,4"))).seeds == (5, 6)
    with pytest.raises(DataError, match=r"`Name` a is in 2 rows \(row 1, row 2\), as 1 more repeat"):
        read(written(tmp_path, lines("Name,acc", "a,3", "a,4", "b,5", "b,6")))


HISTORY = {"loss": [0.9, 0.7, 0.6, 0.5], "accuracy": [0.5, 0.6, 0.7, 0.75]}
KERAS = {**HISTORY, "val_accuracy": [0.5, 0.55, 0.6, 0.58], "val_loss": [0.9, 0.8, 0.85, 0.8]}


def test_histories_without_epochs_are_no_runs(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    pd.DataFrame(KERAS).to_csv(path)
    wanted: dict[str, Any] = {"metrics": ("val_accuracy",)}
    with pytest.raises(ConfigError, match=r"rows may be epochs, since they hold `loss`, `val_loss`.*add a seed column"):
        read(path, **wanted)
    pd.DataFrame({**KERAS, "seed": [1, 2, 3, 4]}).to_csv(path)
    assert read(path, **wanted).count == 4
    for names in ("train_acc,valid_acc", "train/acc,test/acc", "acc_train,acc_val", "Train Acc,Test Acc"):
        with pytest.raises(ConfigError, match="rows may be epochs"):
            read(written(tmp_path, lines(names, "1,2", "2,3")), metrics=(names.partition(",")[0],))
    assert read(written(tmp_path, lines("final_train_acc,final_test_acc", "1,2", "2,3")), metrics=("final_test_acc",))
    falling = lines("loss,accuracy", *(f"{1 / e},{e}" for e in range(1, 7)))
    with pytest.raises(ConfigError, match="`loss` falls from each to the next"):
        read(written(tmp_path, falling), metrics=("accuracy",))


def test_histories_one_below_the_other_are_no_runs(tmp_path: Path) -> None:
    frame = pd.concat([pd.DataFrame(HISTORY), pd.DataFrame(HISTORY)])
    frame.to_csv(tmp_path / "a.csv")
    with pytest.raises(DataError, match="no name and counts the rows more than once"):
        read(tmp_path / "a.csv", metrics=("accuracy",))
    frame.to_parquet(tmp_path / "a.parquet")
    tables = read_table(tmp_path / "a.parquet"), Table.of_frame(frame, "A")
    for table in tables:
        with pytest.raises(ConfigError, match="an index without a name counts them more than once"):
            runs_of_table(table, None, Options(metrics=("accuracy",)))
    single = pd.concat([pd.DataFrame({"accuracy": [value]}) for value in VALUES])
    (runs,) = runs_of_table(Table.of_frame(single, "A"), None, Options())
    assert runs.count == 3


@pytest.mark.parametrize(
    ("header", "names"),
    [
        *((f"{name},score", ("x", "y", "z")) for name in ("patient", "image", "class", "language", "subject", "when")),
        ("category,acc", ("a", "b")),
        ("classifier,accuracy", ("svm", "forest")),
        ("label,iou", ("cat", "dog")),
        ("label,iou", ("0", "1", "2")),
        ("nr,iou", ("17", "3", "24")),
        ("when,accuracy", ("epoch 0", "epoch 1")),
        ("ckpt_path,accuracy", ("run1/1000.pt", "run1/2000.pt")),
        ("path,iou", ("a.png", "b.png")),
        ("timestamp,accuracy", ("1.5", "2.5", "9.5")),
        ("name,accuracy", ("resnet18", "resnet50", "vit")),
        ("name,accuracy", ("resnet18", "resnet50")),
        ("name,accuracy", ("vit-base-16", "vit-large-16")),
        ("Run Name,accuracy", ("baseline", "wide")),
        ("number,value", ("0", "1", "2")),
    ],
)
def test_names_that_may_be_of_examples_or_models(header: str, names: tuple[str, ...], tmp_path: Path) -> None:
    column, _, metric = header.partition(",")
    path = written(tmp_path, lines(header, *(f"{name},{80 + 3 * i**2}" for i, name in enumerate(names))))
    with pytest.raises(ConfigError, match=f"`{column}`.*--seed-column '{column}' or --id-column '{column}'"):
        read(path, metrics=(metric,))
    assert read(path, metrics=(metric,), seed_column=column).count == len(names)
    assert read(path, metrics=(metric,), id_column=column).examples == len(names)


def test_a_name_beside_a_run_may_be_a_models(tmp_path: Path) -> None:
    path = written(tmp_path, lines("run_id,Name,acc", "ab1,resnet,3", "cd2,vit,4"))
    with pytest.raises(ConfigError, match=r"`Name` \(resnet, vit\) may name runs, examples or models"):
        read(path)
    assert read(path, ignore=("Name",)).seeds == ("ab1", "cd2")


@pytest.mark.parametrize("key", ["mean", "AVERAGE", "Std. Dev", "average of runs", "Total:", "25%", "mean ± SD"])
def test_a_row_below_that_sums_up(key: str, tmp_path: Path) -> None:
    for column in ("seed", "run", "run_id"):
        with pytest.raises(DataError, match=f"row 4: `{column}` is .*as if the row summed up others"):
            read(written(tmp_path, lines(f"{column},acc", "1,91.5", "2,92.25", "3,90.75", f"{key},91.5")))
    for column in ("seed,id", "id,seed"):
        with pytest.raises(DataError, match=r"row 3: .*as if the row summed up others"):
            read(written(tmp_path, lines(f"{column},f1", "1,2,0.5", "1,3,0.75", f"{key},{key},0.6")), id_column="id")
    with pytest.raises(DataError, match=r"row 2: `task` is .*as if the row summed up others"):
        read(written(tmp_path, lines("task,acc", "arc,91.5", f"{key},92.25")))
    pd.DataFrame({"acc": VALUES}).describe().to_csv(tmp_path / "b.csv", index_label="stat")
    with pytest.raises(ConfigError, match="`stat` may name runs, examples or models"):
        read(tmp_path / "b.csv")
    assert read(written(tmp_path, lines("run,acc", "mean-teacher,91.5", "maxout,92.25"))).count == 2


def test_many_bare_numbers_may_be_examples(tmp_path: Path) -> None:
    values = [i**0.5 for i in range(1000)]
    text = "".join(f"{value}\n" for value in values)
    for name, content in (
        ("a.txt", text),
        ("a.csv", f"score\n{text}"),
        ("a.json", json.dumps(values)),
        ("a.json", json.dumps({"score": values})),
    ):
        with pytest.raises(ConfigError, match=r"1,000 rows may be runs or examples.*--seed-column or --id-column"):
            read(written(tmp_path, content, name))
    assert read(written(tmp_path, text.partition("\n")[2][:500].rpartition("\n")[0], "a.txt")).count < 100


OPTUNA = lines(
    "number,value,datetime_start,datetime_complete,duration,params_lr,user_attrs_note,user_attrs_accuracy,state",
    "0,0.5,2024-01-01 10:00,2024-01-01 10:05,0 days 00:05,0.1,a,3,COMPLETE",
    "1,0.4,2024-01-01 10:05,2024-01-01 10:10,0 days 00:05,0.2,b,4,COMPLETE",
    "2,0.6,2024-01-01 10:10,2024-01-01 10:15,0 days 00:05,0.3,c,5,COMPLETE",
)


def test_trials_of_optuna_are_not_runs_of_one_population(tmp_path: Path) -> None:
    path = written(tmp_path, OPTUNA)
    with pytest.raises(ConfigError, match="`number` may identify runs or examples"):
        read(path)
    with pytest.raises(ConfigError, match=r"differ in `params_lr` \(0.1, 0.2, 0.3\); also `user_attrs_note`"):
        read(path, seed_column="number", metrics=("value",))
    told: dict[str, Any] = {"seed_column": "number", "ignore": ("params_lr", "user_attrs_note")}
    assert read(path, metrics=("value",), **told).samples["value"].values.tolist() == [0.5, 0.4, 0.6]
    assert read(path, metrics=("user_attrs_accuracy",), **told).samples["user_attrs_accuracy"].values[0] == 3
    for name in ("param_C", "config_x", "hparams_x"):
        with pytest.raises(ConfigError, match=f"differ in `{name}`"):
            read(written(tmp_path, lines(f"run,{name},acc", "1,0.5,3", "2,0.7,4")), metrics=("acc",))


def test_metrics_in_percent(tmp_path: Path) -> None:
    assert read(written(tmp_path, PLAIN)).percent == frozenset()
    assert read(written(tmp_path, PLAIN.replace("5\n", "5%\n"))).percent == {"acc"}
    for name in ("err (%)", "acc_pct", "accuracy percent", "AccuracyPercentage"):
        assert read(written(tmp_path, PLAIN.replace("acc", name))).percent == {name}
    path = written(tmp_path, lines("doc_id,score", "a,50%", "b,75%"))
    assert read(path).percent == {"score"}
    long = written(tmp_path, lines("seed,metric,value", "1,acc,91%", "2,acc,92%"))
    assert read(long).percent == {"acc"}


def test_points_that_may_divide_thousands(tmp_path: Path) -> None:
    for rows in (("1.523", "998", "2.101"), ("1.523", "2", "2.101")):
        path = written(tmp_path, lines("seed;score", *(f"{s};{value}" for s, value in enumerate(rows))))
        with pytest.raises(DataError, match=r"`score` holds '\d+' and '1.523', whose point may divide thousands"):
            read(path)
    with pytest.raises(DataError, match="whose point may divide thousands"):
        read(written(tmp_path, "seed\tscore\n1\t1.523\n2\t998\n", "a.tsv"))
    rows = ["a;1;1.523", "a;2;998", "b;1;x"]  # rows that are left out hold text
    with pytest.raises(DataError, match="whose point may divide thousands"):
        read(written(tmp_path, lines("way;seed;score", *rows)), "a", metrics=("score",))
    for content in ("seed;score\n1;0.523\n2;1\n", "seed;score\n1;1.523\n2;2.101\n", "seed,score\n1,1.523\n2,2\n"):
        assert read(written(tmp_path, content)).samples["score"].values[0] in (0.523, 1.523)


def test_sources_that_share_rows_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, lines("model,seed,acc", "a,1,3", "b,1,5", "a,2,4", "b,2,6"))
    whole, part, other = read(path, ignore=("model",)).rows, read(path, "a").rows, read(path, "b").rows
    assert whole is not None
    assert part is not None
    assert other is not None
    assert part < whole
    assert whole == part | other
    assert not part & other
    monkeypatch.chdir(tmp_path)
    assert read(Path("a.csv"), "a").rows == part
    (frame,) = runs_of_table(Table.of_frame(pd.DataFrame({"acc": VALUES}), "A"), None, Options())
    assert frame.rows is None
    rows = [f"{m},{s},{i},{(s + i) % 2}" for m in "xy" for s in (1, 2) for i in (5, 4, 3)]
    path = written(tmp_path, lines("model,seed,id,correct", *rows), "b.csv")
    one, two = read(path, "x"), read(path, where=(("model", "x"), ("seed", "1")))
    assert one.rows is not None
    assert two.rows is not None
    assert (len(one.rows), len(two.rows), two.rows <= one.rows) == (2, 1, True)
    assert not one.rows & (read(path, "y").rows or frozenset())
    long = written(tmp_path, lines("model,seed,metric,value", "a,1,f1,3", "b,1,f1,4", "a,2,f1,5", "b,2,f1,6"), "c.csv")
    assert (read(long, "a").rows or frozenset()) < (read(long, ignore=("model",)).rows or frozenset())


def test_precision_is_a_metric_or_a_width(tmp_path: Path) -> None:
    path = written(tmp_path, lines("seed,precision,recall,f1", "1,0.5,0.6,0.7", "2,0.55,0.65,0.75"))
    assert read(path, metrics=("f1",)).samples["f1"].values.tolist() == [0.7, 0.75]
    assert read(path, metrics=("precision",)).samples["precision"].values.tolist() == [0.5, 0.55]
    for widths in (("16", "32"), ("fp16", "bf16"), ("200", "300")):
        rows = [f"{s},{width},0.5" for s, width in enumerate(widths)]
        with pytest.raises(ConfigError, match="differ in `precision`"):
            read(written(tmp_path, lines("seed,precision,f1", *rows)), metrics=("f1",))


# Long tables and tasks.


def test_one_metric_a_row(tmp_path: Path) -> None:
    rows = [(s, m, s + v) for s in (1, 2, 3) for m, v in (("acc", 90), ("loss", 0.5))]
    path = written(tmp_path, lines("seed,metric,value", *rows))
    with pytest.raises(ConfigError, match="holds acc, loss, one a row: say which with --metric"):
        read(path)
    assert read(path, metrics=("loss",)).samples["loss"].values.tolist() == [1.5, 2.5, 3.5]
    both = read(path, metrics=("loss", "acc"))
    assert {m: s.values.tolist() for m, s in both.samples.items()} == {"loss": [1.5, 2.5, 3.5], "acc": [91, 92, 93]}
    with pytest.raises(ConfigError, match="no `metric` is 'los'; did you mean 'loss'"):
        read(path, metrics=("los",))
    unequal = written(tmp_path, lines("seed,metric,value", *rows[:-1]))
    with pytest.raises(DataError, match="loss and acc are of different runs"):
        read(unequal, metrics=("loss", "acc"))
    late = written(tmp_path, lines("seed,metric,value", *rows[:-1], "3,loss,nan"))
    with pytest.raises(DataError, match=r"row 6 \(seed 3\): loss is nan"):
        read(late, metrics=("loss",))


def test_tasks_are_read_one_by_one(tmp_path: Path) -> None:
    path = written(tmp_path, lines("task,seed,acc", "arc,1,3", "arc,2,4", "gsm,1,5", "gsm,2,6", "gsm,3,7"))
    found = runs_of_table(read_table(path), None, Options())
    assert [(r.task, r.samples["acc"].values.tolist(), r.seeds) for r in found] == [
        ("arc", [3, 4], (1, 2)),
        ("gsm", [5, 6, 7], (1, 2, 3)),
    ]
    assert read(path, where=(("task", "arc"),)).task == "arc"
    assert read(path, "gsm").samples["acc"].values.tolist() == [5, 6, 7]
    other = written(tmp_path, lines("suite,seed,acc", "arc,1,3", "arc,2,4", "gsm,1,5", "gsm,2,6"))
    assert [r.task for r in runs_of_table(read_table(other), None, Options(task_column="suite"))] == ["arc", "gsm"]
    with pytest.raises(ConfigError, match="differ in `suite`"):
        read(other)


# Examples.


def examples(
    runs: int = 3, size: int = 1000, shuffle: bool = True
) -> tuple[list[tuple[int, int, int, int]], np.ndarray]:
    """Rows (seed, id, label, prediction) in any order, and whether each is right: bool [runs, size]."""
    draws = np.random.default_rng(0)
    labels, right = draws.integers(0, 10, size), draws.random((runs, size)) < 0.9
    predictions = np.where(right, labels, (labels + 1) % 10)
    rows = [(r, i, labels[i], predictions[r, i]) for r in range(runs) for i in range(size)]
    order = draws.permutation(len(rows)) if shuffle else range(len(rows))
    return [rows[k] for k in order], right


def test_a_thousand_predictions_are_one_run(tmp_path: Path) -> None:
    rows, right = examples(runs=1)
    runs = read(written(tmp_path, lines("id,label,prediction", *(row[1:] for row in rows))))
    assert runs.count == 1
    assert runs.examples == 1000
    assert runs.seeds is None
    assert runs.matched_by == "id"
    assert runs.ids == tuple(range(1000))
    assert runs.samples["accuracy"].values.tolist() == [pytest.approx(100 * right.mean())]
    assert runs.samples["accuracy"].example_means is not None
    assert (runs.samples["accuracy"].example_means == 100 * right[0]).all()
    assert runs.labels is not None
    assert runs.classes == 10


def test_examples_of_several_runs_in_any_order(tmp_path: Path) -> None:
    rows, right = examples()
    path = written(tmp_path, lines("seed,id,label,prediction", *rows))
    runs = read(path)
    assert runs.count == 3
    assert set(runs.seeds or ()) == {0, 1, 2}
    order = [int(seed) for seed in runs.seeds or ()]  # type: ignore[call-overload]
    assert runs.samples["accuracy"].values == pytest.approx(100 * right.mean(axis=1)[order])
    kept = read(path, keep=frozenset(range(100)))
    assert kept.ids == tuple(range(100))
    assert kept.samples["accuracy"].values == pytest.approx(100 * right[:, :100].mean(axis=1)[order])


def test_examples_by_position(tmp_path: Path) -> None:
    rows, right = examples(shuffle=False)
    alone = read(written(tmp_path, lines("label,prediction", *(row[2:] for row in rows[:1000]))))
    assert alone.count == 1
    assert alone.ids is None
    assert alone.samples["accuracy"].values == pytest.approx([100 * right[0].mean()])
    three = read(written(tmp_path, lines("seed,label,prediction", *((r[0], *r[2:]) for r in rows))))
    assert three.samples["accuracy"].values == pytest.approx(100 * right.mean(axis=1))
    with pytest.raises(DataError, match="run 2 has 999 examples and run 0 1,000: name what identifies an example"):
        read(written(tmp_path, lines("seed,label,prediction", *((r[0], *r[2:]) for r in rows[:-1]))))
    with pytest.raises(DataError, match=r"the `label` of example 999 is 77"):
        read(written(tmp_path, lines("seed,label,prediction", *((r[0], *r[2:]) for r in rows[:-1]), "2,77,1")))
    stacked = lines("who,label,prediction", *(("ab"[r[0]], *r[2:]) for r in rows[:2000]))
    with pytest.raises(ConfigError, match=r"the same labels once for each `who` \(a, b\)"):
        read(written(tmp_path, stacked))
    only_right = read(written(tmp_path, lines("correct", *(str(int(r[2] == r[3])) for r in rows[:1000]))))
    assert only_right.samples["correct"].values == pytest.approx([right[0].mean()])


# content, options, the values of each run on a metric
EXAMPLES: dict[str, tuple[str, dict[str, Any], str, list[float]]] = {
    "texts": (lines("doc_id,target,pred", "a,cat,cat", "b,dog,cat", "c,cat,cat", "d,eel,eel"), {}, "accuracy", [75]),
    "letters": (lines("qid,gold,predicted", "1,A,A", "2,B,C"), {}, "accuracy", [50]),
    "texts among numbers": (lines("qid,label,prediction", "1,3,3", "2,4,none of them"), {}, "accuracy", [50]),
    "answers of arithmetic": (lines("qid,label,prediction", "1,100000,100000", "2,7,8"), {}, "accuracy", [50]),
    "classes as floats": (lines("qid,label,prediction", "1,3.0,3", "2,4.0,5"), {}, "accuracy", [50]),
    "true and false": (lines("id,correct", "a,True", "b,False", "c,true", "d,TRUE"), {}, "correct", [0.75]),
    "1 and 0": (lines("id,is_correct,length", "a,1,17", "b,0,18"), {}, "is_correct", [0.5]),
    "scores": (lines("sample_id,f1", "a,0.5", "b,1.0"), {}, "f1", [0.75]),
    "squared errors": (
        lines("id,seed,squared_error", "a,1,4", "b,1,1", "b,2,3", "a,2,0"),
        {},
        "squared_error",
        [2.5, 1.5],
    ),
    "an unknown score": (lines("image_id,niceness", "a,3", "b,6"), {}, "niceness", [4.5]),
    "one of two": (lines("doc_id,a,b", "1,3,7", "2,6,8"), {"metrics": ("b",)}, "b", [7.5]),
    "an id that is said": (lines("nr,score", "1,3", "2,6"), {"id_column": "nr"}, "score", [4.5]),
    "repeats": (lines("id,attempt,correct", "a,1,1", "a,2,0", "b,1,1", "b,2,1"), {}, "correct", [0.75]),
    "repeats of answers": (
        lines("id,k,label,prediction", "a,1,3,3", "a,2,3,4", "b,1,2,2", "b,2,2,2"),
        {"repeat_column": "k"},
        "accuracy",
        [75],
    ),
    "the last epoch": (
        lines("id,epoch,label,prediction", "a,1,3,4", "b,1,3,4", "a,2,3,3", "b,2,3,4"),
        {"last": True},
        "accuracy",
        [50],
    ),
    "a model that is picked": (
        lines("id,model,correct", "a,x,1", "b,x,1", "a,y,0", "b,y,1"),
        {"where": (("model", "y"),)},
        "correct",
        [0.5],
    ),
    "categories": (lines("id,category,correct", "a,bio,1", "b,bio,0", "c,law,1", "d,law,1"), {}, "correct", [0.75]),
    "right by a judge": (
        lines("id,label,prediction,correct", "a,4,the answer is 4,True", "b,5,4,False"),
        {"metrics": ("correct",)},
        "correct",
        [0.5],
    ),
    "by string": (
        lines("id,label,prediction,correct", "a,4,the answer is 4,True", "b,5,5,True"),
        {"metrics": ("accuracy",)},
        "accuracy",
        [50],
    ),
    "prompts": (lines("id,question,answer,score", "a,why?,so,1.5", "b,how?,so,2.5"), {"id_column": "id"}, "score", [2]),
    "errors of a regression": (
        lines("id,y_true,y_pred,squared_error", "1,2.5,2.75,0.0625", "2,3.5,3,0.25"),
        {"metrics": ("squared_error",)},
        "squared_error",
        [0.15625],
    ),
    "the id that each row has": (lines("passage_id,qid,correct", "p,1,1", "p,2,0"), {}, "correct", [0.5]),
    "truth values": (
        lines("id,label,prediction", "1,True,TRUE", "2,FALSE,false", "3,true,False", "4,false,False"),
        {},
        "accuracy",
        [75],
    ),
    "truth values and texts": (
        lines("id,label,prediction", "1,True,TRUE", "2,False,unsure", "3,True,1", "4,false,FALSE"),
        {},
        "accuracy",
        [75],
    ),
    "truth values as numbers": (lines("id,label,prediction", "1,True,1", "2,False,1"), {}, "accuracy", [50]),
    "numbers in other forms": (lines("id,label,prediction", "1,7,7.00", "2,8,what"), {}, "accuracy", [50]),
    "folds that are pooled": (
        lines("id,fold,correct", "a,1,1", "b,2,0"),
        {"ignore": ("fold",)},
        "correct",
        [0.5],
    ),
    "a split that is picked": (
        lines("id,split,correct", "a,train,1", "b,test,0"),
        {"where": (("split", "test"),)},
        "correct",
        [0],
    ),
    "HumanEval": (lines("task_id,completion,passed", "HumanEval/0,x,True", "HumanEval/1,y,False"), {}, "passed", [0.5]),
}


@pytest.mark.parametrize("case", EXAMPLES)
def test_forms_of_a_table_of_examples(case: str, tmp_path: Path) -> None:
    content, options, metric, values = EXAMPLES[case]
    runs = read(written(tmp_path, content), **options)
    assert list(runs.samples) == [metric]
    assert runs.samples[metric].values.tolist() == values
    assert runs.samples[metric].example_means is not None
    assert runs.ids is not None


BAD_EXAMPLES: dict[str, tuple[str, dict[str, Any], str]] = {
    "twice": (lines("doc_id,correct", "7,1", "7,0", "8,1"), {}, r"`doc_id` 7 is in 2 rows \(row 1, row 2\): keep one"),
    "two systems": (lines("doc_id,who,correct", "7,x,1", "7,y,0"), {}, "which differ in `who`.*--seed-column 'who'"),
    "two models": (lines("doc_id,model,correct", "7,x,1", "8,y,0"), {}, r"differ in `model` \(x, y\)"),
    "repeats that do not count": (
        lines("id,attempt,correct", "a,1,1", "a,1,0"),
        {},
        "`attempt` does not tell them apart",
    ),
    "another set": (
        lines("seed,id,correct", "1,a,1", "1,b,1", "2,a,1"),
        {},
        "run 2 lacks 1 of the 2 examples.*as `id` b",
    ),
    "thousands": (
        lines("id,label,prediction", '1,1200,"1,200"', "2,7,7"),
        {},
        "`prediction` holds '1,200', which may be thousands",
    ),
    "thousands among texts": (
        lines("id,label,prediction", '1,1200,"1,200"', "2,7,what"),
        {},
        "row 1: `prediction` holds '1,200', which may be thousands",
    ),
    "thousands in labels": (
        lines("id,label,prediction", '1,"1,200",1200', "2,7,7"),
        {},
        "`label` holds '1,200', which may be thousands",
    ),
    "percent against none": (lines("id,label,prediction", "1,50,50%", "2,7,7%"), {}, "are not both in percent"),
    "percent among texts": (lines("id,label,prediction", "1,50,50%", "2,7,x"), {}, "and the labels no percent"),
    "classes against truth values": (
        lines("id,label,prediction", "1,True,1", "2,False,3"),
        {},
        "`prediction` is 3, and `label` and `prediction` are not both truth values",
    ),
    "train and test": (lines("id,split,correct", "a,train,1", "b,test,0"), {}, r"differ in `split` \(train, test\)"),
    "train and test by another name": (lines("id,of,correct", "a,train,1", "b,test,0"), {}, "differ in `of`"),
    "folds": (lines("id,fold,label,prediction", "a,1,1,1", "b,2,0,1"), {}, r"differ in `fold` .*--ignore 'fold'"),
    "no id": (lines("id,correct", "a,1", ",1"), {}, "row 2: `id` is empty"),
    "half a label": (lines("id,label,prediction", "1,0.5,1", "2,1,1"), {}, "row 1: `label` is 0.5, which is no class"),
    "label -100": (lines("id,label,prediction", "1,1,1", "2,-100,1"), {}, "row 2: `label` is -100, which is no class"),
    "a prediction below 0": (
        lines("id,label,prediction", "1,1,1", "2,1,-1"),
        {},
        "`prediction` is -1, which is no class",
    ),
    "a fraction predicted": (lines("id,label,prediction", "1,1,1.5", "2,1,1"), {}, "`prediction` is 1.5, which is no"),
    "no prediction": (lines("id,label,prediction", "1,1,1", "2,1,"), {}, "row 2: `prediction` is empty"),
    "no label": (lines("id,label,prediction", "1,,1", "2,1,1"), {}, "row 1: `label` is empty"),
    "other labels": (
        lines("seed,id,label,prediction", "1,a,3,3", "1,b,3,3", "2,a,4,4", "2,b,3,3"),
        {},
        "`label` of example a is 4, and 3 in",
    ),
    "nan": (lines("id,seed,f1", "a,1,1", "a,2,nan", "b,1,1", "b,2,1"), {}, r"row 2 \(id a\): f1 is nan"),
    "empty": (lines("doc_id,f1", "a,1", "b,"), {}, r"row 2 \(doc_id b\): f1 is empty"),
    "several scores": (lines("doc_id,a,b", "1,3,7", "2,6,8"), {}, "holds `a`, `b`: say which with --metric"),
    "a wrong metric": (
        lines("doc_id,a,b", "1,3,7", "2,6,8"),
        {"metrics": ("c",)},
        "no column 'c', which --metric names",
    ),
    "a text metric": (lines("doc_id,a", "1,x", "2,y"), {"metrics": ("a",)}, "`a` is text"),
    "nothing": (lines("doc_id,text", "1,x", "2,y"), {}, "neither labels and predictions nor a column of scores"),
    "no labels": (lines("doc_id,prediction", "1,3", "2,4"), {}, "holds predictions and no labels"),
    "a judge": (
        lines("id,label,prediction,correct", "a,4,it is 4,True", "b,5,5,True"),
        {},
        "is not whether `prediction` equals",
    ),
    "other classes": (lines("id,label,prediction", "a,4,cat", "b,5,dog"), {}, "no `prediction` is one of the labels"),
    "epochs": (lines("id,epoch,label,prediction", "a,1,3,4", "a,2,3,3"), {}, "of several steps, by `epoch`.*--last"),
    "epochs by position": (
        lines("epoch,label,prediction", "1,3,4", "2,3,3"),
        {},
        "no column tells runs apart|no column of",
    ),
    "a group twice": (
        lines("seed,id,who,correct", "1,a,x,1", "2,a,y,1", "1,b,x,1", "2,b,x,1"),
        {"cluster": "who"},
        "`who` of example a is y",
    ),
    "a group missing": (lines("id,who,correct", "a,x,1", "b,,1"), {"cluster": "who"}, "row 2: `who` is empty"),
}


@pytest.mark.parametrize("fault", BAD_EXAMPLES)
def test_faults_of_a_table_of_examples(fault: str, tmp_path: Path) -> None:
    content, options, sentence = BAD_EXAMPLES[fault]
    with pytest.raises((ConfigError, DataError), match=sentence):
        read(written(tmp_path, content), **options)


def test_clusters_are_numbered_by_name(tmp_path: Path) -> None:
    runs = read(written(tmp_path, lines("id,doc,correct", "3,y,1", "1,z,0", "2,x,1", "4,x,1")), cluster="doc")
    assert runs.clusters is not None
    assert runs.clusters.tolist() == [2, 0, 1, 0]


def test_labels_that_are_texts_identify_the_test(tmp_path: Path) -> None:
    runs = read(written(tmp_path, lines("id,label,prediction", "b,dog,cat", "a,cat,cat")))
    assert runs.labels is None
    assert runs.content == {"a": "cat", "b": "dog"}
    assert runs.errors is not None


def test_kept_examples_alone_count(tmp_path: Path) -> None:
    path = written(tmp_path, lines("seed,id,f1", "1,a,1", "1,b,nan", "2,a,1", "2,c,0", "1,c,1"))
    with pytest.raises(DataError):
        read(path)
    runs = read(path, keep=frozenset(("a", "c")))
    assert runs.ids == ("a", "c")
    assert runs.samples["f1"].values.tolist() == [1.0, 0.5]


def test_repeats_are_said(tmp_path: Path) -> None:
    rows = ["a,1,1", "a,2,0", "b,1,1", "b,2,1", "b,3,1"]
    assert read(written(tmp_path, lines("id,attempt,correct", *rows))).marks == (
        "the mean of 2 to 3 repeats of each example was taken",
    )


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Seed", "seed"), ("config/seed", "seed"), ("params.random_seed", "seed"), ("config.data.seed", "seed"),
        ("Run ID", "run"), ("runName", "run"), ("tags.mlflow.runName", "run"), ("_step", "history"),
        ("trainer/global_step", "history"), ("config.epochs", "setting"), ("Learning Rate", "setting"),
        ("_timestamp", "bookkeeping"), ("State", "state"), ("reseeded", None), ("val/accuracy", None),
        ("seedling_height", None), ("y_true", "label"), ("isCorrect", "correct"), ("metrics.epoch", "history"),
    ],
)  # fmt: skip
def test_roles_are_whole_names(name: str, role: str | None) -> None:
    assert role_of(name) == role, plain(name)


def test_reading_a_table_imports_nothing_heavy(tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN)
    code = (
        "import sys; from pathlib import Path; from popnet.results.tables import files, layout;"
        "from popnet.results.found import Options;"
        f"layout.runs_of_table(files.read_table(Path({str(path)!r})), None, Options());"
        "print([m for m in ('torch', 'pandas', 'scipy', 'pyarrow', 'popnet.native', 'popnet.config', 'popnet.store')"
        " if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

"""The command line: its answers and exit codes, and one sentence for everything that goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from popnet.cli import main
from popnet.store import Store

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line in this process; returns the exit code, stdout and stderr."""

    def run(*words: Any) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        written = capsys.readouterr()
        return int(ended.value.code or 0), written.out, written.err

    return run


@pytest.fixture
def file(tmp_path: Path, content: dict[str, Any]) -> Path:
    """The tiny experiment as a file, with two epochs and two members."""
    content["recipe"] |= {"epochs": 2}
    content |= {"population": 2}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def same_file(tmp_path: Path, trained) -> Path:
    """The experiment of the trained store as a file."""
    path = tmp_path / "same.yaml"
    path.write_text(yaml.safe_dump(trained.store.experiments()["tiny"]))
    return path


def assert_one_sentence(result: tuple[int, str, str], *expected: str) -> None:
    code, out, err = result
    assert code == 2
    assert out == ""
    assert err.startswith("popnet: ")
    assert err.count("\n") == 1, "one line"
    assert "Traceback" not in err
    for part in expected:
        assert part in err


def test_nothing_was_left(tmp_path, call, file):
    """A mistake is said before anything is written."""
    assert_one_sentence(call("run", file, "recipe.epoch=3"), f"{file}: recipe.epoch: unknown key")
    assert list(Path.cwd().iterdir()) == []


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["recipe.epoch=3"], "recipe.epoch: unknown key; did you mean 'epochs'?"),
        (["recipe.epochs=ten"], "recipe.epochs: should be a valid integer"),
        (["recipe.epochs"], "override 'recipe.epochs': must read key=value, as in recipe.epochs=10"),
        (["recipe.model=resnet15"], "recipe.model: unknown model 'resnet15': did you mean"),
        (["recipe.model=linear", "recipe.model.kwargs={hiden: 3}"], "model 'linear' has no option 'hiden'"),
        (["recipe.dataset={name: digit}"], "recipe.dataset: unknown dataset 'digit': did you mean 'digits'?"),
        (["recipe.dataset.kwargs.hight=3"], "data set 'synthetic' has no option 'hight': did you mean 'height'"),
        (["recipe.dataset.kwargs.train=0"], "data set 'synthetic': train must be a positive integer, not 0"),
        (["recipe.train_examples=41"], "train_examples must be 1 to 40, the size of 'synthetic', not 41"),
        (
            ["recipe.batch_size=64", "recipe.drop_last=true"],
            "recipe.batch_size=64 with drop_last leaves no batch of 40",
        ),
        (["recipe.augment.cutout=7"], "recipe.augment.cutout=7 is larger than the 6 x 6 images"),
        (["recipe.augment.fill=[1,2,3]"], "recipe.augment.fill has 3 values; the images have 1 channels"),
        (["recipe.model=vgg11"], "vgg11"),
        (
            ["recipe.model={import: 'no.such:net'}", "--allow-import"],
            "import 'no.such:net': module 'no.such' cannot be imported",
        ),
        (["variants.0.vary=[innit]"], "variants.0: unknown source 'innit'; did you mean 'init'?"),
        (["population=1"], "variant 'Initialization': population is 1: a population needs at least 2 members"),
        (["recipe.epochs=5", "variants.0.snapshots=2"], "2 snapshots do not divide 5 epochs"),
        (
            ["variants.0.vary=[bit]", "variants.0.perturbation.tensor=fc.wieght"],
            "perturbation.tensor: the model has no parameter 'fc.wieght'; did you mean 'fc.weight'?",
        ),
        (
            ["variants.0.vary=[kernels]", "recipe.kernels.mode=hardware"],
            "a CPU's kernels are deterministic, so nothing would vary: use recipe.kernels.mode=reorder, the seeded",
        ),
        (["recipe.precision=fp16"], "recipe.precision=fp16 needs a CUDA device: use fp32 or bf16 on a CPU"),
        (["--workers", "0"], "workers is 0: at least 1 is needed"),
        (["--executor", "locl"], "unknown executor 'locl'; did you mean 'local'?"),
        (["--device", "tpu"], "device 'tpu': known: auto, cpu, cuda"),
    ],
)
def test_a_mistake_is_one_sentence_before_any_training(call, file, words, expected):
    assert_one_sentence(call("run", file, *words), expected)
    assert not (Path.cwd() / "runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_an_error(call, file):
    assert_one_sentence(call("run", file, "--device", "cuda"), "device 'cuda'", "'cpu'")


def test_an_unknown_experiment_is_named(call):
    assert_one_sentence(call("run", "quikstart"), "quikstart: no such file", "did you mean 'quickstart'?")
    assert_one_sentence(call("plan", "nowhere.yaml"), "nowhere.yaml: no such file")


def test_missing_data_say_where_they_were_looked_for_and_where_to_get_them(call, file, tmp_path, monkeypatch):
    monkeypatch.setenv("POPNET_DATA", str(tmp_path / "data"))
    experiment = yaml.safe_load(file.read_text())
    experiment["recipe"]["dataset"] = "cifar10"
    file.write_text(yaml.safe_dump(experiment))
    assert_one_sentence(
        call("run", file),
        "data set 'cifar10' is not here: get it with `popnet data fetch cifar10`",
        "cifar-10-python.tar.gz",
        f"looked for in {tmp_path / 'data'}",
        f"$POPNET_DATA is {tmp_path / 'data'}",
    )
    assert not (Path.cwd() / "runs").exists()


def test_a_store_that_holds_another_recipe_under_this_name(call, same_file, trained_copy):
    before = (trained_copy / "store.json").read_bytes()
    assert_one_sentence(
        call("run", same_file, "recipe.optimizer.lr=0.3", "--store", trained_copy),
        f"{trained_copy}: holds another recipe under the name 'tiny' (recipe.optimizer.lr is 0.1 there and 0.3 here)",
        "choose another --store or another name",
    )
    assert (trained_copy / "store.json").read_bytes() == before


def test_a_store_opened_by_two_runs_at_once(call, same_file, trained_copy):
    store = Store(trained_copy)
    store.lock()
    try:
        assert_one_sentence(
            call("run", same_file, "--store", trained_copy),
            f"{trained_copy}: in use by another run (process {os.getpid()}): wait for it (--wait), or choose ",
        )
    finally:
        store.unlock()


def test_a_folder_that_is_not_a_store(call, file, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").touch()
    assert_one_sentence(
        call("run", file, "--store", tmp_path / "folder"),
        f"{tmp_path / 'folder'}: the folder is not empty and holds no popnet store: choose another --store",
    )
    assert_one_sentence(call("report", tmp_path / "folder"), "no popnet store here (store.json is missing)")


def test_a_damaged_store(call, same_file, trained_copy):
    (trained_copy / "store.json").write_text("{")
    assert_one_sentence(call("run", same_file, "--store", trained_copy), "store.json: damaged")
    (trained_copy / "store.json").write_text(json.dumps({"format": 7, "experiments": {}}))
    assert_one_sentence(call("report", trained_copy), "store format 7, but this popnet reads format 1")


@pytest.mark.parametrize(
    "words",
    [
        ["measure", "STORE", "--csv", "OUT"],
        ["schema", "--output", "OUT"],
        ["report", "STORE", "--html", "OUT"],
        ["predict", "STORE", "pictures", "OUT"],
        ["new", "mine", "--folder", "OUT"],
        ["export", "STORE", "--hf", "OUT"],
        ["export", "STORE", "--tensorboard", "OUT"],
        ["store", "export", "STORE", "OUT.npz"],
        ["store", "merge", "OUT", "STORE"],
        ["data", "write", "digits", "OUT.beton"],
        ["run", "quickstart", "--scale", "smoke", "--store", "OUT"],
    ],
    ids=lambda words: "-".join(word for word in words if word.islower()),
)
def test_a_place_where_nothing_can_be_written_is_named(call, words, trained, tmp_path):
    (tmp_path / "file").touch()
    named = {"STORE": str(trained.store.path), "OUT": str(tmp_path / "file" / "out")}
    words = [named.get(word, word.replace("OUT", named["OUT"])) for word in words]
    assert_one_sentence(call(*words), str(tmp_path / "file"))


def test_a_full_disk_is_noticed_before_any_training(call, file, tmp_path, monkeypatch):
    monkeypatch.setattr(Store, "free_bytes", lambda self: 1000)
    assert_one_sentence(
        call("run", file, "--store", tmp_path / "store"),
        f"{tmp_path / 'store'}: the disk is too full: 2 members need 0.1 MB for their predictions, and 0.0 MB are free",
    )
    assert Store(tmp_path / "store").members().empty
    Store(tmp_path / "store").lock()  # the run has given it back


def test_a_disk_that_fills_up_during_a_run(file, tmp_path):
    """No file may grow beyond 100 kB, and one member's predictions need 250 kB: the write itself fails."""
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from popnet.cli import main; main(sys.argv[1:])"
    )
    words = ["run", str(file), "recipe.dataset.kwargs.test=230", "variants.0.views=crop81", "--workers", "1", "-q"]
    ended = subprocess.run(
        [sys.executable, "-c", program, *words, "--store", str(tmp_path / "store")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"popnet: {tmp_path / 'store' / 'members'}/")
    assert line.endswith(".safetensors: cannot be written: File too large")
    store = Store(tmp_path / "store")
    assert store.done() == {}
    assert list((tmp_path / "store" / "members").iterdir()) == []


# ---- the traceback, and the program itself ---------------------------------------------------------------------------


def program(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "popnet.run", *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )


def test_the_program_ends_with_one_sentence_and_shows_the_traceback_on_demand(file):
    plain, debug = program(str(file), "population=1"), program(str(file), "population=1", "--debug")
    sentence = f"{file}: variant 'Initialization': population is 1: a population needs at least 2 members"
    assert plain.returncode == 2
    assert plain.stderr == f"popnet: {sentence}\n"
    assert plain.stdout == debug.stdout == ""
    assert debug.returncode != 0
    assert debug.stderr.startswith("Traceback (most recent call last)")
    assert debug.stderr.rstrip().endswith(f"ConfigError: {sentence}")


def test_an_unknown_option_is_wrong_input(call, file):
    code, _, err = call("run", file, "--wokers", "2")
    assert code == 2
    assert "--wokers" in err


def test_the_package_is_a_program_too():
    done = subprocess.run(
        [sys.executable, "-m", "popnet", "data", "fetch", "digits"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "digits: built in, nothing to fetch\n"


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_a_plan_trains_nothing(call, same_file):
    for words in (["run", same_file, "--plan"], ["plan", same_file]):
        code, out, err = call(*words)
        assert (code, err) == (0, "")
        assert "14 members in 5 rows: 10 different trainings, 40 epochs" in out
        for name in ("Initialization", "Determinism", "Ensemble (N=2)", "Snapshots", "Broken"):
            assert name in out
    assert list(Path.cwd().iterdir()) == []


def test_a_run_prints_and_keeps_its_table_and_a_second_trains_nothing(call, file, monkeypatch):
    code, out, err = call("run", file, "--workers", "1")
    assert code == 0
    assert "Initialization" in out
    assert "2 of 2 members" in err
    assert "members in runs/tiny, table in runs/tiny/tables/variability.csv" in err
    table = pd.read_csv("runs/tiny/tables/variability.csv", index_col="variant")
    assert table.loc["Initialization", "members"] == 2
    assert table.loc["Initialization", "cross_entropy_sd"] > 0
    before = Store("runs/tiny").members()

    def no_worker(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is missing, so nothing may be started")

    monkeypatch.setattr("popnet.engine.local.subprocess.Popen", no_worker)
    code, again, err = call("run", file, "--quiet")
    assert (code, again, err) == (0, out, "")
    assert Store("runs/tiny").members().equals(before)


def test_members_that_fail_make_exit_code_1_and_the_table_says_so(call, same_file, trained, trained_copy):
    kept = {entry.name: entry.stat().st_mtime_ns for entry in (trained_copy / "members").iterdir()}
    code, out, _ = call("run", same_file, "--store", trained_copy, "--workers", "1")
    assert code == 1
    assert "2 members failed and are not counted." in out
    failed = [m.id for population in trained.plan.populations[-1:] for m in population.members]
    for member_id in failed:
        assert f"member {member_id} failed: " in out
    assert {entry.name: entry.stat().st_mtime_ns for entry in (trained_copy / "members").iterdir()} == kept
    table = pd.read_csv(trained_copy / "tables" / "variability.csv", index_col="variant")
    assert table["failed"].tolist() == [0, 0, 0, 0, 2]


def test_a_report_prints_the_tables_again(call, trained_copy):
    code, out, err = call("report", trained_copy)
    assert (code, err) == (0, "")
    assert "Initialization" in out
    assert "2 members failed and are not counted." in out


def test_errors_with_brackets_are_printed_as_they_are(call, trained, trained_copy):
    failed = trained.plan.populations[-1].members[0]
    Store(trained_copy).record_failed(failed, "sizes [2, 3] and [/b] of [batch] differ", 1.0)
    code, out, _ = call("report", trained_copy)
    assert code == 0
    assert f"member {failed.id} failed: sizes [2, 3] and [/b] of [batch] differ" in out


def test_only_failures_of_the_plan_at_hand_are_told(call, file, trained, trained_copy):
    experiment = yaml.safe_load(file.read_text())
    experiment |= {"name": "sound", "variants": [{"name": "Initialization", "vary": ["init"]}]}
    experiment["recipe"] = trained.store.experiments()["tiny"]["recipe"]
    file.write_text(yaml.safe_dump(experiment))
    code, out, _ = call("run", file, "--store", trained_copy, "--quiet")
    assert code == 0, "every member is there already"
    assert "failed" not in out


def test_data_sets_are_listed_with_their_places(call, tmp_path, monkeypatch):
    monkeypatch.setenv("POPNET_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "1000")
    code, out, _ = call("data", "list")
    assert code == 0
    lines = {line.split()[1]: line for line in out.splitlines()}
    assert lines["digits"].split() == ["found", "digits", "built", "in"]
    assert lines["cifar10"].startswith("missing")
    assert "popnet data fetch cifar10" in lines["cifar10"]


def test_what_is_built_in_needs_no_download(call):
    code, out, _ = call("data", "fetch", "digits")
    assert (code, out) == (0, "digits: built in, nothing to fetch\n")
    assert "built in" not in call("data", "fetch", "image_folder")[1]
    assert_one_sentence(call("data", "fetch", "imagenet"), "is not downloaded by popnet: data set 'imagenet' was not")
    assert_one_sentence(call("data", "fetch", "cifar11"), "unknown dataset 'cifar11': did you mean 'cifar10'")


# ---- a user's own parts ----------------------------------------------------------------------------------------------


def raises_for_seed_2(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    if torch.initial_seed() == 2:
        raise RuntimeError("this net does not like [2]")
    channels, height, width = input_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))


def wrong_logits(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, classes + 1))


def wrong_size(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(35, classes))


def own(file: Path, section: str, name: str, **keys: Any) -> Path:
    experiment = yaml.safe_load(file.read_text())
    experiment["recipe"][section] = {"import": f"test_cli:{name}", **keys}
    file.write_text(yaml.safe_dump(experiment))
    return file


def test_an_imported_model_that_raises_is_recorded_and_the_rest_trains(call, file):
    code, out, err = call(
        "run", own(file, "model", "raises_for_seed_2"), "population=3", "--workers", "1", "--allow-import"
    )
    assert code == 1
    assert "1 member failed and is not counted." in out
    assert "failed: RuntimeError: this net does not like [2]" in out
    table = Store("runs/tiny").members()
    assert dict(zip(table["init"], table["status"])) == {1: "done", 2: "failed", 3: "done"}
    assert "3 of 3 members, 1 failed" in err


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wrong_logits", "'test_cli:wrong_logits' gives [2, 4] for two images; logits [2, 3] are needed"),
        ("wrong_size", "'test_cli:wrong_size' cannot take images [2, 1, 6, 6] of data set 'synthetic'"),
        ("no_such_net", "import 'test_cli:no_such_net': 'no_such_net' is not there"),
    ],
)
def test_an_imported_model_that_does_not_fit_is_named(call, file, name, expected):
    assert_one_sentence(call("run", own(file, "model", name), "--allow-import"), expected)


@pytest.mark.parametrize(("section", "keys"), [("optimizer", {"lr": 0.1}), ("loss", {})])
def test_an_imported_part_that_is_not_there_is_named_before_any_training(call, file, section, keys):
    code, _, err = call("run", own(file, section, "no_such_part", **keys), "--workers", "1", "--allow-import")
    assert code == 2
    assert "import 'test_cli:no_such_part': 'no_such_part' is not there" in err

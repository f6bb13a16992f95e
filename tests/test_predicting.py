"""Other test sets: stored weights predict for new pictures what their trainers did, whatever folders are called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_beton import HALVES, make_folder, recipe, write_cli

import popnet
from popnet import cli, config
from popnet.engine.predicting import predict
from popnet.errors import ConfigError, DataError, StoreError
from popnet.results.reading import matched, only, read


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    make_folder(root / "train", classes=4, each=8, seed=1)
    make_folder(root / "val", classes=4, each=5, seed=2)
    return root


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> popnet.Store:
    return trained(folder, tmp_path_factory.mktemp("store") / "kept", keep=["predictions", "weights"])


def trained(folder: Path, path: Path, **changes: Any) -> popnet.Store:
    dataset = {"name": "image_folder", "kwargs": {k: str(folder / v) for k, v in HALVES.items()}}
    options = {"epochs": 1, "resize": {"train": 16, "test": 20}, "augment": {"resized_crop": True}} | changes
    made = recipe(**options).model_dump(by_alias=True) | {"dataset": dataset}
    experiment = {"name": "x", "recipe": made, "population": 3, "variants": [{"name": "a", "vary": ["init"]}]}
    return popnet.run(config.from_mapping(experiment), store=path, workers=1, device="cpu").store


def test_the_test_set_itself_gives_the_stored_predictions(store: popnet.Store, folder: Path, tmp_path: Path) -> None:
    members = store.members().sort_values("accuracy").index
    assert write_cli(folder / "val", tmp_path / "val.beton") == 0
    for number, pictures in enumerate((folder / "val", tmp_path / "val.beton")):
        accuracies = predict(str(store.path), pictures, tmp_path / f"{number}.npz", device="cpu")
        written = np.load(tmp_path / f"{number}.npz")
        assert written["labels"].tolist() == store.labels().tolist()
        for seed, found in zip(written["seeds"], written["predictions"]):
            assert np.array_equal(found, store.predictions(seed)[0].argmax(axis=1))
        ledger = store.members().loc[written["seeds"], "accuracy"].to_numpy(float)
        assert np.allclose(accuracies, ledger)
        assert set(written["seeds"]) == set(members)


def test_a_training_set_that_was_replaced_is_refused(store: popnet.Store, folder: Path, tmp_path: Path) -> None:
    """Its mean and std normalise the other pictures too."""
    picture = folder / "train" / "class01" / "3.jpg"
    kept, other = picture.read_bytes(), (folder / "train" / "class02" / "3.jpg").read_bytes()
    try:
        picture.write_bytes(other)
        with pytest.raises(StoreError, match="was trained with other data under the name 'image_folder'"):
            predict(str(store.path), folder / "val", tmp_path / "out.npz", device="cpu")
    finally:
        picture.write_bytes(kept)


def test_folders_of_other_names_are_mapped(
    store: popnet.Store, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a test set whose folders have names of their own, some are no classes of the training set."""
    for label, name in ((2, "chair"), (0, "mug"), (1, "sock")):
        shutil.copytree(folder / "val" / f"class{label:02d}", tmp_path / "objects" / name)
    (tmp_path / "map.json").write_text(json.dumps({"chair": "class02", "mug": 0}))
    out = tmp_path / "objects.npz"
    arguments = ["predict", str(store.path), str(tmp_path / "objects"), str(out), "--quiet", "--device", "cpu"]
    for more, code, said in (
        ([], 2, "chair: no class has this name"),
        (["--mapping", str(tmp_path / "map.json")], 0, "3 runs, accuracy"),
        (["--mapping", str(tmp_path / "map.json")], 2, "exists already; --force overwrites it"),
        (["--mapping", str(tmp_path / "map.json"), "--force"], 0, "3 runs, accuracy"),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments, *more])
        assert int(ended.value.code or 0) == code
        captured = capsys.readouterr()
        assert said in " ".join((captured.out + captured.err).split())
    with pytest.raises(SystemExit):
        cli.main([*arguments, *more, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["file"] == str(out)
    assert list(answer["accuracy"]) == np.load(out)["seeds"].tolist()
    written = np.load(out)
    assert written["labels"].tolist() == [2] * 5 + [0] * 5
    for seed, found in zip(written["seeds"], written["predictions"]):
        stored = store.predictions(seed)[0].argmax(axis=1)
        assert found.tolist() == [*stored[10:15], *stored[:5]]


def test_the_same_runs_are_matched_on_several_test_sets(store: popnet.Store, folder: Path, tmp_path: Path) -> None:
    make_folder(tmp_path / "shifted", classes=4, each=6, seed=9)
    for name, pictures in (("one", folder / "val"), ("other", tmp_path / "shifted")):
        predict(str(store.path), pictures, tmp_path / f"{name}.npz", device="cpu")
    one, other = (only(read(str(tmp_path / f"{name}.npz"))) for name in ("one", "other"))
    assert one.seeds == other.seeds
    assert matched(one, other, None)[2]


def test_what_cannot_be_predicted_is_said_first(store: popnet.Store, folder: Path, tmp_path: Path) -> None:
    source, out = str(store.path), tmp_path / "x.npz"
    with pytest.raises(ConfigError, match=r"x\.csv: the predictions are written to an \.npz file"):
        predict(source, folder / "val", tmp_path / "x.csv")
    with pytest.raises(DataError, match="nowhere: no such folder"):
        predict(source, tmp_path / "nowhere", out, device="cpu")
    with pytest.raises(DataError, match=r"none\.beton: no such file"):
        predict(source, tmp_path / "none.beton", out, device="cpu")
    light = trained(folder, tmp_path / "light", epochs=0)
    with pytest.raises(ConfigError, match=r"keeps no weights: train with `recipe\.keep"):
        predict(str(light.path), folder / "val", out, device="cpu")
    shutil.copytree(folder / "val", tmp_path / "damaged")
    bad = tmp_path / "damaged" / "class01" / "1.jpg"
    bad.write_bytes(bad.read_bytes()[:900])
    with pytest.raises(DataError, match=r"class01/1\.jpg: cannot be decoded"):
        predict(source, tmp_path / "damaged", out, device="cpu")
    assert not out.exists()

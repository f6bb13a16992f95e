"""`popnet new` and `popnet schema`: files that popnet and editors accept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import popnet
from popnet import cli, scaffold
from popnet.errors import ConfigError
from popnet.schema import experiment_schema

EXPERIMENTS = sorted(Path(__file__).parent.parent.glob("experiments/*.yaml"))


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        cli.main(list(words))
    return int(exit_.value.code or 0)


def test_a_new_experiment_loads_and_says_what_was_asked(tmp_path: Path) -> None:
    assert run("new", "mine", "--folder", str(tmp_path), "--model", "resnet6", "--epochs", "7", "--lr", "0.05") == 0
    experiment = popnet.load(tmp_path / "mine.yaml")
    assert experiment.recipe.model.name == "resnet6"
    assert experiment.recipe.epochs == 7
    assert experiment.recipe.optimizer.lr == 0.05
    assert [v.sources for v in experiment.variants][-1] == ("init", "shuffle", "augment", "kernels")


def test_only_the_sources_asked_for(tmp_path: Path) -> None:
    answers = scaffold.Answers("mine", sources=["bit"])
    experiment = popnet.load(scaffold.write(answers, tmp_path)[0])
    assert [v.name for v in experiment.variants] == ["Determinism", "Random Bit Change"]


def test_nothing_is_overwritten_and_nothing_wrong_is_written(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="exists"):
        scaffold.write(scaffold.Answers("mine"), tmp_path)
    assert path.read_text() == "precious"
    for wrong in (scaffold.Answers("other", model="resnt6"), scaffold.Answers("other", sources=["inti"])):
        with pytest.raises(ConfigError, match="did you mean"):
            scaffold.write(wrong, tmp_path)
        assert not (tmp_path / "other.yaml").exists()


def test_own_parts_are_written_beside_the_experiment_and_are_as_it_says(tmp_path: Path) -> None:
    assert run("new", "mine", "--folder", str(tmp_path), "--own", "--epochs", "3") == 0
    recipe = yaml.safe_load((tmp_path / "mine.yaml").read_text())["recipe"]
    scope: dict[str, Any] = {}
    exec((tmp_path / "mine_parts.py").read_text(), scope)
    named = [recipe[part]["import"] for part in ("model", "dataset", "loss", "optimizer")]
    assert named == [f"mine_parts:{name}" for name in ("network", "images", "loss", "optimizer")]
    x, y, x_test, y_test = scope["images"]()
    assert (len(x), len(x_test)) == (len(y), len(y_test))
    logits = scope["network"]((1, 8, 8), 10, **recipe["model"]["kwargs"])(torch.zeros(2, 1, 8, 8))
    scope["loss"](logits, torch.tensor([1, 2])).backward()
    assert run("new", "mi-ne", "--folder", str(tmp_path), "--own") == 2
    assert run("new", "other", "--folder", str(tmp_path), "--own", "--lr", "1") == 2


@pytest.fixture
def validator_of() -> Callable[[Any], Any]:
    """The validator of a schema."""
    reason = "needs jsonschema: pip install popnet[dev]"
    return pytest.importorskip("jsonschema", reason=reason).Draft202012Validator


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_the_schema_accepts_every_experiment(file: Path, validator_of: Callable[[Any], Any]) -> None:
    validator_of(experiment_schema()).validate(yaml.safe_load(file.read_text()))


def test_the_schema_names_what_is_wrong(capsys: pytest.CaptureFixture[str], validator_of: Callable[[Any], Any]) -> None:
    assert run("schema") == 0
    validator = validator_of(json.loads(capsys.readouterr().out))
    content = yaml.safe_load(scaffold.text(scaffold.Answers("mine")))
    validator.validate(content)
    for change in ({"epochs": "ten"}, {"bach_size": 3}, {"optimizer": {"name": "sdg", "lr": 1}}):
        assert not validator.is_valid({**content, "recipe": {**content["recipe"], **change}})

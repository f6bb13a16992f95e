"""What several test files share: a tiny experiment as plain data, and one small store, trained once."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest

import popnet
from popnet.config import from_mapping
from popnet.engine.local import GPU_ENVIRONMENT


def pytest_configure(config: pytest.Config) -> None:
    """Without `-m gpu` everything runs on the CPU, on a machine with a GPU too: there its tests would be others."""
    if "gpu" in config.option.markexpr:
        os.environ.update(GPU_ENVIRONMENT)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


TINY: dict[str, Any] = {
    "name": "tiny",
    "recipe": {
        "dataset": {
            "name": "synthetic",
            "kwargs": {"train": 40, "test": 30, "height": 6, "width": 6, "channels": 1, "classes": 3},
        },
        "model": "linear",
        "epochs": 4,
        "batch_size": 16,
        "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 5e-4},
        "schedule": {"name": "cosine", "warmup_epochs": 1},
        "augment": {"crop": 1, "flip": True},
    },
    "population": 4,
    "variants": [{"name": "Initialization", "vary": ["init"]}],
}


REPORTED = [
    {"name": "Determinism", "replicas": True, "population": 3},
    {"name": "Parameter Initialization", "vary": ["init"]},
    {"name": "Data Shuffling", "vary": ["shuffle"]},
    {"name": "All Nondeterminism Sources", "vary": "all"},
    {"name": "Random Bit Change", "vary": ["bit"]},
    {"name": "Data Shuffling from epoch 3", "vary": ["shuffle"], "onset": 3},
    {"name": "Single/Flip-TTA", "vary": "all", "views": "flip"},
    {"name": "Ensemble (N=2)", "vary": "all", "ensemble": 2},
    {"name": "Broken", "vary": ["init"], "population": 2, "recipe": {"optimizer": {"lr": 1e30}}},
]
"""Rows of three published tables, and one whose members fail."""


def reported_content() -> dict[str, Any]:
    """An experiment whose report has something of everything."""
    published = [f"summers_dinneen_2021.table{number}" for number in (1, 3, 5)]
    return copy.deepcopy(TINY) | {"population": 6, "variants": copy.deepcopy(REPORTED), "published": published}


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its store, every epoch evaluated."""
    folder = tmp_path_factory.mktemp("report") / "store"
    popnet.run(from_mapping(reported_content()), folder, workers=2)
    return folder


@pytest.fixture
def content() -> dict[str, Any]:
    """A tiny experiment as it would stand in a file; free to change."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> popnet.Result:
    """A small experiment, trained once with two workers: read it, and copy its folder before writing into it.

    Its last row holds members that fail: weight decay at an enormous rate blows the weights up.
    """
    content = copy.deepcopy(TINY)
    content["recipe"] |= {"evaluate_every": 3, "keep": ["predictions", "weights"]}
    content["variants"] = [
        {"name": "Initialization", "vary": ["init"], "views": "flip"},
        {"name": "Determinism", "replicas": True, "population": 2},
        {"name": "Ensemble (N=2)", "vary": ["init"], "ensemble": 2},
        {"name": "Snapshots", "vary": ["shuffle"], "snapshots": 2, "population": 2},
        {"name": "Broken", "vary": ["init"], "population": 2, "recipe": {"optimizer": {"lr": 1e30}}},
    ]
    store = tmp_path_factory.mktemp("trained") / "store"
    return popnet.run(from_mapping(content), store, workers=2)


@pytest.fixture
def trained_copy(trained: popnet.Result, tmp_path: Path) -> Path:
    """A copy of the trained store, free to damage."""
    import shutil

    return Path(shutil.copytree(trained.store.path, tmp_path / "copy"))

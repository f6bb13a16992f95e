"""Scaled-down experiments: the same rows and sources, on generated data, in seconds. `--scale smoke` uses it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

import torch

from popnet import config, models
from popnet.config import Experiment, Recipe, Variant
from popnet.errors import ConfigError, nearest

SCALES = ("full", "smoke")
Scale = Literal["full", "smoke"]

EPOCHS = 5
TRAIN, TEST, BATCH = 48, 8, 16
ENSEMBLE = 5
_STEPS = TRAIN // BATCH
_ONE_CHANNEL = ("mnist", "fashion_mnist", "digits")
_CLASSES: Mapping[str, int] = {"cifar100": 20}
_SIDES = (8, 12, 16, 28, 32, 64)
_LANGUAGE_KWARGS = {"embedding": 8, "hidden": 12}
_LANGUAGE = {"sequence_length": 12, "sequence_sd": 2.0, "shortest_sequence": 4, "validation_batch": 2}


def scaled(experiment: Experiment, scale: str) -> Experiment:
    """The experiment at a scale: `full` as it is; `smoke` in seconds, to see every row go through.

    Smoke: generated data of the same channels (48 training images of the smallest size that the model takes, or a short
    text), 5 epochs at most, warm-up, cycles and onsets scaled along, max(3, 2N) members a row for ensembles of N (at
    most 5), 9 crops in place of 25 or 81, `kernels: reorder`, fp32 in place of a GPU's precisions. Imported parts are
    replaced by one hidden layer on images, whose test set has no parts.
    The name ends in `-smoke`, so that its store is its own. Nothing of its numbers means anything.

    Raises:
        ConfigError: the scale is unknown.
    """
    if scale not in SCALES:
        raise ConfigError(f"unknown scale {scale!r}; {nearest(scale, SCALES)}")
    if scale == "full":
        return experiment
    content = {
        "name": f"{experiment.name}-smoke",
        "description": f"{experiment.description or experiment.name}: smoke scale, on generated data",
        "recipe": _recipe(experiment.recipe),
        "population": 3,
        "constants": experiment.constants,
        "variants": [_variant(variant, experiment) for variant in experiment.variants],
        "measure": experiment.measure,
        "published": experiment.published,
    }
    return config.from_mapping(content, origin=f"{experiment.name} at smoke scale")


def _epochs(recipe: Recipe, snapshots: int | None = None) -> int:
    cycles = snapshots or recipe.schedule.cycles
    return cycles if cycles > 1 else min(recipe.epochs, EPOCHS)


def _recipe(recipe: Recipe, snapshots: int | None = None) -> dict[str, Any]:
    """The smoke form of a recipe, as plain data."""
    content = recipe.model_dump(mode="json", by_alias=True)
    epochs = _epochs(recipe, snapshots)
    content |= {
        "epochs": epochs,
        "batch_size": min(recipe.batch_size, BATCH),
        "train_examples": None,
        "evaluation_batch": min(recipe.evaluation_batch, TEST),
        "threads": 1,
        "kernels": {"mode": "reorder"},
        "precision": "bf16" if recipe.precision == "bf16" else "fp32",
    }
    content["schedule"]["warmup_epochs"] *= epochs / max(recipe.epochs, 1)
    content.pop("loader", None)
    if recipe.language is not None:
        content["dataset"] = {"name": "synthetic_text", "kwargs": {"train": 600, "validation": 120, "test": 120}}
        content["model"]["kwargs"] |= _LANGUAGE_KWARGS
        content["batch_size"] = min(recipe.batch_size, 4)
        content["language"] |= _LANGUAGE | {"logit_positions": min(recipe.language.logit_positions, 10)}
        return content
    if recipe.features is not None:
        content["features"]["examples"] = TEST
    if recipe.model.import_path is not None:
        content["model"] = {"name": "hidden_fc"}
    content |= {"loss": {"name": "cross_entropy"}}
    content["dataset"] = _generated(recipe, content["model"])
    if recipe.resize is not None:
        side = content["dataset"]["kwargs"]["height"]
        content["resize"] |= {"train": side, "test": side}
    return content


def _generated(recipe: Recipe, model: Mapping[str, Any]) -> dict[str, Any]:
    """Synthetic images of the channels of the recipe's own, as small as its model takes them."""
    name = str(recipe.dataset.name)
    channels = 1 if name in _ONE_CHANNEL else 3
    classes = _CLASSES.get(name, 10)
    side = _smallest(model["name"], json.dumps(model.get("kwargs", {})), channels, classes, recipe.augment.cutout)
    kwargs = {"train": TRAIN, "test": TEST, "height": side, "width": side, "channels": channels, "classes": classes}
    return {"name": "synthetic", "kwargs": kwargs}


@cache
def _smallest(model: str, kwargs: str, channels: int, classes: int, least: int) -> int:
    """The smallest side of square images that the model takes."""
    error: Exception | None = None
    for side in (side for side in _SIDES if side >= least):
        try:
            with torch.random.fork_rng(devices=[]), torch.inference_mode():
                built = models.build(model, input_shape=(channels, side, side), classes=classes, **json.loads(kwargs))
                built.eval()(torch.zeros(2, channels, side, side))
        except (ConfigError, RuntimeError, ValueError) as failure:
            error = failure
        else:
            return side
    raise ConfigError(f"smoke scale: the model takes no images of up to {_SIDES[-1]} pixels: {error}")


def _variant(variant: Variant, experiment: Experiment) -> dict[str, Any]:
    recipe = experiment.recipe_of(variant)
    full = experiment.recipe.changed(variant.recipe) if variant.recipe else experiment.recipe
    epochs = _epochs(full, variant.snapshots)
    content = variant.model_dump(mode="json", by_alias=True)
    content["part"] = None
    content["ensemble"] = min(variant.ensemble, ENSEMBLE)
    content["population"] = None if variant.cross is not None else max(3, 2 * content["ensemble"])
    content["views"]["name"] = variant.views.name.replace("crop81", "crop9").replace("crop25", "crop9")
    if variant.cross is not None:
        content["cross"] = {source: list(seeds[:3]) for source, seeds in variant.cross.items()}
    content["onset"] = round(variant.onset * epochs / max(recipe.epochs, 1))
    if variant.until_step is not None:
        content["until_step"] = min(variant.until_step, _STEPS)
    content["perturbation"]["step"] = max(min(variant.perturbation.step, _STEPS * epochs - 1), 0)
    if variant.recipe or variant.snapshots is not None:
        content["recipe"] = _recipe(full, variant.snapshots)
        if variant.snapshots is not None:
            content["recipe"]["schedule"] |= {"name": "snapshot", "cycles": variant.snapshots}
    return content

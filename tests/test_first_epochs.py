"""The shipped recipes of models without batch norm train through their warm-up, at full size on real images.

Their learning rates are not printed in the papers. A rate that is too high shows in the first epochs of the full
recipe, and never at smoke scale: its images are synthetic and its epochs too few.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import popnet
from popnet import data, metrics, models, protocol
from popnet.config import Recipe
from popnet.data.resident import ResidentImages
from popnet.engine.devices import platform
from popnet.errors import DataError
from popnet.training.trainer import Trainer

FOLDER = Path(__file__).parent.parent / "experiments"
DELIBERATE = ("linear_learning_rates",)
"""Which looks for the rates at which a linear model is unstable."""


def has_batch_norm(name: str) -> bool:
    model = models.build(name, input_shape=(3, 32, 32), classes=10)
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


WITHOUT = ("hidden_conv", "hidden_fc", "linear", "mnist_cnn")


def recipes() -> dict[str, Recipe]:
    """Each shipped recipe that trains such a model on images, once, under the name of an experiment and its model."""
    found: dict[str, Recipe] = {}
    for file in sorted(FOLDER.glob("*.yaml")):
        experiment = popnet.load(file)
        for variant in experiment.variants:
            recipe = experiment.recipe_of(variant)
            if recipe.model.name in WITHOUT and recipe.epochs > 0 and file.stem not in DELIBERATE:
                name = f"{file.stem}-{recipe.model.name}-{recipe.epochs}"
                if recipe.canonical() not in [other.canonical() for other in found.values()]:
                    found[name] = recipe
    return found


RECIPES = recipes()


def test_these_are_the_models_without_batch_norm() -> None:
    small = [name for name in models.names() if not name.startswith("torchvision")]
    assert tuple(name for name in small if not has_batch_norm(name)) == WITHOUT


def images_of(recipe: Recipe) -> tuple[ResidentImages, ResidentImages]:
    """The recipe's training and test images; a copy of CIFAR-10 will do. Skips where there are none."""
    name = str(recipe.dataset.name)
    try:
        dataset = data.load(name, **{**recipe.dataset.kwargs, **({"copy": True} if name == "cifar10" else {})})
    except DataError as error:
        pytest.skip(f"needs data set {name}: {error}")
    train, test = (
        ResidentImages(torch.from_numpy(images), torch.from_numpy(labels), dataset.mean, dataset.std)
        for images, labels in (
            (dataset.train_images, dataset.train_labels),
            (dataset.test_images, dataset.test_labels),
        )
    )
    return train if recipe.train_examples is None else train.first(recipe.train_examples), test


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_without_batch_norm_trains_through_its_warm_up(name: str) -> None:
    recipe = RECIPES[name].changed({"kernels": {"mode": "reorder"}, "precision": "fp32"})
    train, test = images_of(recipe)
    member = protocol.member(recipe, protocol.Seeds(), protocol.Seeds(), platform("cpu"))
    trainer = Trainer(member, train, test, 10, [protocol.ORIGINAL])
    trainer.run(min(math.ceil(recipe.schedule.warmup_epochs) + 1, recipe.epochs))  # raises where the loss is not finite
    logits = trainer.predictions()
    assert not metrics.diverged(logits, test.labels.numpy())[0], trainer.history

"""What plans would cost on this machine, and how much sharing saves, without training any of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from popnet.config import Recipe
from popnet.data.resident import ResidentImages
from popnet.engine.devices import available_cores
from popnet.errors import PopnetError
from popnet.protocol import ORIGINAL, Member, Plan, Platform, Seeds, member, steps_per_epoch
from popnet.training.trainer import Trainer

SIZES: Mapping[str, tuple[int, int, tuple[int, int, int], int]] = {
    "cifar10": (50_000, 10_000, (32, 32, 3), 10),
    "cifar100": (50_000, 10_000, (32, 32, 3), 100),
    "mnist": (60_000, 10_000, (28, 28, 1), 10),
    "fashion_mnist": (60_000, 10_000, (28, 28, 1), 10),
    "digits": (898, 899, (8, 8, 1), 10),
}
"""Training images, test images, shape [h, w, c] and classes of data sets that need not be here to be planned."""

_FORWARD = 1.0 / 3.0  # a forward pass, as a share of a training step
_MEASURED_BATCH = 64
_NOWHERE = Platform("estimate", ())


@dataclass(frozen=True)
class Cost:
    """What a plan comes to.

    Attributes:
        rows: members summed over the rows of its tables.
        members: different trainings among them.
        new: those of them that no earlier plan of the survey has.
        epochs_asked: epochs of all rows' members, each trained alone from its beginning.
        epochs: those left once equal members, within the plan and in earlier ones, and common beginnings are shared.
        seconds: of one CPU thread for them; None where it was not or cannot be measured.
    """

    name: str
    rows: int
    members: int
    new: int
    epochs_asked: int
    epochs: int
    seconds: float | None

    @property
    def saved(self) -> float:
        """The share of the epochs that sharing saves."""
        return 1.0 - self.epochs / self.epochs_asked if self.epochs_asked else 0.0

    @property
    def hours(self) -> float | None:
        """On all cores of this machine, a member on each."""
        return None if self.seconds is None else self.seconds / 3600 / available_cores()


def survey(plans: Sequence[Plan], measure: bool = True) -> Iterator[Cost]:
    """The cost of each plan in turn; what an earlier plan trains is not counted again.

    With `measure`, one short training of each kind of recipe tells the speed: a few steps on random images, in this
    process, on one thread.
    """
    known: set[str] = set()
    speeds: dict[str, float | None] = {}
    for plan in plans:
        new = [m for m in plan.members if m.id not in known]
        known.update(m.id for m in new)
        epochs, seconds = 0, 0.0
        measurable = measure
        for m, trained in _trained(plan, new):
            epochs += trained
            rate = _speed(m.recipe, speeds) if measurable else None
            size = _size(m.recipe)
            if rate is None or size is None:
                measurable = False
            else:
                seconds += _images(plan, m, trained, size) / rate
        asked = sum(m.recipe.epochs for population in plan.populations for m in population.members)
        yield Cost(
            plan.experiment.name, plan.rows, len(plan.members), len(new), asked, epochs, seconds if measurable else None
        )


def _trained(plan: Plan, members: Sequence[Member]) -> Iterator[tuple[Member, int]]:
    """Each training with its epochs: the members, from where they leave a shared beginning, and the beginnings."""
    steps = {m.recipe.digest: _steps(m.recipe) for m in members}
    trunks = {(trunk.member.id, trunk.views): trunk for trunk in plan.trunks(members, steps)}
    for trunk in trunks.values():
        yield trunk.member, trunk.epochs[-1]
    for m in members:
        beginning = trunks.get((m.trunk.id, plan.views[m.id]))
        leaves = m.diverges(steps[m.recipe.digest])
        shared = max((e for e in beginning.epochs if e <= leaves), default=0) if beginning is not None else 0
        yield m, m.recipe.epochs - shared


def _size(recipe: Recipe) -> tuple[int, int, tuple[int, int, int], int] | None:
    """Training and test images, shape and classes of a recipe's data, where they are known without loading it."""
    name, kwargs = recipe.dataset.name, recipe.dataset.kwargs
    if recipe.language is not None or name is None:
        return None
    if name == "synthetic":
        shape = (kwargs.get("height", 8), kwargs.get("width", 8), kwargs.get("channels", 1))
        known = (kwargs.get("train", 512), kwargs.get("test", 256), shape, kwargs.get("classes", 10))
    elif name in SIZES:
        known = SIZES[name]
    else:
        return None
    return (recipe.train_examples or known[0], *known[1:])


def _steps(recipe: Recipe) -> int:
    size = _size(recipe)
    return 1 if size is None else max(steps_per_epoch(recipe, size[0]), 1)


def _images(plan: Plan, m: Member, epochs: int, size: tuple[int, int, tuple[int, int, int], int]) -> float:
    """Training images that the member's epochs and evaluations come to, a forward pass counted as a third."""
    evaluated = epochs // m.recipe.evaluate_every if m.recipe.evaluate_every else 0
    views = len(plan.views[m.id]) * m.recipe.schedule.cycles
    return epochs * size[0] + _FORWARD * (evaluated + views) * size[1]


def _speed(recipe: Recipe, speeds: dict[str, float | None]) -> float | None:
    """Training images a second on one thread; None where the recipe cannot be trained here."""
    key = recipe.model_copy(update={"epochs": 1, "optimizer": recipe.optimizer.model_copy(update={"lr": 1.0})})
    signature = f"{key.model.identity} {key.dataset.identity} {key.augment} {key.precision} {key.optimizer.name}"
    if signature not in speeds:
        speeds[signature] = _measured_speed(recipe)
    return speeds[signature]


def _measured_speed(recipe: Recipe) -> float | None:
    size = _size(recipe)
    if size is None:
        return None
    changes: dict[str, Any] = {
        "epochs": 3,
        "batch_size": min(recipe.batch_size, _MEASURED_BATCH),
        "evaluate_every": 0,
        "precision": "bf16" if recipe.precision == "bf16" else "fp32",
        "kernels": {"mode": "reorder"},
        "schedule": {"name": "constant", "warmup_epochs": 0, "cycles": 1},
    }
    short = recipe.changed(changes)
    images = _random_images(2 * short.batch_size, size[2], size[3])
    before = torch.get_num_threads()
    torch.set_num_threads(recipe.threads)
    try:
        one = member(short, Seeds(), Seeds(), _NOWHERE)
        trainer = Trainer(one, images, images.first(2), size[3], (ORIGINAL,))
        trainer.run(until=1)
        began = time.perf_counter()
        trainer.run(until=2)
        return 2 * short.batch_size / (time.perf_counter() - began)
    except PopnetError:
        return None
    finally:
        torch.set_num_threads(before)


def _random_images(count: int, shape: tuple[int, int, int], classes: int) -> ResidentImages:
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.integers(0, 256, (count, *shape), dtype=np.uint8))
    labels = torch.from_numpy(generator.integers(0, classes, count))
    return ResidentImages(images, labels, (0.5,) * shape[2], (0.25,) * shape[2])

"""What plans would cost on this machine, and how much sharing saves, in one store or one each; nothing is trained."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from popnet.config import Recipe
from popnet.data.resident import ResidentImages
from popnet.engine.devices import available_cores
from popnet.protocol import ORIGINAL, Member, Plan, Platform, Seeds, View, member, steps_per_epoch
from popnet.training.trainer import Trainer

SIZES: Mapping[str, tuple[int, int, tuple[int, int, int], int]] = {
    "cifar10": (50_000, 10_000, (32, 32, 3), 10),
    "cifar100": (50_000, 10_000, (32, 32, 3), 100),
    "mnist": (60_000, 10_000, (28, 28, 1), 10),
    "fashion_mnist": (60_000, 10_000, (28, 28, 1), 10),
    "digits": (898, 899, (8, 8, 1), 10),
}
"""Training images, test images, shape [h, w, c] and classes of data sets that need not be here to be planned."""

NOT_ASKED = "not asked for"
"""Why hours are not known where nothing is to be measured."""

_FORWARD = 1.0 / 3.0  # a forward pass, as a share of a training step
_MEASURED_BATCH = 64
_LONG = 1.5  # seconds of the first steps, beyond which no more are timed
_NOWHERE = Platform("estimate", ())


@dataclass(frozen=True)
class Cost:
    """What a plan comes to: in a store of its own, and in one store that has the earlier plans of the survey.

    Attributes:
        rows: members summed over the rows of its tables.
        members: different trainings among them: what a store of its own needs.
        new: those of them that the common store needs still: it has not the others' members, or not all that this plan
            keeps of them.
        epochs_asked: epochs of all rows' members, each trained alone from its beginning.
        epochs: those left in a store of its own, where equal members and common beginnings are trained once.
        common_epochs: those left in the common store.
        seconds, common_seconds: of CPU, one core for each thread of a member; None where they are not known.
        unknown: why they are not known; empty where they are.
        instead: how the training that was timed differs from the plan's; empty where it does not.
    """

    name: str
    rows: int
    members: int
    new: int
    epochs_asked: int
    epochs: int
    common_epochs: int
    seconds: float | None
    common_seconds: float | None
    unknown: str = ""
    instead: str = ""

    @property
    def saved(self) -> float:
        """The share of the epochs that sharing saves in a store of its own."""
        return 1.0 - self.epochs / self.epochs_asked if self.epochs_asked else 0.0

    @property
    def hours(self) -> float | None:
        """On all cores of this machine, a member on each."""
        return _hours(self.seconds)

    @property
    def common_hours(self) -> float | None:
        return _hours(self.common_seconds)


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 3600 / available_cores()


def survey(plans: Sequence[Plan], measure: bool = True, own_code: bool = True) -> Iterator[Cost]:
    """The cost of each plan in turn.

    Args:
        measure: whether to time one short training of each kind of recipe: a few steps on random images, in this
            process, on the CPU. Without it no seconds are known.
        own_code: whether that may run parts which are given by `import:`.
    """
    stored: dict[str, set[str | View]] = {}
    speeds: dict[str, float | str] = {}
    for plan in plans:
        new = [m for m in plan.members if not stored.get(m.id, set()).issuperset(_outputs(plan, m))]
        known = len(new) < len(plan.members)
        for m in plan.members:
            stored.setdefault(m.id, set()).update(_outputs(plan, m))
        why = "" if measure else NOT_ASKED
        why = why or next((no for m in plan.members if (no := _cannot_be_timed(m.recipe, speeds, own_code))), "")
        epochs, seconds = _work(plan, plan.members, speeds, not why)
        common_epochs, common_seconds = _work(plan, new, speeds, not why) if known else (epochs, seconds)
        yield Cost(
            plan.experiment.name,
            plan.rows,
            len(plan.members),
            len(new),
            sum(m.recipe.epochs for population in plan.populations for m in population.members),
            epochs,
            common_epochs,
            seconds,
            common_seconds,
            why,
            "" if why else _instead(plan),
        )


def _outputs(plan: Plan, m: Member) -> set[str | View]:
    """What a store keeps of a member for the plan: a store that lacks some of it trains the member again."""
    kept = {*m.recipe.keep, *(("features",) if m.recipe.features is not None else ())}
    return {*plan.views[m.id], *kept}


def _cannot_be_timed(recipe: Recipe, speeds: dict[str, float | str], own_code: bool) -> str:
    """Why a recipe's speed is not known here; empty once it is measured."""
    if recipe.language is not None:
        return "language models untimed"
    if _size(recipe) is None:
        return f"size of {recipe.dataset.name or 'imported data'} unknown"
    if not own_code and any(getattr(getattr(recipe, name), "import_path", None) for name in Recipe.model_fields):
        return "runs imported code; --measure"
    speed = _speed(recipe, speeds)
    return speed if isinstance(speed, str) else ""


def _instead(plan: Plan) -> str:
    """How the timed training differs from the plan's: half precision, TF32 and nondeterministic kernels are a GPU's."""
    recipes = {m.recipe.digest: m.recipe for m in plan.members}.values()
    asked = dict.fromkeys(f"precision={r.precision}" for r in recipes if r.precision in ("fp16", "tf32"))
    if any(m.seeds.kernels != 1 and m.recipe.kernels.mode == "hardware" for m in plan.members):
        asked["kernels.mode=hardware"] = None
    if asked:
        return f"{' and '.join(asked)} need{'s' if len(asked) == 1 else ''} a GPU; timed on the CPU without"
    return "" if plan.platform.device.startswith("cpu") else "trained on the GPU; timed on the CPU"


def _work(
    plan: Plan, members: Sequence[Member], speeds: dict[str, float | str], timed: bool
) -> tuple[int, float | None]:
    """Epochs and seconds of CPU of some of a plan's members; no seconds where the plan is not timed."""
    epochs, seconds = 0, 0.0
    for m, trained in _trained(plan, members):
        epochs += trained
        speed, size = _speed(m.recipe, speeds) if timed else "", _size(m.recipe)
        if isinstance(speed, float) and size is not None:
            seconds += m.recipe.threads * _images(plan, m, trained, size) / speed
    return epochs, seconds if timed else None


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
    larger = 1.0 if m.recipe.resize is None else (m.recipe.resize.test / m.recipe.resize.train) ** 2
    return epochs * size[0] + _FORWARD * larger * (evaluated + views) * size[1]


def _speed(recipe: Recipe, speeds: dict[str, float | str]) -> float | str:
    """Training images a second of one member; why not, where the recipe cannot be trained here."""
    signature = " ".join(
        str(part)
        for part in (
            *(recipe.model.identity, recipe.dataset.identity, recipe.augment, recipe.precision == "bf16"),
            *(recipe.optimizer.name, recipe.optimizer.import_path, recipe.loss.identity, recipe.threads),
            *(recipe.averaging, recipe.weight_noise, recipe.resize),
        )
    )
    if signature not in speeds:
        try:
            speeds[signature] = _measured_speed(recipe)
        except Exception as error:  # an imported part may raise anything
            speeds[signature] = f"cannot be trained here: {error}"
    return speeds[signature]


def _measured_speed(recipe: Recipe) -> float:
    size = _size(recipe)
    assert size is not None
    changes: dict[str, Any] = {
        "epochs": 3,
        "batch_size": min(recipe.batch_size, _MEASURED_BATCH),
        "evaluate_every": 0,
        "precision": "bf16" if recipe.precision == "bf16" else "fp32",
        "kernels": {"mode": "reorder"},
        "schedule": {"name": "constant", "warmup_epochs": 0, "cycles": 1},
    }
    short = recipe.changed(changes)
    height, width, channels = size[2]
    if recipe.resize is not None:
        height = width = recipe.resize.train
    images = _random_images(2 * short.batch_size, (height, width, channels), size[3])
    before = torch.get_num_threads()
    torch.set_num_threads(recipe.threads)
    try:
        one = member(short, Seeds(), Seeds(), _NOWHERE)
        trainer = Trainer(one, images, images.first(2), size[3], (ORIGINAL,))
        seconds = math.inf
        for epoch in (1, 2):  # the first one is slower, and is enough of a model that takes long
            began = time.perf_counter()
            trainer.run(until=epoch)
            seconds = min(seconds, time.perf_counter() - began)
            if seconds > _LONG:
                break
        return 2 * short.batch_size / seconds
    finally:
        torch.set_num_threads(before)


def _random_images(count: int, shape: tuple[int, int, int], classes: int) -> ResidentImages:
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.integers(0, 256, (count, *shape), dtype=np.uint8))
    labels = torch.from_numpy(generator.integers(0, classes, count))
    return ResidentImages(images, labels, (0.5,) * shape[2], (0.25,) * shape[2])

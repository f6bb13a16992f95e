"""The rows of the GPU benchmark, the most valuable first, and which of them one process measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

import torch

MODELS = ("resnet14", "linear", "hidden_fc", "hidden_conv", "vgg11", "resnet9", "resnet18")
FIRST_MODELS = MODELS[:3]
PRECISIONS = ("bf16", "tf32", "fp32")
COHORTS = (1, 4, 16, 2, 8)
VMAPS = (16, 64)
WITHOUT_NORM = ("linear", "hidden_fc")  # vmap takes no batch norm, whose statistics a step changes
POPNETS = ("cohort", "processes")


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        images, batch: of the training set, in whole batches, so that every step is alike.
        seconds: that are measured of a row once it is warm; but one epoch at least.
        large: bytes of what the device's rates are measured with.
    """

    images: int
    batch: int
    seconds: float
    large: int

    @property
    def steps(self) -> int:
        return self.images // self.batch


FULL = Sizes(images=98 * 512, batch=512, seconds=3.0, large=2**30)
TINY = Sizes(images=8, batch=4, seconds=0.0, large=2**18)


@dataclass(frozen=True)
class Row:
    """One measurement: a model in a precision, trained by a method, as in `resnet14 bf16 cohort 16`."""

    model: str
    precision: str
    method: str

    @staticmethod
    def of(key: str) -> Row:
        return Row(*key.split(" ", 2))

    @property
    def key(self) -> str:
        return f"{self.model} {self.precision} {self.method}"

    @property
    def kind(self) -> str:
        return self.method.split()[0]

    @property
    def members(self) -> int:
        return int(self.method.split()[1]) if " " in self.method else 1


def quick_methods(model: str) -> tuple[str, ...]:
    """What tells most for its time: popnet against the script, and against the peer that comes closest."""
    peers = [f"vmap {k}" for k in VMAPS] if model in WITHOUT_NORM else ["tuned"]
    return ("script", *(f"cohort {k}" for k in COHORTS), *peers)


def slow_methods(model: str) -> tuple[str, ...]:
    """The others, which compile for a minute or start several processes."""
    return (*(["tuned"] if model in WITHOUT_NORM else []), "processes 4", "compiled")


def rows() -> Iterator[Row]:
    """Every row, the most valuable first: what a call that ends early should have told."""

    def every(models: tuple[str, ...], *methods: Callable[[str], tuple[str, ...]]) -> Iterator[Row]:
        for precision in PRECISIONS:
            for model in models:
                for method in (m for made in methods for m in made(model)):
                    yield Row(model, precision, method)

    yield from every(FIRST_MODELS, quick_methods)
    yield from every(FIRST_MODELS, slow_methods)
    yield from every(MODELS[len(FIRST_MODELS) :], quick_methods, slow_methods)


def measurable(row: Row, device: torch.device) -> bool:
    """Whether a device can run a row.

    A CPU has no TF32, and to compile for it shows nothing of a GPU. It runs members one after the other, so that
    large cohorts and further processes show no more than small ones and the first.
    """
    if device.type == "cuda":
        return True
    if row.precision == "tf32" or row.kind == "compiled":
        return False
    if row.kind == "processes":
        return (row.model, row.precision) == ("linear", "bf16")
    return row.members <= {"cohort": 2, "vmap": 16}.get(row.kind, 1)


def groups(wanted: list[Row], device: torch.device) -> list[list[Row]]:
    """Rows that one process measures: the cohorts of a model and precision, for which slots are opened once; by vmap.

    On a CPU, where nothing is measured but that they run, all rows that need no process of their own.
    """
    if device.type == "cpu":
        alone = [row for row in wanted if row.kind == "processes"]
        together = [row for row in wanted if row.kind != "processes"]
        return ([together] if together else []) + [[row] for row in alone]
    made = []
    for (_, _, kind), same in groupby(wanted, lambda row: (row.model, row.precision, row.kind)):
        found = list(same)
        made += [found] if kind in ("cohort", "vmap") else [[row] for row in found]
    return made

"""The first facts of a device, for one model in one precision.

Is a training step captured? Are the bits of its replays those of eager steps, twice the same, and the same for any
number of members at once? How long does a step take, on which kernels?

    python tests/native/first_light.py OUT --model resnet14 --precision bf16 [--seconds 42]

A fact is a line of OUT/first_light.jsonl, written at once; the kernels' table is appended to OUT/kernels.txt. A fact
that contradicts popnet's promises, or that could not be had, has the key `failed`; then the exit code is 1. Without a
device members train on the CPU, in miniature, and what only a device shows is `not measured`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from steps import NO_DEVICE

from popnet.config import from_mapping
from popnet.data.resident import ResidentImages
from popnet.engine.local import GPU_ENVIRONMENT
from popnet.protocol import ORIGINAL, Member, Platform, plan
from popnet.store import digest
from popnet.training.memory import is_lost
from popnet.training.rack import Rack
from popnet.training.slots import Slot
from popnet.training.trainer import Trainer

MODELS = ("resnet14", "linear", "hidden_fc")
CLASSES = 10
STEPS_OF_A_MODEL = 500 * 98
"""500 epochs of 50,000 images, at batch 512."""
NOT_MEASURED = "not measured: no CUDA device"
_ON_DEVICE = torch.autograd.DeviceType.CUDA
_PROFILED_GRAPHS = {"DISABLE_CUPTI_LAZY_REINIT": "1", "TEARDOWN_CUPTI": "0"}
"""Without these a process that has captured graphs can crash at the profiler's end; PyTorch sets them for its own."""
_FOR_THE_KERNELS = 10.0
"""Seconds kept for their table, which comes last: the profiler slows down what follows it."""


@dataclass(frozen=True)
class Sizes:
    """Images of an epoch, of a batch, members at once at most, epochs that are timed, and replays that are profiled."""

    images: int
    batch: int
    members: int
    epochs: int
    replays: int


FULL = Sizes(images=40 * 512 + 336, batch=512, members=16, epochs=3, replays=5)
TINY = Sizes(images=2 * 8 + 4, batch=8, members=2, epochs=1, replays=2)


class Facts:
    """Writes them: OUT/first_light.jsonl, and the terminal.

    Args:
        out: the folder.
        common: stands in every line.
    """

    def __init__(self, out: Path, **common: str) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._path, self._common = out / "first_light.jsonl", common
        self.failed: list[str] = []
        """The names of those that failed."""

    def tell(self, fact: str, holds: bool = True, **values: object) -> None:
        """Write a fact; unless it `holds`, as one that failed."""
        self.failed += [] if holds else [fact]
        when = {"when": datetime.now(UTC).isoformat(timespec="seconds")}
        line = {**when, **self._common, "fact": fact, **values, **({} if holds else {"failed": True})}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def attempt(self, fact: str, find: Callable[[], None]) -> bool:
        """Call `find`; an error is written as the failure of `fact`. Returns whether there was none.

        Raises:
            RuntimeError: nothing more can be computed in this process.
        """
        try:
            find()
        except Exception as error:
            traceback.print_exc()
            self.tell(fact, holds=False, error=f"{type(error).__name__}: {error}"[:500])
            if is_lost(error):
                raise
            return False
        return True


# ---- members and the places they train in ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where members train one after another: a slot of a CUDA device; None: the CPU."""

    slot: Slot | None

    def entered(self) -> AbstractContextManager[None]:
        return nullcontext() if self.slot is None else self.slot.entered()

    def trainer(self, member: Member, images: ResidentImages, batch: int) -> Trainer:
        test = images.first(batch)
        with self.entered():
            if self.slot is None:
                return Trainer(member, images, test, CLASSES, (ORIGINAL,))
            return self.slot.trainer(member, images, test, CLASSES, (ORIGINAL,))

    def epoch(self, trainer: Trainer) -> None:
        """Train for an epoch, and wait until it is done."""
        with self.entered():
            trainer.run(until=trainer.epoch + 1)
            if self.slot is not None:
                self.slot.synchronize()

    def bits(self, trainer: Trainer) -> str:
        with self.entered():
            return digest(trainer.weights())


def images(sizes: Sizes, device: torch.device) -> ResidentImages:
    """Random ones of CIFAR's shape: what they show does not matter here."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (sizes.images, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (sizes.images,), generator=generator)
    return ResidentImages(pixels, labels, (0.5,) * 3, (0.25,) * 3).to(device)


def members(model: str, precision: str, sizes: Sizes) -> tuple[Member, ...]:
    """As many as train at once at most; they differ in initialisation, order and augmentation."""
    recipe = {
        "dataset": {"name": "synthetic", "kwargs": {"train": sizes.images, "test": sizes.batch}},
        "model": model,
        "epochs": 1000,  # more than are trained
        "batch_size": sizes.batch,
        "precision": precision,
        "evaluate_every": 0,
        "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": "constant",
        "augment": {"crop": 4, "flip": True},
    }
    variants = [{"name": "all", "vary": ["init", "shuffle", "augment"]}]
    content = {"name": "first-light", "recipe": recipe, "population": sizes.members, "variants": variants}
    return plan(from_mapping(content), Platform("first-light", ())).members


# ---- the facts -------------------------------------------------------------------------------------------------------


class FirstLight:
    """Finds the facts of one model in one precision.

    Args:
        slots: whether members train in slots, which takes a CUDA device.
        ends: by `time.monotonic`; no more members at once are tried after that.
    """

    def __init__(
        self, facts: Facts, model: str, precision: str, sizes: Sizes, device: torch.device, slots: bool, ends: float
    ) -> None:
        self._facts, self._sizes, self._ends = facts, sizes, ends
        self._rack = Rack(device) if slots else None
        self._images = images(sizes, device)
        self._members = members(model, precision, sizes)
        self._places: list[Place] = []
        self._alone: dict[str, str] = {}
        self._hourly: dict[int, float] = {}

    def find(self, table: Path, title: str) -> None:
        """All facts, each as soon as it is known; the kernels' table is appended to a file under its title."""
        if not self._facts.attempt("captured", self._captured):
            return
        self._facts.attempt("graphs equal eager", self._equal_to_eager)
        if not self._facts.attempt("alone", self._each_alone):
            return
        count = 1
        while count <= self._sizes.members:
            if time.monotonic() > self._ends:
                self._facts.tell(f"{count} at once", holds=False, error="not tried: no time was left")
                break
            if not self._facts.attempt(f"{count} at once", lambda count=count: self._at_once(count)):  # type: ignore[misc]
                break
            count *= 2
        slot = self._places[0].slot
        if slot is None:
            self._facts.tell("kernels", result=NOT_MEASURED)
            return
        self._facts.attempt("host", lambda: self._host(slot))
        self._facts.attempt("kernels", lambda: self._profile(slot, table, title))

    def summary(self) -> str:
        """What failed, and the models an hour for each number of members at once, in one line."""
        speeds = ", ".join(f"{hourly} with {count}" for count, hourly in self._hourly.items())
        failed = f"failed: {', '.join(self._facts.failed)}" if self._facts.failed else "nothing failed"
        return f"{failed}; models an hour at once: {speeds or NOT_MEASURED}"

    def _open(self) -> float:
        """One more place; returns the seconds it took. The place of a device must have graphs."""
        began = time.perf_counter()
        if self._rack is None:
            self._places.append(Place(None))
            return 0.0
        slot = Slot(self._rack)
        slot.warn = lambda text: self._facts.tell("warning", text=text)
        with slot.entered():
            slot.prepare(self._members[0], self._images, self._images.first(self._sizes.batch), CLASSES)
        if slot.graphs is None:
            raise RuntimeError("the step was not captured; the warning says why")
        self._places.append(Place(slot))
        return time.perf_counter() - began

    def _captured(self) -> None:
        seconds = self._open()
        self._facts.tell("captured", result=NOT_MEASURED if self._rack is None else True, seconds=round(seconds, 2))

    def _trainer(self, place: Place, member: Member) -> Trainer:
        return place.trainer(member, self._images, self._sizes.batch)

    def _epoch(self, place: Place, member: Member) -> str:
        """The weights' digest after the member's first epoch."""
        trainer = self._trainer(place, member)
        place.epoch(trainer)
        return place.bits(trainer)

    def _equal_to_eager(self) -> None:
        if self._rack is None:
            self._facts.tell("graphs equal eager", result=NOT_MEASURED)
            return
        eager = Slot(Rack(self._rack.device), capture=False)
        by_steps = self._epoch(Place(eager), self._members[0])
        eager.close()
        by_replays = self._epoch(self._places[0], self._members[0])
        equal = by_steps == by_replays
        self._facts.tell("graphs equal eager", equal, result=equal, graphs=by_replays, eager=by_steps)

    def _each_alone(self) -> None:
        """The bits to compare with, and whether the first member has them twice."""
        for member in self._members:
            self._alone[member.id] = self._epoch(self._places[0], member)
        first = self._members[0]
        again = self._epoch(self._places[0], first)
        self._facts.tell("twice equal", again == self._alone[first.id], result=again == self._alone[first.id])
        apart = len(set(self._alone.values())) == len(self._alone)
        self._facts.tell("members differ", apart, result=apart)

    def _at_once(self, count: int) -> None:
        """Train `count` members at the same time, for equality in the first epoch, and for time in those after it."""
        seconds = [self._open() for _ in range(count - len(self._places))]
        pairs = [(place, self._trainer(place, m)) for place, m in zip(self._places, self._members[:count], strict=True)]

        def epoch(threads: ThreadPoolExecutor) -> float:
            began = time.perf_counter()
            list(threads.map(lambda pair: pair[0].epoch(pair[1]), pairs))
            return time.perf_counter() - began

        with ThreadPoolExecutor(count) as threads:
            epoch(threads)
            bits = [place.bits(trainer) for place, trainer in pairs]
            equal = sum(a == self._alone[m.id] for a, m in zip(bits, self._members))
            self._facts.tell(f"{count} at once", equal == count, members=count, equal_to_alone=equal)
            times = [epoch(threads) for _ in range(self._sizes.epochs)]
        self._facts.tell(f"time of {count} at once", members=count, **self._times(count, times, seconds))

    def _times(self, count: int, times: list[float], opened: list[float]) -> dict[str, object]:
        if self._rack is None:
            return {"result": NOT_MEASURED}
        step = statistics.median(times) / (self._sizes.images / self._sizes.batch) / count
        self._hourly[count] = round(3600 / (step * STEPS_OF_A_MODEL), 2)
        return {
            "milliseconds_a_step_and_member": round(1e3 * step, 4),
            "models_an_hour": self._hourly[count],
            "epoch_seconds": [round(t, 5) for t in times],
            "opened_in_seconds": [round(s, 2) for s in opened],
            "reserved_gb": round(torch.cuda.memory_reserved(self._rack.device) / 1e9, 2),
        }

    def _host(self, slot: Slot) -> None:
        """Microseconds of the host for each replay of a step, the device busy with those before."""
        with slot.entered():
            times = [b - a for a, b in _replayed(slot, self._sizes.images // self._sizes.batch)]
            slot.synchronize()
        median, worst = (round(1e6 * t, 1) for t in (statistics.median(times), max(times)))
        self._facts.tell("host", microseconds_a_replay=median, worst=worst)

    def _profile(self, slot: Slot, table: Path, title: str) -> None:
        from torch.profiler import ProfilerActivity, profile

        replays = self._sizes.replays
        os.environ |= _PROFILED_GRAPHS
        with slot.entered():
            slot.synchronize()
            with profile(activities=[ProfilerActivity.CUDA]) as found:
                list(_replayed(slot, replays))
                slot.synchronize()
        kernels = [e for e in found.events() if e.device_type == _ON_DEVICE]
        text = found.key_averages().table(sort_by="self_device_time_total", row_limit=60, max_name_column_width=110)
        with table.open("a") as file:
            file.write(f"{title}: {replays} replays of a step\n{text}\n\n")
        busy = sum(e.device_time_total for e in kernels) / replays
        a_step = round(len(kernels) / replays, 1)
        self._facts.tell("kernels", bool(kernels), kernels_a_step=a_step, milliseconds_a_step=round(busy / 1e3, 4))


def _replayed(slot: Slot, number: int) -> Iterator[tuple[float, float]]:
    """Enqueue so many whole training steps from the epoch's first on; yields when each call began and returned."""
    assert slot.graphs is not None
    assert slot.epoch is not None
    count, hardware = max(slot.graphs.sizes)
    slot.epoch.rewind()
    for _ in range(number):
        began = time.perf_counter()
        slot.graphs.train(count, hardware)
        yield began, time.perf_counter()


def main() -> None:
    """Exits with 0, 1 if a fact failed, or 77 without a device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the folder for the facts")
    parser.add_argument("--model", choices=MODELS, default="resnet14")
    parser.add_argument("--precision", choices=("bf16", "tf32", "fp32"), default="bf16")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=42.0, help="begin nothing after about so long")
    arguments = parser.parse_args()
    on_device = arguments.device == "cuda"
    ends = time.monotonic() + arguments.seconds - _FOR_THE_KERNELS if on_device else math.inf
    facts = Facts(arguments.out, device=_name(on_device), model=arguments.model, precision=arguments.precision)
    if arguments.precision == "tf32" and not on_device:
        facts.tell("all", result=f"{NOT_MEASURED}, and a CPU has no TF32")
        sys.exit(NO_DEVICE)
    os.environ.update(GPU_ENVIRONMENT)  # before CUDA starts
    device = torch.device("cuda", 0) if on_device else torch.device("cpu")
    sizes = FULL if on_device else TINY
    light = FirstLight(facts, arguments.model, arguments.precision, sizes, device, on_device, ends)
    light.find(arguments.out / "kernels.txt", f"{arguments.model} {arguments.precision}")
    print(light.summary())
    sys.exit(1 if facts.failed else 0 if on_device else NO_DEVICE)


def _name(on_device: bool) -> str:
    return torch.cuda.get_device_name(0) if on_device else "cpu"


if __name__ == "__main__":
    main()

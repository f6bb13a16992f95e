"""What deterministic kernels cost, and how far they, or the order of a sum, or one bit move a network's outputs.

    python benchmarks/determinism.py [--json benchmarks/results/determinism.json]
    python benchmarks/determinism.py --device cuda --json benchmarks/results/GPU.json
    python benchmarks/determinism.py --tiny --device cpu     the same from end to end, in seconds

Summers & Dinneen (2021, Section 3) put the penalty of cuDNN's deterministic kernels at about 15% of the speed, and the
difference that nondeterministic ones made to an output, in one test, at 0.003%. Here both are measured.

Time: one epoch, evaluation left out, of one member under each choice of kernels, in rounds: each round has an epoch
of every choice, in rotating order. The cost is the median over rounds of deterministic against hardware in that
round. On a GPU the epochs are timed between synchronisations, step by step (as a script trains) and as captured graphs
(as popnet trains). On a CPU the time is what the process computed, on one thread, which other programs hardly change.

* deterministic: deterministic kernels only; every member of popnet whose `kernels` seed is 1.
* reorder: the same, with the examples inside each batch permuted: the seeded proxy.
* hardware: the device's fastest kernels, deterministic or not, chosen by trial (`cudnn.benchmark`). Not on a CPU, whose
  kernels are deterministic anyway.

Movement: two members differ in one thing alone and see the same images in the same batches. What is printed is the norm
of the difference of their logits over all test images, in percent of the norm of the logits: before training, after one
step, and after each epoch. The twin of the deterministic member has its sums in another order (reorder), one weight one
bit away (bit), or the hardware's kernels (hardware); `hardware twice` are two runs of equal members on those.

Rows that the JSON file holds are not measured again, and none begins after `--seconds`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loader import cpu_model
from numpy.typing import NDArray

import popnet
from popnet.config import from_mapping
from popnet.data.resident import ResidentImages
from popnet.protocol import ORIGINAL, Member, Platform, plan
from popnet.training.slots import Rack, Slot
from popnet.training.trainer import Trainer

MODELS = ("resnet14", "vgg11", "resnet18")
PRECISIONS = ("fp32", "tf32", "bf16")
CHOICES = ("deterministic", "reorder", "hardware")
TWINS = ("reorder", "bit", "hardware", "hardware twice")
PUBLISHED = {"deterministic_costs_percent": 15.0, "output_moves_percent": 0.003}
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Sizes:
    """How much is measured: training and test images, the batch, rounds after the first, and epochs of the twins."""

    images: int
    tests: int
    batch: int
    rounds: int
    epochs: int


SIZES = {
    "cuda": Sizes(images=50_000, tests=10_000, batch=512, rounds=5, epochs=5),
    "cpu": Sizes(images=1024, tests=256, batch=128, rounds=3, epochs=3),
    "tiny": Sizes(images=96, tests=16, batch=32, rounds=1, epochs=1),
}


@dataclass(frozen=True)
class Row:
    """A model in a precision."""

    model: str
    precision: str

    @property
    def key(self) -> str:
        return f"{self.model} {self.precision}"


def members(row: Row, sizes: Sizes) -> dict[str, Member]:
    """The members to compare: the deterministic one, and its twins."""

    def planned(kernels: str, *sources: str) -> Iterator[tuple[Member, ...]]:
        made = from_mapping(
            {
                "name": "determinism",
                "recipe": {
                    "dataset": {"name": "synthetic", "kwargs": {"train": sizes.images, "test": sizes.tests}},
                    "model": row.model,
                    "epochs": 100,  # more than are trained
                    "batch_size": sizes.batch,
                    "optimizer": {"name": "sgd", "lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4},
                    "schedule": "constant",
                    "augment": {"crop": 4, "flip": True},
                    "precision": row.precision,
                    "kernels": kernels,
                    "evaluate_every": 0,
                },
                "population": 2,
                "variants": [{"name": source, "vary": [source]} for source in sources],
            }
        )
        return (population.members for population in plan(made, Platform("benchmark", ())).populations)

    (deterministic, reorder), (bit, _) = planned("reorder", "kernels", "bit")
    ((hardware, again),) = planned("hardware", "kernels")
    return {
        "deterministic": deterministic,
        "reorder": reorder,
        "bit": bit,
        "hardware": hardware,
        "hardware twice": again,
    }


def images(sizes: Sizes, device: torch.device) -> tuple[ResidentImages, ResidentImages]:
    """Training and test images of CIFAR's shape."""
    data = popnet.data.load("synthetic", train=sizes.images, test=sizes.tests)

    def resident(pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> ResidentImages:
        return ResidentImages(torch.from_numpy(pixels), torch.from_numpy(labels), data.mean, data.std).to(device)

    return resident(data.train_images, data.train_labels), resident(data.test_images, data.test_labels)


# ---- time ------------------------------------------------------------------------------------------------------------


def seconds(device: torch.device) -> float:
    """A clock: of the time that passed until a GPU was done, or of what this process computed on a CPU."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def step_by_step(member: Member, train: ResidentImages, test: ResidentImages) -> Callable[[], None]:
    """One epoch at each call."""
    trainer = Trainer(member, train, test, 10, (ORIGINAL,))
    return lambda: trainer.run(until=trainer.epoch + 1)


def captured(member: Member, train: ResidentImages, test: ResidentImages) -> Callable[[], None]:
    """One epoch at each call, as replays of CUDA graphs."""
    slot = Slot(Rack(train.device))
    with slot.entered():
        trainer = slot.trainer(member, train, test, 10, (ORIGINAL,))
    if slot.graphs is None:
        raise SystemExit(f"{member.recipe.model.label}: was not captured")

    def epoch() -> None:
        with slot.entered():
            trainer.run(until=trainer.epoch + 1)

    return epoch


def epoch_times(epochs: Mapping[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of an epoch of each choice in each round, after one that is not counted."""
    times: dict[str, list[float]] = {choice: [] for choice in epochs}
    for number in range(rounds + 1):
        names = list(epochs)
        for choice in names[number % len(names) :] + names[: number % len(names)]:
            began = seconds(device)
            epochs[choice]()
            if number:
                times[choice].append(seconds(device) - began)
            else:
                seconds(device)
    return times


def costs(times: Mapping[str, list[float]]) -> dict[str, Any]:
    """What is entered of the times: medians, and how much longer deterministic kernels take; None: not measured."""
    percent = None
    if "hardware" in times:
        ratios = [ours / theirs for ours, theirs in zip(times["deterministic"], times["hardware"])]
        percent = round(100 * (statistics.median(ratios) - 1), 2)
    medians = {c: round(statistics.median(times[c]), 5) if c in times else None for c in CHOICES}
    return {"epoch_seconds": medians, "deterministic_costs_percent": percent}


# ---- movement --------------------------------------------------------------------------------------------------------


def outputs(member: Member, train: ResidentImages, test: ResidentImages, sizes: Sizes) -> list[NDArray[np.float32]]:
    """Logits before training, after one step, and after each epoch."""
    first = Trainer(member, train.first(sizes.batch), test, 10, (ORIGINAL,))  # whose epochs are a step
    found = [first.predictions()]
    first.run(until=1)
    found.append(first.predictions())
    trainer = Trainer(member, train, test, 10, (ORIGINAL,))
    for epoch in range(1, sizes.epochs + 1):
        trainer.run(until=epoch)
        found.append(trainer.predictions())
    return found


def moved(ours: list[NDArray[np.float32]], theirs: list[NDArray[np.float32]]) -> list[float]:
    """The norm of the difference in percent of the norm."""

    def percent(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float(f"{100 * np.linalg.norm(a - b) / np.linalg.norm(a):.3g}")

    return [percent(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(ours, theirs)]


# ---- rows ------------------------------------------------------------------------------------------------------------


def measure(row: Row, sizes: Sizes, device: torch.device) -> dict[str, Any]:
    train, test = images(sizes, device)
    found = members(row, sizes)
    on_gpu = device.type == "cuda"
    if not on_gpu:  # nothing there is nondeterministic
        found = {name: member for name, member in found.items() if not name.startswith("hardware")}
    choices = {choice: found[choice] for choice in CHOICES if choice in found}

    def timed(epoch: Callable[[Member, ResidentImages, ResidentImages], Callable[[], None]]) -> dict[str, Any]:
        epochs = {choice: epoch(member, train, test) for choice, member in choices.items()}
        return costs(epoch_times(epochs, sizes.rounds, device))

    made = {name: outputs(member, train, test, sizes) for name, member in found.items()}
    bases = dict.fromkeys(TWINS, "deterministic") | {"hardware twice": "hardware"}
    return {
        "step_by_step": timed(step_by_step),
        "captured": timed(captured) if on_gpu else None,
        "moved_percent": {twin: moved(made[bases[twin]], made[twin]) if twin in made else None for twin in TWINS},
    }


def machine(device: torch.device) -> dict[str, Any]:
    if device.type == "cpu":
        return {"device": cpu_model(), "cores": os.cpu_count(), "torch": torch.__version__}
    return {
        "device": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def run_all(rows: list[Row], arguments: argparse.Namespace, device: torch.device, sizes: Sizes) -> None:
    """Measure what the file lacks, row by row, until the time is over."""
    ends = time.monotonic() + arguments.seconds
    path = arguments.json
    known = json.loads(path.read_text()) if path is not None and path.exists() else {}
    empty = {**machine(device), "sizes": vars(sizes), "published": PUBLISHED, "rows": {}}
    entered = known.setdefault("determinism", empty)["rows"]
    for row in rows:
        if row.key in entered:
            continue
        if time.monotonic() > ends:
            print(f"time is over; run again to go on from {row.key}")
            break
        entered[row.key] = measure(row, sizes, device)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(known, indent=2) + "\n")
    print_tables(rows, entered, sizes)


def print_tables(rows: list[Row], entered: dict[str, dict[str, Any]], sizes: Sizes) -> None:
    print(f"\n{'seconds of an epoch':<30}{''.join(f'{choice:>15}' for choice in CHOICES)}{'costs':>15}")
    for row in rows:
        for way in ("step_by_step", "captured"):
            line = entered.get(row.key, {}).get(way)
            cells = [None] * 4
            if line is not None:
                cells = [*line["epoch_seconds"].values(), line["deterministic_costs_percent"]]
            texts = [*(_cell(value, ".3f") for value in cells[:3]), _cell(cells[3], "+.1f", " %")]
            print(f"{row.key:<16}{way.replace('_', ' '):<14}{''.join(f'{text:>15}' for text in texts)}")
    print(f"{'published':<30}{'':>45}{'about 15 %':>15}")

    points = ["before", "1 step", *(f"epoch {epoch}" for epoch in range(1, sizes.epochs + 1))]
    print(f"\n{'outputs move by, %':<32}{''.join(f'{point:>14}' for point in points)}")
    for row in rows:
        for twin in TWINS:
            values = entered.get(row.key, {}).get("moved_percent", {}).get(twin) or [None] * len(points)
            cells = "".join(f"{_cell(value, '.3g'):>14}" for value in values)
            print(f"{row.key:<16}{twin:<16}{cells}")
    print(f"{'published':<32}{'0.003':>14} in one test")


def _cell(value: float | None, form: str, unit: str = "") -> str:
    return NOT_MEASURED if value is None else f"{value:{form}}{unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="sizes of seconds, whose numbers mean nothing")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="default: all on a GPU, resnet14 on a CPU")
    parser.add_argument("--seconds", type=float, default=480.0, help="begin no row after so long")
    parser.add_argument("--json", type=Path, help="go on from this file, and enter every row in it")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    device = torch.device(arguments.device, 0) if arguments.device == "cuda" else torch.device("cpu")
    models = arguments.models or (MODELS if arguments.device == "cuda" else MODELS[:1])
    precisions = [p for p in PRECISIONS if p != "tf32" or arguments.device == "cuda"]
    rows = [Row(model, precision) for model in models for precision in precisions]
    run_all(rows, arguments, device, SIZES["tiny" if arguments.tiny else arguments.device])


if __name__ == "__main__":
    main()

"""What deterministic kernels cost, and how far they, or the order of a sum, or one bit move a network's outputs.

    python benchmarks/determinism.py [--json benchmarks/results/determinism.json]
    python benchmarks/determinism.py --device cuda --json benchmarks/results/GPU.json
    python benchmarks/determinism.py --tiny --device cpu     the same from end to end, in seconds

Summers & Dinneen (2021, Section 3) put the penalty of cuDNN's deterministic kernels at about 15% of the speed, and the
difference that nondeterministic ones made to an output, in one test, at 0.003%. Here both are measured.

Time: epochs, evaluation left out, of one member under each choice of kernels, in rounds: each round has the same
number of epochs of every choice, in rotating order. The cost is the median over rounds of deterministic against
hardware in that round. On a GPU the epochs are timed between synchronisations, as captured graphs (as popnet trains)
and step by step (as a script trains), so many that a round takes half a second. On a CPU the time is what the process
computed, on one thread, which other programs hardly change.

* deterministic: deterministic kernels only; every member of popnet whose `kernels` seed is 1.
* reorder: the same, with the examples inside each batch permuted: the seeded proxy.
* hardware: the device's fastest kernels, deterministic or not, chosen by trial (`cudnn.benchmark`). Not on a CPU, whose
  kernels are deterministic anyway.

Movement: two members differ in one thing alone and see the same images in the same batches. What is printed is the norm
of the difference of their logits over all test images, in percent of the norm of the logits: before training, after one
step, and after each epoch. The twin of the deterministic member has its sums in another order (reorder), one weight one
bit away (bit), or the hardware's kernels (hardware); `hardware twice` are two runs of equal members on those.

A row is a model in a precision, bf16 before tf32 and fp32. It is measured in a process of its own with the environment
of popnet's GPU workers (all choices alike), and each of its parts is entered in the JSON file when it is known, a
failure too. Parts that the file holds are not measured again (`--retry`: failures are), and a call ends after
`--seconds`. A file holds the results of one machine, with one version of torch.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from results_file import ResultsFile, machine
from row_process import Limit, lines, measure_groups

import popnet
from popnet.config import from_mapping
from popnet.data.resident import ResidentImages
from popnet.engine.local import GPU_ENVIRONMENT
from popnet.protocol import ORIGINAL, Member, Platform, plan
from popnet.training.slots import Rack, Slot
from popnet.training.trainer import Trainer

MODELS = ("resnet14", "vgg11", "resnet18")
PRECISIONS = ("bf16", "tf32", "fp32")
PARTS = ("captured", "moved_percent", "step_by_step")
CHOICES = ("deterministic", "reorder", "hardware")
TWINS = ("reorder", "bit", "hardware", "hardware twice")
PUBLISHED = {"deterministic_costs_percent": 15.0, "output_moves_percent": 0.003}
NOT_MEASURED = "not measured"
ROUND_SECONDS = 0.5
"""That a round takes on a GPU, but at most `MOST_EPOCHS`; on a CPU it has an epoch of each choice."""

MOST_EPOCHS = 50

ROW_SECONDS = 120.0
"""That a part of a row may take, with the start of its process."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured: training and test images, the batch, rounds after the first, and epochs of the twins."""

    images: int
    tests: int
    batch: int
    rounds: int
    epochs: int


SIZES = {
    "cuda": Sizes(images=20 * 512, tests=2000, batch=512, rounds=5, epochs=5),
    "cpu": Sizes(images=1024, tests=256, batch=128, rounds=3, epochs=3),
    "tiny": Sizes(images=16, tests=12, batch=8, rounds=1, epochs=1),
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
                    "epochs": 10 * MOST_EPOCHS,  # more than are trained
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


Train = Callable[[int], None]
"""Trains so many epochs."""


def step_by_step(member: Member, train: ResidentImages, test: ResidentImages) -> Train:
    trainer = Trainer(member, train, test, 10, (ORIGINAL,))
    return lambda epochs: trainer.run(until=trainer.epoch + epochs)


def captured(member: Member, train: ResidentImages, test: ResidentImages) -> Train:
    """As replays of CUDA graphs."""
    slot = Slot(Rack(train.device))
    with slot.entered():
        trainer = slot.trainer(member, train, test, 10, (ORIGINAL,))
    if slot.graphs is None:
        raise SystemExit(f"{member.recipe.model.label}: was not captured")

    def train_epochs(epochs: int) -> None:
        with slot.entered():
            trainer.run(until=trainer.epoch + epochs)

    return train_epochs


def epoch_times(choices: Mapping[str, Train], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of an epoch of each choice in each round, after one that is not counted."""

    def timed(train: Train, epochs: int) -> float:
        began = seconds(device)
        train(epochs)
        return (seconds(device) - began) / epochs

    for train in choices.values():
        timed(train, 1)
    epochs = 1
    if device.type == "cuda":
        once = sum(timed(train, 1) for train in choices.values())
        epochs = max(1, min(MOST_EPOCHS, round(ROUND_SECONDS / once)))
    times: dict[str, list[float]] = {choice: [] for choice in choices}
    for number in range(rounds):
        names = list(choices)
        for choice in names[number % len(names) :] + names[: number % len(names)]:
            times[choice].append(timed(choices[choice], epochs))
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


def measure(row: Row, part: str, sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """One part of a row, as it is entered."""
    train, test = images(sizes, device)
    found = members(row, sizes)
    if device.type == "cpu":  # nothing there is nondeterministic
        found = {name: member for name, member in found.items() if not name.startswith("hardware")}
    if part == "moved_percent":
        made = {name: outputs(member, train, test, sizes) for name, member in found.items()}
        bases = dict.fromkeys(TWINS, "deterministic") | {"hardware twice": "hardware"}
        return {twin: moved(made[bases[twin]], made[twin]) if twin in made else None for twin in TWINS}
    way = {"captured": captured, "step_by_step": step_by_step}[part]
    choices = {choice: way(found[choice], train, test) for choice in CHOICES if choice in found}
    return costs(epoch_times(choices, sizes.rounds, device))


def print_parts(keys: Sequence[str], sizes: Sizes, device: torch.device) -> None:
    """What a row's process does: a line of JSON for each of its parts."""
    for key in keys:
        row, part = row_and_part(key)
        print(json.dumps({"row": key, "found": measure(row, part, sizes, device)}), flush=True)


def row_and_part(key: str) -> tuple[Row, str]:
    model, precision, part = key.split()
    return Row(model, precision), part


def run_all(rows: list[Row], arguments: argparse.Namespace, device: torch.device, sizes: Sizes) -> None:
    """Measure what the file lacks, part by part, until the time is over."""
    file = ResultsFile(arguments.json)
    section = file.section("determinism", {**machine(device), "sizes": vars(sizes), "published": PUBLISHED})
    entered: dict[str, dict[str, Any]] = section["rows"]
    tiny = ["--tiny"] if arguments.tiny else []
    command = [sys.executable, __file__, *tiny, "--device", arguments.device, "--parts"]

    def parts(keys: Sequence[str], limit: Limit) -> Generator[dict[str, Any], None, None]:
        yield from lines([*command, *keys], {**os.environ, **GPU_ENVIRONMENT}, keys, limit)

    def known(key: str) -> bool:
        row, part = row_and_part(key)
        return part in entered.get(row.key, {}) and key not in again

    def enter(key: str, found: dict[str, Any]) -> None:
        row, part = row_and_part(key)
        again.discard(key)
        entered.setdefault(row.key, {})[part] = found.get("found", found)
        file.write()
        print(f"{key:<32}{'failed: ' + found['failed'] if 'failed' in found else 'measured'}", flush=True)

    made = [[f"{row.key} {part}" for part in PARTS if part != "captured" or device.type == "cuda"] for row in rows]
    again = {
        f"{row} {part}" for row, found in entered.items() for part in found if arguments.retry and _failed(found, part)
    }
    try:
        measure_groups(made, parts, known, enter, time.monotonic() + arguments.seconds, ROW_SECONDS)
    finally:
        print_tables(rows, entered, sizes)


def _failed(found: Mapping[str, Any], part: str) -> str | None:
    """Why a part was not measured; None where it was, or was not tried."""
    return (found.get(part) or {}).get("failed")


def print_tables(rows: list[Row], entered: dict[str, dict[str, Any]], sizes: Sizes) -> None:
    print(f"\n{'seconds of an epoch':<30}{''.join(f'{choice:>15}' for choice in CHOICES)}{'costs':>15}")
    for row in rows:
        for way in ("captured", "step_by_step"):
            found = entered.get(row.key, {})
            line, failed = found.get(way), _failed(found, way)
            cells = [None] * 4
            if failed is not None:
                print(f"{row.key:<16}{way.replace('_', ' '):<14}  failed: {failed}")
                continue
            if line is not None:
                cells = [*line["epoch_seconds"].values(), line["deterministic_costs_percent"]]
            texts = [*(_cell(value, ".3f") for value in cells[:3]), _cell(cells[3], "+.1f", " %")]
            print(f"{row.key:<16}{way.replace('_', ' '):<14}{''.join(f'{text:>15}' for text in texts)}")
    print(f"{'published':<30}{'':>45}{'about 15 %':>15}")

    points = ["before", "1 step", *(f"epoch {epoch}" for epoch in range(1, sizes.epochs + 1))]
    print(f"\n{'outputs move by, %':<32}{''.join(f'{point:>14}' for point in points)}")
    for row in rows:
        found = entered.get(row.key, {})
        failed = _failed(found, "moved_percent")
        if failed is not None:
            print(f"{row.key:<32}  failed: {failed}")
            continue
        for twin in TWINS:
            values = found.get("moved_percent", {}).get(twin) or [None] * len(points)
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
    parser.add_argument("--seconds", type=float, default=480.0, help="end after so long")
    parser.add_argument("--json", type=Path, help="go on from this file, and enter every part of a row in it")
    parser.add_argument("--retry", action="store_true", help="measure again what failed")
    parser.add_argument("--parts", nargs="+", help="for the processes that it starts: print these parts as JSON")
    arguments = parser.parse_args()
    device = torch.device(arguments.device, 0) if arguments.device == "cuda" else torch.device("cpu")
    sizes = SIZES["tiny" if arguments.tiny else arguments.device]
    if arguments.parts:
        if device.type == "cpu":
            torch.set_num_threads(1)
        print_parts(arguments.parts, sizes, device)
        return
    models = arguments.models or (MODELS if arguments.device == "cuda" else MODELS[:1])
    precisions = [p for p in PRECISIONS if p != "tf32" or arguments.device == "cuda"]
    rows = [Row(model, precision) for precision in precisions for model in models]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # and so its processes, too
    run_all(rows, arguments, device, sizes)


if __name__ == "__main__":
    main()

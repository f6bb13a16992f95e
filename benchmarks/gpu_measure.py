"""What a process of the GPU benchmark measures: it trains as its rows say, and prints a line of JSON for each."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import peers
import torch
from gpu_floor import rates, synchronize
from gpu_rows import COHORTS, POPNETS, PRECISIONS, Row, Sizes

import popnet
from popnet.config import from_mapping
from popnet.data.resident import ResidentImages
from popnet.protocol import ORIGINAL, Member, Platform, plan
from popnet.training.rack import Rack
from popnet.training.slots import Slot
from popnet.training.trainer import Trainer

Train = Callable[[int], None]
"""Trains so many epochs of all the row's members."""

CLASSES = 10
MOST_EPOCHS = 300
"""Between two synchronisations; a linear model trains one in milliseconds."""


def images(sizes: Sizes, device: torch.device) -> ResidentImages:
    """Random images of CIFAR's shape, with random labels: what is in them costs no time."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (sizes.images, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (sizes.images,), generator=generator)
    return ResidentImages(pixels, labels, (0.5,) * 3, (0.25,) * 3).to(device)


# ---- peers -----------------------------------------------------------------------------------------------------------


def peer_training(row: Row, sizes: Sizes, device: torch.device) -> Train:
    """A row of `peers`. A CPU runs what is compiled and captured on a GPU as it stands."""
    on_gpu = device.type == "cuda"
    data = peers.TrainingSet.of(images(sizes, device))
    models = [popnet.models.build(row.model).to(device).train() for _ in range(row.members)]
    if row.kind == "vmap":
        step, _ = peers.vmap_step(models, data, row.precision)
        if on_gpu:
            step = peers.captured(step, torch.arange(sizes.batch, device=device))
    elif row.kind == "tuned":
        step = peers.tuned_step(models[0], data, row.precision, compiled=on_gpu)
    else:
        step = peers.script_step(models[0], data, row.precision, compiled=row.kind == "compiled")

    def train(epochs: int) -> None:
        for _ in range(epochs):
            peers.train_epoch(step, data, sizes.batch)

    return train


# ---- popnet ----------------------------------------------------------------------------------------------------------


def members(model: str, precision: str, sizes: Sizes, count: int) -> tuple[Member, ...]:
    experiment = from_mapping(
        {
            "name": "benchmark",
            "recipe": {
                "dataset": {"name": "synthetic", "kwargs": {"train": sizes.images, "test": sizes.batch}},
                "model": model,
                "epochs": 4 * MOST_EPOCHS,  # more than are trained
                "batch_size": sizes.batch,
                "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
                "schedule": "constant",
                "augment": {"crop": 4, "flip": True},
                "precision": precision,
                "evaluate_every": 0,
            },
            "population": max(count, 2),
            "variants": [{"name": "all", "vary": ["init", "shuffle", "augment"]}],
        }
    )
    return plan(experiment, Platform("benchmark", ())).members[:count]


class Cohorts:
    """Cohorts of one recipe, one after the other in the same slots, which are opened when they are needed.

    Args:
        slots: False trains each member by itself, step by step, as on a CPU.
    """

    def __init__(self, model: str, precision: str, sizes: Sizes, device: torch.device, slots: bool) -> None:
        self._label, self._batch = f"{model} {precision}", sizes.batch
        self._data = images(sizes, device)
        self._members = members(model, precision, sizes, max(COHORTS))
        self._rack = Rack(device) if slots else None
        self._slots: list[Slot] = []

    def training(self, count: int) -> Train:
        """Of a cohort of `count` new members, each on its thread."""
        trainers = [self._trainer(number) for number in range(count)]
        threads = ThreadPoolExecutor(count)

        def advance(number: int, epochs: int) -> None:
            trainer = trainers[number]
            if self._rack is None:
                trainer.run(until=trainer.epoch + epochs)
                return
            with self._slots[number].entered():
                trainer.run(until=trainer.epoch + epochs)

        def train(epochs: int) -> None:
            for done in [threads.submit(advance, number, epochs) for number in range(count)]:
                done.result()

        return train

    def _trainer(self, number: int) -> Trainer:
        member, test = self._members[number], self._data.first(self._batch)
        if self._rack is None:
            return Trainer(member, self._data, test, CLASSES, (ORIGINAL,))
        if number == len(self._slots):
            self._slots.append(Slot(self._rack))
        slot = self._slots[number]
        with slot.entered():
            trainer = slot.trainer(member, self._data, test, CLASSES, (ORIGINAL,))
        if slot.graphs is None:
            raise SystemExit(f"{self._label}: was not captured")
        return trainer


# ---- rows ------------------------------------------------------------------------------------------------------------


def trainings(rows: Sequence[Row], sizes: Sizes, device: torch.device) -> Iterator[tuple[Row, Train]]:
    """The rows in turn, each ready to train."""
    cohorts: dict[tuple[str, str], Cohorts] = {}
    for row in rows:
        if row.kind not in POPNETS:
            yield row, peer_training(row, sizes, device)
            continue
        recipe = row.model, row.precision
        if recipe not in cohorts:
            cohorts = {recipe: Cohorts(*recipe, sizes, device, slots=device.type == "cuda")}
        yield row, cohorts[recipe].training(row.members if row.kind == "cohort" else 1)


def measured(train: Train, sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Seconds of an epoch of all members, after one to warm up, and how much was measured.

    As many epochs as take a third of `sizes.seconds` lie between two synchronisations, three times: the median counts.
    Where an epoch takes longer, there are fewer.
    """

    def seconds(epochs: int) -> float:
        synchronize(device)
        began = time.perf_counter()
        train(epochs)
        synchronize(device)
        return time.perf_counter() - began

    train(1)
    first = seconds(1)
    epochs = max(1, min(MOST_EPOCHS, int(sizes.seconds / 3 / first)))
    rounds = max(1, min(3, round(sizes.seconds / (epochs * first))))
    times = [first] if epochs == 1 else []
    times += [seconds(epochs) for _ in range(rounds - len(times))]
    return {
        "epoch_seconds": statistics.median(times) / epochs,
        "epochs_measured": epochs * len(times),
        "seconds_measured": round(sum(times), 3),
    }


def measured_beside(train: Train, sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """The same of one process among several, all of which train until `sizes.seconds` are over.

    Once warm, it prints a line, and begins when it reads one.
    """
    train(1)
    synchronize(device)
    print(json.dumps({"warm": True}), flush=True)
    sys.stdin.readline()
    began, epochs, seconds = time.perf_counter(), 0, 0.0
    while epochs == 0 or (seconds < sizes.seconds and epochs < 3 * MOST_EPOCHS):
        train(1)
        synchronize(device)
        epochs, seconds = epochs + 1, time.perf_counter() - began
    return {"epoch_seconds": seconds / epochs, "epochs_measured": epochs, "seconds_measured": round(seconds, 3)}


def print_rows(keys: Sequence[str], sizes: Sizes, device: torch.device, beside: bool) -> None:
    """What a row's process does."""
    if device.type == "cpu":
        torch.set_num_threads(1)
    rows = [Row.of(key) for key in keys]
    if rows[0].kind not in POPNETS:
        peers.plain_pytorch(rows[0].precision)
    measure = measured_beside if beside else measured
    for row, train in trainings(rows, sizes, device):
        print(json.dumps({"row": row.key, **measure(train, sizes, device)}), flush=True)


def print_rates(sizes: Sizes, device: torch.device) -> None:
    """What the process does that measures the device's rates."""
    precisions = [precision for precision in PRECISIONS if precision != "tf32" or device.type == "cuda"]
    print(json.dumps({"row": "rates", **rates(device, sizes.large, precisions)}), flush=True)

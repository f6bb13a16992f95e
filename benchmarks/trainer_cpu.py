"""Images a second of a population trained by popnet against the straightforward PyTorch script, on one CPU.

    python benchmarks/trainer_cpu.py [--json benchmarks/results/trainer_cpu.json]

Both train on images of CIFAR's shape with random crop, horizontal flip and normalisation, batches of 512 and SGD with
momentum, in one run on one machine. The script is what people write: one model at a time, torchvision's transforms on
PIL images behind a DataLoader of 2 workers, torch.optim.SGD with a scheduler, PyTorch's own number of threads and
layout; it is timed from its second step on. It computes in fp32, for that is what people run; the same script under
bf16 autocast is printed beside it. popnet trains a population through `popnet.run` in 2 processes. A member's time is
the one in the store's ledger: building the model, every step, the evaluation at the end and writing the predictions;
only the start of the processes, once for each run, is left out. The rate is that of all processes, each at its members'
median. Best of several runs on either side, since other work on the machine only ever slows one down.

The floor is arithmetic: the model's floating-point operations for forward and backward, as PyTorch counts them, at the
rate at which one core multiplies large matrices in the same precision, times the processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from loader import cpu_model
from peers import plain_pytorch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

import popnet
from popnet import config

BATCH = 512
SHAPE = (3, 32, 32)
SCRIPT_IMAGES = 50_000  # as many as CIFAR, so that the DataLoader's workers never run out of work while it is timed
TEST_IMAGES = 1000


@dataclass(frozen=True)
class Case:
    """One line of the target: a model in a precision, and how much of it makes seconds of work.

    `images` x `epochs` is what one member trains on, `steps` what the script is timed over.
    """

    model: str
    precision: str
    target: float
    images: int
    epochs: int
    steps: int

    @property
    def name(self) -> str:
        return f"{self.model} {self.precision}"


CASES = (
    Case("resnet14", "fp32", target=1.6, images=8 * BATCH, epochs=1, steps=8),
    Case("resnet14", "bf16", target=3.0, images=8 * BATCH, epochs=2, steps=8),
    Case("linear", "fp32", target=20.0, images=50_000, epochs=20, steps=60),
)


# ---- the script ------------------------------------------------------------------------------------------------------


class PilImages(Dataset):
    """What torchvision's CIFAR10 is inside: arrays turned into PIL images, then transformed."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def script_rate(dataset: Dataset, model: nn.Module, precision: str, steps: int) -> float:
    """Images a second over `steps` steps of one epoch, after the first."""
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=len(loader))
    criterion = nn.CrossEntropyLoss()
    autocast = torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
    model.train()
    total, count, start = 0.0, 0, 0.0
    for step, (images, labels) in enumerate(loader):
        optimizer.zero_grad()
        with autocast:
            loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item()
        if step == 0:
            start = time.perf_counter()
        else:
            count += len(labels)
        if step == steps:
            break
    return count / (time.perf_counter() - start)


# ---- the population --------------------------------------------------------------------------------------------------


def population_rate(case: Case, workers: int, members: int) -> float:
    """Images a second of `workers` processes that train `members` members between them."""
    experiment = config.from_mapping(
        {
            "name": "benchmark",
            "recipe": {
                "dataset": {"name": "synthetic", "kwargs": {"train": case.images, "test": TEST_IMAGES}},
                "model": case.model,
                "epochs": case.epochs,
                "batch_size": BATCH,
                "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
                "augment": {"crop": 4, "flip": True},
                "precision": case.precision,
                "evaluate_every": 0,
            },
            "population": members,
            "variants": [{"name": "all", "vary": "all"}],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        table = popnet.run(experiment, store=folder, workers=workers, device="cpu").store.members()
    failed = table[table["status"] != "done"]
    if len(failed):
        raise SystemExit(f"a member of {case.name} failed: {failed['error'].iloc[0]}")
    return workers * case.images * case.epochs / statistics.median(table["seconds"])


# ---- the floor -------------------------------------------------------------------------------------------------------


def operations(model: nn.Module) -> float:
    """Floating-point operations of forward and backward for one training image, a multiply-add counted as two."""
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(8, *SHAPE)).sum().backward()
    return counter.get_total_flops() / 8


def core_rate(precision: str) -> float:
    """Floating-point operations a second of one core in a matrix product, 1,024 on a side."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.randn(2, 1024, 1024).to(dtype)

    def once() -> float:
        start = time.perf_counter()
        torch.mm(a, b)
        return 2 * 1024**3 / (time.perf_counter() - start)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return max(once() for _ in range(50))
    finally:
        torch.set_num_threads(threads)


# ---- the table -------------------------------------------------------------------------------------------------------


def measure(case: Case, repeats: int, workers: int, members: int) -> dict[str, float | str]:
    """One line of the table."""
    plain_pytorch(case.precision)  # of this process, the script's; popnet's are others
    data = popnet.data.load("synthetic", train=SCRIPT_IMAGES, test=1)
    dataset = PilImages(data.train_images, data.train_labels)

    def model() -> nn.Module:
        return popnet.models.build(case.model, input_shape=SHAPE, classes=10)

    def script(precision: str) -> Callable[[], float]:
        return lambda: script_rate(dataset, model(), precision, case.steps)

    rates = {precision: max(script(precision)() for _ in range(repeats)) for precision in ("fp32", "bf16")}
    rate = max(population_rate(case, workers, members) for _ in range(repeats))
    floor = workers * core_rate(case.precision) / operations(model())
    return {
        "case": case.name,
        "script_fp32": round(rates["fp32"]),
        "script_bf16": round(rates["bf16"]),
        "popnet": round(rate),
        "ratio": round(rate / rates["fp32"], 2),
        "target_ratio": case.target,
        "floor": round(floor),
        "share_of_floor": round(rate / floor, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2, help="processes of popnet")
    parser.add_argument("--members", type=int, default=4, help="members of the population, a multiple of the workers")
    parser.add_argument("--repeats", type=int, default=2, help="runs of either side, of which the best counts")
    parser.add_argument("--json", type=Path, help="also enter the numbers there, under `trainer_cpu`")
    arguments = parser.parse_args()
    if arguments.members % arguments.workers:
        parser.error("--members must be a multiple of --workers: else some processes would stand idle")

    print(f"{cpu_model()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("images a second")
    print(f"{'':<16}{'script':>10}{'in bf16':>10}{'popnet':>10}{'ratio':>8}{'target':>8}{'floor':>12}{'reached':>9}")
    lines = []
    for case in CASES:
        line = measure(case, arguments.repeats, arguments.workers, arguments.members)
        lines.append(line)
        print(
            f"{line['case']:<16}{line['script_fp32']:>10,}{line['script_bf16']:>10,}{line['popnet']:>10,}"
            f"{line['ratio']:>8.2f}{line['target_ratio']:>8.1f}{line['floor']:>12,}{line['share_of_floor']:>9.1%}",
            flush=True,
        )
    missed = [line["case"] for line in lines if line["ratio"] < line["target_ratio"]]
    print(f"\ntargets: {'MISSED by ' + ', '.join(missed) if missed else 'all reached'}")

    if arguments.json:
        path = arguments.json
        path.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(path.read_text()) if path.exists() else {}
        known["trainer_cpu"] = {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "workers": arguments.workers,
            "script_threads": torch.get_num_threads(),
            "batch": BATCH,
            "images_per_second": lines,
        }
        path.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Models an hour of one GPU: popnet's cohorts against the straightforward script, compiled, in processes, and by vmap.

    python benchmarks/trainer_gpu.py [--seconds 480] [--json benchmarks/results/GPU.json]
    python benchmarks/trainer_gpu.py --tiny --device cpu     the same from end to end, small, without a GPU

Images of CIFAR's shape, batch 512, random crop and flip, SGD with momentum. Each row runs in a process of its own and
is entered in the JSON file at once, a failure too; what stands there is not measured again (`--retry`: failures are).
A call ends after `--seconds`, and the row that it broke off is the next call's first.

* script: what people write: one model, eager, PyTorch's batch norm, its own augmentation on the GPU, torch.optim.SGD.
* compiled: the same under torch.compile.
* cohort K: K members of popnet in as many slots, each with its captured graphs; cohort 1 is one member.
* processes K: as many processes that share the GPU, each with a cohort of 1.
* vmap K: the script's step for K models at once, as one batched program; for models without batch norm.

Times are those of whole epochs between two synchronisations. The floor (gpu_floor.py) is the larger of two times, that
of the bytes and that of the operations. Without a CUDA device the rows that a CPU can go through are gone through, to
see that they run; every column of the device then says `not measured`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_floor import rates, step_bytes, step_operations, synchronize
from torch import Tensor
from torch.nn import functional

import popnet
from popnet.config import from_mapping
from popnet.data.resident import ResidentImages
from popnet.engine.local import GPU_ENVIRONMENT
from popnet.protocol import ORIGINAL, Member, Platform, plan
from popnet.training.numerics import autocast
from popnet.training.rack import Rack
from popnet.training.slots import Slot
from popnet.training.trainer import Trainer

EPOCHS = 500  # of the papers, for models an hour
IMAGES = 50_000  # of CIFAR's training set
MODELS = ("resnet14", "linear", "hidden_fc", "hidden_conv", "vgg11", "resnet9", "resnet18")
PRECISIONS = ("fp32", "tf32", "bf16")
WITHOUT_NORM = ("linear", "hidden_fc")
TARGETS = {"fp32": 1.3, "tf32": 1.7, "bf16": 3.5}  # times the script in the same precision, resnet14
TARGET_MODELS = {"tf32": 50, "bf16": 90}  # an hour, resnet14


@dataclass(frozen=True)
class Sizes:
    """How much is measured: the training set, the batch, and the epochs after the first."""

    images: int
    batch: int
    epochs: int
    large: int  # bytes of what the device's rates are measured with


FULL = Sizes(images=50_000, batch=512, epochs=3, large=2**30)
TINY = Sizes(images=96, batch=32, epochs=1, large=2**22)


@dataclass(frozen=True)
class Row:
    """One measurement."""

    model: str
    precision: str
    method: str

    @property
    def key(self) -> str:
        return f"{self.model} {self.precision} {self.method}"

    @property
    def kind(self) -> str:
        return self.method.split()[0]

    @property
    def members(self) -> int:
        return int(self.method.split()[1]) if " " in self.method else 1


def rows() -> Iterator[Row]:
    """Every row, the target's model first."""
    for model in MODELS:
        for precision in PRECISIONS:
            methods = ["script", "compiled", *(f"cohort {k}" for k in (1, 2, 4, 8, 16)), "processes 4"]
            if model in WITHOUT_NORM:
                methods += ["vmap 16", "vmap 64"]
            for method in methods:
                yield Row(model, precision, method)


def measurable(row: Row, device: torch.device) -> bool:
    """Whether a device can run a row: a CPU has no TF32, and what is compiled for it shows nothing of a GPU."""
    return device.type == "cuda" or (row.precision != "tf32" and row.kind != "compiled")


# ---- the data --------------------------------------------------------------------------------------------------------


def images(sizes: Sizes, device: torch.device) -> ResidentImages:
    data = popnet.data.load("synthetic", train=sizes.images, test=sizes.batch)
    pixels, labels = torch.from_numpy(data.train_images), torch.from_numpy(data.train_labels)
    return ResidentImages(pixels, labels, data.mean, data.std).to(device)


# ---- the script ------------------------------------------------------------------------------------------------------


def augmented(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Random crops of images padded by 4, flipped half of the time, normalised: uint8 [b, h, w, c] to [b, c, h, w]."""
    count, height, width, _ = pixels.shape
    x = functional.pad(pixels.permute(0, 3, 1, 2).float().div_(255), (4, 4, 4, 4))
    dy, dx = (torch.randint(0, 9, (count, 1), device=x.device) for _ in range(2))
    y_index = (dy + torch.arange(height, device=x.device))[:, None, :, None]
    x_index = (dx + torch.arange(width, device=x.device))[:, None, None, :]
    flipped = torch.rand(count, device=x.device) < 0.5
    x_index = torch.where(flipped[:, None, None, None], x_index.flip(-1), x_index)
    batch = torch.arange(count, device=x.device)[:, None, None, None]
    channel = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return (x[batch, channel, y_index, x_index] - mean) / std


def script_epochs(row: Row, sizes: Sizes, device: torch.device) -> Callable[[], None]:
    """One epoch of the straightforward script, or of the same compiled."""
    popnet.models.normalisation._fuses = lambda norm, x: False  # PyTorch's own batch norm and ReLU
    data = images(sizes, device)
    model = popnet.models.build(row.model).to(device)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = row.precision == "tf32"
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    mean, std = (torch.tensor(values, device=device).float()[:, None, None] for values in (data.mean, data.std))

    def forward(x: Tensor, y: Tensor) -> Tensor:
        with autocast(device, row.precision):
            return functional.cross_entropy(model(x).float(), y)

    run = (
        torch.compile(forward, dynamic=False) if row.kind == "compiled" else forward
    )  # the last batch is another graph
    model.train()

    def epoch() -> None:
        total = torch.zeros((), device=device)
        for indices in torch.randperm(len(data), device=device).split(sizes.batch):
            optimizer.zero_grad()
            loss = run(augmented(data.images[indices], mean, std), data.labels[indices])
            loss.backward()
            optimizer.step()
            total += loss.detach()
        float(total)

    return epoch


def vmap_epochs(row: Row, sizes: Sizes, device: torch.device) -> Callable[[], None]:
    """One epoch of as many models at once: their weights stacked, the step mapped over them; equal batches for all."""
    data = images(sizes, device)
    models = [popnet.models.build(row.model).to(device) for _ in range(row.members)]
    weights, buffers = torch.func.stack_module_state(models)
    moments = {name: torch.zeros_like(value) for name, value in weights.items()}
    torch.backends.cuda.matmul.allow_tf32 = row.precision == "tf32"
    mean, std = (torch.tensor(values, device=device).float()[:, None, None] for values in (data.mean, data.std))

    def loss(weight: dict[str, Tensor], buffer: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        with autocast(device, row.precision):
            return functional.cross_entropy(torch.func.functional_call(models[0], (weight, buffer), (x,)).float(), y)

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(0, 0, None, None))

    def epoch() -> None:
        for indices in torch.randperm(len(data), device=device).split(sizes.batch):
            x = augmented(data.images[indices], mean, std)
            found = gradients(weights, buffers, x, data.labels[indices])
            with torch.no_grad():
                for name, value in weights.items():
                    moments[name].mul_(0.9).add_(found[name] + 5e-4 * value)
                    value.add_(moments[name], alpha=-0.01)

    return epoch


# ---- popnet ----------------------------------------------------------------------------------------------------------


def members(row: Row, sizes: Sizes) -> tuple[Member, ...]:
    experiment = from_mapping(
        {
            "name": "benchmark",
            "recipe": {
                "dataset": {"name": "synthetic", "kwargs": {"train": sizes.images, "test": sizes.batch}},
                "model": row.model,
                "epochs": 100,  # more than are trained
                "batch_size": sizes.batch,
                "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
                "schedule": "constant",
                "augment": {"crop": 4, "flip": True},
                "precision": row.precision,
                "evaluate_every": 0,
            },
            "population": max(row.members, 2),
            "variants": [{"name": "all", "vary": ["init", "shuffle", "augment"]}],
        }
    )
    return plan(experiment, Platform("benchmark", ())).members[: row.members]


def cohort_epochs(row: Row, sizes: Sizes, device: torch.device) -> Callable[[], None]:
    """One epoch of every member of a cohort, each on its thread."""
    data = images(sizes, device)
    classes, rack = 10, Rack(device)
    trainers: list[tuple[Slot | None, Trainer]] = []
    for member in members(row, sizes):
        if device.type == "cpu":
            trainers.append((None, Trainer(member, data, data.first(sizes.batch), classes, (ORIGINAL,))))
            continue
        slot = Slot(rack)
        with slot.entered():
            trainers.append((slot, slot.trainer(member, data, data.first(sizes.batch), classes, (ORIGINAL,))))
        if slot.graphs is None:
            raise SystemExit(f"{row.key}: was not captured")

    def advance(slot: Slot | None, trainer: Trainer) -> None:
        if slot is None:
            trainer.run(until=trainer.epoch + 1)
            return
        with slot.entered():
            trainer.run(until=trainer.epoch + 1)

    threads = ThreadPoolExecutor(len(trainers))

    def epoch() -> None:
        for done in [threads.submit(advance, *pair) for pair in trainers]:
            done.result()

    return epoch


# ---- one row ---------------------------------------------------------------------------------------------------------


def measure(row: Row, sizes: Sizes, device: torch.device, warm: Callable[[], object] = int) -> float:
    """Seconds of one epoch of all the row's members: the median, after one to warm up, which `warm` is told of."""
    build = {"script": script_epochs, "compiled": script_epochs, "vmap": vmap_epochs, "cohort": cohort_epochs}[row.kind]
    epoch = build(row, sizes, device)
    epoch()
    synchronize(device)
    warm()
    times = []
    for _ in range(sizes.epochs):
        began = time.perf_counter()
        epoch()
        synchronize(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure_here(row: Row, arguments: argparse.Namespace, sizes: Sizes, device: torch.device) -> None:
    """What a row's process does: measure, and print the seconds as JSON."""
    if device.type == "cpu":
        torch.set_num_threads(1)

    def warm() -> None:
        if arguments.together:
            print("warm", flush=True)
            sys.stdin.readline()

    print(json.dumps({"row": row.key, "epoch_seconds": measure(row, sizes, device, warm)}))


def measured(row: Row, arguments: argparse.Namespace, limit: float) -> float:
    """Seconds of one epoch of all the row's members, measured in processes of their own.

    Processes that share the GPU wait for each other to be warm; the slowest counts.

    Raises:
        TimeoutError: it took longer than `limit` seconds.
        RuntimeError: a process failed; with the last line that it wrote.
    """
    shared = row.kind == "processes"
    command = _command(Row(row.model, row.precision, "cohort 1") if shared else row, arguments)
    count, together = (row.members, ["--together"]) if shared else (1, [])
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    popnets = GPU_ENVIRONMENT if shared or row.kind == "cohort" else {}  # as in its workers
    variables = {**os.environ, **popnets}
    started = [subprocess.Popen([*command, *together], text=True, env=variables, **pipes) for _ in range(count)]
    too_long = threading.Event()

    def end() -> None:
        too_long.set()
        for process in started:
            process.kill()

    timer = threading.Timer(limit, end)
    timer.start()
    try:
        for process in started if shared else ():
            process.stdout.readline()  # type: ignore[union-attr]  # it is warm, or has ended
        for process in started if shared else ():
            with suppress(OSError):
                process.stdin.write("go\n")  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
        ended = [process.communicate() for process in started]
    finally:
        timer.cancel()
        for process in started:
            process.kill()
    if too_long.is_set():
        raise TimeoutError(f"took longer than {limit:.0f} s")
    for process, (_, errors) in zip(started, ended):
        if process.returncode:
            raise RuntimeError((errors.strip().splitlines() or [f"exit code {process.returncode}"])[-1])
    return max(float(json.loads(output.splitlines()[-1])["epoch_seconds"]) for output, _ in ended)


def _command(row: Row, arguments: argparse.Namespace) -> list[str]:
    tiny = ["--tiny"] if arguments.tiny else []
    return [sys.executable, __file__, "--row", row.key, "--device", arguments.device, *tiny]


def result(row: Row, sizes: Sizes, seconds: float, found: dict[str, float]) -> dict[str, Any]:
    """What is entered for a row, from the seconds of one epoch of all its members."""
    steps = -(-sizes.images // sizes.batch)
    step = seconds / steps / row.members
    model = popnet.models.build(row.model)
    by_bytes = step_bytes(model, sizes.batch, row.precision) / found["bytes"]
    by_operations = step_operations(model, sizes.batch) / found[row.precision]
    return {
        "row": row.key,
        "images_per_second": round(row.members * sizes.images / seconds),
        "step_milliseconds": round(1e3 * step, 4),
        "models_per_hour": round(3600 / (step * EPOCHS * -(-IMAGES // 512)), 2) if sizes == FULL else None,
        "share_of_bandwidth_floor": round(by_bytes / step, 3),
        "share_of_arithmetic_floor": round(by_operations / step, 3),
        "epoch_seconds": seconds,
    }


# ---- the table -------------------------------------------------------------------------------------------------------


def run_all(arguments: argparse.Namespace, device: torch.device, sizes: Sizes) -> None:
    """Measure what the file lacks, row by row, until the time is over."""
    ends = time.monotonic() + arguments.seconds
    path = arguments.json
    known = json.loads(path.read_text()) if path is not None and path.exists() else {}
    entry = known.setdefault("trainer_gpu", {**_machine(device), "rows": {}})
    if "rates" not in entry:
        entry["rates"] = rates(device, sizes.large, [p for p in PRECISIONS if p != "tf32" or device.type == "cuda"])
    entered, begun = entry["rows"], 0
    for row in rows():
        wanted = (not arguments.models or row.model in arguments.models) and measurable(row, device)
        done = row.key in entered and not (arguments.retry and "failed" in entered[row.key])
        if not wanted or done:
            continue
        left = ends - time.monotonic()
        if left <= 0:
            print(f"time is over; run again to go on from {row.key}")
            break
        begun += 1
        try:
            entered[row.key] = result(row, sizes, measured(row, arguments, left), entry["rates"])
            text = f"{entered[row.key]['images_per_second']:,} images/s"
        except TimeoutError as error:
            if begun > 1:
                print(f"time is over; run again to go on from {row.key}")
                break
            entered[row.key], text = {"row": row.key, "failed": str(error)}, f"failed: {error}"
        except (RuntimeError, ValueError, IndexError) as error:
            entered[row.key], text = {"row": row.key, "failed": str(error)}, f"failed: {error}"
        print(f"{row.key:<28}{text}", flush=True)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(known, indent=2) + "\n")
    print_table(entered, device)


def _machine(device: torch.device) -> dict[str, str]:
    if device.type == "cpu":
        return {"device": "cpu", "torch": torch.__version__}
    versions = {
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
    }
    return {"device": torch.cuda.get_device_name(device), **versions}


def print_table(entered: dict[str, dict[str, Any]], device: torch.device) -> None:
    """Every row and the targets, with `not measured` for what was not, or not on a CUDA device."""
    on_cpu = device.type == "cpu"
    names = f"{'images/s':>12}{'ms/step/model':>15}{'models/h':>10}{'x script':>10}{'x fp32 script':>15}"
    print(f"\n{'':<28}{names}{'bandwidth':>11}{'FLOP':>8}{'CPU, tiny: images/s' if on_cpu else '':>22}")
    for row in rows():
        line = entered.get(row.key)
        if line is not None and "failed" in line:
            print(f"{row.key:<28}{'failed':>12}: {line['failed']}")
        elif on_cpu:
            here = "" if line is None else f"{line['images_per_second']:,}"
            print(f"{row.key:<28}{'not measured':>12}{here:>91}")
        elif line is None:
            print(f"{row.key:<28}{'not measured':>12}")
        else:
            print(_line(row, line, entered))
    for precision, target in TARGETS.items():
        reached = "not measured" if on_cpu else _reached(entered, precision)
        print(f"target, resnet14 {precision}: {target} x script: {reached}")


def _line(row: Row, line: dict[str, Any], entered: dict[str, dict[str, Any]]) -> str:
    models = "" if line["models_per_hour"] is None else f"{line['models_per_hour']:.1f}"
    ratios = [_ratio(line, entered.get(f"{row.model} {precision} script")) for precision in (row.precision, "fp32")]
    return (
        f"{row.key:<28}{line['images_per_second']:>12,}{line['step_milliseconds']:>15.3f}{models:>10}"
        f"{ratios[0]:>10}{ratios[1]:>15}"
        f"{line['share_of_bandwidth_floor']:>11.1%}{line['share_of_arithmetic_floor']:>8.1%}"
    )


def _ratio(line: dict[str, Any], script: dict[str, Any] | None) -> str:
    if script is None or "failed" in script:
        return ""
    return f"{line['images_per_second'] / script['images_per_second']:.2f}"


def _reached(entered: dict[str, dict[str, Any]], precision: str) -> str:
    script = entered.get(f"resnet14 {precision} script", {})
    cohorts = [
        line for key, line in entered.items() if key.startswith(f"resnet14 {precision} cohort") and "failed" not in line
    ]
    if "images_per_second" not in script or not cohorts:
        return "not measured"
    fastest = max(line["images_per_second"] for line in cohorts)
    models = max(line["models_per_hour"] or 0.0 for line in cohorts)
    wanted = TARGET_MODELS.get(precision)
    hourly = f", {models:.1f} of {wanted} models an hour" if wanted and models else ""
    return f"{fastest / script['images_per_second']:.2f}{hourly}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="sizes of seconds, whose numbers mean nothing")
    parser.add_argument("--seconds", type=float, default=480.0, help="end after so long")
    parser.add_argument("--models", nargs="*", choices=MODELS, help="only these")
    parser.add_argument("--json", type=Path, help="go on from this file, and enter every row in it")
    parser.add_argument("--retry", action="store_true", help="measure again what failed")
    parser.add_argument("--row", help="measure one row and print it as JSON; what the others start")
    parser.add_argument("--together", action="store_true", help="with --row: once warm, wait for a line to go on")
    arguments = parser.parse_args()
    device = torch.device(arguments.device, 0) if arguments.device == "cuda" else torch.device("cpu")
    sizes = TINY if arguments.tiny else FULL
    if arguments.row is None:
        run_all(arguments, device, sizes)
    else:
        measure_here(next(row for row in rows() if row.key == arguments.row), arguments, sizes, device)


if __name__ == "__main__":
    main()

"""Models an hour of one GPU: popnet's cohorts against the straightforward script, compiled, in processes, and by vmap.

    python benchmarks/trainer_gpu.py [--minutes 8] [--json benchmarks/results/GPU.json]
    python benchmarks/trainer_gpu.py --tiny --device cpu     the same from end to end, small, without a GPU

Images of CIFAR's shape, batch 512, random crop and flip, SGD with momentum. Each row runs in a process of its own and
is entered in the JSON file at once; rows that stand there are not measured again, and none begins after `--minutes`.

* script: what people write: one model, eager, PyTorch's batch norm, its own augmentation on the GPU, torch.optim.SGD.
* compiled: the same under torch.compile.
* cohort K: K members of popnet in as many slots, each with its captured graphs; cohort 1 is one member.
* processes K: as many processes that share the GPU, each with a cohort of 1.
* vmap K: the script's step for K models at once, as one batched program; for models without batch norm.

Times are those of whole epochs between two synchronisations. The floor is the larger of two times: the bytes that
popnet's kernels must move, each activation read and written as often as the fused ones do, at the rate of a large copy
on this device; and the floating-point operations of the convolutions and linear layers, at the rate of a large product.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import popnet
from popnet.config import from_mapping
from popnet.data.resident import ResidentImages
from popnet.protocol import ORIGINAL, Member, Platform, plan
from popnet.training.numerics import autocast, numerics
from popnet.training.slots import Slot
from popnet.training.trainer import Trainer

EPOCHS = 500  # of the papers, for models an hour
IMAGES = 50_000  # of CIFAR's training set
MODELS = ("resnet14", "linear", "hidden_fc", "hidden_conv", "vgg11", "resnet9", "resnet18")
PRECISIONS = ("fp32", "tf32", "bf16")
WITHOUT_NORM = ("linear", "hidden_fc")
TARGETS = {"fp32": 1.3, "tf32": 1.7, "bf16": 3.5}  # times the script, resnet14
TARGET_MODELS = {"tf32": 50, "bf16": 90}  # an hour, resnet14


@dataclass(frozen=True)
class Sizes:
    """How much is measured: the training set, the batch, and the epochs after the first."""

    images: int
    batch: int
    epochs: int
    large: int  # bytes of the copy, and a side of the product squared times four


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
    """Whether a device can run a row: a CPU has no TF32, and neither graphs nor a GPU to compile for or to share."""
    return device.type == "cuda" or (row.precision != "tf32" and row.kind not in ("compiled", "processes"))


# ---- the data --------------------------------------------------------------------------------------------------------


def images(sizes: Sizes, device: torch.device) -> ResidentImages:
    data = popnet.data.load("synthetic", train=sizes.images, test=sizes.batch)
    pixels, labels = torch.from_numpy(data.train_images), torch.from_numpy(data.train_labels)
    return ResidentImages(pixels, labels, data.mean, data.std).to(device)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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

    run = torch.compile(forward) if row.kind == "compiled" else forward
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
                "epochs": 1_000_000,
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
    classes, fingerprints = 10, dict[str, str]()
    trainers: list[tuple[Slot | None, Trainer]] = []
    for member in members(row, sizes):
        if device.type == "cpu":
            trainers.append((None, Trainer(member, data, data.first(sizes.batch), classes, (ORIGINAL,))))
            continue
        slot = Slot(device, fingerprints)
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

    def epoch() -> None:
        threads = [threading.Thread(target=advance, args=pair) for pair in trainers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return epoch


# ---- the floor -------------------------------------------------------------------------------------------------------


def step_bytes(model: nn.Module, batch: int, precision: str) -> int:
    """Bytes that one training step of a batch moves through memory, with popnet's fused kernels.

    A convolution or linear layer reads its input and writes its output, then reads the output's gradient and writes the
    input's, then reads input and output gradient for the weight's. Batch norm reads its input twice and writes once;
    backward it reads gradient and input twice and writes once; with an addition before the ReLU, one tensor more
    forward and two more backward. The optimiser reads weights, gradients and momentum and writes all three, in float32.
    """
    moved = 0

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal moved
        before, after = inputs[0].numel(), output.numel()
        if isinstance(module, nn.BatchNorm2d):
            moved += (8 if len(inputs) == 1 else 11) * after
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            moved += 3 * (before + after)
        elif not list(module.children()) and not isinstance(module, nn.Identity):
            moved += 2 * (before + after)

    handles = [module.register_forward_hook(hook) for module in model.modules()]
    with torch.no_grad():
        model.train()(torch.zeros(2, 3, 32, 32))
    for handle in handles:
        handle.remove()
    width = 2 if precision in ("bf16", "fp16") else 4
    return moved // 2 * batch * width + 24 * sum(parameter.numel() for parameter in model.parameters())


def step_operations(model: nn.Module, batch: int) -> int:
    """Floating-point operations of forward and backward, a multiply-add counted as two."""
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, 3, 32, 32)).sum().backward()
    return counter.get_total_flops() // 2 * batch


def rates(device: torch.device, sizes: Sizes) -> dict[str, float]:
    """Bytes a second of a large copy, read and written; operations a second of a large product in each precision."""
    source = torch.empty(sizes.large, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found = {"bytes": 2 * sizes.large / best(lambda: target.copy_(source), device)}
    side = int((sizes.large / 4) ** 0.5) // 64 * 64
    for precision in PRECISIONS:
        if precision == "tf32" and device.type == "cpu":
            continue
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = torch.randn(2, side, side, device=device).to(dtype)
        with numerics(device, precision, hardware=True):
            found[precision] = 2 * side**3 / best(lambda a=a, b=b: a @ b, device)
    return found


def best(run: Callable[[], Any], device: torch.device, repeats: int = 10) -> float:
    """The shortest of several runs, in seconds."""
    times = []
    for _ in range(repeats):
        synchronize(device)
        began = time.perf_counter()
        run()
        synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times)


# ---- one row ---------------------------------------------------------------------------------------------------------


def measure(row: Row, sizes: Sizes, device: torch.device) -> float:
    """Seconds of one epoch of all the row's members: the median, after one to warm up."""
    build = {"script": script_epochs, "compiled": script_epochs, "vmap": vmap_epochs, "cohort": cohort_epochs}[row.kind]
    epoch = build(row, sizes, device)
    times = []
    for _ in range(1 + sizes.epochs):
        synchronize(device)
        began = time.perf_counter()
        epoch()
        synchronize(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def measure_processes(row: Row, arguments: argparse.Namespace, seconds: float) -> float:
    """The longest of so many processes at once, each a cohort of 1 that says how long its epochs take."""
    alone = Row(row.model, row.precision, "cohort 1")
    started = [subprocess.Popen(_command(alone, arguments), stdout=subprocess.PIPE) for _ in range(row.members)]
    deadline = time.monotonic() + seconds
    try:
        outputs = [process.communicate(timeout=max(deadline - time.monotonic(), 1))[0] for process in started]
    finally:
        for process in started:
            process.kill()
    if any(process.returncode for process in started):
        raise SystemExit(f"{row.key}: a process failed")
    return max(float(json.loads(output)["epoch_seconds"]) for output in outputs)


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
    """Measure what the file lacks, row by row, until the minutes are over."""
    path = arguments.json
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    known = json.loads(path.read_text()) if path is not None and path.exists() else {}
    entry = known.setdefault("trainer_gpu", {"device": name, "torch": torch.__version__, "rows": {}})
    if "rates" not in entry:
        entry["rates"] = rates(device, sizes)
    ends = time.monotonic() + 60 * arguments.minutes
    for row in rows():
        wanted = (not arguments.models or row.model in arguments.models) and measurable(row, device)
        if not wanted or row.key in entry["rows"]:
            continue
        left = ends - time.monotonic()
        if left <= 0:
            print(f"time is over; run again to go on from {row.key}")
            break
        try:
            seconds = _seconds(row, arguments, left + 120)
        except (subprocess.SubprocessError, SystemExit, ValueError) as error:
            print(f"{row.key:<28}failed: {str(error).splitlines()[-1] if str(error) else error!r}", flush=True)
            continue
        entry["rows"][row.key] = result(row, sizes, seconds, entry["rates"])
        print(f"{row.key:<28}{entry['rows'][row.key]['images_per_second']:>12,} images/s", flush=True)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(known, indent=2) + "\n")
    print_table(entry["rows"])


def _seconds(row: Row, arguments: argparse.Namespace, limit: float) -> float:
    if row.kind == "processes":
        return measure_processes(row, arguments, limit)
    output = subprocess.run(_command(row, arguments), stdout=subprocess.PIPE, check=True, timeout=limit).stdout
    return float(json.loads(output)["epoch_seconds"])


def print_table(entered: dict[str, dict[str, Any]]) -> None:
    """Every row, `not measured` where there is nothing, and the targets."""
    print(
        f"\n{'':<28}{'images/s':>12}{'ms/step/model':>15}{'models/h':>10}{'x script':>10}{'bandwidth':>11}{'FLOP':>8}"
    )
    for row in rows():
        line = entered.get(row.key)
        if line is None:
            print(f"{row.key:<28}{'not measured':>12}")
            continue
        script = entered.get(f"{row.model} {row.precision} script")
        ratio = f"{line['images_per_second'] / script['images_per_second']:.2f}" if script else ""
        models = "" if line["models_per_hour"] is None else f"{line['models_per_hour']:.1f}"
        print(
            f"{row.key:<28}{line['images_per_second']:>12,}{line['step_milliseconds']:>15.3f}{models:>10}{ratio:>10}"
            f"{line['share_of_bandwidth_floor']:>11.1%}{line['share_of_arithmetic_floor']:>8.1%}"
        )
    for precision, target in TARGETS.items():
        print(f"target, resnet14 {precision}: {target} x script: {_reached(entered, precision)}")


def _reached(entered: dict[str, dict[str, Any]], precision: str) -> str:
    script = entered.get(f"resnet14 {precision} script")
    cohorts = [line for key, line in entered.items() if key.startswith(f"resnet14 {precision} cohort")]
    if script is None or not cohorts:
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
    parser.add_argument("--minutes", type=float, default=8.0, help="begin no row after so long")
    parser.add_argument("--models", nargs="*", choices=MODELS, help="only these")
    parser.add_argument("--json", type=Path, help="go on from this file, and enter every row in it")
    parser.add_argument("--row", help="measure one row and print it as JSON; what the others start")
    arguments = parser.parse_args()
    device = torch.device(arguments.device, 0) if arguments.device == "cuda" else torch.device("cpu")
    sizes = TINY if arguments.tiny else FULL
    if arguments.row is None:
        run_all(arguments, device, sizes)
        return
    if device.type == "cpu":
        torch.set_num_threads(1)
    row = next(row for row in rows() if row.key == arguments.row)
    print(json.dumps({"row": row.key, "epoch_seconds": measure(row, sizes, device)}))


if __name__ == "__main__":
    main()

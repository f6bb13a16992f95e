"""The time that a training step cannot go below on a device: by its memory's bandwidth, and by its arithmetic.

The bytes are those that popnet's kernels must move, each activation read and written as often as the fused ones do it,
at the rate of a large copy; the operations those of the convolutions and linear layers, at the rate of a large product.
Rates are measured on the card at hand, so the floor is that card's.

What follows for ResNet-14, whose step of 512 images moves 4.2 GB in fp32 and tf32, 2.1 GB in bf16, and takes 81 GFLOP
(500 epochs of 98 steps a model, the larger of both times a step):

* at an H100's 3.0 TB/s of a copy: 1.41 and 0.71 ms, 52 models an hour in tf32, 104 in bf16;
* at an H200's 4.3 TB/s: 0.98 and 0.49 ms, 75 in tf32, 149 in bf16; 60 and 120 are four fifths of that;
* in fp32 without TF32, at 60 TFLOP/s, the operations take 1.34 ms, 55 models an hour: the floor on an H200, while on an
  H100 the bytes take a little longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from popnet.training.numerics import numerics

EPOCHS = 500  # of the papers
STEPS = 98  # of an epoch: CIFAR's 50,000 images in batches of 512


def models_per_hour(step_seconds: float) -> float:
    """How many models an hour trains, of `EPOCHS` epochs of `STEPS` steps each."""
    return 3600 / (step_seconds * EPOCHS * STEPS)


@dataclass(frozen=True)
class Floor:
    """Seconds that a step of one model takes at least: by the bytes that it moves, and by its operations."""

    by_bytes: float
    by_operations: float

    @property
    def seconds(self) -> float:
        return max(self.by_bytes, self.by_operations)


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


def synchronize(device: torch.device) -> None:
    """Wait for all that the device was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rates(device: torch.device, size: int, precisions: Sequence[str]) -> dict[str, float]:
    """Bytes a second of a large copy, read and written; operations a second of a large product in each precision.

    Args:
        size: of the copy in bytes, and of each float32 operand of the product.
    """
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found = {"bytes": 2 * size / best(lambda: target.copy_(source), device)}
    side = int((size / 4) ** 0.5) // 64 * 64
    for precision in precisions:
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

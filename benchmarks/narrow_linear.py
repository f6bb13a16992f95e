"""A fully connected layer with few outputs: popnet's kernel against PyTorch's, forward and gradient, on one core.

    python benchmarks/narrow_linear.py

Batches of 512 images of CIFAR's shape to 10 classes, float32: the layer of `linear`. Both take turns, 200 times; the
median is what a training sees, and the fastest what the machine can do. The floor: 15.7 million multiply-adds a pass
are 2 million vector instructions of 8 lanes, a third of a millisecond at two a cycle of 3 GHz; the batch is 6.3 MB, a
tenth of a millisecond from the third-level cache.

What was learnt (AMD EPYC, AVX2): the median of PyTorch's weight gradient lies far above its fastest. Other tiles, other
blocks, packing the weights and prefetching made no difference above the noise of a busy machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from results_file import cpu_model
from torch.nn import functional

from popnet import native

ROWS, INPUTS, OUTPUTS = 512, 3 * 32 * 32, 10
REPEATS = 200


def in_turn(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Milliseconds of each call of the two, called one after the other."""
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(REPEATS + 1):
        for call, taken in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            call()
            if repeat > 0:
                taken.append(1e3 * (time.perf_counter() - start))
    return times


def main() -> None:
    torch.set_num_threads(1)
    x, weight, bias = torch.randn(ROWS, INPUTS), torch.randn(OUTPUTS, INPUTS), torch.randn(OUTPUTS)
    gradient = torch.randn(ROWS, OUTPUTS)
    weights_alone = (False, True, True)
    cases = {
        "forward": in_turn(lambda: native.narrow_linear(x, weight, bias), lambda: functional.linear(x, weight, bias)),
        "gradient of the weights": in_turn(
            lambda: native.narrow_linear_gradient(gradient, x, weight, wanted=weights_alone),
            lambda: (gradient.t() @ x, gradient.sum(0)),
        ),
    }
    print(f"{cpu_model()}, one thread, torch {torch.__version__}; milliseconds, median (fastest)\n")
    print(f"{'':<26}{'popnet':>16}{'PyTorch':>16}{'ratio':>8}")
    for name, (ours, theirs) in cases.items():
        medians = [statistics.median(times) for times in (ours, theirs)]
        shown = [f"{median:.2f} ({min(times):.2f})" for median, times in zip(medians, (ours, theirs), strict=True)]
        print(f"{name:<26}{shown[0]:>16}{shown[1]:>16}{medians[1] / medians[0]:>8.2f}")


if __name__ == "__main__":
    main()

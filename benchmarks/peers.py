"""What people write to train small networks on a GPU, without popnet: a script, the same tuned, and models by vmap.

A step takes one batch, int64 [batch] indices of training images, trains on it and returns its loss, a scalar on the
device. The models are popnet's with PyTorch's own operations; the augmentation is a script's own, on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

import popnet
from popnet.data.resident import ResidentImages
from popnet.training.numerics import autocast

Step = Callable[[Tensor], Tensor]

_WARM_UPS = 3
"""Steps before a capture, in which libraries load and the optimiser makes its buffers."""


def plain_pytorch(precision: str) -> None:
    """Set this process as such scripts do: the fastest kernels, and each layer by PyTorch, not by popnet."""
    popnet.models.normalisation._fuses = lambda norm, x: False
    popnet.models.fully_connected._is_narrow = lambda layer, x: False
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


# ---- the data --------------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class TrainingSet:
    """Images uint8 [n, h, w, c] and labels int64 [n] on the device, mean and sd of the channels float32 [c, 1, 1]."""

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    @staticmethod
    def of(data: ResidentImages) -> TrainingSet:
        mean, std = (torch.tensor(v, device=data.device).float()[:, None, None] for v in (data.mean, data.std))
        return TrainingSet(data.images, data.labels, mean, std)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Augmented images [batch, c, h, w], and labels."""
        return augmented(self.images[indices], self.mean, self.std), self.labels[indices]


def train_epoch(step: Step, data: TrainingSet, batch: int) -> float:
    """One epoch in a random order; the mean of its steps' losses, which a script prints."""
    batches = torch.randperm(len(data.labels), device=data.labels.device).split(batch)
    total = torch.zeros((), device=data.labels.device)
    for indices in batches:
        total += step(indices)
    return float(total) / len(batches)


# ---- one model -------------------------------------------------------------------------------------------------------


def sgd(parameters: Iterable[Tensor], fused: bool = False) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=5e-4, fused=fused)


def script_step(model: nn.Module, data: TrainingSet, precision: str, compiled: bool = False) -> Step:
    """As a first script does it, eager; or with its forward pass and loss, and so their gradient, compiled."""
    optimizer = sgd(model.parameters())

    def forward(x: Tensor, y: Tensor) -> Tensor:
        with autocast(x.device, precision):
            return functional.cross_entropy(model(x).float(), y)

    run = torch.compile(forward, dynamic=False) if compiled else forward

    def step(indices: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = run(*data.batch(indices))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def tuned_step(model: nn.Module, data: TrainingSet, precision: str, compiled: bool) -> Step:
    """As those do it who tune: channels-last, fused SGD, and the whole step compiled, launched as CUDA graphs.

    `torch.compile` takes augmentation and forward into one graph and the gradient into another; fused SGD, one kernel
    or two, it leaves as it is. The batch is fetched before: of what a graph reads, all but weights is copied each step,
    which must not be the whole training set.
    """
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = sgd(model.parameters(), fused=True)

    def whole(pixels: Tensor, y: Tensor) -> Tensor:
        x = augmented(pixels, data.mean, data.std).contiguous(memory_format=torch.channels_last)
        with autocast(x.device, precision):
            loss = functional.cross_entropy(model(x).float(), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    run = torch.compile(whole, mode="reduce-overhead", dynamic=False) if compiled else whole

    def step(indices: Tensor) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        return run(data.images[indices], data.labels[indices])

    return step


# ---- several models --------------------------------------------------------------------------------------------------


def vmap_step(models: Sequence[nn.Module], data: TrainingSet, precision: str) -> tuple[Step, dict[str, Tensor]]:
    """All models at once as one batched program, on equal batches; the loss is their mean.

    Returns:
        The step, and the weights that it trains: [models, ...] by name.
    """
    stacked, buffers = torch.func.stack_module_state(list(models))
    weights = {name: value.detach() for name, value in stacked.items()}  # else autograd would follow the mapped step
    optimizer = sgd(weights.values(), fused=True)

    def loss(weight: dict[str, Tensor], buffer: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        with autocast(x.device, precision):
            return functional.cross_entropy(torch.func.functional_call(models[0], (weight, buffer), (x,)).float(), y)

    gradients = torch.func.vmap(torch.func.grad_and_value(loss), in_dims=(0, 0, None, None))

    def step(indices: Tensor) -> Tensor:
        found, losses = gradients(weights, buffers, *data.batch(indices))
        for name, value in weights.items():
            value.grad = found[name]
        optimizer.step()
        return losses.mean()

    return step, weights


def captured(step: Step, indices: Tensor) -> Step:
    """`step` as one CUDA graph for batches of the size of `indices`; a few steps are trained before the capture."""
    batch, side = indices.clone(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            step(batch)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step(batch)

    def replay(indices: Tensor) -> Tensor:
        batch.copy_(indices)
        graph.replay()
        return loss

    return replay

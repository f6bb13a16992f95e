"""Parts that a user would bring, imported by path in experiments of the tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class RandomNet(nn.Module):
    """A net with popnet's kind of randomness (dropout modules) and with its own (a functional dropout)."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, 16)
        self.first = nn.Dropout(0.3)
        self.second = nn.Dropout(0.3)
        self.out = nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(functional.relu(self.hidden(x.flatten(1))))
        x = functional.dropout(x, 0.2, self.training)
        return self.out(self.second(x))


def random_net(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return RandomNet(int(np.prod(input_shape)), classes)


def fails_for_seed_2(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    model = random_net(input_shape, classes)
    if torch.initial_seed() == 2:
        raise RuntimeError("seed 2 is not wanted here")
    return model


def dies_once_for_seed_2(input_shape: tuple[int, int, int], classes: int, mark: str, parent: int) -> nn.Module:
    """Kills its process the first time a worker builds it with seed 2."""
    if torch.initial_seed() == 2 and os.getpid() != parent and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return random_net(input_shape, classes)


def always_dies_for_seed_2(input_shape: tuple[int, int, int], classes: int, parent: int) -> nn.Module:
    if torch.initial_seed() == 2 and os.getpid() != parent:
        os._exit(3)
    return random_net(input_shape, classes)


def small_bottlenecks(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """ResNet-50's stem and blocks, one a stage, an eighth as wide."""
    from torchvision.models.resnet import Bottleneck, ResNet

    return ResNet(Bottleneck, [1, 1, 1, 1], num_classes=classes, width_per_group=8)


def two_outputs(input_shape: tuple[int, int, int]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(input_shape)), 2))


class InfiniteInEvaluation(RandomNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x)
        return logits if self.training else logits / 0.0


def infinite_in_evaluation(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return InfiniteInEvaluation(int(np.prod(input_shape)), classes)


def arrays() -> tuple[np.ndarray, ...]:
    generator = np.random.Generator(np.random.PCG64(3))
    images = generator.integers(0, 256, (48, 6, 6), dtype=np.uint8)
    labels = generator.integers(0, 3, 48)
    labels[:3] = [0, 1, 2]
    return images[:32], labels[:32], images[32:], labels[32:]


def smoothed_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits, labels, label_smoothing=0.1)


def rmsprop(groups: list, lr: float) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(groups, lr=lr)


class Fated(RandomNet):
    """Something happens in its process in the forward pass number `at`, once in all: a mark is left."""

    def __init__(self, inputs: int, classes: int, at: int, mark: str, happen: Callable[[], None]) -> None:
        super().__init__(inputs, classes)
        self.at, self.mark, self.happen, self.passes = at, mark, happen, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        if self.passes == self.at and not Path(self.mark).exists():
            Path(self.mark).touch()
            self.happen()
        return super().forward(x)


def _fated(happen: Callable[[], None], seeds: tuple[int, ...] | None = (2,)) -> Callable[..., nn.Module]:
    def build(input_shape: tuple[int, int, int], classes: int, at: int, mark: str, parent: int) -> nn.Module:
        here = (seeds is None or torch.initial_seed() in seeds) and os.getpid() != parent
        return Fated(int(np.prod(input_shape)), classes, at if here else -1, mark, happen)

    return build


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


dies_once_in_step = _fated(_die)
dies_once_in_step_of_any_seed = _fated(_die, None)
hangs_once_in_step = _fated(lambda: time.sleep(3600))


class SlowNet(RandomNet):
    def __init__(self, inputs: int, classes: int, marks: str | None, seconds: float) -> None:
        super().__init__(inputs, classes)
        self.marks, self.seconds = marks, seconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ray = sys.modules.get("ray")
        if self.marks is not None and ray is not None and ray.is_initialized():
            Path(self.marks, ray.get_runtime_context().get_node_id()).touch()
        time.sleep(self.seconds)
        return super().forward(x)


def slow_net(input_shape: tuple[int, int, int], classes: int, seconds: float, marks: str | None = None) -> nn.Module:
    """Takes its time, and leaves a mark with the name of each Ray node that it trains on."""
    return SlowNet(int(np.prod(input_shape)), classes, marks, seconds)

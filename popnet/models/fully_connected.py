"""The paper's simplest models: linear, one hidden fully connected layer, one hidden convolution.

Summers & Dinneen 2021, Appendix A. PyTorch's default initialisation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from popnet import native
from popnet.models.registry import InputShape, register


class NarrowLinear(nn.Linear):
    """`nn.Linear`; with few outputs, in float32 on the CPU, the native kernel (csrc/training/narrow_linear.h)."""

    def forward(self, x: Tensor) -> Tensor:
        return _Narrow.apply(x, self.weight, self.bias) if _is_narrow(self, x) else super().forward(x)


def _is_narrow(layer: nn.Linear, x: Tensor) -> bool:
    """Whether the native kernel stands in."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == layer.weight.device.type == "cpu"
        and x.dtype == layer.weight.dtype == torch.float32
        and x.dim() == 2
        and x.shape[1] == layer.in_features
        and 1 <= layer.out_features <= native.NARROW_OUTPUTS
        and not torch.is_autocast_enabled("cpu")
    )


class _Narrow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        bias = None if bias is None else bias.contiguous()
        return native.narrow_linear(x, weight, bias, threads=torch.get_num_threads())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return native.narrow_linear_gradient(
            gradient.contiguous(), x, weight, wanted=ctx.needs_input_grad, threads=torch.get_num_threads()
        )


class Linear(nn.Module):
    """Softmax regression on the pixels."""

    def __init__(self, input_shape: InputShape, classes: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.fc = NarrowLinear(channels * height * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class HiddenFC(nn.Module):
    """One hidden fully connected layer with ReLU."""

    def __init__(self, input_shape: InputShape, classes: int, hidden: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.fc1 = nn.Linear(channels * height * width, hidden)
        self.fc2 = NarrowLinear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.relu(self.fc1(x.flatten(1))))


class HiddenConv(nn.Module):
    """One 5x5 convolution of stride 2 with ReLU, then a fully connected layer on all of its pixels."""

    def __init__(self, input_shape: InputShape, classes: int, hidden: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.conv = nn.Conv2d(channels, hidden, kernel_size=5, stride=2, padding=2)
        self.fc = NarrowLinear(hidden * ((height + 1) // 2) * ((width + 1) // 2), classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(functional.relu(self.conv(x)).flatten(1))


@register("linear")
def linear(input_shape: InputShape, classes: int) -> nn.Module:
    """Fully connected from the pixels to the classes; 30,730 parameters on CIFAR-10, 7,850 on MNIST."""
    return Linear(input_shape, classes)


@register("hidden_fc")
def hidden_fc(input_shape: InputShape, classes: int, hidden: int = 512) -> nn.Module:
    """One hidden layer of `hidden` units; 1,578,506 parameters on CIFAR-10, 407,050 on MNIST."""
    return HiddenFC(input_shape, classes, hidden)


@register("hidden_conv")
def hidden_conv(input_shape: InputShape, classes: int, hidden: int = 64) -> nn.Module:
    """One convolution to `hidden` channels; 168,714 parameters on CIFAR-10, 127,114 on MNIST."""
    return HiddenConv(input_shape, classes, hidden)

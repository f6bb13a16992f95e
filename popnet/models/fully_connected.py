"""The paper's simplest models: linear, one hidden fully connected layer, one hidden convolution.

Summers & Dinneen 2021, Appendix A. PyTorch's default initialisation.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from popnet.models.registry import InputShape, register


class Linear(nn.Module):
    """Softmax regression on the pixels."""

    def __init__(self, input_shape: InputShape, classes: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.fc = nn.Linear(channels * height * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class HiddenFC(nn.Module):
    """One hidden fully connected layer with ReLU."""

    def __init__(self, input_shape: InputShape, classes: int, hidden: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.fc1 = nn.Linear(channels * height * width, hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.relu(self.fc1(x.flatten(1))))


class HiddenConv(nn.Module):
    """One 5x5 convolution of stride 2 with ReLU, then a fully connected layer on all of its pixels."""

    def __init__(self, input_shape: InputShape, classes: int, hidden: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.conv = nn.Conv2d(channels, hidden, kernel_size=5, stride=2, padding=2)
        self.fc = nn.Linear(hidden * ((height + 1) // 2) * ((width + 1) // 2), classes)

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

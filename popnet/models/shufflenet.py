"""ShuffleNet V2 for small images (Summers & Dinneen 2021, Sec. 6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from popnet.models.normalisation import BatchNorm, BatchNormReLU
from popnet.models.pooling import GlobalAveragePool
from popnet.models.registry import InputShape, register


def _pointwise(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, groups=channels, bias=False)


def _interleave(left: Tensor, right: Tensor) -> Tensor:
    """Concatenate two halves and shuffle their channels: left 0, right 0, left 1, right 1, ..."""
    return torch.stack((left, right), dim=2).flatten(1, 2)


class MainBranch(nn.Module):
    """1x1, depthwise 3x3, 1x1; batch norm after each, ReLU after the 1x1 ones."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _pointwise(in_channels, out_channels)
        self.bn1 = BatchNormReLU(out_channels)
        self.conv2 = _depthwise(out_channels, stride)
        self.bn2 = BatchNorm(out_channels)
        self.conv3 = _pointwise(out_channels, out_channels)
        self.bn3 = BatchNormReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x))
        x = self.bn2(self.conv2(x))
        return self.bn3(self.conv3(x))


class DownBranch(nn.Module):
    """Depthwise 3x3 of stride 2, 1x1; batch norm after each, ReLU at the end."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = _depthwise(in_channels, stride=2)
        self.bn1 = BatchNorm(in_channels)
        self.conv2 = _pointwise(in_channels, out_channels)
        self.bn2 = BatchNormReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x))
        return self.bn2(self.conv2(x))


class DownBlock(nn.Module):
    """Both branches see all channels and halve height and width; each gives half of the output's channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.left = DownBranch(in_channels, out_channels // 2)
        self.right = MainBranch(in_channels, out_channels // 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return _interleave(self.left(x), self.right(x))


class BasicBlock(nn.Module):
    """The first half of the channels passes through, the second goes through the main branch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.right = MainBranch(channels // 2, channels // 2, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        return _interleave(left, self.right(right))


class ShuffleNetV2(nn.Module):
    """3x3 stem, stages of a down block and basic blocks, 1x1 convolution, average pool, fully connected.

    The pool is the 4x4 one of the paper's net on 32x32 images, and works for others.

    Args:
        widths: channels of the stem, of each stage, and of the last 1x1 convolution.
        basic_blocks: basic blocks of each stage, after its down block.
    """

    def __init__(
        self, input_shape: InputShape, classes: int, widths: tuple[int, ...], basic_blocks: tuple[int, ...]
    ) -> None:
        super().__init__()
        stem, *stage_widths, last = widths
        self.conv1 = nn.Conv2d(input_shape[0], stem, kernel_size=3, padding=1, bias=False)
        self.bn1 = BatchNormReLU(stem)
        blocks: list[nn.Module] = []
        channels = stem
        for width, count in zip(stage_widths, basic_blocks, strict=True):
            blocks.append(DownBlock(channels, width))
            blocks += [BasicBlock(width) for _ in range(count)]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = _pointwise(channels, last)
        self.bn2 = BatchNormReLU(last)
        self.pool = GlobalAveragePool()
        self.fc = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x))
        x = self.bn2(self.conv2(self.blocks(x)))
        return self.fc(self.pool(x))


@register("shufflenet_v2_x0_5")
def shufflenet_v2_x0_5(input_shape: InputShape, classes: int) -> nn.Module:
    """352,042 parameters on CIFAR-10. PyTorch's default initialisation."""
    return ShuffleNetV2(input_shape, classes, widths=(24, 48, 96, 192, 1024), basic_blocks=(3, 7, 3))

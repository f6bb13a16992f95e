"""ResNets for small images (Summers & Dinneen 2021, Sec. 3.2, 6 and A; ResNet-34: the reproduction report).

Modules to hook for the features of the paper's Figure 1: `conv1`, `stages.0` to `stages.2`, `pool`, `fc`.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from popnet.models.normalisation import BatchNorm, BatchNormReLU
from popnet.models.pooling import GlobalAveragePool
from popnet.models.registry import Builder, InputShape, register


class Downsample(nn.Module):
    """Shortcut without convolution: every second pixel, batch norm on the input's channels, zero channels.

    [batch, c, h, w] -> [batch, out_channels, ceil(h / 2), ceil(w / 2)]. Its batch norm's name must not
    contain `bn`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = BatchNorm(in_channels)
        self.zero_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x[:, :, ::2, ::2])
        return functional.pad(x, (0, 0, 0, 0, 0, self.zero_channels))


class BasicBlock(nn.Module):
    """conv-bn-ReLU-conv-bn, add the shortcut, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNormReLU(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = BatchNormReLU(out_channels)
        self.shortcut = nn.Identity() if stride == 1 else Downsample(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x))
        return self.bn2(self.conv2(y), self.shortcut(x))


class ResNet(nn.Module):
    """3x3 stem with batch norm and ReLU, stages of basic blocks, global average pool, fully connected.

    Args:
        widths: channels of each stage; the stem has the first stage's.
        blocks: blocks of each stage; the first block of every stage but the first halves height and width.
    """

    def __init__(self, input_shape: InputShape, classes: int, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], widths[0], kernel_size=3, padding=1, bias=False)
        self.bn1 = BatchNormReLU(widths[0])
        channels = widths[0]
        stages: list[nn.Module] = []
        for number, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            first = BasicBlock(channels, width, stride=1 if number == 0 else 2)
            stages.append(nn.Sequential(first, *(BasicBlock(width, width, stride=1) for _ in range(count - 1))))
            channels = width
        self.stages = nn.Sequential(*stages)
        self.pool = GlobalAveragePool()
        self.fc = nn.Linear(channels, classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x))
        return self.fc(self.pool(self.stages(x)))


def _initialise(model: ResNet) -> None:
    """Convolutions Kaiming normal (fan out, ReLU gain); each block's second batch norm starts at scale 0.

    So every block begins as its shortcut. Other batch norms (1 and 0) and the fully connected layer keep
    PyTorch's defaults.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)


def _register(name: str, widths: tuple[int, ...], blocks: tuple[int, ...]) -> Builder:
    @register(name)
    def build(input_shape: InputShape, classes: int) -> nn.Module:
        return ResNet(input_shape, classes, widths, blocks)

    return build


_register("resnet6", (16,), (2,))
_register("resnet10", (16, 32), (2, 2))
_register("resnet14", (16, 32, 64), (2, 2, 2))
_register("resnet18", (64, 128, 256, 512), (2, 2, 2, 2))
_register("resnet34", (64, 128, 256, 512), (3, 4, 6, 3))
for _width in (0.125, 0.25, 0.5, 2, 4, 8):
    _register(f"resnet14_x{_width:g}", (int(16 * _width), int(32 * _width), int(64 * _width)), (2, 2, 2))

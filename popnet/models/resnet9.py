"""Jordan's ResNet-9 for short CIFAR-10 trainings (Jordan 2024, Appendix A.1)."""

from __future__ import annotations

from torch import Tensor, nn

from popnet.models.normalisation import BatchNormReLU
from popnet.models.pooling import GlobalMaxPool
from popnet.models.registry import InputShape, register, require_size


class ConvNormReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, padding: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = BatchNormReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class Residual(nn.Module):
    """x + two ConvNormReLU of the same width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer1 = ConvNormReLU(channels, channels)
        self.layer2 = ConvNormReLU(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer2(self.layer1(x))


class ResNet9(nn.Module):
    """Nine layers with weights; global max pool; a head without bias, whose logits are scaled by 0.2."""

    def __init__(self, input_shape: InputShape, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvNormReLU(input_shape[0], 64),
            ConvNormReLU(64, 128, kernel_size=5, stride=2, padding=2),
            Residual(128),
            ConvNormReLU(128, 256),
            nn.MaxPool2d(2),
            Residual(256),
            ConvNormReLU(256, 128, padding=0),
        )
        self.pool = GlobalMaxPool()
        self.fc = nn.Linear(128, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.features(x))) * 0.2


@register("resnet9")
def resnet9(input_shape: InputShape, classes: int) -> nn.Module:
    """2,274,880 parameters on CIFAR-10. PyTorch's default initialisation."""
    require_size("resnet9", input_shape, 11, "its last convolution, unpadded, needs 3x3 of a quarter of the image")
    return ResNet9(input_shape, classes)

"""The quickstart's net: small enough to train hundreds of times on two CPU cores."""

from __future__ import annotations

from torch import Tensor, nn

from popnet.models.normalisation import BatchNormReLU
from popnet.models.pooling import GlobalAveragePool
from popnet.models.registry import InputShape, register


class SmallCNN(nn.Module):
    """Three 3x3 convolutions with batch norm and ReLU, to 8-16-16 channels; average pool; fully connected."""

    def __init__(self, input_shape: InputShape, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], 8, kernel_size=3, padding=1, bias=False)
        self.bn1 = BatchNormReLU(8)
        self.conv2 = nn.Conv2d(8, 16, kernel_size=3, padding=1, bias=False)
        self.bn2 = BatchNormReLU(16)
        self.conv3 = nn.Conv2d(16, 16, kernel_size=3, padding=1, bias=False)
        self.bn3 = BatchNormReLU(16)
        self.pool = GlobalAveragePool()
        self.fc = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x))
        x = self.bn2(self.conv2(x))
        x = self.bn3(self.conv3(x))
        return self.fc(self.pool(x))


@register("small_cnn")
def small_cnn(input_shape: InputShape, classes: int) -> nn.Module:
    """3,778 parameters on digits (8x8, one channel). PyTorch's default initialisation."""
    return SmallCNN(input_shape, classes)

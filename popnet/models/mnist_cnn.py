"""The small convolutional net of the paper's MNIST experiments (Summers & Dinneen 2021, Sec. 6)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from popnet.models.registry import InputShape, register, require_size


class MnistCNN(nn.Module):
    """Two unpadded 3x3 convolutions, 2x2 max pool, two fully connected layers, ReLU between; no dropout."""

    def __init__(self, input_shape: InputShape, classes: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.conv1 = nn.Conv2d(channels, 32, kernel_size=3)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3)
        self.fc1 = nn.Linear(64 * ((height - 4) // 2) * ((width - 4) // 2), 128)
        self.fc2 = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv1(x))
        x = functional.relu(self.conv2(x))
        x = functional.max_pool2d(x, 2).flatten(1)
        return self.fc2(functional.relu(self.fc1(x)))


@register("mnist_cnn")
def mnist_cnn(input_shape: InputShape, classes: int) -> nn.Module:
    """1,199,882 parameters on MNIST. PyTorch's default initialisation."""
    require_size("mnist_cnn", input_shape, 6, "two unpadded 3x3 convolutions and a 2x2 pool leave nothing of less")
    return MnistCNN(input_shape, classes)

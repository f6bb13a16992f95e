"""VGG-11 for small images (Summers & Dinneen 2021, Sec. 6)."""

from __future__ import annotations

from torch import Tensor, nn

from popnet.models.normalisation import BatchNormReLU
from popnet.models.pooling import GlobalAveragePool
from popnet.models.registry import InputShape, register, require_size

_VGG11_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class VGG(nn.Module):
    """Stages of 3x3 convolution, batch norm and ReLU, each closed by a 2x2 max pool, then fully connected.

    A 32x32 image is one pixel at the end; of a larger one the mean over what is left is taken. The layers are
    numbered, so that no batch norm's name contains `bn` (see `popnet.models`).
    """

    def __init__(self, input_shape: InputShape, classes: int, stages: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = input_shape[0]
        for stage in stages:
            for channels in stage:
                layers += [
                    nn.Conv2d(width, channels, kernel_size=3, padding=1),
                    BatchNormReLU(channels),
                    nn.Identity(),  # where the ReLU was, so that the layers keep their numbers
                ]
                width = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.pool = GlobalAveragePool()
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(x)))


@register("vgg11")
def vgg11(input_shape: InputShape, classes: int) -> nn.Module:
    """9,231,114 parameters on CIFAR-10. PyTorch's default initialisation."""
    require_size("vgg11", input_shape, 32, "its five 2x2 pools leave nothing of less")
    return VGG(input_shape, classes, _VGG11_STAGES)

"""Global pooling to [batch, channels] in either memory layout, as modules, so that features can be hooked."""

from __future__ import annotations

from torch import Tensor, nn


class GlobalAveragePool(nn.Module):
    """Mean over the pixels: [batch, channels, height, width] -> [batch, channels]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class GlobalMaxPool(nn.Module):
    """Maximum over the pixels: [batch, channels, height, width] -> [batch, channels].

    The gradient goes to one pixel, also on ties. Unlike `nn.AdaptiveMaxPool2d` it has a deterministic
    gradient on CUDA.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).max(dim=2).values

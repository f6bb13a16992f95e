"""Representations: what named modules of a model give while it looks at images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from popnet.errors import ConfigError, nearest


def module_of(model: nn.Module, layer: str) -> nn.Module:
    """The module of that name. Raises ConfigError, proposing the nearest names."""
    modules = dict(model.named_modules())
    if layer not in modules:
        raise ConfigError(f"recipe.features.layers: the model has no module {layer!r}; {nearest(layer, modules)}")
    return modules[layer]


def captured(model: nn.Module, layers: Sequence[str], look: Callable[[], Any]) -> dict[str, Tensor]:
    """What each layer's module gave while `look` ran the model: float32 [examples, ...], batches in order."""
    batches: dict[str, list[Tensor]] = {layer: [] for layer in layers}

    def keeper(layer: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                raise ConfigError(f"recipe.features.layers: {layer!r} gives {type(output).__name__}, not a tensor")
            batches[layer].append(output.detach().float().cpu().contiguous())

        return keep

    handles = [module_of(model, layer).register_forward_hook(keeper(layer)) for layer in layers]
    try:
        look()
    finally:
        for handle in handles:
            handle.remove()
    return {layer: torch.cat(kept) for layer, kept in batches.items()}

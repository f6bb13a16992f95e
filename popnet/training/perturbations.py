"""The smallest changes: one weight moved by one unit in the last place, or multiplied by a factor."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from popnet.config import Perturbation
from popnet.errors import ConfigError, nearest
from popnet.random import Source, uniform_integer, words


def perturb(model: nn.Module, perturbation: Perturbation, seed: int) -> tuple[str, int]:
    """Change one weight in place (Summers & Dinneen 2021, Section 4.1; Jordan 2024's poke).

    The weight is chosen uniformly by `seed`, and for kind `bit` it moves to the next or the previous float32 with equal
    odds; for kind `scale` it is multiplied by `factor`.

    Returns:
        The parameter's name and the flat index of the weight, in the logical (row-major) order of the tensor.

    Raises:
        ConfigError: the model has no such parameter.
    """
    name, parameter = target(model, perturbation.tensor)
    choice, direction, _, _ = (int(word) for word in words(seed, Source.BIT, 0, 0))
    count = parameter.numel()
    index = 0 if perturbation.weight == "first" else uniform_integer(choice, count)
    position = tuple(int(i) for i in np.unravel_index(index, parameter.shape))
    with torch.no_grad():
        value = np.float32(parameter[position].item())
        if perturbation.kind == "bit":
            changed = np.nextafter(value, np.float32(np.inf if direction >> 31 else -np.inf), dtype=np.float32)
        else:
            changed = np.float32(value * np.float32(perturbation.factor))
        parameter[position] = float(changed)
    return name, index


def target(model: nn.Module, tensor: str) -> tuple[str, nn.Parameter]:
    """The parameter that `Perturbation.tensor` names, with its name. Raises ConfigError."""
    named = dict(model.named_parameters())
    if tensor == "first":
        weights = [name for name in named if name.rpartition(".")[2] == "weight"]
        if not weights:
            raise ConfigError("perturbation.tensor: the model has no parameter named 'weight'; give a parameter's name")
        return weights[0], named[weights[0]]
    if tensor not in named:
        raise ConfigError(f"perturbation.tensor: the model has no parameter {tensor!r}; {nearest(tensor, named)}")
    return tensor, named[tensor]

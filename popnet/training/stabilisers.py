"""What was tried against instability, and did not help (Summers & Dinneen 2021, Appendix D)."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from torch import Tensor

from popnet.config import Averaging, WeightNoise
from popnet.random import Source
from popnet.training.optimizers import FlatParameters


def clip(flat: FlatParameters, largest: float) -> None:
    """Scale the whole gradient down to norm `largest` where it is longer, by the formula of `clip_grad_norm_`.

    The buffer's gaps between parameters are zero, so its norm is the gradient's.
    """
    norm = torch.linalg.vector_norm(flat.gradients)
    flat.gradients.mul_(torch.clamp(largest / (norm + 1e-6), max=1.0))


def normal_offsets(spec: WeightNoise, flat: FlatParameters, seed: int, epoch: int, step: int) -> Generator[int]:
    """Yield `spec.samples` times with the weights offset at random; the exact weights are back after each.

    Each offset follows from (seed, epoch, step, sample) alone: NumPy's Philox, keyed by seed and source, its counter
    begun at (sample, step, epoch).
    """
    weights = flat.values.clone()
    try:
        for sample in range(spec.samples):
            stream = np.random.Philox(key=[seed, Source.STOCHASTIC], counter=[0, sample, step, epoch])
            drawn = np.random.Generator(stream).standard_normal(flat.values.shape, dtype=np.float32)
            noise = torch.from_numpy(drawn)
            flat.values.copy_(weights + spec.sd * noise.to(weights.device))
            yield sample
    finally:
        flat.values.copy_(weights)


class WeightAverage:
    """Aggressive stochastic weight averaging over a member's flat weights; `popnet.config.Averaging` says how."""

    def __init__(self, spec: Averaging, flat: FlatParameters) -> None:
        self._spec, self._flat = spec, flat
        self._mean = torch.zeros_like(flat.values)
        self._count = 0

    def after_step(self, epoch: int) -> None:
        """Take the weights after a step of `epoch` into the mean."""
        if epoch < self._spec.start_epoch:
            return
        self._count += 1
        self._mean += (self._flat.values - self._mean) / self._count
        if self._spec.every == "step":
            self._flat.values.copy_(self._mean)

    def after_epoch(self, epochs: int) -> bool:
        """Put the mean in place after `epochs` epochs; whether the weights are averaged ones now."""
        if epochs <= self._spec.start_epoch:
            return False
        if self._spec.every == "epoch":
            self._flat.values.copy_(self._mean)
            self._mean.zero_()
            self._count = 0
        return True

    def state(self) -> dict[str, Tensor]:
        """Tensors to checkpoint; `load` takes them back."""
        return {"mean": self._mean, "count": torch.tensor([self._count])}

    def load(self, state: dict[str, Tensor]) -> None:
        self._mean.copy_(state["mean"])
        self._count = int(state["count"])

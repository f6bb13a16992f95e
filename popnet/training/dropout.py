"""Dropout without state: each mask is a function of (seed, step, layer, example), never of what was drawn before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from popnet import native

_ALPHA = -1.7580993408473766
"""The value SELU saturates at, which alpha dropout puts in place of what it drops (Klambauer et al. 2017)."""


@dataclass
class StepState:
    """What the masks of the current step follow from; the trainer writes it before each forward pass."""

    seed: int = 1
    step: int = 0
    examples: Tensor | None = None
    calls: dict[int, int] = field(default_factory=dict)
    now: Tensor | None = None

    def enter(self, seed: int, step: int, examples: Tensor) -> None:
        """Begin a step. `examples`: int64 [batch], the images' numbers in the training set."""
        self.seed, self.step, self.examples, self.now = seed, step, examples, None
        self.calls.clear()

    def enter_at(self, now: Tensor, examples: Tensor) -> None:
        """Begin a step whose seed and number stand in `now` (see `native.begin_step`) when the masks are made."""
        self.enter(0, 0, examples)
        self.now = now


class StatelessDropout(nn.Module):
    """Stands in for `nn.Dropout` and its kin; elementwise, or one draw for each channel, or alpha dropout.

    An example keeps its mask wherever it stands in the batch. Where the first dimension is not the batch, rows are
    numbered in order. A layer used several times in a step draws a new mask each time.
    """

    def __init__(self, p: float, layer: int, state: StepState, channels: bool, alpha: bool) -> None:
        super().__init__()
        self.p, self.layer, self.state, self.channels, self.alpha = p, layer, state, channels, alpha

    def extra_repr(self) -> str:
        return f"p={self.p}, layer={self.layer}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if self.p == 1.0:
            return x * 0.0
        call = self.state.calls.get(self.layer, 0)
        self.state.calls[self.layer] = call + 1
        rows = x.shape[0]
        examples = self.state.examples
        if examples is None or len(examples) != rows:
            examples = torch.arange(rows, device=x.device)
        shape = x.shape[:2] if self.channels else x.shape
        elements = int(torch.Size(shape[1:]).numel())
        mask = native.dropout_mask(
            examples,
            elements,
            p=self.p,
            seed=self.state.seed,
            step=self.state.step,
            layer=(call << 12) | self.layer,
            now=self.state.now,
            dtype=x.dtype if x.dtype == torch.bfloat16 else torch.float32,
        )
        mask = mask.view(*shape, *([1] * (x.dim() - len(shape))))
        if not self.alpha:
            return x * mask
        keep = (mask > 0).to(x.dtype)
        scale = ((1.0 - self.p) * (1.0 + self.p * _ALPHA**2)) ** -0.5
        return scale * (x * keep + _ALPHA * (1.0 - keep) - _ALPHA * self.p)


def make_stateless(model: nn.Module) -> StepState:
    """Replace every dropout module of `model` in place, numbered in the order of `named_modules`.

    Returns:
        The state that the new modules read; call `enter` on it before each training step.
    """
    state = StepState()
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
    # a module may be registered under several names: all must find the same replacement
    named = list(model.named_modules(remove_duplicate=False))
    layers: dict[nn.Module, StatelessDropout] = {}
    for name, module in named:
        if not isinstance(module, kinds):
            continue
        if module not in layers:
            layers[module] = _stateless(module, len(layers), state)
        setattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], layers[module])
    return state


def _stateless(module: Any, layer: int, state: StepState) -> StatelessDropout:
    replacement = StatelessDropout(
        module.p,
        layer,
        state,
        channels=isinstance(module, (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.FeatureAlphaDropout)),
        alpha=isinstance(module, (nn.AlphaDropout, nn.FeatureAlphaDropout)),
    )
    replacement.train(module.training)
    return replacement

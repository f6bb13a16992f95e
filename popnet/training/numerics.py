"""How numbers are computed: precision, determinism, loss scaling; and the guard of what torch holds for all threads.

PyTorch's random state and its switches for TF32, cuDNN and determinism belong to the process, not to a thread. Members
may train in several threads (`popnet.engine.cohort`), so whoever depends on them holds `EXCLUSIVE`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from popnet.errors import TrainingError
from popnet.random import Source, words

EXCLUSIVE = threading.RLock()
"""Held while a model is built, an eager step or evaluation runs, or a CUDA graph is captured."""

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextlib.contextmanager
def numerics(device: torch.device, precision: str, hardware: bool = False) -> Iterator[None]:
    """Hold `EXCLUSIVE` with torch's switches set for one precision; on the CPU there is nothing to set.

    Afterwards every switch stands as the program had it, whichever way it was set.

    Args:
        device: where the block computes.
        precision: `fp32` (no TF32 anywhere), `tf32`, `bf16` or `fp16`.
        hardware: the device's fastest kernels, deterministic or not, instead of deterministic ones alone.
    """
    with EXCLUSIVE:
        if device.type != "cuda":
            yield
            return
        try:
            with _tf32(precision == "tf32"), _deterministic(not hardware):
                yield
        except RuntimeError as error:
            if "does not have a deterministic implementation" in str(error):
                raise TrainingError(
                    f"{str(error).partition(', but you set')[0]} on {device.type}: replace the operation, or vary "
                    "kernels with recipe.kernels.mode=hardware"
                ) from error
            if "allow_tf32" in str(error):
                raise TrainingError(
                    "code of the recipe uses PyTorch's old switches for TF32 (allow_tf32, also through "
                    "torch.backends.cudnn.flags), which cannot be read while popnet has set the new ones: use "
                    "fp32_precision in its place"
                ) from error
            raise


@contextlib.contextmanager
def _deterministic(only: bool) -> Iterator[None]:
    """Allow deterministic kernels alone, or whichever are fastest."""
    cudnn, torch_deterministic = torch.backends.cudnn, torch.utils.deterministic
    before = (cudnn.deterministic, cudnn.benchmark)
    filled = torch_deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    enabled, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        cudnn.deterministic, cudnn.benchmark = only, not only
        torch.use_deterministic_algorithms(only)
        # else every `empty` is filled with NaN first
        torch_deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
        torch_deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


@contextlib.contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Round the operands of float32 products to TF32, or nowhere.

    PyTorch 2.9 has new switches beside the old ones, `allow_tf32`, and what is set by the new ones can no longer be
    read by the old: that raises. So the old ones are left alone where there are new ones.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if not hasattr(matmul, "fp32_precision"):
        old = (matmul.allow_tf32, cudnn.allow_tf32)
        try:
            matmul.allow_tf32 = cudnn.allow_tf32 = allowed
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32 = old
        return
    switches: tuple[Any, ...] = (cudnn, matmul, cudnn.conv, cudnn.rnn)  # type: ignore[attr-defined]
    before = _own_precisions(switches)
    try:
        for switch in switches:
            switch.fp32_precision = "tf32" if allowed else "ieee"
        yield
    finally:
        for switch, precision in zip(switches, before):
            switch.fp32_precision = precision


def _own_precisions(switches: tuple[Any, ...]) -> list[str]:
    """What each is set to itself: `none` where it follows those above it, whose value it is read as otherwise.

    Above all is `torch.backends.fp32_precision`, and then comes the first of `switches`.
    """
    above: Any = torch.backends
    highest = above.fp32_precision
    above.fp32_precision = "none"
    own = [switches[0].fp32_precision]
    switches[0].fp32_precision = "none"
    own += [switch.fp32_precision for switch in switches[1:]]
    switches[0].fp32_precision = own[0]
    above.fp32_precision = highest
    return own


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The context of a forward pass in a precision. Raises TrainingError where the device does not have it."""
    if precision == "fp32":
        return contextlib.nullcontext()
    if device.type == "cpu":
        if precision == "bf16":
            return torch.autocast("cpu", dtype=torch.bfloat16)
        raise TrainingError(f"precision {precision!r} needs a CUDA device: use fp32 or bf16 on a CPU")
    if precision == "tf32":
        return contextlib.nullcontext()
    # the cache of converted weights would outlive the step that a CUDA graph captures
    return torch.autocast(device.type, dtype=_HALF[precision], cache_enabled=False)


def seed_torch(seed: int, epoch: int, step: int, device: torch.device) -> None:
    """Seed torch's generators from (seed, epoch, step), for a model's own random operations."""
    low, high, _, _ = (int(word) for word in words(seed, Source.STOCHASTIC, epoch, step))
    number = (high << 31 | low) & (2**63 - 1)
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(number)


class LossScale:
    """Loss scaling for fp16, all on the device: half a scale after an overflow, twice after 2,000 steps without one.

    The factors and the interval are those of `torch.amp.GradScaler`. Unlike there, a step that is left out counts in
    Adam's bias correction, which follows from the number of the step alone.
    """

    def __init__(self, device: torch.device) -> None:
        self._scale = torch.zeros(1, device=device)
        self._clean = torch.zeros(1, dtype=torch.int32, device=device)
        self.overflow = torch.zeros(1, device=device)
        """float32 [1]: not 0 if the step's gradients are not finite, so that the optimiser must leave it out."""
        self.reset()

    def reset(self) -> None:
        """As before the first step."""
        self._scale.fill_(65536.0)
        self._clean.zero_()
        self.overflow.zero_()

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss whose gradients fit fp16."""
        return loss * self._scale[0]

    def unscale(self, gradients: Tensor) -> None:
        """Bring gradients back to size in place, and note in `overflow` whether all are finite."""
        self.overflow.zero_()
        torch._amp_foreach_non_finite_check_and_unscale_([gradients], self.overflow, self._scale.reciprocal())

    def update(self) -> None:
        """Choose the next step's scale."""
        torch._amp_update_scale_(self._scale, self._clean, self.overflow, 2.0, 0.5, 2000)

    def state(self) -> dict[str, Tensor]:
        """Tensors to checkpoint; `load` takes them back."""
        return {"scale": self._scale, "clean": self._clean}

    def load(self, state: dict[str, Tensor]) -> None:
        self._scale.copy_(state["scale"])
        self._clean.copy_(state["clean"])

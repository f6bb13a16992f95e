"""What of a training step cannot become part of a CUDA graph, found before a capture is tried.

A capture that fails leaves generators and memory pools unusable, so a step is first watched while it runs eagerly: the
operations that a graph cannot hold announce themselves by PyTorch's own tags.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from popnet.config import Recipe

_DRAWS = "draws from torch's generator, which all members share: use nn.Dropout"
_REASONS = {
    torch.Tag.data_dependent_output: "brings a value to the host",
    torch.Tag.dynamic_output_shape: "has an output whose shape depends on values",
}


def uncaptured_part(recipe: Recipe) -> str | None:
    """The recipe's key that needs the host at every step, with the reason; None where there is none."""
    if recipe.optimizer.import_path is not None:
        return f"recipe.optimizer {recipe.optimizer.import_path!r} takes its rate from the host"
    if recipe.averaging is not None:
        return "recipe.averaging counts steps on the host"
    if recipe.weight_noise is not None:
        return "recipe.weight_noise draws on the host"
    return None


def uncaptured_operation(step: Callable[[], Any]) -> str | None:
    """Run a step once; the first of its operations that a graph cannot hold, with the reason, or None."""
    with _Watch() as watch:
        step()
    return watch.found


def first_line(error: BaseException) -> str:
    """What an error says, without the advice that CUDA's errors end with."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class LatestOperation(TorchDispatchMode):
    """Remembers the operation that was begun last, for an error that does not say where it comes from."""

    def __init__(self) -> None:
        super().__init__()
        self.name: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.name = str(func.overloadpacket)
        return func(*args, **(kwargs or {}))


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # some operations may draw, such as attention with dropout, and do not if its probability is 0
        may_draw = self.found is None and torch.Tag.nondeterministic_seeded in func.tags
        before = _generator_states() if may_draw else []
        out = func(*args, **(kwargs or {}))
        if self.found is None:
            reason = next((text for tag, text in _REASONS.items() if tag in func.tags), None)
            if may_draw and ((kwargs or {}).get("generator") is not None or _moved(before)):
                reason = _DRAWS
            if reason is None and _moves(func, args, out):
                reason = "copies between host and device"
            if reason is not None:
                self.found = f"{func.overloadpacket} {reason}"
        return out


def _generator_states() -> list[Tensor]:
    on_devices = torch.cuda.default_generators if torch.cuda.is_initialized() else ()
    return [generator.get_state() for generator in (torch.default_generator, *on_devices)]


def _moved(before: list[Tensor]) -> bool:
    return not all(torch.equal(state, now) for state, now in zip(before, _generator_states(), strict=True))


def _moves(func: Any, args: Any, out: Any) -> bool:
    """Whether a copy goes from one kind of device to another."""
    if func.overloadpacket not in (torch.ops.aten._to_copy, torch.ops.aten.copy_):
        return False
    source = args[0] if func.overloadpacket == torch.ops.aten._to_copy else args[1]
    return isinstance(source, Tensor) and isinstance(out, Tensor) and source.device.type != out.device.type

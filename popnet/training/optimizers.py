"""Parameters in one flat buffer, and the optimisers that step over it in one fused pass."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from popnet import native
from popnet.config import Optimizer, imported
from popnet.errors import TrainingError

ALIGNMENT = 64
"""Each parameter starts at a multiple of this many float32 in the buffer (256 bytes): a linear layer's bits change with
its operands' alignment."""


def rate_multiplier(name: str, groups: str) -> float:
    """The group's factor on the learning rate.

    `released`: 0.1 for parameters whose name contains `bias`, and for those whose name contains both `bn` and `weight`
    (the released programs of Summers & Dinneen); 1 for the rest. `uniform`: 1 for all.
    """
    if groups == "released" and ("bias" in name or ("bn" in name and "weight" in name)):
        return 0.1
    return 1.0


class FlatParameters:
    """Moves a model's trainable parameters and their gradients into one float32 buffer each.

    Every parameter keeps its shape and strides and becomes a view. `offsets` maps a name to (start, length).
    """

    def __init__(self, model: nn.Module) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        for name, parameter in named:
            if parameter.dtype != torch.float32:
                raise TrainingError(
                    f"parameter {name!r} is {str(parameter.dtype).removeprefix('torch.')}: popnet keeps weights in "
                    "float32 and lowers the precision of the computation by 'recipe.precision'"
                )
        self.offsets: dict[str, tuple[int, int]] = {}
        size = 0
        for name, parameter in named:
            self.offsets[name] = (size, parameter.numel())
            size += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
        device = named[0][1].device if named else torch.device("cpu")
        self.values = torch.zeros(size, dtype=torch.float32, device=device)
        self.gradients = torch.zeros_like(self.values)
        for name, parameter in named:
            dense = parameter.data if _is_dense(parameter) else parameter.data.contiguous()
            start = self.offsets[name][0]
            value = self.values.as_strided(dense.shape, dense.stride(), start)
            value.copy_(dense)
            parameter.data = value
            parameter.grad = self.gradients.as_strided(dense.shape, dense.stride(), start)


def _is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill one block of memory without gaps or overlaps, in whatever order."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape)):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


class Stepper(Protocol):
    """An optimiser over a member's parameters."""

    def step(self, lr: float, *, now: Tensor | None = None, skip: Tensor | None = None) -> None:
        """One step, which also clears the gradients.

        Args:
            lr: the learning rate; that of `now` (see `native.begin_step`) is used where it is given.
            skip: float32 [1]: if it is not 0, nothing but the gradients changes.
        """
        ...

    def replayed(self, steps: int) -> None:
        """So many steps were made by replays of a captured graph, in which `step` was called but once."""
        ...

    def reset(self) -> None:
        """As before the first step."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors to checkpoint; `load` takes them back."""
        ...

    def load(self, state: dict[str, Tensor]) -> None: ...


def build(model: nn.Module, flat: FlatParameters, spec: Optimizer) -> Stepper:
    """The optimiser of a recipe. Raises TrainingError where an imported factory does not return a torch Optimizer."""
    if spec.import_path is not None:
        return _Imported(model, spec)
    segments = native.segments(
        [
            (start, length, rate_multiplier(name, spec.groups), spec.weight_decay)
            for name, (start, length) in flat.offsets.items()
        ]
    )
    return _SGD(flat, segments, spec) if spec.name == "sgd" else _Adam(flat, segments, spec)


class _SGD:
    def __init__(self, flat: FlatParameters, segments: Any, spec: Optimizer) -> None:
        self._flat, self._segments, self._spec = flat, segments, spec
        self._momentum = torch.zeros_like(flat.values)

    def step(self, lr: float, *, now: Tensor | None = None, skip: Tensor | None = None) -> None:
        native.sgd_step(
            self._flat.values,
            self._flat.gradients,
            self._momentum,
            self._segments,
            lr=lr,
            momentum=self._spec.momentum,
            nesterov=self._spec.nesterov,
            zero_grad=True,
            now=now,
            skip=skip,
        )

    def replayed(self, steps: int) -> None:
        pass

    def reset(self) -> None:
        self._momentum.zero_()

    def state(self) -> dict[str, Tensor]:
        return {"momentum": self._momentum}

    def load(self, state: dict[str, Tensor]) -> None:
        self._momentum.copy_(state["momentum"])


class _Adam:
    def __init__(self, flat: FlatParameters, segments: Any, spec: Optimizer) -> None:
        self._flat, self._segments, self._spec = flat, segments, spec
        self._first = torch.zeros_like(flat.values)
        self._second = torch.zeros_like(flat.values)
        self._steps = 0

    def step(self, lr: float, *, now: Tensor | None = None, skip: Tensor | None = None) -> None:
        self._steps += 1
        native.adam_step(
            self._flat.values,
            self._flat.gradients,
            self._first,
            self._second,
            self._segments,
            lr=lr,
            beta1=self._spec.betas[0],
            beta2=self._spec.betas[1],
            eps=self._spec.eps,
            step=self._steps,
            zero_grad=True,
            now=now,
            skip=skip,
        )

    def replayed(self, steps: int) -> None:
        self._steps += steps

    def reset(self) -> None:
        self._first.zero_()
        self._second.zero_()
        self._steps = 0

    def state(self) -> dict[str, Tensor]:
        return {"first": self._first, "second": self._second, "steps": torch.tensor([self._steps])}

    def load(self, state: dict[str, Tensor]) -> None:
        self._first.copy_(state["first"])
        self._second.copy_(state["second"])
        self._steps = int(state["steps"])


class _Imported:
    """A user's torch optimiser; its state is its own, so members that use it are never forked from a checkpoint."""

    def __init__(self, model: nn.Module, spec: Optimizer) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in named:
            groups.setdefault(rate_multiplier(name, spec.groups), []).append(parameter)
        self._multipliers = list(groups)
        optimizer = imported(str(spec.import_path))([{"params": p} for p in groups.values()], lr=spec.lr, **spec.kwargs)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TrainingError(
                f"optimizer {spec.import_path!r} returned {type(optimizer).__name__}, not a torch.optim.Optimizer"
            )
        self._optimizer = optimizer

    def step(self, lr: float, *, now: Tensor | None = None, skip: Tensor | None = None) -> None:
        if skip is not None and float(skip) != 0.0:
            self._optimizer.zero_grad(set_to_none=False)
            return
        for group, multiplier in zip(self._optimizer.param_groups, self._multipliers):
            group["lr"] = lr * multiplier
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=False)

    def replayed(self, steps: int) -> None:
        raise TrainingError("an imported optimizer cannot be captured")

    def reset(self) -> None:
        raise TrainingError("the state of an imported optimizer cannot be reset")

    def state(self) -> dict[str, Tensor]:
        raise TrainingError("the state of an imported optimizer cannot be checkpointed")

    def load(self, state: dict[str, Tensor]) -> None:
        raise TrainingError("the state of an imported optimizer cannot be checkpointed")

"""A pytest plugin that pretends a CUDA device, on which popnet's kernels are the emulated ones.

    EMULATED_NATIVE=FILE.so python -m pytest -p pretended_cuda -m gpu tests/test_native.py

FILE.so is the module that CMakeLists.txt builds with -DMODULE=ON.

A tensor on the device is a tensor of the CPU that says otherwise. Operations of PyTorch compute as on the CPU, and
refuse tensors of both kinds as CUDA does; popnet.native takes its CUDA branches, with addresses and streams of its own.
Graphs, events and random generators of the device do not exist.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda", 0)
STREAM = 0x5712EA
_MOVES = (Tensor.to, Tensor.cuda, Tensor.cpu)
_TAKE_BOTH = (Tensor.copy_, Tensor.__getitem__, Tensor.__setitem__)
"""Operations that CUDA too lets mix tensors of the device and of the host."""

called: set[str] = set()
"""The kernels' functions that were called, by their names in popnet._native."""


class OnDevice(Tensor):
    """A tensor that says that it is on the device."""


class PretendedDevice(TorchFunctionMode):
    """Makes tensors on the device, moves them there and back, and keeps the two kinds apart."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        there = bool(args) and isinstance(args[0], OnDevice)
        if func == Tensor.device.__get__ and there:  # type: ignore[attr-defined]
            return DEVICE
        if func == Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
            return there
        if func is torch._has_compatible_shallow_copy_type:
            return isinstance(args[0], OnDevice) == isinstance(args[1], OnDevice)
        if func is Tensor.numpy and there:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        on_device = any(isinstance(tensor, OnDevice) for tensor in tensors)
        if on_device and func not in (*_MOVES, *_TAKE_BOTH):
            alone = [tensor for tensor in tensors if not isinstance(tensor, OnDevice) and tensor.dim() > 0]
            if alone:
                raise RuntimeError(f"{func.__name__}: expected all tensors to be on the same device, but found two")
        if func in _MOVES:
            return self._moved(func, args, kwargs)
        if "device" in kwargs and kwargs["device"] is not None:
            on_device = torch.device(kwargs["device"]).type == "cuda"
            kwargs["device"] = "cpu"
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        return tree_map(_on_device, result) if on_device else result

    def _moved(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        tensor, *rest = args
        here = "cuda" if isinstance(tensor, OnDevice) else "cpu"
        if func is not Tensor.to:
            target, rest, kwargs = ("cuda" if func is Tensor.cuda else "cpu"), [], {}
        else:
            named = [value for value in (*rest, kwargs.pop("device", None)) if isinstance(value, (str, torch.device))]
            target = torch.device(named[0]).type if named else here
            rest = [value for value in rest if isinstance(value, (torch.dtype, Tensor))]  # and no non_blocking
        leaves = target != here
        with torch._C.DisableTorchFunctionSubclass():
            moved = tensor.to(*rest, **kwargs) if rest or kwargs else tensor
            if leaves and moved is tensor:
                moved = tensor.clone()
            if target != "cuda":
                return moved.as_subclass(Tensor) if isinstance(moved, OnDevice) else moved
        return _on_device(moved)


def _on_device(value: Any) -> Any:
    if not isinstance(value, Tensor) or isinstance(value, OnDevice):
        return value
    with torch._C.DisableTorchFunctionSubclass():
        return value.as_subclass(OnDevice)


class RecordingModule:
    """popnet._native, which notes the CUDA functions that are called and refuses another stream than the present."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        if not name.endswith("_cuda"):
            return function

        def recorded(*args: Any) -> Any:
            called.add(name)
            if "workspace" not in name and args[-1] != STREAM:
                raise AssertionError(f"{name} is called on another stream than the present one")
            return function(*args)

        return recorded


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Put the device and the emulated kernels in place before popnet is imported."""
    specification = importlib.util.spec_from_file_location("popnet._native", os.environ["EMULATED_NATIVE"])
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    sys.modules["popnet._native"] = RecordingModule(module)  # type: ignore[assignment]
    patched = pytest.MonkeyPatch()
    patched.setattr(torch.cuda, "is_available", lambda: True)
    patched.setattr(torch.cuda, "device_count", lambda: 1)
    patched.setattr(torch.cuda, "device", lambda device: nullcontext())
    patched.setattr(torch.cuda, "current_stream", lambda device=None: SimpleNamespace(cuda_stream=STREAM))
    patched.setattr(torch.cuda, "synchronize", lambda device=None: None)
    mode = PretendedDevice()
    mode.__enter__()
    early_config.add_cleanup(lambda: mode.__exit__(None, None, None))
    early_config.add_cleanup(patched.undo)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line("called: " + " ".join(sorted(called)))

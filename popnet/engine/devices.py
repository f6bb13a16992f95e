"""What kind of device this is: part of a member's identity, because its bits follow from it."""

from __future__ import annotations

import os

import torch

from popnet.errors import ConfigError
from popnet.protocol import Platform

_ONEDNN = (
    ("amx", "_is_amx_tile_supported"),
    ("avx512_bf16", "_is_avx512_bf16_supported"),
    ("avx512_vnni", "_is_vnni_supported"),
    ("avx512", "_is_avx512_supported"),
    ("avx2", "_is_avx2_supported"),
)

DEVICE_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")
"""Environment variables that limit the instructions of a CPU, and so decide which kind it is."""


def platform(device: str = "auto") -> Platform:
    """The kind of device and the library versions that members trained here depend on.

    Args:
        device: `auto` or `cpu`.

    Raises:
        ConfigError: the device is unknown, or not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device {device!r}: known: auto, cpu, cuda")
    if device == "cuda":
        raise ConfigError("device 'cuda': this version of popnet trains on CPUs only: use device 'cpu' or 'auto'")
    return Platform(_cpu_kind(), (("torch", torch.__version__),))


def _cpu_kind() -> str:
    """PyTorch's capability and the instruction set that oneDNN finds, with limits set in the environment."""
    onednn = next((name for name, test in _ONEDNN if getattr(torch.cpu, test, bool)()), "baseline")
    parts = ["cpu", torch.backends.cpu.get_cpu_capability().lower(), onednn]
    for variable in DEVICE_VARIABLES:
        if variable in os.environ:
            parts.append(f"{variable.lower()}={os.environ[variable].lower()}")
    return ":".join(parts)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))

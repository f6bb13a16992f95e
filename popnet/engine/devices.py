"""What kind of device this is: part of a member's identity, because its bits follow from it."""

from __future__ import annotations

import os

import torch

from popnet import native
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
        device: `cpu`, `cuda`, or `auto`: `cuda` where this popnet can use a GPU that is there.

    Raises:
        ConfigError: the device is unknown, or not there; or there are GPUs of several kinds.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device {device!r}: known: auto, cpu, cuda")
    if device == "cpu" or (device == "auto" and not (native.cuda_compiled and visible_gpus())):
        return Platform(_cpu_kind(), (("torch", torch.__version__),))
    if not native.cuda_compiled:
        raise ConfigError(
            "device 'cuda': popnet was built without CUDA: put nvcc on PATH and build it again (make setup), or use "
            "device 'cpu'"
        )
    if not visible_gpus():
        raise ConfigError("device 'cuda': PyTorch finds no GPU here: use device 'cpu' or 'auto'")
    kinds = sorted({_gpu_kind(index) for index in range(len(visible_gpus()))})
    if len(kinds) > 1:
        raise ConfigError(
            f"GPUs of several kinds ({', '.join(kinds)}), whose bits differ: choose equal ones by CUDA_VISIBLE_DEVICES"
        )
    versions = {"torch": torch.__version__, "cuda": str(torch.version.cuda)}
    versions["cudnn"] = str(torch.backends.cudnn.version())
    return Platform(kinds[0], tuple(versions.items()))


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, each as CUDA_VISIBLE_DEVICES names it."""
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(named[:count]) if named else tuple(str(index) for index in range(count))


def _gpu_kind(index: int) -> str:
    """The model of a GPU with its compute capability; libraries choose their kernels by these."""
    properties = torch.cuda.get_device_properties(index)
    return f"cuda:{properties.name.lower()}:sm_{properties.major}{properties.minor}"


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

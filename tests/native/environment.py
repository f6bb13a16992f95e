"""What is on this machine: the device, the programs, the versions of the packages, and what is missing.

    python tests/native/environment.py

The most basic facts come first, and those that need PyTorch last: each line is printed as it is found.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = ("make", "nvcc", "g++", "cmake", "ninja", "compute-sanitizer", "ncu", "nvidia-cuda-mps-control")
QUERY = "name,compute_cap,driver_version,memory.total,memory.free,clocks.sm,clocks.max.sm"
OTHERS = ("pybind11", "setuptools", "pip", "cmake", "ninja", "pytest", "pytest-xdist", "pytest-timeout", "hypothesis")
ALONGSIDE = re.compile(r"nvidia-(cublas|cudnn|cuda-runtime|cuda-nvrtc)|triton$")


def said_by(*command: str) -> str:
    """What a program prints, or why it could not be asked."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=8, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (ended.stdout + ended.stderr).strip()


def required() -> list[str]:
    """The packages that popnet names in pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return [re.split(r"[<>=\[ ]", line)[0] for line in tomllib.load(file)["project"]["dependencies"]]


def print_packages() -> None:
    missing = []
    for name in dict.fromkeys((*required(), *OTHERS)):
        try:
            print(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    found = {str(each.metadata["Name"]): each.version for each in importlib.metadata.distributions()}
    for name in sorted(name for name in found if ALONGSIDE.match(name)):
        print(name, found[name])
    print("missing packages:", ", ".join(missing) or "none")


def print_torch() -> None:
    import torch

    print("torch", torch.__version__, "CUDA", torch.version.cuda, "cuDNN", torch.backends.cudnn.version())
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        free, total = (f"{size / 1e9:.1f} GB" for size in torch.cuda.mem_get_info(number))
        print(f"device {number}: {about.name}, {about.multi_processor_count} multiprocessors, {free} of {total} free")
    print("devices that torch sees:", torch.cuda.device_count())


def main() -> None:
    print("python", platform.python_version(), sys.executable, platform.platform(), os.cpu_count(), "cores")
    print("memory:", said_by("free", "-g").splitlines()[1:2])
    for name in PROGRAMS:
        print(f"{name}: {shutil.which(name) or 'missing'}")
    print("nvcc:", *said_by("nvcc", "--version").splitlines()[-2:])
    print("nvidia-smi:", said_by("nvidia-smi", f"--query-gpu={QUERY}", "--format=csv"))
    print_packages()
    sys.stdout.flush()
    print_torch()


if __name__ == "__main__":
    main()

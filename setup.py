"""Builds popnet._native by handing csrc/ to CMake, and ships experiments/. All else is in pyproject.toml.

    pip install -e .                        editable, as `make setup` does
    python setup.py build_ext --inplace     the fast way while working on csrc/: compiles only what changed

Environment: CMAKE_ARGS, more options for CMake, such as -DPOPNET_CUDA=OFF or -DPOPNET_CUDA_ARCHITECTURES=90.
"""

import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def program(name: str) -> str:
    """The program of the Python package `name` where that is installed, else the one on PATH."""
    package = importlib.util.find_spec(name)
    if package and package.origin:
        module = importlib.import_module(name)
        folder = getattr(module, "CMAKE_BIN_DIR", None) or getattr(module, "BIN_DIR", None)
        if folder and (path := Path(folder) / name).exists():
            return str(path)
    return name


_DEFAULTS = ("-DPOPNET_CUDA=AUTO", "-DPOPNET_CHECK=OFF", "-DPOPNET_CUDA_ARCHITECTURES=")
"""Said every time, since the build folder remembers what an earlier call was told."""


class BuildWithCMake(build_ext):
    """One CMake build for the one extension; its folder under build/ is kept, so that the next build is short."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = ROOT / "build" / f"native-{sys.implementation.cache_tag}"
        cmake = program("cmake")
        configure = [
            *(cmake, "-S", str(ROOT), "-B", str(build), "-G", "Ninja"),
            f"-DCMAKE_MAKE_PROGRAM={program('ninja')}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            *_DEFAULTS,
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        subprocess.run(configure, check=True)
        subprocess.run([cmake, "--build", str(build)], check=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.copy_file(str(build / target.name), str(target))


class BuildWithExperiments(build_py):
    """Ships the folder experiments/ inside the package, where `popnet run NAME` finds it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "popnet" / "experiments"
            target.mkdir(parents=True, exist_ok=True)
            for file in sorted((ROOT / "experiments").glob("*.yaml")):
                self.copy_file(str(file), str(target / file.name))


def sources(*suffixes: str) -> list[str]:
    files = (ROOT / "csrc").rglob("*")
    return sorted(str(path.relative_to(ROOT)) for path in files if path.suffix in suffixes)


native = Extension(
    "popnet._native",
    sources=sources(".cpp", ".cu"),
    depends=["CMakeLists.txt", *sources(".h", ".cuh")],
)
setup(ext_modules=[native], cmdclass={"build_ext": BuildWithCMake, "build_py": BuildWithExperiments})

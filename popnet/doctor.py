"""`popnet doctor`: what of popnet works on this machine, and what to do about the rest, a line each."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from popnet.errors import PopnetError

Verdict = Literal["ok", "missing", "unknown", "broken"]
"""`missing`: optional and not there. `unknown`: cannot be told. `broken`: popnet does not work as it should."""


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, the verdict, what was found, and what to do about it (empty where nothing)."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


TESTED: Mapping[str, str] = {"torch": "2.11.0", "torchvision": "0.26.0"}
"""The releases that the recorded numbers come from; others work, with other bits."""

_EXTRAS: Mapping[str, tuple[str, str]] = {
    "transformers": ("popnet[bert]", "BERT on MRPC"),
    "ffcv": ("popnet[ffcv]", "ImageNet-sized data from .beton files"),
    "ray": ("popnet[ray]", "more than one machine"),
    "pyarrow": ("popnet[hf]", "data sets in Parquet files, and export to them"),
    "tensorboard": ("popnet[tensorboard]", "learning curves"),
}
"""Optional packages: the extra that installs each, and what it is for."""

TINY_MEMBER: Mapping[str, Any] = {
    "name": "doctor",
    "recipe": {
        "dataset": {"name": "synthetic", "kwargs": {"train": 256, "test": 64, "height": 8, "width": 8}},
        "model": "resnet6",
        "epochs": 2,
        "batch_size": 32,
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5.0e-4},
        "schedule": {"name": "cosine", "warmup_epochs": 1},
        "augment": {"crop": 1, "flip": True},
    },
    "population": 2,
    "variants": [{"name": "Determinism", "replicas": True}],
}
"""The experiment whose bits `reproduces` compares: one member, trained twice."""

RECORDED: Mapping[tuple[str, str], str] = {
    ("cpu:avx2:avx2", "2.11.0+cu130"): "8009777004c854b53f97ca5d8bb63355df6081f59b593a26ff9374cb5c1626ff",
}
"""Digest of the tiny member's weights by kind of device and PyTorch build, as measured where it was recorded."""


def examine(train: bool = True) -> Iterator[Check]:
    """Every check in turn, each done when it is asked for. `train=False` leaves out the one that trains (seconds)."""
    yield _python()
    yield from _packages()
    yield _native()
    yield _gpu()
    yield _nvcc()
    yield from _extras()
    yield from _data_sets()
    if train:
        yield reproduces()


def _python() -> Check:
    import popnet

    version = ".".join(map(str, sys.version_info[:3]))
    return Check("popnet", "ok", f"{popnet.__version__}, Python {version}, {Path(popnet.__file__).parent}")


def _packages() -> Iterator[Check]:
    """What popnet requires, against what is installed."""
    for text in importlib.metadata.requires("popnet") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = requirement.name
        fix = f'pip install "{name}{requirement.specifier}"'
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Check(name, "broken", "not installed", fix)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield Check(name, "broken", f"{version} is too old", fix)
        elif name in TESTED and version.partition("+")[0] != TESTED[name]:
            yield Check(name, "ok", f"{version} (recorded numbers come from {TESTED[name]}; this one gives other bits)")
        else:
            yield Check(name, "ok", version)


def _native() -> Check:
    rebuild = "run `pip install --force-reinstall --no-deps popnet`, or `make setup` in a checkout"
    try:
        native = importlib.import_module("popnet.native")
    except ImportError as error:
        return Check("native code", "broken", f"cannot be imported: {error}", rebuild)
    kernels = "with CUDA kernels" if native.cuda_compiled else "without CUDA kernels"
    return Check("native code", "ok", f"built {kernels}, on {os.cpu_count()} cores")


def _gpu() -> Check:
    import torch

    if torch.version.cuda is None:
        return Check("GPU", "missing", "this PyTorch was built without CUDA", "to train on a GPU, install a CUDA build")
    if not torch.cuda.is_available():
        return Check("GPU", "missing", "no CUDA device is visible", "popnet trains on the CPU")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if not importlib.import_module("popnet.native").cuda_compiled:
        return Check(
            "GPU", "broken", f"{', '.join(names)}, but the native code has no CUDA kernels", "build it with nvcc"
        )
    return Check("GPU", "ok", f"{', '.join(names)} (CUDA {torch.version.cuda})")


def _nvcc() -> Check:
    path = shutil.which("nvcc")
    if path is None:
        return Check("nvcc", "missing", "not on the PATH", "needed only to build popnet's CUDA kernels")
    output = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    release = next((line.strip() for line in output.splitlines() if "release" in line), "unknown release")
    return Check("nvcc", "ok", f"{release}, {path}")


def _extras() -> Iterator[Check]:
    for name, (extra, purpose) in _EXTRAS.items():
        try:
            importlib.import_module(name)
        except ImportError as error:
            found = "not installed" if isinstance(error, ModuleNotFoundError) and error.name == name else str(error)
            yield Check(name, "missing", f"{found} ({purpose})", f'pip install "{extra}"')
        else:
            yield Check(name, "ok", f"{importlib.metadata.version(name)} ({purpose})")


def _data_sets() -> Iterator[Check]:
    from popnet.data import available

    for name, state in available().items():
        if state.ready:
            yield Check(f"data {name}", "ok", state.where)
        else:
            yield Check(f"data {name}", "missing", "not found", state.where)


def reproduces() -> Check:
    """Train a tiny member twice in processes of their own, and compare its bits with those on record."""
    import popnet
    from popnet import config
    from popnet.engine.devices import platform

    name = "same bits"
    here = platform("cpu")
    kind = (here.device, dict(here.versions)["torch"])
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = popnet.run(config.from_mapping(TINY_MEMBER), store=folder, workers=2, device="cpu")
            digests = sorted(set(result.store.members()["weights_digest"]))
    except PopnetError as error:
        return Check(name, "broken", f"a tiny member does not train: {error}")
    if len(digests) != 1:
        return Check(name, "broken", f"two equal trainings differ: {', '.join(d[:16] for d in digests)}")
    where = f"{kind[0]}, torch {kind[1]}"
    if kind not in RECORDED:
        return Check(name, "unknown", f"two trainings agree ({digests[0][:16]}); none is on record for {where}")
    if digests[0] != RECORDED[kind]:
        return Check(
            name,
            "broken",
            f"{digests[0][:16]} on {where}, where {RECORDED[kind][:16]} is on record",
            "stores from other machines of this kind will not be continued bit for bit: compare library builds",
        )
    return Check(name, "ok", f"a tiny member has the weights on record for {where}")

"""What a CUDA device has to show: kernels equal to their CPU twins, clean under the sanitizer; the tests marked gpu.

    python tests/native/gpu_check.py [--seconds 600]

The kernels run in popnet_check, a program without Python or PyTorch, which CMake builds with -DPOPNET_CHECK=ON (`make
gpu-check` does). Without a device every step is gone through as far as it goes, and says `not measured`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent.parent
DRIVER = ROOT / "build" / f"native-{sys.implementation.cache_tag}" / "popnet_check"
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
NOT_MEASURED = "not measured: no CUDA device"


@dataclass(frozen=True)
class Step:
    """One thing to run, from the folder of the project."""

    name: str
    command: tuple[str, ...]


def steps(driver: Path) -> tuple[Step, ...]:
    """All of them, the quickest first."""
    tools = [
        Step(f"sanitizer: {tool}", ("compute-sanitizer", "--tool", tool, "--error-exitcode", "1", str(driver)))
        for tool in TOOLS
    ]
    tests = Step("tests marked gpu", (sys.executable, "-m", "pytest", "-m", "gpu", "-q"))
    return (Step("kernels and their twins", (str(driver),)), *tools, tests)


def outcome(step: Step, device: bool, seconds: float) -> str:
    """`ok`, `not measured` or `FAILED`, with what there is to say; what a failed step wrote is printed before.

    Args:
        device: whether there is one. With it a test that is skipped is a failure, for nothing else looks there.
        seconds: at most so long.
    """
    program = shutil.which(step.command[0])
    if program is None:
        return f"FAILED: there is no {step.command[0]}" if device else NOT_MEASURED
    try:
        ended = subprocess.run(step.command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return f"FAILED: not done after {seconds:.0f} s"
    lines = (ended.stdout + ended.stderr).strip().splitlines() or [""]
    skipped = "pytest" in step.command and " skipped" in lines[-1]
    if not device and (skipped or "pytest" not in step.command):
        return f"{NOT_MEASURED} ({lines[-1].strip('= ')})"
    if ended.returncode or skipped:
        print("\n".join(lines))
        return f"FAILED: {'tests were skipped' if skipped else f'exit code {ended.returncode}'}"
    return f"ok ({lines[-1].strip('= ')})"


def main() -> None:
    """Run every step and print its outcome; the exit code is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="for all steps together")
    ends = time.monotonic() + parser.parse_args().seconds
    failed = False
    for step in steps(DRIVER):
        began = time.monotonic()
        text = outcome(step, torch.cuda.is_available(), max(ends - began, 1.0))
        failed = failed or text.startswith("FAILED")
        print(f"{step.name:<26}{time.monotonic() - began:>6.1f} s  {text}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()

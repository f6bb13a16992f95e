"""What a CUDA device has to show, the most valuable facts first; `make gpu-check` calls this.

    python tests/native/gpu_check.py [--steps NAME ...] [--without NAME ...] [--seconds 530]

Whatever is found is in the folder $OUT (build/first-light unless the variable says another) the moment it is known:
summary.txt and summary.json (a line and an entry a step), logs.tgz (all logs), first_light.jsonl (a fact a line),
kernels.txt (tables of a step's kernels) and tests.xml (JUnit). The logs themselves grow in $OUT-logs while steps run.

A step that hangs is ended at its limit, one that crashes has failed, and the others go on. Without a device every step
goes as far as it can, in miniature, and says `not measured`. The exit code is 1 if a step failed or timed out; on a
device also if a program is missing, or if a test was skipped for another reason than an optional package.

To see that, give a step another command: --replace twins 'sleep 600' --limit twins 5 --replace graphs 'kill -SEGV $$'

Only the standard library is imported here: a package that a machine lacks is the failure of the steps that need it.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from carried_wheels import ROOT, SITE
from steps import NO_DEVICE, Runner, Step

BUILD = ROOT / "build" / f"native-{sys.implementation.cache_tag}"
NATIVE = ROOT / "tests" / "native"
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
_HOLDING_GPU_TESTS = ("cohort_gpu", "native", "fused", "language_training", "fo_pool", "random")
GPU_TESTS = tuple(f"tests/test_{name}.py" for name in (*_HOLDING_GPU_TESTS, "metrics_exact", "language_metrics"))
"""All files that hold tests marked gpu."""
SECONDS = 530.0
_PATIENCE = 10
"""Without a device nothing is in a hurry: limits are so many times as long."""


def first_device() -> tuple[str, str] | None:
    """The first device's name and the number of its architecture, such as 90; None where there is no device."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    query = ("nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader")
    try:
        ended = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    name, _, number = ended.stdout.splitlines()[0].rpartition(",")
    return name.strip(), number.strip().replace(".", "")


# ---- the steps -------------------------------------------------------------------------------------------------------


def steps(out: Path, architecture: str | None) -> tuple[Step, ...]:
    """All of them, in their order.

    Args:
        out: the folder of the results.
        architecture: the number of the device's architecture; None where there is no device.
    """
    check = str(BUILD / "popnet_check")
    eager = ("tests/test_cohort_gpu.py", "-k", "eager_steps and (resnet14 or linear)")
    everything = (f"--junitxml={out / 'tests.xml'}", "--durations=15", *_in_processes(6), *GPU_TESTS)
    on_device = architecture is not None
    return (
        Step("wheels", _python(NATIVE / "carried_wheels.py"), 30),
        Step("environment", _python(NATIVE / "environment.py"), 20),
        Step("build", _python("setup.py", "-q", "build_ext", "--inplace"), 240, variables=_options(architecture)),
        Step("twins", (check,), 30, needs=("build",), no_device=2),
        _tests("graphs", 60, *_each_test_within(50), *eager),
        *(_light(out, "resnet14", precision, 50, on_device) for precision in ("bf16", "tf32", "fp32")),
        *(_sanitizer(tool, check) for tool in TOOLS),
        _tests("tests", 150, *_each_test_within(60), *everything),
        *(_light(out, model, "fp32", 30, on_device) for model in ("linear", "hidden_fc")),
    )


def _python(*arguments: str | Path) -> tuple[str, ...]:
    return (sys.executable, *map(str, arguments))


def _options(architecture: str | None) -> dict[str, str]:
    """What CMake is told: kernels for the device alone, which is quicker; without a device for all architectures."""
    if architecture is None and not _found("nvcc"):
        options = "-DPOPNET_CUDA=OFF -DPOPNET_CHECK=OFF"
    else:
        chosen = "" if architecture is None else f"{architecture}-real"
        options = f"-DPOPNET_CUDA=ON -DPOPNET_CHECK=ON -DPOPNET_CUDA_ARCHITECTURES={chosen}"
    return {"CMAKE_ARGS": f"{options} {os.environ.get('CMAKE_ARGS', '')}".strip()}


def _tests(name: str, seconds: float, *arguments: str) -> Step:
    command = _python("-m", "pytest", "-m", "gpu", "-v", *arguments)
    threads = {"OMP_NUM_THREADS": "2"}  # for each of several processes
    return Step(name, command, seconds, needs=("build",), tests=True, variables=threads)


def _each_test_within(seconds: int) -> tuple[str, ...]:
    """By a thread: a signal is not seen by a test that waits for the device."""
    installed = importlib.util.find_spec("pytest_timeout") is not None
    return (f"--timeout={seconds}", "--timeout-method=thread") if installed else ()


def _in_processes(count: int) -> tuple[str, ...]:
    installed = importlib.util.find_spec("xdist") is not None
    return ("-n", str(count), "--dist", "loadgroup") if installed else ()


def _light(out: Path, model: str, precision: str, seconds: float, on_device: bool) -> Step:
    what = ("--model", model, "--precision", precision, "--device", "cuda" if on_device else "cpu")
    command = _python(NATIVE / "first_light.py", out, *what, "--seconds", f"{seconds - 8:.0f}")
    return Step(f"light-{model}-{precision}", command, seconds, needs=("build",), alone=True, no_device=NO_DEVICE)


def _sanitizer(tool: str, check: str) -> Step:
    command = ("compute-sanitizer", "--tool", tool, "--error-exitcode", "1", check, "--small")
    return Step(tool, command, 150, needs=("build",), beside=True, on_device=True)


def _found(program: str) -> bool:
    return shutil.which(program) is not None


# ---- the command -----------------------------------------------------------------------------------------------------


def chosen(made: Sequence[Step], arguments: argparse.Namespace) -> list[Step]:
    """The steps that the command line asks for, changed as it says. Exits with a message at a name of no step."""
    names = [step.name for step in made]
    named = [*arguments.steps, *arguments.without, *(name for name, _ in arguments.replace + arguments.limit)]
    if unknown := sorted(set(named) - set(names)):
        raise SystemExit(f"there is no step {', '.join(unknown)}; the steps are: {', '.join(names)}")
    commands = {name: {"command": ("bash", "-c", text)} for name, text in arguments.replace}
    limits = {name: {"seconds": float(text)} for name, text in arguments.limit}
    wanted = [s for s in made if s.name in (arguments.steps or names) and s.name not in arguments.without]
    return [replace(step, **commands.get(step.name, {}), **limits.get(step.name, {})) for step in wanted]


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", default=[], metavar="NAME", help="only these")
    parser.add_argument("--without", nargs="+", default=[], metavar="NAME", help="all but these")
    parser.add_argument("--seconds", type=float, help=f"for all steps together; on a device {SECONDS:.0f}")
    parser.add_argument("--limit", nargs=2, action="append", default=[], metavar=("NAME", "SECONDS"))
    parser.add_argument("--replace", nargs=2, action="append", default=[], metavar=("NAME", "COMMAND"))
    return parser.parse_args(words)


def environment() -> dict[str, str]:
    """The steps': the project and the carried wheels are importable, whatever else the caller's PYTHONPATH holds."""
    folders = [str(ROOT), str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
    told = {"PYTHONPATH": os.pathsep.join(folders), "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    return {**os.environ, **told}


def main() -> None:
    """Run the steps; the exit code is 1 if one failed."""
    arguments = parsed()
    device = first_device()
    out = Path(os.environ.get("OUT") or ROOT / "build" / "first-light").absolute()
    made = steps(out, None if device is None else device[1])
    seconds = SECONDS
    if device is None:
        made = tuple(replace(step, seconds=_PATIENCE * step.seconds) for step in made)
        seconds *= _PATIENCE
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    name = None if device is None else device[0]
    logs = out.with_name(f"{out.name}-logs")
    runner = Runner(out, logs, ROOT, name, arguments.seconds or seconds, environment())
    print(f"{name or 'no CUDA device'}; results in {out}", flush=True)
    sys.exit(not runner.run(chosen(made, arguments)))


if __name__ == "__main__":
    main()

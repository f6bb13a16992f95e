"""Every CUDA kernel, run on the CPU (tests/native/emulation): equal to its twin in any order of threads and blocks.

The kernels' files are compiled as they are, but for their launches. `popnet_check` compares each with its CPU twin; the
tests marked `gpu` that need kernels alone run on them too, through popnet.native, on a device that is pretended. Slow
tests watch each memory access, and plant faults to see that they are found.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EMULATION = ROOT / "tests" / "native" / "emulation"
sys.path.insert(0, str(EMULATION))

from planted import FAULTS, Fault  # noqa: E402
from rewrite import launches_as_calls, shared_as_references  # noqa: E402

PROGRAMS = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ.get('PATH', '')}"
CORES = len(os.sched_getaffinity(0))
needs_compiler = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="needs x86-64, whose stacks the emulation switches"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
]
SCHEDULES = {"seed 1": {}, "seed 2": {"EMULATION_SEED": "2"}, "grids of 2 blocks": {"EMULATION_MOST_BLOCKS": "2"}}
LEAKS = "detect_leaks=0"  # its check stops threads, which a traced process may not
LARGE = ("224", "512", "16-32-32", "1281167", "50000", "shape7", "shape8")
"""Texts in the names of tests whose arrays are large for threads that are emulated."""
KERNEL_TESTS = ("native", "fused", "fo_pool", "random", "metrics_exact", "language_metrics")
"""Files of tests marked `gpu` that need kernels and no graph or trainer."""


# ---- the script that rewrites ----------------------------------------------------------------------------------------


def test_a_launch_becomes_a_call() -> None:
    text = "x;\nns::name<A<int>, 4><<<dim3(a, b),\n    kThreads, 0, stream>>>(f(x), y);\nz;\n"
    made = launches_as_calls(text, "a.cu")
    assert made.splitlines()[0] == "x;"
    assert made.splitlines()[3] == "z;"
    call = " ".join(made.splitlines()[1:3])
    assert call.startswith("::emulation::launch(dim3(a, b),")
    assert call.endswith('0, stream, "a.cu:ns::name", [&] { ns::name<A<int>, 4>(f(x), y); });')
    with pytest.raises(ValueError, match=r"line 2: a launch that does not read <<<...>>>\(...\)"):
        launches_as_calls("\nname<<<1, 2>>>;", "a.cu")
    with pytest.raises(ValueError, match="line 1: a bracket that is never closed"):
        launches_as_calls("name<<<1, 2>>>(x;", "a.cu")


def test_a_shared_variable_becomes_a_reference() -> None:
    made = shared_as_references("__shared__ double rows[kSide][f(1, 2)], one;")
    assert "using shared_rows = double[kSide][f(1, 2)];" in made
    assert "shared_rows& rows = " in made
    assert "using shared_one = double;" in made
    assert "__shared__" not in made


# ---- builds ----------------------------------------------------------------------------------------------------------


def build(flavour: str, *targets: str, module: bool = False) -> Path:
    """The folder of an up-to-date build (CMakeLists.txt says what a flavour is)."""
    folder = ROOT / "build" / "emulation" / f"{flavour.lower()}-{sys.implementation.cache_tag}"
    command = [*program("cmake"), "-S", str(EMULATION), "-B", str(folder), "-G", "Ninja", f"-DFLAVOUR={flavour}"]
    command += [f"-DPython_EXECUTABLE={sys.executable}", f"-DCMAKE_MAKE_PROGRAM={program('ninja')[0]}"]
    if module:
        import pybind11

        command += ["-DMODULE=ON", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"]
    run(command)
    run([*program("cmake"), "--build", str(folder), "--target", *targets])
    return folder


def program(name: str) -> list[str]:
    found = shutil.which(name, path=PROGRAMS)
    if found is None:
        pytest.skip(f"needs {name}")
    return [found]


def run(command: list[str], folder: Path = ROOT, **settings: str) -> str:
    ended = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{shlex.join(command)}\n{ended.stdout[-8000:]}"
    return ended.stdout


@pytest.fixture(scope="module")
def plain() -> Path:
    return build("PLAIN", "popnet_check", "_native", module=True)


# ---- kernels and their twins -----------------------------------------------------------------------------------------


def kernels_of(folder: Path) -> set[str]:
    """All kernels in the .cu and .cuh files of a folder, as `file:kernel`."""
    pattern = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\(.*?\)\s*)?(\w+)\(", re.DOTALL)
    files = [path for path in folder.rglob("*") if path.suffix in (".cu", ".cuh")]
    return {f"{path.name}:{name}" for path in files for name in pattern.findall(path.read_text())}


@pytest.mark.parametrize("schedule", SCHEDULES)
class TestEmulated:
    pytestmark = needs_compiler

    def test_kernels_equal_their_twins(self, schedule: str, plain: Path) -> None:
        said = run([str(plain / "popnet_check"), "--small"], **SCHEDULES[schedule])
        assert re.search(r"^[1-9]\d* checks, 0 different$", said, re.MULTILINE)
        (launched,) = re.findall("^emulated kernels: (.*)$", said, re.MULTILINE)
        assert set(launched.split()) == kernels_of(ROOT / "csrc")


class TestEmulatedOnce:
    pytestmark = needs_compiler

    def test_lanes_with_more_rows_than_the_least(self, plain: Path) -> None:
        assert "1 checks, 0 different" in run([str(plain / "popnet_check"), "262645"])

    def test_no_kernel_breaks_a_rule_of_the_sanitizers(self) -> None:
        """Under the address and undefined-behaviour sanitizers, which end the program at the first fault."""
        folder = build("ASAN", "popnet_check")
        said = run([str(folder / "popnet_check"), "--small"], UBSAN_OPTIONS="print_stacktrace=1", ASAN_OPTIONS=LEAKS)
        assert " 0 different" in said


# ---- popnet.native's branches for CUDA -------------------------------------------------------------------------------


def on_pretended_cuda(plain: Path, selection: str) -> set[str]:
    """Run tests marked `gpu` on the emulated kernels; the functions of popnet._native that they called."""
    (module,) = plain.glob("_native*.so")
    files = [str(ROOT / "tests" / f"test_{name}.py") for name in KERNEL_TESTS]
    command = [sys.executable, "-m", "pytest", "-p", "pretended_cuda", "-m", "gpu", "-k", selection, "-q", *files]
    path = os.pathsep.join(filter(None, (str(EMULATION), os.environ.get("PYTHONPATH"))))
    said = run(command, EMULATED_NATIVE=str(module), PYTHONPATH=path)
    assert re.search(r"^\d+ passed, \d+ deselected", said, re.MULTILINE), said[-2000:]  # and none skipped
    (called,) = re.findall("^called: (.*)$", said, re.MULTILINE)
    return set(called.split())


def cuda_functions(plain: Path) -> set[str]:
    (module,) = plain.glob("_native*.so")
    code = "import importlib.util as u, sys; s = u.spec_from_file_location('popnet._native', sys.argv[1]); "
    code += "m = u.module_from_spec(s); s.loader.exec_module(m); print(*dir(m))"
    names = run([sys.executable, "-c", code, str(module)]).split()
    return {name for name in names if name.endswith("_cuda")}


class TestPretendedDevice:
    pytestmark = needs_compiler

    def test_every_branch_for_cuda_runs_and_gives_the_cpus_bits(self, plain: Path) -> None:
        called = on_pretended_cuda(plain, f"not captured and not ({' or '.join(LARGE)})")
        assert called == cuda_functions(plain)

    @pytest.mark.slow
    def test_the_large_ones_too(self, plain: Path) -> None:
        on_pretended_cuda(plain, f"not captured and ({' or '.join(LARGE)})")


# ---- each access looked at -------------------------------------------------------------------------------------------


@pytest.mark.slow
class TestWatch:
    pytestmark = needs_compiler

    def test_no_race_no_read_of_what_nobody_wrote_nothing_misaligned(self) -> None:
        """In several orders, in one of them with threads interrupted between accesses, in one with small grids."""
        folder = build("WATCH", "popnet_check")
        interrupted = {"EMULATION_SEED": "4", "EMULATION_INTERRUPT": "20"}
        orders = ({"EMULATION_SEED": "3"}, interrupted, {"EMULATION_MOST_BLOCKS": "2"})
        with ThreadPoolExecutor(CORES) as threads:
            command = [str(folder / "popnet_check"), "--small"]
            for said in threads.map(lambda order: run(command, **order), orders):
                assert re.search(r" 0 complaints, [1-9]\d+ watched accesses$", said, re.MULTILINE)


# ---- a test of the tests ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[Fault, Future[bool]]:
    """Whether each planted fault is found; as many are planted at once as there are cores."""
    places = {fault: tmp_path_factory.mktemp("fault") for fault in FAULTS}
    folders = {flavour: build(flavour, "popnet_check") for flavour in sorted({fault.flavour for fault in FAULTS})}
    with ThreadPoolExecutor(CORES) as threads:
        return {
            fault: threads.submit(is_found, fault, folders[fault.flavour], place) for fault, place in places.items()
        }


def is_found(fault: Fault, folder: Path, place: Path) -> bool:
    """Whether one of the schedules ends in an error that the program without the fault does not end in."""
    program = planted(fault, folder, place)
    for settings in SCHEDULES.values():
        found, sound = (checked(each, fault.checks, settings) for each in (program, folder / "popnet_check"))
        assert sound == 0, f"without the fault, {fault.checks!r} fails too"
        if found != 0:
            return True
    return False


def checked(program: Path, checks: str, settings: dict[str, str]) -> int:
    command, variables = [str(program), "--small", checks], {**os.environ, **settings, "ASAN_OPTIONS": LEAKS}
    return subprocess.run(command, env=variables, capture_output=True, check=False, timeout=300).returncode


@pytest.mark.slow
class TestPlanted:
    pytestmark = needs_compiler

    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
    def test_a_planted_fault_is_found(self, fault: Fault, found: dict[Fault, Future[bool]]) -> None:
        assert found[fault].result(), f"the flavour {fault.flavour} does not find: {fault.what}"


def planted(fault: Fault, folder: Path, place: Path) -> Path:
    """popnet_check with one fault: the changed file, and what includes it, compiled anew and linked with the rest."""
    changed = folder / "kernels" / (f"{fault.file}.cpp" if fault.file.endswith(".cu") else fault.file)
    text = (ROOT / "csrc" / fault.file).read_text()
    assert text.count(fault.before) == 1, f"{fault.file} does not hold this once: {fault.before}"
    (place / "source").write_text(text.replace(fault.before, fault.after))
    mutant = place / "kernels" / changed.relative_to(folder / "kernels")
    run([sys.executable, str(EMULATION / "rewrite.py"), str(place / "source"), str(mutant)])
    replaced = {}
    for number, (source, command, made) in enumerate(compilations(folder)):
        if source == changed:
            words = [str(mutant) if word == str(source) else word for word in command]
        elif changed.suffix == ".cuh" and f'"{fault.file}"' in source.read_text():
            words = [command[0], f"-I{place / 'kernels'}", *command[1:]]
        else:
            continue
        replaced[made] = place / f"{number}.o"
        words[words.index("-o") + 1] = str(replaced[made])
        run(words, folder)
    link = run([*program("ninja"), "-C", str(folder), "-t", "commands", "popnet_check"]).strip().splitlines()[-1]
    for made, new in replaced.items():
        assert made in link
        link = link.replace(made, str(new))
    target = place / "popnet_check"
    words = shlex.split(link.removeprefix(": && ").removesuffix(" && :"))
    words[words.index("-o") + 1] = str(target)
    run(words, folder)
    return target


def compilations(folder: Path) -> list[tuple[Path, list[str], str]]:
    """Of each object file: its source, the command, and its name."""
    made = []
    for entry in json.loads((folder / "compile_commands.json").read_text()):
        command = shlex.split(entry["command"])
        made.append((Path(entry["file"]), command, command[command.index("-o") + 1]))
    return made

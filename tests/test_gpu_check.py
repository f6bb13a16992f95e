"""`make gpu-check` without a GPU: what a step has found survives the others, and a failure is told from an absence."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "tests" / "native"
sys.path.insert(0, str(NATIVE))

import carried_wheels  # noqa: E402
import gpu_check  # noqa: E402
import steps  # noqa: E402
from steps import Runner, Step, judged, telling  # noqa: E402


def step(name: str, code: str, seconds: float = 60.0, **more: Any) -> Step:
    return Step(name, ("bash", "-c", code), seconds, **more)


def runner(folder: Path, device: str | None = None, seconds: float = 600.0) -> Runner:
    return Runner(folder / "out", folder / "logs", folder, device, seconds, dict(os.environ))


def entries(folder: Path) -> dict[str, dict[str, Any]]:
    content = json.loads((folder / "out" / "summary.json").read_text())
    return {entry["step"]: entry for entry in content["steps"]}


# ---- nothing is lost -------------------------------------------------------------------------------------------------


def test_the_others_results_are_there_when_a_step_hangs_and_one_crashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps, "GRACE", 0.2)
    hangs = "trap '' INT; (trap '' INT; echo $BASHPID > child; exec sleep 600) & echo begun; wait; sleep 600"
    made = (
        step("first", "echo a fact"),
        step("hangs", hangs, 1.0),
        step("crashes", "echo before; kill -SEGV $$"),
        step("last", "cat out/summary.json"),
    )
    assert not runner(tmp_path).run(made)
    found = entries(tmp_path)
    assert {name: entry["status"] for name, entry in found.items()} == {
        "first": "ok",
        "hangs": "timed out",
        "crashes": "failed",
        "last": "ok",
    }
    assert found["first"]["last_line"] == "a fact"
    assert "its last line: begun" in found["hangs"]["last_line"]
    assert found["crashes"]["exit_code"] == -signal.SIGSEGV
    seen = json.loads((tmp_path / "logs" / "last.log").read_text())["steps"]
    assert [entry["step"] for entry in seen] == ["first", "hangs", "crashes"], "entered before the next step began"
    child = Path("/proc", (tmp_path / "child").read_text().strip())
    assert not child.exists() or "Z" in (child / "stat").read_text().split()[2], "its process group has ended"
    lines = (tmp_path / "out" / "summary.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == list(found)
    out = capsys.readouterr().out
    assert all(line in out for line in lines)
    with tarfile.open(tmp_path / "out" / "logs.tgz") as archive:
        assert sorted(archive.getnames()) == ["crashes.log", "first.log", "hangs.log", "last.log"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["logs.tgz", "summary.json", "summary.txt"]


def test_what_was_found_is_there_when_the_driver_itself_is_killed(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path[:0] = [{str(NATIVE)!r}]
from pathlib import Path
from steps import Runner, Step
folder = Path({str(tmp_path)!r})
made = [Step("first", ("echo", "a fact"), 60), Step("hangs", ("bash", "-c", "echo $$; exec sleep 600"), 600)]
Runner(folder / "out", folder / "logs", folder, None, 600, {{}}).run(made)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    log = tmp_path / "logs" / "hangs.log"
    while not (log.exists() and log.read_text().endswith("\n")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    os.kill(int(log.read_text()), signal.SIGKILL)
    assert entries(tmp_path)["first"]["last_line"] == "a fact"
    assert (tmp_path / "out" / "summary.txt").read_text().startswith("first ")


def test_a_call_for_some_steps_keeps_the_entries_of_the_others(tmp_path: Path) -> None:
    runner(tmp_path).run([step("a", "echo 1"), step("b", "exit 3")])
    assert runner(tmp_path).run([step("a", "echo 2")]), "this call's steps alone decide"
    found = entries(tmp_path)
    assert (found["a"]["last_line"], found["b"]["exit_code"]) == ("2", 3)


def test_what_runs_beside_the_others_ends_before_times_are_measured(tmp_path: Path) -> None:
    made = (
        step("beside", "until [ -e go ]; do sleep 0.05; done; touch done", beside=True),
        step("quiet", "[ ! -e done ] && touch go"),
        step("measures", "[ -e done ]", alone=True),
        step("slow", "sleep 600", 0.1, beside=True),
    )
    assert not runner(tmp_path).run(made)
    assert {name: entry["status"] for name, entry in entries(tmp_path).items()} == {
        "quiet": "ok",
        "beside": "ok",
        "measures": "ok",
        "slow": "timed out",
    }


# ---- what is a failure -----------------------------------------------------------------------------------------------


def test_what_cannot_be_tried_says_why(tmp_path: Path) -> None:
    made = (
        step("build", "exit 1"),
        step("needs it", "touch tried", needs=("build",)),
        Step("no program", ("no-such-sanitizer",), 60),
        step("of a device", "touch tried", on_device=True),
    )
    expected = {
        None: {"needs it": "needs the step build", "no program": "no CUDA device, and there is no no-such-sanitizer"},
        "H200": {"needs it": "needs the step build", "no program": "there is no no-such-sanitizer"},
    }
    for device, said in expected.items():
        folder = tmp_path / str(device)
        folder.mkdir()
        runner(folder, device).run(made)
        found = entries(folder)
        assert {name: found[name]["last_line"] for name in said} == said
        assert found["needs it"]["status"] == "not measured"
        assert found["no program"]["status"] == ("not measured" if device is None else "failed")
        assert found["of a device"]["status"] == ("not measured" if device is None else "ok")
        assert (folder / "tried").exists() == (device is not None)
    assert not runner(tmp_path, seconds=0.0).run([step("late", "echo 1")])
    assert entries(tmp_path)["late"]["last_line"] == "not begun: no time was left"


SKIPPED = [
    "SKIPPED [2] tests/test_a.py:33: needs a CUDA device and a build with nvcc",
    "SKIPPED [1] tests/test_b.py:9: needs jsonschema: pip install popnet[dev]",
    "== 3 passed, 3 skipped in 3s ==",
]


@pytest.mark.parametrize(
    ("tests", "code", "lines", "on_device", "without"),
    [
        (False, 0, ["all equal"], "ok", "ok"),
        (False, 3, ["sgd DIFFERENT"], "failed", "failed"),
        (False, 2, ["no CUDA device"], "failed", "not measured"),
        (True, 0, ["== 3 passed in 3s =="], "ok", "ok"),
        (True, 0, SKIPPED[1:], "ok", "ok"),
        (True, 0, SKIPPED, "failed", "not measured"),
        (True, 1, SKIPPED, "failed", "failed"),
        (True, 5, ["== no tests ran in 1s =="], "failed", "failed"),
    ],
)
def test_an_ended_step_is_judged(tests: bool, code: int, lines: list[str], on_device: str, without: str) -> None:
    made = Step("a", ("a",), 1, tests=tests, no_device=None if tests else 2)
    assert judged(made, code, lines, True)[0] == on_device
    assert judged(made, code, lines, False) == (without, lines[-1].strip("= "))


def test_a_skipped_test_is_named() -> None:
    _, said = judged(Step("a", ("a",), 1, tests=True), 0, SKIPPED, True)
    assert said.startswith("tests were skipped: needs a CUDA device and a build with nvcc (")


def test_the_compilers_message_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where other compilations went on for long after the one that failed."""
    build = [*("[1/60] ok",) * 50, "FAILED: sgd.cu.o", "sgd.cu(3): error: expected a ;", *("[2/60] ok",) * 50]
    assert telling(build)[:2] == build[50:52]
    assert telling([f"line {n}" for n in range(100)])[-1] == "line 99"
    (tmp_path / "log").write_text("\n".join(build))
    runner(tmp_path).run([step("build", "cat log; exit 1")])
    assert "sgd.cu(3): error: expected a ;" in capsys.readouterr().out


# ---- the steps of popnet ---------------------------------------------------------------------------------------------


def test_the_steps_come_in_the_order_of_their_worth(tmp_path: Path) -> None:
    made = gpu_check.steps(tmp_path, "90")
    names = [s.name for s in made]
    light = [f"light-resnet14-{precision}" for precision in ("bf16", "tf32", "fp32")]
    small = ["light-linear-fp32", "light-hidden_fc-fp32"]
    assert names == ["wheels", "environment", "build", "twins", "graphs", *light, *gpu_check.TOOLS, "tests", *small]
    assert all(s.alone for s in made if s.name.startswith("light"))
    assert [s.name for s in made if s.beside] == list(gpu_check.TOOLS)
    assert all(s.needs == ("build",) for s in made[3:])
    assert gpu_check.SECONDS < 540
    assert "-DPOPNET_CUDA_ARCHITECTURES=90-real" in made[2].variables["CMAKE_ARGS"].split()
    assert "-DPOPNET_CUDA_ARCHITECTURES=90" not in gpu_check.steps(tmp_path, None)[2].variables["CMAKE_ARGS"]


def test_every_file_with_tests_marked_gpu_is_named() -> None:
    holding = {
        f"tests/{path.name}"
        for path in Path(__file__).parent.glob("test_*.py")
        if re.search(r"pytest\.mark\.gpu\b", path.read_text()) and path != Path(__file__)
    }
    assert holding == set(gpu_check.GPU_TESTS)


def test_a_step_gets_another_command_and_another_limit() -> None:
    made = [Step("a", ("a",), 1), Step("b", ("b",), 2), Step("c", ("c",), 3)]

    def chosen(*words: str) -> list[Step]:
        return gpu_check.chosen(made, gpu_check.parsed(words))

    assert chosen() == made
    assert [s.name for s in chosen("--steps", "c", "a")] == ["a", "c"]
    assert [s.name for s in chosen("--without", "a")] == ["b", "c"]
    changed = chosen("--replace", "b", "sleep 9", "--limit", "b", "0.5")[1]
    assert (changed.command, changed.seconds) == (("bash", "-c", "sleep 9"), 0.5)
    with pytest.raises(SystemExit, match="there is no step d; the steps are: a, b, c"):
        chosen("--limit", "d", "1")


def test_no_device_where_none_may_be_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    query = tmp_path / "nvidia-smi"
    query.write_text("#!/bin/sh\necho 'NVIDIA H200, 9.0'\n")
    query.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_check.first_device() == ("NVIDIA H200", "90")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_check.first_device() is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    query.write_text("#!/bin/sh\nexit 9\n")
    assert gpu_check.first_device() is None


# ---- carried wheels --------------------------------------------------------------------------------------------------


def wheel(folder: Path, name: str, version: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def test_a_carried_wheel_is_unpacked_unless_that_version_is_there(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "pytest", metadata.version("pytest"))
    carried = [wheel(tmp_path / "wheels", "carried_for_a_test", "1.0"), wheel(tmp_path / "wheels", "pluggy", "0.0.1")]
    assert carried_wheels.lacking(tmp_path / "wheels") == carried
    assert carried_wheels.lacking(tmp_path / "nowhere") == []
    carried_wheels.install([], tmp_path / "site")
    assert not (tmp_path / "site").exists()
    carried_wheels.install(carried[:1], tmp_path / "site")
    code = "import carried_for_a_test; print(carried_for_a_test.version)"
    variables = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == "1.0\n"


# ---- the command, on a bare machine ----------------------------------------------------------------------------------

CARRIED = ("pydantic", "pydantic_core", "annotated_types", "typing_inspection", "omegaconf")
ABSENT = ("jsonschema", "ray", "ffcv")
BARE = """
import os, sys
from importlib.machinery import PathFinder

class Bare:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in os.environ["LACKING"].split(","):
            found = PathFinder.find_spec(name, [os.environ["CARRIED"]] if path is None else path)
            if found is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return found

sys.meta_path.insert(0, Bare())
"""


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that lacks packages: some are carried in a folder on PYTHONPATH, others absent."""
    carried, hook = tmp_path / "carried", tmp_path / "hook"
    for folder in (carried, hook):
        folder.mkdir()
    (hook / "sitecustomize.py").write_text(BARE)
    for name in CARRIED:
        (carried / name).symlink_to(Path(sys.modules[name].__file__ or "").parent)
    return {
        **os.environ,
        "PYTHONPATH": f"{hook}:{carried}",
        "LACKING": ",".join((*CARRIED, *ABSENT)),
        "CARRIED": str(carried),
        "CUDA_VISIBLE_DEVICES": "",
        "OUT": str(tmp_path / "out"),
    }


def make(variables: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    words = ["make", "gpu-check", f"GPU_PY={sys.executable}", f"GPU_CHECK={' '.join(options)}"]
    return subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


def test_make_keeps_the_callers_path_and_needs_no_package(bare: dict[str, str], tmp_path: Path) -> None:
    done = make(bare, "--steps environment twins", "--replace twins 'echo $$PYTHONPATH; exit 2'")
    assert done.returncode == 0, done.stdout + done.stderr
    folders = entries(tmp_path)["twins"]["last_line"].split(":")
    assert folders == [str(ROOT), str(carried_wheels.SITE), *bare["PYTHONPATH"].split(":")]
    log = (tmp_path / "out-logs" / "environment.log").read_text()
    assert f"pydantic {metadata.version('pydantic')}" in log.splitlines()


PYTHON_OF_A_DEVICE = """#!/bin/bash
case "$*" in
    -c*) echo "${DEVICE}" ;;
    *carried_wheels.py) echo /wheels ;;
    benchmarks/*) echo "$PYTHONPATH $1" >> "${*: -3:1}"; exit ${CODE:-0} ;;
esac
"""


def test_the_benchmark_goes_on_from_its_results_and_leaves_them_in_both_places(tmp_path: Path) -> None:
    python, kept = tmp_path / "python3", tmp_path / "results"
    python.write_text(PYTHON_OF_A_DEVICE)
    python.chmod(0o755)
    kept.mkdir()

    def bench(device: str, out: str, **more: str) -> tuple[int, str]:
        variables = {**os.environ, "DEVICE": device, "OUT": str(tmp_path / out), "PYTHONPATH": "/mine", **more}
        words = ["make", "gpu-bench", f"GPU_PY={python}", f"GPU_RESULTS={kept}"]
        code = subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, check=False).returncode
        (path,) = (tmp_path / out).iterdir()
        return code, path.read_text()

    path = f"{ROOT}:/wheels:/mine"
    rows = f"{path} benchmarks/trainer_gpu.py\n{path} benchmarks/determinism.py\n"
    assert bench("no GPU", "cpu") == (0, rows)
    assert not list(kept.iterdir())
    assert bench("NVIDIA H200", "one") == (0, rows)
    assert (kept / "nvidia-h200.json").read_text() == rows
    assert bench("NVIDIA H200", "two") == (0, rows + rows), "on another machine, to which only the repository goes"
    code, found = bench("NVIDIA H200", "two", CODE="1")
    assert code != 0
    assert (kept / "nvidia-h200.json").read_text() == found == rows + rows + rows.splitlines(True)[0]


@pytest.mark.slow
def test_the_tests_are_collected_where_optional_packages_are_absent(bare: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "slow or not slow", "tests"]
    variables = bare | {"LACKING": f"{bare['LACKING']},playwright,transformers,tensorboard,pyarrow"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "error" not in done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_a_bare_machine_goes_through_all_steps(bare: dict[str, str], tmp_path: Path) -> None:
    done = make(bare)
    assert done.returncode == 0, done.stdout + done.stderr
    found = entries(tmp_path)
    assert list(found) == [s.name for s in gpu_check.steps(tmp_path, None)]
    assert {name for name, entry in found.items() if entry["status"] == "ok"} == {"wheels", "environment", "build"}
    assert {entry["status"] for entry in found.values()} == {"ok", "not measured"}
    assert re.search(r"\d+ skipped", found["tests"]["last_line"])
    facts = [json.loads(line) for line in (tmp_path / "out" / "first_light.jsonl").read_text().splitlines()]
    assert {fact["model"] for fact in facts} == {"resnet14", "linear", "hidden_fc"}
    assert {fact["fact"]: fact.get("result") for fact in facts}["twice equal"] is True
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) <= 8, "few, so that they are easily brought home"


@pytest.mark.slow
def test_make_goes_on_after_a_step_that_hangs_and_one_that_crashes(bare: dict[str, str], tmp_path: Path) -> None:
    words = ("--replace environment 'echo begun; sleep 600' --limit environment 1", "--replace twins 'kill -SEGV $$$$'")
    done = make(bare, "--steps wheels environment twins graphs light-linear-fp32", *words)
    assert done.returncode == 2, "make's code for a command that failed"
    statuses = {name: entry["status"] for name, entry in entries(tmp_path).items()}
    assert statuses == {
        "wheels": "ok",
        "environment": "timed out",
        "twins": "failed",
        "graphs": "not measured",
        "light-linear-fp32": "not measured",
    }
    assert "begun" in (tmp_path / "out-logs" / "environment.log").read_text()

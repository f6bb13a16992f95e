"""`make gpu-check` without a GPU: every step is gone through, and what failed is told from what did not run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent / "native"))

import gpu_check


def step(code: str) -> gpu_check.Step:
    return gpu_check.Step("a step", (sys.executable, "-c", code))


def as_tests(code: str) -> gpu_check.Step:
    return gpu_check.Step("tests", (*step(code).command, "pytest"))


def test_the_steps_are_the_driver_the_sanitizers_tools_and_the_tests() -> None:
    made = gpu_check.steps(Path("popnet_check"))
    assert [s.name.partition(": ")[2] for s in made if s.command[0] == "compute-sanitizer"] == list(gpu_check.TOOLS)
    assert made[0].command == ("popnet_check",)
    assert made[-1].command[1:5] == ("-m", "pytest", "-m", "gpu")


def test_what_runs_is_ok_and_what_does_not_has_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.outcome(step("print('a'); print('all equal')"), True, 60) == "ok (all equal)"
    assert gpu_check.outcome(step("print('sgd DIFFERENT'); exit(3)"), True, 60) == "FAILED: exit code 3"
    assert "sgd DIFFERENT" in capsys.readouterr().out
    assert gpu_check.outcome(step("import time; time.sleep(60)"), True, 0.2) == "FAILED: not done after 0 s"
    missing = gpu_check.Step("sanitizer", ("no-such-sanitizer",))
    assert gpu_check.outcome(missing, True, 60) == "FAILED: there is no no-such-sanitizer"
    assert gpu_check.outcome(missing, False, 60) == gpu_check.NOT_MEASURED


def test_a_test_that_is_skipped_is_no_test() -> None:
    """With a device it is a failure; without one it was not measured."""
    skipped = as_tests("print('== 2 passed, 1 skipped in 3s ==')")
    assert gpu_check.outcome(skipped, True, 60) == "FAILED: tests were skipped"
    assert gpu_check.outcome(skipped, False, 60).startswith(f"{gpu_check.NOT_MEASURED} (2 passed, 1 skipped")
    assert gpu_check.outcome(as_tests("print('3 passed in 3s')"), True, 60) == "ok (3 passed in 3s)"
    assert gpu_check.outcome(as_tests("print('1 error in 3s'); exit(2)"), False, 60) == "FAILED: exit code 2"


def test_without_a_device_nothing_is_measured_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    monkeypatch.setattr(gpu_check, "steps", lambda driver: (step("exit(2)"), as_tests("print('9 skipped in 1s')")))
    with pytest.raises(SystemExit) as ended:
        gpu_check.main()
    assert not ended.value.code
    assert capsys.readouterr().out.count(gpu_check.NOT_MEASURED) == 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(SystemExit) as ended:
        gpu_check.main()
    assert ended.value.code

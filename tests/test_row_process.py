"""Benchmarks that measure rows in other processes: what is known is kept, whatever happens next."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import mps
import results_file
from results_file import ResultsFile
from row_process import Limit, RowProcess, lines, measure_groups

CHILD = """
import json, os, sys, time
for row in sys.argv[1:]:
    if row == "hangs":
        time.sleep(600)
    if row == "fails":
        raise RuntimeError("no room for it")
    if row == "crashes":
        os.kill(os.getpid(), 11)
    print("something else")
    print(json.dumps({"row": row}), flush=True)
"""


def child(rows: Sequence[str], limit: Limit) -> Generator[dict[str, Any], None, None]:
    yield from lines([sys.executable, "-c", CHILD, *rows], os.environ, rows, limit)


def measured(*groups: Sequence[str], seconds: float = 60.0, row_seconds: float = 2.0) -> dict[str, Any]:
    entered: dict[str, Any] = {}
    ends = time.monotonic() + seconds
    measure_groups(groups, child, lambda key: key in entered, entered.__setitem__, ends, row_seconds)
    return entered


def test_every_row_is_entered_though_others_fail_crash_or_hang(capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(["a", "fails", "b"], ["c", "crashes", "d"], ["e", "hangs", "f"])
    assert [key for key, line in found.items() if "failed" not in line] == ["a", "b", "c", "d", "e", "f"]
    assert found["fails"]["failed"] == "RuntimeError: no room for it"
    assert found["crashes"]["failed"] == f"exit code -{int(signal.SIGSEGV)}"
    assert found["hangs"]["failed"] == "took longer than 2 s"
    assert capsys.readouterr().out == ""


def test_after_two_failures_the_rest_of_a_group_waits(capsys: pytest.CaptureFixture[str]) -> None:
    """What all its rows have in common would cost the time of the other groups."""
    assert list(measured(["fails", "crashes", "a", "b"], ["c"])) == ["fails", "crashes", "c"]
    assert "left for another call, after two failures: a, b" in capsys.readouterr().out


def test_what_the_end_of_the_time_broke_off_is_the_next_calls_first(capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(["a", "hangs", "b"], ["c"], seconds=3.0, row_seconds=100.0)
    assert list(found) == ["a"]
    assert "time is over; run again to go on from hangs" in capsys.readouterr().out


def test_a_row_that_takes_a_whole_call_is_entered_as_failed(capsys: pytest.CaptureFixture[str]) -> None:
    """Else no later call would go past it."""
    assert list(measured(["hangs", "a"], seconds=1.0, row_seconds=100.0)) == ["hangs"]
    assert "time is over; run again to go on from a" in capsys.readouterr().out


def test_a_process_ends_with_all_that_it_started() -> None:
    code = """
import json, subprocess, sys
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(json.dumps({"row": "a", "other": other.pid}), flush=True)
sys.stdin.readline()
print(json.dumps({"row": "b"}), flush=True)
"""
    with RowProcess([sys.executable, "-c", code], os.environ) as process:
        other = process.line(60)["other"]
        with pytest.raises(TimeoutError, match="longer than 0 s"):
            process.line(0.3)
        process.tell("go")
        assert process.line(60) == {"row": "b"}
        with pytest.raises(RuntimeError, match="exit code 0"):  # though its output is still open
            process.line(60)
    for _ in range(100):
        state = Path(f"/proc/{other}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.1)
    else:
        pytest.fail("what the process had started still runs")


# ---- the file --------------------------------------------------------------------------------------------------------


FACTS = {"device": "NVIDIA H200", "driver": "580.1", "torch": "2.11.0", "cuda": "13.0", "cudnn": 91900}


def test_a_file_is_whole_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results" / "H200.json"
    file = ResultsFile(path)
    entered = file.section("one", FACTS)["rows"]
    assert not path.exists()
    for number in range(2):
        entered[f"row {number}"] = {"value": number}
        file.write()
        assert json.loads(path.read_text())["one"]["rows"].keys() == entered.keys()
    entered["unfit for JSON"] = object()
    with pytest.raises(TypeError):
        file.write()
    assert list(json.loads(path.read_text())["one"]["rows"]) == ["row 0", "row 1"]
    again = ResultsFile(path)
    again.section("two", {**FACTS, "driver": "580.2"})["rows"]["a"] = 1
    again.write()
    assert {name: len(part["rows"]) for name, part in json.loads(path.read_text()).items()} == {"one": 2, "two": 1}
    ResultsFile(None).write()


@pytest.mark.parametrize(
    ("fact", "value"), [("device", "NVIDIA H100 80GB HBM3"), ("torch", "2.12.0"), ("cuda", None), ("cudnn", 1)]
)
def test_a_file_of_another_card_or_torch_is_refused(tmp_path: Path, fact: str, value: Any) -> None:
    """By another benchmark, too: one file is one machine."""
    path = tmp_path / "H200.json"
    file = ResultsFile(path)
    file.section("one", FACTS)
    file.write()
    for name in ("one", "two"):
        with pytest.raises(SystemExit, match=rf"H200.json holds results of {fact} .*: name another file with --json"):
            ResultsFile(path).section(name, {**FACTS, fact: value})


def test_a_file_in_other_sizes_or_without_sense_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "H200.json"
    file = ResultsFile(path)
    file.section("one", {**FACTS, "sizes": {"batch": 512}})
    file.write()
    ResultsFile(path).section("two", {**FACTS, "sizes": {"batch": 8}})
    with pytest.raises(SystemExit, match="holds results of sizes"):
        ResultsFile(path).section("one", {**FACTS, "sizes": {"batch": 8}})
    path.write_text("{")
    with pytest.raises(SystemExit, match=r"H200.json is no JSON file"):
        ResultsFile(path)


def test_the_machines_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert results_file.machine(torch.device("cpu")).keys() == {"device", "cores", "torch"}
    found = results_file.machine(torch.device("cuda"))
    assert found["device"] == "NVIDIA H200"
    assert set(results_file.SAME) | {"driver"} == found.keys()


# ---- MPS -------------------------------------------------------------------------------------------------------------


def control(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> Path:
    """A program in place of the real one, which writes down how it was called."""
    log = folder / "calls"
    program = folder / mps.PROGRAM
    program.write_text(
        f'#!/bin/sh\necho "$* $([ -d "$CUDA_MPS_PIPE_DIRECTORY" ] && echo $CUDA_MPS_PIPE_DIRECTORY) '
        f'$([ -d "$CUDA_MPS_LOG_DIRECTORY" ] && echo logs) $(cat)" >>{log}\n{code}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return log


def test_mps_is_started_for_a_block_in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = control(tmp_path, monkeypatch, "exit 0")
    with mps.mps() as (variables, obstacle):
        assert obstacle is None
        pipes = variables["CUDA_MPS_PIPE_DIRECTORY"]
        assert log.read_text().split() == ["-d", pipes, "logs"]
    assert not Path(pipes).exists()
    assert log.read_text().splitlines()[1].split() == [pipes, "logs", "quit", "-t", "2"]
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ


def test_where_there_is_no_mps_it_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = control(tmp_path, monkeypatch, "echo cannot be used here; exit 1")
    with mps.mps() as found:
        assert found == ({}, "nvidia-cuda-mps-control: cannot be used here")
    assert len(log.read_text().splitlines()) == 1
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with mps.mps() as found:
        assert found == ({}, "there is no nvidia-cuda-mps-control on PATH")


def test_processes_go_on_without_mps_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried once."""
    import trainer_gpu

    log, tried = control(tmp_path, monkeypatch, "exit 0"), list[bool]()

    def at_once(self: Any, row: Any, variables: dict[str, str], limit: Limit) -> dict[str, Any]:
        tried.append(bool(variables))
        if variables and len(tried) > 1:
            raise RuntimeError("no server")
        return {"epoch_seconds": 1.0}

    monkeypatch.setattr(trainer_gpu.Measurements, "_at_once", at_once)
    measurements = trainer_gpu.Measurements([])
    row = trainer_gpu.Row("linear", "bf16", "processes 4")
    sharing = [measurements.processes(row, lambda: 60.0)["sharing"] for _ in range(3)]
    assert sharing == ["CUDA MPS", *2 * ["in turn, without CUDA MPS: it failed: no server"]]
    assert tried == [True, True, False, False]
    assert len(log.read_text().splitlines()) == 4

"""The first facts of a device, found on a pretended one: its graphs are functions that are called again."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_slots import pretended_gpu  # noqa: F401  # for all tests here

from popnet.errors import DeviceTooSmall

sys.path.insert(0, str(Path(__file__).resolve().parent / "native"))

import first_light
from first_light import TINY, Facts, FirstLight, Place

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def measured_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations of the CPU in place of a device's kernels, and some number of bytes."""
    profile = torch.profiler.profile
    on_cpu = {"activities": [torch.profiler.ProfilerActivity.CPU]}
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: profile(**on_cpu))
    monkeypatch.setattr(first_light, "_ON_DEVICE", torch.autograd.DeviceType.CPU)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * 10**9)


def found(folder: Path, precision: str = "fp32", slots: bool = True, ends: float = math.inf) -> dict[str, Any]:
    """Every fact of the model `linear`, by its name; `failed` names those that did."""
    facts = Facts(folder, device="pretended")
    light = FirstLight(facts, "linear", precision, TINY, CPU, slots, ends)
    light.find(folder / "kernels.txt", "linear")
    lines = (folder / "first_light.jsonl").read_text().splitlines()
    return {line["fact"]: line for line in map(json.loads, lines)} | {
        "failed": facts.failed,
        "summary": light.summary(),
    }


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_question_is_answered(precision: str, tmp_path: Path) -> None:
    facts = found(tmp_path, precision)
    assert facts["captured"]["result"] is True
    for name in ("graphs equal eager", "twice equal", "members differ"):
        assert facts[name]["result"] is True
    for count in (1, 2):
        assert facts[f"{count} at once"]["equal_to_alone"] == count
        times = facts[f"time of {count} at once"]
        assert times["milliseconds_a_step_and_member"] > 0
        assert times["models_an_hour"] > 0
        assert (times["reserved_gb"], len(times["opened_in_seconds"])) == (3.0, count - 1)
    assert facts["host"]["microseconds_a_replay"] > 0
    assert "replays of a step" in (tmp_path / "kernels.txt").read_text()
    assert facts["kernels"]["kernels_a_step"] > 10
    assert not facts["failed"]
    hourly = [facts[f"time of {count} at once"]["models_an_hour"] for count in (1, 2)]
    assert facts["summary"] == f"nothing failed; models an hour at once: {hourly[0]} with 1, {hourly[1]} with 2"


def test_a_profiler_that_sees_no_kernel_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_light, "_ON_DEVICE", torch.autograd.DeviceType.CUDA)
    assert found(tmp_path)["kernels"]["failed"]


def test_wrong_bits_are_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1000))
    monkeypatch.setattr(Place, "bits", lambda self, trainer: str(next(numbers)))
    facts = found(tmp_path)
    assert facts["failed"] == ["graphs equal eager", "twice equal", "1 at once", "2 at once"]
    assert facts["2 at once"]["failed"]
    assert facts["summary"].startswith("failed: graphs equal eager, twice equal, 1 at once, 2 at once; models an hour")


def test_a_step_that_is_not_captured_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("popnet.training.slots.uncaptured_part", lambda recipe: "it is too beautiful")
    facts = found(tmp_path)
    assert "too beautiful" in facts["warning"]["text"]
    assert facts["captured"]["failed"]
    assert "was not captured" in facts["captured"]["error"]


def opens(monkeypatch: pytest.MonkeyPatch, fails: Callable[[], None]) -> None:
    """The second slot that is opened calls `fails`."""
    whole = FirstLight._open

    def opened(self: FirstLight) -> float:
        if self._places:
            fails()
        return whole(self)

    monkeypatch.setattr(FirstLight, "_open", opened)


def test_members_that_do_not_fit_are_a_failure_and_the_kernels_are_still_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise DeviceTooSmall("no room")

    opens(monkeypatch, fails)
    facts = found(tmp_path)
    assert facts["1 at once"]["equal_to_alone"] == 1
    assert facts["2 at once"]["error"] == "DeviceTooSmall: no room"
    assert "host" in facts


def test_nothing_is_computed_on_a_lost_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    opens(monkeypatch, fails)
    with pytest.raises(torch.AcceleratorError):
        found(tmp_path)
    facts = [json.loads(line)["fact"] for line in (tmp_path / "first_light.jsonl").read_text().splitlines()]
    assert facts[-1] == "2 at once"


def test_what_there_was_no_time_for_is_named(tmp_path: Path) -> None:
    facts = found(tmp_path, ends=-math.inf)
    assert facts["1 at once"]["error"] == "not tried: no time was left"
    assert "2 at once" not in facts


def test_without_a_device_the_rest_is_found_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = found(tmp_path, slots=False)
    assert facts.pop("failed") == []
    assert facts.pop("summary").endswith(first_light.NOT_MEASURED)
    unmeasured = {name for name, fact in facts.items() if fact.get("result") == first_light.NOT_MEASURED}
    assert unmeasured == {"captured", "graphs equal eager", "time of 1 at once", "time of 2 at once", "kernels"}
    assert facts["2 at once"]["equal_to_alone"] == 2
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path), "--model", "linear", "--precision", "tf32", "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        first_light.main()
    assert ended.value.code == first_light.NO_DEVICE

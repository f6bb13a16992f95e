"""The GPU benchmark's cohorts in slots, on the pretended GPU of test_slots.py: what only a CUDA device runs there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from test_slots import pretended_gpu  # noqa: F401  # used by every test here

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import determinism
import gpu_measure
from gpu_rows import TINY

from popnet.training import slots

CPU = torch.device("cpu")


def test_slots_are_opened_once_for_cohorts_of_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    captures: list[object] = []
    capture_all = slots.Slot._capture_all
    monkeypatch.setattr(
        slots.Slot, "_capture_all", lambda self, *given: captures.append(self) or capture_all(self, *given)
    )
    in_slots = gpu_measure.Cohorts("linear", "fp32", TINY, CPU, slots=True)
    for count, opened in ((1, 1), (4, 4), (2, 4)):
        in_slots.training(count)(2)
        assert len(captures) == opened


def test_a_recipe_that_is_not_captured_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots.Slot, "_can_capture", lambda self, *given: False)
    with pytest.raises(SystemExit, match="linear fp32: was not captured"):
        gpu_measure.Cohorts("linear", "fp32", TINY, CPU, slots=True).training(1)


def test_captured_epochs_of_every_choice_of_kernels() -> None:
    row = determinism.Row("resnet14", "fp32")
    train, test = determinism.images(determinism.SIZES["tiny"], CPU)
    found = determinism.members(row, determinism.SIZES["tiny"])
    choices = {choice: determinism.captured(found[choice], train, test) for choice in determinism.CHOICES}
    times = determinism.epoch_times(choices, 2, CPU)
    assert all(len(each) == 2 for each in times.values())
    assert determinism.costs(times)["deterministic_costs_percent"] is not None

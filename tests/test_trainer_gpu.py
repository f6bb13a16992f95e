"""The GPU benchmark from end to end, at sizes of seconds and without a GPU: its rows, its floor, going on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from popnet import models

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import trainer_gpu  # noqa: E402


def run(*arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / "trainer_gpu.py"), "--tiny", "--device", "cpu", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300).stdout


def test_the_floor_counts_what_the_notes_count() -> None:
    """ResNet-14 at batch 512: 4.3 to 4.5 GB in fp32, half of it in bf16, 81 GFLOP."""
    model = models.build("resnet14")
    assert trainer_gpu.step_bytes(model, 512, "fp32") == pytest.approx(4.3e9, rel=0.05)
    assert trainer_gpu.step_bytes(model, 512, "bf16") == pytest.approx(2.15e9, rel=0.05)
    assert trainer_gpu.step_operations(model, 512) == pytest.approx(81e9, rel=0.02)


def test_the_scripts_augmentation_crops_and_flips() -> None:
    pixels = torch.arange(64 * 8 * 8).remainder(251).to(torch.uint8).reshape(64, 8, 8, 1)
    torch.manual_seed(1)
    out = trainer_gpu.augmented(pixels, torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    padded = torch.nn.functional.pad(pixels.permute(0, 3, 1, 2).float() / 255, (4, 4, 4, 4))
    for image, source in zip(out, padded):
        crops = [source[:, y : y + 8, x : x + 8] for y in range(9) for x in range(9)]
        assert any(torch.allclose(image, crop) or torch.allclose(image, crop.flip(-1)) for crop in crops)


@pytest.mark.parametrize("method", ["script", "vmap 4", "cohort 3"])
def test_every_kind_of_row_trains_on_the_cpu(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("popnet.models.normalisation._fuses", lambda norm, x: False)  # the script's rows set it
    row = trainer_gpu.Row("linear", "fp32", method)
    assert trainer_gpu.measure(row, trainer_gpu.TINY, torch.device("cpu")) > 0


@pytest.mark.slow
def test_it_goes_on_where_it_was_and_marks_what_is_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "results" / "cpu.json"
    found = []
    for _ in range(3):
        output = run("--models", "linear", "--minutes", "0.0001", "--json", str(path))
        entered = json.loads(path.read_text())["trainer_gpu"]
        found.append(list(entered["rows"]))
        assert entered["device"] == "cpu"
        assert "time is over; run again to go on" in output
    assert found == [
        ["linear fp32 script"],
        ["linear fp32 script", "linear fp32 cohort 1"],
        ["linear fp32 script", "linear fp32 cohort 1", "linear fp32 cohort 2"],
    ]
    lines = [line for line in output.splitlines() if line.startswith("linear tf32")]
    assert lines
    assert all(line.endswith("not measured") for line in lines)
    assert "target, resnet14 bf16: 3.5 x script: not measured" in output

"""The GPU benchmark from end to end, at sizes of seconds and without a GPU: its rows, its floor, going on."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from popnet import models

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gpu_floor  # noqa: E402
import trainer_gpu  # noqa: E402


def test_the_floor_counts_what_the_notes_count() -> None:
    """ResNet-14 at batch 512: 4.3 to 4.5 GB in fp32, half of it in bf16, 81 GFLOP."""
    model = models.build("resnet14")
    assert gpu_floor.step_bytes(model, 512, "fp32") == pytest.approx(4.3e9, rel=0.05)
    assert gpu_floor.step_bytes(model, 512, "bf16") == pytest.approx(2.15e9, rel=0.05)
    assert gpu_floor.step_operations(model, 512) == pytest.approx(81e9, rel=0.02)


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


def test_the_rows_are_those_to_compare() -> None:
    keys = [row.key for row in trainer_gpu.rows()]
    for model in ("resnet14", "linear", "hidden_conv", "vgg11", "resnet9", "resnet18"):
        for precision in ("fp32", "tf32", "bf16"):
            methods = ("script", "compiled", *(f"cohort {k}" for k in (1, 2, 4, 8, 16)), "processes 4")
            assert all(f"{model} {precision} {method}" in keys for method in methods)
    assert "linear bf16 vmap 64" in keys
    assert "hidden_fc bf16 vmap 64" in keys
    assert keys[0] == "resnet14 fp32 script"


# ---- a call, its time, and the next call -----------------------------------------------------------------------------


CPU = torch.device("cpu")
WHERE = ("--tiny", "--device", "cpu", "--models", "linear")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["trainer_gpu.py", *WHERE, *arguments])
    trainer_gpu.main()


def rows_in(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())["trainer_gpu"]["rows"]


def test_it_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A call measures until its time is over; a row that fails is entered, and does not hold up the rest."""
    path, begun = tmp_path / "results" / "cpu.json", list[str]()

    def measured(row: trainer_gpu.Row, arguments: Any, limit: float) -> float:
        begun.append(row.key)
        if row.key == "linear fp32 cohort 1":
            raise RuntimeError("no such kernel")
        if len(begun) % 3 == 0:
            raise TimeoutError("took longer than 1 s")
        return 0.5

    monkeypatch.setattr(trainer_gpu, "measured", measured)
    call(monkeypatch, "--json", str(path))
    assert begun == ["linear fp32 script", "linear fp32 cohort 1", "linear fp32 cohort 2"]
    assert rows_in(path)["linear fp32 cohort 1"]["failed"] == "no such kernel"
    assert "linear fp32 cohort 2" not in rows_in(path)
    out = capsys.readouterr().out
    assert "time is over; run again to go on from linear fp32 cohort 2" in out
    assert "linear fp32 cohort 1" in out
    assert "failed: no such kernel" in out
    call(monkeypatch, "--json", str(path))
    assert begun[3:] == ["linear fp32 cohort 2", "linear fp32 cohort 4", "linear fp32 cohort 8"]
    call(monkeypatch, "--json", str(path), "--retry")
    assert begun[6] == "linear fp32 cohort 1"


def test_a_row_that_takes_a_whole_call_is_entered_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cpu.json"

    def measured(row: trainer_gpu.Row, arguments: Any, limit: float) -> float:
        assert limit < 120
        raise TimeoutError("took longer than its call")

    monkeypatch.setattr(trainer_gpu, "measured", measured)
    call(monkeypatch, "--json", str(path), "--seconds", "120")
    assert rows_in(path) == {"linear fp32 script": {"row": "linear fp32 script", "failed": "took longer than its call"}}


def test_without_a_device_every_one_of_its_columns_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    row = trainer_gpu.Row("resnet14", "fp32", "script")
    made = trainer_gpu.result(row, trainer_gpu.TINY, 2.0, {"bytes": 1e9, "fp32": 1e9})
    trainer_gpu.print_table({row.key: made}, CPU)
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith(trainer_gpu.MODELS)]
    assert len(table) == len(list(trainer_gpu.rows()))
    assert all("not measured" in line for line in table)
    assert table[0].split() == ["resnet14", "fp32", "script", "not", "measured", "48"]
    assert sum(line.endswith("x script: not measured") for line in lines) == 3


def test_the_table_of_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"bytes": 4e12, "fp32": 5e13, "bf16": 8e14}
    entered = {
        row.key: trainer_gpu.result(row, trainer_gpu.FULL, seconds, rates)
        for row, seconds in (
            (trainer_gpu.Row("resnet14", "fp32", "script"), 0.25),
            (trainer_gpu.Row("resnet14", "bf16", "script"), 0.2),
            (trainer_gpu.Row("resnet14", "bf16", "cohort 8"), 0.64),
        )
    }
    trainer_gpu.print_table(entered, torch.device("cuda"))
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("resnet14 bf16 cohort 8")]
    assert line.split()[4:9] == ["625,000", "0.816", "90.0", "2.50", "3.12"]
    assert "target, resnet14 bf16: 3.5 x script: 2.50, 90.0 of 90 models an hour" in out


@pytest.mark.slow
def test_rows_in_processes_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One alone, several that wait for each other, one that fails, and one that takes too long."""
    arguments = argparse.Namespace(device="cpu", tiny=True)
    assert trainer_gpu.measured(trainer_gpu.Row("linear", "fp32", "script"), arguments, 120) > 0
    assert trainer_gpu.measured(trainer_gpu.Row("linear", "fp32", "processes 2"), arguments, 120) > 0
    with pytest.raises(RuntimeError, match="precision 'tf32' needs a CUDA device"):
        trainer_gpu.measured(trainer_gpu.Row("linear", "tf32", "cohort 2"), arguments, 120)
    for method in ("script", "processes 2"):
        with pytest.raises(TimeoutError, match="longer than 1 s"):
            trainer_gpu.measured(trainer_gpu.Row("linear", "fp32", method), arguments, 1)

"""The benchmark of deterministic kernels, in miniature on the CPU: its parts, what it enters, going on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch

from popnet.engine.local import GPU_ENVIRONMENT

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import determinism

CPU = torch.device("cpu")
TINY = determinism.SIZES["tiny"]


def test_the_parts_of_a_row_on_a_cpu() -> None:
    row = determinism.Row("resnet14", "fp32")
    moved = determinism.measure(row, "moved_percent", TINY, CPU)
    assert moved["hardware"] is None
    assert [len(moved[twin]) for twin in ("reorder", "bit")] == [3, 3]
    assert moved["reorder"][0] == 0 < moved["reorder"][2] < 1
    times = determinism.measure(row, "step_by_step", TINY, CPU)
    assert times["epoch_seconds"]["deterministic"] > 0
    assert times["epoch_seconds"]["hardware"] is None
    assert times["deterministic_costs_percent"] is None


@pytest.mark.parametrize(("epoch_seconds", "epochs"), [(0.3, 1), (0.02, 8), (0.001, 50)])
def test_a_round_takes_about_half_a_second_on_a_gpu(
    epoch_seconds: float, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all three choices together; on a clock that stands still but for training."""
    now, trained = [0.0], list[tuple[str, int]]()

    def train(choice: str, slower: float) -> determinism.Train:
        def run(epochs: int) -> None:
            trained.append((choice, epochs))
            now[0] += slower * epochs * epoch_seconds

        return run

    monkeypatch.setattr(determinism, "seconds", lambda device: now[0])
    choices = {
        "deterministic": train("deterministic", 1.2),
        "reorder": train("reorder", 1.0),
        "hardware": train("hardware", 1.0),
    }
    times = determinism.epoch_times(choices, 3, torch.device("cuda"))
    assert determinism.costs(times)["deterministic_costs_percent"] == pytest.approx(20, abs=0.1)
    assert trained[6:9] == [(choice, epochs) for choice in ("deterministic", "reorder", "hardware")]
    assert trained[9][0] == "reorder"
    assert sum(epochs for choice, epochs in trained if choice == "hardware") < 10 * determinism.MOST_EPOCHS


def call(monkeypatch: pytest.MonkeyPatch, path: Path, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["determinism.py", "--tiny", "--device", "cpu", "--json", str(path), *arguments])
    monkeypatch.setattr(determinism.signal, "signal", lambda *_: None)
    determinism.main()


def test_each_part_is_entered_and_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, begun = tmp_path / "cpu.json", list[str]()

    def lines(command: list[str], environment: Any, keys: Any, limit: Any) -> Generator[dict[str, Any], None, None]:
        assert environment.items() >= {**os.environ, **GPU_ENVIRONMENT}.items()
        assert command[-len(keys) - 1 :] == ["--parts", *keys]
        for key in keys:
            if begun:
                row, part = determinism.row_and_part(begun[-1])
                assert part in json.loads(path.read_text())["determinism"]["rows"][row.key]
            begun.append(key)
            if key == "resnet14 bf16 step_by_step":
                raise RuntimeError("no such kernel")
            found = {"reorder": [0.0, 1.0, 2.0]} if key.endswith("moved_percent") else None
            times = {"epoch_seconds": dict.fromkeys(determinism.CHOICES, 0.5), "deterministic_costs_percent": 3.0}
            yield {"row": key, "found": found or times}

    monkeypatch.setattr(determinism, "lines", lines)
    call(monkeypatch, path)
    parts = ("moved_percent", "step_by_step")
    assert begun == [f"resnet14 {precision} {part}" for precision in ("bf16", "fp32") for part in parts]
    rows = json.loads(path.read_text())["determinism"]["rows"]
    assert rows["resnet14 bf16"]["step_by_step"] == {"failed": "no such kernel"}
    assert rows["resnet14 fp32"]["step_by_step"]["deterministic_costs_percent"] == 3.0
    out = capsys.readouterr().out
    assert "resnet14 bf16   step by step    failed: no such kernel" in out
    assert "+3.0 %" in out
    begun.clear()
    call(monkeypatch, path)
    assert begun == []
    call(monkeypatch, path, "--retry")
    assert begun == ["resnet14 bf16 step_by_step"]


def test_what_is_on_record_is_read_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(determinism.__file__).parent / "results" / "determinism.json"
    section = json.loads(path.read_text())["determinism"]
    sizes = determinism.SIZES["cpu"]
    assert section["sizes"] == vars(sizes)
    determinism.print_tables([determinism.Row("resnet14", p) for p in ("bf16", "fp32")], section["rows"], sizes)
    assert "2.717" in capsys.readouterr().out


@pytest.mark.slow
def test_a_row_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cpu.json"
    call(monkeypatch, path)
    rows = json.loads(path.read_text())["determinism"]["rows"]
    assert {row: list(parts) for row, parts in rows.items()} == {
        f"resnet14 {precision}": ["moved_percent", "step_by_step"] for precision in ("bf16", "fp32")
    }
    assert not any("failed" in part for parts in rows.values() for part in parts.values())

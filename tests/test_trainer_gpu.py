"""The GPU benchmark end to end, at sizes of seconds and without a GPU: its rows, its floor, its table, going on."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch

from popnet import models
from popnet.engine.local import GPU_ENVIRONMENT
from popnet.training.trainer import Trainer

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gpu_floor  # noqa: E402
import gpu_measure  # noqa: E402
import gpu_rows  # noqa: E402
import gpu_table  # noqa: E402
import trainer_gpu  # noqa: E402
from gpu_rows import FULL, TINY, Row  # noqa: E402
from results_file import machine  # noqa: E402

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


# ---- the floor -------------------------------------------------------------------------------------------------------


def test_the_floor_counts_what_the_notes_count() -> None:
    """ResNet-14 at batch 512: 4.3 to 4.5 GB in fp32, half of it in bf16, 81 GFLOP."""
    model = models.build("resnet14")
    assert gpu_floor.step_bytes(model, 512, "fp32") == pytest.approx(4.3e9, rel=0.05)
    assert gpu_floor.step_bytes(model, 512, "bf16") == pytest.approx(2.15e9, rel=0.05)
    assert gpu_floor.step_operations(model, 512) == pytest.approx(81e9, rel=0.02)


@pytest.mark.parametrize(
    ("bytes_a_second", "precision", "models_an_hour"),
    [(3.0e12, "tf32", 52), (3.0e12, "bf16", 104), (4.3e12, "tf32", 75), (4.3e12, "bf16", 149)],
)
def test_the_floor_of_a_card_follows_from_its_rates(bytes_a_second: float, precision: str, models_an_hour: int) -> None:
    """An H100's and an H200's, as gpu_floor.py and docs/performance.md say; the targets are shares of it."""
    rates = {"bytes": bytes_a_second, "tf32": 4e14, "bf16": 8e14, "fp32": 6e13}
    least = gpu_table.floor("resnet14", 512, precision, rates)
    assert round(gpu_floor.models_per_hour(least.by_bytes)) == models_an_hour
    assert least.seconds == least.by_bytes
    card = "NVIDIA H200" if bytes_a_second > 4e12 else "NVIDIA H100 80GB HBM3"
    share = {"tf32": 2 / 3, "bf16": 3 / 5}[precision]
    assert gpu_table.TARGET_MODELS[card][precision] == pytest.approx(share * models_an_hour, abs=1)
    in_fp32 = gpu_table.floor("resnet14", 512, "fp32", rates)
    assert (in_fp32.seconds == in_fp32.by_operations) == (card == "NVIDIA H200")


# ---- the rows --------------------------------------------------------------------------------------------------------


def test_the_rows_are_those_to_compare_the_most_valuable_first() -> None:
    keys = [row.key for row in gpu_rows.rows()]
    assert len(set(keys)) == len(keys)
    for model in gpu_rows.MODELS:
        for precision in ("fp32", "tf32", "bf16"):
            cohorts = [f"cohort {k}" for k in (1, 2, 4, 8, 16)]
            methods = ("script", "tuned", "compiled", *cohorts, "processes 4")
            assert all(f"{model} {precision} {method}" in keys for method in methods)
    assert {key for key in keys if "vmap" in key} == {
        f"{model} {precision} vmap {k}"
        for model in ("linear", "hidden_fc")
        for precision in ("fp32", "tf32", "bf16")
        for k in (16, 64)
    }
    cohorts = [f"resnet14 bf16 cohort {k}" for k in (1, 4, 16, 2, 8)]
    assert keys[:8] == ["resnet14 bf16 script", *cohorts, "resnet14 bf16 tuned", "linear bf16 script"]
    firsts = ("resnet14 bf16", "linear bf16", "hidden_fc bf16", "resnet14 tf32", "resnet14 fp32", "vgg11 bf16")
    positions = [keys.index(f"{first} script") for first in firsts]
    assert positions == sorted(positions)


def test_one_process_measures_all_cohorts_of_a_model_and_precision() -> None:
    """And both of vmap's sizes; all else has its own. Failures and popnet's environment stay among their own."""
    made = gpu_rows.groups(list(gpu_rows.rows()), CUDA)
    assert [row for group in made for row in group] == list(gpu_rows.rows())
    for group in made:
        assert len({(row.model, row.precision, row.kind) for row in group}) == 1
        assert len(group) == {"cohort": 5, "vmap": 2}.get(group[0].kind, 1)


def test_a_cpu_goes_through_every_kind_of_row_but_the_compiled_one() -> None:
    wanted = [row for row in gpu_rows.rows() if gpu_rows.measurable(row, CPU)]
    assert {row.kind for row in wanted} == {"script", "cohort", "tuned", "vmap", "processes"}
    assert {row.precision for row in wanted} == {"bf16", "fp32"}
    assert all(gpu_rows.measurable(row, CUDA) for row in gpu_rows.rows())


@pytest.mark.parametrize("method", ["script", "tuned", "vmap 4", "cohort 3", "processes 4"])
def test_every_kind_of_row_trains_on_the_cpu(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row("linear", "fp32", method)
    if row.kind not in gpu_rows.POPNETS:  # as `peers.plain_pytorch` does for a process
        monkeypatch.setattr(models.fully_connected, "_is_narrow", lambda layer, x: False)
    ((same, train),) = gpu_measure.trainings([row], TINY, CPU)
    assert same == row
    found = gpu_measure.measured(train, TINY, CPU)
    assert found["epoch_seconds"] > 0
    assert found["epochs_measured"] == 1


def test_cohorts_of_each_size_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[str, int]] = []
    monkeypatch.setattr(Trainer, "run", lambda self, until: trained.append((self.member.id, until)))
    cohorts = gpu_measure.Cohorts("linear", "fp32", TINY, CPU, slots=False)
    for count in (1, 3, 2):
        trained.clear()
        cohorts.training(count)(2)
        assert len({member for member, _ in trained}) == len(trained) == count
        assert {until for _, until in trained} == {2}


@pytest.mark.parametrize(
    ("epoch_seconds", "epochs", "total"),
    [(0.001, 900, 0.9), (0.01, 300, 3.0), (0.3, 9, 2.7), (0.8, 3, 2.4), (1.4, 2, 2.8), (4.0, 1, 4.0)],
)
def test_a_row_measures_about_three_seconds(
    epoch_seconds: float, epochs: int, total: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long its epoch is; on a clock that stands still but for training."""
    now, trained = [0.0], [0]

    def train(epochs: int) -> None:
        now[0] += epochs * epoch_seconds
        trained[0] += epochs

    monkeypatch.setattr(gpu_measure.time, "perf_counter", lambda: now[0])
    found = gpu_measure.measured(train, FULL, CPU)
    assert found["epoch_seconds"] == pytest.approx(epoch_seconds)
    assert found["epochs_measured"] == pytest.approx(epochs, abs=3)
    assert found["seconds_measured"] == pytest.approx(total, rel=0.1)
    assert trained[0] <= found["epochs_measured"] + 2 < 4 * gpu_measure.MOST_EPOCHS


def test_popnets_rows_have_its_workers_environment_and_peers_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for caller in ({}, dict.fromkeys(GPU_ENVIRONMENT, "9")):
        for name, value in caller.items():
            monkeypatch.setenv(name, value)
        for kind in ("cohort", "processes"):
            assert trainer_gpu.environment(kind).items() >= GPU_ENVIRONMENT.items()
        for kind in ("script", "tuned", "compiled", "vmap"):
            assert not trainer_gpu.environment(kind).keys() & GPU_ENVIRONMENT.keys()
            assert "PATH" in trainer_gpu.environment(kind)


# ---- a call, its time, and the next call -----------------------------------------------------------------------------


WHERE = ("--tiny", "--device", "cpu", "--models", "linear")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["trainer_gpu.py", *WHERE, *arguments])
    monkeypatch.setattr(trainer_gpu.signal, "signal", lambda *_: None)
    monkeypatch.setattr(trainer_gpu.Measurements, "rates", lambda self, limit: {"bytes": 1e9, "fp32": 1e9, "bf16": 1e9})
    trainer_gpu.main()


def rows_in(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())["trainer_gpu"]["rows"]


def test_it_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each row is in the file when the next begins; one that fails is entered, and does not hold up the rest."""
    path, begun = tmp_path / "results" / "cpu.json", list[str]()

    def measured(self: Any, keys: tuple[str, ...], limit: Any) -> Generator[dict[str, Any], None, None]:
        for key in keys:
            if begun:
                assert begun[-1] in rows_in(path)
            begun.append(key)
            if key == "linear bf16 cohort 1":
                raise RuntimeError("no such kernel")
            if key == "linear fp32 script":
                raise KeyboardInterrupt
            yield {"row": key, "epoch_seconds": 0.5, "epochs_measured": 6, "seconds_measured": 3.0}

    monkeypatch.setattr(trainer_gpu.Measurements, "rows", measured)
    with pytest.raises(KeyboardInterrupt):
        call(monkeypatch, "--json", str(path))
    kept = ["script", "cohort 1", "cohort 2", "vmap 16"]
    assert list(rows_in(path)) == [f"linear bf16 {method}" for method in kept]
    assert rows_in(path)["linear bf16 cohort 1"] == {"row": "linear bf16 cohort 1", "failed": "no such kernel"}
    assert rows_in(path)["linear bf16 script"]["images_per_second"] == 16
    out = capsys.readouterr().out
    assert "linear bf16 cohort 1" in out
    assert "failed: no such kernel" in out
    begun.clear()
    with pytest.raises(KeyboardInterrupt):
        call(monkeypatch, "--json", str(path))
    assert begun == ["linear fp32 script"]
    begun.clear()
    with pytest.raises(KeyboardInterrupt):
        call(monkeypatch, "--json", str(path), "--retry")
    assert begun == ["linear bf16 cohort 1", "linear fp32 script"]


def test_without_the_devices_rates_rows_are_measured_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cpu.json"

    def measured(self: Any, keys: tuple[str, ...], limit: Any) -> Generator[dict[str, Any], None, None]:
        for key in keys:
            yield {"row": key, "epoch_seconds": 0.5, "epochs_measured": 6, "seconds_measured": 3.0}

    def lost(self: Any, limit: Any) -> dict[str, float]:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(trainer_gpu.Measurements, "rows", measured)
    monkeypatch.setattr(sys, "argv", ["trainer_gpu.py", *WHERE, "--json", str(path)])
    monkeypatch.setattr(trainer_gpu.signal, "signal", lambda *_: None)
    monkeypatch.setattr(trainer_gpu.Measurements, "rates", lost)
    trainer_gpu.main()
    assert rows_in(path)["linear bf16 script"]["share_of_bandwidth_floor"] is None
    assert "rates were not measured, so that no floor is known: out of memory" in capsys.readouterr().out


# ---- the table -------------------------------------------------------------------------------------------------------


def section(device: torch.device, card: str, **entered: Any) -> dict[str, Any]:
    return {**(machine(device) if device.type == "cpu" else {}), "device": card, **entered}


def test_without_a_device_every_one_of_its_columns_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    row = Row("resnet14", "fp32", "script")
    made = gpu_table.result(row, TINY, {"epoch_seconds": 2.0}, {"bytes": 1e9, "fp32": 1e9})
    gpu_table.print_table(section(CPU, "a processor", rows={row.key: made}), CPU)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line.startswith(row.key)] == [
        ["resnet14", "fp32", "script", "not", "measured", "4"]
    ]
    named = {line.partition(":")[0] for line in lines if ": not measured: " in line}
    assert named == {f"{model} {precision}" for model in gpu_rows.MODELS for precision in gpu_rows.PRECISIONS}
    assert sum(line.endswith(": not measured") for line in lines) == 3 + 3 + 4


def on_a_card(card: str) -> dict[str, Any]:
    rates = {"bytes": 4.3e12, "fp32": 5e13, "tf32": 4e14, "bf16": 8e14}
    entered = {
        row.key: gpu_table.result(row, FULL, {"epoch_seconds": seconds, **more}, rates)
        for row, seconds, more in (
            (Row("resnet14", "fp32", "script"), 0.25, {}),
            (Row("resnet14", "bf16", "script"), 0.2, {}),
            (Row("resnet14", "bf16", "tuned"), 0.1, {}),
            (Row("resnet14", "bf16", "cohort 8"), 0.64, {}),
            (Row("resnet14", "bf16", "processes 4"), 0.8, {"sharing": "CUDA MPS"}),
        )
    }
    return section(CUDA, card, rates=rates, rows=entered)


def test_the_table_of_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    gpu_table.print_table(on_a_card("NVIDIA H200"), CUDA)
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("resnet14 bf16 cohort 8")]
    assert line.split()[4:] == ["627,200", "0.816", "90.0", "2.50", "1.25", "3.12", "60.3%", "12.3%"]
    (line,) = [line for line in out.splitlines() if line.startswith("resnet14 bf16 processes 4")]
    assert line.endswith("  CUDA MPS")
    assert "floor, resnet14 bf16: 149 models an hour by bytes (4.30 TB/s), 729 by operations (800 TFLOP/s); " in out
    assert "the best cohort reached 60% of it" in out
    assert "target, resnet14 bf16: 3.5 x script: 2.50" in out
    assert "target, resnet14 tf32: 1.7 x script: not measured" in out
    assert "target, resnet14 bf16 on NVIDIA H200: 90 models an hour: 90.0" in out
    assert "H100" not in out


def test_no_target_is_claimed_for_an_unknown_card(capsys: pytest.CaptureFixture[str]) -> None:
    gpu_table.print_table(on_a_card("NVIDIA B200"), CUDA)
    out = capsys.readouterr().out
    assert "floor, resnet14 bf16: 149 models an hour by bytes" in out
    assert "target, resnet14, models an hour: none is set for NVIDIA B200; see its floor" in out
    assert "H100" not in out
    assert "H200" not in out


# ---- in processes of their own ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rows_in_processes_of_their_own() -> None:
    """Rows of one process, several processes at once, one that fails, and one that takes too long."""
    measurements = trainer_gpu.Measurements(["--tiny", "--device", "cpu"])

    def found(*methods: str, precision: str = "fp32", limit: float = 120.0) -> list[dict[str, Any]]:
        keys = [f"linear {precision} {method}" for method in methods]
        made = list(measurements.rows(keys, lambda: limit))
        assert all(line["epoch_seconds"] > 0 for line in made)
        return made

    assert len(found("cohort 1", "cohort 2")) == 2
    assert "without CUDA MPS" in found("processes 2")[0]["sharing"]
    assert measurements.rates(lambda: 120.0).keys() == {"bytes", "fp32", "bf16"}
    with pytest.raises(RuntimeError, match="precision 'tf32' needs a CUDA device"):
        found("cohort 2", precision="tf32")
    for method in ("script", "processes 2"):
        with pytest.raises(TimeoutError, match="longer than 1 s"):
            found(method, limit=1.0)

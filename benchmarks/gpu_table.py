"""What is entered for a row of the GPU benchmark, and the table: ratios to the peers, shares of the floor, targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import groupby
from typing import Any

import torch
from gpu_floor import Floor, models_per_hour, step_bytes, step_operations
from gpu_rows import FULL, MODELS, PRECISIONS, Row, Sizes, rows

import popnet

Entry = dict[str, Any]

NOT_MEASURED = "not measured"
TARGETS = {"bf16": 3.5, "tf32": 1.7, "fp32": 1.3}
"""Times the script in the same precision, resnet14."""

TARGET_MODELS = {
    "NVIDIA H200": {"bf16": 90, "tf32": 50},
    "NVIDIA H100 80GB HBM3": {"bf16": 62, "tf32": 34},
}
"""Models an hour, resnet14, by the card's name: three fifths and two thirds of its floor (gpu_floor.py)."""


def floor(model: str, batch: int, precision: str, rates: Mapping[str, float]) -> Floor:
    """The floor of a step at the rates that `gpu_floor.rates` found."""
    moved, operations = _counts(model, batch, precision)
    return Floor(moved / rates["bytes"], operations / rates[precision])


@cache
def _counts(model: str, batch: int, precision: str) -> tuple[int, int]:
    built = popnet.models.build(model)
    return step_bytes(built, batch, precision), step_operations(built, batch)


def result(row: Row, sizes: Sizes, found: Mapping[str, Any], rates: Mapping[str, float]) -> Entry:
    """What is entered for a row.

    Args:
        found: of its process: `epoch_seconds`, of all its members, and how much was measured.
        rates: of the device; without them no share of the floor is known.
    """
    step = found["epoch_seconds"] / sizes.steps / row.members
    least = floor(row.model, sizes.batch, row.precision, rates) if rates else None
    return {
        "row": row.key,
        "images_per_second": round(sizes.batch / step),
        "step_milliseconds": round(1e3 * step, 4),
        "models_per_hour": round(models_per_hour(step), 2) if sizes == FULL else None,
        "share_of_bandwidth_floor": least and round(least.by_bytes / step, 3),
        "share_of_arithmetic_floor": least and round(least.by_operations / step, 3),
        **{name: value for name, value in found.items() if name != "row"},
    }


def print_table(section: Mapping[str, Any], device: torch.device) -> None:
    """The rows by model and precision, floors and targets, with `not measured` for what was not, or not on a GPU."""
    entered, on_cpu = section["rows"], device.type == "cpu"
    heads = {"images/s": 12, "ms/step/model": 15, "models/h": 10, "x script": 10, "x tuned": 10, "x fp32 script": 15}
    heads |= {"bandwidth": 11, "FLOP": 8}
    names = {"CPU, tiny: images/s": 40} if on_cpu else heads
    print(f"\n{'':<28}{''.join(f'{head:>{width}}' for head, width in names.items())}")
    in_order = sorted(rows(), key=lambda row: (MODELS.index(row.model), PRECISIONS.index(row.precision)))
    for (model, precision), same in groupby(in_order, lambda row: (row.model, row.precision)):
        missing = []
        for row in same:
            line = entered.get(row.key)
            if line is None:
                missing.append(row.method)
            elif "failed" in line:
                print(f"{row.key:<28}{'failed':>12}: {line['failed']}")
            elif on_cpu:
                print(f"{row.key:<28}{NOT_MEASURED:>14}{line['images_per_second']:>26,}{_sharing(line)}")
            else:
                print(_line(row, line, entered) + _sharing(line))
        if missing:
            print(f"{model} {precision}: {NOT_MEASURED}: {', '.join(missing)}")
    _print_floor(section, device)
    _print_targets(section, device)


def _line(row: Row, line: Entry, entered: Mapping[str, Entry]) -> str:
    models = "" if line["models_per_hour"] is None else f"{line['models_per_hour']:.1f}"
    others = f"{row.precision} script", f"{row.precision} tuned", "fp32 script"
    ratios = [_ratio(line, entered.get(f"{row.model} {other}")) for other in others]
    shares = [_share(line[f"share_of_{which}_floor"]) for which in ("bandwidth", "arithmetic")]
    return (
        f"{row.key:<28}{line['images_per_second']:>12,}{line['step_milliseconds']:>15.3f}{models:>10}"
        f"{ratios[0]:>10}{ratios[1]:>10}{ratios[2]:>15}{shares[0]:>11}{shares[1]:>8}"
    )


def _ratio(line: Entry, other: Entry | None) -> str:
    if other is None or "failed" in other:
        return ""
    return f"{line['images_per_second'] / other['images_per_second']:.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _sharing(line: Entry) -> str:
    """How processes shared the GPU."""
    return f"  {line['sharing']}" if "sharing" in line else ""


def _print_floor(section: Mapping[str, Any], device: torch.device) -> None:
    """Models an hour that resnet14 cannot exceed at the rates measured here, and how near the best cohort came."""
    print()
    rates = section.get("rates") if device.type == "cuda" else None
    for precision in PRECISIONS:
        if not rates:
            print(f"floor, resnet14 {precision}: {NOT_MEASURED}")
            continue
        least = floor("resnet14", FULL.batch, precision, rates)
        by_bytes, by_operations = models_per_hour(least.by_bytes), models_per_hour(least.by_operations)
        fastest = _best_cohort(section["rows"], precision, lambda line: line["images_per_second"])
        reached = fastest and fastest / FULL.batch * least.seconds
        print(
            f"floor, resnet14 {precision}: {by_bytes:.0f} models an hour by bytes ({rates['bytes'] / 1e12:.2f} TB/s), "
            f"{by_operations:.0f} by operations ({rates[precision] / 1e12:.0f} TFLOP/s); the best cohort reached "
            f"{NOT_MEASURED if reached is None else f'{reached:.0%} of it'}"
        )


def _print_targets(section: Mapping[str, Any], device: torch.device) -> None:
    entered, on_cpu = section["rows"], device.type == "cpu"
    for precision, target in TARGETS.items():
        fastest = None if on_cpu else _best_cohort(entered, precision, lambda line: line["images_per_second"])
        script = entered.get(f"resnet14 {precision} script", {}).get("images_per_second")
        reached = f"{fastest / script:.2f}" if fastest and script else NOT_MEASURED
        print(f"target, resnet14 {precision}: {target} x script: {reached}")
    card = section["device"]
    if not on_cpu and card not in TARGET_MODELS:
        print(f"target, resnet14, models an hour: none is set for {card}; see its floor")
    for name, targets in TARGET_MODELS.items():
        for precision, wanted in targets.items():
            if name == card or on_cpu:
                found = None if on_cpu else _best_cohort(entered, precision, lambda line: line["models_per_hour"])
                reached = NOT_MEASURED if found is None else f"{found:.1f}"
                print(f"target, resnet14 {precision} on {name}: {wanted} models an hour: {reached}")


def _best_cohort(entered: Mapping[str, Entry], precision: str, value: Callable[[Entry], float | None]) -> float | None:
    found = [
        value(line)
        for key, line in entered.items()
        if key.startswith(f"resnet14 {precision} cohort") and "failed" not in line
    ]
    return max((number for number in found if number is not None), default=None)

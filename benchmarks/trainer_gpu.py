"""Models an hour of one GPU: popnet's cohorts against what people write: a script, tuned, in processes, and by vmap.

    python benchmarks/trainer_gpu.py [--seconds 480] [--json benchmarks/results/GPU.json]
    python benchmarks/trainer_gpu.py --tiny --device cpu     the same from end to end, small, without a GPU

Images of CIFAR's shape, batch 512, random crop and flip, SGD with momentum, 98 steps an epoch. The rows, the most
valuable first (gpu_rows.py), bf16 before tf32 and fp32:

* script: what people write: one model, eager, PyTorch's batch norm, its own augmentation on the GPU, torch.optim.SGD.
* cohort K: K members of popnet in as many slots, each with its captured graphs; cohort 1 is one member.
* tuned: the script with channels-last, fused SGD, and the whole step in torch.compile's reduce-overhead mode.
* vmap K: the script's step for K models at once, as one batched program captured in a CUDA graph; without batch norm.
* processes K: as many processes, each with a cohort of 1, that share the GPU by CUDA MPS; the table says where not.
* compiled: the script with its forward pass under torch.compile.

Rows are measured in other processes: a cohort of each size in one, whose slots are opened once. popnet's have the
environment of its workers, the others have none of it. A row is warmed up, measured for about three seconds, and
entered in the JSON file at once, a failure too; so nothing is lost when a later one hangs or crashes. What stands there
is not measured again (`--retry`: failures are). A call ends after `--seconds`, and the row that it broke off is the
next call's first. A file holds one card's results, with one version of torch.

Times are those of whole epochs between two synchronisations. The floor (gpu_floor.py) is the larger of two times, that
of the bytes and that of the operations, at rates measured in the same run. Without a CUDA device the rows that a CPU
can go through are gone through, to see that they run; every column of the device then says `not measured`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from gpu_measure import print_rates, print_rows
from gpu_rows import FIRST_MODELS, FULL, MODELS, POPNETS, TINY, Row, Sizes, groups, measurable, rows
from gpu_table import print_table, result
from mps import mps
from results_file import ResultsFile, machine
from row_process import Limit, RowProcess, lines, measure_groups

from popnet.engine.local import GPU_ENVIRONMENT

ROW_SECONDS = 150.0
"""That a row may take, with the start of its process, compiling and opening slots."""


def environment(kind: str) -> dict[str, str]:
    """The variables of a row's process: those of popnet's workers for popnet's rows, and none of them for peers."""
    others = {name: value for name, value in os.environ.items() if name not in GPU_ENVIRONMENT}
    return {**others, **GPU_ENVIRONMENT} if kind in POPNETS else others


class Measurements:
    """How rows are measured, in processes of this program.

    Args:
        where: its arguments that say where and how much is measured.
    """

    def __init__(self, where: Sequence[str]) -> None:
        self._command = [sys.executable, __file__, *where]
        self._without_mps: str | None = None

    def rates(self, limit: Limit) -> dict[str, float]:
        """The device's rates (gpu_floor.py)."""
        with RowProcess([*self._command, "--rates"], environment("script")) as process:
            found = process.line(limit())
        return {name: value for name, value in found.items() if name != "row"}

    def rows(self, keys: Sequence[str], limit: Limit) -> Generator[dict[str, Any], None, None]:
        """What was found for each row in turn. Raises TimeoutError and RuntimeError as `RowProcess.line` does."""
        row = Row.of(keys[0])
        if row.kind == "processes":
            yield self.processes(row, limit)
        else:
            yield from lines([*self._command, "--rows", *keys], environment(row.kind), keys, limit)

    def processes(self, row: Row, limit: Limit) -> dict[str, Any]:
        """Several processes at once, by MPS where it is to be had; `sharing` says how."""
        if self._without_mps is None:
            with mps() as (variables, self._without_mps):
                if self._without_mps is None:
                    try:
                        found = self._at_once(row, variables, lambda: limit() / 2)
                        return {**found, "sharing": "CUDA MPS"}
                    except (RuntimeError, TimeoutError) as error:
                        self._without_mps = f"it failed: {error}"
        found = self._at_once(row, {}, limit)
        return {**found, "sharing": f"in turn, without CUDA MPS: {self._without_mps}"}

    def _at_once(self, row: Row, variables: Mapping[str, str], limit: Limit) -> dict[str, Any]:
        """They begin together, when all are warm, and train equally long: their rates add up."""
        one = Row(row.model, row.precision, "cohort 1")
        with ExitStack() as stack:
            command = [*self._command, "--beside", "--rows", one.key]
            started = [
                stack.enter_context(RowProcess(command, {**environment(row.kind), **variables}))
                for _ in range(row.members)
            ]
            for process in started:
                process.line(limit())
            for process in started:
                process.tell("go")
            found = [process.line(limit()) for process in started]
        return {
            "epoch_seconds": row.members / sum(1 / line["epoch_seconds"] for line in found),
            "epochs_measured": sum(line["epochs_measured"] for line in found),
            "seconds_measured": max(line["seconds_measured"] for line in found),
        }


def run_all(arguments: argparse.Namespace, device: torch.device, sizes: Sizes) -> None:
    """Measure what the file lacks, row by row, until the time is over."""
    ends = time.monotonic() + arguments.seconds
    file = ResultsFile(arguments.json)
    section = file.section("trainer_gpu", {**machine(device), "sizes": vars(sizes)})
    entered: dict[str, dict[str, Any]] = section["rows"]
    measurements = Measurements([*(["--tiny"] if arguments.tiny else []), "--device", arguments.device])
    models = arguments.models or (MODELS if device.type == "cuda" else FIRST_MODELS)
    wanted = [row for row in rows() if row.model in models and measurable(row, device)]

    def known(key: str) -> bool:
        return key in entered and not (key in again and "failed" in entered[key])

    def enter(key: str, found: dict[str, Any]) -> None:
        failed = "failed" in found
        again.discard(key)
        entered[key] = {"row": key, **found} if failed else result(Row.of(key), sizes, found, section.get("rates", {}))
        text = f"failed: {found['failed']}" if failed else f"{entered[key]['images_per_second']:,} images/s"
        file.write()
        print(f"{key:<28}{text}", flush=True)

    again = {key for key, line in entered.items() if "failed" in line} if arguments.retry else set()
    try:
        if "rates" not in section:
            try:
                section["rates"] = measurements.rates(lambda: min(ROW_SECONDS, arguments.seconds))
                file.write()
            except (RuntimeError, TimeoutError) as error:
                print(f"the device's rates were not measured, so that no floor is known: {error}", flush=True)
        made = [[row.key for row in group] for group in groups(wanted, device)]
        measure_groups(made, measurements.rows, known, enter, ends, arguments.row_seconds)
    finally:
        print_table(section, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="sizes of seconds, whose numbers mean nothing")
    parser.add_argument("--seconds", type=float, default=480.0, help="end after so long")
    parser.add_argument("--row-seconds", type=float, default=ROW_SECONDS, help="give up a row after so long")
    parser.add_argument("--models", nargs="*", choices=MODELS, help="only these; on a CPU the first three")
    parser.add_argument("--json", type=Path, help="go on from this file, and enter every row in it")
    parser.add_argument("--retry", action="store_true", help="measure again what failed")
    inner = parser.add_argument_group("for the processes that it starts")
    inner.add_argument("--rows", nargs="+", help="measure these rows, and print a line of JSON for each")
    inner.add_argument("--beside", action="store_true", help="with --rows: once warm, wait for a line to go on")
    inner.add_argument("--rates", action="store_true", help="measure the device's rates, and print them")
    arguments = parser.parse_args()
    device = torch.device(arguments.device, 0) if arguments.device == "cuda" else torch.device("cpu")
    sizes = TINY if arguments.tiny else FULL
    if arguments.rates:
        print_rates(sizes, device)
    elif arguments.rows:
        print_rows(arguments.rows, sizes, device, arguments.beside)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # and so its processes, too
        run_all(arguments, device, sizes)


if __name__ == "__main__":
    main()

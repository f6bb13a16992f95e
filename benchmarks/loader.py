"""Images a second of popnet's loaders, resident and FFCV's, against plain FFCV, PyTorch's DataLoader and tensors.

    python benchmarks/loader.py [--json benchmarks/results/loader.json]
    python benchmarks/loader.py --sizes CIFAR --rows "resident, NHWC" "DataLoader, no workers"

Every row (benchmarks/loader_rows.py) makes the same kind of epoch, in one run on one machine, from files in the page
cache to batches of normalised float32, in a new random order:

* CIFAR: 50,000 images of 32 pixels, random crop with 4 pixels of zero padding, flip; batches of 512.
* JPEG: 2,000 JPEGs of 256 pixels, random resized crop to 224, flip; batches of 64. `resident` and `tensor augmentation`
  begin with decoded pixels.

Each measurement is a process of its own, since FFCV sets its process's threads; it reads one epoch to compile and to
fill caches, then counts the best of some. Rounds of all rows alternate and the best of each counts, so that other work
on the machine harms none more than others. It still does harm: whoever needs both cores suffers most, which flatters
the ratio to the DataLoader. Trust runs in which 2 workers reach nearly twice the rate of none.

At CIFAR size the work is memory traffic: 3,072 bytes gathered and 12,288 written an image. `plain copying` does that
and nothing else; it is no floor: asking for lines ahead of their use, as the resident loader does, is a little faster.

What was learnt:

* The images are picked at random from 154 MB. Waiting for memory was a third of the time: asking for the next image
  while this one is worked on took one thread from 0.63 to 0.93 million images a second, and spreading the
  requests over the conversion matters: a burst fills the line buffers.
* A batch of 512 is 6 MB, more than the second-level cache. Asking for its lines ahead of the stores gained 13 %,
  stores past the caches lost 5 %. Batches that fit (64 images) run 1.3 times as fast, call overhead aside.
* GCC's own vectors for uint8 to float32 go through 16 bits; eight bytes at a time to 32 bits, the constants kept in
  registers: 1.2 to 1.6 million a second from cached images. 512-bit vectors gained nothing more.
* Assembling uint8 rows first and converting them in long loops costs one pass in the first-level cache and saves every
  branch per pixel; flipping three-channel rows by 16-byte shuffles makes a flip nearly free.
* Huge pages under the image set would gain up to another 20 % of the kernel (address translation), but shared memory
  is not given them by default.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import loader_rows as rows
import torch
from loader_rows import ROWS, SIZES
from results_file import cpu_model

EPOCHS = 5
"""That are timed in a process; the best counts."""


@dataclass(frozen=True)
class Target:
    """A ratio of two rows of a size that is to be reached."""

    size: str
    row: str
    baseline: str
    least: float

    def line(self, rates: Mapping[str, float]) -> str:
        ratio = rates[self.row] / rates[self.baseline]
        verdict = "reached" if ratio >= self.least else "MISSED"
        return f"{self.row} over {self.baseline}: {ratio:.2f}, target {self.least:g}: {verdict}"


TARGETS = (
    Target("CIFAR", rows.RESIDENT_NHWC, rows.DEFAULT_DATALOADER, 150),
    Target("CIFAR", rows.RESIDENT_NHWC, rows.PLAIN_NHWC, 10),
    Target("CIFAR", rows.RESIDENT_NCHW, rows.PLAIN_NCHW, 20),
    Target("CIFAR", rows.OURS, rows.PLAIN_NHWC, 0.9),
    Target("JPEG", rows.OURS, rows.PLAIN_NHWC, 0.9),
)


def measured(folder: Path, size: str, row: str, workers: int) -> float:
    """Images a second of a row's best epoch, in this process."""
    epoch_of = ROWS[row](folder, SIZES[size], workers)
    if "DataLoader" in row:
        return _rate_after_first_batch(epoch_of(0))
    for _ in epoch_of(0):
        pass
    return max(_rate(epoch_of, epoch) for epoch in range(1, 1 + EPOCHS))


def _rate(epoch_of: rows.Epoch, epoch: int) -> float:
    start = time.perf_counter()
    count = sum(epoch_of(epoch))
    return count / (time.perf_counter() - start)


def _rate_after_first_batch(batches: Iterator[int]) -> float:
    next(batches)
    start = time.perf_counter()
    count = sum(batches)
    return count / (time.perf_counter() - start)


def measured_elsewhere(folder: Path, size: str, row: str, workers: int) -> float:
    """The same, in a process of its own. Raises RuntimeError with what it said where it fails."""
    command = [sys.executable, __file__, "--measure", size, row, "--folder", str(folder), "--workers", str(workers)]
    environment = {**os.environ, "NUMBA_NUM_THREADS": str(workers)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{row} at {size} size failed:\n{result.stderr[-2000:]}")
    return float(result.stdout.split()[-1])


def table(size: str, rates: Mapping[str, float]) -> str:
    baselines = [name for name in (rows.DEFAULT_DATALOADER, rows.PLAIN_NHWC) if name in rates]
    heads = "".join(f"{'of ' + name:>27}" for name in baselines)
    lines = [f"{size + ' size':<28}{'images/s':>12}{heads}"]
    for name, rate in rates.items():
        ratios = "".join(f"{rate / rates[baseline]:>27.2f}" for baseline in baselines)
        lines.append(f"{name:<28}{rate:>12,.0f}{ratios}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2, help="threads or processes of every row")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all rows; the best of each counts")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help="default: all")
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    parser.add_argument("--measure", nargs=2, metavar=("SIZE", "ROW"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(measured(arguments.folder, *arguments.measure, arguments.workers))
        return

    print(f"{cpu_model()}, {os.cpu_count()} cores, {arguments.workers} workers, torch {torch.__version__}")
    found: dict[str, dict[str, float]] = {}
    verdicts = []
    for size in arguments.sizes:
        rates = found[size] = defaultdict(float)
        with tempfile.TemporaryDirectory() as temporary:
            rows.write_images(Path(temporary), SIZES[size])
            for _ in range(arguments.rounds):
                for row in arguments.rows:
                    rates[row] = max(rates[row], measured_elsewhere(Path(temporary), size, row, arguments.workers))
        chosen = [t for t in TARGETS if t.size == size and {t.row, t.baseline} <= set(rates)]
        verdicts += [f"{size} size: {target.line(rates)}" for target in chosen]
        print(f"\n{table(size, rates)}")
    print("\n" + "\n".join(verdicts))

    if arguments.json:
        result = {
            "benchmark": "loader",
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "workers": arguments.workers,
            "torch": torch.__version__,
            "images_per_second": {size: {name: round(rate) for name, rate in r.items()} for size, r in found.items()},
            "targets": verdicts,
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

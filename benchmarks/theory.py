"""Every statistic of popnet.metrics.theory on 60,000 members x 10,000 examples, in seconds and peak memory.

    python benchmarks/theory.py [--members 60000] [--examples 10000] [--json benchmarks/results/theory.json]

The population is imagined: ten classes, 94.3% accuracy, example difficulties that leave most examples always right, as
in Jordan (2024). It takes 75 MB as packed error bits and 600 MB as a byte of argmax for each prediction. The target is
all statistics together in under 2 minutes and 2 GB on 2 cores, argmax bytes included.

The baseline is what one writes in NumPy without thinking of the size, on the error bits as bool, timed on a part of the
population and scaled by the ratio of the work (column "of which run"). All pairs by `np.cov` would need 5 GB and
leave-one-out by repetition an hour; no baseline is given where the plain way is the same.

What was learnt:
* Summing 255 members' bits as bytes before widening makes counting by example as fast as unpacking (0.1 s for 6e8
  bits).
* Leaving out one member or one example changes Theorem 2's estimate by a term that a matrix-vector product gives for
  all of them at once: the jackknife costs one pass. Its sums are integers below 2^53, so threads cannot change them.
* |Cov(i, j)| <= SD_i SD_j rules out most pairs of a good classifier; what is left is a matrix product of bits in
  float32, exact up to 2^24. The worst case, errors by the flip of a coin, rules out none.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from popnet.metrics import theory

TARGET_SECONDS, TARGET_GB = 120.0, 2.0
CLASSES = 10


def imagined_population(members: int, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Predicted classes, uint8 [members, examples], and labels, of a calibrated training with independent errors."""
    rng = np.random.default_rng(1)
    first = rng.integers(0, CLASSES, examples)
    second = (first + rng.integers(1, CLASSES, examples)) % CLASSES
    share = np.where(rng.random(examples) < 0.74, 1.0, 1 - rng.beta(0.35, 1.2, examples))  # of votes for the first
    labels = np.where(rng.random(examples) < share, first, second)
    predictions = np.empty((members, examples), np.uint8)
    for start in range(0, members, 500):
        block = predictions[start : start + 500]
        block[:] = np.where(rng.random(block.shape, np.float32) < share, first, second)
    return predictions, labels


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def measure(predictions: np.ndarray, labels: np.ndarray) -> tuple[list[tuple[str, float]], theory.PackedErrors]:
    """Seconds of each statistic, and the packed bits."""
    rows: list[tuple[str, float]] = []

    def run(name: str, work: Callable[[], Any]) -> Any:
        seconds, result = timed(work)
        rows.append((name, seconds))
        return result

    bits = run("pack error bits", lambda: theory.PackedErrors.from_predictions(predictions, labels))
    run("variance on the test set", lambda: theory.observed_variance(bits))
    run("independent-errors SD", lambda: theory.independent_errors_sd(bits))
    run("independent-errors distribution", lambda: theory.independent_errors_distribution(bits))
    run("independent-errors sample", lambda: theory.independent_errors_sample(bits, bits.members))
    run("distribution-wise variance", lambda: theory.distribution_variance(bits))
    run("its jackknife interval", lambda: theory.distribution_variance_interval(bits))
    run("its bootstrap interval (1,000)", lambda: theory.distribution_variance_interval(bits, "bootstrap"))
    run("split halves and lucky gain", lambda: theory.split_halves(bits))
    run("correlation of test sets", lambda: theory.correlations({"a": bits, "b": bits, "c": bits}))
    run("pairs beyond 0.02", lambda: theory.dependent_pairs(bits))
    coins = np.random.default_rng(2).integers(0, 256, (bits.members, bits.examples // 8), np.uint8)
    flips = theory.PackedErrors(coins, 8 * coins.shape[1])
    run("the same, none ruled out", lambda: theory.dependent_pairs(flips))
    run("votes", lambda: theory.votes(predictions, CLASSES))
    run("calibration curves", lambda: theory.class_calibration(predictions, labels))
    run("disagreement = error", lambda: theory.disagreement_check(predictions, labels))
    run("511 binary tasks", lambda: theory.binary_tasks(predictions, labels))
    return rows, bits


def baselines(predictions: np.ndarray, labels: np.ndarray) -> dict[str, tuple[float, str]]:
    """Seconds of the plain way, scaled to the whole population, and how much of it was run."""
    members, examples = predictions.shape
    part = max(members // 20, 2)
    errors = predictions[:part] != labels
    result: dict[str, tuple[float, str]] = {}

    def plain_variance() -> float:
        return errors.mean(axis=1).var(ddof=1) - errors.var(axis=0, ddof=1).sum() / examples**2

    seconds, _ = timed(plain_variance)
    result["distribution-wise variance"] = (seconds * members / part, "1/20 of members")
    result["its jackknife interval"] = (seconds * (members / part) * (members + examples), "1 of n + R repetitions")
    result["its bootstrap interval (1,000)"] = (seconds * members / part * 1000, "1 of 1,000 resamples")
    few = min(500, examples)
    seconds, _ = timed(lambda: np.cov(errors[:, :few], rowvar=False))
    scaled = seconds * members / part * (examples / few) ** 2
    result["the same, none ruled out"] = (scaled, f"{few} examples, 1/20 of members")
    sides = np.arange(CLASSES) % 2 == 1
    seconds, _ = timed(lambda: (sides[predictions[:part]] != sides[labels]).sum(axis=1).var(ddof=1))
    result["511 binary tasks"] = (seconds * members / part * 511, "1 task, 1/20 of members")
    seconds, _ = timed(lambda: [np.bincount(column, minlength=CLASSES) for column in predictions[:part].T])
    result["votes"] = (seconds * members / part, "1/20 of members")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=60_000)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    predictions, labels = imagined_population(options.members, options.examples)
    rows, bits = measure(predictions, labels)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    total = sum(seconds for _, seconds in rows)
    plain = baselines(predictions, labels)
    error = bits.member_counts().mean() / bits.examples
    print(f"{bits.members:,} members x {bits.examples:,} examples, {CLASSES} classes, mean error {100 * error:.2f}%")
    print(f"{'statistic':34}{'seconds':>9}{'plain NumPy':>14}  of which run")
    for name, seconds in rows:
        baseline, part = plain.get(name, (float("nan"), ""))
        print(f"{name:34}{seconds:9.2f}" + (f"{baseline:13,.0f} s  {part}" if part else ""))
    print(f"{'all':34}{total:9.2f}   target {TARGET_SECONDS:.0f} s: {'met' if total < TARGET_SECONDS else 'MISSED'}")
    print(f"{'peak memory, GB':34}{peak:9.2f}   target {TARGET_GB:.0f} GB: {'met' if peak < TARGET_GB else 'MISSED'}")
    if options.json:
        record = {
            "machine": f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores",
            "numpy": np.__version__,
            "members": bits.members,
            "examples": bits.examples,
            "seconds": dict(rows),
            "total_seconds": total,
            "peak_gb": peak,
            "plain_numpy_seconds_extrapolated": {name: seconds for name, (seconds, _) in plain.items()},
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

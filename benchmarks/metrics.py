"""The metric engine at 1,000 members x 10,000 examples x 10 classes, against SciPy and the released algorithm.

    python benchmarks/metrics.py [--members 1000] [--json benchmarks/results/metrics.json] [--skip-stream]

The population is imagined (seeded): logits share a signal and differ by noise; about 80% accuracy, 20% disagreement.

Targets, on 2 cores: all of `variability` within 6 s and 3 GB beyond the input; Spearman at least 1,500 times as fast as
`scipy.stats.spearmanr` over pairs, and all of `variability` at least 1,500 times as fast as the released program's
algorithm (for every pair: argsort ranks and their correlation, mean logits, argmax) in torch on the same cores. Both
baselines are timed on a sample of pairs and scaled to all of them. 10,000 members streamed from files, one for each
member: memory below 2 GB, time linear in members; each size runs in a process of its own, whose peak memory is shown.

Language models: 100 members x 82,430 tokens, the treebank's test part, the ensembles of all pairs against NumPy.

Floors, printed as the share that is reached, each over a rate measured in the same run: bytes that must come from
memory over that of a copy; bytes that a sort moves within the cache over that of a copy of a member's size; operations
over that of the vendor's matrix product in the same precision; divisions over that of dividing arrays in the cache.

    member scores       22 fused multiply-adds (exp) per logit, float64
    votes               12 bytes per member and example
    Spearman            104 bytes in cache per logit: keys written, three radix passes over 8-byte items, 16-byte sums
    Pearson             one float64 division per logit
    ensemble accuracy   for disagreeing pairs and examples, an addition and a maximum per class, float32
    ensemble loss       for all pairs and examples, a fused multiply-add per class, float64
    bootstrap           one Philox block (about 60 integer operations) per 4 draws; shown in nanoseconds per draw
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

import popnet
from popnet import metrics, native
from popnet.metrics.inputs import thread_count

EXAMPLES, CLASSES = 10_000, 10
TARGET_SECONDS, TARGET_GB, TARGET_RATIO, TARGET_STREAM_GB = 6.0, 3.0, 1500, 2.0
STREAM_SIZES = (2500, 5000, 10_000)

console = Console()


def imagined_population(members: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """float32 [members, EXAMPLES, CLASSES] and labels."""
    labels, signal = _signal()
    logits = torch.empty(members, EXAMPLES, CLASSES)
    for member in range(members):
        logits[member] = imagined_member(member, signal)
    return logits.to(device), labels.to(device)


def imagined_member(member: int, signal: torch.Tensor) -> torch.Tensor:
    return signal + torch.randn(signal.shape, generator=torch.Generator().manual_seed(member + 1))


def _signal() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (EXAMPLES,), generator=generator)
    signal = 2 * torch.randn(EXAMPLES, CLASSES, generator=generator)
    signal[torch.arange(EXAMPLES), labels] += 5.0
    return labels, signal


def timed(work: Callable[[], Any], repeats: int = 1, device: str = "cpu") -> tuple[float, Any]:
    """The least seconds of `repeats` runs, and the last result."""
    best, result = math.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best, result


def peak_gb() -> float:
    """Of this process's own memory; ru_maxrss would be inherited from the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def rates(device: str, threads: int) -> dict[str, float]:
    """What this machine does: bytes copied, and multiply-adds of matrix products, per second."""
    source = torch.empty(1 << 26, device=device).fill_(1.0)
    target = torch.empty_like(source)
    seconds, _ = timed(lambda: target.copy_(source), 5, device)
    result = {"copy_bytes": 2 * source.numel() * 4 / seconds}
    for name, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        side = 2048 if device == "cpu" else 8192
        a = torch.rand(side, side, dtype=dtype, device=device)
        seconds, _ = timed(lambda a=a: a @ a, 3, device)
        result[f"{name}_fma"] = side**3 / seconds
    a, b = (
        torch.rand(EXAMPLES * CLASSES if device == "cpu" else 1 << 26, dtype=torch.float64, device=device) for _ in "ab"
    )
    torch.set_num_threads(1)
    seconds, _ = timed(lambda: b.copy_(a), 50, device)
    result["cache_bytes"] = (threads if device == "cpu" else 1) * 16 * a.numel() / seconds
    b.fill_(0.7)
    seconds, _ = timed(lambda: torch.div(a, b, out=a), 50, device)
    result["divisions"] = (threads if device == "cpu" else 1) * a.numel() / seconds
    torch.set_num_threads(threads)
    return result


def kernels(z: torch.Tensor, y: torch.Tensor, threads: int) -> list[dict[str, Any]]:
    """Each kernel alone: seconds, and the share of its floor."""
    device = z.device.type
    machine = rates(device, threads)
    members, values = len(z), EXAMPLES * CLASSES
    pairs = members * (members - 1) / 2
    scores = native.member_scores(z, y, threads=threads)
    votes = torch.zeros((EXAMPLES, CLASSES), dtype=torch.int64, device=z.device)
    sums = torch.zeros((values, 2), dtype=torch.int64, device=z.device)
    vectors = z.view(members, values)
    products = torch.zeros((members, members), dtype=torch.float64, device=z.device)
    draws = torch.randint(0, 1 << 40, (2, members), device=z.device)
    disagreement = metrics.disagreement(z, threads=threads) / 100
    shares = {
        "bytes": lambda amount: amount / machine["copy_bytes"],
        "cache bytes": lambda amount: amount / machine["cache_bytes"],
        "divisions": lambda amount: amount / machine["divisions"],
        "float32": lambda amount: amount / (2 * machine["float32_fma"]),
        "float64": lambda amount: amount / machine["float64_fma"],
    }
    add = native.add_unit_vectors
    work: list[tuple[str, Callable[[], Any], str, float]] = [
        ("member scores", lambda: native.member_scores(z, y, threads=threads), "float64", 22 * members * values),
        (
            "votes",
            lambda: native.add_votes(votes, scores.predictions, threads=threads),
            "bytes",
            12 * members * EXAMPLES,
        ),
        ("Spearman", lambda: add(sums, vectors, ranks=True, threads=threads), "cache bytes", 104 * members * values),
        ("Pearson", lambda: add(sums, vectors, ranks=False, threads=threads), "divisions", members * values),
        (
            *("ensemble accuracy", lambda: native.ensemble_gain(z, y, threads=threads)),
            *("float32", 2 * pairs * EXAMPLES * disagreement * CLASSES),
        ),
        (
            *("ensemble loss", lambda: native.add_ensemble_log_products(products, z, threads=threads)),
            *("float64", pairs * EXAMPLES * CLASSES),
        ),
        (
            *("bootstrap", lambda: native.bootstrap_deviations(draws, resamples=10_000, seed=1, threads=threads)),
            *("", 0.0),
        ),
    ]
    rows = []
    for name, call, resource_name, amount in work:
        seconds, _ = timed(call, 3, device)
        row = {"kernel": name, "seconds": seconds, "floor_of": resource_name}
        if resource_name:
            row["share_of_floor"] = shares[resource_name](amount) / seconds
        else:
            row["ns_per_draw"] = seconds * 1e9 / (2 * members * 10_000)
        rows.append(row)
    return [*rows, {"kernel": "machine", **machine}]


def released_pair(a: torch.Tensor, b: torch.Tensor, y: torch.Tensor) -> tuple[float, float, float]:
    """One pair as the released program evaluates it: ranks by argsort twice, mean logits, argmax; in torch."""

    def ranks(logits: torch.Tensor) -> torch.Tensor:
        order = logits.reshape(-1).argsort()
        result = torch.empty_like(order)
        result[order] = torch.arange(len(order))
        return result.double()

    rank_a, rank_b = ranks(a), ranks(b)
    rank_a, rank_b = rank_a - rank_a.mean(), rank_b - rank_b.mean()
    rho = float((rank_a * rank_b).sum() / (rank_a.norm() * rank_b.norm()))
    prediction_a, prediction_b = a.argmax(1), b.argmax(1)
    differing = float((prediction_a != prediction_b).double().mean())
    pair = float((((a + b) / 2).argmax(1) == y).double().mean())
    return rho, differing, pair - float(((prediction_a == y).double().mean() + (prediction_b == y).double().mean()) / 2)


def baselines(z: torch.Tensor, y: torch.Tensor, sample: int = 12) -> dict[str, float]:
    """Seconds for all pairs, scaled from `sample` pairs."""
    members = len(z)
    scale = members * (members - 1) / 2 / sample
    arrays = z.numpy().reshape(members, -1)
    chosen = [(i, members - 1 - i) for i in range(sample)]
    released_pair(z[0], z[1], y)
    spearmanr(arrays[0], arrays[1])
    scipy_seconds, _ = timed(lambda: [spearmanr(arrays[i], arrays[j]).statistic for i, j in chosen])
    released_seconds, _ = timed(lambda: [released_pair(z[i], z[j], y) for i, j in chosen])
    return {
        "sampled_pairs": sample,
        "scipy_seconds_scaled": scipy_seconds * scale,
        "released_seconds_scaled": released_seconds * scale,
    }


def write_members(folder: Path, members: int) -> None:
    labels, signal = _signal()
    np.save(folder / "labels.npy", labels.numpy())
    (folder / "runs").mkdir()
    for member in range(members):
        np.save(folder / "runs" / f"run_{member}.npy", imagined_member(member, signal).numpy())


def stream(folder: Path) -> None:
    """In a process of its own: measures a folder of members, prints seconds and peak memory as JSON."""
    idle = peak_gb()
    seconds, table = timed(lambda: popnet.measure(folder / "runs", folder / "labels.npy"))
    row = table.iloc[0]
    result = {"members": int(row["members"]), "seconds": seconds, "peak_gb": peak_gb(), "idle_gb": idle}
    names = ("spearman", "ensemble_delta", "ensemble_delta_error", "ensemble_pairs")
    print(json.dumps(result | {name: float(row[name]) for name in names}))


def streamed(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """The first `size` of the same files, each size in a process of its own."""
    results = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/tmp")) as name:
        folder = Path(name)
        write_members(folder, max(sizes))
        for size in sizes:
            part = folder / f"first_{size}"
            (part / "runs").mkdir(parents=True)
            shutil.copy(folder / "labels.npy", part)
            for member in range(size):
                os.link(folder / "runs" / f"run_{member}.npy", part / "runs" / f"run_{member}.npy")
            command = [sys.executable, __file__, "--stream", str(part)]
            results.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return results


def command_line() -> dict[str, float]:
    """Seconds from the shell for a 100 x 10,000 x 10 .npy."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        z, y = imagined_population(100)
        np.save(folder / "logits.npy", z.numpy())
        np.save(folder / "labels.npy", y.numpy())
        program = Path(sys.executable).parent / "popnet"
        command = [str(program), "measure", str(folder / "logits.npy"), "--labels", str(folder / "labels.npy")]
        seconds, done = timed(lambda: subprocess.run(command, capture_output=True, text=True))
        seconds = min(seconds, timed(lambda: subprocess.run(command, capture_output=True, text=True))[0])
        return {"seconds": seconds, "exit_code": done.returncode}


def language(members: int = 100, tokens: int = 82_430, sample: int = 20) -> dict[str, float]:
    """A population of language models at the treebank's size; its ensembles of all pairs against NumPy's logaddexp.

    NumPy is timed on a sample of pairs and scaled to all.
    """
    random = np.random.default_rng(1)
    shared, own = random.exponential(4.0, tokens), random.uniform(0.7, 1.3, (members, tokens))
    values = (-shared * own).astype(np.float32)
    words = random.integers(0, 10, (members, tokens)).astype(np.int32)

    def pair(i: int, j: int) -> float:
        mean = np.logaddexp(values[i].astype(np.float64), values[j].astype(np.float64)) - math.log(2.0)
        return float(np.exp(-mean.mean()))

    everything, row = timed(lambda: metrics.language_variability(values, words), 2)
    ensembles, _ = timed(lambda: metrics.ensemble_perplexity_delta(values), 3)
    numpy_seconds, _ = timed(lambda: [pair(i, i + 1) for i in range(sample)], 2)
    scaled = numpy_seconds / sample * row.ensemble_pairs
    return {
        "members": members,
        "tokens": tokens,
        "pairs": row.ensemble_pairs,
        "language_variability_seconds": everything,
        "ensembles_seconds": ensembles,
        "numpy_seconds_scaled": scaled,
        "times_numpy": scaled / ensembles,
    }


def show_kernels(rows: list[dict[str, Any]], title: str) -> None:
    table = Table("kernel", "seconds", "floor", "share of floor", title=title, title_justify="left")
    for row in rows[:-1]:
        share = (
            f"{100 * row['share_of_floor']:.0f} %" if "share_of_floor" in row else f"{row['ns_per_draw']:.2f} ns/draw"
        )
        table.add_row(row["kernel"], f"{row['seconds']:.3f}", row["floor_of"], share)
    console.print(table)
    machine = rows[-1]
    console.print(
        f"measured: copy {machine['copy_bytes'] / 1e9:.1f} GB/s, in cache {machine['cache_bytes'] / 1e9:.0f} GB/s;"
        f" multiply-adds {machine['float32_fma'] / 1e9:.0f} G/s in float32, {machine['float64_fma'] / 1e9:.0f} float64;"
        f" divisions {machine['divisions'] / 1e9:.1f} G/s"
    )


def show_summary(result: dict[str, Any]) -> None:
    table = Table("what", "measured", "target", title="Summary", title_justify="left")
    table.add_row("all of variability, s", f"{result['variability_seconds']:.2f}", f"<= {TARGET_SECONDS:g}")
    table.add_row("memory beyond the input, GB", f"{result['extra_gb']:.2f}", f"<= {TARGET_GB:g}")
    table.add_row("times scipy.stats.spearmanr", f"{result['times_scipy']:,.0f}", f">= {TARGET_RATIO:,}")
    table.add_row("all of variability, times the released", f"{result['times_released']:,.0f}", f">= {TARGET_RATIO:,}")
    for row in result.get("streamed", []):
        table.add_row(
            f"{row['members']:,} members from files, s",
            f"{row['seconds']:.1f}, {row['peak_gb']:.2f} GB",
            "< 2 GB, linear",
        )
    words = result["language"]
    size = f"{words['members']} language models x {words['tokens']:,} tokens"
    table.add_row(f"{size}, s", f"{words['language_variability_seconds']:.2f}", "")
    table.add_row("their ensembles of two, times NumPy", f"{words['times_numpy']:,.0f}", "")
    if result.get("command_line", {}).get("exit_code") == 0:
        table.add_row("popnet measure, 100 members, s", f"{result['command_line']['seconds']:.2f}", "< 3")
    console.print(table)


def resident(members: int) -> dict[str, Any]:
    """Everything that is measured on logits in memory, printed and returned."""
    threads = thread_count(None)
    z, y = imagined_population(members)
    before = peak_gb()
    seconds, row = timed(lambda: metrics.variability(z, y, threads=threads), 2)
    result: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {threads} cores, AVX-512: "
        f"{torch.backends.cpu.get_cpu_capability()}",
        "load_before": os.getloadavg()[0],
        "members": members,
        "variability": row.as_dict(),
        "variability_seconds": seconds,
        "extra_gb": peak_gb() - before,
    }
    spearman_seconds, _ = timed(lambda: metrics.spearman(z, threads=threads), 2)
    result |= baselines(z, y)
    result["spearman_seconds"] = spearman_seconds
    result["times_scipy"] = result["scipy_seconds_scaled"] / spearman_seconds
    result["times_scipy_by_all_of_variability"] = result["scipy_seconds_scaled"] / seconds
    result["times_released"] = result["released_seconds_scaled"] / seconds
    result["kernels"] = kernels(z, y, threads)
    show_kernels(result["kernels"], f"{members:,} members, {threads} threads")
    if torch.cuda.is_available() and native.cuda_compiled:
        cuda_z, cuda_y = z.cuda(), y.cuda()
        metrics.variability(cuda_z, cuda_y)
        result["cuda_device"] = torch.cuda.get_device_name()
        result["cuda_variability_seconds"], cuda_row = timed(lambda: metrics.variability(cuda_z, cuda_y), 3, "cuda")
        result["cuda_equals_cpu"] = cuda_row == row
        result["cuda_kernels"] = kernels(cuda_z, cuda_y, threads)
        show_kernels(result["cuda_kernels"], f"the same on {result['cuda_device']}")
        console.print(
            f"all of variability {result['cuda_variability_seconds']:.3f} s, bits equal to the CPU's: {cuda_row == row}"
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--skip-stream", action="store_true", help="leave out the files, which take 4 GB of disk")
    parser.add_argument("--stream", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stream:
        stream(arguments.stream)
        return
    result = resident(arguments.members)
    result["language"] = language()
    if not arguments.skip_stream:
        result["streamed"] = streamed(STREAM_SIZES)
    if (Path(sys.executable).parent / "popnet").exists():
        result["command_line"] = command_line()
    result["load_after"] = os.getloadavg()[0]
    show_summary(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

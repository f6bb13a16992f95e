"""What the engine costs for each member: thousands of tiny trainings through the local and the Ray executor.

    python benchmarks/engine.py [--members 10000] [--json benchmarks/results/engine.json]

A member is a linear model that sees 32 images in one step: next to no training, so what remains is the engine: handing
out the job, building the trainer, digests, writing the predictions (two flushes to disk), the ledger (one flush),
progress. The baseline, in the same run, trains such members one after the other in a plain loop on one core, without
engine or store. What a member takes beyond the baseline is given twice, starts of the workers not counted:

* overhead: of the cores' time, used or not (wall time x workers / members): what the target is set on. Other
  programs on the same cores make it larger.
* processor: of the time that the driver, the workers and Ray's own processes computed. Other programs hardly change it.
  What the overhead is larger by is waiting: for the disk, for each other, for other programs.

The driver's memory is read after each tenth of the members, and so is the size of the ledger. The last column repeats
the run on the full store: what it costs to see that nothing is missing.

What was learnt:

* Closing SQLite's last connection moves its log into the database, with two flushes: the driver keeps one connection
  while it holds the store.
* Members that end together are entered together: one flush for all of them. The more workers, the more that is.
* Ray takes 2 ms for a call whose results stream back; a worker's words that come together travel together.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from loader import cpu_model

import popnet
from popnet.config import from_mapping
from popnet.engine.progress import Silent
from popnet.engine.sharing import load_component, share
from popnet.training.trainer import Trainer

TARGET_MS = 20.0
FLAT_MB = 32.0
"""The driver's memory may grow by so much from the first tenth of the members to the last."""


def tiny(members: int) -> popnet.Experiment:
    data = {"train": 32, "test": 16, "height": 4, "width": 4, "classes": 2}
    return from_mapping(
        {
            "name": "engine",
            "population": members,
            "variants": [{"name": "init", "vary": ["init"]}],
            "recipe": {
                "dataset": {"name": "synthetic", "kwargs": data},
                "model": "linear",
                "epochs": 1,
                "batch_size": 32,
                "optimizer": {"name": "sgd", "lr": 0.1},
            },
        }
    )


def training_seconds(members: int) -> tuple[float, float]:
    """Seconds of one such training, and those of them that its process computed; without engine or store."""
    experiment = tiny(members)
    dataset: Any = load_component(experiment.recipe.dataset)
    train, test = share(dataset, "").attach()
    torch.set_num_threads(1)
    planned = popnet.plan(experiment)
    start, computed = time.perf_counter(), time.process_time()
    for member in planned.members:
        trainer = Trainer(member, train, test, dataset.classes, planned.views[member.id])
        trainer.run()
        trainer.predictions()
    return (time.perf_counter() - start) / members, (time.process_time() - computed) / members


def processor_seconds() -> float:
    """What this process and all that it started have computed until now, with what they have seen the end of."""
    spent, parents = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])
            spent[int(folder.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def started_here(process: int) -> bool:
        return process == os.getpid() or (process in parents and started_here(parents[process]))

    return sum(seconds for process, seconds in spent.items() if started_here(process))


class Watch(Silent):
    """The driver's memory and the ledger's size after each tenth of the members; the time from first to last."""

    def __init__(self, store: Path, members: int) -> None:
        self.store, self.members, self.every, self.done = store, members, max(members // 10, 1), 0
        self.memory: list[float] = []
        self.ledger: list[float] = []
        self.ends: list[tuple[float, float]] = []

    def member(self, failed: bool = False) -> None:
        self.done += 1
        if self.done in (1, self.members):
            self.ends.append((time.perf_counter(), processor_seconds()))
        if self.done % self.every == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.memory.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            self.ledger.append(sum(file.stat().st_size for file in self.store.glob("ledger.sqlite*")) / 1e6)

    @property
    def seconds(self) -> tuple[float, float]:
        """From the first member that ended to the last: what passed, and what was computed."""
        (start, computed), (end, computed_then) = self.ends
        return end - start, computed_then - computed


def measure(executor: str, members: int, workers: int, folder: Path, baseline: tuple[float, float]) -> dict[str, Any]:
    """Train so many members; `baseline` is what `training_seconds` gave."""
    store = folder / executor
    watch = Watch(store, members)
    popnet.run(tiny(members), store, workers=workers, executor=executor, reporter=watch)  # type: ignore[operator]
    table = popnet.open_store(store).members()
    assert len(table) == members
    assert set(table["status"]) == {"done"}
    passed, computed = (seconds / (members - 1) for seconds in watch.seconds)
    start = time.perf_counter()
    popnet.run(tiny(members), store, workers=workers)  # type: ignore[operator]
    return {
        "members_per_second": round(1 / passed, 1),
        "overhead_ms": round(1e3 * (passed * workers - baseline[0]), 2),
        "processor_ms": round(1e3 * (computed - baseline[1]), 2),
        "driver_mb": [round(value, 1) for value in watch.memory],
        "ledger_mb": [round(value, 2) for value in watch.ledger],
        "ledger_bytes_per_member": round(sum(f.stat().st_size for f in store.glob("ledger.sqlite*")) / members),
        "nothing_missing_seconds": round(time.perf_counter() - start, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--executors", nargs="+", default=["local", "ray"])
    parser.add_argument("--folder", type=Path, help="where the stores are written; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    arguments = parser.parse_args()

    training_seconds(min(arguments.members, 50))
    baseline = training_seconds(min(arguments.members, 500))
    print(f"{cpu_model()}, {os.cpu_count()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    alone = " ms, ".join(f"{1e3 * seconds:.2f}" for seconds in baseline)
    print(f"{arguments.members} members, {arguments.workers} workers; training alone: {alone} ms of the processor\n")
    columns = f"{'executor':<10}{'members/s':>10}{'overhead ms':>13}{'processor ms':>14}"
    print(f"{columns}{'driver MB':>16}{'ledger B':>10}{'again s':>9}")
    results = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for executor in arguments.executors:
            row = measure(executor, arguments.members, arguments.workers, Path(folder), baseline)
            results[executor] = row
            memory = f"{row['driver_mb'][0]:.0f} to {row['driver_mb'][-1]:.0f}"
            print(
                f"{executor:<10}{row['members_per_second']:>10,.0f}{row['overhead_ms']:>13.2f}"
                f"{row['processor_ms']:>14.2f}{memory:>16}{row['ledger_bytes_per_member']:>10,}{row['nothing_missing_seconds']:>9.2f}"
            )
    reached = all(row["overhead_ms"] < TARGET_MS for row in results.values())
    flat = all(row["driver_mb"][-1] - row["driver_mb"][0] < FLAT_MB for row in results.values())
    print(f"\noverhead below {TARGET_MS:g} ms a member: {'reached' if reached else 'MISSED'}")
    print(f"driver's memory grows by less than {FLAT_MB:g} MB: {'reached' if flat else 'MISSED'}")

    if arguments.json:
        result = {
            "benchmark": "engine",
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "load": round(os.getloadavg()[0], 1),
            "members": arguments.members,
            "workers": arguments.workers,
            "training_ms": round(1e3 * baseline[0], 3),
            "training_processor_ms": round(1e3 * baseline[1], 3),
            "executors": results,
            "target_ms": TARGET_MS,
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

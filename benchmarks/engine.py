"""What the engine costs for each member: thousands of tiny trainings through the local and the Ray executor.

    python benchmarks/engine.py [--members 10000] [--json benchmarks/results/engine.json]

A member is a linear model that sees 32 images in one step: next to no training, so what remains is the engine: handing
out the job, building the trainer, digests, writing the predictions (two flushes to disk), the ledger (one flush),
progress. The baseline, in the same run, trains such members one after the other in a plain loop on one core, without
engine or store. The overhead is the core time that a member takes through the engine (wall time x workers / members,
starts of the workers not counted) minus the baseline's.

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


def training_seconds(members: int) -> float:
    """Core seconds of one such training, without engine or store."""
    experiment = tiny(members)
    dataset: Any = load_component(experiment.recipe.dataset)
    train, test = share(dataset, "").attach()
    torch.set_num_threads(1)
    planned = popnet.plan(experiment)
    start = time.perf_counter()
    for member in planned.members:
        trainer = Trainer(member, train, test, dataset.classes, planned.views[member.id])
        trainer.run()
        trainer.predictions()
    return (time.perf_counter() - start) / members


class Watch(Silent):
    """The driver's memory and the ledger's size after each tenth of the members, and when training began and ended."""

    def __init__(self, store: Path, members: int) -> None:
        self.store, self.every, self.done = store, max(members // 10, 1), 0
        self.memory: list[float] = []
        self.ledger: list[float] = []
        self.first = self.last = 0.0

    def member(self, failed: bool = False) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.done += 1
        if self.done % self.every == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.memory.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            self.ledger.append(sum(file.stat().st_size for file in self.store.glob("ledger.sqlite*")) / 1e6)

    @property
    def seconds(self) -> float:
        """From the first member that ended to the last."""
        return self.last - self.first


def measure(executor: str, members: int, workers: int, folder: Path) -> dict[str, Any]:
    store = folder / executor
    watch = Watch(store, members)
    popnet.run(tiny(members), store, workers=workers, executor=executor, reporter=watch)  # type: ignore[operator]
    table = popnet.open_store(store).members()
    assert len(table) == members
    assert set(table["status"]) == {"done"}
    start = time.perf_counter()
    popnet.run(tiny(members), store, workers=workers)  # type: ignore[operator]
    return {
        "members_per_second": round((members - 1) / watch.seconds, 1),
        "core_ms": 1e3 * watch.seconds * workers / (members - 1),
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
    baseline = 1e3 * training_seconds(min(arguments.members, 500))
    print(f"{cpu_model()}, {os.cpu_count()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    print(f"{arguments.members} members, {arguments.workers} workers, training alone {baseline:.2f} ms a member\n")
    print(f"{'executor':<10}{'members/s':>10}{'overhead ms':>13}{'driver MB':>16}{'ledger B':>10}{'again s':>9}")
    results = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for executor in arguments.executors:
            row = measure(executor, arguments.members, arguments.workers, Path(folder))
            row["overhead_ms"] = round(row.pop("core_ms") - baseline, 2)
            results[executor] = row
            memory = f"{row['driver_mb'][0]:.0f} to {row['driver_mb'][-1]:.0f}"
            print(
                f"{executor:<10}{row['members_per_second']:>10,.0f}{row['overhead_ms']:>13.2f}{memory:>16}"
                f"{row['ledger_bytes_per_member']:>10,}{row['nothing_missing_seconds']:>9.2f}"
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
            "training_ms": round(baseline, 3),
            "executors": results,
            "target_ms": TARGET_MS,
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

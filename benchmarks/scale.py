"""What a driver does for each member of a large population besides training: the plan, the ledger, what is missing.

    python benchmarks/scale.py [--members 60000] [--epochs 64] [--json benchmarks/results/scale.json]

Nothing is trained: members are planned, entered as finished with a history of as many epochs as Jordan's, and looked
for again. Seconds are the process's own (CPU) but for commits, where waiting for the disk is the point.
`docs/scale.md` draws the conclusions.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from engine import tiny
from loader import cpu_model

import popnet
from popnet.engine.training import Training, missing_members
from popnet.protocol import ORIGINAL
from popnet.store import Finished, Store, save_tensors
from popnet.store.files import digest_of_file
from popnet.store.logs import write_logs
from popnet.store.verify import member_damage

BATCHES = (1, 2, 8, 32, 128)
ENTRIES = 1024


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def finished(epochs: int, predictions_digest: str) -> Finished:
    history = tuple((float(e), 0.1 / e, 1.23456789 / e, 93.21 + e / 100, 0.23456789 / e) for e in range(1, epochs + 1))
    return Finished((ORIGINAL,), "0" * 24, 93.21, 0.2345, "0" * 64, predictions_digest, history, 1.0)


def measure(members: int, epochs: int, folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = {}
    memory, start = memory_mb(), time.process_time()
    plan = popnet.plan(tiny(members))
    ids = [member.id for member in plan.members]
    result["plan_ms"] = 1e3 * (time.process_time() - start) / members
    store = Store(folder / "store", create=True)
    store.lock()
    predictions = folder / "predictions.safetensors"
    save_tensors(predictions, {"predictions": torch.zeros(1, 10_000, 10)})
    made = finished(epochs, digest_of_file(predictions))
    result["commit_ms"] = {}
    for batch in BATCHES:
        entries = [(member, made) for member in plan.members[:ENTRIES]]
        start = time.perf_counter()
        for first in range(0, len(entries), batch):
            store.record_all_done(entries[first : first + batch])
        result["commit_ms"][str(batch)] = 1e3 * (time.perf_counter() - start) / len(entries)
    for first in range(0, members, 512):
        store.record_all_done([(member, made) for member in plan.members[first : first + 512]])
    result["ledger_bytes"] = sum(file.stat().st_size for file in store.path.glob("ledger.sqlite*")) / members
    for member_id in ids:
        store.predictions_path(member_id).hardlink_to(predictions)
    start = time.process_time()
    assert not missing_members(plan, store)
    result["missing_ms"] = 1e3 * (time.process_time() - start) / members
    start = time.process_time()
    assert not list(member_damage(store, set(ids)))
    result["verify_ms"] = 1e3 * (time.process_time() - start) / members
    start = time.process_time()
    Training(plan, store, plan.members, {member.recipe.digest: 1 for member in plan.members})
    result["jobs_ms"] = 1e3 * (time.process_time() - start) / members
    result["memory_kb"] = 1e3 * (memory_mb() - memory) / members
    start = time.process_time()
    written = write_logs(store)
    result["csv_ms"] = 1e3 * (time.process_time() - start) / members
    result["csv_bytes"] = sum(file.stat().st_size for file in written) / members
    store.unlock()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="where the store is written; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        result = measure(arguments.members, arguments.epochs, Path(folder))

    print(f"{cpu_model()}, load {os.getloadavg()[0]:.1f}: {arguments.members} members x {arguments.epochs} epochs\n")
    print("for each member")
    for name, text in (
        ("plan_ms", "plan, ms"),
        ("missing_ms", "what is missing, ms"),
        ("verify_ms", "entry and 400 kB of predictions, ms"),
        ("jobs_ms", "jobs, ms"),
        ("csv_ms", "CSV of members and epochs, ms"),
        ("memory_kb", "driver's memory, kB"),
        ("ledger_bytes", "ledger, bytes"),
        ("csv_bytes", "CSV, bytes"),
    ):
        print(f"  {text:<36}{result[name]:>10.3g}")
    for batch, milliseconds in result["commit_ms"].items():
        print(f"  {f'entered {batch} at a time, ms':<36}{milliseconds:>10.3g}")

    if arguments.json:
        about = {"benchmark": "scale", "cpu": cpu_model(), "load": round(os.getloadavg()[0], 1)}
        about |= {"members": arguments.members, "epochs": arguments.epochs}
        rounded = {k: round(v, 3) for k, v in result.items() if k != "commit_ms"}
        rounded["commit_ms"] = {k: round(v, 3) for k, v in result["commit_ms"].items()}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({**about, **rounded}, indent=2) + "\n")


if __name__ == "__main__":
    main()

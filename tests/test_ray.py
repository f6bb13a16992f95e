"""The Ray executor: the bits of the local one, whatever becomes of the nodes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_engine import INIT, Counter, experiment

import popnet
from popnet.engine import Interrupted, run
from popnet.engine.sharing import SharedDataset, share

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray")

from popnet.engine.ray import RayExecutor, _aligned, _put  # noqa: E402

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without cores and three nodes of one core, all on this machine."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    try:
        for _ in range(3):
            made.add_node(**NODE)
        ray.init(address=made.address, log_to_driver=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.mark.slow
def test_data_lie_once_in_the_memory_of_each_node(cluster: Any) -> None:
    """Every process of a node finds the bytes in one place of the store that Ray keeps in that node's memory."""
    data = popnet.data.load("synthetic", train=1000, test=10)
    local = share(data, "")
    assert isinstance(local, SharedDataset)
    shared = _put(local)
    os.close(local.memory.descriptor)

    def place(address: int) -> tuple[str, str, int]:
        """The file that is mapped at an address, its inode, and where in it the address lies."""
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, _, offset, _, inode, *path = line.split()
            first, last = (int(end, 16) for end in span.split("-"))
            if first <= address < last:
                return " ".join(path), inode, address - first + int(offset, 16)
        raise AssertionError(f"nothing is mapped at {address:#x}")

    @ray.remote(num_cpus=1, max_calls=1, scheduling_strategy="SPREAD")
    def look(shared: SharedDataset) -> tuple[str, int, tuple[str, str, int], int]:
        pixels = shared.memory.tensors()["train_images"]
        total = int(pixels.sum(dtype=torch.int64))
        return ray.get_runtime_context().get_node_id(), os.getpid(), place(pixels.data_ptr()), total

    found = ray.get([look.remote(shared) for _ in range(4)])
    assert {total for *_, total in found} == {int(data.train_images.sum(dtype=np.int64))}
    assert len({process for _, process, *_ in found}) == 4
    nodes = {node for node, *_ in found}
    assert len(nodes) > 1
    assert len({(node, where) for node, _, where, _ in found}) == len(nodes)
    assert all("plasma" in path for *_, (path, _, _), _ in found)


class Stopper(Counter):
    """Ctrl-C, as soon as a member is finished."""

    def member(self, failed: bool = False) -> None:
        super().member(failed)
        signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_keeps_what_is_finished(cluster: Any, tmp_path: Path) -> None:
    made = experiment([INIT], 6)
    stopper = Stopper()
    with pytest.raises(Interrupted) as stopped:
        run(made, tmp_path / "ray", executor="ray", workers=2, reporter=stopper)
    assert stopped.value.code == 130
    kept = set(popnet.open_store(tmp_path / "ray").done())
    assert 1 <= len(kept) < 6
    ends = time.monotonic() + 60
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:  # no worker holds a core
        assert time.monotonic() < ends
        time.sleep(0.1)
    counter = Counter()
    there = run(made, tmp_path / "ray", executor="ray", workers=2, reporter=counter)
    assert counter.trained == 6 - len(kept)
    here = run(made, tmp_path / "local", workers=2)
    pd.testing.assert_frame_equal(there.table(), here.table(), check_exact=True)


class Remover(Counter):
    """Removes a node of the cluster once members are being trained on it."""

    def __init__(self, cluster: Any, marks: Path) -> None:
        super().__init__()
        self.cluster, self.marks, self.removed = cluster, marks, ""

    def epoch(self) -> None:
        super().epoch()
        for node in [] if self.removed else list(self.cluster.worker_nodes):
            if (self.marks / node.node_id).exists():
                self.removed = node.node_id
                self.cluster.remove_node(node, allow_graceful=False)
                return


@pytest.mark.slow
def test_a_node_is_lost_and_nothing_else(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    variants = [INIT, {"name": "late", "vary": ["shuffle"], "onset": 20}]
    kwargs = {"marks": str(tmp_path / "marks"), "seconds": 0.01}
    model = {"import": "user_parts:slow_net", "kwargs": kwargs}
    made = experiment(variants, 4, model=model, epochs=24, evaluate_every=8, keep=["predictions", "weights"])
    remover = Remover(cluster, tmp_path / "marks")
    there = run(made, tmp_path / "ray", executor="ray", reporter=remover, checkpoint_minutes=0.01)
    assert remover.removed
    lost = f"node {remover.removed}"
    assert any(lost in text and "was lost" in text for text in remover.messages), remover.messages
    assert (remover.trained, remover.failed) == (7, 0)
    here = run(made, tmp_path / "local", workers=2)
    pd.testing.assert_frame_equal(there.table(), here.table(), check_exact=True)
    for member in here.plan.members:
        assert np.array_equal(there.store.predictions(member.id), here.store.predictions(member.id))
        assert (there.store.weights_path(member.id)).read_bytes() == here.store.weights_path(member.id).read_bytes()
        pd.testing.assert_frame_equal(there.store.history(member.id), here.store.history(member.id), check_exact=True)
    assert not there.store.verify()
    assert not list((tmp_path / "ray" / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_node_of_another_kind_is_refused_by_name(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node in list(cluster.worker_nodes):
        cluster.remove_node(node, allow_graceful=False)
    other = cluster.add_node(**NODE, env_vars={"ONEDNN_MAX_CPU_ISA": "AVX2"})
    made = experiment([INIT], 2)
    refused = rf"node {other.node_id} .* is refused: its device is cpu:.*isa=avx2.*; no other node is there"
    lost, rooms = [1], RayExecutor._rooms  # as Ray lists a node that was lost a moment ago
    monkeypatch.setattr(RayExecutor, "_rooms", lambda executor: rooms(executor) + ([lost.pop()] if lost else []))
    with pytest.raises(popnet.ConfigError, match=refused):
        run(made, tmp_path / "store", executor="ray", workers=1)
    assert not lost
    cluster.add_node(**NODE)
    counter = Counter()
    result = run(made, tmp_path / "store", executor="ray", workers=2, reporter=counter)
    assert set(result.store.members()["status"]) == {"done"}


def test_data_are_copied_where_they_are_not_aligned() -> None:
    memory = np.zeros(512, dtype=np.uint8)
    first = -memory.ctypes.data % 64
    memory[first + 8 : first + 108] = np.arange(100)
    assert _aligned(memory[first : first + 64]).base is memory
    copied = _aligned(memory[first + 8 : first + 108])
    assert copied.ctypes.data % 64 == 0
    assert np.array_equal(copied, np.arange(100))

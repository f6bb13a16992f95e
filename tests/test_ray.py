"""The Ray executor: the bits of the local one, whatever becomes of the nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_engine import INIT, Counter, experiment

import popnet
from popnet.engine import run

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray")

from popnet.engine.ray import _aligned  # noqa: E402

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


def test_a_node_of_another_kind_is_refused_by_name(cluster: Any, tmp_path: Path) -> None:
    for node in list(cluster.worker_nodes):
        cluster.remove_node(node, allow_graceful=False)
    other = cluster.add_node(**NODE, env_vars={"ONEDNN_MAX_CPU_ISA": "AVX2"})
    made = experiment([INIT], 2)
    with pytest.raises(popnet.ConfigError, match=rf"node {other.node_id} .* is refused: its device is cpu:.*isa=avx2"):
        run(made, tmp_path / "store", executor="ray", workers=1)
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

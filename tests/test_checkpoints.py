"""Checkpoints within a member: the bits of a training that was cut short are those of one that was not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from test_engine import INIT, Counter, experiment

import popnet
from popnet.engine import checkpoints, run
from popnet.errors import StoreError
from popnet.protocol import View

ALWAYS = {"checkpoint_minutes": 1e-9}


def dying(tmp_path: Path, at: int) -> dict[str, Any]:
    """A model whose worker is killed once, in the forward pass number `at` of seed 2's training."""
    return {
        "import": "user_parts:dies_once_in_step",
        "kwargs": {"mark": str(tmp_path / "mark"), "parent": os.getpid(), "at": at},
    }


RECIPES = {
    "plain": ([INIT], {}),
    "snapshots and views": ([{"name": "s", "vary": ["init"], "snapshots": 3, "views": "flip"}], {}),
    "sources": ([{"name": "all", "vary": "all"}], {"augment": {"crop": 1, "flip": True}, "evaluate_every": 2}),
    "shared beginning": ([{"name": "late", "vary": ["shuffle"], "onset": 7}], {}),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_killed_training_goes_on_midway_with_the_same_bits(name: str, tmp_path: Path) -> None:
    variants, recipe = RECIPES[name]
    seed = "dies_once_in_step" if name != "shared beginning" else "dies_once_in_step_of_any_seed"
    model = {**dying(tmp_path, at=21), "import": f"user_parts:{seed}"}
    calm = {**model, "kwargs": {**model["kwargs"], "parent": 0, "at": -1}}
    disturbed = run(experiment(variants, 2, model=model, epochs=9, **recipe), tmp_path / "disturbed", 2, **ALWAYS)
    assert (tmp_path / "mark").exists()
    expected = run(experiment(variants, 2, model=calm, epochs=9, **recipe), tmp_path / "calm", 1)
    kept, wanted = disturbed.store.members(), expected.store.members()
    assert set(kept["status"]) == {"done"}
    assert sorted(kept["weights_digest"]) == sorted(wanted["weights_digest"])
    assert sorted(kept["predictions_digest"]) == sorted(wanted["predictions_digest"])
    histories = [
        sorted(tuple(map(tuple, result.store.history(m.id).fillna(-1).to_numpy())) for m in result.plan.members)
        for result in (disturbed, expected)
    ]
    assert histories[0] == histories[1]
    assert not list((tmp_path / "disturbed" / "checkpoints").iterdir())


def test_only_the_epochs_after_the_checkpoint_are_trained_again(tmp_path: Path) -> None:
    counter = Counter()
    made = experiment([INIT], 2, model=dying(tmp_path, at=21), epochs=9)  # 3 steps and an evaluation batch an epoch
    run(made, tmp_path / "store", workers=1, reporter=counter, **ALWAYS)
    assert counter.trained == 2
    assert counter.epochs == counter.planned_epochs


def test_a_damaged_checkpoint_is_said_and_not_used(tmp_path: Path) -> None:
    made = experiment([INIT], 2, epochs=4)
    member = popnet.plan(made).members[0]
    store = popnet.store.Store(tmp_path / "store", create=True)
    store.partial_path(member.id).write_bytes(b"no checkpoint")
    counter = Counter()
    result = run(made, store.path, workers=1, reporter=counter)
    assert counter.epochs == counter.planned_epochs == 8
    assert any("damaged" in message and member.id in message for message in counter.messages)
    calm = run(made, tmp_path / "calm", workers=1)
    assert list(result.store.members()["weights_digest"]) == list(calm.store.members()["weights_digest"])


def test_what_a_killed_driver_leaves_goes_though_nothing_is_missing(tmp_path: Path) -> None:
    """It may die when the last member is in the ledger, and before it tidies up."""
    made = experiment([{"name": "late", "vary": "all", "onset": 2}], 2, epochs=4)
    result = run(made, tmp_path / "store", workers=1)
    store, member = result.store, result.plan.members[0]
    names = [member.id, f"{member.trunk.id}-beginning"]
    left = [*map(store.partial_path, names), store.checkpoint_path(member.trunk.id, 2)]
    foreign = store.partial_path("0" * len(member.id))  # how far a member of another experiment in this store is
    for path in (*left, foreign):
        path.write_bytes(checkpoints.pack({"epoch": torch.tensor([2])}, member.id, (View(),)))
    run(made, tmp_path / "store", workers=1)
    assert list((store.path / "checkpoints").iterdir()) == [foreign]


def test_a_checkpoint_knows_its_owner_and_its_content() -> None:
    state = {"epoch": torch.tensor([3]), "model.weight": torch.arange(6.0).reshape(2, 3)}
    content = checkpoints.pack(state, "abc", (View(),))
    back = checkpoints.unpack(content, Path("x"), "abc", (View(),))
    assert sorted(back) == sorted(state)
    assert all(torch.equal(back[name], state[name]) for name in state)
    for owner, views in (("abd", (View(),)), ("abc", (View(), View(flip=True)))):
        with pytest.raises(StoreError, match="is no checkpoint of member"):
            checkpoints.unpack(content, Path("x"), owner, views)
    for position in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[position] ^= 4
        with pytest.raises(StoreError, match=r"damaged|no checkpoint"):
            checkpoints.unpack(bytes(flipped), Path("x"), "abc", (View(),))


def test_a_hanging_worker_is_replaced(tmp_path: Path) -> None:
    counter = Counter()
    kwargs = {"mark": str(tmp_path / "mark"), "parent": os.getpid(), "at": 4}
    model = {"import": "user_parts:hangs_once_in_step", "kwargs": kwargs}
    made = experiment([INIT], 3, model=model, epochs=4)
    result = run(made, tmp_path / "store", workers=2, reporter=counter, hang_minutes=6 / 60)
    assert (tmp_path / "mark").exists()
    assert counter.trained == 3
    assert any("no training step in" in message for message in counter.messages)
    assert set(result.store.members()["status"]) == {"done"}


def test_minutes_are_checked(tmp_path: Path) -> None:
    with pytest.raises(popnet.ConfigError, match="hang_minutes is 0"):
        run(experiment([INIT]), tmp_path / "store", hang_minutes=0)

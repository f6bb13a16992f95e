"""The engine: what is trained, what is not trained again, and what happens when a member fails or a worker dies."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import popnet
from popnet.config import from_mapping
from popnet.engine import run
from popnet.engine.progress import Silent
from popnet.protocol import View
from popnet.results.stores.populations import FEW
from popnet.store.header import write_header


def experiment(variants: list[dict[str, Any]], population: int = 3, **recipe: Any) -> popnet.Experiment:
    return from_mapping(
        {
            "name": "engine",
            "population": population,
            "variants": variants,
            "recipe": {
                "dataset": {
                    "name": "synthetic",
                    "kwargs": {"train": 40, "test": 30, "height": 6, "width": 6, "classes": 3},
                },
                "model": "linear",
                "epochs": 2,
                "batch_size": 16,
                "optimizer": {"name": "sgd", "lr": 0.1},
                **recipe,
            },
        }
    )


INIT = {"name": "init", "vary": ["init"]}


class Counter(Silent):
    """Counts what is trained."""

    def __init__(self) -> None:
        self.planned, self.planned_epochs, self.trained, self.failed, self.epochs = 0, 0, 0, 0, 0
        self.messages: list[str] = []

    def begin(self, members: int, epochs: int) -> None:
        self.planned, self.planned_epochs = members, epochs

    def epoch(self) -> None:
        self.epochs += 1

    def member(self, failed: bool = False) -> None:
        self.failed += failed
        self.trained += not failed

    def message(self, text: str) -> None:
        self.messages.append(text)


def test_only_what_is_missing_is_trained(tmp_path: Path) -> None:
    counts = []
    for population, variants in [(2, [INIT]), (2, [INIT]), (4, [INIT]), (4, [INIT, {"name": "all", "vary": "all"}])]:
        counter = Counter()
        result = run(experiment(variants, population), tmp_path / "store", workers=2, reporter=counter)
        counts.append(counter.trained)
        assert counter.epochs == counter.planned_epochs
    # `all` shares only its first member, whose seeds are the constants, with `init`
    assert counts == [2, 0, 2, 3]
    table = result.table("variability")
    assert list(table.index) == ["init", "all"]
    assert list(table["members"]) == [4, 4]
    assert table.loc["all", "marks"] == "kernels: reorder proxy"


def test_shared_beginning_is_trained_once(tmp_path: Path) -> None:
    counter = Counter()
    variants = [
        {"name": "late", "vary": ["shuffle"], "onset": 4},
        {"name": "later", "vary": ["init", "shuffle"], "onset": 5},
    ]
    run(experiment(variants, 3, epochs=6), tmp_path / "store", workers=2, reporter=counter)
    # constants to epoch 4, then to 5; the constant member itself and two others leave at each point
    assert counter.trained == 5
    assert counter.epochs == counter.planned_epochs == 5 + 2 * 2 + 2 * 1 + 1


def test_the_last_of_those_that_share_a_beginning_goes_on_from_it(tmp_path: Path) -> None:
    folder, late = tmp_path / "store", experiment([{"name": "late", "vary": ["shuffle"], "onset": 4}], 3, epochs=6)

    class Keeping(Counter):
        """Copies the beginning before the run removes it."""

        def member(self, failed: bool = False) -> None:
            shutil.copytree(folder / "checkpoints", tmp_path / "kept", dirs_exist_ok=True)

    calm = run(late, folder, workers=1, reporter=Keeping())
    for last in calm.plan.members:
        whole = calm.store.predictions_path(last.id).read_bytes()
        calm.store.ledger.remove([last.id])
        calm.store.predictions_path(last.id).unlink()
        shutil.copytree(tmp_path / "kept", folder / "checkpoints", dirs_exist_ok=True)
        counter = Counter()
        result = run(late, folder, workers=1, reporter=counter)
        assert counter.epochs == counter.planned_epochs == 2
        assert result.store.predictions_path(last.id).read_bytes() == whole
        assert not result.store.verify()


def test_views_are_added_without_changing_the_rest(tmp_path: Path) -> None:
    first = run(experiment([INIT]), tmp_path / "store", workers=1)
    before = {m.id: first.store.predictions(m.id) for m in first.plan.members}
    counter = Counter()
    flipped = {"name": "flip", "vary": ["init"], "views": "flip"}
    second = run(experiment([INIT, flipped]), tmp_path / "store", workers=1, reporter=counter)
    assert counter.trained == 3
    for key, logits in before.items():
        now = second.store.predictions(key)
        assert second.store.views(key) == (View(), View(flip=True))
        assert np.array_equal(now[:1], logits)
        assert not np.array_equal(now[0], now[1])


def test_snapshots_and_weights(tmp_path: Path) -> None:
    variants = [INIT, {"name": "snap", "vary": ["init"], "snapshots": 2}]
    result = run(experiment(variants, 2, epochs=4, keep=["predictions", "weights"]), tmp_path / "store", workers=2)
    snap = result.plan.populations[1].members[0]
    assert snap.recipe.schedule.name == "snapshot"
    history = result.store.history(snap.id)
    assert list(history.index) == [1, 2, 3, 4]
    assert history["test_accuracy"].notna().all()
    assert sorted(result.store.weights(snap.id)) == ["fc.bias", "fc.weight"]


def test_ensembles_are_means_of_disjoint_groups(tmp_path: Path) -> None:
    variants = [INIT, {"name": "pairs", "vary": ["init"], "ensemble": 2}]
    result = run(experiment(variants, 5), tmp_path / "store", workers=2)
    table = result.table("variability")
    assert table.loc["pairs", "members"] == 2
    assert table.loc["pairs", "marks"] == f"2 disjoint ensembles of 2; {FEW}"


def test_own_parts(tmp_path: Path) -> None:
    """A user's model, data set, loss and optimiser train, and depend on their seeds as popnet's own do."""
    made = experiment(
        [{"name": "a", "vary": ["init", "stochastic"]}, {"name": "same", "replicas": True}],
        2,
        dataset={"import": "user_parts:arrays"},
        model={"import": "user_parts:random_net"},
        loss={"import": "user_parts:smoothed_loss"},
        optimizer={"import": "user_parts:rmsprop", "lr": 0.01},
    )
    result = run(made, tmp_path / "store", workers=2)
    members = result.store.members()
    assert set(members["status"]) == {"done"}
    assert members["weights_digest"].nunique() == 2
    assert result.table().loc["same", "accuracy_sd"] == 0.0


def test_a_failing_member_does_not_stop_the_rest(tmp_path: Path) -> None:
    counter = Counter()
    made = experiment([INIT], 4, model={"import": "user_parts:fails_for_seed_2"})
    result = run(made, tmp_path / "store", workers=2, reporter=counter)
    assert (counter.trained, counter.failed) == (3, 1)
    members = result.store.members()
    failed = members[members["status"] == "failed"]
    assert list(failed["init"]) == [2]
    assert failed["error"].iloc[0] == "RuntimeError: seed 2 is not wanted here"
    row = result.table().loc["init"]
    assert (row["members"], row["failed"], row["population"]) == (3, 1, 4)
    assert "3 of 4 members" in row["marks"]
    with pytest.raises(popnet.StoreError, match="seed 2 is not wanted here"):
        result.store.predictions(failed.index[0])


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"model": "hidden_fc", "optimizer": {"name": "sgd", "lr": 1e20}}, "the loss is nan at epoch 1 of 2, step 2"),
        ({"model": {"import": "user_parts:infinite_in_evaluation"}}, "the predictions after epoch 2 are not finite"),
    ],
)
def test_what_is_not_finite_is_recorded(recipe: dict[str, Any], message: str, tmp_path: Path) -> None:
    result = run(experiment([INIT], 2, evaluate_every=0, **recipe), tmp_path / "store", workers=1)
    members = result.store.members()
    assert set(members["status"]) == {"failed"}
    assert message in members["error"].iloc[0]
    assert np.isnan(result.table()["accuracy_mean"]).all()


def test_a_dead_worker_is_replaced_and_its_member_trained_again(tmp_path: Path) -> None:
    counter = Counter()
    kwargs = {"mark": str(tmp_path / "mark"), "parent": os.getpid()}
    made = experiment([INIT], 4, model={"import": "user_parts:dies_once_for_seed_2", "kwargs": kwargs})
    result = run(made, tmp_path / "store", workers=2, reporter=counter)
    assert (tmp_path / "mark").exists()
    assert (counter.trained, counter.failed) == (4, 0)
    assert any("SIGKILL" in message for message in counter.messages)
    calm = experiment([INIT], 4, model={"import": "user_parts:random_net"})
    expected = run(calm, tmp_path / "calm", workers=1)
    assert set(result.store.members()["weights_digest"]) == set(expected.store.members()["weights_digest"])


def test_a_worker_that_always_dies_is_given_up(tmp_path: Path) -> None:
    kwargs = {"parent": os.getpid()}
    made = experiment([INIT], 3, model={"import": "user_parts:always_dies_for_seed_2", "kwargs": kwargs})
    result = run(made, tmp_path / "store", workers=2)
    members = result.store.members()
    assert list(members.loc[members["status"] == "failed", "init"]) == [2]
    assert "exit code 3, 3 times" in members.loc[members["status"] == "failed", "error"].iloc[0]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"model": {"import": "user_parts:two_outputs"}}, r"gives \[2, 2\] for two images; logits \[2, 3\] are needed"),
        ({"model": {"import": "user_parts:missing"}}, "'missing' is not there"),
        ({"model": {"import": "no_such_module:net"}}, "module 'no_such_module' cannot be imported"),
        ({"train_examples": 41}, "train_examples must be 1 to 40"),
        ({"model": "vgg11"}, "vgg11"),
        ({"augment": {"cutout": 7}}, "cutout=7 is larger than the 6 x 6 images"),
        ({"precision": "fp16"}, "precision=fp16 needs a CUDA device"),
        ({"batch_size": 64, "drop_last": True}, "leaves no batch of 40 training images"),
    ],
)
def test_wrong_input_is_said_before_any_training(recipe: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(popnet.PopnetError, match=message):
        run(experiment([INIT], 2, **recipe), tmp_path / "store", workers=1)
    assert not (tmp_path / "store").exists()


def test_other_data_under_the_same_name_is_refused(tmp_path: Path) -> None:
    variant = {"name": "a", "vary": ["init"]}
    run(experiment([variant], 2, dataset={"import": "user_parts:arrays"}), tmp_path / "store", workers=1)
    store = popnet.open_store(tmp_path / "store")
    write_header(store.path, store.entered(), dict.fromkeys(store.datasets(), "0" * 64))
    with pytest.raises(popnet.StoreError, match="made with other data"):
        run(experiment([variant], 2, dataset={"import": "user_parts:arrays"}), tmp_path / "store", workers=1)


def test_popnet_run_is_a_function_and_a_module(tmp_path: Path) -> None:
    import popnet.run  # binds the module over the function

    result = popnet.run(experiment([INIT], 2), tmp_path / "store", workers=1)  # type: ignore[operator]
    assert len(result.store.members()) == 2

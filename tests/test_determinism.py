"""The promise: a member's bits follow from its recipe and seeds, and from nothing else.

Each test varies one thing that must not matter (how many workers, which neighbours, what order, a kill, a fork), or one
seed, and shows that nothing else moved.
"""

from __future__ import annotations

import os
import random as python_random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import popnet
from popnet import native
from popnet.config import from_mapping
from popnet.data.resident import ResidentImages
from popnet.engine import plan, run
from popnet.protocol import CONSTANTS, ORIGINAL, Member, Platform, Seeds, member
from popnet.training import trainer as trainer_module
from popnet.training.trainer import Trainer

DATASET = {
    "name": "synthetic",
    "kwargs": {"train": 72, "test": 40, "height": 6, "width": 6, "channels": 2, "classes": 4},
}


def experiment(**changes: Any) -> popnet.Experiment:
    """A small experiment in which every source matters: batch norm, augmentation, a partial last batch."""
    content: dict[str, Any] = {
        "name": "tiny",
        "recipe": {
            "dataset": DATASET,
            "model": "small_cnn",
            "epochs": 4,
            "batch_size": 16,
            "optimizer": {"name": "sgd", "lr": 0.3, "weight_decay": 5e-4, "groups": "released"},
            "schedule": {"name": "cosine", "warmup_epochs": 1},
            "augment": {"crop": 1, "flip": True},
            "keep": ["predictions", "weights"],
        },
        "population": 3,
        "variants": [
            {"name": "init", "vary": ["init"]},
            {"name": "shuffle", "vary": ["shuffle"]},
            {"name": "kernels", "vary": ["kernels"]},
            {"name": "bit", "vary": ["bit"]},
            {"name": "late", "vary": "all", "onset": 2},
            {"name": "later", "vary": ["augment"], "onset": 3},
            {"name": "poke", "vary": ["bit"], "perturbation": {"kind": "scale", "step": 12}},
            {"name": "same", "replicas": True},
        ],
    }
    content["recipe"] |= changes.pop("recipe", {})
    return from_mapping({**content, **changes})


def bits(store: popnet.Store) -> dict[str, tuple[Any, ...]]:
    """Everything that must be identical of each finished member: weights, predictions, history."""
    table = store.members()
    done = table[table["status"] == "done"]
    return {
        key: (row["weights_digest"], row["predictions_digest"], store.history(key).to_csv())
        for key, row in done.iterrows()
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, ...]]:
    """The bits of every member of `experiment()`, trained by two workers."""
    result = run(experiment(), tmp_path_factory.mktemp("reference") / "store", workers=2)
    found = bits(result.store)
    assert set(found) == {m.id for m in result.plan.members}
    assert not result.store.verify()
    return found


@pytest.mark.parametrize("workers", [1, 3])
def test_number_of_workers_and_order_of_members(
    workers: int, reference: dict[str, tuple[Any, ...]], tmp_path: Path
) -> None:
    def shuffled(members: list[Member]) -> list[Member]:
        return python_random.Random(workers).sample(members, len(members))

    result = run(experiment(), tmp_path / "store", workers=workers, order=shuffled)
    assert bits(result.store) == reference


def test_alone_and_without_shared_beginnings(reference: dict[str, tuple[Any, ...]], tmp_path: Path) -> None:
    """A member trained alone, straight from its first step, equals the one forked from a checkpoint beside others."""
    wanted = plan(experiment())
    rows = {population.name: population.members for population in wanted.populations}
    forked = [rows["late"][1], rows["later"][2], rows["poke"][1]]
    assert all(m.diverges(5) > 0 for m in forked)
    for m in [rows["init"][1], *forked]:
        store = run(
            experiment(), tmp_path / m.id, workers=1, order=lambda members, m=m: [x for x in members if x.id == m.id]
        ).store
        assert bits(store) == {m.id: reference[m.id]}


def test_kill_and_rerun(reference: dict[str, tuple[Any, ...]], tmp_path: Path) -> None:
    """SIGKILL of the driver at random moments loses only what was under way; the rerun ends with the same bits."""
    content = tmp_path / "tiny.yaml"
    content.write_text(_as_yaml(experiment()))
    store = tmp_path / "store"
    moments = python_random.Random(popnet.__version__)
    kept = 0
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "popnet.run", str(content), "--store", str(store), "--workers", "2", "--quiet"],
            stdout=subprocess.DEVNULL,
        )
        wait_for(lambda kept=kept, process=process: count_done(store) > kept or process.poll() is not None)
        time.sleep(moments.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = count_done(store)
    before = bits(popnet.open_store(store))
    assert before
    assert all(reference[key] == value for key, value in before.items())
    wait_for(lambda: not _locked(store))
    result = run(experiment(), store, workers=2)
    assert bits(result.store) == reference
    assert not list((store / "checkpoints").iterdir())


def test_interrupt_ends_cleanly(reference: dict[str, tuple[Any, ...]], tmp_path: Path) -> None:
    content = tmp_path / "tiny.yaml"
    content.write_text(_as_yaml(experiment(recipe={"epochs": 12})))
    store = tmp_path / "store"
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            [sys.executable, "-m", "popnet.run", str(content), "--store", str(store), "--workers", "2"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        kept = count_done(store)
        wait_for(lambda kept=kept: count_done(store) > kept)
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 128 + number
        assert f"stopped by {signal.Signals(number).name}" in errors
        assert "Traceback" not in errors
    assert not popnet.open_store(store).verify()


def test_caller_cannot_matter(reference: dict[str, tuple[Any, ...]], tmp_path: Path) -> None:
    """Neither the caller's seeds, threads and default dtype, nor a script without a __main__ guard."""
    script = tmp_path / "script.py"
    (tmp_path / "tiny.yaml").write_text(_as_yaml(experiment()))
    script.write_text(
        "import torch, numpy, popnet\n"
        "torch.manual_seed(99); numpy.random.seed(99)\n"
        "torch.set_num_threads(2); torch.set_default_dtype(torch.float64)\n"
        f"popnet.run({str(tmp_path / 'tiny.yaml')!r}, {str(tmp_path / 'store')!r}, workers=2)\n"
    )
    subprocess.run([sys.executable, str(script)], check=True, env={**os.environ, "OMP_NUM_THREADS": "2"}, timeout=120)
    assert bits(popnet.open_store(tmp_path / "store")) == reference


def test_equal_seeds_trained_again_are_equal(reference: dict[str, tuple[Any, ...]]) -> None:
    wanted = plan(experiment())
    rows = {population.name: population.members for population in wanted.populations}
    assert len({m.id for m in rows["same"]}) == 3
    assert len({reference[m.id] for m in rows["same"]}) == 1
    assert reference[rows["same"][0].id] == reference[rows["init"][0].id]
    for name in ("init", "shuffle", "kernels", "late", "later", "poke"):
        weights = {reference[m.id][0] for m in rows[name]}
        assert len(weights) == len(rows[name]), f"the members of {name} must differ"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_checkpoint_at_every_epoch_equals_straight_training(precision: str) -> None:
    """Through the trainer itself: dropout, Adam, snapshots and bf16 go through a checkpoint without a trace."""
    recipe = {
        "model": {"import": "user_parts:random_net"},
        "precision": precision,
        "optimizer": {"name": "adam", "lr": 0.01},
        "schedule": {"name": "snapshot", "cycles": 2},
    }
    m = plan(experiment(recipe=recipe, variants=[{"name": "a", "vary": ["init", "stochastic"]}])).members[1]
    straight = make_trainer(m)
    straight.run()
    state: dict[str, torch.Tensor] | None = None
    for epoch in range(1, m.recipe.epochs + 1):
        pieces = make_trainer(m)
        if state is not None:
            pieces.restore(state)
        pieces.run(until=epoch)
        state = pieces.checkpoint()
    assert np.array_equal(straight.predictions(), pieces.predictions())
    assert straight.history == pieces.history
    assert all(torch.equal(value, pieces.weights()[name]) for name, value in straight.weights().items())


# -- sources are isolated ----------------------------------------------------------------------------------------------


class Draws:
    """What each source drew in one training, by the key that it may depend on."""

    def __init__(self, m: Member, monkeypatch: pytest.MonkeyPatch) -> None:
        self.order: list[list[int]] = []
        self.pixels: dict[tuple[int, int], bytes] = {}
        self.masks: dict[tuple[int, int, int], bytes] = {}
        self.own: list[int] = []
        make_batch, make_mask, seed_torch = (
            ResidentImages.training_batch,
            native.dropout_mask,
            trainer_module.seed_torch,
        )

        def training_batch(
            images: ResidentImages, indices: torch.Tensor, out: torch.Tensor, *rest: Any
        ) -> torch.Tensor:
            batch = make_batch(images, indices, out, *rest)
            self.order.append(indices.tolist())
            epoch = rest[-1]
            for index, image in zip(indices.tolist(), batch):
                self.pixels[epoch, index] = image.contiguous().numpy().tobytes()
            return batch

        def dropout_mask(examples: torch.Tensor, elements: int, **options: Any) -> torch.Tensor:
            mask = make_mask(examples, elements, **options)
            for example, row in zip(examples.tolist(), mask):
                self.masks[options["step"], options["layer"], example] = row.numpy().tobytes()
            return mask

        def seed(*arguments: Any) -> None:
            seed_torch(*arguments)
            self.own.append(torch.default_generator.initial_seed())

        with monkeypatch.context() as patch:
            patch.setattr(ResidentImages, "training_batch", training_batch)
            patch.setattr(native, "dropout_mask", dropout_mask)
            patch.setattr(trainer_module, "seed_torch", seed)
            made = make_trainer(m)
            self.initial = made.weights()
            made.run()

    def sets(self) -> list[list[int]]:
        return [sorted(batch) for batch in self.order]


def test_one_seed_moves_only_its_own_source(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = {"model": {"import": "user_parts:random_net"}, "epochs": 2}
    template = plan(experiment(recipe=recipe, variants=[{"name": "a", "vary": ["init"]}])).members[0]

    def draws(**seeds: int) -> Draws:
        changed = Seeds(**{**CONSTANTS, **seeds})
        return Draws(member(template.recipe, changed, changed, template.platform), monkeypatch)

    base = draws()
    for source in ("init", "shuffle", "augment", "stochastic", "kernels"):
        moved = draws(**{source: 7})
        same_weights = all(torch.equal(value, moved.initial[name]) for name, value in base.initial.items())
        common = base.pixels.keys() & moved.pixels.keys()
        same_pixels = all(base.pixels[key] == moved.pixels[key] for key in common)
        masks = base.masks.keys() & moved.masks.keys()
        same_masks = all(base.masks[key] == moved.masks[key] for key in masks)
        assert len(common) == 144
        assert len(masks) > 20
        assert same_weights == (source != "init")
        assert (base.sets() == moved.sets()) == (source != "shuffle")
        assert (base.order == moved.order) == (source not in ("shuffle", "kernels"))
        assert same_pixels == (source != "augment")
        assert same_masks == (source != "stochastic")
        assert (base.own == moved.own) == (source != "stochastic")


def test_bit_seed_changes_one_weight_and_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = plan(experiment(recipe={"model": {"import": "user_parts:random_net"}})).populations
    plain, changed = rows[0].members[0], next(p for p in rows if p.name == "bit").members[1]
    a, b = Draws(plain, monkeypatch), Draws(changed, monkeypatch)
    assert a.order == b.order
    assert a.pixels == b.pixels
    assert a.masks == b.masks
    assert all(torch.equal(value, b.initial[name]) for name, value in a.initial.items())


def test_first_batch_only() -> None:
    """`until_step: 1` with another shuffle seed changes the first batch and no other."""
    m = plan(experiment(variants=[{"name": "a", "vary": ["shuffle"], "until_step": 1}])).members[1]
    made = make_trainer(m)
    seen: list[list[int]] = []
    step = made._step
    made._step = lambda *a: (seen.append(a[2].tolist()), step(*a))[1]  # type: ignore[method-assign]
    made.run(until=2)
    for epoch in range(2):
        base = popnet.random.permutation(1, epoch, 72)
        other = popnet.random.permutation(2, epoch, 72)
        for index in range(5):
            expected = other if (epoch, index) == (0, 0) else base
            assert seen[epoch * 5 + index] == expected[16 * index : 16 * index + 16].tolist()


def test_onset_follows_the_constants_until_its_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {p.name: p.members for p in plan(experiment()).populations}
    constant, late = Draws(rows["init"][0], monkeypatch), Draws(rows["late"][1], monkeypatch)
    assert constant.order[:10] == late.order[:10]
    assert constant.order[10:] != late.order[10:]
    assert all(constant.pixels[e, i] == late.pixels[e, i] for e, i in constant.pixels if e < 2)
    assert any(constant.pixels[e, i] != late.pixels[e, i] for e, i in constant.pixels if e >= 2)
    assert all(torch.equal(value, late.initial[name]) for name, value in constant.initial.items())


# -- helpers -----------------------------------------------------------------------------------------------------------


def test_predictions_before_the_first_step_move_no_bit() -> None:
    """Evaluation and training share the memory of batches that have one size."""
    m = plan(experiment(recipe={"evaluation_batch": 16})).members[0]
    assert m.recipe.batch_size == 16
    first, asked = make_trainer(m), make_trainer(m)
    asked.predictions()
    for made in (first, asked):
        made.run()
    assert all(torch.equal(value, asked.weights()[name]) for name, value in first.weights().items())


def make_trainer(m: Member) -> Trainer:
    torch.set_num_threads(1)
    options = m.recipe.dataset.kwargs
    dataset = popnet.data.load(str(m.recipe.dataset.name), **options)
    sets = (
        ResidentImages(torch.from_numpy(images), torch.from_numpy(labels), dataset.mean, dataset.std)
        for images, labels in (
            (dataset.train_images, dataset.train_labels),
            (dataset.test_images, dataset.test_labels),
        )
    )
    train, test = sets
    return Trainer(m, train, test, dataset.classes, (ORIGINAL,))


def wait_for(condition: Any, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def count_done(store: Path) -> int:
    return len(list((store / "members").glob("*.safetensors")))


def _locked(store: Path) -> bool:
    opened = popnet.open_store(store)
    try:
        opened.lock()
    except popnet.StoreError:
        return True
    opened.unlock()
    return False


def _as_yaml(made: popnet.Experiment) -> str:
    import json

    return json.dumps(made.model_dump(mode="json", by_alias=True))


def test_platform_is_part_of_the_identity() -> None:
    m = plan(experiment()).members[0]
    other = member(m.recipe, m.seeds, m.base, Platform("cpu:other", m.platform.versions))
    assert other.id != m.id

"""Cohorts on a GPU: graphs against eager steps, any number of slots, any order, kills, one seed at a time."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from beside import prepared_slots, train_beside
from PIL import Image
from test_cohort import DATASET
from test_determinism import _as_yaml, _locked, bits, count_done, experiment, wait_for

import popnet
from popnet import config, engine, native
from popnet.data.resident import ResidentImages
from popnet.engine import sizing
from popnet.protocol import CONSTANTS, ORIGINAL, Member, Seeds, member
from popnet.training.device_epoch import DeviceEpoch
from popnet.training.memory import is_full
from popnet.training.rack import Rack
from popnet.training.slots import Slot
from popnet.training.trainer import Trainer, initialised_model, make_parts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not (native.cuda_compiled and torch.cuda.is_available()), reason="needs a CUDA device and a build with nvcc"
    ),
]
DEVICE = torch.device("cuda", 0)
MODELS = ("linear", "hidden_fc", "hidden_conv", "small_cnn", "resnet14", "resnet9", "vgg11", "shufflenet_v2_x0_5")


def data(train: int = 72, side: int = 6, channels: int = 2) -> tuple[ResidentImages, ResidentImages, int]:
    sizes = {"train": train, "height": side, "width": side, "channels": channels, "classes": 4}
    dataset = popnet.data.load("synthetic", **(DATASET["kwargs"] | sizes))
    parts = ((dataset.train_images, dataset.train_labels), (dataset.test_images, dataset.test_labels))
    train_set, test_set = (
        ResidentImages(torch.from_numpy(pixels), torch.from_numpy(labels), dataset.mean, dataset.std).to(DEVICE)
        for pixels, labels in parts
    )
    return train_set, test_set, dataset.classes


def one(**recipe: Any) -> Member:
    variants = [{"name": "a", "vary": ["init", "shuffle", "augment", "stochastic"]}]
    return engine.plan(experiment(recipe=recipe, variants=variants), "cuda").members[1]


def trained(m: Member, sets: Any = None, capture: bool = True, slot: Slot | None = None) -> Trainer:
    train, test, classes = sets or data()
    slot = slot or Slot(Rack(DEVICE), capture=capture)
    with slot.entered():
        made = slot.trainer(m, train, test, classes, (ORIGINAL,))
        made.run()
        made.predictions()
    return made


def assert_kept(result: popnet.Result, cohort: int | None) -> None:
    """Nothing is shown of bits beside each other where the cohort fell to fewer members, or began with fewer."""
    if cohort is None:  # grown as long as that paid
        assert list(result.at_once) == sorted(result.at_once), result.at_once
    else:
        assert result.at_once == ((1, cohort) if cohort > 1 else (1,))


def assert_equal(a: Trainer, b: Trainer) -> None:
    first, second = a.weights(), b.weights()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert a.history == b.history
    assert np.array_equal(a.predictions(), b.predictions())


# ---- graphs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("name", MODELS)
def test_graphs_have_the_bits_of_eager_steps(name: str, precision: str) -> None:
    side = 32 if name == "vgg11" else 16
    m = one(model=name, precision=precision, epochs=2, optimizer={"name": "sgd", "lr": 0.01, "weight_decay": 5e-4})
    sets = data(side=side, channels=3)
    slot = Slot(Rack(DEVICE))
    captured = trained(m, sets, slot=slot)
    assert slot.graphs is not None, "was not captured"
    assert_equal(captured, trained(m, sets, capture=False))


@pytest.mark.parametrize("change", [{"optimizer": {"name": "adam", "lr": 0.01}}, {"clip_gradient": 0.1}])
def test_other_recipes_in_graphs(change: dict[str, Any]) -> None:
    assert_equal(trained(one(**change)), trained(one(**change), capture=False))


def test_dropout_in_graphs() -> None:
    m = one(model={"import": "test_cohort:dropout_net"})
    slot = Slot(Rack(DEVICE))
    captured = trained(m, slot=slot)
    assert slot.graphs is not None
    assert_equal(captured, trained(m, capture=False))


def test_a_cuda_training_agrees_with_the_cpus() -> None:
    """In fp32 to rounding, over one epoch without a warm-up's noise."""
    m = one(epochs=1, optimizer={"name": "sgd", "lr": 0.01}, schedule="constant")
    train, test, classes = data()
    on_gpu = trained(m)
    cpu = torch.device("cpu")
    on_cpu = Trainer(m, train.to(cpu), test.to(cpu), classes, (ORIGINAL,))
    on_cpu.run()
    for name, value in on_cpu.weights().items():
        assert torch.allclose(on_gpu.weights()[name].double(), value.double(), rtol=1e-3, atol=1e-4), name


def test_members_follow_each_other_in_a_slot_without_a_trace() -> None:
    slot, fresh = Slot(Rack(DEVICE)), [one(), one(epochs=2), one()]
    followed = [trained(m, slot=slot) for m in fresh]
    weights = [t.weights() for t in followed[2:]]
    alone = trained(one()).weights()
    assert all(torch.equal(value, weights[0][name]) for name, value in alone.items())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_checkpoints_go_on_with_the_same_bits(precision: str) -> None:
    m = one(precision=precision)
    straight = trained(m)
    train, test, classes = data()
    slot = Slot(Rack(DEVICE))
    with slot.entered():
        first = slot.trainer(m, train, test, classes, (ORIGINAL,))
        first.run(until=2)
        state = first.checkpoint()
        second = slot.trainer(m, train, test, classes, (ORIGINAL,))
        second.restore(state)
        second.run()
        assert_equal(straight, second)


def test_what_cannot_be_captured_trains_eagerly_and_says_why() -> None:
    told: list[str] = []
    for part in ({"model": {"import": "user_parts:random_net"}}, {"averaging": {"start_epoch": 1}}):
        results = []
        for _ in range(2):
            slot = Slot(Rack(DEVICE))
            slot.warn = told.append
            results.append(trained(one(**part), slot=slot))
            assert slot.graphs is None
        assert_equal(*results)
    assert any("dropout" in text or "bernoulli" in text for text in told)
    assert any("averaging" in text for text in told)


def test_a_first_step_in_another_precision() -> None:
    made = experiment(variants=[{"name": "a", "replicas": True, "first_step_precision": "bf16", "population": 2}])
    m = engine.plan(made, "cuda").members[0]
    assert m.first_step_precision == "bf16"
    assert_equal(trained(m), trained(m, capture=False))


def test_hardware_kernels_train() -> None:
    made = experiment(recipe={"kernels": "hardware"}, variants=[{"name": "a", "vary": ["kernels"], "population": 2}])
    assert all(np.isfinite(trained(m).predictions()).all() for m in engine.plan(made, "cuda").members)


def test_slots_are_measured_and_chosen() -> None:
    sets, rack, m = data(train=640), Rack(DEVICE), one(batch_size=64)
    chosen = sizing.choose(prepared(rack, m, sets), lambda: prepared(rack, m, sets))
    assert 1 <= len(chosen) <= 16
    assert all(slot.graphs is not None for slot in chosen)


def prepared(rack: Rack, m: Member, sets: Any) -> Slot:
    slot = Slot(rack)
    try:
        with slot.entered():
            slot.prepare(m, *sets)
    except BaseException:
        slot.close()
        raise
    return slot


def test_a_full_device_is_told_from_a_failure_and_the_slots_that_fit_keep_their_bits() -> None:
    sets, rack = data(train=256, side=32, channels=3), Rack(DEVICE)
    m = one(model="resnet14", batch_size=128, epochs=1)
    expected = trained(m, sets)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(DEVICE)
    first = prepared(rack, m, sets)
    reserved = torch.cuda.memory_reserved(DEVICE)
    room = reserved + 3 * (reserved - before) // 2  # for this slot, another, and half of a third
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(DEVICE).total_memory, DEVICE)

    others: list[Slot] = []

    def fits() -> bool:
        try:
            others.append(prepared(rack, m, sets))
        except Exception as error:
            if not is_full(error):
                raise
            return False
        return True

    try:
        assert not all(fits() for _ in range(4))
        torch.cuda.empty_cache()
        assert_equal(expected, trained(m, sets, slot=first))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, DEVICE)


@pytest.mark.xdist_group("much of the device's memory")
@pytest.mark.parametrize("count", [4, 16])
@pytest.mark.parametrize(("name", "precision"), [("resnet14", "bf16"), ("vgg11", "tf32"), ("hidden_fc", "fp32")])
def test_members_whose_kernels_overlap_keep_their_bits(name: str, precision: str, count: int) -> None:
    """Batches of 512 of CIFAR's shape fill the device: six whole ones and a part, twice over."""
    if torch.cuda.mem_get_info(DEVICE)[0] < 3e9 * count:
        pytest.skip(f"needs {3 * count} GB of free GPU memory")
    recipe = {
        "model": name,
        "precision": precision,
        "batch_size": 512,
        "epochs": 2,
        "augment": {"crop": 4, "flip": True},
    }
    recipe |= {"optimizer": {"name": "sgd", "lr": 0.01, "weight_decay": 5e-4}, "schedule": "constant"}
    variants = [{"name": "a", "vary": ["init", "shuffle", "augment", "stochastic"]}]
    members = engine.plan(experiment(recipe=recipe, variants=variants, population=count), "cuda").members
    sets = data(train=6 * 512 + 336, side=32, channels=3)
    slots = prepared_slots(Rack(DEVICE), members[0], sets, count)
    try:
        assert all(slot.graphs is not None for slot in slots)
        assert len({slot.fingerprint for slot in slots}) == 1
        alone = [bits for m in members for bits in train_beside(slots[:1], [m], sets)]
        assert len(set(alone)) == count
        assert train_beside(slots, members, sets) == alone
    finally:
        for slot in slots:
            slot.close()


# ---- sources ---------------------------------------------------------------------------------------------------------


def test_one_seed_moves_only_its_own_source_on_the_device() -> None:
    train, _, classes = data()
    template = one(epochs=2)

    def draws(**seeds: int) -> dict[str, Any]:
        changed = Seeds(**{**CONSTANTS, **seeds})
        m = member(template.recipe, changed, changed, template.platform)
        parts = make_parts(m.recipe, m.init_seed, train.train_shape, classes, DEVICE)
        made = Trainer(m, train, train, classes, (), parts)
        epoch = DeviceEpoch(train, m.recipe.augment, 16, 5, torch.float32, parts.layout)
        epoch.enter(made._plan(1))
        order, pixels, masks = [], {}, []
        for count in (16, 16, 16, 16, 8):
            batch = epoch.begin(count)
            order.append(batch.indices.tolist())
            for index, image in zip(order[-1], batch.images.cpu()):
                pixels[index] = image.clone()
            mask = native.dropout_mask(torch.arange(4, device=DEVICE), 8, p=0.5, seed=0, step=0, layer=0, now=epoch.now)
            masks.append(mask.cpu())
            epoch.end(torch.zeros(1, device=DEVICE))
        initial = initialised_model(m.recipe, m.init_seed, train.train_shape, classes).state_dict()
        return {"init": initial, "order": order, "pixels": pixels, "masks": torch.stack(masks)}

    base = draws()
    for source in ("init", "shuffle", "augment", "stochastic", "kernels"):
        moved = draws(**{source: 7})
        same_pixels = all(torch.equal(value, moved["pixels"][key]) for key, value in base["pixels"].items())
        same_weights = all(torch.equal(value, moved["init"][key]) for key, value in base["init"].items())
        assert same_weights == (source != "init")
        assert (base["order"] == moved["order"]) == (source not in ("shuffle", "kernels"))
        assert same_pixels == (source != "augment")
        assert torch.equal(base["masks"], moved["masks"]) == (source != "stochastic")


# ---- the engine ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, ...]]:
    """The bits of every member of `experiment()`, trained one at a time."""
    result = engine.run(experiment(), tmp_path_factory.mktemp("gpu") / "store", device="cuda", cohort=1)
    assert_kept(result, 1)
    found = bits(result.store)
    assert set(found) == {m.id for m in result.plan.members}
    assert all(device.startswith("cuda:") for device in result.store.members()["device"])
    return found


@pytest.mark.parametrize("cohort", [3, 8, None])
def test_size_of_the_cohort_and_order_of_members(
    cohort: int | None, alone: dict[str, tuple[Any, ...]], tmp_path: Path
) -> None:
    def shuffled(members: list[Member]) -> list[Member]:
        return random.Random(cohort or 0).sample(members, len(members))

    result = engine.run(experiment(), tmp_path / "store", device="cuda", cohort=cohort, order=shuffled)
    assert_kept(result, cohort)
    assert bits(result.store) == alone


def test_kill_and_rerun_on_the_gpu(alone: dict[str, tuple[Any, ...]], tmp_path: Path) -> None:
    content, store = tmp_path / "tiny.yaml", tmp_path / "store"
    content.write_text(_as_yaml(experiment()))
    command = [sys.executable, "-m", "popnet.run", str(content), "--store", str(store), "--device", "cuda"]
    process = subprocess.Popen([*command, "--cohort", "3", "--quiet"], stdout=subprocess.DEVNULL)
    wait_for(lambda: count_done(store) > 2 or process.poll() is not None, seconds=240)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not _locked(store))
    kept = bits(popnet.open_store(store))
    assert all(alone[key] == value for key, value in kept.items())
    result = engine.run(experiment(), store, device="cuda", cohort=8)
    assert_kept(result, 8)
    assert bits(result.store) == alone


def test_equal_seeds_trained_again_are_equal_on_the_gpu(alone: dict[str, tuple[Any, ...]]) -> None:
    rows = {p.name: p.members for p in engine.plan(experiment(), "cuda").populations}
    assert len({m.id for m in rows["same"]}) == 3
    assert len({alone[m.id] for m in rows["same"]}) == 1
    for name in ("init", "shuffle", "kernels", "late", "later", "poke"):
        assert len({alone[m.id][0] for m in rows[name]}) == len(rows[name]), f"the members of {name} must differ"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_pictures_are_fed_to_members_on_the_gpu(precision: str, tmp_path: Path) -> None:
    """Made on the CPU and copied: one member at a time, and three that one reading feeds, with the same bits."""
    made = picture_recipe(tmp_path) | {"precision": precision}
    rows = [{"name": name, "vary": [name]} for name in ("init", "augment", "shuffle")]
    content = {"name": "x", "recipe": made, "population": 3, "variants": rows}
    found = []
    for size in (1, 3):
        result = popnet.run(config.from_mapping(content), tmp_path / f"{size}", device="cuda", cohort=size)
        assert_kept(result, size)
        ledger = result.store.members()
        assert set(ledger["status"]) == {"done"}, ledger["error"].tolist()
        found.append((ledger["weights_digest"].to_dict(), ledger["predictions_digest"].to_dict()))
    assert found[0] == found[1]


def picture_recipe(folder: Path) -> dict[str, Any]:
    """Of PNGs of several sizes, which need no library of the system's, whose brightness tells the class."""
    generator = np.random.default_rng(1)
    halves = {"train": 12, "test": 3}
    for half, each in halves.items():
        for label in range(4):
            (folder / half / f"class{label}").mkdir(parents=True)
            for number in range(each):
                height, width = generator.integers(40, 72, 2)
                pixels = generator.integers(0, 128, (height, width, 3)) + 40 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / half / f"class{label}" / f"{number}.png")
    return {
        "dataset": {"name": "image_folder", "kwargs": {half: str(folder / half) for half in halves}},
        "model": "resnet6",
        "epochs": 2,
        "batch_size": 16,
        "optimizer": {"name": "sgd", "lr": 0.1},
        "resize": {"train": 20, "test": 24},
        "augment": {"resized_crop": True},
    }

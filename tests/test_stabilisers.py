"""Clipping, averaging, weight noise, representations, trajectories: what they compute, and restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import popnet
from popnet import protocol
from popnet.config import Averaging, WeightNoise, from_mapping
from popnet.data.resident import ResidentImages
from popnet.engine.devices import platform
from popnet.errors import ConfigError
from popnet.metrics import linear_cka
from popnet.training.features import captured
from popnet.training.optimizers import FlatParameters
from popnet.training.stabilisers import WeightAverage, clip, normal_offsets
from popnet.training.trainer import Trainer

EXTRAS: dict[str, dict[str, Any]] = {
    "clip": {"clip_gradient": 0.1},
    "average": {"averaging": {"start_epoch": 1}},
    "average every step": {"averaging": {"start_epoch": 1, "every": "step"}},
    "noise": {"weight_noise": {"sd": 0.01, "samples": 2}},
}


def experiment(**recipe: Any) -> popnet.Experiment:
    content = {
        "name": "tiny",
        "recipe": {
            "dataset": {
                "name": "synthetic",
                "kwargs": {"train": 72, "test": 40, "height": 6, "width": 6, "classes": 4},
            },
            "model": "small_cnn",
            "epochs": 4,
            "batch_size": 16,
            "optimizer": {"name": "sgd", "lr": 0.3, "weight_decay": 5e-4},
            "augment": {"crop": 1},
            "keep": ["predictions", "weights", "trajectory"],
            **recipe,
        },
        "population": 2,
        "variants": [
            {"name": "stochastic", "vary": ["stochastic"]},
            {"name": "twins", "cross": {"bit": [0, 1]}},
        ],
    }
    return from_mapping(content)


def trainer(m: protocol.Member) -> Trainer:
    dataset = popnet.data.load(m.recipe.dataset.name, **m.recipe.dataset.kwargs)

    def resident(images: Any, labels: Any) -> ResidentImages:
        return ResidentImages(torch.from_numpy(images), torch.from_numpy(labels), dataset.mean, dataset.std)

    train = resident(dataset.train_images, dataset.train_labels)
    test = resident(dataset.test_images, dataset.test_labels)
    return Trainer(m, train, test, dataset.classes, (protocol.ORIGINAL,))


def members(wanted: popnet.Experiment) -> list[protocol.Member]:
    return list(protocol.plan(wanted, platform("cpu")).members)


@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS.keys())
def test_a_restart_moves_no_bit(extra: dict[str, Any]) -> None:
    m = members(experiment(**extra))[0]
    straight, broken, fresh = trainer(m), trainer(m), trainer(m)
    straight.run()
    broken.run(until=2)
    fresh.restore(broken.checkpoint())
    fresh.run()
    assert torch.equal(straight.trajectory(), fresh.trajectory())
    assert np.array_equal(straight.predictions(), fresh.predictions())
    assert straight.history == fresh.history


@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS.keys())
def test_each_changes_the_training(extra: dict[str, Any]) -> None:
    plain, changed = trainer(members(experiment())[0]), trainer(members(experiment(**extra))[0])
    for each in (plain, changed):
        each.run()
    assert torch.equal(plain.trajectory()[0], changed.trajectory()[0])
    assert not torch.equal(plain.trajectory()[-1], changed.trajectory()[-1])


def test_only_noise_draws_from_the_stochastic_source() -> None:
    for extra, differ in ((EXTRAS["noise"], True), (EXTRAS["clip"], False), (EXTRAS["average"], False)):
        a, b = (trainer(m) for m in members(experiment(**extra))[:2])
        for each in (a, b):
            each.run()
        assert torch.equal(a.trajectory(), b.trajectory()) != differ


def test_unused_keys_leave_ids_as_they_were() -> None:
    recipe = experiment().recipe.canonical()
    assert not {"averaging", "weight_noise", "clip_gradient", "features", "keep"} & set(recipe)
    assert experiment(clip_gradient=1.0).recipe.digest != experiment().recipe.digest
    kept = experiment(features={"layers": ["conv1"]})
    assert [m.id for m in members(kept)] == [m.id for m in members(experiment())]


def flat_model() -> tuple[nn.Module, FlatParameters]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    return model, FlatParameters(model)


@pytest.mark.parametrize("largest", [0.01, 100.0])
def test_clipping_is_pytorchs(largest: float) -> None:
    model, flat = flat_model()
    model(torch.randn(4, 3)).square().sum().backward()
    twin, _ = flat_model()
    for ours, theirs in zip(model.parameters(), twin.parameters()):
        assert ours.grad is not None
        theirs.grad = ours.grad.clone()
    torch.nn.utils.clip_grad_norm_(twin.parameters(), largest)
    clip(flat, largest)
    for ours, theirs in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_noise_is_normal_and_leaves_the_weights() -> None:
    model = nn.Linear(300, 300)
    flat = FlatParameters(model)
    before = flat.values.clone()
    seen = []
    for _ in normal_offsets(WeightNoise(sd=0.5, samples=3), flat, seed=7, epoch=2, step=9):
        seen.append(flat.values - before)
    assert torch.equal(flat.values, before)
    assert len(seen) == 3
    assert not torch.equal(seen[0], seen[1])
    for offset in seen:
        assert abs(float(offset.std()) - 0.5) < 0.01
        assert abs(float(offset.mean())) < 0.01
    (again, *_) = (flat.values - before for _ in normal_offsets(WeightNoise(sd=0.5), flat, 7, 2, 9))
    assert torch.equal(again, seen[0])


def test_averages_are_means_of_what_was_seen() -> None:
    _, flat = flat_model()
    average = WeightAverage(Averaging(start_epoch=1, every="epoch"), flat)
    seen = []
    for epoch in range(3):
        for _ in range(4):
            flat.values.add_(torch.randn_like(flat.values))
            seen.append((epoch, flat.values.clone()))
            average.after_step(epoch)
        replaced = average.after_epoch(epoch + 1)
        assert replaced == (epoch >= 1)
        if replaced:
            expected = torch.stack([values for e, values in seen if e == epoch]).mean(dim=0)
            torch.testing.assert_close(flat.values, expected)


def test_batch_norm_is_measured_for_averaged_weights() -> None:
    each = trainer(members(experiment(averaging={"start_epoch": 0}, epochs=1))[0])
    each.run()
    model, train = each.model, each._train
    weights = each.weights()
    batches = torch.arange(len(train)).split(16)
    first = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    means = []
    handle = first.register_forward_hook(lambda m, inputs, output: means.append(inputs[0].mean(dim=(0, 2, 3))))
    model.eval()
    with torch.inference_mode():
        for indices in batches:
            out = train.buffer(len(indices), torch.float32, torch.channels_last)
            model(train.view_batch(indices, out, protocol.ORIGINAL))
    handle.remove()
    torch.testing.assert_close(weights["bn1.running_mean"], torch.stack(means).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_features_and_tables(tmp_path: Path) -> None:
    wanted = experiment(features={"layers": ["", "conv1"], "examples": 10})
    wanted = wanted.model_copy(update={"measure": ("variability", "similarity", "divergence")})
    result = popnet.run(wanted, store=tmp_path / "store", workers=2)
    table = result.table("similarity")
    twins = [m.id for m in result.plan.populations[1].members]
    features = [result.store.features(key) for key in twins]
    assert features[0]["conv1"].shape[0] == 10
    np.testing.assert_allclose(
        features[0][""].numpy(), result.store.predictions(twins[0])[0, :10], rtol=1e-4, atol=1e-5
    )
    assert table.loc["twins", "conv1"] == pytest.approx(
        linear_cka(features[0]["conv1"], features[1]["conv1"]), abs=1e-9
    )
    assert table.loc["stochastic", "logits"] == 1.0  # nothing draws from it: equal members
    assert table.loc["twins", ["compared", "examples", "estimator"]].tolist() == [2, 10, "unbiased"]
    assert table.loc["twins", "floor conv1"] == 0.0

    # Where the store has fewer examples of one member, or none at all, what is there is compared.
    first = result.store.features_path(twins[0])
    save_file({name: tensor[:6].clone() for name, tensor in features[0].items()}, first)
    assert result.table("similarity").loc["twins", ["compared", "examples"]].tolist() == [2, 6]
    first.unlink()
    table = result.table("similarity")
    assert table.loc["twins", ["compared", "examples"]].tolist() == [0, 0]
    assert np.isnan(table.loc["twins", "conv1"])

    divergence = result.table("divergence")
    rows = divergence[divergence["variant"] == "twins"].set_index("epoch")
    assert list(rows.index) == [0, 1, 2, 3, 4]
    a, b = (result.store.trajectory(key).double() for key in twins)
    assert (a[0] != b[0]).sum() == 1
    np.testing.assert_allclose(rows["weight_distance"], (a - b).norm(dim=1).numpy())
    moved = rows["weight_distance"][0]
    change = result.store.history(twins[1])["test_accuracy"] - result.store.history(twins[0])["test_accuracy"]
    np.testing.assert_allclose(rows["accuracy_condition"][1:], change.abs() / moved)


def test_layers_that_are_not_there() -> None:
    with pytest.raises(ConfigError, match=r"no module 'conv9'.*conv1"):
        captured(trainer(members(experiment())[0]).model, ["conv9"], lambda: None)
    with pytest.raises(ConfigError, match=r"recipe\.features"):
        from_mapping({**experiment().model_dump(by_alias=True), "measure": ["similarity"]})

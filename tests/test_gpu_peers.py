"""The GPU benchmark's peers train what they say: their steps against the script's, from equal weights and batches."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from popnet import models

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import peers

STEPS = 4


def training_set(images: int = 64) -> peers.TrainingSet:
    """Images of CIFAR's shape whose first channel tells the class."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 10, (images,), generator=generator)
    pixels = torch.randint(0, 256, (images, 32, 32, 3), dtype=torch.uint8, generator=generator)
    pixels[..., 0] = (25 * labels).to(torch.uint8)[:, None, None]
    half = torch.full((3, 1, 1), 0.5)
    return peers.TrainingSet(pixels, labels, half, half / 2)


def model(name: str, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return models.build(name).train()


def trained(step: peers.Step, steps: int = STEPS) -> list[float]:
    """The losses of some steps, with equal draws of the augmentation for whoever takes them."""
    batches = torch.arange(64).split(16)
    losses = []
    for number in range(steps):
        torch.manual_seed(100 + number)
        losses.append(float(step(batches[number % 4])))
    return losses


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(
            ours[name], value, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def plain_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the benchmark: popnet's models with PyTorch's own operations, which alone are mapped and compiled."""
    monkeypatch.setattr(models.normalisation, "_fuses", lambda norm, x: False)
    monkeypatch.setattr(models.fully_connected, "_is_narrow", lambda layer, x: False)


def test_the_augmentation_crops_and_flips() -> None:
    pixels = torch.arange(64 * 8 * 8).remainder(251).to(torch.uint8).reshape(64, 8, 8, 1)
    torch.manual_seed(1)
    out = peers.augmented(pixels, torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    padded = torch.nn.functional.pad(pixels.permute(0, 3, 1, 2).float() / 255, (4, 4, 4, 4))
    for image, source in zip(out, padded):
        crops = [source[:, y : y + 8, x : x + 8] for y in range(9) for x in range(9)]
        assert any(torch.allclose(image, crop) or torch.allclose(image, crop.flip(-1)) for crop in crops)


@pytest.mark.parametrize("name", ["linear", "resnet14"])
def test_the_script_is_sgd_with_momentum(name: str) -> None:
    """Against the formula, with gradients from autograd."""
    data, ours, plain = training_set(), model(name), model(name)
    losses = trained(peers.script_step(ours, data, "fp32"))
    moments: dict[str, Tensor] = {}

    def step(indices: Tensor) -> Tensor:
        x, y = data.batch(indices)
        loss = torch.nn.functional.cross_entropy(plain(x), y)
        named = dict(plain.named_parameters())
        with torch.no_grad():
            for (key, value), found in zip(named.items(), torch.autograd.grad(loss, list(named.values()))):
                moments[key] = 0.9 * moments.get(key, torch.zeros(())) + found + 5e-4 * value
                value -= 0.01 * moments[key]
        return loss.detach()

    assert losses == pytest.approx(trained(step), rel=1e-3)
    assert_close(ours.state_dict(), plain.state_dict())


@pytest.mark.parametrize("name", ["linear", "resnet14"])
def test_the_tuned_step_trains_what_the_script_trains(name: str) -> None:
    data, ours, theirs = training_set(), model(name), model(name)
    losses = trained(peers.tuned_step(ours, data, "fp32", compiled=False))
    assert losses == pytest.approx(trained(peers.script_step(theirs, data, "fp32")), rel=1e-3)
    assert_close(ours.state_dict(), theirs.state_dict())
    assert not any(torch.equal(a, b) for a, b in zip(ours.parameters(), model(name).parameters()))


@pytest.mark.parametrize("name", ["linear", "hidden_fc"])
def test_vmap_trains_each_model_as_if_it_were_alone(name: str) -> None:
    data, several = training_set(), [model(name, seed) for seed in (1, 2, 3)]
    alone = copy.deepcopy(several)
    step, weights = peers.vmap_step(several, data, "fp32")
    losses = trained(step)
    theirs = [trained(peers.script_step(one, data, "fp32")) for one in alone]
    assert losses == pytest.approx([sum(column) / 3 for column in zip(*theirs)], rel=1e-3)
    for number, one in enumerate(alone):
        assert_close({key: value[number] for key, value in weights.items()}, dict(one.named_parameters()))
    assert not any(value.requires_grad for value in weights.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("make", ["script", "tuned", "vmap"])
def test_the_loss_goes_down(make: str, precision: str) -> None:
    data = training_set()
    steps: dict[str, Callable[[], peers.Step]] = {
        "script": lambda: peers.script_step(model("hidden_fc"), data, precision),
        "tuned": lambda: peers.tuned_step(model("hidden_fc"), data, precision, compiled=False),
        "vmap": lambda: peers.vmap_step([model("hidden_fc", seed) for seed in (1, 2)], data, precision)[0],
    }
    step = steps[make]()
    torch.manual_seed(1)
    first, *_, last = (peers.train_epoch(step, data, 16) for _ in range(8))
    assert last < 0.8 * first


class Recorded:
    """In place of a CUDA graph: what it recorded is called again."""

    def __init__(self) -> None:
        self.replay: Callable[[], object] = lambda: None


def test_a_captured_step_reads_the_batch_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a pretended device, whose graph is the step called again: it must read the batch where it stood."""
    seen: list[list[int]] = []

    class Stream:
        def wait_stream(self, other: object) -> None:
            pass

    class Block:
        def __init__(self, *_: object) -> None:
            pass

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

    graphs: list[Recorded] = []

    def step(indices: Tensor) -> Tensor:
        seen.append(indices.tolist())
        if graphs:
            graphs[0].replay = lambda: step(indices)
        return indices.sum()

    def graph() -> Recorded:
        graphs.append(Recorded())
        return graphs[0]

    for name, value in {"Stream": Stream, "current_stream": Stream, "stream": Block, "graph": Block}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    first = torch.tensor([1, 2])
    run = peers.captured(step, first)
    assert seen == 4 * [[1, 2]]
    run(torch.tensor([3, 4]))
    assert seen[4:] == [[3, 4]]
    assert first.tolist() == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("make", ["compiled", "tuned"])
def test_compiled_steps_train_what_the_script_trains(make: str) -> None:
    """On the CPU, where reduce-overhead has no graphs to launch; with PyTorch's own draws of the augmentation."""
    import torch._inductor.config as inductor

    data, ours, theirs = training_set(), model("linear"), model("linear")
    step = (
        peers.tuned_step(ours, data, "fp32", compiled=True)
        if make == "tuned"
        else peers.script_step(ours, data, "fp32", compiled=True)
    )
    with inductor.patch(fallback_random=True):
        losses = trained(step)
    assert losses == pytest.approx(trained(peers.script_step(theirs, data, "fp32")), rel=1e-3)
    assert_close(ours.state_dict(), theirs.state_dict())

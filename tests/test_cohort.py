"""Cohorts: members that train beside each other keep their bits. What a GPU's cohort is made of, proved on the CPU."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_determinism import DATASET, bits, experiment, make_trainer
from torch import nn
from torch.nn import functional

import popnet
from popnet import engine, native
from popnet.engine import devices, sizing
from popnet.engine.cohort import Cohort
from popnet.engine.jobs import Died, Event, Job
from popnet.engine.progress import Silent
from popnet.engine.serving import StoreFiles, serve
from popnet.engine.sharing import share
from popnet.engine.training import Training
from popnet.protocol import Member, steps_per_epoch
from popnet.store import Store
from popnet.training.capture import uncaptured_operation, uncaptured_part
from popnet.training.device_epoch import DeviceEpoch
from popnet.training.epochs import epoch_plan
from popnet.training.numerics import LossScale


class Chair:
    """A seat on the CPU."""

    def __init__(self) -> None:
        self.closed = False

    @contextmanager
    def entered(self) -> Iterator[None]:
        torch.set_num_threads(1)
        yield

    def close(self) -> None:
        self.closed = True


class CohortExecutor:
    """Runs jobs in one cohort of CPU seats, in this process."""

    def __init__(self, size: int, labels: str = "0" * 24) -> None:
        dataset = popnet.data.load("synthetic", **DATASET["kwargs"])
        self._shared = share(dataset, labels)
        self._resident = self._shared.attach()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._jobs: dict[int, Job] = {}
        self._number = 0
        self.most = 0
        self.cohort = Cohort(size, Chair, self._train, self._events.put, lambda size: None)

    def _train(self, job: Job, seat: Chair, emit: Any) -> None:
        serve(job, self._shared, self._resident, StoreFiles(), emit)

    @property
    def capacity(self) -> int:
        return self.cohort.size - len(self._jobs)

    @property
    def running(self) -> Sequence[Job]:
        return list(self._jobs.values())

    def start(self, job: Job) -> None:
        self._number += 1
        self._jobs[self._number] = job
        self.most = max(self.most, len(self._jobs))
        self.cohort.start(self._number, job)

    def wait(self, timeout: float) -> list[tuple[Job, Event]]:
        number, event = self._events.get(timeout=120)
        job = self._jobs[number]
        if isinstance(event, engine.training.Done | engine.training.Failed | Died):
            del self._jobs[number]
        return [(job, event)]


def train_in_cohort(store: Path, executor: CohortExecutor, order: Any = list, members: int | None = None) -> Store:
    wanted = engine.plan(experiment(), "cpu")
    opened = Store(store, create=True)
    opened.lock()
    steps = {m.recipe.digest: steps_per_epoch(m.recipe, 72) for m in wanted.members}
    missing = order(engine.missing_members(wanted, opened))[:members]
    Training(wanted, opened, missing, steps).run(executor, Silent())
    opened.unlock()
    return opened


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, ...]]:
    """The bits of every member of `experiment()`, one after the other."""
    found = bits(train_in_cohort(tmp_path_factory.mktemp("alone") / "store", CohortExecutor(1)))
    assert len(found) == len(engine.plan(experiment(), "cpu").members)
    return found


@pytest.mark.parametrize("size", [3, 8])
def test_members_beside_each_other_keep_their_bits(
    size: int, alone: dict[str, tuple[Any, ...]], tmp_path: Path
) -> None:
    """Every row of the experiment, forks of shared beginnings among them, started in a shuffled order."""
    executor = CohortExecutor(size)
    store = train_in_cohort(
        tmp_path / "store", executor, lambda members: random.Random(size).sample(members, len(members))
    )
    assert executor.most == size
    assert bits(store) == alone


def test_a_cohort_goes_on_where_another_stopped(alone: dict[str, tuple[Any, ...]], tmp_path: Path) -> None:
    before = bits(train_in_cohort(tmp_path / "store", CohortExecutor(3), members=7))
    assert len(before) == 7
    after = bits(train_in_cohort(tmp_path / "store", CohortExecutor(4)))
    assert after == alone
    assert all(alone[key] == value for key, value in before.items())


def test_a_cohort_equals_worker_processes(alone: dict[str, tuple[Any, ...]], tmp_path: Path) -> None:
    rows = experiment().variants[:2]
    made = experiment().model_copy(update={"variants": rows})
    found = bits(engine.run(made, tmp_path / "store", workers=1, device="cpu").store)
    assert all(alone[key] == value for key, value in found.items())


def test_too_small_a_device_lowers_the_cohort_and_loses_nothing(
    alone: dict[str, tuple[Any, ...]], tmp_path: Path
) -> None:
    """Memory for two: whoever is the third gives way, and trains later."""
    executor = CohortExecutor(5)
    busy = threading.Semaphore(2)
    sizes: list[int] = []
    alone_on_the_line: list[bool] = []

    def resized(size: int) -> None:
        alone_on_the_line.append(executor.cohort._sending.locked())
        sizes.append(size)

    executor.cohort._resized = resized
    train = executor.cohort._train

    def crowded(job: Job, seat: Any, emit: Any) -> None:
        if not busy.acquire(blocking=False):
            raise torch.OutOfMemoryError("full")
        try:
            train(job, seat, emit)
        finally:
            busy.release()

    executor.cohort._train = crowded
    store = train_in_cohort(tmp_path / "store", executor)
    assert bits(store) == alone
    assert sizes
    assert all(alone_on_the_line)
    assert executor.cohort.size == min(sizes) >= 1
    assert set(store.members()["status"]) == {"done"}


def test_the_next_job_waits_for_the_seat_of_the_last() -> None:
    """The driver hears of a job's end before its thread has left, and must not make the cohort open one more seat."""
    opened: list[Chair] = []
    leaving, sent = threading.Event(), queue.SimpleQueue[Any]()

    class Slow(Chair):
        @contextmanager
        def entered(self) -> Iterator[None]:
            yield
            leaving.wait(60)

    def make_seat() -> Chair:
        opened.append(Slow())
        return opened[-1]

    cohort = Cohort(2, make_seat, lambda job, seat, emit: emit("done"), sent.put, lambda size: None)  # type: ignore[arg-type]
    job = Job(engine.plan(experiment(), "cpu").members[0], (), "", ())
    for number in (1, 2):
        cohort.start(number, job)
        assert sent.get(timeout=60) == (number, "done")
    cohort.start(3, job)
    with pytest.raises(queue.Empty):
        sent.get(timeout=0.2)
    leaving.set()
    assert sent.get(timeout=60) == (3, "done")
    assert len(opened) == 2


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_one_seat_that_is_too_small_counts_as_the_members_failure(error: Exception) -> None:
    executor = CohortExecutor(1)

    def full(job: Job, seat: Any, emit: Any) -> None:
        raise error

    executor.cohort._train = full
    executor.start(Job(engine.plan(experiment(), "cpu").members[0], (), "", ()))
    (_, event), *_ = executor.wait(1)
    assert isinstance(event, Died)
    assert event.counts
    assert "memory is full" in event.reason


# ---- a step that reads its values from memory ------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("variant", ["init", "shuffle", "kernels", "late", "poke"])
def test_a_device_step_has_the_bits_of_a_step_by_values(optimizer: str, variant: str) -> None:
    """The step that a CUDA graph holds, run eagerly on the CPU, over whole trainings: only the position moves."""
    recipe = {"optimizer": {"name": optimizer, "lr": 0.01, "weight_decay": 5e-4, "groups": "released"}}
    rows = {p.name: p.members for p in engine.plan(experiment(recipe=recipe), "cpu").populations}
    _same_bits(rows[variant][1])


def test_a_device_step_draws_the_same_masks() -> None:
    recipe = {"model": {"import": "test_cohort:dropout_net"}, "clip_gradient": 0.5}
    made = experiment(recipe=recipe, variants=[{"name": "a", "vary": ["stochastic", "augment"]}])
    _same_bits(engine.plan(made, "cpu").members[1])


def _same_bits(m: Member) -> None:
    by_values, by_memory = make_trainer(m), make_trainer(m)
    by_values.run()
    steps, examples, batch = by_memory._steps, len(by_memory._train), m.recipe.batch_size
    epoch = DeviceEpoch(by_memory._train, m.recipe.augment, batch, steps, torch.float32, by_memory._parts.layout)
    for number in range(m.recipe.epochs):
        by_memory.model.train()
        epoch.enter(by_memory._plan(number))
        for step in range(steps):
            by_memory._before_step(number * steps + step)
            by_memory.device_step(epoch, min(batch, examples - step * batch))
        loss = by_memory._mean_loss(number, epoch.losses())
        by_memory.epoch += 1
        by_memory._finish_epoch(loss)
    assert by_memory.history == by_values.history
    assert all(torch.equal(value, by_memory.weights()[name]) for name, value in by_values.weights().items())
    assert np.array_equal(by_memory.predictions(), by_values.predictions())


class DropoutNet(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.hidden, self.drop, self.out = nn.Linear(inputs, 16), nn.Dropout(0.4), nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(functional.relu(self.hidden(self.drop(x.flatten(1))))))


def dropout_net(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return DropoutNet(int(np.prod(input_shape)), classes)


def test_a_plan_is_what_the_member_says() -> None:
    rows = {p.name: p.members for p in engine.plan(experiment(), "cpu").populations}
    m = rows["late"][1]
    for number in range(4):
        plan = epoch_plan(m, number, 72, [0.25, 0.5, 0.125, 1.0, 2.0])
        assert plan.table.shape == (5, native.STEP_WORDS)
        assert sorted(plan.order.tolist()) == list(range(72))
        assert plan.values["rate"].tolist() == [0.25, 0.5, 0.125, 1.0, 2.0]
        assert plan.values["step"].tolist() == list(range(5 * number, 5 * number + 5))
        assert set(plan.values["augment_seed"]) == {m.seed("augment", number, 5 * number)}
        assert set(plan.values["epoch"]) == {number}
        assert not plan.hardware.any()
        np.testing.assert_allclose(
            plan.values["first_correction"], [1 - 0.9**t for t in range(5 * number + 1, 5 * number + 6)]
        )


# ---- what cannot be captured -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (lambda x: functional.dropout(x, 0.5), "dropout|bernoulli"),
        (lambda x: x * float(x.detach().sum()), "_local_scalar_dense"),
        (lambda x: x[x > 0], "nonzero|index"),
        (lambda x: x + torch.randn(3), "randn|normal"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x + torch.rand(3, generator=torch.Generator()), "rand"),
    ],
)
def test_the_operation_that_a_graph_cannot_hold_is_named(operation: Any, name: str) -> None:
    import re

    found = uncaptured_operation(lambda: operation(torch.ones(3, requires_grad=True)))
    assert found is not None
    assert re.search(name, found)


def test_what_could_draw_and_does_not_can_be_captured() -> None:
    """PyTorch tags an operation once for all its arguments."""
    x = torch.ones(1, 2, 4, 8, requires_grad=True)
    assert uncaptured_operation(lambda: functional.scaled_dot_product_attention(x, x, x).sum().backward()) is None
    assert uncaptured_operation(lambda: torch.bernoulli(x)) is not None


def test_popnets_models_can_be_captured() -> None:
    for name in ("linear", "small_cnn", "resnet6", "shufflenet_v2_x0_5"):
        model = popnet.models.build(name, input_shape=(3, 16, 16))

        def step(model: nn.Module = model) -> None:
            functional.cross_entropy(model(torch.zeros(2, 3, 16, 16)), torch.tensor([0, 1])).backward()

        assert uncaptured_operation(step) is None, name


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"optimizer": {"import": "user_parts:rmsprop", "lr": 0.1}}, "optimizer 'user_parts:rmsprop'"),
        ({"averaging": {"start_epoch": 1}}, "averaging"),
        ({"weight_noise": {"sd": 0.1, "samples": 2}}, "weight_noise"),
        ({}, None),
    ],
)
def test_the_key_that_needs_the_host_is_named(changes: dict[str, Any], named: str | None) -> None:
    found = uncaptured_part(experiment(recipe=changes).recipe)
    assert found is None if named is None else named in str(found)


# ---- loss scaling, size, devices -------------------------------------------------------------------------------------


def test_loss_scale_halves_on_overflow_and_doubles_after_a_while() -> None:
    scale = LossScale(torch.device("cpu"))
    loss = torch.tensor(2.0)
    assert scale.scaled(loss) == 2.0 * 65536
    good, bad = torch.tensor([65536.0, 2 * 65536.0]), torch.tensor([1.0, float("inf")])
    scale.unscale(good)
    assert good.tolist() == [1.0, 2.0]
    assert scale.overflow == 0
    scale.update()
    scale.unscale(bad)
    assert scale.overflow != 0
    scale.update()
    assert scale.scaled(loss) == 2.0 * 32768
    for _ in range(2000):
        scale.unscale(torch.ones(1))
        scale.update()
    assert scale.scaled(loss) == 2.0 * 65536
    copy = LossScale(torch.device("cpu"))
    copy.load({name: value.clone() for name, value in scale.state().items()})
    assert copy.scaled(loss) == scale.scaled(loss)
    scale.reset()
    assert scale.scaled(loss) == 2.0 * 65536


@pytest.mark.parametrize(
    ("limit", "rates", "kept"),
    [
        (16, {1: 10, 2: 18, 4: 30, 8: 31, 16: 40}, 4),
        (16, {1: 10, 2: 18, 4: 30, 8: 40, 16: 60}, 16),
        (3, {1: 10, 2: 18, 3: 25}, 3),
        (16, {1: 10, 2: 0}, 1),
        (1, {1: 10}, 1),
    ],
)
def test_a_cohort_grows_while_that_pays(limit: int, rates: dict[int, float], kept: int) -> None:
    assert sizing.grown(limit, lambda count: rates[count]) == kept


def test_a_slot_that_does_not_fit_ends_the_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever says so: the allocator, or a library that found no room for its usual kernels."""
    for name, value in {"current_device": 0, "memory_reserved": 1, "mem_get_info": (100, 100)}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(sizing.time, "perf_counter", iter(range(99)).__next__)  # each size is measured in one second
    for error in (torch.OutOfMemoryError("full"), popnet.errors.DeviceTooSmall("other kernels")):
        opened = [Bench()]

        def more(error: Exception = error, opened: list[Bench] = opened) -> Bench:
            if len(opened) == 3:
                raise error
            opened.append(Bench())
            return opened[-1]

        chosen = sizing.choose(opened[0], more)  # type: ignore[arg-type]
        assert chosen == opened[:2]
        assert [bench.closed for bench in opened] == [False, False, True]


class Bench(Chair):
    """A chair that can be timed."""

    def measure(self, steps: int) -> None:
        pass


def test_a_reserve_of_memory_is_left_alone() -> None:
    assert sizing.fitting(10_000, 1000) == 8
    assert sizing.fitting(500, 1000) == 0


def test_devices_are_checked_before_anything_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(popnet.ConfigError, match="known: auto, cpu, cuda"):
        devices.platform("gpu")
    for size in (0, 33):
        with pytest.raises(popnet.ConfigError, match=f"cohort is {size}"):
            engine.run(experiment(), tmp_path / "store", cohort=size)
    monkeypatch.setattr(native, "cuda_compiled", False)
    with pytest.raises(popnet.ConfigError, match="built without CUDA"):
        devices.platform("cuda")
    monkeypatch.setattr(native, "cuda_compiled", True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(popnet.ConfigError, match="finds no GPU"):
        devices.platform("cuda")
    assert devices.platform("auto").device.startswith("cpu")


def test_gpus_are_named_as_the_environment_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.visible_gpus() == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5")
    assert devices.visible_gpus() == ("3", "GPU-5")


class FakeGpu:
    def __init__(self, name: str) -> None:
        self.name, self.major, self.minor = name, 9, 0


def test_gpus_of_several_kinds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["NVIDIA H200", "NVIDIA H200"]
    monkeypatch.setattr(native, "cuda_compiled", True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: FakeGpu(names[index]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = devices.platform("auto")
    assert found.device == "cuda:nvidia h200:sm_90"
    assert set(dict(found.versions)) == {"torch", "cuda", "cudnn"}
    names[1] = "Tesla V100"
    with pytest.raises(popnet.ConfigError, match="several kinds"):
        devices.platform("cuda")


def test_what_no_gpu_trains_is_said_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "cuda_compiled", True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: FakeGpu("NVIDIA H200"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(popnet.ConfigError, match=r"workers is 2, and 1 GPU\(s\) are visible"):
        engine.run(experiment(), tmp_path / "store", workers=2, device="cuda")
    assert not (tmp_path / "store").exists()


def test_a_cohorts_size_is_no_part_of_a_member() -> None:
    sizes = {tuple(m.id for m in engine.plan(experiment(cohort=k), "cpu").members) for k in (None, 1, 8)}
    assert len(sizes) == 1

"""Slots, on a pretended GPU: a captured graph is a function that is called again, and all else is the real thing."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_determinism import DATASET, experiment, make_trainer

import popnet
from popnet import engine
from popnet.data.resident import ResidentImages
from popnet.engine import gpu_worker, local
from popnet.engine.cohort import Cohort
from popnet.engine.jobs import Died, Done, Failed, Job, Ready
from popnet.engine.sharing import share
from popnet.errors import CaptureFailed, DeviceTooSmall, TrainingError
from popnet.protocol import ORIGINAL, Member
from popnet.store import digest
from popnet.training import probe, slots
from popnet.training.graphs import Graphs
from popnet.training.memory import is_full, is_lost
from popnet.training.rack import MOST_SLOTS, Rack
from popnet.training.slots import Slot
from popnet.training.trainer import Trainer

CPU = torch.device("cpu")
CAPTURE = Graphs._capture
FLIPPED = popnet.protocol.View(flip=True)


class Replayed:
    """In place of a captured graph."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.replay = function


class Silent:
    """In place of a stream or an event."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def record(self) -> None:
        pass


@pytest.fixture(autouse=True)
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Stream", "Event"):
        monkeypatch.setattr(torch.cuda, name, Silent)
    for name in ("device", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: nullcontext())
    for name in ("empty_cache", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(slots, "capture_fails", lambda *_: None)

    def capture(self: Graphs, function: Callable[[], None]) -> Any:
        # a graph's output stands where it stood; a later replay writes there
        function()
        return Replayed(function)

    monkeypatch.setattr(Graphs, "_capture", capture)
    # the output of an evaluation is a new tensor at each call, so it is read after the replay
    evaluate = Graphs.capture_evaluation

    def capture_evaluation(self: Graphs, images: torch.Tensor, hardware: bool) -> None:
        evaluate(self, images, hardware)
        made = self._evaluation[len(images), hardware]
        logits = made.logits

        def again() -> None:
            with torch.no_grad(), slots.autocast(CPU, self._precision):
                logits.copy_(self._parts.model(images).float())

        self._evaluation[len(images), hardware] = type(made)(Replayed(again), images, logits)  # type: ignore[arg-type]

    monkeypatch.setattr(Graphs, "capture_evaluation", capture_evaluation)
    torch.set_num_threads(1)


def data() -> tuple[ResidentImages, ResidentImages, int]:
    dataset = popnet.data.load("synthetic", **DATASET["kwargs"])
    train, test = (
        ResidentImages(torch.from_numpy(pixels), torch.from_numpy(labels), dataset.mean, dataset.std)
        for pixels, labels in (
            (dataset.train_images, dataset.train_labels),
            (dataset.test_images, dataset.test_labels),
        )
    )
    return train, test, dataset.classes


def rows(**changes: Any) -> dict[str, tuple[Member, ...]]:
    return {p.name: p.members for p in engine.plan(experiment(**changes), "cpu").populations}


@contextmanager
def trainer_in(slot: Slot, m: Member) -> Iterator[Trainer]:
    train, test, classes = data()
    with slot.entered():
        yield slot.trainer(m, train, test, classes, (ORIGINAL,))


def assert_same(m: Member, slot: Slot) -> None:
    """The member trained in the slot has the bits of the member trained by itself."""
    plain = make_trainer(m)
    plain.run()
    with trainer_in(slot, m) as made:
        made.run()
        weights = made.weights()
        assert all(torch.equal(value, weights[name]) for name, value in plain.weights().items())
        assert str(made.history) == str(plain.history)  # NaN where nothing was evaluated
        assert np.array_equal(made.predictions(), plain.predictions())
        assert torch.equal(made.trajectory(), plain.trajectory())


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"optimizer": {"name": "adam", "lr": 0.01}},
        {"model": {"import": "test_cohort:dropout_net"}, "optimizer": {"name": "adam", "lr": 0.01}},
        {"clip_gradient": 0.5, "evaluate_every": 3},
        {"schedule": {"name": "snapshot", "cycles": 2}},
        {"precision": "bf16", "keep": ["predictions", "trajectory"]},
        {"drop_last": True, "evaluation_batch": 16},
        {"batch_size": 100},
    ],
)
def test_a_slot_has_the_bits_of_a_trainer_of_its_own(recipe: dict[str, Any]) -> None:
    slot = Slot(Rack(CPU))
    assert_same(rows(recipe=recipe)["shuffle"][1], slot)
    assert slot.graphs is not None


@pytest.mark.parametrize("variant", ["kernels", "bit", "late", "later", "poke", "same"])
def test_every_kind_of_member_trains_in_a_slot(variant: str) -> None:
    assert_same(rows()[variant][1], Slot(Rack(CPU)))


def test_a_first_step_in_another_precision() -> None:
    variant = {"name": "a", "replicas": True, "first_step_precision": "bf16", "population": 2}
    recipe = {"optimizer": {"name": "adam", "lr": 0.01}}
    assert_same(rows(variants=[variant], recipe=recipe)["a"][0], Slot(Rack(CPU)))


def test_members_follow_each_other_without_a_trace() -> None:
    """Of one recipe, which share the graphs, and of another, for which there are new ones."""
    slot = Slot(Rack(CPU))
    first, other = rows(), rows(recipe={"optimizer": {"name": "adam", "lr": 0.01}})
    assert_same(first["init"][1], slot)
    graphs = slot.graphs
    for m in (first["late"][2], first["init"][0], rows(recipe={"epochs": 6})["init"][1]):
        assert_same(m, slot)
        assert slot.graphs is graphs
    assert_same(other["init"][1], slot)
    assert slot.graphs is not graphs


def test_a_checkpoint_goes_on_in_another_slot() -> None:
    m = rows(recipe={"optimizer": {"name": "adam", "lr": 0.01}})["late"][1]
    plain = make_trainer(m)
    plain.run()
    for until in (1, 2, 3):
        with trainer_in(Slot(Rack(CPU)), m) as before:
            before.run(until=until)
            state = before.checkpoint()
        with trainer_in(Slot(Rack(CPU)), m) as after:
            after.restore(state)
            after.run()
            assert after.history == plain.history
            assert all(torch.equal(value, after.weights()[name]) for name, value in plain.weights().items())


def test_features_see_the_model_and_views_are_all_predicted() -> None:
    m = rows(recipe={"features": {"layers": ["bn2"], "examples": 7}})["init"][1]
    plain = make_trainer(m)
    plain.run()
    train, test, classes = data()
    made = Slot(Rack(CPU)).trainer(m, train, test, classes, (ORIGINAL, FLIPPED))
    made.run()
    assert torch.equal(made.features()["bn2"], plain.features()["bn2"])
    both = made.predictions()
    assert np.array_equal(both[:1], plain.predictions())
    assert not np.array_equal(both[0], both[1])


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        ({"model": {"import": "user_parts:random_net"}}, "dropout|bernoulli"),
        ({"averaging": {"start_epoch": 1}}, "recipe.averaging"),
        ({"weight_noise": {"sd": 0.1, "samples": 2}}, "recipe.weight_noise"),
        ({"optimizer": {"import": "user_parts:rmsprop", "lr": 0.01}}, "recipe.optimizer"),
    ],
)
def test_what_cannot_be_captured_is_named_and_trains_eagerly(recipe: dict[str, Any], named: str) -> None:
    import re

    told: list[str] = []
    slot = Slot(Rack(CPU))
    slot.warn = told.append
    for _ in range(2):
        assert_same(rows(recipe=recipe)["init"][1], slot)
    assert slot.graphs is None
    assert re.search(named, told[0])


def test_a_users_model_whose_capture_fails_trains_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is tried once for all slots."""
    tried: list[Any] = []
    monkeypatch.setattr(slots, "capture_fails", lambda *given: tried.append(given) or "its capture fails: boom")
    told: list[str] = []
    rack = Rack(CPU)
    for _ in range(3):
        slot = Slot(rack)
        slot.warn = told.append
        assert_same(rows(recipe={"model": {"import": "test_cohort:dropout_net"}})["init"][1], slot)
        assert slot.graphs is None
    assert told == 3 * ["model 'test_cohort:dropout_net' trains without CUDA graphs: its capture fails: boom"]
    assert len(tried) == 1


def test_the_trial_of_a_capture_names_what_went_wrong() -> None:
    """In a process that pretends nothing, where there is no GPU."""
    train, _, classes = data()
    m = rows(recipe={"model": {"import": "test_cohort:dropout_net"}})["init"][1]
    reason = probe.capture_fails(m, train, classes)
    assert reason is not None
    assert reason.startswith("its capture fails: ")
    assert "Traceback" not in reason


def test_a_trial_without_memory_says_nothing_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made again when there is more; the model is not given up for it."""
    m, (train, _, classes) = rows(recipe={"model": {"import": "test_cohort:dropout_net"}})["init"][1], data()
    ended = subprocess.CompletedProcess(
        [], probe._NO_ROOM, b"", b"advice\nCUDA out of memory, in aten.mm or after it\n"
    )
    monkeypatch.setattr(probe.subprocess, "run", lambda *_, **__: ended)
    monkeypatch.setattr(slots, "capture_fails", probe.capture_fails)
    rack = Rack(CPU)
    with pytest.raises(DeviceTooSmall, match=r"no memory to try a capture: CUDA out of memory, in aten\.mm"):
        Slot(rack).trainer(m, train, train, classes, ())
    monkeypatch.setattr(slots, "capture_fails", lambda *_: None)
    slot = Slot(rack)
    assert_same(m, slot)
    assert slot.graphs is not None


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuntimeError("CUDA error: operation not permitted when stream is capturing\nadvice"), CaptureFailed),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
        (RuntimeError("CUDA error: out of memory"), RuntimeError),
        (TypeError("a user's"), TypeError),
    ],
)
def test_a_capture_that_fails_says_what_is_left(
    raised: Exception, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little memory is no reason to give the process up, any other failure is."""

    class Capture:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(Graphs, "_capture", CAPTURE)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    graphs = Graphs(make_trainer(rows()["init"][1])._parts, "fp32", torch.cuda.Stream())

    def fail() -> None:
        raise raised

    with pytest.raises(expected) as caught:
        graphs._capture(fail)
    assert is_lost(caught.value) == (expected is CaptureFailed)
    assert is_full(caught.value) == ("out of memory" in str(raised))
    assert "advice" not in str(caught.value)


def test_slots_that_compute_other_bits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether other kernels trained or predicted there."""
    rack, m = Rack(CPU), rows()["init"][1]
    for _ in range(2):
        assert_same(m, Slot(rack))
    evaluate = Graphs.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(Graphs, "evaluate", lambda *arguments: torch.nextafter(evaluate(*arguments), torch.tensor(9.0)))
        with pytest.raises(DeviceTooSmall, match="chose other kernels"), trainer_in(Slot(rack), m):
            pass
    with monkeypatch.context() as patch:
        patch.setattr(Graphs, "train", lambda *_: None)
        with pytest.raises(DeviceTooSmall, match="chose other kernels"), trainer_in(Slot(rack), m):
            pass
    assert_same(m, Slot(rack))


def test_no_two_slots_share_a_stream() -> None:
    """PyTorch gives out 32 streams in turn, so a stream must be given back before it is used again."""
    rack = Rack(CPU)
    made = [Slot(rack) for _ in range(MOST_SLOTS)]
    streams = {id(slot._stream) for slot in made}
    assert len(streams) == MOST_SLOTS
    with pytest.raises(DeviceTooSmall, match="at most 32"):
        Slot(rack)
    made[5].close()
    assert id(Slot(rack)._stream) in streams
    with pytest.raises(DeviceTooSmall, match="at most 32"):
        Slot(rack)


def test_a_loss_that_is_not_finite_names_its_step() -> None:
    m = rows(recipe={"model": "hidden_fc", "optimizer": {"name": "sgd", "lr": 1e20}})["init"][1]
    with trainer_in(Slot(Rack(CPU)), m) as made, pytest.raises(TrainingError, match=r"at epoch 1 of 4, step \d of 5"):
        made.run()


def test_timing_steps_needs_no_member() -> None:
    slot = Slot(Rack(CPU))
    train, test, classes = data()
    with slot.entered():
        slot.prepare(rows()["init"][0], train, test, classes)
        slot.measure(7)
    assert_same(rows()["init"][0], slot)


# ---- the worker process ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3])
def test_a_gpu_worker_trains_its_drivers_jobs(size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Over a pipe, as the driver meets it: it says how many it takes, and every job ends with the member's bits."""
    monkeypatch.setattr(gpu_worker, "_DEVICE", CPU)
    monkeypatch.setattr(gpu_worker, "platform", lambda device: engine.plan(experiment(), "cpu").platform)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # a worker sets its own
    shared = share(popnet.data.load("synthetic", **DATASET["kwargs"]), "labels")
    ours, theirs = Pipe()
    worker = gpu_worker.GpuWorker(theirs, {"data": (shared, shared.attach())}, size)
    serving = threading.Thread(target=worker.run)
    serving.start()
    ready = ours.recv()
    assert (ready.room, isinstance(ready, Ready)) == (size, True)
    chosen = [rows()[name][1] for name in ("init", "shuffle", "late")]
    for number, m in enumerate(chosen):
        outputs = (("predictions", tmp_path / f"{number}.safetensors"),)
        ours.send((number, Job(m, (ORIGINAL,), "data", outputs)))
    ended: dict[int, Done] = {}
    while len(ended) < len(chosen):
        assert ours.poll(60)
        number, event = ours.recv()
        assert not isinstance(event, (Failed, Died)), event
        if isinstance(event, Done):
            ended[number] = event
    ours.send(None)
    serving.join()
    for number, m in enumerate(chosen):
        plain = make_trainer(m)
        plain.run()
        finished = ended[number].finished
        assert finished is not None
        assert finished.weights_digest == digest(plain.weights())
        assert (tmp_path / f"{number}.safetensors").exists()


@pytest.mark.parametrize("error", [CaptureFailed("boom"), torch.AcceleratorError("an illegal memory access")])
def test_a_worker_whose_device_is_lost_ends(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever trained there is trained again by the next one."""
    codes: list[int] = []
    ended = threading.Event()
    monkeypatch.setattr(gpu_worker.os, "_exit", lambda code: codes.append(code) or ended.set())
    monkeypatch.setattr(threading, "excepthook", gpu_worker._end_process)

    def lose(job: Job, seat: Any, emit: Any) -> None:
        raise error

    sent: list[Any] = []
    cohort = Cohort(1, lambda: Slot(Rack(CPU)), lose, sent.append, sent.append)
    cohort.start(1, Job(rows()["init"][0], (ORIGINAL,), "data", ()))
    assert ended.wait(60)
    assert codes == [1]
    assert sent == []
    assert str(error) in capsys.readouterr().err


def test_each_worker_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that replaces a dead one takes its GPU."""
    environments: list[dict[str, str]] = []

    class Process:
        def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
            environments.append(env)

        def terminate(self) -> None:
            pass

        def wait(self, timeout: float | None = None) -> int:
            return -9

    monkeypatch.setattr(local.subprocess, "Popen", Process)
    job = Job(rows()["init"][0], (ORIGINAL,), "data", ())
    with local.LocalExecutor(2, {}, gpus=local.Gpus(("3", "GPU-5"), 4)) as executor:
        executor.start(job)
        executor.start(job)
        assert executor.capacity == 0
        assert "SIGKILL" in executor._bury(executor._workers[0])
        executor.start(job)
    assert [env["CUDA_VISIBLE_DEVICES"] for env in environments] == ["3", "GPU-5", "3"]
    assert all(env["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8" for env in environments)

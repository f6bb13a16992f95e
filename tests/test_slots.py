"""Slots, on a pretended GPU: a captured graph is a function that is called again, and all else is the real thing."""

from __future__ import annotations

import io
import itertools
import pickle
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from beside import prepared_slots, train_beside
from test_determinism import DATASET, bits, experiment, make_trainer

import popnet
from popnet import engine, native, parts
from popnet.data.resident import ResidentImages
from popnet.engine import gpu_worker, local
from popnet.engine.cohort import Cohort
from popnet.engine.jobs import Died, Done, Failed, Job, Lost, Ready
from popnet.engine.sharing import share
from popnet.errors import CaptureFailed, DeviceTooSmall, StoreError, TrainingError
from popnet.protocol import ORIGINAL, Member
from popnet.store import digest
from popnet.training import graphs as graphs_module
from popnet.training import probe, slots, waiting
from popnet.training import trainer as trainer_module
from popnet.training.graphs import Graphs
from popnet.training.memory import is_full, is_lost
from popnet.training.rack import MOST_SLOTS, Rack
from popnet.training.slots import Slot
from popnet.training.trainer import Trainer, initialised_model

CPU = torch.device("cpu")
CAPTURE = Graphs._capture
FLIPPED = popnet.protocol.View(flip=True)


class Replayed:
    """In place of a captured graph."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.replay = function


class Silent:
    """In place of an event."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def record(self, *_: Any) -> None:
        pass


class Stream(Silent):
    """One of the 32 that PyTorch gives out in turn."""

    given = itertools.count()

    def __init__(self, *_: Any, **__: Any) -> None:
        self.cuda_stream = next(Stream.given) % 32


@pytest.fixture(autouse=True)
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Silent)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    for name in ("device", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: nullcontext())
    for name in ("empty_cache", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(slots, "capture_fails", lambda *_: None)

    def capture(self: Graphs, function: Callable[[], None]) -> Any:
        # a graph's output stands where it stood; a later replay writes there, in the mode of the capture
        function()
        model = self._parts.model
        training = model.training

        def again() -> None:
            model.train(training)
            function()

        return Replayed(again)

    monkeypatch.setattr(Graphs, "_capture", capture)
    # the output of an evaluation is a new tensor at each call, so it is read after the replay
    evaluate = Graphs.capture_evaluation

    def capture_evaluation(self: Graphs, images: torch.Tensor, hardware: bool) -> None:
        evaluate(self, images, hardware)
        made = self._evaluation[len(images), hardware]
        logits = made.logits

        def again() -> None:
            self._parts.model.eval()
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


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("groups", ["uniform", "released"])
def test_what_stands_in_a_table_shares_the_graphs(name: str, groups: str) -> None:
    """The rates, by the optimiser's or the schedule; the order of a batch's sums. All else has graphs of its own."""
    optimizer = {"name": name, "lr": 0.01, "weight_decay": 5e-4, "groups": groups}
    faster = optimizer | {"lr": 0.05}
    slot = Slot(Rack(CPU))
    assert_same(rows(recipe={"optimizer": optimizer})["init"][1], slot)
    graphs, fingerprint = slot.graphs, slot.fingerprint
    for change in ({}, {"schedule": "constant"}, {"kernels": "hardware"}):
        assert_same(rows(recipe={"optimizer": faster, **change})["init"][1], slot)
        assert slot.graphs is graphs
    assert_same(rows(recipe={"optimizer": faster})["kernels"][1], slot)
    assert slot.graphs is graphs
    other = {"momentum": 0.5} if name == "sgd" else {"eps": 1e-3}
    assert_same(rows(recipe={"optimizer": faster | other})["init"][1], slot)
    assert slot.graphs is not graphs
    assert slot.fingerprint != fingerprint


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


def test_the_trial_of_a_capture_has_the_programs_own_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was handed over from Python has no import path by which another process finds it."""
    train, _, classes = data()
    key = parts.key(small_net)
    m = rows(recipe={"model": {"import": f"{parts.PROGRAM}:{key}"}})["init"][1]
    sent: list[bytes] = []
    built: list[torch.nn.Module] = []

    def run(command: list[str], input: bytes, **_: Any) -> subprocess.CompletedProcess[bytes]:
        sent.append(input)
        return subprocess.CompletedProcess(command, 0, b"", b"")

    monkeypatch.setattr(probe.subprocess, "run", run)
    with parts.present(parts.Parts({key: small_net})):
        assert probe.capture_fails(m, train, classes) is None
    monkeypatch.setattr(parts, "_received", {})  # as in the process of the trial
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(sent[0])))
    monkeypatch.setattr(probe, "_try", lambda m, *_: built.append(initialised_model(m.recipe, 1, (2, 6, 6), classes)))
    probe.main()
    assert isinstance(built[0], torch.nn.Sequential)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TrainingError("model 'x' is not deterministic"), None),
        (RuntimeError("boom"), 1),
        (torch.OutOfMemoryError("full"), probe._NO_ROOM),
    ],
)
def test_what_a_trial_of_a_capture_finds(error: Exception, code: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that cannot train must not train eagerly, where nobody sees it, because its trial failed."""

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(pickle.dumps(([], {}, ())))))
    monkeypatch.setattr(probe, "_try", fail)
    ended = None
    try:
        probe.main()
    except SystemExit as stopped:
        ended = stopped.code
    assert ended == code


def small_net(input_shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(int(np.prod(input_shape)), classes))


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

    caught = failed_capture(raised, None, monkeypatch)
    assert type(caught) is expected
    assert is_lost(caught) == (expected is CaptureFailed)
    assert is_full(caught) == ("out of memory" in str(raised))
    assert "advice" not in str(caught)


@pytest.mark.parametrize(
    "raised", [RuntimeError("aten::foo is not for captures"), TypeError("a user's"), torch.OutOfMemoryError("full")]
)
def test_a_capture_that_cannot_be_ended_says_what_went_wrong_first(
    raised: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA says at its end only that something failed before; and the process is lost, whatever that was."""
    at_end = torch.AcceleratorError("CUDA error: operation failed due to a previous error during capture")
    caught = failed_capture(raised, at_end, monkeypatch)
    assert isinstance(caught, CaptureFailed)
    assert str(caught) == f"a CUDA graph could not be captured: {raised}"
    assert caught.__cause__ is raised
    assert is_lost(caught)
    only = failed_capture(None, at_end, monkeypatch)
    assert isinstance(only, CaptureFailed)
    assert only.__cause__ is at_end


def failed_capture(raised: Exception | None, at_end: Exception | None, monkeypatch: pytest.MonkeyPatch) -> Exception:
    """What comes of a capture in which, or at the end of which, these are raised."""

    class Capture:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            if at_end is not None:
                raise at_end

    monkeypatch.setattr(Graphs, "_capture", CAPTURE)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    graphs = Graphs(make_trainer(rows()["init"][1])._parts, "fp32", torch.cuda.Stream())

    def fail() -> None:
        if raised is not None:
            raise raised

    try:
        graphs._capture(fail)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("error", "full", "lost"),
    [
        (native.CudaError("augment: CUDA an illegal memory access was encountered"), False, True),
        (native.CudaError("augment: CUDA out of memory"), True, False),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), False, True),
        (torch.AcceleratorError("CUDA error: out of memory"), True, False),
        (RuntimeError("CUDA driver error: unspecified launch failure"), False, True),
        (RuntimeError("CUDA driver error: out of memory"), True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"), False, True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), True, False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False, True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True, False),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True, False),
        (RuntimeError("FIND was unable to find an engine to execute this computation"), True, False),
        (RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"), True, False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
        (ValueError("CUDA error: a user's own"), False, False),
    ],
)
def test_what_an_error_says_of_the_device(error: Exception, full: bool, lost: bool) -> None:
    assert (is_full(error), is_lost(error)) == (full, lost)


def compute_other_bits(patch: pytest.MonkeyPatch) -> None:
    """As other kernels would: the logits of captured evaluations are one ulp larger."""
    evaluate = Graphs.evaluate
    patch.setattr(Graphs, "evaluate", lambda *arguments: torch.nextafter(evaluate(*arguments), torch.tensor(9.0)))


def test_slots_that_compute_other_bits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether other kernels trained or predicted there."""
    rack, m = Rack(CPU), rows()["init"][1]
    for _ in range(2):
        assert_same(m, Slot(rack))
    with monkeypatch.context() as patch:
        compute_other_bits(patch)
        with pytest.raises(DeviceTooSmall, match="chose other kernels"), trainer_in(Slot(rack), m):
            pass
    with monkeypatch.context() as patch:
        patch.setattr(Graphs, "train", lambda *_: None)
        with pytest.raises(DeviceTooSmall, match="chose other kernels"), trainer_in(Slot(rack), m):
            pass
    assert_same(m, Slot(rack))


def test_a_checkpoint_of_other_bits_is_not_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is cut short leaves no finished member, but a checkpoint, which says by what it was trained."""
    m = rows()["init"][1]
    with monkeypatch.context() as patch:
        compute_other_bits(patch)
        with trainer_in(Slot(Rack(CPU)), m) as other:
            other.run(until=1)
            state = other.checkpoint()
    with trainer_in(Slot(Rack(CPU)), m) as made:
        before = {name: value.clone() for name, value in made.weights().items()}
        with pytest.raises(StoreError, match="trained by graphs that compute other bits"):
            made.restore(state)
        assert made.epoch == 0
        assert all(torch.equal(value, made.weights()[name]) for name, value in before.items())
        made.restore({name: value for name, value in state.items() if name != "fingerprint"})  # as from before
        assert made.epoch == 1
        made.restore(made.checkpoint())


@pytest.mark.parametrize("name", ["train", "evaluate"])
@pytest.mark.parametrize("before", [0, 1])
def test_kernels_of_other_bits_at_every_run_are_told_from_a_lack_of_memory(
    name: str, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first slot as in one after another, so also where members train one at a time."""
    rack, m = Rack(CPU), rows(recipe={"model": {"import": "test_cohort:dropout_net"}})["init"][1]
    for _ in range(before):
        Slot(rack).prepare(m, *data())
    runs, original = itertools.count(1), getattr(Graphs, name)

    def nondeterministic(graphs: Graphs, *arguments: Any) -> Any:
        made = original(graphs, *arguments)
        (graphs._parts.flat.values if made is None else made).add_(1e-3 * next(runs))
        return made

    monkeypatch.setattr(Graphs, name, nondeterministic)
    with pytest.raises(TrainingError, match=r"dropout_net' is not deterministic .* recipe\.kernels\.mode=hardware"):
        Slot(rack).prepare(m, *data())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_fingerprint_is_of_the_graphs_alone(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of the warm-ups, of a member's seeds, epochs and rate, or of what trained there before."""
    for module in (slots, trainer_module, graphs_module):  # of fp16, a CPU has the scale of the loss alone
        monkeypatch.setattr(module, "autocast", lambda *_: nullcontext())
    optimizer = {"name": "sgd", "lr": 0.1, "weight_decay": 5e-4, "groups": "released"}
    changes = [{}, {"epochs": 6}, {"optimizer": optimizer}, {"optimizer": optimizer | {"groups": "uniform"}}]
    found = []
    for number, change in enumerate(changes):
        m = rows(recipe={"precision": precision, **change})["init" if number else "shuffle"][1]
        monkeypatch.setattr(graphs_module, "_WARM_UPS", 1 + number)
        slot = Slot(Rack(CPU))
        slot.trainer(m, *data(), (ORIGINAL,)).run()
        slot.clear()
        assert slot.fingerprint is None
        slot.prepare(m, *data())
        found.append(slot.fingerprint)
    first, *same, other = found
    assert re.fullmatch("[0-9a-f]{24}:[0-9a-f]{64}", str(first))
    assert set(same) == {first}
    assert other != first


def test_what_has_no_deterministic_graphs_has_no_fingerprint() -> None:
    variants = [{"name": "a", "vary": ["kernels"], "population": 2}]
    hardware = rows(recipe={"kernels": "hardware"}, variants=variants)["a"][0]
    for m in (hardware, rows(recipe={"averaging": {"start_epoch": 1}})["init"][0]):
        slot = Slot(Rack(CPU))
        slot.warn = lambda text: None
        assert slot.trainer(m, *data(), (ORIGINAL,)).fingerprint is None


def test_members_beside_each_other_are_held_against_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, whose test this one is of: it fails where a slot less was to be had, or one has other bits."""
    members, sets = rows()["init"], data()
    slots_of_one = prepared_slots(Rack(CPU), members[0], sets, 3)
    assert len({slot.fingerprint for slot in slots_of_one}) == 1
    alone = [bits for m in members for bits in train_beside(slots_of_one[:1], [m], sets)]
    assert len(set(alone)) == 3
    assert train_beside(slots_of_one, members, sets) == alone
    with monkeypatch.context() as patch:
        compute_other_bits(patch)
        assert train_beside(slots_of_one, members, sets) != alone
        rack = Rack(CPU)
        prepared_slots(rack, members[0], sets, 1)
    with pytest.raises(DeviceTooSmall):
        prepared_slots(rack, members[0], sets, 2)


def test_no_two_slots_share_a_stream() -> None:
    """PyTorch gives out 32 streams in turn, so a stream must be given back before it is used again."""
    rack = Rack(CPU)
    made = []
    for number in range(MOST_SLOTS):
        made.append(Slot(rack))
        for _ in range(number % 3):  # others take some too
            torch.cuda.Stream()
    streams = {slot._stream.cuda_stream for slot in made}
    assert len(streams) == MOST_SLOTS
    with pytest.raises(DeviceTooSmall, match="at most 32"):
        Slot(rack)
    given_back = made[5]._stream
    made[5].close()
    assert Slot(rack)._stream is given_back
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


@pytest.mark.parametrize(
    "error",
    [
        CaptureFailed("boom"),
        torch.AcceleratorError("an illegal memory access\nadvice"),
        native.CudaError("augment: CUDA invalid configuration argument"),
    ],
)
def test_a_worker_whose_device_is_lost_ends(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever trained there is trained again by the next one. The driver hears which job met which error."""
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
    assert sent == [(1, Lost(f"{type(error).__name__}: {str(error).splitlines()[0]}"))]
    assert str(error) in capsys.readouterr().err


def test_a_device_that_is_lost_while_a_seat_closes_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every job that trains there would count as the one to blame."""
    ended = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda died: ended.set())

    class Broken(Slot):
        def close(self) -> None:
            raise native.CudaError("slot: an illegal memory access was encountered")

    def fill(job: Job, seat: Any, emit: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    sent: list[Any] = []
    cohort = Cohort(1, lambda: Broken(Rack(CPU)), fill, sent.append, sent.append)
    cohort.start(1, Job(rows()["init"][0], (ORIGINAL,), "data", ()))
    assert ended.wait(60)
    assert sent == [(1, Lost("CudaError: slot: an illegal memory access was encountered"))]


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


# ---- a run on the pretended GPU --------------------------------------------------------------------------------------


class Process:
    """In place of a worker's process: a thread that serves the driver over the same connection."""

    def __init__(self, worker: gpu_worker.GpuWorker) -> None:
        self._thread = threading.Thread(target=worker.run, daemon=True)
        self._thread.start()

    def terminate(self) -> None:
        pass

    kill = terminate

    def wait(self, timeout: float | None = None) -> int:
        return 1


class Wire:
    """A worker's end of its connection. With the worker's last word its process is no more, nor are its threads."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._dead = connection, False
        self.recv = connection.recv

    def send(self, message: Any) -> None:
        if self._dead:
            raise SystemExit
        self._dead = isinstance(message, tuple) and isinstance(message[1], Lost)
        with suppress(OSError):  # the driver has ended
            self._connection.send(message)


class PretendedGpu(local.LocalExecutor):
    """The local executor with workers for the pretended GPU, `size` members at once, one worker after another."""

    def __init__(self, datasets: Mapping[str, Any], size: int) -> None:
        super().__init__(1, datasets)
        self._at_once, self.workers = size, 0
        self.died: list[tuple[str, bool]] = []

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for thread in threading.enumerate():
            if thread.name.startswith("member "):
                thread.join(60)

    def wait(self, timeout: float) -> list[tuple[Job, Any]]:
        events = super().wait(timeout)
        self.died += [(job.member.id, event.counts) for job, event in events if isinstance(event, Died)]
        return events

    def _spawn(self) -> local._Worker:
        self.workers += 1
        ours, theirs = Pipe()
        data = {key: (shared, shared.attach()) for key, shared in self._datasets.items()}
        worker = gpu_worker.GpuWorker(Wire(theirs), data, self._at_once)  # type: ignore[arg-type]
        return local._Worker(Process(worker), ours)  # type: ignore[arg-type]


Run = Callable[..., tuple[popnet.Result, PretendedGpu]]


@pytest.fixture
def run_on_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs an experiment on the pretended GPU: (experiment, members at once, store's name)."""
    used: list[PretendedGpu] = []
    monkeypatch.setattr(gpu_worker, "_DEVICE", CPU)
    monkeypatch.setattr(gpu_worker, "platform", lambda device: engine.plan(experiment(), "cpu").platform)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # a worker sets its own
    monkeypatch.setattr(gpu_worker.os, "_exit", lambda code: None)

    def run(made: popnet.Experiment, size: int, store: str = "store") -> tuple[popnet.Result, PretendedGpu]:
        def executor(name: str, workers: Any, datasets: Mapping[str, Any], *_: Any) -> PretendedGpu:
            used.append(PretendedGpu(datasets, size))
            return used[-1]

        monkeypatch.setattr(engine, "_executor", executor)
        return engine.run(made, tmp_path / store, device="cpu"), used[-1]

    return run


def six(**changes: Any) -> popnet.Experiment:
    return experiment(variants=[{"name": "init", "vary": ["init"]}], **({"population": 6} | changes))


def test_how_many_trained_at_once_is_known(run_on_gpu: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of bits that do not depend on it must see that it was kept, and one slot fewer must not go unseen."""
    alone, _ = run_on_gpu(six(), 1, "alone")
    assert alone.at_once == (1,)
    together, _ = run_on_gpu(six(), 3, "together")
    assert together.at_once == (1, 3)
    assert bits(together.store) == bits(alone.store)
    again, _ = run_on_gpu(six(), 3, "together")
    assert again.at_once == ()

    evaluate, streams = Graphs.evaluate, []
    train, calls, three_seats = gpu_worker.GpuWorker._train, itertools.count(), threading.Barrier(3)

    def at_the_same_moment(self: gpu_worker.GpuWorker, *arguments: Any) -> None:
        if next(calls) < 3:
            three_seats.wait(60)
        train(self, *arguments)

    def third_differs(graphs: Graphs, *arguments: Any) -> torch.Tensor:
        streams.extend([] if graphs._stream in streams else [graphs._stream])
        logits = evaluate(graphs, *arguments)
        return torch.nextafter(logits, torch.tensor(9.0)) if streams.index(graphs._stream) == 2 else logits

    monkeypatch.setattr(gpu_worker.GpuWorker, "_train", at_the_same_moment)
    monkeypatch.setattr(Graphs, "evaluate", third_differs)
    fewer, executor = run_on_gpu(six(), 3, "fewer")
    assert fewer.at_once == (1, 3, 2)
    assert executor.died
    assert not any(counts for _, counts in executor.died)
    assert bits(fewer.store) == bits(alone.store)


def test_a_fingerprint_is_kept_and_another_one_is_refused(run_on_gpu: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = run_on_gpu(six(population=2), 2)
    kept = bits(first.store)
    ((program, found),) = first.store.fingerprints().items()
    assert [sorted(ids) for ids in found.values()] == [sorted(kept)]
    with monkeypatch.context() as patch:
        compute_other_bits(patch)
        with pytest.raises(StoreError) as caught:
            run_on_gpu(six(), 3)
        for said in (
            "GPU",
            "model 'small_cnn' (fp32, batches of 16)",
            "cpu:",
            next(iter(found))[:12],
            "another --store",
        ):
            assert said in str(caught.value)
        assert bits(first.store) == kept
        assert first.store.fingerprints() == {program: found}
        elsewhere, _ = run_on_gpu(six(population=2), 2, "elsewhere")
        assert set(elsewhere.store.fingerprints()) == {program}
        assert elsewhere.store.fingerprints() != {program: found}
    whole, _ = run_on_gpu(six(), 3)
    assert {key: whole.store.ledger.entry(key).row["error"] for key in bits(whole.store)} == dict.fromkeys(
        bits(whole.store)
    )
    assert len(bits(whole.store)) == 6
    assert list(whole.store.fingerprints()) == [program]
    assert whole.store.verify() == {}


def test_a_store_from_before_fingerprints_goes_on(run_on_gpu: Run) -> None:
    ledger = (first := run_on_gpu(six(population=2), 2)[0].store).ledger
    ledger.write([({**entry.row, "fingerprint": None}, entry.history) for entry in list(ledger.entries())])
    with sqlite3.connect(ledger.path) as database:
        database.execute("ALTER TABLE members DROP COLUMN fingerprint")
        database.execute("UPDATE members SET accuracy = accuracy + 1 WHERE rowid = 1")
    database.close()
    assert first.fingerprints() == {}
    assert len(first.verify()) == 1, "a damaged entry, which a new column must not hide"
    whole = run_on_gpu(six(), 2)[0].store
    assert whole.verify() == {}
    assert len(bits(whole)) == 6
    ((_, found),) = whole.fingerprints().items()
    assert [len(ids) for ids in found.values()] == [5], "one was there before, and one was trained again"


def test_a_lost_device_blames_the_member_that_met_the_error(run_on_gpu: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beside it, and those that were sent to the dying worker, begin again without blame; no process goes on."""
    made = six()
    poison = engine.plan(made, "cpu").members[3].id
    train = gpu_worker.GpuWorker._train

    def lose(self: gpu_worker.GpuWorker, job: Job, slot: Any, emit: Any) -> None:
        if job.member.id == poison:
            raise native.CudaError("augment: CUDA an illegal memory access was encountered")
        train(self, job, slot, emit)

    monkeypatch.setattr(gpu_worker.GpuWorker, "_train", lose)
    result, executor = run_on_gpu(made, 3)
    table = result.store.members()
    assert table["status"].to_dict() == {m.id: "failed" if m.id == poison else "done" for m in result.plan.members}
    assert "CUDA an illegal memory access was encountered, 3 times" in table["error"][poison]
    assert [member for member, counts in executor.died if counts] == [poison] * 3
    assert executor.workers >= 3


def test_nondeterministic_kernels_fail_the_member_and_keep_the_cohort(
    run_on_gpu: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, train = itertools.count(), Graphs.train

    def nondeterministic(graphs: Graphs, *arguments: Any) -> None:
        train(graphs, *arguments)
        graphs._parts.flat.values.add_(1e-3 * next(runs))

    monkeypatch.setattr(Graphs, "train", nondeterministic)
    result, executor = run_on_gpu(six(population=3), 2)
    assert result.at_once == (1, 2)
    assert executor.died == []
    assert all("is not deterministic" in error for error in result.store.members()["error"])


# ---- waiting ---------------------------------------------------------------------------------------------------------


def test_the_host_sleeps_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """For an event that blocks, recorded on the stream, before the copy that would wait busily."""
    calls: list[Any] = []

    class Event:
        def __init__(self, blocking: bool = False) -> None:
            calls.append(("event", blocking))

        def record(self, stream: Any) -> None:
            calls.append(("record", stream))

        def synchronize(self) -> None:
            calls.append("synchronize")

    class OnDevice:
        device = torch.device("cuda", 0)

        def cpu(self) -> torch.Tensor:
            calls.append("copy")
            return torch.ones(1)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    assert torch.equal(waiting.on_host(OnDevice()), torch.ones(1))  # type: ignore[arg-type]
    assert calls == [("event", True), ("record", "stream of cuda:0"), "synchronize", "copy"]
    calls.clear()
    here = torch.ones(2)
    assert waiting.on_host(here) is here
    assert calls == []

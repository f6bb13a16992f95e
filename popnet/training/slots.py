"""A slot: what one member after another trains in on a CUDA device, with its own stream, memory and graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from popnet.config import Recipe, digest_of
from popnet.data.resident import Images, ResidentImages
from popnet.errors import DeviceTooSmall, TrainingError
from popnet.models.registry import TORCHVISION_PREFIX
from popnet.protocol import HARDWARE, ORIGINAL, REVISION, Member, Platform, Seeds, View, steps_per_epoch
from popnet.store import digest
from popnet.training.capture import uncaptured_operation, uncaptured_part
from popnet.training.device_epoch import DeviceEpoch
from popnet.training.epochs import EpochPlan, epoch_plan
from popnet.training.graphs import Graphs
from popnet.training.numerics import EXCLUSIVE, autocast, numerics
from popnet.training.probe import capture_fails
from popnet.training.rack import Rack
from popnet.training.trainer import Parts, Trainer, initialised_model, make_parts
from popnet.training.waiting import on_host, wait_for

_IN_FLIGHT = 32
"""Steps that are enqueued before the host waits for the last but as many."""

_NOT_CAPTURED = ("epochs", "schedule", "evaluate_every", "threads", "kernels")
"""Keys of a recipe that its graphs do not depend on, beside the optimiser's rate: rates and orders stand in a table, an
epoch is replays, and whether kernels of the device's own choice are used is kept apart."""

_FINGERPRINT = 1
"""Raised with whatever a fingerprint is taken of, so that those in stores are not held against other ones."""

_PROGRAM_DIGITS = 24


class SlotTrainer(Trainer):
    """Trains one member in a slot: by replays where the recipe could be captured, else step by step."""

    def __init__(
        self,
        slot: Slot,
        member: Member,
        train: Images,
        test: Images,
        classes: int,
        views: Sequence[View],
    ) -> None:
        super().__init__(member, train, test, classes, views, slot.parts)
        self._slot, self.fingerprint = slot, slot.fingerprint
        self._planned: tuple[int, EpochPlan] | None = None

    def _train_epoch(self, epoch: int) -> float:
        graphs, device_epoch = self._slot.graphs, self._slot.epoch
        if graphs is None or device_epoch is None:
            return super()._train_epoch(epoch)
        self.model.train()
        plan = self._plan(epoch)
        device_epoch.enter(plan)
        first = epoch * self._steps
        marks: list[torch.cuda.Event] = []
        for step in range(self._steps):
            count = min(self.recipe.batch_size, len(self._train) - step * self.recipe.batch_size)
            if first + step == 0 and self.member.first_step_precision is not None:
                self._eager_step(plan, device_epoch)
            else:
                self._before_step(first + step)
                graphs.train(count, bool(plan.hardware[step]))
            if step % _IN_FLIGHT == _IN_FLIGHT - 1:
                self._wait(marks)
        self._optimizer.replayed(self._steps)
        if epoch + 1 < self.recipe.epochs:  # while the device is busy
            self._planned = (epoch + 1, self._plan(epoch + 1))
        losses = device_epoch.losses()
        self.on_step()
        return self._mean_loss(epoch, losses)

    def _eager_step(self, plan: EpochPlan, device_epoch: DeviceEpoch) -> None:
        """The training's first step in a precision of its own, which no graph has."""
        request = plan.requests(self.recipe.batch_size)[0]
        images = next(self._train.read([request], self.recipe.augment, self._training_buffer))
        loss = self._step(plan, 0, request.indices, images)
        self._optimizer.replayed(-1)  # it is counted with the epoch's others
        device_epoch.end(torch.tensor([loss], device=self._device))

    def _plan(self, epoch: int) -> EpochPlan:
        if self._planned is not None and self._planned[0] == epoch:
            return self._planned[1]
        return super()._plan(epoch)

    def _wait(self, marks: list[torch.cuda.Event]) -> None:
        """Mark this point of the stream, and wait for the mark before: a full queue would stop every slot's host."""
        marks.append(torch.cuda.Event(blocking=True))
        marks[-1].record()
        if len(marks) > 1:
            marks.pop(0).synchronize()
        self.on_step()

    def _predict(self, views: Sequence[View], test: Images | None = None) -> NDArray[Any]:
        graphs = self._slot.graphs
        if graphs is None or test is not None:  # hooks of features see no replay
            return super()._predict(views, test)
        self.model.eval()
        assert isinstance(self._test, ResidentImages)
        with EXCLUSIVE:  # it allocates, and another slot may be capturing
            logits = graphs.evaluate(self._test, views, self.recipe.evaluation_batch, self._hardware())
        self.on_step()
        return self._finite(on_host(logits))


@dataclass(frozen=True)
class _Program:
    """What a slot is set up for; members of equal programs follow each other in it."""

    recipe: str
    examples: int
    tests: int
    hardware: tuple[bool, ...]

    def key(self, platform: Platform) -> str:
        """What its deterministic graphs are known by, on a kind of device, in any process and store."""
        of_device = [platform.device, dict(platform.versions), REVISION, _FINGERPRINT]
        return digest_of([self.recipe, self.examples, self.tests, *of_device])[:_PROGRAM_DIGITS]


class Slot:
    """One place for members on a device, with a stream of its own.

    Args:
        rack: of its device.
        capture: False trains everything step by step; the bits are the same.
        probe: try a capture of a user's code in another process first, since one that fails leaves a process unusable.

    Raises:
        DeviceTooSmall: the rack is full.
    """

    def __init__(self, rack: Rack, capture: bool = True, probe: bool = True) -> None:
        self._rack, self._device, self._capture, self._probe = rack, rack.device, capture, probe
        self._stream = rack.take_stream()
        self.warn: Callable[[str], None] = warnings.warn
        """Is told why something is not captured."""
        self._program: _Program | None = None
        self._parts: Parts | None = None
        self.graphs: Graphs | None = None
        """The captured graphs; None where the recipe cannot be captured."""
        self.epoch: DeviceEpoch | None = None
        """What the graphs read and write; None where there are none."""
        self.fingerprint: str | None = None
        """PROGRAM:BITS, which deterministic graphs these are and what they compute; None where there are none."""

    @property
    def parts(self) -> Parts:
        assert self._parts is not None
        return self._parts

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The slot's stream is the thread's current one while the block runs; trainers work inside such a block."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            yield

    def trainer(self, member: Member, train: Images, test: Images, classes: int, views: Sequence[View]) -> Trainer:
        """A trainer of `member` in this slot; the one before must be done. Batches are made for the slot's device.

        Raises:
            DeviceTooSmall: this slot computes other bits than the first one.
            TrainingError: the model's kernels give other bits at every run.
            torch.OutOfMemoryError: the device is full.
        """
        self.prepare(member, train, test, classes)
        self._load(member.recipe, initialised_model(member.recipe, member.init_seed, train.train_shape, classes))
        return SlotTrainer(self, member, train, test, classes, views)

    def prepare(self, member: Member, train: Images, test: Images, classes: int) -> None:
        """Make what members like this one train in, unless it is there already."""
        program = _program(member, len(train), len(test))
        if self._parts is not None and program == self._program and member.recipe.optimizer.import_path is None:
            return
        self.clear()
        self._parts = make_parts(member.recipe, 1, train.train_shape, classes, self._device)
        if self._capture and self._can_capture(program, member, train, classes):
            assert isinstance(train, ResidentImages)
            assert isinstance(test, ResidentImages)
            self._capture_all(program, member, train, test, classes)
        self._program = program

    def clear(self) -> None:
        """Give the slot's memory back."""
        wait_for(self._stream)
        with EXCLUSIVE:  # no capture may be under way
            self._program = self._parts = self.graphs = self.epoch = self.fingerprint = None
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Give back the slot's memory and its stream; it is of no more use."""
        self.clear()
        self._rack.give_back(self._stream)

    def measure(self, steps: int) -> None:
        """Enqueue so many training steps, on whatever weights are there; for timing."""
        assert self.graphs is not None
        assert self.epoch is not None
        count, hardware = max(self.graphs.sizes)
        for _ in range(steps):
            self.epoch.rewind()
            self.graphs.train(count, hardware)

    def synchronize(self) -> None:
        """Wait until all that was enqueued is done."""
        wait_for(self._stream)

    def _can_capture(self, program: _Program, member: Member, train: Images, classes: int) -> bool:
        recipe = member.recipe
        if not isinstance(train, ResidentImages):
            self.warn(f"model {recipe.model.label!r} trains without CUDA graphs: its images are made on the CPU")
            return False
        obstacle = uncaptured_part(recipe)
        if obstacle is None and steps_per_epoch(recipe, len(train)) == 0:
            return False
        if obstacle is None:
            obstacle = uncaptured_operation(self._forward_backward(recipe, train))
        if obstacle is None and self._probe and _is_foreign(recipe):
            obstacle = self._rack.obstacle(program, partial(capture_fails, member, train, classes))
        if obstacle is not None:
            self.warn(f"model {recipe.model.label!r} trains without CUDA graphs: {obstacle}")
        return obstacle is None

    def _forward_backward(self, recipe: Recipe, train: ResidentImages) -> Callable[[], None]:
        """A training step without its optimiser, on a blank batch."""
        parts, count = self.parts, min(recipe.batch_size, len(train))
        images = train.buffer(count, torch.float32, parts.layout).zero_()

        def run() -> None:
            with numerics(self._device, recipe.precision):
                parts.model.train()
                parts.dropout.enter(1, 0, torch.arange(count, device=self._device))
                with autocast(self._device, recipe.precision):
                    loss = parts.loss(parts.model(images), train.labels[:count])
                loss.backward()

        return run

    def _capture_all(
        self, program: _Program, member: Member, train: ResidentImages, test: ResidentImages, classes: int
    ) -> None:
        recipe, parts, plain = member.recipe, self.parts, _plain(member)
        steps = steps_per_epoch(recipe, len(train))
        dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
        epoch = DeviceEpoch(train, recipe.augment, recipe.batch_size, steps, dtype, parts.layout)
        graphs = Graphs(parts, recipe.precision, self._stream)
        epoch.enter(epoch_plan(plain, 0, len(train), [0.01] * steps))
        trainer = Trainer(plain, train, test, 0, (), parts)
        counts = {min(recipe.batch_size, len(train) - step * recipe.batch_size) for step in (0, steps - 1)}
        sizes = {min(recipe.evaluation_batch, len(test)), len(test) % recipe.evaluation_batch} - {0}
        for hardware in program.hardware:
            for count in sorted(counts, reverse=True):
                step = partial(trainer.device_step, epoch, count)
                graphs.capture_training(count, hardware, step, epoch.rewind)
            for size in sorted(sizes, reverse=True):
                graphs.capture_evaluation(test.buffer(size, dtype, parts.layout), hardware)
        if False in program.hardware:
            start = initialised_model(recipe, plain.init_seed, train.train_shape, classes)
            seen = test.first(sum(sizes))  # a batch of each size
            key = program.key(member.platform)
            bits = self._checked_bits(recipe, key, lambda: self._bits(graphs, epoch, seen, recipe, start))
            self.fingerprint = f"{key}:{bits}"
        self.graphs, self.epoch = graphs, epoch

    def _checked_bits(self, recipe: Recipe, key: str, compute: Callable[[], str]) -> str:
        """What the graphs compute: the same as in the first slot, or, in the first, twice the same.

        Raises:
            TrainingError: they compute other bits from the same state, so that no slot can be held against another.
            DeviceTooSmall: they compute the same bits each time, but others than those of the first slot.
        """
        bits = compute()
        if bits == self._rack.bits(key):
            return bits
        if bits != compute():
            raise TrainingError(
                f"model {recipe.model.label!r} is not deterministic on {self._device.type}: its graphs gave different "
                "bits from the same weights and images, by an operation that PyTorch takes for deterministic: replace "
                "the operation, or vary kernels with recipe.kernels.mode=hardware"
            )
        if not self._rack.agrees(key, bits):
            raise DeviceTooSmall("for lack of memory a library chose other kernels than for the members beside it")
        return bits

    def _bits(self, graphs: Graphs, epoch: DeviceEpoch, test: ResidentImages, recipe: Recipe, start: nn.Module) -> str:
        """What every deterministic graph makes of one state and one batch, in one digest.

        Each time, and in every slot and process, that is the state before the first step of the member whose seeds are
        1, and its first batch: what the warm-ups made of the weights, perhaps by other kernels, does not count.
        """
        parts = self.parts
        self._load(recipe, start)
        if parts.scale is not None:  # at the first scale an update may overflow, and one that is left out says little
            parts.scale.load({"scale": torch.ones(1), "clean": torch.zeros(1)})
        losses = []
        for count, hardware in graphs.sizes:
            if not hardware:
                epoch.rewind()
                graphs.train(count, hardware)
                losses.append(epoch.losses()[0])
        with EXCLUSIVE:  # as in `SlotTrainer._predict`
            logits = graphs.evaluate(test, (ORIGINAL,), recipe.evaluation_batch, False)
        made = {f"model.{name}": value for name, value in parts.model.state_dict().items()}
        made |= {f"optimizer.{name}": value for name, value in parts.optimizer.state().items()}
        made |= {"losses": torch.tensor(losses), "logits": logits}
        return digest({name: on_host(value) for name, value in made.items()})

    def _load(self, recipe: Recipe, source: nn.Module) -> None:
        """Bring everything to the state before a first step, with the weights of `source`."""
        tensors = dict(source.named_parameters()) | dict(source.named_buffers())
        model = self.parts.model
        with torch.no_grad():
            for name, value in (*model.named_parameters(), *model.named_buffers()):
                value.copy_(tensors[name])
        self.parts.flat.gradients.zero_()
        if recipe.optimizer.import_path is None:
            self.parts.optimizer.reset()
        if self.parts.scale is not None:
            self.parts.scale.reset()


def _program(member: Member, examples: int, tests: int) -> _Program:
    recipe = {key: value for key, value in member.recipe.canonical().items() if key not in _NOT_CAPTURED}
    recipe["optimizer"] = {key: value for key, value in recipe["optimizer"].items() if key != "lr"}
    uses = {member.recipe.kernels.mode == "hardware" and s.kernels == HARDWARE for s in (member.seeds, member.base)}
    return _Program(digest_of(recipe), examples, tests, tuple(sorted(uses)))


def _plain(member: Member) -> Member:
    """The member of the recipe with all seeds 1: what a slot is warmed up with."""
    return Member(member.recipe, Seeds(), Seeds(), member.platform)


def _is_foreign(recipe: Recipe) -> bool:
    """Whether code runs in the step that no test has captured: a user's, or one of torchvision's many models."""
    named = recipe.model.name is not None and not recipe.model.name.startswith(TORCHVISION_PREFIX)
    return not named or recipe.loss.import_path is not None

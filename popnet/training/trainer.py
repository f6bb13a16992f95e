"""One member on one CPU thread: its weights, its steps, its evaluation.

A trainer is a pure function of its member: nothing it computes depends on the process, on the members trained before,
or on whether it began at epoch 0 or at a checkpoint.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from popnet import metrics, models
from popnet.config import Component, Recipe, imported
from popnet.data.choice import looked_at, numbered
from popnet.data.resident import BatchRequest, Images
from popnet.errors import StoreError, TrainingError
from popnet.protocol import HARDWARE, ORIGINAL, Member, View, steps_per_epoch
from popnet.store.store import IMAGE_NUMBERS
from popnet.training.device_epoch import DeviceEpoch
from popnet.training.dropout import StepState, make_stateless
from popnet.training.epochs import EpochPlan, epoch_plan
from popnet.training.features import captured
from popnet.training.losses import cross_entropy
from popnet.training.numerics import EXCLUSIVE, LossScale, autocast, numerics, seed_torch
from popnet.training.optimizers import FlatParameters, Stepper, build
from popnet.training.perturbations import perturb
from popnet.training.schedules import learning_rates
from popnet.training.stabilisers import WeightAverage, clip, normal_offsets
from popnet.training.waiting import on_host

HISTORY = ("epoch", "learning_rate", "train_loss", "test_accuracy", "test_cross_entropy")
"""Columns of a member's history, one row for each epoch; test metrics are NaN in epochs that were not evaluated."""

Progress = Callable[[int, float], None]
"""Called after each epoch with the number of epochs done and the epoch's mean training loss."""


def nobody() -> None:
    """Whom a trainer tells of its steps where nobody listens."""


def initialised_model(recipe: Recipe, init_seed: int, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The recipe's model with the weights that `init_seed` gives; torch's own random state is left as it was.

    The weights are those of `torch.manual_seed(init_seed); popnet.models.build(...)`.
    """
    return seeded_build(recipe.model, init_seed, models.build, {"input_shape": input_shape, "classes": classes})


def seeded_build(
    spec: Component, init_seed: int, build_named: Callable[..., nn.Module], shape: dict[str, Any]
) -> nn.Module:
    """A model by name or import, built from its `shape` and the recipe's options under `init_seed`."""
    with EXCLUSIVE, torch.random.fork_rng(devices=[]), _float32_by_default():
        torch.manual_seed(init_seed)
        if spec.import_path is not None:
            build_model = imported(spec.import_path)
            model = build_model(**{**_accepted(build_model, shape), **spec.kwargs})
        else:
            model = build_named(str(spec.name), **shape, **spec.kwargs)
    if not isinstance(model, nn.Module):
        raise TrainingError(f"model {spec.label!r} is {type(model).__name__}, not a torch.nn.Module")
    return model


@dataclass(frozen=True)
class Parts:
    """What a member trains with, all on one device: its model with the parameters in one buffer, optimiser and loss.

    Attributes:
        layout: of the images.
        dropout: what the stateless masks read.
        scale: of the loss, for fp16.
    """

    model: nn.Module
    layout: torch.memory_format
    dropout: StepState
    flat: FlatParameters
    optimizer: Stepper
    loss: Callable[[Tensor, Tensor], Tensor]
    scale: LossScale | None

    @property
    def device(self) -> torch.device:
        return self.flat.values.device


def make_parts(
    recipe: Recipe, init_seed: int, input_shape: tuple[int, int, int], classes: int, device: torch.device | None = None
) -> Parts:
    """The parts of a recipe's member with the weights that `init_seed` gives."""
    device = torch.device("cpu") if device is None else device
    model = initialised_model(recipe, init_seed, input_shape, classes)
    layout = _memory_format(model)
    model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    dropout, flat = make_stateless(model), FlatParameters(model)
    loss: Any = make_loss(recipe)
    if isinstance(loss, nn.Module):
        loss = loss.to(device)
    scale = LossScale(device) if recipe.precision == "fp16" else None
    return Parts(model, layout, dropout, flat, build(model, flat, recipe.optimizer), loss, scale)


class Trainer:
    """Trains one member.

    Args:
        member: what to train.
        train, test: the data, with what reads it.
        classes: how many.
        views: the views of the test images to predict, the original first.
        parts: what to train with, on the device of the data and with the member's initial weights; default: new ones.

    Attributes:
        on_step: is called after each training step and each batch of an evaluation: a sign of progress.
        fingerprint: what the graphs that it replays compute (see `popnet.training.slots.Slot`); None without graphs.
    """

    def __init__(
        self,
        member: Member,
        train: Images,
        test: Images,
        classes: int,
        views: Sequence[View],
        parts: Parts | None = None,
    ) -> None:
        recipe = member.recipe
        self.member, self.recipe, self.views = member, recipe, tuple(views)
        self._train, self._test = train, test
        if parts is None:
            parts = make_parts(recipe, member.init_seed, train.train_shape, classes, train.device)
        self.model, self._parts, self._device = parts.model, parts, parts.device
        self._flat, self._optimizer = parts.flat, parts.optimizer
        self._steps = steps_per_epoch(recipe, len(train))
        self._rates = learning_rates(recipe, self._steps) if self._steps else np.zeros(0)
        self._buffers: dict[tuple[tuple[int, ...], torch.dtype], Tensor] = {}
        self.epoch = 0
        self.history: list[tuple[float, ...]] = []
        self._snapshots: NDArray[np.float64] | None = None
        self._final: NDArray[np.float32] | None = None
        self._averaging = None if recipe.averaging is None else WeightAverage(recipe.averaging, self._flat)
        self._trajectory: list[Tensor] = []
        self.on_step: Callable[[], None] = nobody
        self.fingerprint: str | None = None

    def run(self, until: int | None = None, progress: Progress | None = None) -> None:
        """Train up to the end of epoch `until` (default: all epochs).

        Raises:
            TrainingError: the loss is not finite.
        """
        until = self.recipe.epochs if until is None else until
        while self.epoch < until:
            loss = self._train_epoch(self.epoch)
            self.epoch += 1
            self._finish_epoch(loss)
            if progress is not None:
                progress(self.epoch, loss)

    def predictions(self) -> NDArray[np.float32]:
        """The member's logits, float32 [views, examples, classes]: of the final model, or the mean over snapshots."""
        if self._snapshots is None:
            return self._predict(self.views) if self._final is None else self._final
        return (self._snapshots / self.recipe.schedule.cycles).astype(np.float32)

    def prediction_tensors(self) -> dict[str, Tensor]:
        """What the store keeps of the predictions, by name."""
        return {"predictions": torch.from_numpy(np.ascontiguousarray(self.predictions()))}

    def weights(self) -> dict[str, Tensor]:
        """Every parameter and buffer, contiguous."""
        return {name: _kept(value).contiguous() for name, value in self.model.state_dict().items()}

    def trajectory(self) -> Tensor:
        """The trainable weights before the first step (after a bit change) and after each epoch.

        float32 [epochs + 1, weights], each row in the order of `model.named_parameters()`, every parameter flattened;
        empty unless the recipe keeps it.
        """
        return torch.stack(self._trajectory) if self._trajectory else torch.zeros(0, 0)

    def features(self) -> dict[str, Tensor]:
        """What the recipe's `features.layers` give for some test images: float32 [examples, ...] by layer.

        The first ones, or, of a test set in order of class, those of a fixed shuffle (`popnet.data.choice`), whose
        numbers stand beside the layers as `IMAGE_NUMBERS`.
        """
        spec = self.recipe.features
        if spec is None:
            return {}
        examples = min(spec.examples, len(self._test))
        numbers = looked_at(self._test.labels.cpu().numpy(), examples)
        test = numbered(self._test, examples, numbers)
        found = captured(self.model, spec.layers, lambda: self._predict(self.views[:1], test))
        return found if numbers is None else {**found, IMAGE_NUMBERS: torch.from_numpy(numbers.copy())}

    def checkpoint(self) -> dict[str, Tensor]:
        """All that the rest of the training follows from, as tensors; `restore` takes it back."""
        state = {f"model.{name}": value for name, value in self.weights().items()}
        state |= {f"optimizer.{name}": _kept(value) for name, value in self._optimizer.state().items()}
        state["history"] = torch.tensor(self.history, dtype=torch.float64).reshape(-1, len(HISTORY))
        state["epoch"] = torch.tensor([self.epoch])
        if self.fingerprint is not None:
            state["fingerprint"] = _text(self.fingerprint)
        if self._snapshots is not None:
            state["snapshots"] = torch.from_numpy(self._snapshots.copy())
        if self._averaging is not None:
            state |= {f"averaging.{name}": _kept(value) for name, value in self._averaging.state().items()}
        if self._parts.scale is not None:
            state |= {f"scale.{name}": _kept(value) for name, value in self._parts.scale.state().items()}
        if self._trajectory:
            state["trajectory"] = self.trajectory()
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a checkpoint of a member with the same beginning.

        Raises:
            StoreError: it was trained by graphs that compute other bits than those here.
        """
        here = None if self.fingerprint is None else _text(self.fingerprint)
        if here is not None and not torch.equal(state.get("fingerprint", here), here):
            raise StoreError("was trained by graphs that compute other bits than those here")
        self.model.load_state_dict(_section(state, "model."))
        self._optimizer.load(_section(state, "optimizer."))
        self.history = [tuple(row) for row in state["history"].tolist()]
        self.epoch = int(state["epoch"])
        self._snapshots = state["snapshots"].numpy().copy() if "snapshots" in state else None
        if self._averaging is not None:
            self._averaging.load(_section(state, "averaging."))
        if self._parts.scale is not None:
            self._parts.scale.load(_section(state, "scale."))
        self._trajectory = list(state["trajectory"].clone()) if "trajectory" in state else []

    def _train_epoch(self, epoch: int) -> float:
        self.model.train()
        plan = self._plan(epoch)
        losses = []
        requests = plan.requests(self.recipe.batch_size)
        with contextlib.closing(self._train.read(requests, self.recipe.augment, self._training_buffer)) as batches:
            for step, (request, images) in enumerate(zip(requests, batches)):
                losses.append(self._step(plan, step, request.indices, images))
                self.on_step()
                if not math.isfinite(losses[-1]):
                    break
        return self._mean_loss(epoch, losses)

    def _plan(self, epoch: int) -> EpochPlan:
        rates = self._rates[epoch * self._steps : (epoch + 1) * self._steps]
        return epoch_plan(self.member, epoch, len(self._train), rates)

    def _mean_loss(self, epoch: int, losses: Sequence[float]) -> float:
        """The epoch's loss from its steps'. Raises TrainingError naming the first step whose loss is not finite."""
        total, examples = 0.0, 0
        for step, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} at epoch {epoch + 1} of {self.recipe.epochs}, "
                    f"step {step + 1} of {self._steps}: a lower learning rate or a longer warm-up may help"
                )
            batch = min(self.recipe.batch_size, len(self._train) - step * self.recipe.batch_size)
            total += loss * batch
            examples += batch
        return total / max(examples, 1)

    def _step(self, plan: EpochPlan, step: int, indices: Tensor, images: Tensor) -> float:
        now = plan.values[step]
        epoch, number, stochastic = int(now["epoch"]), int(now["step"]), int(now["stochastic_seed"])
        precision = self._precision(number)
        with numerics(self._device, precision, bool(plan.hardware[step])):
            self._before_step(number)
            indices = indices.to(self._device)
            self._parts.dropout.enter(stochastic, number, indices)
            seed_torch(stochastic, epoch, step, self._device)
            labels = self._train.labels[indices]
            noise = self.recipe.weight_noise
            if noise is None:
                losses = [self._backward(images, labels, precision)]
            else:
                offsets = normal_offsets(noise, self._flat, stochastic, epoch, step)
                with contextlib.closing(offsets):
                    losses = [self._backward(images, labels, precision) for _ in offsets]
                self._flat.gradients.div_(noise.samples)
            self._update(float(now["rate"]))
            if self._averaging is not None:
                self._averaging.after_step(epoch)
        return sum(float(on_host(loss)) for loss in losses) / len(losses)  # others may compute while it waits

    def device_step(self, epoch: DeviceEpoch, count: int) -> None:
        """The next step of an epoch, `count` examples, as one sequence of kernels that a CUDA graph can hold.

        The same bits as a step by values. What happens between two steps is left to the caller.
        """
        batch = epoch.begin(count)
        self._parts.dropout.enter_at(epoch.now, batch.indices)
        loss = self._backward(batch.images, batch.labels, self.recipe.precision)
        self._update(0.0, now=epoch.now)
        epoch.end(loss)

    def _precision(self, number: int) -> str:
        """Of step `number` of the training."""
        first = self.member.first_step_precision
        return first if number == 0 and first is not None else self.recipe.precision

    def _before_step(self, number: int) -> None:
        """What happens to the weights between two steps, before step `number` of the training."""
        if number == self.member.perturbed_before(self._steps) and self.member.perturbation is not None:
            perturb(self.model, self.member.perturbation, self.member.seeds.bit)
        if number == 0 and "trajectory" in self.recipe.keep:
            self._trajectory.append(self._weights_row())

    def _backward(self, images: Tensor, labels: Tensor, precision: str) -> Tensor:
        """Add the loss's gradient to the gradients, and return the loss."""
        with autocast(self._device, precision):
            loss = self._parts.loss(self.model(images), labels)
        (loss if self._parts.scale is None else self._parts.scale.scaled(loss)).backward()
        return loss.detach()

    def _update(self, rate: float, now: Tensor | None = None) -> None:
        """The optimiser's step from the gradients; at the rate of `now` where it is given (see `native.begin_step`)."""
        scale = self._parts.scale
        if scale is not None:
            scale.unscale(self._flat.gradients)
        if self.recipe.clip_gradient is not None:
            clip(self._flat, self.recipe.clip_gradient)
        self._optimizer.step(rate, now=now, skip=None if scale is None else scale.overflow)
        if scale is not None:
            scale.update()

    def _weights_row(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self.model.parameters() if p.requires_grad]).cpu()

    def _finish_epoch(self, loss: float) -> None:
        recipe = self.recipe
        if self._averaging is not None and self._averaging.after_epoch(self.epoch):
            self._measure_batch_norm()
        if "trajectory" in recipe.keep:
            self._trajectory.append(self._weights_row())
        logits: NDArray[np.float32] | None = None
        if recipe.schedule.cycles > 1 and self.epoch % (recipe.epochs // recipe.schedule.cycles) == 0:
            predicted = self._predict(self.views)
            self._snapshots = predicted.astype(np.float64) + (0.0 if self._snapshots is None else self._snapshots)
            logits = predicted[0]
        elif self.epoch == recipe.epochs:
            self._final = self._predict(self.views)
            logits = self._final[0]
        elif recipe.evaluate_every and self.epoch % recipe.evaluate_every == 0:
            logits = self._predict(self.views[:1])[0]
        accuracy = cross_entropy = float("nan")
        if logits is not None:
            labels = self._test.labels.cpu().numpy()
            accuracy = float(metrics.accuracy(logits[None], labels)[0])
            cross_entropy = float(metrics.cross_entropy(logits[None], labels)[0])
        rate = float(self._rates[self.epoch * self._steps - 1])
        self.history.append((float(self.epoch), rate, loss, accuracy, cross_entropy))

    def _measure_batch_norm(self) -> None:
        """Batch-norm statistics of the present weights: the mean over the training set's batches, in order."""
        norms = [m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if not norms:
            return
        before = [m.momentum for m in norms]
        self.model.train()
        for m in norms:
            m.reset_running_stats()
        everything = torch.arange(len(self._train), device=self._device)
        with self._numerics(), torch.no_grad(), autocast(self._device, self.recipe.precision):
            for count, indices in enumerate(everything.split(self.recipe.batch_size), start=1):
                for m in norms:
                    m.momentum = 1.0 / count
                buffer = self._buffer((len(indices), *self._train.view_shape), self.recipe.precision)
                self.model(self._train.view_batch(indices, buffer, ORIGINAL))
                self.on_step()
        for m, momentum in zip(norms, before):
            m.momentum = momentum

    def _predict(self, views: Sequence[View], test: Images | None = None) -> NDArray[np.float32]:
        test = self._test if test is None else test
        self.model.eval()
        size, precision = self.recipe.evaluation_batch, self.recipe.precision
        everything = torch.arange(len(test), device=self._device)
        rows = []
        with self._numerics(), torch.inference_mode(), autocast(self._device, precision):
            for view in views:
                batches = []
                for indices in everything.split(size):
                    buffer = self._buffer((len(indices), *test.view_shape), precision)
                    images = test.view_batch(indices, buffer, view)
                    batches.append(self.model(images).float())
                    self.on_step()
                rows.append(torch.cat(batches))
        return self._finite(on_host(torch.stack(rows)))

    def _finite(self, logits: Tensor) -> NDArray[np.float32]:
        if not torch.isfinite(logits).all():
            raise TrainingError(
                f"the predictions after epoch {self.epoch} are not finite: "
                "a lower learning rate or a longer warm-up may help"
            )
        return logits.numpy()

    def _numerics(self) -> contextlib.AbstractContextManager[None]:
        """The switches for what is computed between two epochs."""
        return numerics(self._device, self.recipe.precision, self._hardware())

    def _hardware(self) -> bool:
        """Whether the epoch that was trained last ended on the device's own kernels."""
        last = max(self.epoch * self._steps - 1, 0)
        kernels = self.member.seed("kernels", max(self.epoch - 1, 0), last)
        return self.recipe.kernels.mode == "hardware" and kernels == HARDWARE

    def _training_buffer(self, step: int, request: BatchRequest) -> Tensor:
        precision = self._precision(request.epoch * self._steps + step)
        return self._buffer((len(request.indices), *self._train.train_shape), precision)

    def _buffer(self, shape: tuple[int, ...], precision: str) -> Tensor:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        if (shape, dtype) not in self._buffers:
            layout = self._parts.layout
            with torch.inference_mode(False):  # evaluation may ask first, and training may use it then
                made = torch.empty(shape, dtype=dtype, device=self._device, memory_format=layout)
            self._buffers[shape, dtype] = made
        return self._buffers[shape, dtype]


@contextlib.contextmanager
def _float32_by_default() -> Iterator[None]:
    """PyTorch's own default type, whatever the calling program has set."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _accepted(function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of `arguments` that the function has parameters for."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return arguments
    return {name: value for name, value in arguments.items() if name in parameters}


def _memory_format(model: nn.Module) -> torch.memory_format:
    """Channels-last wherever there is a convolution to profit from it; a function of the model alone."""
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return torch.channels_last
    return torch.contiguous_format


def make_loss(recipe: Recipe) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean loss over a batch, from logits [batch, classes] and labels [batch]."""
    if recipe.loss.import_path is not None:
        loss: Any = imported(recipe.loss.import_path)
        return loss(**recipe.loss.kwargs) if recipe.loss.kwargs or isinstance(loss, type) else loss
    return cross_entropy


def _kept(value: Tensor) -> Tensor:
    """A copy in the CPU's memory."""
    return value.detach().to("cpu", copy=True)


def _text(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def _section(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

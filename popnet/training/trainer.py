"""One member on one CPU thread: its weights, its steps, its evaluation.

A trainer is a pure function of its member: nothing it computes depends on the process, on the members trained before,
or on whether it began at epoch 0 or at a checkpoint.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from popnet import metrics, models, native
from popnet.config import Component, Recipe, imported
from popnet.data.resident import ResidentImages, batch_order
from popnet.errors import TrainingError
from popnet.protocol import ORIGINAL, Member, View, steps_per_epoch
from popnet.random import Source, words
from popnet.training.dropout import make_stateless
from popnet.training.features import captured
from popnet.training.optimizers import FlatParameters, build
from popnet.training.perturbations import perturb
from popnet.training.schedules import learning_rates
from popnet.training.stabilisers import WeightAverage, clip, normal_offsets

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
    with torch.random.fork_rng(devices=[]), _float32_by_default():
        torch.manual_seed(init_seed)
        if spec.import_path is not None:
            build_model = imported(spec.import_path)
            model = build_model(**{**_accepted(build_model, shape), **spec.kwargs})
        else:
            model = build_named(str(spec.name), **shape, **spec.kwargs)
    if not isinstance(model, nn.Module):
        raise TrainingError(f"model {spec.label!r} is {type(model).__name__}, not a torch.nn.Module")
    return model


class Trainer:
    """Trains one member.

    Args:
        member: what to train.
        train, test: the data, resident in memory.
        classes: how many.
        views: the views of the test images to predict, the original first.

    Attributes:
        on_step: is called after each training step and each batch of an evaluation: a sign of progress.
    """

    def __init__(
        self, member: Member, train: ResidentImages, test: ResidentImages, classes: int, views: Sequence[View]
    ) -> None:
        recipe = member.recipe
        self.member, self.recipe, self.views = member, recipe, tuple(views)
        self._train, self._test = train, test
        _, height, width, channels = train.images.shape
        self.model = initialised_model(recipe, member.init_seed, (channels, height, width), classes)
        self._layout = _memory_format(self.model)
        self.model.to(memory_format=self._layout)  # type: ignore[call-overload]
        self._dropout = make_stateless(self.model)
        self._flat = FlatParameters(self.model)
        self._optimizer = build(self.model, self._flat, recipe.optimizer)
        self._loss = make_loss(recipe)
        self._steps = steps_per_epoch(recipe, len(train))
        self._rates = learning_rates(recipe, self._steps) if self._steps else np.zeros(0)
        self._buffers: dict[tuple[int, torch.dtype], Tensor] = {}
        self.epoch = 0
        self.history: list[tuple[float, ...]] = []
        self._snapshots: NDArray[np.float64] | None = None
        self._final: NDArray[np.float32] | None = None
        self._averaging = None if recipe.averaging is None else WeightAverage(recipe.averaging, self._flat)
        self._trajectory: list[Tensor] = []
        self.on_step: Callable[[], None] = nobody

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
        return {name: value.detach().clone().contiguous() for name, value in self.model.state_dict().items()}

    def trajectory(self) -> Tensor:
        """The trainable weights before the first step (after a bit change) and after each epoch.

        float32 [epochs + 1, weights], each row in the order of `model.named_parameters()`, every parameter flattened;
        empty unless the recipe keeps it.
        """
        return torch.stack(self._trajectory) if self._trajectory else torch.zeros(0, 0)

    def features(self) -> dict[str, Tensor]:
        """What the recipe's `features.layers` give for the first test images: float32 [examples, ...] by layer."""
        spec = self.recipe.features
        if spec is None:
            return {}
        test = self._test.first(min(spec.examples, len(self._test)))
        return captured(self.model, spec.layers, lambda: self._predict(self.views[:1], test))

    def checkpoint(self) -> dict[str, Tensor]:
        """All that the rest of the training follows from, as tensors; `restore` takes it back."""
        state = {f"model.{name}": value for name, value in self.weights().items()}
        state |= {f"optimizer.{name}": value.clone() for name, value in self._optimizer.state().items()}
        state["history"] = torch.tensor(self.history, dtype=torch.float64).reshape(-1, len(HISTORY))
        state["epoch"] = torch.tensor([self.epoch])
        if self._snapshots is not None:
            state["snapshots"] = torch.from_numpy(self._snapshots.copy())
        if self._averaging is not None:
            state |= {f"averaging.{name}": value.clone() for name, value in self._averaging.state().items()}
        if self._trajectory:
            state["trajectory"] = self.trajectory()
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a checkpoint of a member with the same beginning."""
        weights = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
        self.model.load_state_dict(weights)
        prefix = "optimizer."
        self._optimizer.load({name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)})
        self.history = [tuple(row) for row in state["history"].tolist()]
        self.epoch = int(state["epoch"])
        self._snapshots = state["snapshots"].numpy().copy() if "snapshots" in state else None
        if self._averaging is not None:
            prefix = "averaging."
            self._averaging.load({name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)})
        self._trajectory = list(state["trajectory"].clone()) if "trajectory" in state else []

    def _train_epoch(self, epoch: int) -> float:
        self.model.train()
        first = epoch * self._steps
        orders: dict[int, Tensor] = {}
        total, examples = 0.0, 0
        for step in range(self._steps):
            shuffle = self.member.seed("shuffle", epoch, first + step)
            if shuffle not in orders:
                orders[shuffle] = native.permutation(len(self._train), seed=shuffle, epoch=epoch, source=Source.SHUFFLE)
            start = step * self.recipe.batch_size
            indices = orders[shuffle][start : start + self.recipe.batch_size]
            loss = self._step(epoch, step, first + step, indices)
            self.on_step()
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} at epoch {epoch + 1} of {self.recipe.epochs}, "
                    f"step {step + 1} of {self._steps}: a lower learning rate or a longer warm-up may help"
                )
            total += loss * len(indices)
            examples += len(indices)
        return total / max(examples, 1)

    def _step(self, epoch: int, step: int, global_step: int, indices: Tensor) -> float:
        seeds = {s: self.member.seed(s, epoch, global_step) for s in ("augment", "stochastic", "kernels")}
        if global_step == self.member.perturbed_before(self._steps) and self.member.perturbation is not None:
            perturb(self.model, self.member.perturbation, self.member.seeds.bit)
        if self.recipe.kernels.mode == "reorder":
            indices = batch_order(seeds["kernels"], epoch, step, indices)
        precision: str = self.recipe.precision
        if global_step == 0 and self.member.first_step_precision is not None:
            precision = self.member.first_step_precision
        out = self._buffer(len(indices), precision)
        images = self._train.training_batch(indices, out, self.recipe.augment, seeds["augment"], epoch)
        if global_step == 0 and "trajectory" in self.recipe.keep:
            self._trajectory.append(self._weights_row())
        self._dropout.enter(seeds["stochastic"], global_step, indices)
        _seed_torch(seeds["stochastic"], epoch, step)
        labels = self._train.labels[indices]
        if self.recipe.weight_noise is None:
            loss = self._backward(images, labels, precision)
        else:
            offsets = normal_offsets(self.recipe.weight_noise, self._flat, seeds["stochastic"], epoch, step)
            with contextlib.closing(offsets):
                loss = (
                    sum(self._backward(images, labels, precision) for _ in offsets) / self.recipe.weight_noise.samples
                )
            self._flat.gradients.div_(self.recipe.weight_noise.samples)
        if self.recipe.clip_gradient is not None:
            clip(self._flat, self.recipe.clip_gradient)
        self._optimizer.step(float(self._rates[global_step]))
        if self._averaging is not None:
            self._averaging.after_step(epoch)
        return loss

    def _backward(self, images: Tensor, labels: Tensor, precision: str) -> float:
        """Add the loss's gradient to the gradients, and return the loss."""
        with _autocast(precision):
            loss = self._loss(self.model(images), labels)
        loss.backward()
        return float(loss.detach())

    def _weights_row(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self.model.parameters() if p.requires_grad])

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
            labels = self._test.labels.numpy()
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
        with torch.no_grad(), _autocast(self.recipe.precision):
            for count, indices in enumerate(torch.arange(len(self._train)).split(self.recipe.batch_size), start=1):
                for m in norms:
                    m.momentum = 1.0 / count
                buffer = self._buffer(len(indices), self.recipe.precision)
                self.model(self._train.view_batch(indices, buffer, ORIGINAL))
                self.on_step()
        for m, momentum in zip(norms, before):
            m.momentum = momentum

    def _predict(self, views: Sequence[View], test: ResidentImages | None = None) -> NDArray[np.float32]:
        test = self._test if test is None else test
        self.model.eval()
        size, precision = self.recipe.evaluation_batch, self.recipe.precision
        everything = torch.arange(len(test))
        rows = []
        with torch.inference_mode(), _autocast(precision):
            for view in views:
                batches = []
                for indices in everything.split(size):
                    images = test.view_batch(indices, self._buffer(len(indices), precision), view)
                    batches.append(self.model(images).float())
                    self.on_step()
                rows.append(torch.cat(batches))
        logits = torch.stack(rows)
        if not torch.isfinite(logits).all():
            raise TrainingError(
                f"the predictions after epoch {self.epoch} are not finite: "
                "a lower learning rate or a longer warm-up may help"
            )
        return logits.numpy()

    def _buffer(self, examples: int, precision: str) -> Tensor:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        if (examples, dtype) not in self._buffers:
            self._buffers[examples, dtype] = self._train.buffer(examples, dtype, self._layout)
        return self._buffers[examples, dtype]


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
    return lambda logits, labels: functional.cross_entropy(logits.float(), labels)


def _seed_torch(seed: int, epoch: int, step: int) -> None:
    """Seed torch's CPU generator from (seed, epoch, step), for a model's own random operations."""
    low, high, _, _ = (int(word) for word in words(seed, Source.STOCHASTIC, epoch, step))
    torch.default_generator.manual_seed((high << 31 | low) & (2**63 - 1))


def _autocast(precision: str) -> contextlib.AbstractContextManager[Any]:
    if precision == "fp32":
        return contextlib.nullcontext()
    if precision == "bf16":
        return torch.autocast("cpu", dtype=torch.bfloat16)
    raise TrainingError(f"precision {precision!r} needs a CUDA device: use fp32 or bf16 on a CPU")

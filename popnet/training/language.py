"""One member that is a language model: its segments, its steps, its evaluation (Merity et al. 2017).

As a model of images' trainer, this is a pure function of the member. Every random number of a step is a function of
(stochastic seed, epoch, step), so any epoch can be entered directly; what else the training carries from epoch to epoch
(the best weights, the averages, the validation losses) is in the checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from popnet import models, native
from popnet.config import Language, Recipe
from popnet.data.resident import ResidentText
from popnet.errors import TrainingError
from popnet.models.qrnn import Masks, Output, State
from popnet.protocol import Member
from popnet.random import Source, permutation, words
from popnet.training.optimizers import FlatParameters, build
from popnet.training.perturbations import perturb
from popnet.training.schedules import learning_rate
from popnet.training.stabilisers import clip
from popnet.training.trainer import HISTORY, Progress, nobody, seeded_build

_STEP_BITS = 20
"""A mask's counter holds epoch << 20 | step in the epoch (`popnet.config.LANGUAGE_EPOCHS` is what remains)."""

_POSITIONS_SEED = 1


def initialised_language_model(recipe: Recipe, init_seed: int, vocabulary: int) -> nn.Module:
    """The recipe's language model with the weights that `init_seed` gives; torch's random state is left as it was.

    An imported model is built from (vocabulary, **kwargs) and has the methods of `popnet.models.qrnn.QRNN`.
    """
    return seeded_build(recipe.model, init_seed, models.build_language, {"vocabulary": vocabulary})


def segment_length(language: Language, seed: int, epoch: int, step: int) -> int:
    """How many positions a training step covers; the epoch's last step covers what is left.

    The base is `sequence_length` or, with probability `short_sequences`, half of it; the length is
    max(`shortest_sequence`, int(normal(base, `sequence_sd`))).
    """
    choice, quantile, _, _ = (int(word) for word in words(seed, Source.STOCHASTIC, epoch, step))
    base = language.sequence_length / (2 if choice < language.short_sequences * 2**32 else 1)
    length = base + language.sequence_sd * NormalDist().inv_cdf((quantile + 0.5) / 2**32)
    return max(language.shortest_sequence, int(length))


def in_columns(tokens: Tensor, batch: int) -> Tensor:
    """A text cut into `batch` parallel ones: int64 [len(tokens) // batch, batch]; what is left over is not used."""
    rows = len(tokens) // batch
    return tokens[: rows * batch].view(batch, rows).t().contiguous()


def logit_positions(language: Language, tokens: int) -> Tensor:
    """At which of the predicted test tokens full logits are kept: int64 [logit_positions], ascending.

    The same for all members: the first of a fixed permutation.
    """
    order = permutation(_POSITIONS_SEED, 0, tokens, source=Source.GROUPS)
    return torch.from_numpy(np.sort(order[: language.logit_positions]))


class LanguageTrainer:
    """Trains one member.

    Args:
        member: what to train.
        text: the data, resident in memory.
        device: where.

    Attributes:
        on_step: is called after each training step and each segment of an evaluation: a sign of progress.
    """

    def __init__(self, member: Member, text: ResidentText, device: str | torch.device = "cpu") -> None:
        recipe = member.recipe
        assert recipe.language is not None
        self.member, self.recipe, self.language = member, recipe, recipe.language
        self._train = in_columns(text.train, recipe.batch_size).to(device)
        self._validation = in_columns(text.validation, self.language.validation_batch).to(device)
        self._test = text.test[:, None].to(device)
        self.model: Any = initialised_language_model(recipe, member.init_seed, text.vocabulary).to(device)
        self._flat = FlatParameters(self.model)
        self._optimizer = build(self.model, self._flat, recipe.optimizer)
        self._rows: dict[int, Tensor] = {}
        self.epoch = 0
        self.history: list[tuple[float, ...]] = []
        self.validation_losses: list[float] = []
        self._best = self._flat.values.clone()
        self._average: Tensor | None = None
        self._averaged = 0
        self._snapshots: list[Tensor] = []
        self._predicted: dict[str, Tensor] | None = None
        self.on_step: Callable[[], None] = nobody

    def run(self, until: int | None = None, progress: Progress | None = None) -> None:
        """Train up to the end of epoch `until` (default: all epochs).

        Raises:
            TrainingError: a loss is not finite.
        """
        until = self.recipe.epochs if until is None else until
        while self.epoch < until:
            loss, rate = self._train_epoch(self.epoch)
            self.epoch += 1
            self._finish_epoch(loss, rate)
            if progress is not None:
                progress(self.epoch, loss)

    def prediction_tensors(self) -> dict[str, Tensor]:
        """What the model predicts of the test tokens but the first: the fields of `popnet.store.LanguagePredictions`.

        Of the weights that were best on validation; under a snapshot schedule, of each snapshot, a view each.
        """
        if self._predicted is None:
            self._predicted = self._predict(self._snapshots or [self._best])
        return self._predicted

    def weights(self) -> dict[str, Tensor]:
        """Every parameter of the weights that were best on validation, or of the last snapshot; contiguous."""
        chosen = self._snapshots[-1] if self._snapshots else self._best
        named = dict(self.model.named_parameters())
        return {
            name: chosen[start : start + length].view(named[name].shape).clone()
            for name, (start, length) in self._flat.offsets.items()
        }

    def checkpoint(self) -> dict[str, Tensor]:
        """All that the rest of the training follows from, as tensors; `restore` takes it back."""
        state = {"values": self._flat.values.clone(), "best": self._best.clone(), "epoch": torch.tensor([self.epoch])}
        state |= {f"optimizer.{name}": value.clone() for name, value in self._optimizer.state().items()}
        state |= {f"snapshot.{i}": snapshot.clone() for i, snapshot in enumerate(self._snapshots)}
        state["history"] = torch.tensor(self.history, dtype=torch.float64).reshape(-1, len(HISTORY))
        state["validation_losses"] = torch.tensor(self.validation_losses, dtype=torch.float64)
        if self._average is not None:
            state |= {"average": self._average.clone(), "averaged": torch.tensor([self._averaged])}
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a checkpoint of a member with the same beginning."""
        self._flat.values.copy_(state["values"])
        self._best.copy_(state["best"])
        self.epoch = int(state["epoch"])
        prefix = "optimizer."
        self._optimizer.load({name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)})
        device = self._flat.values.device
        snapshots = sum(name.startswith("snapshot.") for name in state)
        self._snapshots = [state[f"snapshot.{i}"].to(device, copy=True) for i in range(snapshots)]
        self.history = [tuple(row) for row in state["history"].tolist()]
        self.validation_losses = state["validation_losses"].tolist()
        self._average = state["average"].to(device, copy=True) if "average" in state else None
        self._averaged = int(state["averaged"]) if "average" in state else 0

    # -- training ------------------------------------------------------------------------------------------------------

    def _train_epoch(self, epoch: int) -> tuple[float, float]:
        """The mean loss a token, without penalties, and the last step's learning rate."""
        if epoch == self.member.perturbed_before(1) and self.member.perturbation is not None:
            perturb(self.model, self.member.perturbation, self.member.seeds.bit)
        self.model.train()
        state = self.model.start(self.recipe.batch_size)
        total, rate, step, position, last = 0.0, 0.0, 0, 0, len(self._train) - 1
        while position < last - 1:  # a segment has at least 2 positions, or nothing would change over time
            seed = self.member.seed("stochastic", epoch, step)
            drawn = segment_length(self.language, seed, epoch, step)
            length = min(drawn, last - position)
            rate = learning_rate(self.recipe, epoch + position / last) * drawn / self.language.sequence_length
            loss, state = self._step(self._train[position : position + length + 1], state, seed, epoch, step, rate)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} at epoch {epoch + 1} of {self.recipe.epochs}, step {step + 1}: "
                    "a lower learning rate or gradient clipping may help"
                )
            total += loss * length
            position += length
            step += 1
            self.on_step()
        return total / max(position, 1), rate

    def _step(self, tokens: Tensor, state: State, seed: int, epoch: int, step: int, rate: float) -> tuple[float, State]:
        """tokens: [length + 1, batch], the targets one position behind the inputs."""
        counter = epoch << _STEP_BITS | step
        masks = self.model.masks(self.language.dropout, tokens.shape[1], _Draw(seed, counter, self._row_numbers))
        loss, state = self.gradients(tokens, state, masks)
        if self.language.clip_gradient is not None:
            clip(self._flat, self.language.clip_gradient)
        self._optimizer.step(rate)
        if self._average is not None:
            self._averaged += 1
            self._average.lerp_(self._flat.values, 1.0 / self._averaged)
        return float(loss), state

    def gradients(self, tokens: Tensor, state: State, masks: Masks) -> tuple[Tensor, State]:
        """Add a segment's gradient to the flat gradients; returns the loss without penalties, and the state after.

        Reads nothing but tensors and waits for none, so that a CUDA graph of it can be captured for each length.
        """
        output = self.model(tokens[:-1], state, masks)
        loss = self._loss(output, tokens[1:])
        objective = loss
        if self.language.activation_penalty:
            objective = objective + self.language.activation_penalty * output.dropped.square().mean()
        if self.language.temporal_penalty:
            changes = output.raw[1:] - output.raw[:-1]
            objective = objective + self.language.temporal_penalty * changes.square().mean()
        objective.backward()
        return loss.detach(), output.state

    def _loss(self, output: Output, targets: Tensor) -> Tensor:
        logits = self.model.logits(output.dropped)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def _row_numbers(self, rows: int) -> Tensor:
        if rows not in self._rows:
            self._rows[rows] = torch.arange(rows, device=self._flat.values.device)
        return self._rows[rows]

    def _finish_epoch(self, loss: float, rate: float) -> None:
        cycles = self.recipe.schedule.cycles
        if cycles > 1:
            if self.epoch % (self.recipe.epochs // cycles) == 0:
                self._snapshots.append(self._flat.values.clone())
            self._validate(self._flat.values)
        else:
            self._keep_best()
        accuracy = cross_entropy = float("nan")
        if self.epoch == self.recipe.epochs:
            accuracy, cross_entropy = self._test_scores()
        self.history.append((float(self.epoch), rate, loss, accuracy, cross_entropy))

    def _keep_best(self) -> None:
        """Keep the weights where validation is best, and begin to average them where it no longer improves."""
        averaging = self._average is not None
        values = self._average if self._average is not None else self._flat.values
        best = min(self.validation_losses, default=math.inf)
        loss = self._validate(values)
        if loss < best:
            self._best.copy_(values)
        patience = self.language.averaging_patience
        if not averaging and patience is not None and loss > min(self.validation_losses[: -patience - 1], default=loss):
            self._average = torch.zeros_like(self._flat.values)

    # -- evaluation ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _validate(self, values: Tensor) -> float:
        """The mean loss a token of these weights on the validation part, entered in `validation_losses`."""
        self.model.eval()
        state = self.model.start(self._validation.shape[1])
        total, tokens = 0.0, 0
        with _kept(self._flat.values):
            self._flat.values.copy_(values)
            for _, inputs, targets in _segments(self._validation, self.language.sequence_length):
                output = self.model(inputs, state)
                state = output.state
                total += float(self._loss(output, targets)) * targets.numel()
                tokens += targets.numel()
                self.on_step()
        loss = total / tokens
        if not math.isfinite(loss):
            raise TrainingError(
                f"the validation loss after epoch {self.epoch} is {loss}: a lower learning rate or gradient clipping "
                "may help"
            )
        self.validation_losses.append(loss)
        return loss

    @torch.no_grad()
    def _predict(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Segment by segment, each view's weights in turn, since the mean of probabilities needs all views at once."""
        self.model.eval()
        states = [self.model.start(1) for _ in views]
        kept = logit_positions(self.language, len(self._test) - 1).to(self._test.device)
        parts: list[dict[str, Tensor]] = []
        with _kept(self._flat.values):
            for first, inputs, targets in _segments(self._test, self.language.sequence_length):
                logits = []
                for view, values in enumerate(views):
                    if len(views) > 1 or first == 0:
                        self._flat.values.copy_(values)
                    output = self.model(inputs, states[view])
                    states[view] = output.state
                    logits.append(self.model.logits(output.dropped)[:, 0])
                self.on_step()
                inside = kept[(kept >= first) & (kept < first + len(targets))] - first
                parts.append(_described(torch.stack(logits), targets[:, 0], inside))
        whole = {
            name: torch.cat([part[name] for part in parts], dim=int(parts[0][name].dim() > 1)) for name in parts[0]
        }
        if not torch.isfinite(whole["target_log_probabilities"]).all():
            raise TrainingError(f"the predictions after epoch {self.epoch} are not finite: a lower rate may help")
        if not self.language.logit_positions:
            del whole["logits"]
        return {name: value.cpu() for name, value in whole.items()}

    def _test_scores(self) -> tuple[float, float]:
        """Share of test words that are the most probable, percent, and the cross-entropy of the views' mean."""
        predicted = self.prediction_tensors()
        words = predicted.get("mean_argmax", predicted["argmax"][0])
        targets = self._test[1:, 0].cpu()
        log_probabilities = predicted["target_log_probabilities"].double()
        mean = log_probabilities.logsumexp(0) - math.log(len(log_probabilities))
        return 100.0 * float((words == targets).double().mean()), -float(mean.mean())


class _Draw:
    """Draws one step's masks: each has a number, from 1 in the order of the draws, for its layer (`popnet.random`)."""

    def __init__(self, seed: int, counter: int, row_numbers: Callable[[int], Tensor]) -> None:
        self._seed, self._counter, self._row_numbers, self._drawn = seed, counter, row_numbers, 0

    def __call__(self, rows: int, elements: int, p: float) -> Tensor | None:
        self._drawn += 1
        if p == 0.0:
            return None
        return native.dropout_mask(
            self._row_numbers(rows), elements, p=p, seed=self._seed, step=self._counter, layer=self._drawn
        )


@contextmanager
def _kept(values: Tensor) -> Iterator[None]:
    """Whatever the block writes into `values`, they are afterwards as before."""
    before = values.clone()
    try:
        yield
    finally:
        values.copy_(before)


def _segments(tokens: Tensor, length: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """First position, inputs and targets [at most `length`, batch] of each segment of tokens [n, batch]."""
    for first in range(0, len(tokens) - 1, length):
        end = min(first + length, len(tokens) - 1)
        yield first, tokens[first:end], tokens[first + 1 : end + 1]


def _described(logits: Tensor, targets: Tensor, kept: Tensor) -> dict[str, Tensor]:
    """What is stored of a segment's logits [views, length, vocabulary]."""
    log_probabilities = logits.log_softmax(2)
    of_targets = log_probabilities.gather(2, targets.expand(len(logits), -1)[..., None])[..., 0]
    described = {
        "target_log_probabilities": of_targets,
        "argmax": logits.argmax(2).to(torch.int32),
        "logits": logits[:, kept],
    }
    if len(logits) > 1:
        described["mean_argmax"] = log_probabilities.double().exp().mean(0).argmax(1).to(torch.int32)
    return described

"""An epoch before it begins: the order of the examples, and what each of its steps depends on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from popnet import native
from popnet.data.resident import BatchRequest, batch_order
from popnet.protocol import HARDWARE, Member
from popnet.random import Source


@dataclass(frozen=True)
class EpochPlan:
    """Everything random or scheduled in one epoch of a member, but for its augmentation's and dropout's own draws.

    Attributes:
        order: int64, the examples as they are used, batch after batch.
        values: one row of `native.STEP_VALUES` for each step.
        hardware: bool [steps], whether a step runs on the device's own, perhaps nondeterministic kernels.
    """

    order: Tensor
    values: NDArray[Any]
    hardware: NDArray[np.bool_]

    @property
    def table(self) -> Tensor:
        """The values as int64 [steps, STEP_WORDS], for `native.begin_step`."""
        return torch.from_numpy(self.values.view(np.int64).reshape(len(self.values), native.STEP_WORDS))

    def requests(self, batch_size: int) -> list[BatchRequest]:
        """The epoch's batches, for a loader; members with equal ones can be fed from one reading."""
        batches = self.order.split(batch_size)
        return [
            BatchRequest(indices, int(now["augment_seed"]), int(now["epoch"]))
            for indices, now in zip(batches, self.values)
        ]


def epoch_plan(member: Member, epoch: int, examples: int, rates: Sequence[float] | NDArray[np.float64]) -> EpochPlan:
    """The plan of one epoch; a function of the member and the epoch alone, so any epoch can be entered directly.

    Args:
        epoch: from 0.
        examples: of the training set.
        rates: the learning rate of each of the epoch's steps.
    """
    recipe, steps = member.recipe, len(rates)
    orders: dict[int, Tensor] = {}
    batches = []
    values = np.zeros(steps, native.STEP_VALUES)
    hardware = np.zeros(steps, np.bool_)
    beta1, beta2 = recipe.optimizer.betas
    for step in range(steps):
        number = epoch * steps + step
        shuffle, augment, stochastic, kernels = (
            member.seed(source, epoch, number) for source in ("shuffle", "augment", "stochastic", "kernels")
        )
        if shuffle not in orders:
            orders[shuffle] = native.permutation(examples, seed=shuffle, epoch=epoch, source=Source.SHUFFLE)
        batch = orders[shuffle][step * recipe.batch_size : (step + 1) * recipe.batch_size]
        if recipe.kernels.mode == "reorder":
            batch = batch_order(kernels, epoch, step, batch)
        batches.append(batch)
        hardware[step] = recipe.kernels.mode == "hardware" and kernels == HARDWARE
        corrections = (1.0 - beta1 ** (number + 1), math.sqrt(1.0 - beta2 ** (number + 1)))
        values[step] = (augment, stochastic, rates[step], *corrections, epoch, number)
    order = torch.cat(batches) if batches else torch.zeros(0, dtype=torch.int64)
    return EpochPlan(order, values, hardware)
